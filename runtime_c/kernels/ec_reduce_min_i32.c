/* Minimum over axes, int32: y = min x
 *
 * x int32, laid out as the strides say; y int32[kept0][kept1][kept2], other memory than x; aligned to
 * 4 bytes; no scratch. Equals reduce_min of edgec/ops/reduce.py.
 */
#include "ec_pointwise.h"

static inline int32_t ec_reduce_min_i32_one(const ec_reduce_i32_params *p, const int32_t *x)
{
    int32_t acc = x[0];
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const int32_t *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                int32_t value = in[k * p->stride2];
                acc = value < acc ? value : acc;
            }
        }
    }
    return acc;
}

void ec_reduce_min_i32(const ec_reduce_i32_params *p, const int32_t *x, int32_t *y)
{
    const ec_reduce_i32_params local = *p;
    for (int32_t i = 0; i < local.kept0; i++) {
        for (int32_t j = 0; j < local.kept1; j++) {
            const int32_t *in = x + i * local.kept_stride0 + j * local.kept_stride1;
            for (int32_t k = 0; k < local.kept2; k++) {
                *y++ = ec_reduce_min_i32_one(&local, in + k * local.kept_stride2);
            }
        }
    }
}
