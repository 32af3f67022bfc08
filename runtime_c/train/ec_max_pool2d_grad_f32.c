/* Gradient of max_pool2d, float, portable C99: the first maximum of each window takes its dy.
 *
 * x, dx float[N][H][W][C], dy float[N][P][Q][C], other memory; a NaN counts as larger than every
 * number; no scratch. Equals max_pool2d_grad of edgec/ops/pool_gradient.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"
#include "ec_train_f32.h"

/* Element of x, from the image's start, that is the first maximum of the window at (top, left). */
static inline int32_t ec_max_pool2d_grad_f32_find(const ec_max_pool2d_grad_params *p,
                                                  const float *x, int32_t top, int32_t left,
                                                  int32_t c)
{
    ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
    ec_taps columns = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
    int32_t best = -1;
    for (int32_t r = rows.first; r < rows.end; r++) {
        int32_t row = (top + r * p->dilation_h) * p->in_w + left;
        for (int32_t s = columns.first; s < columns.end; s++) {
            int32_t at = (row + s * p->dilation_w) * p->channels + c;
            if (best < 0 || (x[best] == x[best] && !(x[at] <= x[best]))) {
                best = at;
            }
        }
    }
    return best;
}

void ec_max_pool2d_grad_f32(const ec_max_pool2d_grad_params *p, const float *x, const float *dy,
                            float *dx)
{
    int32_t size = p->in_h * p->in_w * p->channels;
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t i = 0; i < size; i++) {
            dx[i] = 0.0f;
        }
        for (int32_t i = 0; i < p->out_h; i++) {
            for (int32_t j = 0; j < p->out_w; j++) {
                int32_t top = i * p->stride_h - p->pad_top;
                int32_t left = j * p->stride_w - p->pad_left;
                for (int32_t c = 0; c < p->channels; c++) {
                    dx[ec_max_pool2d_grad_f32_find(p, x, top, left, c)] += *dy++;
                }
            }
        }
        x += size;
        dx += size;
    }
}
