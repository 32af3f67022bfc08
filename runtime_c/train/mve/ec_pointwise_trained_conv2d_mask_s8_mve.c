/* trained_conv2d with a 1x1 kernel, one group, no padding, any stride, int8, MVE; with the mask.
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_mask_s8; method: ec_mve_trained.h. No
 * alignment asked of bytes. Sums of one output stay in int32. scratch: 64 * ceil(C / 16) bytes.
 * Equals trained_conv2d.quant of edgec/ops/trained.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions per MAC of MCUNet-5FPS here against the DSP kernel: 0.35 against 1.31.
 */
#include "ec_mve_trained.h"

void ec_pointwise_trained_conv2d_mask_s8_mve(const ec_trained_conv2d_params *p, const int8_t *x,
                                             const int8_t *w, const int32_t *bias,
                                             const int32_t *idx, const int8_t *slice,
                                             const int32_t *multiplier, const uint8_t *shift,
                                             int8_t *y, uint8_t *mask, void *scratch)
{
    ec_mve_trained_pointwise(p, x, w, bias, idx, slice, multiplier, shift, y, mask, scratch);
}
