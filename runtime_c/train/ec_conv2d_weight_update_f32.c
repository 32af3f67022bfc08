/* An SGD step of a conv2d's weight, float, portable C99: no more of the gradient than one tap's row
 * is in memory.
 *
 *   next[o,r,s,c] = w - rate (dw[o,r,s,c] + weight_decay w); w where that is not finite or rate is 0
 *
 * dw as in ec_conv2d_weight_grad_f32. next may be w. Scratch: C/groups floats. Equals
 * conv2d_weight_update of edgec/ops/conv_gradient.py but for the order of the sum.
 */
#include "ec_train_f32.h"

void ec_conv2d_weight_update_f32(const ec_conv2d_grad_f32_params *p, const float *w, const float *x,
                                 const float *dy, const float *rate, float *next, float *scratch)
{
    int32_t channels = p->in_c / p->groups;
    for (int32_t o = 0; o < p->out_c; o++) {
        for (int32_t r = 0; r < p->kernel_h; r++) {
            for (int32_t s = 0; s < p->kernel_w; s++) {
                ec_conv2d_weight_row_f32(p, x, dy, o, r, s, scratch);
                for (int32_t c = 0; c < channels; c++) {
                    *next++ = ec_sgd_step_f32(*w++, scratch[c], *rate, p->weight_decay);
                }
            }
        }
    }
}
