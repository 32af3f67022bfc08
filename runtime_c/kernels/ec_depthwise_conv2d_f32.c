/* Depthwise conv2d, float, portable C99: groups == C, any channel multiplier, stride, dilation,
 * padding.
 *
 *   y[p,q,o] = clamp(bias[o] + sum_{r,s} X[p,q,r,s,o / (O/C)] * w[o,r,s], act_min, act_max)
 *
 * X as in ec_conv2d_f32. x float[ring_0][W][C], w float[O][R][S], y float[ring_y][Q][O]; no
 * scratch. Equals conv2d.ref of edgec/ops/conv2d.py but for the order of the sum.
 */
#include "ec_conv.h"
#include "ec_requant.h"

static inline void ec_depthwise_conv2d_f32_body(const ec_conv2d_f32_params *p, int32_t row0,
                                                int32_t row1, const float *restrict x,
                                                const float *restrict w,
                                                const float *restrict bias, float *restrict y)
{
    int32_t copies = p->out_c / p->in_c;
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * p->stride_h - p->pad_top;
        ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
        int32_t first_slot = ec_ring_row(top + rows.first * p->dilation_h, p->ring_0);
        float *out = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        for (int32_t column = 0; column < p->out_w; column++) {
            int32_t left = column * p->stride_w - p->pad_left;
            ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
            for (int32_t o = 0, c = 0; c < p->in_c; c++) {
                for (int32_t end = o + copies; o < end; o++) {
                    float sum = bias[o];
                    int32_t slot = first_slot;
                    for (int32_t r = rows.first; r < rows.end; r++) {
                        const float *in = x + slot * p->in_w * p->in_c + c;
                        const float *taps = w + (o * p->kernel_h + r) * p->kernel_w;
                        for (int32_t s = columns.first; s < columns.end; s++) {
                            sum += in[(left + s * p->dilation_w) * p->in_c] * taps[s];
                        }
                        slot = ec_ring_step(slot, p->dilation_h, p->ring_0);
                    }
                    *out++ = ec_clamp_f32(sum, p->act_min, p->act_max);
                }
            }
        }
    }
}

void ec_depthwise_conv2d_f32(const ec_conv2d_f32_params *p, int32_t row0, int32_t row1,
                             const float *x, const float *w, const float *bias, float *y)
{
    ec_depthwise_conv2d_f32_body(p, row0, row1, x, w, bias, y);
}
