/* Gradient of linear to its weight, float, portable C99: dw[o,k] = sum over t of dy[t,o] * x[t,k]
 *
 * x float[T][K], dy float[T][O], dw float[O][K], other memory; no scratch. Equals
 * linear_weight_grad of edgec/ops/linear_gradient.py but for the order of the sum.
 */
#include "ec_train_f32.h"

void ec_linear_weight_grad_f32(const ec_linear_grad_f32_params *p, const float *x, const float *dy,
                               float *dw)
{
    for (int32_t o = 0; o < p->out_c; o++) {
        ec_linear_weight_row_f32(p, x, dy, o, dw + o * p->in_c);
    }
}
