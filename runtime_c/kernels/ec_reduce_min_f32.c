/* Minimum over axes, float: y = min x; NaN where any x is
 *
 * x float, laid out as the strides say; y float[kept0][kept1][kept2], other memory than x; no
 * alignment asked; no scratch. The divisor is not read. Equals reduce_min of edgec/ops/reduce.py.
 */
#include "ec_pointwise.h"

static inline float ec_reduce_min_f32_one(const ec_reduce_f32_params *p, const float *x)
{
    float acc = x[0];
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const float *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                float value = in[k * p->stride2];
                acc = value < acc || value != value ? value : acc;
            }
        }
    }
    return acc;
}

void ec_reduce_min_f32(const ec_reduce_f32_params *p, const float *x, float *y)
{
    const ec_reduce_f32_params local = *p;
    for (int32_t i = 0; i < local.kept0; i++) {
        for (int32_t j = 0; j < local.kept1; j++) {
            const float *in = x + i * local.kept_stride0 + j * local.kept_stride1;
            for (int32_t k = 0; k < local.kept2; k++) {
                float acc = ec_reduce_min_f32_one(&local, in + k * local.kept_stride2);
                *y++ = acc;
            }
        }
    }
}
