/* trained_conv2d of one output a channel, at least 8 of them, any kernel, stride and padding, no
 * dilation, int8, MVE; without the mask.
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_s8; method: ec_mve_depthwise.h. No
 * alignment asked of bytes. Sums of one output stay in int32.
 * scratch: 4 * R + 16 * R * L + 8 * R * S bytes, L the pixels of a padded row (ec_mve_ring_width);
 * aligned to 4. Equals trained_conv2d.quant of edgec/ops/trained.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions per MAC of MCUNet-5FPS with the mask here against the DSP kernel: 1.8 against 5.4.
 */
#include "ec_mve_trained_depthwise.h"

void ec_depthwise_trained_conv2d_s8_mve(const ec_trained_conv2d_params *p, const int8_t *x,
                                        const int8_t *w, const int32_t *bias, const int32_t *idx,
                                        const int8_t *slice, const int32_t *multiplier,
                                        const uint8_t *shift, int8_t *y, void *scratch)
{
    ec_mve_trained_depthwise(p, x, w, bias, idx, slice, multiplier, shift, y, NULL, scratch);
}
