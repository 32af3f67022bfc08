/* conv2d, int8, portable C99: any groups, stride, dilation and padding.
 *
 *   acc[p,q,o] = bias[o] + sum_{r,s,c} X[p,q,r,s,c] * w[o,r,s,c]
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * X is x[p * stride_h - pad_top + r * dilation_h, ..., g * C/groups + c], or zero_in outside of
 * the map. x int8[ring_0][W][C], w int8[O][R][S][C/groups], y int8[ring_y][Q][O]; no alignment
 * asked; no scratch. Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"

/* Sum over one kernel row, `x` at the start of its input row; the first tap reads column `start`,
 * which may lie outside: only the taps inside are read, all others count as zero_in. */
static inline int32_t ec_conv2d_s8_kernel_row(const ec_conv2d_params *p, const int8_t *x,
                                              const int8_t *w, int32_t start, ec_taps inside)
{
    int32_t channels = p->in_c / p->groups;
    int32_t acc = 0;
    if (inside.end - inside.first < p->kernel_w) {
        acc += ec_sum_s8(w, inside.first * channels);
        acc += ec_sum_s8(w + inside.end * channels, (p->kernel_w - inside.end) * channels);
        acc *= p->zero_in;
    }
    x += (start + inside.first * p->dilation_w) * p->in_c;
    w += inside.first * channels;
    if (p->groups == 1 && p->dilation_w == 1) {
        return acc + ec_dot_s8(x, w, (inside.end - inside.first) * channels);
    }
    for (int32_t s = inside.first; s < inside.end; s++) {
        acc += ec_dot_s8(x, w, channels);
        x += p->dilation_w * p->in_c;
        w += channels;
    }
    return acc;
}

static inline void ec_conv2d_s8_body(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                     const int8_t *restrict x, const int8_t *restrict w,
                                     const int32_t *restrict bias,
                                     const int32_t *restrict multiplier,
                                     const uint8_t *restrict shift, int8_t *restrict y)
{
    int32_t channels = p->in_c / p->groups;
    int32_t outputs = p->out_c / p->groups;
    int32_t kernel_row = p->kernel_w * channels;
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * p->stride_h - p->pad_top;
        ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
        int32_t first_slot = ec_ring_row(top + rows.first * p->dilation_h, p->ring_0);
        int8_t *out = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        for (int32_t column = 0; column < p->out_w; column++) {
            int32_t left = column * p->stride_w - p->pad_left;
            ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
            for (int32_t o = 0, group = 0; group < p->groups; group++) {
                for (int32_t end = o + outputs; o < end; o++) {
                    const int8_t *taps = w + o * p->kernel_h * kernel_row;
                    int32_t acc = bias[o];
                    if (rows.end - rows.first < p->kernel_h) {
                        int32_t padded = ec_sum_s8(taps, rows.first * kernel_row);
                        padded += ec_sum_s8(taps + rows.end * kernel_row,
                                            (p->kernel_h - rows.end) * kernel_row);
                        acc += padded * p->zero_in;
                    }
                    int32_t slot = first_slot;
                    for (int32_t r = rows.first; r < rows.end; r++) {
                        const int8_t *in = x + slot * p->in_w * p->in_c + group * channels;
                        acc += ec_conv2d_s8_kernel_row(p, in, taps + r * kernel_row, left, columns);
                        slot = ec_ring_step(slot, p->dilation_h, p->ring_0);
                    }
                    *out++ = ec_requantize_s8(acc, multiplier[o], shift[o], p->zero_out, p->act_min,
                                              p->act_max);
                }
            }
        }
    }
}

void ec_conv2d_s8(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                  const int8_t *w, const int32_t *bias, const int32_t *multiplier,
                  const uint8_t *shift, int8_t *y)
{
    ec_conv2d_s8_body(p, row0, row1, x, w, bias, multiplier, shift, y);
}
