/* Gradient of adaptive_max_pool2d, float, portable C99: the first maximum of each window takes its
 * dy.
 *
 * x, dx float[N][H][W][C], dy float[N][P][Q][C], other memory; a NaN counts as larger than every
 * number; no scratch. Equals adaptive_max_pool2d_grad of edgec/ops/pool_gradient.py.
 */
#include "ec_train_f32.h"

/* ceil((i + 1) * size / count) */
static inline int32_t ec_adaptive_max_pool2d_grad_f32_end(int32_t i, int32_t size, int32_t count)
{
    return ((i + 1) * size + count - 1) / count;
}

static inline int32_t
ec_adaptive_max_pool2d_grad_f32_find(const ec_adaptive_max_pool2d_grad_params *p, const float *x,
                                     int32_t i, int32_t j, int32_t c)
{
    int32_t bottom = ec_adaptive_max_pool2d_grad_f32_end(i, p->in_h, p->out_h);
    int32_t right = ec_adaptive_max_pool2d_grad_f32_end(j, p->in_w, p->out_w);
    int32_t best = -1;
    for (int32_t h = i * p->in_h / p->out_h; h < bottom; h++) {
        for (int32_t v = j * p->in_w / p->out_w; v < right; v++) {
            int32_t at = (h * p->in_w + v) * p->channels + c;
            if (best < 0 || (x[best] == x[best] && !(x[at] <= x[best]))) {
                best = at;
            }
        }
    }
    return best;
}

void ec_adaptive_max_pool2d_grad_f32(const ec_adaptive_max_pool2d_grad_params *p, const float *x,
                                     const float *dy, float *dx)
{
    int32_t size = p->in_h * p->in_w * p->channels;
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t i = 0; i < size; i++) {
            dx[i] = 0.0f;
        }
        for (int32_t i = 0; i < p->out_h; i++) {
            for (int32_t j = 0; j < p->out_w; j++) {
                for (int32_t c = 0; c < p->channels; c++) {
                    dx[ec_adaptive_max_pool2d_grad_f32_find(p, x, i, j, c)] += *dy++;
                }
            }
        }
        x += size;
        dx += size;
    }
}
