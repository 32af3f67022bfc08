/* trained_conv2d on Armv7E-M: the bodies of the pointwise and the depthwise kernel, with a mask and
 * without.
 *
 * Four output channels are computed at a time: their weights, put together from the constant and
 * its trained part, are widened to int16 in scratch once and serve all pixels. SXTAB16 widens four
 * inputs and subtracts their zero point in two instructions, so that taps outside of the map add
 * nothing and no sum of weights is needed.
 */
#ifndef EC_DSP_TRAINED_H
#define EC_DSP_TRAINED_H

#include "ec_conv.h"
#include "ec_dsp.h"
#include "ec_requant.h"
#include "ec_train_s8.h"
#include "ec_trained_weight.h"

/* ec_dsp_trained_dot: sums of one pixel with four rows of widened weights up to `end`, which are
 * for each four inputs the even ones of the four rows, then the odd ones. */
#include EC_DSP_INNER(trained)

/* -zero in both halfwords, what SXTAB16 adds. */
static inline uint32_t ec_dsp_minus(int32_t zero)
{
    return ((uint32_t)-zero & 0xffffu) * 0x10001u;
}

/* Out of line, so that the inner loops have all registers. */
#define EC_DSP_APART static __attribute__((noinline))

/* What the sums of one output channel are requantised with. */
typedef struct ec_dsp_channel {
    int32_t bias;
    int32_t multiplier;
    int32_t rounding; /* (2 * zero_out + 1) << n */
    int32_t n;        /* shift - 33 */
} ec_dsp_channel;

/* Where four output channels go, `count` of which exist; y and mask (or NULL) begin at the first
 * channel of the map. */
typedef struct ec_dsp_outputs {
    ec_dsp_channel channel[4];
    int8_t *y;
    uint8_t *mask;
    int32_t count;
    int32_t plain; /* 1: four channels with shifts from 33 to 55, clamped to int8 alone */
    int32_t zero_out;
    int32_t act_min;
    int32_t act_max;
} ec_dsp_outputs;

/* What does not change from one four to the next, and the bits of the mask cleared. */
static inline void ec_dsp_outputs_begin(const ec_trained_conv2d_params *p, int8_t *y, uint8_t *mask,
                                        ec_dsp_outputs *to)
{
    to->y = y;
    to->mask = mask;
    to->zero_out = p->zero_out;
    to->act_min = p->act_min;
    to->act_max = p->act_max;
    if (mask != NULL) {
        int32_t size = p->batch * p->out_h * p->out_w * p->out_c;
        memset(mask, 0, (size_t)((size + 7) / 8));
    }
}

/* The four channels from the first of the constants on, `left` of them at most. */
static inline void ec_dsp_outputs_next(ec_dsp_outputs *to, const int32_t *bias,
                                       const int32_t *multiplier, const uint8_t *shift,
                                       int32_t left)
{
    to->count = left < 4 ? left : 4;
    to->plain = left >= 4 && to->act_min == -128 && to->act_max == 127;
    for (int32_t k = 0; k < to->count; k++) {
        int32_t n = shift[k] - 33;
        uint32_t rounding = (uint32_t)(2 * to->zero_out + 1) << (n & 31);
        const ec_dsp_channel made = {bias[k], multiplier[k], (int32_t)rounding, n};
        to->channel[k] = made;
        to->plain &= n >= 0 && n <= 22;
    }
}

/* Sets the bits of the mask of the outputs from y[at] on. */
static inline void ec_dsp_outputs_mark(const ec_dsp_outputs *to, int32_t at, uint32_t inside)
{
    if (to->mask != NULL) {
        uint8_t *byte = to->mask + (at >> 3);
        inside <<= at & 7;
        byte[0] = (uint8_t)(byte[0] | inside);
        if (inside > 0xffu) {
            byte[1] = (uint8_t)(byte[1] | inside >> 8);
        }
    }
}

/* The same as ec_dsp_outputs_put for any count, shift and clamp. */
EC_DSP_APART void ec_dsp_outputs_put_any(const ec_dsp_outputs *to, const int32_t *acc, int32_t at)
{
    uint32_t word = 0;
    uint32_t inside = 0;
    for (int32_t k = 0; k < to->count; k++) {
        const ec_dsp_channel *c = &to->channel[k];
        int32_t sum = ec_dsp_qadd(acc[k], c->bias);
        int32_t value = ec_requantize(sum, c->multiplier, c->n + 33) + to->zero_out;
        int32_t clamped = ec_clamp(value, to->act_min, to->act_max);
        word |= ((uint32_t)clamped & 0xffu) << (8 * k);
        inside |= (uint32_t)(clamped == value) << k;
    }
    ec_dsp_store_part(to->y + at, word, to->count);
    ec_dsp_outputs_mark(to, at, inside);
}

