/* Sum and mean over axes, float: y = sum x / divisor
 *
 * x float, laid out as the strides say; y float[kept0][kept1][kept2], other memory than x; no
 * alignment asked; no scratch. Summed in the order of memory. Equals reduce_sum and reduce_mean of
 * edgec/ops/reduce.py.
 */
#include "ec_pointwise.h"

static inline float ec_reduce_sum_f32_one(const ec_reduce_f32_params *p, const float *x)
{
    float acc = 0.0f;
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const float *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                acc += in[k * p->stride2];
            }
        }
    }
    return acc;
}

void ec_reduce_sum_f32(const ec_reduce_f32_params *p, const float *x, float *y)
{
    const ec_reduce_f32_params local = *p;
    for (int32_t i = 0; i < local.kept0; i++) {
        for (int32_t j = 0; j < local.kept1; j++) {
            const float *in = x + i * local.kept_stride0 + j * local.kept_stride1;
            for (int32_t k = 0; k < local.kept2; k++) {
                float acc = ec_reduce_sum_f32_one(&local, in + k * local.kept_stride2);
                *y++ = acc / local.divisor;
            }
        }
    }
}
