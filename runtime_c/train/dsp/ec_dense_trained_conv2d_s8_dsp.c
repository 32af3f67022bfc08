/* trained_conv2d with any kernel and one group, int8, Armv7E-M DSP; without the mask.
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_s8; method: ec_dsp_dense.h. No
 * alignment asked of bytes. Sums of one output stay in int32. scratch: R * S * 32 * ceil(C / 4)
 * bytes, 4 * R * S * C more where columns are trained apart; aligned to 4. Equals
 * trained_conv2d.quant of edgec/ops/trained.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py
 * --scheme dense, instructions per MAC with the mask against the portable kernel, 3x3:
 * 1.5 against 9.2 (8x8, 16 to 24), 1.3 against 7.1 (4x4, 24 to 32), 9.0 against 21 (16x16, 3 to
 * 16).
 */
#include "ec_dsp_dense.h"

void ec_dense_trained_conv2d_s8_dsp(const ec_trained_conv2d_params *p, const int8_t *x,
                                    const int8_t *w, const int32_t *bias, const int32_t *idx,
                                    const int8_t *slice, const int32_t *multiplier,
                                    const uint8_t *shift, int8_t *y, void *scratch)
{
    ec_dsp_trained_dense(p, x, w, bias, idx, slice, multiplier, shift, y, NULL, scratch);
}
