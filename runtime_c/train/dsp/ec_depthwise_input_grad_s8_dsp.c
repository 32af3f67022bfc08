/* Gradient of trained_conv2d of one output a channel to its input, a pair, any kernel, stride and
 * padding, no dilation, no part of w trained apart, Armv7E-M DSP.
 *
 *   acc[n,y,x,c] = eff[c] * sum over r, s of h[n,p,q,c] * w[c,r,s],   h = q where its mask is 1
 *
 * for the p, q with y = p * stride_h - pad_top + r, x likewise. Arithmetic, layouts and arguments as
 * in ec_trained_conv2d_input_grad_s8; acc is rounded in block floating point (ec_gradient.h). The
 * rows of q that a row of dx needs stand masked in a ring of `block` rows.
 * scratch: 4 * C + block * Q * C bytes, aligned to 4. Equals input_grad of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per MAC here against the portable kernel: 10 against 37 (3x3, 8x8x144), 6.1
 * against 31 (5x5, 8x8x160), 7.3 against 28 (7x7 stride 2, 8x8x240).
 */
#include "ec_dsp.h"
#include "ec_gradient.h"
#include "ec_train_s8.h"

/* The taps of one axis that reach a position, and the output position of the first of them; every
 * next one, stride taps on, lies one position before. */
typedef struct ec_reaching {
    int32_t tap;
    int32_t count;
    int32_t from;
} ec_reaching;

/* `at`: position in dx plus padding; `size`: output positions. */
static ec_reaching ec_taps_from(int32_t at, int32_t size, int32_t kernel, int32_t stride)
{
    int32_t from = at / stride;
    from = from < size ? from : size - 1;
    int32_t tap = at - from * stride;
    ec_reaching found = {tap, 0, from};
    if (tap < kernel) {
        int32_t more = (kernel - 1 - tap) / stride;
        found.count = (more < from ? more : from) + 1;
    }
    return found;
}

/* Taps of one pixel of dx. h: masked rows, row r at r % ring. */
typedef struct ec_input_grad_window {
    const int8_t *h; /* first column of row 0 of the ring */
    int32_t ring;
    int32_t slot; /* of the first row */
    int32_t rows;
    int32_t taps;
    int32_t row_bytes;
    int32_t step;   /* bytes of h from a tap back to the next */
    int32_t w_step; /* weights from tap to tap */
    int32_t w_row;
    int32_t channel; /* weights from channel to channel */
} ec_input_grad_window;

/* acc[k] = eff[k] * the sums of four channels; c: the first of them; w at its first tap. */
static __attribute__((noinline)) void ec_input_grad_four(const ec_input_grad_window *run,
                                                         int32_t c, const int8_t *w,
                                                         const int16_t *eff, int32_t *acc)
{
    int32_t a0 = 0;
    int32_t a1 = 0;
    int32_t a2 = 0;
    int32_t a3 = 0;
    int32_t slot = run->slot;
    const int8_t *w2 = w + 2 * run->channel;
    int32_t channel = run->channel;
    for (int32_t r = run->rows; r > 0; r--) {
        const int8_t *in = run->h + slot * run->row_bytes + c;
        const int8_t *tap = w;
        const int8_t *tap2 = w2;
        for (int32_t s = run->taps; s > 0; s--) {
            uint32_t word = ec_dsp_load(in);
            uint32_t even = ec_dsp_even(word);
            uint32_t odd = ec_dsp_odd(word);
            a0 = ec_dsp_smlabb(even, (uint32_t)tap[0], a0);
            a1 = ec_dsp_smlabb(odd, (uint32_t)tap[channel], a1);
            a2 = ec_dsp_smlatb(even, (uint32_t)tap2[0], a2);
            a3 = ec_dsp_smlatb(odd, (uint32_t)tap2[channel], a3);
            in -= run->step;
            tap += run->w_step;
            tap2 += run->w_step;
        }
        w += run->w_row;
        w2 += run->w_row;
        slot = (slot == 0 ? run->ring : slot) - 1;
    }
    acc[0] = a0 * eff[0];
    acc[1] = a1 * eff[1];
    acc[2] = a2 * eff[2];
    acc[3] = a3 * eff[3];
}

