/* Gradient of conv2d to its input, float, portable C99; reads the weight where it lies.
 *
 *   dx[n,h,v,c] = sum over r, s, o of dy[n,p,q,o] * w[o,r,s,c], with p * stride_h + r * dilation_h
 *                 = h + pad_top, and so for q, v, s; o and c of one group
 *
 * dy float[N][P][Q][O], w float[O][R][S][C/groups], dx float[N][H][W][C], other memory than dy; no
 * scratch. Equals conv2d_input_grad of edgec/ops/conv_gradient.py but for the order of the sum.
 */
#include "ec_train_f32.h"

/* The output row (column) that tap `r` reaches from input row `h`; -1 where there is none. */
static inline int32_t ec_conv2d_input_grad_f32_output(int32_t h, int32_t pad, int32_t r,
                                                      int32_t dilation, int32_t stride,
                                                      int32_t size)
{
    int32_t at = h + pad - r * dilation;
    return at < 0 || at % stride != 0 || at / stride >= size ? -1 : at / stride;
}

/* One tap of one pixel: dx[c] += sum over o of g[o] * w[o][r][s][c], group by group. */
static inline void ec_conv2d_input_grad_f32_tap(const ec_conv2d_grad_f32_params *p,
                                                const float *restrict g, const float *restrict w,
                                                float *restrict dx)
{
    int32_t channels = p->in_c / p->groups;
    int32_t outputs = p->out_c / p->groups;
    int32_t step = p->kernel_h * p->kernel_w * channels;
    for (int32_t o = 0, group = 0; group < p->groups; group++, dx += channels) {
        for (int32_t end = o + outputs; o < end; o++, w += step) {
            for (int32_t c = 0; c < channels; c++) {
                dx[c] += g[o] * w[c];
            }
        }
    }
}

static inline void ec_conv2d_input_grad_f32_pixel(const ec_conv2d_grad_f32_params *p, int32_t h,
                                                  int32_t v, const float *dy, const float *w,
                                                  float *dx)
{
    int32_t channels = p->in_c / p->groups;
    for (int32_t c = 0; c < p->in_c; c++) {
        dx[c] = 0.0f;
    }
    for (int32_t r = 0; r < p->kernel_h; r++) {
        int32_t i = ec_conv2d_input_grad_f32_output(h, p->pad_top, r, p->dilation_h, p->stride_h,
                                                    p->out_h);
        for (int32_t s = 0; i >= 0 && s < p->kernel_w; s++) {
            int32_t j = ec_conv2d_input_grad_f32_output(v, p->pad_left, s, p->dilation_w,
                                                        p->stride_w, p->out_w);
            if (j >= 0) {
                ec_conv2d_input_grad_f32_tap(p, dy + (i * p->out_w + j) * p->out_c,
                                             w + (r * p->kernel_w + s) * channels, dx);
            }
        }
    }
}

void ec_conv2d_input_grad_f32(const ec_conv2d_grad_f32_params *p, const float *dy, const float *w,
                              float *dx)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t h = 0; h < p->in_h; h++) {
            for (int32_t v = 0; v < p->in_w; v++) {
                ec_conv2d_input_grad_f32_pixel(p, h, v, dy, w, dx);
                dx += p->in_c;
            }
        }
        dy += p->out_h * p->out_w * p->out_c;
    }
}