/* Output `k` of four that are plain, in the low byte; sets its bit of `inside`. For n from 0 to 22
 * zero + floor((a m + 2^(s-1)) / 2^s) = ((hi32(a m) + ((2 zero + 1) << n)) >> n) >> 1. */
static inline uint32_t ec_dsp_outputs_one(const ec_dsp_outputs *to, const int32_t *acc, int32_t k,
                                          uint32_t *inside)
{
    const ec_dsp_channel *c = &to->channel[k];
    int32_t sum = ec_dsp_qadd(acc[k], c->bias);
    int32_t value = ec_dsp_smmla(sum, c->multiplier, c->rounding) >> c->n >> 1;
    int32_t clamped = ec_dsp_saturate(value);
    if (clamped == value) {
        *inside |= 1u << k;
    }
    return (uint32_t)clamped & 0xffu;
}

/* Requantises acc[0..3] to y[at..at + count) and sets the bits of the mask. */
EC_DSP_APART void ec_dsp_outputs_put(const ec_dsp_outputs *to, const int32_t *acc, int32_t at)
{
    if (to->plain == 0) {
        ec_dsp_outputs_put_any(to, acc, at);
        return;
    }
    uint32_t inside = 0;
    uint32_t word = ec_dsp_outputs_one(to, acc, 0, &inside);
    word |= ec_dsp_outputs_one(to, acc, 1, &inside) << 8;
    word |= ec_dsp_outputs_one(to, acc, 2, &inside) << 16;
    word |= ec_dsp_outputs_one(to, acc, 3, &inside) << 24;
    ec_dsp_store(to->y + at, word);
    ec_dsp_outputs_mark(to, at, inside);
}

/* Sums of the inputs beyond the last whole four, added to acc. */
static inline void ec_dsp_trained_rest(int32_t *acc, const int8_t *x, const uint32_t *w,
                                       int32_t rest, uint32_t minus)
{
    uint32_t word = ec_dsp_load_part(x, rest);
    uint32_t even = ec_dsp_add_even(minus, word);
    uint32_t odd = ec_dsp_add_odd(minus, word);
    for (int32_t k = 0; k < 4; k++) {
        acc[k] = ec_dsp_smlad(odd, w[4 + k], ec_dsp_smlad(even, w[k], acc[k]));
    }
}

/* Four rows of weights widened, zeros up to a whole word. */
static inline void ec_dsp_trained_widen(uint32_t *to, const int8_t *const rows[4], int32_t inputs)
{
    const int8_t *w0 = rows[0];
    const int8_t *w1 = rows[1];
    const int8_t *w2 = rows[2];
    const int8_t *w3 = rows[3];
    const int8_t *end = w0 + (inputs & ~3);
    int32_t rest = inputs & 3;
    for (; w0 != end; w0 += 4, w1 += 4, w2 += 4, w3 += 4, to += 8) {
        uint32_t word0 = ec_dsp_load(w0);
        uint32_t word1 = ec_dsp_load(w1);
        uint32_t word2 = ec_dsp_load(w2);
        uint32_t word3 = ec_dsp_load(w3);
        to[0] = ec_dsp_even(word0);
        to[1] = ec_dsp_even(word1);
        to[2] = ec_dsp_even(word2);
        to[3] = ec_dsp_even(word3);
        to[4] = ec_dsp_odd(word0);
        to[5] = ec_dsp_odd(word1);
        to[6] = ec_dsp_odd(word2);
        to[7] = ec_dsp_odd(word3);
    }
    for (int32_t k = 0; rest != 0 && k < 4; k++) {
        uint32_t word = ec_dsp_load_part(rows[k] + inputs - rest, rest);
        to[k] = ec_dsp_even(word);
        to[4 + k] = ec_dsp_odd(word);
    }
}

/* 1x1 kernel, one group, no padding. scratch: 32 * ceil(C / 4) bytes, 4 * C more where columns are
 * trained apart; aligned to 4. */
