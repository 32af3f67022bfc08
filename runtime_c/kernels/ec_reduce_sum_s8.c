/* Sum and mean over axes, int8: y = clamp(zero_out + requantize(sum (x - zero_in), multiplier,
 * shift))
 *
 * x int8, laid out as the strides say; y int8[kept0][kept1][kept2], other memory than x; no
 * alignment asked; no scratch. The host has made sure that the sum stays in
 * int32. Equals reduce_sum.quant and reduce_mean.quant of edgec/ops/reduce.py.
 */
#include "ec_pointwise.h"
#include "ec_requant.h"

static inline int32_t ec_reduce_sum_s8_one(const ec_reduce_s8_params *p, const int8_t *x)
{
    int32_t acc = 0;
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const int8_t *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                acc += in[k * p->stride2] - p->zero_in;
            }
        }
    }
    return acc;
}

void ec_reduce_sum_s8(const ec_reduce_s8_params *p, const int8_t *x, int8_t *y)
{
    const ec_reduce_s8_params local = *p;
    for (int32_t i = 0; i < local.kept0; i++) {
        for (int32_t j = 0; j < local.kept1; j++) {
            const int8_t *in = x + i * local.kept_stride0 + j * local.kept_stride1;
            for (int32_t k = 0; k < local.kept2; k++) {
                int32_t acc = ec_reduce_sum_s8_one(&local, in + k * local.kept_stride2);
                *y++ = ec_requantize_s8(acc, local.multiplier, local.shift, local.zero_out, -128,
                                        127);
            }
        }
    }
}
