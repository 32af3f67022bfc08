/* Transposed conv2d, float, portable C99: any groups, stride, dilation and padding.
 *
 *   y[p,q,o] = clamp(bias[o] + sum_{r,s,c} x[h,v,c] * w[o,r,s,c], act_min, act_max)
 *              over the taps with h * stride_h + r * dilation_h = p + pad_top, and so for q, v, s
 *
 * x float[N][H][W][C], w float[O][R][S][C/groups], y float[N][P][Q][O]; no scratch.
 * Equals conv_transpose2d.ref of edgec/ops/conv.py but for the order of the sum.
 */
#include "ec_conv.h"

static inline void ec_conv_transpose2d_f32_row(const ec_conv_transpose2d_f32_params *p, int32_t row,
                                               const float *restrict x, const float *restrict w,
                                               const float *restrict bias, float *restrict y)
{
    int32_t channels = p->in_c / p->groups;
    int32_t outputs = p->out_c / p->groups;
    ec_transposed_taps rows = ec_taps_reaching(row + p->pad_top, p->in_h, p->kernel_h, p->stride_h,
                                               p->dilation_h, p->step_h, p->back_h);
    for (int32_t column = 0; column < p->out_w; column++) {
        ec_transposed_taps columns =
            ec_taps_reaching(column + p->pad_left, p->in_w, p->kernel_w, p->stride_w, p->dilation_w,
                             p->step_w, p->back_w);
        for (int32_t o = 0, group = 0; group < p->groups; group++) {
            for (int32_t end = o + outputs; o < end; o++) {
                float sum = bias[o];
                int32_t h = rows.input;
                for (int32_t r = rows.first; r < rows.end; r += p->step_h) {
                    const float *taps = w + (o * p->kernel_h + r) * p->kernel_w * channels;
                    const float *in = x + h * p->in_w * p->in_c + group * channels;
                    int32_t v = columns.input;
                    for (int32_t s = columns.first; s < columns.end; s += p->step_w) {
                        sum += ec_dot_f32(in + v * p->in_c, taps + s * channels, channels);
                        v -= p->back_w;
                    }
                    h -= p->back_h;
                }
                *y++ = ec_clamp_f32(sum, p->act_min, p->act_max);
            }
        }
    }
}

static inline void ec_conv_transpose2d_f32_body(const ec_conv_transpose2d_f32_params *p,
                                                const float *restrict x, const float *restrict w,
                                                const float *restrict bias, float *restrict y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t row = 0; row < p->out_h; row++) {
            ec_conv_transpose2d_f32_row(p, row, x, w, bias, y);
            y += p->out_w * p->out_c;
        }
        x += p->in_h * p->in_w * p->in_c;
    }
}

void ec_conv_transpose2d_f32(const ec_conv_transpose2d_f32_params *p, const float *x,
                             const float *w, const float *bias, float *y)
{
    ec_conv_transpose2d_f32_body(p, x, w, bias, y);
}
