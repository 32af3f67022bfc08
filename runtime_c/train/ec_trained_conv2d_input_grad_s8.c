/* Gradient of trained_conv2d to its input, a pair of int8 and exponent, portable C99: any groups,
 * stride, dilation, padding.
 *
 *   h[n,p,q,o]    = q[n,p,q,o] * eff[o] where its mask is 1, else 0
 *   acc[n,y,x,c]  = sum over r, s, o of h[n,p,q,o] * W[o,r,s,i]
 *
 * for the p, q with y = p * stride_h - pad_top + r * dilation_h, x likewise, and the outputs of the
 * group of c = g * I + i; W is w with its trained part replaced. Layouts as in ec_train_s8.h; eff
 * int16[O] so small that acc stays in int32. acc is rounded in block floating point (ec_gradient.h)
 * and exponent = e + p->exponent + the shift.
 * scratch: 4 * C + I bytes, aligned to 4. Equals input_grad of edgec/ops/train_conv.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"
#include "ec_trained_weight.h"

/* Adds what the output pixel `first` gives through tap `tap` to all channels of acc. */
static void ec_input_grad_tap(const ec_input_grad_params *p, const ec_trained_weight *weight,
                              const int8_t *q, const uint8_t *mask, const int16_t *eff,
                              int32_t first, int32_t tap, int32_t *acc)
{
    int8_t *row = (int8_t *)(acc + p->in_c);
    int32_t outputs = p->out_c / p->groups;
    for (int32_t o = 0; o < p->out_c; o++) {
        int32_t h = q[first + o] * eff[o];
        if (h == 0 || ec_mask_bit(mask, first + o) == 0) {
            continue;
        }
        const int8_t *w = ec_trained_taps(weight, o, tap, 1, row);
        int32_t *to = acc + o / outputs * weight->inputs;
        for (int32_t i = 0; i < weight->inputs; i++) {
            to[i] += h * w[i];
        }
    }
}

void ec_trained_conv2d_input_grad_s8(const ec_input_grad_params *p, const int8_t *q,
                                     const int32_t *e, const uint8_t *mask, const int8_t *w,
                                     const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                     int8_t *dx, int32_t *exponent, void *scratch)
{
    int32_t *acc = scratch;
    const ec_trained_weight weight = {
        w, idx, slice, p->kernel_h * p->kernel_w, p->in_c / p->groups, p->trained, p->by_rows};
    ec_block_float to = {dx, dx, 0};
    int32_t pixels = p->batch * p->in_h * p->in_w;
    for (int32_t pixel = 0; pixel < pixels; pixel++) {
        int32_t image = pixel / (p->in_h * p->in_w) * p->out_h * p->out_w;
        int32_t bottom = pixel / p->in_w % p->in_h + p->pad_top;
        int32_t right = pixel % p->in_w + p->pad_left;
        memset(acc, 0, sizeof *acc * (size_t)p->in_c);
        for (int32_t tap = 0; tap < weight.taps; tap++) {
            int32_t down = bottom - tap / p->kernel_w * p->dilation_h;
            int32_t along = right - tap % p->kernel_w * p->dilation_w;
            if (down < 0 || along < 0 || down % p->stride_h != 0 || along % p->stride_w != 0) {
                continue;
            }
            int32_t row = down / p->stride_h;
            int32_t column = along / p->stride_w;
            if (row < p->out_h && column < p->out_w) {
                int32_t first = (image + row * p->out_w + column) * p->out_c;
                ec_input_grad_tap(p, &weight, q, mask, eff, first, tap, acc);
            }
        }
        ec_block_float_put(&to, acc, p->in_c);
    }
    *exponent = *e + p->exponent + to.shift;
}
