/* Depthwise conv2d, int8, portable C99: groups == C, any channel multiplier, stride, dilation,
 * padding.
 *
 *   acc[p,q,o] = bias[o] + sum_{r,s} X[p,q,r,s,o / (O/C)] * w[o,r,s]
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * X as in ec_conv2d_s8. x int8[ring_0][W][C], w int8[O][R][S], y int8[ring_y][Q][O]; no alignment
 * asked; no scratch. Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"

/* sum x[i * step] * w[i] */
EC_INNER_LOOP int32_t ec_depthwise_conv2d_s8_taps(const int8_t *x, const int8_t *w,
                                                  int32_t step, int32_t count)
{
    int32_t sum = 0;
    int32_t at = count * step;
    for (int32_t i = count; i-- > 0;) {
        at -= step;
        sum += x[at] * w[i];
    }
    return sum;
}

static inline void ec_depthwise_conv2d_s8_body(const ec_conv2d_params *p, int32_t row0,
                                               int32_t row1, const int8_t *restrict x,
                                               const int8_t *restrict w,
                                               const int32_t *restrict bias,
                                               const int32_t *restrict multiplier,
                                               const uint8_t *restrict shift, int8_t *restrict y)
{
    int32_t copies = p->out_c / p->in_c;
    int32_t kernel = p->kernel_h * p->kernel_w;
    int32_t step = p->dilation_w * p->in_c;
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * p->stride_h - p->pad_top;
        ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
        int32_t first_slot = ec_ring_row(top + rows.first * p->dilation_h, p->ring_0);
        int8_t *out = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        for (int32_t column = 0; column < p->out_w; column++) {
            int32_t left = column * p->stride_w - p->pad_left;
            ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
            int32_t inside = columns.end - columns.first;
            int32_t padded = kernel - (rows.end - rows.first) * inside;
            const int8_t *first = x + (left + columns.first * p->dilation_w) * p->in_c;
            for (int32_t o = 0, c = 0; c < p->in_c; c++) {
                for (int32_t end = o + copies; o < end; o++) {
                    const int8_t *taps = w + o * kernel;
                    int32_t acc = bias[o];
                    int32_t read = 0; /* sum of the weights whose x lies inside of the map */
                    int32_t slot = first_slot;
                    for (int32_t r = rows.first; r < rows.end; r++) {
                        const int8_t *in = first + slot * p->in_w * p->in_c + c;
                        const int8_t *taps_in = taps + r * p->kernel_w + columns.first;
                        acc += ec_depthwise_conv2d_s8_taps(in, taps_in, step, inside);
                        if (padded > 0) {
                            read += ec_sum_s8(taps_in, inside);
                        }
                        slot = ec_ring_step(slot, p->dilation_h, p->ring_0);
                    }
                    if (padded > 0) {
                        acc += p->zero_in * (ec_sum_s8(taps, kernel) - read);
                    }
                    *out++ = ec_requantize_s8(acc, multiplier[o], shift[o], p->zero_out, p->act_min,
                                              p->act_max);
                }
            }
        }
    }
}

void ec_depthwise_conv2d_s8(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                            const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                            const uint8_t *shift, int8_t *y)
{
    ec_depthwise_conv2d_s8_body(p, row0, row1, x, w, bias, multiplier, shift, y);
}
