/* trained_conv2d of one output a channel, any kernel, stride, dilation and padding, int8,
 * Armv7E-M DSP; without the mask.
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_s8; method: ec_dsp_trained.h. No
 * alignment asked of bytes. Sums of one output stay in int32. scratch: 9 * R * S bytes, aligned
 * to 4. Equals trained_conv2d.quant of edgec/ops/trained.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per MAC with the mask against the portable kernel: 8.5 against 46 (3x3, 8x8x144),
 * 4.6 against 30 (5x5, 8x8x160), 3.7 against 23 (7x7 stride 2, 8x8x240).
 */
#include "ec_dsp_trained.h"

void ec_depthwise_trained_conv2d_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                        const int8_t *w, const int32_t *bias, const int32_t *idx,
                                        const int8_t *slice, const int32_t *multiplier,
                                        const uint8_t *shift, int8_t *y, void *scratch)
{
    ec_dsp_trained_depthwise(p, x, w, bias, idx, slice, multiplier, shift, y, NULL, scratch);
}
