/* max_pool2d, float, portable C99.
 *
 *   y[p,q,c] = max over r,s inside of the map of x[p * stride_h - pad_top + r * dilation_h, .., c]
 *
 * x float[ring_0][W][C], y float[ring_y][Q][C]; every window reaches into the map; no alignment
 * asked; no scratch. Equals max_pool2d.ref of edgec/ops/pool.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"

#include <math.h>

static inline void ec_max_pool2d_f32_raise(const float *restrict x, float *restrict y,
                                           int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        if (x[i] > y[i]) {
            y[i] = x[i];
        }
    }
}

static inline void ec_max_pool2d_f32_body(const ec_pool2d_params *p, int32_t row0, int32_t row1,
                              const float *restrict x, float *restrict y)
{
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * p->stride_h - p->pad_top;
        ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
        int32_t first_slot = ec_ring_row(top + rows.first * p->dilation_h, p->ring_0);
        float *out = y + ec_ring_row(row, p->ring_y) * p->out_w * p->channels;
        for (int32_t column = 0; column < p->out_w; column++) {
            int32_t left = column * p->stride_w - p->pad_left;
            ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
            for (int32_t c = 0; c < p->channels; c++) {
                out[c] = -INFINITY;
            }
            int32_t slot = first_slot;
            for (int32_t r = rows.first; r < rows.end; r++) {
                for (int32_t s = columns.first; s < columns.end; s++) {
                    const float *in =
                        x + (slot * p->in_w + left + s * p->dilation_w) * p->channels;
                    ec_max_pool2d_f32_raise(in, out, p->channels);
                }
                slot = ec_ring_step(slot, p->dilation_h, p->ring_0);
            }
            out += p->channels;
        }
    }
}

void ec_max_pool2d_f32(const ec_pool2d_params *p, int32_t row0, int32_t row1, const float *x,
           float *y)
{
    ec_max_pool2d_f32_body(p, row0, row1, x, y);
}
