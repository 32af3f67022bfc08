/* Weights of a convolution with any kernel and one group after one step of training, from a
 * gradient that is a pair, Armv7E-M DSP.
 *
 *   dw[o,tap,i] = sum over pixels of h[pixel,o] * (X[pixel,tap,i] - zero_in),   h = q where its
 *   mask is 1
 *   y[o,tap,i]  = clamp(w[o,tap,i] + floor(u - dw * (rate * factor[o] * 2^e)), -127, 127)
 *
 * Arithmetic, layouts and arguments as in ec_train_conv2d_weight_pair, every output trained.
 * `block` outputs (an even number) are taken at a time, tap by tap, and 64 pixels: their h, then
 * four channels of what the tap sees of x after four, packed by pairs of pixels (ec_dsp_grad.h).
 * y may be w.
 * scratch: 1024 + block * (128 + 4 * I) bytes, aligned to 4. Equals update_weight of
 * edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py
 * --scheme dense, instructions per MAC here against the portable kernel, 3x3, update
 * and noise included: 2.8 against 8.4 (8x8, 16 to 24), 7.0 against 11 (4x4, 24 to 32).
 */
#include "ec_dsp_vectors.h"

/* What a tap sees: for `count` pixels where in x their first channel stands, -1 outside of the map;
 * `seen` words of four channels, and the panel made of them. */
typedef struct ec_dense_seen {
    uint32_t panel[2 * EC_DSP_PIXELS];
    int32_t at[EC_DSP_PIXELS];
    uint32_t seen[EC_DSP_PIXELS];
} ec_dense_seen;

/* Fills `at` for the pixels from `first` on; 0 where all are outside. */
static int32_t ec_dense_places(const ec_train_weight_params *p, int32_t tap, int32_t first,
                               int32_t count, int32_t *at)
{
    int32_t top = tap / p->kernel_w * p->dilation_h - p->pad_top;
    int32_t left = tap % p->kernel_w * p->dilation_w - p->pad_left;
    int32_t line = first / p->out_w; /* of all images */
    int32_t j = first - line * p->out_w;
    int32_t n = line / p->out_h;
    int32_t i = line - n * p->out_h;
    int32_t any = 0;
    for (int32_t pixel = 0; pixel < count; pixel++) {
        int32_t row = i * p->stride_h + top;
        int32_t column = j * p->stride_w + left;
        int32_t inside = row >= 0 && row < p->in_h && column >= 0 && column < p->in_w;
        at[pixel] = inside ? ((n * p->in_h + row) * p->in_w + column) * p->in_c : -1;
        any |= inside;
        if (++j == p->out_w) {
            j = 0;
            if (++i == p->out_h) {
                i = 0;
                n++;
            }
        }
    }
    return any;
}

/* Adds the sums over `count` pixels to sums[outputs][I]. */
static void ec_dense_sums(const ec_train_weight_params *p, const int8_t *x, const uint32_t *h,
                          ec_dense_seen *part, int32_t count, int32_t outputs, int32_t *sums)
{
    int32_t inputs = p->in_c;
    int32_t fours = ec_dsp_fours(count);
    uint32_t minus = ((uint32_t)-p->zero_in & 0xffffu) * 0x10001u;
    uint32_t zero = ((uint32_t)p->zero_in & 0xffu) * 0x1010101u;
    for (int32_t i = 0; i < inputs; i += 4) {
        int32_t columns = inputs - i < 4 ? inputs - i : 4;
        for (int32_t pixel = 0; pixel < count; pixel++) {
            const int8_t *in = x + part->at[pixel] + i;
            part->seen[pixel] = part->at[pixel] < 0 ? zero
                                : columns == 4      ? ec_dsp_load(in)
                                                    : ec_dsp_load_part(in, columns);
        }
        ec_dsp_grad_panel(part->panel, (const int8_t *)part->seen, 4, count, 4, minus);
        for (int32_t o = 0; o < outputs; o += 2) {
            int32_t found[8];
            int32_t *to = sums + o * inputs + i;
            ec_dsp_grad_dot(found, h + (o >> 1) * fours, part->panel, part->panel + 2 * fours);
            for (int32_t k = 0; k < columns; k++) {
                to[k] += found[k];
                to[inputs + k] += found[4 + k];
            }
        }
    }
}

/* The next noise is that of `element`. */
static inline void ec_dense_noise_at(ec_noise *noise, int32_t element)
{
    noise->element = (uint32_t)element;
    if (noise->nearest == 0 && (element & 3) != 0) {
        ec_noise_draw(noise);
    }
}

void ec_dense_train_weight_pair_dsp(const ec_train_weight_params *p, const int8_t *w,
                                    const int8_t *x, const int8_t *q, const int32_t *e,
                                    const uint8_t *mask, const float *factor, const float *rate,
                                    const int32_t *step, const int32_t *idx, int8_t *y,
                                    void *scratch)
{
    (void)idx;
    ec_dense_seen *part = scratch;
    uint32_t *h = (uint32_t *)(part + 1);
    int32_t *sums = (int32_t *)(h + p->block / 2 * EC_DSP_PIXELS);
    int32_t inputs = p->in_c;
    int32_t taps = p->kernel_h * p->kernel_w;
    int32_t pixels = p->batch * p->out_h * p->out_w;
    float power = ec_power_of_two(*e);
    ec_noise noise = ec_noise_begin(*step, p->salt, p->seed, p->nearest);
    for (int32_t o = 0; o < p->outputs; o += p->block) {
        int32_t outputs = p->outputs - o < p->block ? p->outputs - o : p->block;
        for (int32_t tap = 0; tap < taps; tap++) {
            memset(sums, 0, (size_t)(p->block * inputs) * sizeof *sums);
            for (int32_t first = 0; first < pixels; first += EC_DSP_PIXELS) {
                int32_t count = pixels - first < EC_DSP_PIXELS ? pixels - first : EC_DSP_PIXELS;
                if (tap == 0 || pixels > EC_DSP_PIXELS) { /* else h of the tap before serves */
                    ec_dsp_weight_vectors(p, q, mask, first, count, o, outputs, h);
                }
                if (ec_dense_places(p, tap, first, count, part->at) != 0) {
                    ec_dense_sums(p, x, h, part, count, outputs, sums);
                }
            }
            for (int32_t k = 0; k < outputs; k++) {
                int32_t element = ((o + k) * taps + tap) * inputs;
                float scale = *rate * factor[o + k];
                scale *= power;
                ec_dense_noise_at(&noise, element);
                for (int32_t i = 0; i < inputs; i++) {
                    float sum = (float)sums[k * inputs + i];
                    y[element + i] =
                        ec_update_weight(w[element + i], sum, scale, ec_noise_next(&noise));
                }
            }
        }
    }
}