static inline void ec_dsp_trained_pointwise(const ec_trained_conv2d_params *p, const int8_t *x,
                                            const int8_t *w, const int32_t *bias,
                                            const int32_t *idx, const int8_t *slice,
                                            const int32_t *multiplier, const uint8_t *shift,
                                            int8_t *y, uint8_t *mask, void *scratch)
{
    uint32_t *wide = scratch;
    int32_t inputs = p->in_c;
    int8_t *spare = (int8_t *)(wide + 8 * ((inputs + 3) >> 2));
    const ec_trained_weight weight = {w, idx, slice, 1, inputs, p->trained, 0};
    uint32_t minus = ec_dsp_minus(p->zero_in);
    const uint32_t *end = wide + 8 * (inputs >> 2);
    int32_t rest = inputs & 3;
    ec_dsp_outputs to;
    ec_dsp_outputs_begin(p, y, mask, &to);
    for (int32_t o = 0; o < p->out_c; o += 4) {
        ec_dsp_outputs_next(&to, bias + o, multiplier + o, shift + o, p->out_c - o);
        const int8_t *rows[4];
        for (int32_t k = 0; k < 4; k++) { /* what stands beyond the last is computed for nothing */
            int32_t of = o + (k < to.count ? k : 0);
            rows[k] = ec_trained_taps(&weight, of, 0, 1, spare + k * inputs);
        }
        ec_dsp_trained_widen(wide, rows, inputs);
        int32_t at = o;
        for (int32_t n = 0; n < p->batch; n++) {
            for (int32_t i = 0; i < p->out_h; i++) {
                const int8_t *in = x + (n * p->in_h + i * p->stride_h) * p->in_w * inputs;
                for (int32_t j = 0; j < p->out_w; j++) {
                    int32_t acc[4];
                    ec_dsp_trained_dot(acc, in, wide, end, minus);
                    if (rest != 0) {
                        ec_dsp_trained_rest(acc, in + inputs - rest, end, rest, minus);
                    }
                    ec_dsp_outputs_put(&to, acc, at);
                    at += p->out_c;
                    in += p->stride_w * inputs;
                }
            }
        }
    }
}

/* Weights of `count` channels from o on, widened: for each tap channels 0 and 2, then 1 and 3. */
static inline void ec_dsp_trained_taps(const ec_trained_weight *weight, int32_t o, int32_t count,
                                       uint32_t *to, int8_t *row)
{
    for (int32_t k = 0; k < 4; k++) {
        const int8_t *w = k < count ? ec_trained_taps(weight, o + k, 0, weight->taps, row) : NULL;
        for (int32_t t = 0; t < weight->taps; t++) {
            ec_dsp_store_half(to, 4 * t + (k & 1) * 2 + (k >> 1), w != NULL ? w[t] : 0);
        }
    }
}

/* A window: `rows` times `taps` taps inside of the map, and the steps from one to the next. */
typedef struct ec_dsp_window {
    const uint32_t *w; /* first weight, as ec_dsp_trained_taps leaves it */
    int32_t rows;
    int32_t taps;
    int32_t step;     /* bytes of x from tap to tap */
    int32_t step_row; /* from row to row */
    int32_t w_row;    /* words of w from row to row */
    uint32_t minus;
} ec_dsp_window;

/* Sums of four channels from x on. */
EC_DSP_APART void ec_dsp_trained_window(const ec_dsp_window *run, const int8_t *x, int32_t *acc)
{
    int32_t a0 = 0;
    int32_t a1 = 0;
    int32_t a2 = 0;
    int32_t a3 = 0;
    const uint32_t *w = run->w;
    uint32_t minus = run->minus;
    int32_t step = run->step;
    for (int32_t r = run->rows; r > 0; r--) {
        const int8_t *in = x;
        const uint32_t *tap = w;
        for (int32_t s = run->taps; s > 0; s--) {
            uint32_t word = ec_dsp_load(in);
            uint32_t even = ec_dsp_add_even(minus, word);
            uint32_t odd = ec_dsp_add_odd(minus, word);
            in += step;
            a0 = ec_dsp_smlabb(even, tap[0], a0);
            a1 = ec_dsp_smlabb(odd, tap[1], a1);
            a2 = ec_dsp_smlatt(even, tap[0], a2);
            a3 = ec_dsp_smlatt(odd, tap[1], a3);
            tap += 2;
        }
        x += run->step_row;
        w += run->w_row;
    }
    acc[0] = a0;
    acc[1] = a1;
    acc[2] = a2;
    acc[3] = a3;
}

