/* matmul, int8, portable C99, leading axes broadcast.
 *
 *   acc[..,i,j] = sum_k (a[..,i,k] - zero_a) (b[..,k,j] - zero_b)
 *   y[..,i,j]   = clamp(zero_out + requantize(acc, multiplier, shift), -128, 127)
 *
 * a int8[..][M][K]; b by its strides b_k, b_n; y int8[n0][n1][n2][M][N]; K <= 32896, so that no sum
 * leaves int32; no alignment asked; no scratch. One multiplier and shift. Single rounding
 * (ec_requant.h). Equals matmul.quant of edgec/ops/linear.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"

static inline void ec_matmul_s8_one(const ec_matmul_params *p, const int8_t *restrict a,
                                    const int8_t *restrict b, int8_t *restrict y)
{
    for (int32_t i = 0; i < p->m; i++) {
        int32_t sum_a = 0;
        for (int32_t k = 0; k < p->k; k++) {
            sum_a += a[k] - p->zero_a;
        }
        for (int32_t j = 0; j < p->n; j++) {
            const int8_t *column = b + j * p->b_n;
            int32_t acc = -sum_a * p->zero_b;
            for (int32_t k = 0; k < p->k; k++) {
                acc += (a[k] - p->zero_a) * *column;
                column += p->b_k;
            }
            *y++ = ec_requantize_s8(acc, p->multiplier, p->shift, p->zero_out, -128, 127);
        }
        a += p->k;
    }
}

static inline void ec_matmul_s8_body(const ec_matmul_params *p, const int8_t *restrict a,
                                     const int8_t *restrict b, int8_t *restrict y)
{
    for (int32_t i0 = 0; i0 < p->n0; i0++) {
        for (int32_t i1 = 0; i1 < p->n1; i1++) {
            for (int32_t i2 = 0; i2 < p->n2; i2++) {
                ec_matmul_s8_one(p, a + i0 * p->a_0 + i1 * p->a_1 + i2 * p->a_2,
                                 b + i0 * p->b_0 + i1 * p->b_1 + i2 * p->b_2, y);
                y += p->m * p->n;
            }
        }
    }
}

void ec_matmul_s8(const ec_matmul_params *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    ec_matmul_s8_body(p, a, b, y);
}
