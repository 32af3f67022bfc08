/* Maximum over axes, int8: y = max x; x and y share their quantisation
 *
 * x int8, laid out as the strides say; y int8[kept0][kept1][kept2], other memory than x; no
 * alignment asked; no scratch. Reads no quantisation field. Equals reduce_max.quant of
 * edgec/ops/reduce.py.
 */
#include "ec_pointwise.h"

static inline int32_t ec_reduce_max_s8_one(const ec_reduce_s8_params *p, const int8_t *x)
{
    int32_t acc = x[0];
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const int8_t *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                int32_t value = in[k * p->stride2];
                acc = value > acc ? value : acc;
            }
        }
    }
    return acc;
}

void ec_reduce_max_s8(const ec_reduce_s8_params *p, const int8_t *x, int8_t *y)
{
    const ec_reduce_s8_params local = *p;
    for (int32_t i = 0; i < local.kept0; i++) {
        for (int32_t j = 0; j < local.kept1; j++) {
            const int8_t *in = x + i * local.kept_stride0 + j * local.kept_stride1;
            for (int32_t k = 0; k < local.kept2; k++) {
                int32_t acc = ec_reduce_max_s8_one(&local, in + k * local.kept_stride2);
                *y++ = (int8_t)acc;
            }
        }
    }
}
