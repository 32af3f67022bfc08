/* Sum over axes, int32: y = sum x modulo 2^32
 *
 * x int32, laid out as the strides say; y int32[kept0][kept1][kept2], other memory than x; aligned to
 * 4 bytes; no scratch. Equals reduce_sum of edgec/ops/reduce.py.
 */
#include "ec_pointwise.h"

static inline int32_t ec_reduce_sum_i32_one(const ec_reduce_i32_params *p, const int32_t *x)
{
    uint32_t acc = 0u;
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const int32_t *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                acc += (uint32_t)in[k * p->stride2];
            }
        }
    }
    return (int32_t)acc;
}

void ec_reduce_sum_i32(const ec_reduce_i32_params *p, const int32_t *x, int32_t *y)
{
    const ec_reduce_i32_params local = *p;
    for (int32_t i = 0; i < local.kept0; i++) {
        for (int32_t j = 0; j < local.kept1; j++) {
            const int32_t *in = x + i * local.kept_stride0 + j * local.kept_stride1;
            for (int32_t k = 0; k < local.kept2; k++) {
                *y++ = ec_reduce_sum_i32_one(&local, in + k * local.kept_stride2);
            }
        }
    }
}
