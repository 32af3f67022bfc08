/* trained_conv2d with a 1x1 kernel, one group, no padding, any stride, int8, Armv7E-M DSP; with
 * the mask.
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_mask_s8; method: ec_dsp_trained.h. No
 * alignment asked of bytes. Sums of one output stay in int32. scratch: 32 * ceil(C / 4) bytes,
 * 4 * C more where columns are trained apart; aligned to 4. Equals trained_conv2d.quant of
 * edgec/ops/trained.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per MAC here against the portable kernel: 1.14 against 9.2 (8x8, 160 to 40), 1.69
 * against 12.6 (8x8, 40 to 160), 1.09 against 8.3 (4x4, 576 to 160).
 */
#include "ec_dsp_trained.h"

void ec_pointwise_trained_conv2d_mask_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                             const int8_t *w, const int32_t *bias,
                                             const int32_t *idx, const int8_t *slice,
                                             const int32_t *multiplier, const uint8_t *shift,
                                             int8_t *y, uint8_t *mask, void *scratch)
{
    ec_dsp_trained_pointwise(p, x, w, bias, idx, slice, multiplier, shift, y, mask, scratch);
}