/* The same of `count` < 4 channels. */
EC_DSP_APART void ec_dsp_trained_window_part(const ec_dsp_window *run, const int8_t *x,
                                             int32_t count, int32_t *acc)
{
    memset(acc, 0, 4 * sizeof *acc);
    for (int32_t r = 0; r < run->rows; r++) {
        for (int32_t s = 0; s < run->taps; s++) {
            const uint32_t *tap = run->w + r * run->w_row + 2 * s;
            uint32_t word = ec_dsp_load_part(x + r * run->step_row + s * run->step, count);
            uint32_t even = ec_dsp_add_even(run->minus, word);
            acc[0] = ec_dsp_smlabb(even, tap[0], acc[0]);
            acc[1] = ec_dsp_smlabb(ec_dsp_add_odd(run->minus, word), tap[1], acc[1]);
            acc[2] = ec_dsp_smlatt(even, tap[0], acc[2]);
        }
    }
}

/* As ec_taps_inside, without loops where the taps are neighbours. */
static inline ec_taps ec_dsp_taps(int32_t start, int32_t size, int32_t kernel, int32_t dilation)
{
    if (dilation != 1) {
        return ec_taps_inside(start, size, kernel, dilation);
    }
    ec_taps taps = {start < 0 ? -start : 0, size - start < kernel ? size - start : kernel};
    if (taps.first >= taps.end) {
        taps.first = 0;
        taps.end = 0;
    }
    return taps;
}

/* groups == C == O. scratch: 9 * R * S bytes, aligned to 4. */
static inline void ec_dsp_trained_depthwise(const ec_trained_conv2d_params *p, const int8_t *x,
                                            const int8_t *w, const int32_t *bias,
                                            const int32_t *idx, const int8_t *slice,
                                            const int32_t *multiplier, const uint8_t *shift,
                                            int8_t *y, uint8_t *mask, void *scratch)
{
    uint32_t *wide = scratch;
    const ec_trained_weight weight = {w, idx, slice, p->kernel_h * p->kernel_w, 1, p->trained, 1};
    ec_dsp_window run = {wide,
                         0,
                         0,
                         p->dilation_w * p->in_c,
                         p->dilation_h * p->in_w * p->in_c,
                         2 * p->kernel_w,
                         ec_dsp_minus(p->zero_in)};
    int8_t *spare = (int8_t *)(wide + 2 * weight.taps);
    ec_dsp_outputs to;
    ec_dsp_outputs_begin(p, y, mask, &to);
    for (int32_t o = 0; o < p->out_c; o += 4) {
        ec_dsp_outputs_next(&to, bias + o, multiplier + o, shift + o, p->out_c - o);
        ec_dsp_trained_taps(&weight, o, to.count, wide, spare);
        const int8_t *image = x + o;
        int32_t at = o;
        for (int32_t n = 0; n < p->batch; n++) {
            for (int32_t i = 0; i < p->out_h; i++) {
                int32_t top = i * p->stride_h - p->pad_top;
                ec_taps rows = ec_taps_inside(top, p->in_h, p->kernel_h, p->dilation_h);
                int32_t row = top + rows.first * p->dilation_h;
                run.rows = rows.end - rows.first;
                for (int32_t j = 0; j < p->out_w; j++) {
                    int32_t left = j * p->stride_w - p->pad_left;
                    int32_t acc[4];
                    ec_taps columns = ec_dsp_taps(left, p->in_w, p->kernel_w, p->dilation_w);
                    int32_t column = left + columns.first * p->dilation_w;
                    run.w = wide + 2 * (rows.first * p->kernel_w + columns.first);
                    run.taps = columns.end - columns.first;
                    const int8_t *in = image + (row * p->in_w + column) * p->in_c;
                    if (to.count == 4) {
                        ec_dsp_trained_window(&run, in, acc);
                    } else {
                        ec_dsp_trained_window_part(&run, in, to.count, acc);
                    }
                    ec_dsp_outputs_put(&to, acc, at);
                    at += p->out_c;
                }
            }
            image += p->in_h * p->in_w * p->in_c;
        }
    }
}

#endif