/* The same of one channel. */
static int32_t ec_input_grad_one(const ec_input_grad_window *run, int32_t c, const int8_t *w,
                                 int32_t eff)
{
    int32_t sum = 0;
    int32_t slot = run->slot;
    for (int32_t r = 0; r < run->rows; r++) {
        const int8_t *in = run->h + slot * run->row_bytes + c;
        for (int32_t s = 0; s < run->taps; s++) {
            sum += in[-s * run->step] * w[r * run->w_row + s * run->w_step];
        }
        slot = (slot == 0 ? run->ring : slot) - 1;
    }
    return sum * eff;
}

/* A row of q with zeros where its mask is 0; `at`: its first element. */
static void ec_input_grad_masked(int8_t *to, const int8_t *q, const uint8_t *mask, int32_t at,
                                 int32_t count)
{
    int32_t i = 0;
    if ((at & 3) == 0) {
        for (; i + 4 <= count; i += 4, at += 4) {
            ec_dsp_store(to + i, ec_dsp_masked(q, mask, at));
        }
    }
    for (; i < count; i++, at++) {
        to[i] = (int8_t)(q[at] & -ec_mask_bit(mask, at));
    }
}

/* acc of all channels of one pixel. */
static void ec_input_grad_pixel(const ec_input_grad_window *run, const int8_t *w,
                                const int16_t *eff, int32_t channels, int32_t *acc)
{
    if (run->rows == 0 || run->taps == 0) {
        memset(acc, 0, sizeof *acc * (size_t)channels);
        return;
    }
    int32_t c = 0;
    for (; c + 4 <= channels; c += 4) {
        ec_input_grad_four(run, c, w + c * run->channel, eff + c, acc + c);
    }
    for (; c < channels; c++) {
        acc[c] = ec_input_grad_one(run, c, w + c * run->channel, eff[c]);
    }
}

void ec_depthwise_input_grad_s8_dsp(const ec_input_grad_params *p, const int8_t *q,
                                    const int32_t *e, const uint8_t *mask, const int8_t *w,
                                    const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                    int8_t *dx, int32_t *exponent, void *scratch)
{
    (void)idx;
    (void)slice;
    int32_t channels = p->in_c;
    int32_t row_bytes = p->out_w * channels;
    int32_t *acc = scratch;
    int8_t *h = (int8_t *)(acc + channels);
    ec_block_float to = {dx, dx, 0};
    ec_input_grad_window run = {h,         p->block,    0, 0, 0, row_bytes, channels,
                                p->stride_w, p->stride_h * p->kernel_w, p->kernel_h * p->kernel_w};
    for (int32_t n = 0; n < p->batch; n++) {
        int32_t made = 0;
        for (int32_t y = 0; y < p->in_h; y++) {
            ec_reaching rows = ec_taps_from(y + p->pad_top, p->out_h, p->kernel_h, p->stride_h);
            for (; rows.count > 0 && made <= rows.from; made++) {
                ec_input_grad_masked(h + made % p->block * row_bytes, q, mask,
                                     (n * p->out_h + made) * row_bytes, row_bytes);
            }
            run.rows = rows.count;
            run.slot = rows.from % p->block;
            for (int32_t x = 0; x < p->in_w; x++) {
                ec_reaching columns =
                    ec_taps_from(x + p->pad_left, p->out_w, p->kernel_w, p->stride_w);
                run.taps = columns.count;
                run.h = h + columns.from * channels;
                const int8_t *first = w + rows.tap * p->kernel_w + columns.tap;
                ec_input_grad_pixel(&run, first, eff, channels, acc);
                ec_block_float_put(&to, acc, channels);
            }
        }
    }
    *exponent = *e + p->exponent + to.shift;
}
