/* Weights of a convolution with a 1x1 kernel, one group, stride 1, no padding after one step of
 * training, from a gradient that is a pair, MVE.
 *
 *   dw[o,i] = sum over pixels of h[pixel,o] * (x[pixel,i] - zero_in),   h = q where its mask is 1
 *   y[o,i]  = clamp(w[o,i] + floor(u - dw * (rate * factor[o] * 2^e)), -127, 127)
 *
 * Arithmetic, layouts and arguments as in ec_train_conv2d_weight_pair. `block` outputs (at most 16)
 * are taken at a time, and 64 pixels: their h, a row an output, then four channels of x after four
 * as a panel (ec_mve_pointwise.h). y may be w. C and O at most 9000.
 * scratch: 1280 + block * (64 + 4 * I') bytes, I' = I brought to a multiple of 4; aligned to 4.
 * Equals update_weight of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions per MAC of MCUNet-5FPS, update and noise included, here against the DSP kernel: 1.1
 * against 3.0.
 */
#include "ec_mve_grad.h"
#include "ec_mve_pointwise.h"
#include "ec_mve_update.h"

#define EC_PIXELS 64 /* taken at a time */
#define EC_OUTPUTS 16 /* most that a block holds */

/* h of `count` pixels from `first` on, of `outputs` outputs from `o` on: int8[outputs][64]. */
static void ec_train_weight_vectors(const ec_train_weight_params *p, const int8_t *q,
                                    const uint8_t *mask, int32_t first, int32_t count, int32_t o,
                                    int32_t outputs, int8_t *tile, int8_t *h)
{
    int32_t at = first * p->out_c + o;
    for (int32_t pixel = 0; pixel < count; pixel++, at += p->out_c) {
        ec_mve_masked(tile + pixel * EC_OUTPUTS, q, mask, at, outputs);
    }
    for (int32_t k = 0; k < outputs; k++) {
        ec_mve_column(h + k * EC_PIXELS, 8, tile + k, EC_OUTPUTS, count);
    }
}

/* Adds the sums over `count` pixels to sums[outputs][I']. */
static void ec_train_weight_sums(const ec_train_weight_params *p, const int8_t *x, const int8_t *h,
                                 int8_t *panel, int32_t count, int32_t outputs, int32_t *sums)
{
    int32_t inputs = p->in_c;
    int32_t fours = ec_mve_whole(inputs, 4);
    int32_t start[EC_OUTPUTS];
    for (int32_t k = 0; k < outputs; k++) {
        start[k] = -p->zero_in * ec_mve_sum(h + k * EC_PIXELS, count);
    }
    for (int32_t i = 0; i < inputs; i += EC_MVE_ROWS) {
        int32_t columns = inputs - i < EC_MVE_ROWS ? inputs - i : EC_MVE_ROWS;
        for (int32_t pixel = 0; pixel < count; pixel += EC_MVE_BYTES) {
            int32_t some = count - pixel < EC_MVE_BYTES ? count - pixel : EC_MVE_BYTES;
            for (int32_t k = 0; k < columns; k++) {
                ec_mve_column(panel + pixel * EC_MVE_ROWS + k * EC_MVE_BYTES, 8,
                              x + pixel * inputs + i + k, inputs, some);
            }
        }
        for (int32_t k = 0; k < outputs; k++) { /* columns that are not there stay unread */
            ec_mve_add_rows(sums + k * fours + i, h + k * EC_PIXELS, panel, count, start[k]);
        }
    }
}

void ec_pointwise_train_weight_pair_mve(const ec_train_weight_params *p, const int8_t *w,
                                        const int8_t *x, const int8_t *q, const int32_t *e,
                                        const uint8_t *mask, const float *factor, const float *rate,
                                        const int32_t *step, const int32_t *idx, int8_t *y,
                                        void *scratch)
{
    (void)idx;
    int32_t inputs = p->in_c;
    int32_t fours = ec_mve_whole(inputs, 4);
    int32_t pixels = p->batch * p->in_h * p->in_w;
    int32_t *sums = scratch;
    int8_t *panel = (int8_t *)(sums + p->block * fours);
    int8_t *tile = panel + EC_MVE_ROWS * EC_PIXELS;
    int8_t *h = tile + EC_OUTPUTS * EC_PIXELS;
    float power = ec_power_of_two(*e);
    ec_mve_noise noise;
    ec_mve_noise_begin(&noise, *step, p->salt, p->seed, p->nearest);
    memset(panel, 0, EC_MVE_ROWS * EC_PIXELS);
    for (int32_t o = 0; o < p->outputs; o += p->block) {
        int32_t outputs = p->outputs - o < p->block ? p->outputs - o : p->block;
        memset(sums, 0, (size_t)(p->block * fours) * sizeof *sums);
        for (int32_t first = 0; first < pixels; first += EC_PIXELS) {
            int32_t count = pixels - first < EC_PIXELS ? pixels - first : EC_PIXELS;
            ec_train_weight_vectors(p, q, mask, first, count, o, outputs, tile, h);
            ec_train_weight_sums(p, x + first * inputs, h, panel, count, outputs, sums);
        }
        for (int32_t k = 0; k < outputs; k++, w += inputs, y += inputs) {
            float scale = *rate * factor[o + k];
            scale *= power;
            ec_mve_update(&noise, w, sums + k * fours, scale, inputs, y);
        }
    }
}
