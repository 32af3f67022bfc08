/* Gradient of trained_conv2d to its input, float, portable C99: any groups, stride, dilation,
 * padding.
 *
 *   h[n,p,q,o]   = g[n,p,q,o] * eff[o] where its mask is 1, else 0
 *   dx[n,y,x,c]  = sum over r, then s, then o of h[n,p,q,o] * W[o,r,s,i]
 *
 * for the p, q with y = p * stride_h - pad_top + r * dilation_h, x likewise, and the outputs of the
 * group of c = g * I + i; W is w with its trained part replaced. Layouts as in ec_train_s8.h; eff
 * float[O]. One rounding an operation, sums in that order, beginning at 0.
 * scratch: I bytes. Equals input_grad of edgec/ops/train_conv.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"
#include "ec_trained_weight.h"

/* Adds what the output pixel `first` gives through tap `tap` to all channels of acc. */
static void ec_input_grad_tap(const ec_input_grad_params *p, const ec_trained_weight *weight,
                              const float *g, const uint8_t *mask, const float *eff, int32_t first,
                              int32_t tap, float *acc, int8_t *row)
{
    int32_t outputs = p->out_c / p->groups;
    for (int32_t o = 0; o < p->out_c; o++) {
        if (ec_mask_bit(mask, first + o) == 0) {
            continue;
        }
        float h = g[first + o] * eff[o];
        const int8_t *w = ec_trained_taps(weight, o, tap, 1, row);
        float *to = acc + o / outputs * weight->inputs;
        for (int32_t i = 0; i < weight->inputs; i++) {
            to[i] += h * (float)w[i];
        }
    }
}

void ec_trained_conv2d_input_grad_f32(const ec_input_grad_params *p, const float *g,
                                      const uint8_t *mask, const int8_t *w, const float *eff,
                                      const int32_t *idx, const int8_t *slice, float *dx,
                                      void *scratch)
{
    const ec_trained_weight weight = {
        w, idx, slice, p->kernel_h * p->kernel_w, p->in_c / p->groups, p->trained, p->by_rows};
    int32_t pixels = p->batch * p->in_h * p->in_w;
    for (int32_t pixel = 0; pixel < pixels; pixel++) {
        int32_t image = pixel / (p->in_h * p->in_w) * p->out_h * p->out_w;
        int32_t bottom = pixel / p->in_w % p->in_h + p->pad_top;
        int32_t right = pixel % p->in_w + p->pad_left;
        float *acc = dx + pixel * p->in_c;
        for (int32_t c = 0; c < p->in_c; c++) {
            acc[c] = 0.0f;
        }
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
                ec_input_grad_tap(p, &weight, g, mask, eff, first, tap, acc, scratch);
            }
        }
    }
}
