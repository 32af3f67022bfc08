/* Gradient of trained_conv2d with a 1x1 kernel, one group, stride 1, no padding to its input,
 * float, portable C99.
 *
 *   dx[pixel,i] = sum over o of h[pixel,o] * W[o,i],   h = g * eff[o] where its mask is 1, else 0
 *
 * Arithmetic, layouts and arguments as in ec_trained_conv2d_input_grad_f32: one rounding an
 * operation, sums in the order of o. The outputs of a pixel whose mask is 1 are gathered once;
 * eight columns of W are summed at a time. Columns that are trained are computed from the slice
 * once more and take the place of the constant's.
 * scratch: 8 * O bytes, aligned to 4. Equals input_grad of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per MAC here against ec_trained_conv2d_input_grad_f32, three of four bits set: 5.0
 * against 7.5 (8x8, 160 to 40), 4.7 against 6.9 (8x8, 48 to 160), 4.6 against 6.8 (4x4, 160 to
 * 576).
 */
#include "ec_gradient.h"
#include "ec_train_s8.h"

/* An output that counts. */
typedef struct ec_counted {
    float h;
    int32_t o;
} ec_counted;

/* Sums of eight columns; w at the first of them, its rows `step` apart. */
static void ec_input_grad_eight(const ec_counted *from, int32_t count, const int8_t *w,
                                int32_t step, float *sums)
{
    float sum0 = 0.0f;
    float sum1 = 0.0f;
    float sum2 = 0.0f;
    float sum3 = 0.0f;
    float sum4 = 0.0f;
    float sum5 = 0.0f;
    float sum6 = 0.0f;
    float sum7 = 0.0f;
    for (const ec_counted *end = from + count; from != end; from++) {
        const int8_t *row = w + from->o * step;
        float h = from->h;
        sum0 += h * (float)row[0];
        sum1 += h * (float)row[1];
        sum2 += h * (float)row[2];
        sum3 += h * (float)row[3];
        sum4 += h * (float)row[4];
        sum5 += h * (float)row[5];
        sum6 += h * (float)row[6];
        sum7 += h * (float)row[7];
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
    sums[4] = sum4;
    sums[5] = sum5;
    sums[6] = sum6;
    sums[7] = sum7;
}

/* The sum of one column. */
static float ec_input_grad_one(const ec_counted *from, int32_t count, const int8_t *w, int32_t step)
{
    float sum = 0.0f;
    for (int32_t k = 0; k < count; k++) {
        sum += from[k].h * (float)w[from[k].o * step];
    }
    return sum;
}

void ec_pointwise_input_grad_f32(const ec_input_grad_params *p, const float *g, const uint8_t *mask,
                                 const int8_t *w, const float *eff, const int32_t *idx,
                                 const int8_t *slice, float *dx, void *scratch)
{
    ec_counted *counted = scratch;
    int32_t inputs = p->in_c;
    int32_t pixels = p->batch * p->in_h * p->in_w;
    for (int32_t pixel = 0, at = 0; pixel < pixels; pixel++, dx += inputs) {
        int32_t count = 0;
        int32_t i = 0;
        int32_t c = 0;
        for (int32_t o = 0; o < p->out_c; o++, at++) {
            if (ec_mask_bit(mask, at) != 0) {
                counted[count].h = g[at] * eff[o];
                counted[count++].o = o;
            }
        }
        for (; i + 8 <= inputs; i += 8) {
            ec_input_grad_eight(counted, count, w + i, inputs, dx + i);
        }
        for (; i < inputs; i++) {
            dx[i] = ec_input_grad_one(counted, count, w + i, inputs);
        }
        for (; c + 8 <= p->trained; c += 8) {
            float sums[8];
            ec_input_grad_eight(counted, count, slice + c, p->trained, sums);
            for (int32_t k = 0; k < 8; k++) {
                dx[idx[c + k]] = sums[k];
            }
        }
        for (; c < p->trained; c++) {
            dx[idx[c]] = ec_input_grad_one(counted, count, slice + c, p->trained);
        }
    }
}
