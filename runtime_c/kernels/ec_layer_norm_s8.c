/* layer_norm, int8, portable C99.
 *
 *   d[i] = n x[i] - sum(x),  V = n sum(x^2) - sum(x)^2,  both exact
 *   y[i] = clamp(zero_out + gain[i] d[i] / sqrt(V + eps) + bias[i]), fixed point of ec_norm_s8.h
 *
 * x, y int8[rows][count], count <= 2^20; y may be x. gain, bias int32[count] or [1]. No scratch,
 * integers only. Equals layer_norm.quant of edgec/ops/norm.py.
 */
#include "ec_norm.h"
#include "ec_norm_s8.h"

void ec_layer_norm_s8(const ec_norm_params *p, const int8_t *x, const int32_t *gain,
                      const int32_t *bias, int8_t *y)
{
    int32_t n = p->count;
    for (int32_t row = 0; row < p->rows; row++) {
        int32_t sum = 0;
        int64_t squares = 0;
        for (int32_t i = 0; i < n; i++) {
            sum += x[i];
            squares += x[i] * x[i];
        }
        ec_norm_scale scale = ec_norm_scale_of(n * squares - (int64_t)sum * sum, p->fraction,
                                               p->eps_high, p->eps_low);
        for (int32_t i = 0; i < n; i++) {
            int32_t at = i * p->gain_step;
            y[i] = ec_norm_output(n * x[i] - sum, scale, gain[at], bias[at], p->shift, p->zero_out);
        }
        x += n;
        y += n;
    }
}
