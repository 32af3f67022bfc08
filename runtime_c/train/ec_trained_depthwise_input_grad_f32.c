/* Gradient of a depthwise trained_conv2d of stride 1 and equal shapes to its input, float, portable
 * C99. dx may be g: a plane of h is copied before it is overwritten.
 *
 *   h[n,p,q,c]   = g[n,p,q,c] * eff[c] where its mask is 1, else 0
 *   dx[n,y,x,c]  = sum over r, then s of h[n,y + pad_top - r * dilation_h,x + ...,c] * W[c,r,s]
 *
 * W is w with its trained channels replaced. Layouts as in ec_train_s8.h; eff float[C]. One rounding
 * an operation, sums in that order, beginning at 0.
 * scratch: 4 * H * W bytes, aligned to 4. Equals input_grad of edgec/ops/train_conv.py.
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"
#include "ec_trained_weight.h"

/* The sum at row `y` and column `x` of a plane of h. */
static float ec_depthwise_input_grad_at(const ec_input_grad_params *p, const float *plane,
                                        const int8_t *w, int32_t y, int32_t x)
{
    float acc = 0.0f;
    for (int32_t r = 0; r < p->kernel_h; r++) {
        int32_t row = y + p->pad_top - r * p->dilation_h;
        if (row < 0 || row >= p->out_h) {
            continue;
        }
        for (int32_t s = 0; s < p->kernel_w; s++) {
            int32_t column = x + p->pad_left - s * p->dilation_w;
            if (column >= 0 && column < p->out_w) {
                acc += plane[row * p->out_w + column] * (float)w[r * p->kernel_w + s];
            }
        }
    }
    return acc;
}

void ec_trained_depthwise_input_grad_f32(const ec_input_grad_params *p, const float *g,
                                         const uint8_t *mask, const int8_t *w, const float *eff,
                                         const int32_t *idx, const int8_t *slice, float *dx,
                                         void *scratch)
{
    const ec_trained_weight weight = {w, idx, slice, p->kernel_h * p->kernel_w, 1, p->trained,
                                      p->by_rows};
    float *plane = scratch;
    int32_t pixels = p->in_h * p->in_w;
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t c = 0; c < p->in_c; c++) {
            int32_t first = n * pixels * p->in_c + c;
            const int8_t *taps = ec_trained_taps(&weight, c, 0, weight.taps, scratch);
            for (int32_t i = 0; i < pixels; i++) {
                int32_t at = first + i * p->in_c;
                plane[i] = ec_mask_bit(mask, at) != 0 ? g[at] * eff[c] : 0.0f;
            }
            for (int32_t i = 0; i < pixels; i++) {
                dx[first + i * p->in_c] =
                    ec_depthwise_input_grad_at(p, plane, taps, i / p->in_w, i % p->in_w);
            }
        }
    }
}
