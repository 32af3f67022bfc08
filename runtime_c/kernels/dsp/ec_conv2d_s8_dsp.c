/* conv2d, int8, Armv7E-M DSP: any kernel, stride, dilation and padding, one group.
 *
 *   acc[p,q,o] = bias[o] + sum_{r,s,c} X[p,q,r,s,c] * w[o,r,s,c]
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * X is x[p * stride_h - pad_top + r * dilation_h, ..., c], or zero_in outside of the map. x int8[ring_0][W][C],
 * y int8[ring_y][Q][O], any alignment; w is the stream "dsp_o4" of ec_dsp_gemm.h over K = R * S * C, aligned to 4,
 * which also holds bias, multiplier and shift. The windows of two pixels are widened to int16 and multiplied with
 * four output channels at a time. scratch: 20 * ceil(K / 4) bytes, aligned to 4: two widened windows and the bytes
 * of one. Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py and ec_conv2d_s8.
 */
#include "ec_conv.h"
#include "ec_dsp_gemm.h"
#include "ec_requant.h"

/* Copies `count` bytes; a loop, because most runs are shorter than a call of memcpy is long. */
static inline int8_t *ec_conv2d_s8_dsp_copy(int8_t *to, const int8_t *from, int32_t count)
{
    for (; count >= 4; count -= 4, to += 4, from += 4) {
        ec_dsp_store(to, ec_dsp_load(from));
    }
    for (; count > 0; count--) {
        *to++ = *from++;
    }
    return to;
}

static inline int8_t *ec_conv2d_s8_dsp_fill(int8_t *to, int32_t value, int32_t count)
{
    uint32_t word = ec_dsp_splat(value);
    for (; count >= 4; count -= 4, to += 4) {
        ec_dsp_store(to, word);
    }
    for (; count > 0; count--) {
        *to++ = (int8_t)value;
    }
    return to;
}

/* Row `row` of the input; NULL outside of the map. */
static inline const int8_t *ec_conv2d_s8_dsp_row(const ec_conv2d_params *p, const int8_t *x, int32_t row)
{
    if (row < 0 || row >= p->in_h) {
        return NULL;
    }
    return x + ec_ring_row(row, p->ring_0) * p->in_w * p->in_c;
}

/* The window's bytes in the order r, s, c at `bytes`, padding filled in. */
static void ec_conv2d_s8_dsp_gather(const ec_conv2d_params *p, const int8_t *x, int32_t top, int32_t left,
                                    int8_t *bytes)
{
    int32_t channels = p->in_c;
    int32_t run = p->kernel_w * channels;
    ec_taps inside = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
    for (int32_t r = 0; r < p->kernel_h; r++) {
        const int8_t *from = ec_conv2d_s8_dsp_row(p, x, top + r * p->dilation_h);
        if (from == NULL) {
            bytes = ec_conv2d_s8_dsp_fill(bytes, p->zero_in, run);
            continue;
        }
        bytes = ec_conv2d_s8_dsp_fill(bytes, p->zero_in, inside.first * channels);
        from += (left + inside.first * p->dilation_w) * channels;
        if (p->dilation_w == 1) {
            bytes = ec_conv2d_s8_dsp_copy(bytes, from, (inside.end - inside.first) * channels);
        } else {
            for (int32_t s = inside.first; s < inside.end; s++, from += p->dilation_w * channels) {
                bytes = ec_conv2d_s8_dsp_copy(bytes, from, channels);
            }
        }
        bytes = ec_conv2d_s8_dsp_fill(bytes, p->zero_in, (p->kernel_w - inside.end) * channels);
    }
}

/* The widened window of one pixel at to[0], to[2], ...; `bytes` is room for it as it stands in x. */
static void ec_conv2d_s8_dsp_window(const ec_conv2d_params *p, const int8_t *x, int32_t row, int32_t column,
                                    uint32_t *to, int8_t *bytes)
{
    int32_t top = row * p->stride_h - p->pad_top;
    int32_t left = column * p->stride_w - p->pad_left;
    int32_t run = p->kernel_w * p->in_c;
    if ((run & 3) != 0 || p->dilation_w != 1 || left < 0 || left + p->kernel_w > p->in_w) {
        ec_conv2d_s8_dsp_gather(p, x, top, left, bytes);
        ec_dsp_widen(to, bytes, ec_dsp_words(p->kernel_h * run), 2);
        return;
    }
    for (int32_t r = 0; r < p->kernel_h; r++) {
        const int8_t *from = ec_conv2d_s8_dsp_row(p, x, top + r * p->dilation_h);
        if (from != NULL) {
            to = ec_dsp_widen(to, from + left * p->in_c, run >> 2, 2);
        } else {
            uint32_t zero = ec_dsp_even(ec_dsp_splat(p->zero_in));
            for (int32_t i = 0; i < run >> 1; i++, to += 2) {
                *to = zero;
            }
        }
    }
}

void ec_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x, const uint32_t *w,
                      int8_t *y, void *scratch)
{
    int32_t words = ec_dsp_words(p->kernel_h * p->kernel_w * p->in_c);
    uint32_t *vectors = scratch;
    int8_t *bytes = (int8_t *)(vectors + 4 * words);
    ec_dsp_store(bytes + 4 * words - 4, 0);
    int8_t *out[2] = {y, y};
    int32_t held = 0;
    for (int32_t row = row0; row < row1; row++) {
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        for (int32_t column = 0; column < p->out_w; column++, line += p->out_c) {
            out[held] = line;
            ec_conv2d_s8_dsp_window(p, x, row, column, vectors + held, bytes);
            held ^= 1;
            if (held != 0) {
                if (row + 1 < row1 || column + 1 < p->out_w) {
                    continue;
                }
                out[1] = line; /* the last of an odd number of pixels is computed twice */
                for (int32_t i = 0; i < 4 * words; i += 2) {
                    vectors[i + 1] = vectors[i];
                }
            }
            ec_dsp_outputs_2(vectors, words, w, p->zero_out, p->out_c, out[0], out[1]);
        }
    }
    for (int32_t row = row0; row < row1; row++) {
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        ec_dsp_clamp(line, p->out_w * p->out_c, p->act_min, p->act_max);
    }
}
