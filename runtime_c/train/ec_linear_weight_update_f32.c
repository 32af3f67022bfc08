/* An SGD step of a linear layer's weight, float, portable C99: one row of the gradient is in
 * memory.
 *
 *   next[o,k] = w - rate (sum over t of dy[t,o] * x[t,k] + weight_decay w); w where that is not
 *   finite or rate is 0
 *
 * x float[T][K], dy float[T][O], w, next float[O][K]; next may be w. Scratch: K floats. Equals
 * linear_weight_update of edgec/ops/linear_gradient.py but for the order of the sum.
 */
#include "ec_train_f32.h"

void ec_linear_weight_update_f32(const ec_linear_grad_f32_params *p, const float *w, const float *x,
                                 const float *dy, const float *rate, float *next, float *scratch)
{
    for (int32_t o = 0; o < p->out_c; o++) {
        ec_linear_weight_row_f32(p, x, dy, o, scratch);
        for (int32_t k = 0; k < p->in_c; k++) {
            *next++ = ec_sgd_step_f32(*w++, scratch[k], *rate, p->weight_decay);
        }
    }
}
