/* Transposed conv2d, int8, portable C99: any groups, stride, dilation and padding.
 *
 *   acc[p,q,o] = bias[o] + sum_{r,s,c} (x[h,v,c] - zero_in) * w[o,r,s,c]
 *                over the taps with h * stride_h + r * dilation_h = p + pad_top, and so for q, v, s
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * x int8[N][H][W][C], w int8[O][R][S][C/groups], bias int32[O] (not folded), y int8[N][P][Q][O];
 * no alignment asked; no scratch. Single rounding (ec_requant.h). Divisions only per row and per
 * column. Equals conv_transpose2d.quant of edgec/ops/conv.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"

/* sum (x[i] - zero) * w[i] */
static inline int32_t ec_conv_transpose2d_s8_dot(const int8_t *x, const int8_t *w, int32_t zero,
                                                 int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += (x[i] - zero) * w[i];
    }
    return sum;
}

static inline void ec_conv_transpose2d_s8_row(const ec_conv_transpose2d_params *p, int32_t row,
                                              const int8_t *restrict x, const int8_t *restrict w,
                                              const int32_t *restrict bias,
                                              const int32_t *restrict multiplier,
                                              const uint8_t *restrict shift, int8_t *restrict y)
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
                int32_t acc = bias[o];
                int32_t h = rows.input;
                for (int32_t r = rows.first; r < rows.end; r += p->step_h) {
                    const int8_t *taps = w + (o * p->kernel_h + r) * p->kernel_w * channels;
                    const int8_t *in = x + h * p->in_w * p->in_c + group * channels;
                    int32_t v = columns.input;
                    for (int32_t s = columns.first; s < columns.end; s += p->step_w) {
                        acc += ec_conv_transpose2d_s8_dot(in + v * p->in_c, taps + s * channels,
                                                          p->zero_in, channels);
                        v -= p->back_w;
                    }
                    h -= p->back_h;
                }
                *y++ = ec_requantize_s8(acc, multiplier[o], shift[o], p->zero_out, p->act_min,
                                        p->act_max);
            }
        }
    }
}

static inline void ec_conv_transpose2d_s8_body(const ec_conv_transpose2d_params *p,
                                               const int8_t *restrict x, const int8_t *restrict w,
                                               const int32_t *restrict bias,
                                               const int32_t *restrict multiplier,
                                               const uint8_t *restrict shift, int8_t *restrict y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t row = 0; row < p->out_h; row++) {
            ec_conv_transpose2d_s8_row(p, row, x, w, bias, multiplier, shift, y);
            y += p->out_w * p->out_c;
        }
        x += p->in_h * p->in_w * p->in_c;
    }
}

void ec_conv_transpose2d_s8(const ec_conv_transpose2d_params *p, const int8_t *x, const int8_t *w,
                            const int32_t *bias, const int32_t *multiplier, const uint8_t *shift,
                            int8_t *y)
{
    ec_conv_transpose2d_s8_body(p, x, w, bias, multiplier, shift, y);
}
