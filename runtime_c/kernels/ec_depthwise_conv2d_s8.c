/* Depthwise conv2d, int8, portable C99: one output a channel; any stride, dilation and padding.
 *
 *   acc[p,q,c] = bias[c] + sum_{r,s} X[p,q,r,s,c] * w[r,s,c]
 *   y[p,q,c]   = clamp(zero_out + requantize(acc, multiplier[c], shift[c]), act_min, act_max)
 *
 * X as in ec_conv2d_s8. x int8[ring_0][W][C], w int8[R][S][C] (layout "rsc"), y int8[ring_y][Q][C];
 * no alignment asked; no scratch; 64 bytes of stack for the sums of 16 channels, which each tap
 * visits in memory order. Single rounding (ec_requant.h). Equals conv2d.quant of
 * edgec/ops/conv2d.py.
 * Measured on QEMU Cortex-M4 (mps2-an386), GCC 12.2 -O2, 2026-11, instructions per MAC here
 * against ec_conv2d_s8: 13.8 against 53.5 (3x3 on 24x24x32).
 */
#include "ec_conv.h"
#include "ec_requant.h"

#define EC_DEPTHWISE_BLOCK 16

/* acc[c] += x[c] * w[c] */
EC_INNER_LOOP void ec_depthwise_conv2d_s8_tap(int32_t *acc, const int8_t *x, const int8_t *w,
                                              int32_t count)
{
    for (int32_t c = count; c-- > 0;) {
        acc[c] += x[c] * w[c];
    }
}

/* acc[c] += zero * w[c]: a tap in the padding */
EC_INNER_LOOP void ec_depthwise_conv2d_s8_padding(int32_t *acc, int32_t zero, const int8_t *w,
                                                  int32_t count)
{
    for (int32_t c = count; c-- > 0;) {
        acc[c] += zero * w[c];
    }
}

/* The window at column `left` and row taps `rows`, whose first row stands in `slot`, for `count`
 * channels; x and w point at the first of them. */
static inline void ec_depthwise_conv2d_s8_window(const ec_conv2d_params *p, int32_t *acc,
                                                 const int8_t *x, const int8_t *w, ec_taps rows,
                                                 int32_t slot, int32_t left, int32_t count)
{
    ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
    for (int32_t r = 0; r < p->kernel_h; r++) {
        int32_t row_inside = r >= rows.first && r < rows.end;
        const int8_t *in = x + (slot * p->in_w + left) * p->in_c;
        for (int32_t s = 0; s < p->kernel_w; s++) {
            if (row_inside && s >= columns.first && s < columns.end) {
                ec_depthwise_conv2d_s8_tap(acc, in, w, count);
            } else {
                ec_depthwise_conv2d_s8_padding(acc, p->zero_in, w, count);
            }
            in += p->dilation_w * p->in_c;
            w += p->in_c;
        }
        if (row_inside) {
            slot = ec_ring_step(slot, p->dilation_h, p->ring_0);
        }
    }
}

static inline void ec_depthwise_conv2d_s8_body(const ec_conv2d_params *p, int32_t row0,
                                               int32_t row1, const int8_t *restrict x,
                                               const int8_t *restrict w,
                                               const int32_t *restrict bias,
                                               const int32_t *restrict multiplier,
                                               const uint8_t *restrict shift, int8_t *restrict y)
{
    int32_t acc[EC_DEPTHWISE_BLOCK];
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * p->stride_h - p->pad_top;
        ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
        int32_t slot = ec_ring_row(top + rows.first * p->dilation_h, p->ring_0);
        int8_t *out = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        for (int32_t column = 0; column < p->out_w; column++) {
            int32_t left = column * p->stride_w - p->pad_left;
            for (int32_t c = 0; c < p->in_c; c += EC_DEPTHWISE_BLOCK) {
                int32_t rest = p->in_c - c;
                int32_t count = rest < EC_DEPTHWISE_BLOCK ? rest : EC_DEPTHWISE_BLOCK;
                for (int32_t i = 0; i < count; i++) {
                    acc[i] = bias[c + i];
                }
                ec_depthwise_conv2d_s8_window(p, acc, x + c, w + c, rows, slot, left, count);
                for (int32_t i = 0; i < count; i++) {
                    *out++ = ec_requantize_s8(acc[i], multiplier[c + i], shift[c + i], p->zero_out,
                                              p->act_min, p->act_max);
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
