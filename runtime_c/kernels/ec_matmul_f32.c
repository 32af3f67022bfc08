/* matmul, float, portable C99, leading axes broadcast.
 *
 *   y[..,i,j] = sum_k a[..,i,k] b[..,k,j]
 *
 * a float[..][M][K]; b by its strides b_k, b_n; y float[n0][n1][n2][M][N]; no scratch.
 * Equals matmul.ref of edgec/ops/linear.py but for the order of the sum.
 */
#include "ec_conv.h"

static inline void ec_matmul_f32_one(const ec_matmul_f32_params *p, const float *restrict a,
                                     const float *restrict b, float *restrict y)
{
    for (int32_t i = 0; i < p->m; i++) {
        for (int32_t j = 0; j < p->n; j++) {
            const float *column = b + j * p->b_n;
            float sum = 0.0f;
            for (int32_t k = 0; k < p->k; k++) {
                sum += a[k] * column[k * p->b_k];
            }
            *y++ = sum;
        }
        a += p->k;
    }
}

static inline void ec_matmul_f32_body(const ec_matmul_f32_params *p, const float *restrict a,
                                      const float *restrict b, float *restrict y)
{
    for (int32_t i0 = 0; i0 < p->n0; i0++) {
        for (int32_t i1 = 0; i1 < p->n1; i1++) {
            for (int32_t i2 = 0; i2 < p->n2; i2++) {
                ec_matmul_f32_one(p, a + i0 * p->a_0 + i1 * p->a_1 + i2 * p->a_2,
                                  b + i0 * p->b_0 + i1 * p->b_1 + i2 * p->b_2, y);
                y += p->m * p->n;
            }
        }
    }
}

void ec_matmul_f32(const ec_matmul_f32_params *p, const float *a, const float *b, float *y)
{
    ec_matmul_f32_body(p, a, b, y);
}
