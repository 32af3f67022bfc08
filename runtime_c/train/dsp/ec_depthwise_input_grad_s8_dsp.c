/* Gradient of trained_conv2d of one output a channel to its input, a pair, any kernel, stride and
 * padding, no dilation, no part of w trained apart, Armv7E-M DSP.
 *
 *   acc[n,y,x,c] = eff[c] * sum over r, s of h[n,p,q,c] * w[c,r,s],   h = q where its mask is 1
 *
 * for the p, q with y = p * stride_h - pad_top + r, x likewise. Arithmetic, layouts and arguments
 * as in ec_trained_conv2d_input_grad_s8; acc is rounded in block floating point (ec_gradient.h).
 * The rows of q that a row of dx needs stand masked in a ring of `block` rows.
 * scratch: 4 * C + block * Q * C bytes, aligned to 4. Equals input_grad of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M7 (mps2-an500), GCC 12.2 -O2, 2026-11, by benchmarks/train_kernels.py,
 * instructions per MAC here against the portable kernel: 7.9 against 37 (3x3, 8x8x144), 4.7
 * against 31 (5x5, 8x8x160), 5.6 against 28 (7x7 stride 2, 8x8x240).
 */
#include "ec_dsp_grad_window.h"
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

/* One channel of a pixel of dx; h: column and channel in row 0 of the ring. */
static int32_t ec_input_grad_one(const ec_dsp_grad_taps *run, const int8_t *h, const int8_t *w,
                                 int32_t eff)
{
    int32_t sum = 0;
    int32_t slot = run->slot;
    for (int32_t r = 0; r < run->rows; r++) {
        const int8_t *in = h + slot * run->row_bytes;
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

/* acc of all channels of one pixel; h: its first tap's column in row 0 of the ring. */
static void ec_input_grad_pixel(const ec_dsp_grad_taps *run, const int8_t *h, const int8_t *w,
                                const int16_t *eff, int32_t channels, int32_t *acc)
{
    if (run->rows == 0 || run->taps == 0) {
        memset(acc, 0, sizeof *acc * (size_t)channels);
        return;
    }
    int32_t c = 0;
    for (; c + 4 <= channels; c += 4, acc += 4, eff += 4, w += 4 * run->channel) {
        ec_dsp_grad_window(run, h + c, w, acc);
        acc[0] *= eff[0];
        acc[1] *= eff[1];
        acc[2] *= eff[2];
        acc[3] *= eff[3];
    }
    for (; c < channels; c++, w += run->channel) {
        *acc++ = ec_input_grad_one(run, h + c, w, *eff++);
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
    ec_dsp_grad_taps run = {p->block,
                            0,
                            0,
                            0,
                            row_bytes,
                            channels,
                            p->stride_w,
                            p->stride_h * p->kernel_w,
                            p->kernel_h * p->kernel_w};
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
                const int8_t *first = w + rows.tap * p->kernel_w + columns.tap;
                ec_input_grad_pixel(&run, h + columns.from * channels, first, eff, channels, acc);
                ec_block_float_put(&to, acc, channels);
            }
        }
    }
    *exponent = *e + p->exponent + to.shift;
}
