/* Gradient of trained_conv2d of one output a channel, at least 8 of them, to its input, a pair, any
 * kernel, stride and padding, no dilation, no part of w trained apart, MVE.
 *
 *   acc[n,y,x,c] = eff[c] * sum over r, s of h[n,p,q,c] * w[c,r,s],   h = q where its mask is 1
 *
 * for the p, q with y = p * stride_h - pad_top + r, x likewise. Arithmetic, layouts and arguments
 * as in ec_trained_conv2d_input_grad_s8; acc is rounded in block floating point (ec_gradient.h).
 * The weights are packed as int8[R * S][C]; the rows of q that a row of dx needs stand masked in a
 * ring of `block` rows. R * S at most 9000.
 * scratch: 4 * C + 4 * block + R * S * C + 8 + block * L bytes, L = Q * C brought to a multiple of
 * 16; aligned to 4. Equals input_grad of edgec/ops/train_conv.py.
 * Measured on QEMU Cortex-M55 (mps3-an547), GCC 12.2 -O2, 2026-11, by benchmarks/train_mve.py,
 * instructions per MAC of MCUNet-5FPS here against the DSP kernel: 1.6 against 5.1.
 */
#include "ec_mve_grad.h"
#include "ec_mve_window.h"

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

/* A row of dx; w: the weights of the first tap row that reaches it. */
static void ec_input_grad_row(const ec_input_grad_params *p, ec_mve_window *run, const int8_t *h,
                              const int8_t *w, const int16_t *eff, int32_t *acc,
                              ec_block_float *to)
{
    int32_t channels = p->in_c;
    for (int32_t x = 0; x < p->in_w; x++) {
        ec_reaching columns = ec_taps_from(x + p->pad_left, p->out_w, p->kernel_w, p->stride_w);
        const int8_t *tap = w + columns.tap * channels;
        const int8_t *in = h + columns.from * channels;
        run->taps = columns.count;
        for (int32_t c = 0; c < channels; c += EC_MVE_EIGHT) {
            int32_t from = ec_mve_eight_from(c, channels);
            ec_mve_window_scaled(run, in + from, tap + from, eff + from, acc + from);
        }
        ec_mve_put(to, acc, channels);
    }
}

void ec_depthwise_input_grad_s8_mve(const ec_input_grad_params *p, const int8_t *q,
                                    const int32_t *e, const uint8_t *mask, const int8_t *w,
                                    const int16_t *eff, const int32_t *idx, const int8_t *slice,
                                    int8_t *dx, int32_t *exponent, void *scratch)
{
    (void)idx;
    (void)slice;
    int32_t channels = p->in_c;
    int32_t taps = p->kernel_h * p->kernel_w;
    int32_t row_bytes = p->out_w * channels;
    int32_t pitch = ec_mve_whole(row_bytes, EC_MVE_BYTES);
    int32_t *acc = scratch;
    int32_t *rows = acc + channels;
    int8_t *h = (int8_t *)(rows + p->block);
    int8_t *packed = h + p->block * pitch;
    ec_block_float to = {dx, dx, 0};
    int32_t w_row = p->stride_h * p->kernel_w * channels;
    ec_mve_window run = {rows, 0, 0, -channels, p->stride_w * channels, w_row};
    for (int32_t t = 0; t < taps; t++) {
        ec_mve_column(packed + t * channels, EC_MVE_EIGHT, w + t, taps, channels);
    }
    for (int32_t n = 0; n < p->batch; n++) {
        int32_t made = 0;
        for (int32_t y = 0; y < p->in_h; y++) {
            ec_reaching reached = ec_taps_from(y + p->pad_top, p->out_h, p->kernel_h, p->stride_h);
            for (; reached.count > 0 && made <= reached.from; made++) {
                ec_mve_masked(h + made % p->block * pitch, q, mask,
                              (n * p->out_h + made) * row_bytes, row_bytes);
            }
            run.count = reached.count;
            for (int32_t r = 0; r < reached.count; r++) {
                rows[r] = (reached.from - r) % p->block * pitch;
            }
            const int8_t *first = packed + reached.tap * p->kernel_w * channels;
            ec_input_grad_row(p, &run, h, first, eff, acc, &to);
        }
    }
    *exponent = *e + p->exponent + to.shift;
}
