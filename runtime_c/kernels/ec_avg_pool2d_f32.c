/* avg_pool2d, float, portable C99.
 *
 *   y[p,q,c] = sum x / d
 *
 * The sum is over the taps inside of the map; d is `divisor`, or their number where divisor is 0.
 * x float[ring_0][W][C], y float[ring_y][Q][C]; every window reaches into the map; no alignment
 * asked; no scratch. Equals avg_pool2d.ref of edgec/ops/pool.py but for the order of the sum.
 */
#include "ec_conv.h"
#include "ec_requant.h"

static inline void ec_avg_pool2d_f32_body(const ec_pool2d_params *p, int32_t row0, int32_t row1,
                              const float *restrict x, float *restrict y)
{
    int32_t step = p->dilation_w * p->channels;
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * p->stride_h - p->pad_top;
        ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
        int32_t first_slot = ec_ring_row(top + rows.first * p->dilation_h, p->ring_0);
        float *out = y + ec_ring_row(row, p->ring_y) * p->out_w * p->channels;
        for (int32_t column = 0; column < p->out_w; column++) {
            int32_t left = column * p->stride_w - p->pad_left;
            ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
            int32_t count = (rows.end - rows.first) * (columns.end - columns.first);
            int32_t divisor = p->divisor > 0 ? p->divisor : count;
            for (int32_t c = 0; c < p->channels; c++) {
                float sum = 0.0f;
                int32_t slot = first_slot;
                for (int32_t r = rows.first; r < rows.end; r++) {
                    const float *in = x + slot * p->in_w * p->channels + c;
                    in += (left + columns.first * p->dilation_w) * p->channels;
                    for (int32_t s = columns.first; s < columns.end; s++) {
                        sum += *in;
                        in += step;
                    }
                    slot = ec_ring_step(slot, p->dilation_h, p->ring_0);
                }
                *out++ = sum / (float)divisor;
            }
        }
    }
}

void ec_avg_pool2d_f32(const ec_pool2d_params *p, int32_t row0, int32_t row1, const float *x,
           float *y)
{
    ec_avg_pool2d_f32_body(p, row0, row1, x, y);
}
