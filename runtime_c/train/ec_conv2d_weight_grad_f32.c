/* Gradient of conv2d to its weight, float, portable C99.
 *
 *   dw[o,r,s,c] = sum over n, p, q of dy[n,p,q,o] * X[n,p,q,r,s,c]
 *
 * X is x[n, p * stride_h - pad_top + r * dilation_h, ..., g * C/groups + c], or 0 outside of the
 * map. x float[N][H][W][C], dy float[N][P][Q][O], dw float[O][R][S][C/groups], other memory; no
 * scratch. Equals conv2d_weight_grad of edgec/ops/conv.py but for the order of the sum.
 */
#include "ec_train_f32.h"

void ec_conv2d_weight_grad_f32(const ec_conv2d_grad_f32_params *p, const float *x, const float *dy,
                               float *dw)
{
    for (int32_t o = 0; o < p->out_c; o++) {
        for (int32_t r = 0; r < p->kernel_h; r++) {
            for (int32_t s = 0; s < p->kernel_w; s++) {
                ec_conv2d_weight_row_f32(p, x, dy, o, r, s, dw);
                dw += p->in_c / p->groups;
            }
        }
    }
}
