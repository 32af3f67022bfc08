/* Training in float: gradients of layers, losses, optimisers. Parameters and prototypes.
 *
 * Every operation is one float32 rounding in the order written (build with -ffp-contract=off), so
 * that the host and every FPU have the same bits. Sums run over images, then rows, then columns.
 */
#ifndef EC_TRAIN_F32_H
#define EC_TRAIN_F32_H

#include <stdint.h>

/* Gradients of conv2d, whose input is in_h x in_w x in_c and whose output out_h x out_w x out_c;
 * weight_decay is that of the update alone. */
typedef struct ec_conv2d_grad_f32_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t in_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
    int32_t groups;
    float weight_decay;
} ec_conv2d_grad_f32_params;

/* Weight gradient of linear: `rows` vectors of in_c and out_c elements. */
typedef struct ec_linear_grad_f32_params {
    int32_t rows;
    int32_t in_c;
    int32_t out_c;
    float weight_decay;
} ec_linear_grad_f32_params;

/* Gradient of max pooling. */
typedef struct ec_max_pool2d_grad_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t channels;
    int32_t out_h;
    int32_t out_w;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t dilation_h;
    int32_t dilation_w;
} ec_max_pool2d_grad_params;

/* Gradient of adaptive max pooling: window p holds rows floor(p * H / P) <= h <
 * ceil((p + 1) * H / P). */
typedef struct ec_adaptive_max_pool2d_grad_params {
    int32_t batch;
    int32_t in_h;
    int32_t in_w;
    int32_t channels;
    int32_t out_h;
    int32_t out_w;
} ec_adaptive_max_pool2d_grad_params;

/* Losses over rows of classes. `temperature` and its inverse are of kl_logits alone. */
typedef struct ec_loss_f32_params {
    int32_t rows;
    int32_t classes;
    float inverse;
    float square;
} ec_loss_f32_params;

/* Losses over `count` elements. */
typedef struct ec_elements_f32_params {
    int32_t count;
} ec_elements_f32_params;

typedef struct ec_sgd_f32_params {
    int32_t count;
    float momentum;
    float weight_decay;
} ec_sgd_f32_params;

/* beta1 and beta2 are sums of two floats; mean_share = 1 - beta1, square_share = 1 - beta2. */
typedef struct ec_adam_f32_params {
    int32_t count;
    float beta1;
    float beta1_low;
    float beta2;
    float beta2_low;
    float mean_share;
    float square_share;
    float eps;
    float weight_decay;
} ec_adam_f32_params;

/* The sums of one tap: row[c] = sum over n, p, q of dy[n,p,q,o] * x[n,h,v,first + c], with
 * h = p * stride_h - pad_top + r * dilation_h, and so for v; what lies outside of the map is 0. */
static inline void ec_conv2d_weight_row_f32(const ec_conv2d_grad_f32_params *p,
                                            const float *restrict x, const float *restrict dy,
                                            int32_t o, int32_t r, int32_t s, float *restrict row)
{
    int32_t channels = p->in_c / p->groups;
    int32_t first = o / (p->out_c / p->groups) * channels;
    for (int32_t c = 0; c < channels; c++) {
        row[c] = 0.0f;
    }
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t i = 0; i < p->out_h; i++) {
            int32_t h = i * p->stride_h - p->pad_top + r * p->dilation_h;
            if (h < 0 || h >= p->in_h) {
                continue;
            }
            for (int32_t j = 0; j < p->out_w; j++) {
                int32_t v = j * p->stride_w - p->pad_left + s * p->dilation_w;
                if (v < 0 || v >= p->in_w) {
                    continue;
                }
                const float *in = x + ((n * p->in_h + h) * p->in_w + v) * p->in_c + first;
                float g = dy[((n * p->out_h + i) * p->out_w + j) * p->out_c + o];
                for (int32_t c = 0; c < channels; c++) {
                    row[c] += g * in[c];
                }
            }
        }
    }
}

/* row[k] = sum over t of dy[t,o] * x[t,k] */
static inline void ec_linear_weight_row_f32(const ec_linear_grad_f32_params *p,
                                            const float *restrict x, const float *restrict dy,
                                            int32_t o, float *restrict row)
{
    for (int32_t k = 0; k < p->in_c; k++) {
        row[k] = 0.0f;
    }
    for (int32_t t = 0; t < p->rows; t++) {
        const float *in = x + t * p->in_c;
        float g = dy[t * p->out_c + o];
        for (int32_t k = 0; k < p->in_c; k++) {
            row[k] += g * in[k];
        }
    }
}

