/* rms_norm, int8, portable C99.
 *
 *   d[i] = n (x[i] - zero_in),  V = n sum((x - zero_in)^2),  both exact
 *   y[i] = clamp(zero_out + gain[i] d[i] / sqrt(V + eps) + bias[i]), fixed point of ec_norm_s8.h
 *
 * x, y int8[rows][count], count <= 2^20; y may be x. gain, bias int32[count] or [1]. No scratch,
 * integers only. Equals rms_norm.quant of edgec/ops/norm.py.
 */
#include "ec_norm.h"
#include "ec_norm_s8.h"

void ec_rms_norm_s8(const ec_norm_params *p, const int8_t *x, const int32_t *gain,
                    const int32_t *bias, int8_t *y)
{
    int32_t n = p->count;
    for (int32_t row = 0; row < p->rows; row++) {
        int64_t squares = 0;
        for (int32_t i = 0; i < n; i++) {
            int32_t centred = x[i] - p->zero_in;
            squares += centred * centred;
        }
        ec_norm_scale scale =
            ec_norm_scale_of(n * squares, p->fraction, p->eps_high, p->eps_low);
        for (int32_t i = 0; i < n; i++) {
            int32_t at = i * p->gain_step;
            y[i] = ec_norm_output(n * (x[i] - p->zero_in), scale, gain[at], bias[at], p->shift,
                                  p->zero_out);
        }
        x += n;
        y += n;
    }
}
