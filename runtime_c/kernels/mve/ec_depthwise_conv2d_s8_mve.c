/* Depthwise conv2d, int8, MVE: one output a channel, channels a multiple of 8; any kernel, stride
 * and padding, no dilation.
 *
 *   acc[p,q,c] = bias[c] + sum_{r,s} (X[p,q,r,s,c] - zero_in) * w[r,s,c]
 *   y[p,q,c]   = clamp(zero_out + requantize(acc, multiplier[c], shift[c]), act_min, act_max)
 *
 * X as in ec_conv2d_s8; bias is not folded. x int8[ring_0][W][C], w int8[C / 8][R][S][8]
 * ("mve_dw"), y int8[ring_y][Q][C], which may be x where both have one shape; no alignment asked of
 * bytes. scratch: 4 * R + 16 * R * L bytes, L the pixels of a padded row (ec_mve_ring_width);
 * aligned to 4. Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions per MAC of MCUNet-5FPS here against the DSP kernel: 1.1 against 2.0.
 */
#include "ec_mve_depthwise.h"
#include "ec_mve_kernels.h"

void ec_depthwise_conv2d_s8_mve(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                const int8_t *x, const int8_t *w, const int32_t *bias,
                                const int32_t *multiplier, const uint8_t *shift, int8_t *y,
                                void *scratch)
{
    const ec_mve_map map = {p->in_h,     p->in_w,     p->out_w,    p->in_c,    p->kernel_h,
                            p->kernel_w, p->stride_h, p->stride_w, p->pad_top, p->pad_left,
                            p->zero_in,  p->ring_0,   p->ring_y};
    int32_t taps = p->kernel_h * p->kernel_w;
    ec_mve_eight to = {{0}, {0}, {0}, p->zero_out, p->act_min, p->act_max, 0};
    for (int32_t c = 0; c < p->out_c; c += EC_MVE_EIGHT, w += taps * EC_MVE_EIGHT) {
        ec_mve_eight_next(&to, bias + c, multiplier + c, shift + c);
        ec_mve_depthwise_eight(&map, &to, row0, row1, x + c, w, y + c, NULL, 0, scratch);
    }
}