/* Whether an element's next content may be written: finite. */
static inline int ec_is_finite_f32(float value)
{
    return value - value == 0.0f;
}

/* g + weight_decay w */
static inline float ec_decayed_f32(float w, float g, float weight_decay)
{
    return weight_decay != 0.0f ? g + weight_decay * w : g;
}

/* w after a step of SGD along g; w itself where that is not finite or the rate is 0. */
static inline float ec_sgd_step_f32(float w, float g, float rate, float weight_decay)
{
    float next = w - rate * ec_decayed_f32(w, g, weight_decay);
    return rate != 0.0f && ec_is_finite_f32(next) ? next : w;
}

/* dy float[N][P][Q][O], w float[O][R][S][C / groups], dx float[N][H][W][C]. */
void ec_conv2d_input_grad_f32(const ec_conv2d_grad_f32_params *p, const float *dy, const float *w,
                              float *dx);
/* x float[N][H][W][C], dy float[N][P][Q][O], dw float[O][R][S][C / groups]. */
void ec_conv2d_weight_grad_f32(const ec_conv2d_grad_f32_params *p, const float *x, const float *dy,
                               float *dw);
/* next may be w; rate float[1]; scratch: C / groups floats. */
void ec_conv2d_weight_update_f32(const ec_conv2d_grad_f32_params *p, const float *w, const float *x,
                                 const float *dy, const float *rate, float *next, float *scratch);

/* x float[T][K], dy float[T][O], dw float[O][K]. */
void ec_linear_weight_grad_f32(const ec_linear_grad_f32_params *p, const float *x, const float *dy,
                               float *dw);
/* next may be w; rate float[1]; scratch: K floats. */
void ec_linear_weight_update_f32(const ec_linear_grad_f32_params *p, const float *w, const float *x,
                                 const float *dy, const float *rate, float *next, float *scratch);
/* The same with vectors of floats; scratch: 16 (T + O) floats, O rounded up to 8. */
void ec_linear_weight_grad_f32_simd(const ec_linear_grad_f32_params *p, const float *x,
                                    const float *dy, float *dw, float *scratch);
void ec_linear_weight_update_f32_simd(const ec_linear_grad_f32_params *p, const float *w,
                                      const float *x, const float *dy, const float *rate,
                                      float *next, float *scratch);

/* x, dx float[N][H][W][C], dy float[N][P][Q][C]. */
void ec_max_pool2d_grad_f32(const ec_max_pool2d_grad_params *p, const float *x, const float *dy,
                            float *dx);
void ec_adaptive_max_pool2d_grad_f32(const ec_adaptive_max_pool2d_grad_params *p, const float *x,
                                     const float *dy, float *dx);

/* logits, teacher, dlogits float[N][C]; label int32[N]; loss, dloss float[1]; correct int32[1]. */
void ec_cross_entropy_f32(const ec_loss_f32_params *p, const float *logits, const int32_t *label,
                          float *loss);
void ec_cross_entropy_grad_f32(const ec_loss_f32_params *p, const float *logits,
                               const int32_t *label, const float *dloss, float *dlogits);
void ec_kl_logits_f32(const ec_loss_f32_params *p, const float *logits, const float *teacher,
                      float *loss);
void ec_correct_count_f32(const ec_loss_f32_params *p, const float *logits, const int32_t *label,
                          int32_t *correct);
void ec_mse_f32(const ec_elements_f32_params *p, const float *x, const float *target, float *loss);
void ec_bce_logits_f32(const ec_elements_f32_params *p, const float *x, const float *target,
                       float *loss);

/* next... may be w, m and v; rate, factor float[1]; step int32[1]. */
void ec_sgd_f32(const ec_sgd_f32_params *p, const float *w, const float *g, const float *rate,
                float *next);
void ec_sgd_momentum_f32(const ec_sgd_f32_params *p, const float *w, const float *g,
                         const float *rate, const float *m, float *next, float *next_m);
void ec_adam_f32(const ec_adam_f32_params *p, const float *w, const float *g, const float *rate,
                 const float *m, const float *v, const int32_t *step, float *next, float *next_m,
                 float *next_v);
void ec_accumulate_f32(const ec_elements_f32_params *p, const float *sum, const float *g,
                       const float *factor, float *next);

/* y[0] = x[0], float or int32, where loss[0] is finite, else 0. */
void ec_when_finite_x4(const ec_elements_f32_params *p, const void *x, const float *loss, void *y);

#endif
