/* Weights of a convolution with a 1x1 kernel, one group, stride 1, no padding after one step of
 * training, from a float gradient, portable C99.
 *
 *   dw[o,i] = sum over pixels of h[pixel,o] * (x[pixel,i] - zero_in),   h = g where its mask is 1
 *   y[o,i]  = clamp(w[o,i] + floor(u - dw * (rate * factor[o])), -127, 127)
 *
 * Arithmetic, layouts and arguments as in ec_train_conv2d_weight_f32: one rounding an operation,
 * sums in the order of pixels. Of 64 pixels at a time those whose mask is 1 are gathered once an
 * output; four channels are summed at a time. y may be w.
 * scratch: 512 + 4 * I bytes, aligned to 4. Equals update_weight of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per MAC here against ec_train_conv2d_weight_f32, update and noise included, three
 * of four bits set: 7.7 against 13 (8x8, 48 to 144), 13 against 21 (4x4, 12 to 384).
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

#define EC_PIXELS 64 /* gathered at a time */

/* A pixel that counts, and where its x begins. */
typedef struct ec_counted {
    float h;
    int32_t x;
} ec_counted;

/* Adds four channels of the pixels to sums; x at the first of them. */
static void ec_train_weight_four(const ec_counted *from, int32_t count, const int8_t *x,
                                 int32_t zero, float *sums)
{
    float sum0 = sums[0];
    float sum1 = sums[1];
    float sum2 = sums[2];
    float sum3 = sums[3];
    for (const ec_counted *end = from + count; from != end; from++) {
        const int8_t *in = x + from->x;
        float h = from->h;
        sum0 += h * (float)(in[0] - zero);
        sum1 += h * (float)(in[1] - zero);
        sum2 += h * (float)(in[2] - zero);
        sum3 += h * (float)(in[3] - zero);
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

/* Adds what `count` pixels give to sums[inputs]; x at the first of them. */
static void ec_train_weight_add(const ec_counted *from, int32_t count, const int8_t *x,
                                int32_t zero, int32_t inputs, float *sums)
{
    int32_t i = 0;
    for (; i + 4 <= inputs; i += 4) {
        ec_train_weight_four(from, count, x + i, zero, sums + i);
    }
    for (; i < inputs; i++) {
        for (int32_t k = 0; k < count; k++) {
            sums[i] += from[k].h * (float)(x[from[k].x + i] - zero);
        }
    }
}

void ec_pointwise_train_weight_f32(const ec_train_weight_params *p, const int8_t *w,
                                   const int8_t *x, const float *g, const uint8_t *mask,
                                   const float *factor, const float *rate, const int32_t *step,
                                   const int32_t *idx, int8_t *y, void *scratch)
{
    (void)idx;
    ec_counted *counted = scratch;
    float *sums = (float *)(counted + EC_PIXELS);
    int32_t inputs = p->in_c;
    int32_t pixels = p->batch * p->in_h * p->in_w;
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o++) {
        float scale = *rate * factor[o];
        for (int32_t i = 0; i < inputs; i++) {
            sums[i] = 0.0f;
        }
        for (int32_t first = 0; first < pixels; first += EC_PIXELS) {
            int32_t last = pixels - first < EC_PIXELS ? pixels : first + EC_PIXELS;
            int32_t count = 0;
            for (int32_t pixel = first; pixel < last; pixel++) {
                int32_t at = pixel * p->out_c + o;
                if (ec_mask_bit(mask, at) != 0) {
                    counted[count].h = g[at];
                    counted[count++].x = (pixel - first) * inputs;
                }
            }
            ec_train_weight_add(counted, count, x + first * inputs, p->zero_in, inputs, sums);
        }
        for (int32_t i = 0; i < inputs; i++) {
            *y++ = ec_update_weight(*w++, sums[i], scale, ec_noise_next(&noise));
        }
    }
}
