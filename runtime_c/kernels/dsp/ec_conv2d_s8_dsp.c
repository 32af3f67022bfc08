/* conv2d, int8, Armv7E-M DSP: any kernel, stride, dilation and padding, one group.
 *
 *   acc[p,q,o] = bias[o] + sum_{r,s,c} X[p,q,r,s,c] * w[o,r,s,c]
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * X is x[p * stride_h - pad_top + r * dilation_h, ..., c], or zero_in outside of the map.
 * x int8[ring_0][W][C], y int8[ring_y][Q][O], any alignment; w is the stream "dsp_o4" of
 * ec_dsp_gemm.h over K = R * S * C, aligned to 4, which also holds bias, multiplier and shift. The
 * windows of two pixels are widened to int16 and multiplied with four output channels at a time. A
 * kernel row of S * C bytes is widened where it stands, if it lies inside of the map and is whole
 * words; else it is gathered first.
 * scratch, aligned to 4: 16 * ceil(K / 4) bytes for the vectors, 8 * R for links to rows, and to
 * gather 2 * S * C bytes where S * C is whole words, else 8 * ceil(K / 4).
 * Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py and ec_conv2d_s8.
 * Measured on QEMU Cortex-M4 (mps2-an386), GCC 12.2 -O2, 2026-11, instructions per MAC here
 * against ec_conv2d_s8: 3x3, 0.88 against 5.7 (16x16x32 to 32), 2.1 against
 * 14.2 (96x96x3 to 8, stride 2).
 */
#include "ec_dsp_gemm.h"
#include "ec_dsp_kernels.h"
#include "ec_requant.h"

/* Rows of the window of one pixel and its first column. */
typedef struct ec_conv2d_dsp_pixel {
    const ec_dsp_link *rows; /* kernel_h links from x to input rows, NULL outside of the map */
    int32_t left;
    int8_t *out;
} ec_conv2d_dsp_pixel;

/* Copies `count` bytes: words, then the last word again where it ends. A loop, because most runs
 * are shorter than a call of memcpy is long. */
static inline void ec_conv2d_s8_dsp_copy(int8_t *to, const int8_t *from, int32_t count)
{
    if (count < 4) {
        for (int32_t i = 0; i < count; i++) {
            to[i] = from[i];
        }
        return;
    }
    const int8_t *end = from + count - 4;
    uint32_t last = ec_dsp_load(end);
    ec_dsp_store(to + count - 4, last);
    for (; from < end; from += 4, to += 4) {
        ec_dsp_store(to, ec_dsp_load(from));
    }
}

/* One kernel row at `to` where it touches the padding or is dilated. */
static void ec_conv2d_s8_dsp_border(const ec_conv2d_params *p, const int8_t *row, int32_t left,
                                    int8_t *to)
{
    int32_t channels = p->in_c;
    int32_t run = p->kernel_w * channels;
    uint32_t outside = ec_dsp_splat(p->zero_in);
    int32_t i = 0;
    for (; i + 4 <= run; i += 4) {
        ec_dsp_store(to + i, outside);
    }
    ec_dsp_store_part(to + i, outside, run - i);
    if (row == NULL) {
        return;
    }
    ec_taps inside = ec_taps_inside(left, p->in_w, p->kernel_w, p->dilation_w);
    const int8_t *from = row + (left + inside.first * p->dilation_w) * channels;
    to += inside.first * channels;
    if (p->dilation_w == 1) {
        ec_conv2d_s8_dsp_copy(to, from, (inside.end - inside.first) * channels);
        return;
    }
    for (int32_t s = inside.first; s < inside.end; s++) {
        ec_conv2d_s8_dsp_copy(to, from, channels);
        to += channels;
        from += p->dilation_w * channels;
    }
}

/* Whether all columns of the window stand side by side in the map. */
static inline int ec_conv2d_s8_dsp_inside(const ec_conv2d_params *p, int32_t left)
{
    return left >= 0 && left + p->kernel_w <= p->in_w && p->dilation_w == 1;
}

/* Kernel row r of a pixel: where it stands in the map, or gathered at `to`. */
static inline const int8_t *ec_conv2d_s8_dsp_run(const ec_conv2d_params *p, const int8_t *x,
                                                 const ec_conv2d_dsp_pixel *pixel, int32_t r,
                                                 int8_t *to)
{
    const int8_t *row = ec_dsp_follow(x, pixel->rows[r]);
    if (row != NULL && ec_conv2d_s8_dsp_inside(p, pixel->left)) {
        return row + pixel->left * p->in_c;
    }
    ec_conv2d_s8_dsp_border(p, row, pixel->left, to);
    return to;
}

/* The bytes of the window of one pixel, kernel row after kernel row, at `to`. */
static void ec_conv2d_s8_dsp_gather(const ec_conv2d_params *p, const int8_t *x,
                                    const ec_conv2d_dsp_pixel *pixel, int32_t run, int8_t *to)
{
    const ec_dsp_link *rows = pixel->rows;
    const ec_dsp_link *end = rows + p->kernel_h;
    int32_t offset = pixel->left * p->in_c;
    int inside = ec_conv2d_s8_dsp_inside(p, pixel->left);
    for (; rows < end; rows++, to += run) {
        const int8_t *row = ec_dsp_follow(x, *rows);
        if (inside && row != NULL) {
            ec_conv2d_s8_dsp_copy(to, row + offset, run);
        } else {
            ec_conv2d_s8_dsp_border(p, row, pixel->left, to);
        }
    }
}

/* The widened windows of two pixels at `vectors`; `bytes` is room to gather. */
static inline void ec_conv2d_s8_dsp_windows(const ec_conv2d_params *p, const int8_t *x,
                                            const ec_conv2d_dsp_pixel *pixels, int32_t words,
                                            uint32_t *vectors, int8_t *bytes)
{
    int32_t run = p->kernel_w * p->in_c;
    if ((run & 3) == 0) {
        for (int32_t r = 0; r < p->kernel_h; r++) {
            const int8_t *a = ec_conv2d_s8_dsp_run(p, x, pixels, r, bytes);
            const int8_t *b = ec_conv2d_s8_dsp_run(p, x, pixels + 1, r, bytes + run);
            ec_dsp_widen2(vectors, a, b, run >> 2);
            vectors += run;
        }
        return;
    }
    ec_conv2d_s8_dsp_gather(p, x, pixels, run, bytes);
    ec_conv2d_s8_dsp_gather(p, x, pixels + 1, run, bytes + 4 * words);
    ec_dsp_widen2(vectors, bytes, bytes + 4 * words, words);
}

void ec_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                      const uint32_t *w, int8_t *y, void *scratch)
{
    int32_t words = ec_dsp_words(p->kernel_h * p->kernel_w * p->in_c);
    uint32_t *vectors = scratch;
    ec_dsp_link *rows = (ec_dsp_link *)(void *)(vectors + 4 * words); /* of two rows, by parity */
    int8_t *bytes = (int8_t *)(rows + 2 * p->kernel_h);
    ec_conv2d_dsp_pixel pixels[2];
    int32_t held = 0;
    for (int32_t row = row0; row < row1; row++) {
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        ec_dsp_link *taps = rows + (row & 1) * p->kernel_h;
        for (int32_t r = 0; r < p->kernel_h; r++) {
            int32_t from = row * p->stride_h - p->pad_top + r * p->dilation_h;
            int inside = from >= 0 && from < p->in_h;
            const int8_t *tap =
                inside ? x + ec_ring_row(from, p->ring_0) * p->in_w * p->in_c : NULL;
            taps[r] = ec_dsp_link_to(x, tap);
        }
        int32_t left = -p->pad_left;
        for (int32_t column = 0; column < p->out_w;
             column++, left += p->stride_w, line += p->out_c) {
            pixels[held] = (ec_conv2d_dsp_pixel){taps, left, line};
            held ^= 1;
            if (held != 0) {
                if (row + 1 < row1 || column + 1 < p->out_w) {
                    continue;
                }
                pixels[1] = pixels[0]; /* the last of an odd number of pixels is computed twice */
            }
            ec_conv2d_s8_dsp_windows(p, x, pixels, words, vectors, bytes);
            ec_dsp_outputs_2(vectors, words, w, p->zero_out, p->out_c, pixels[0].out,
                             pixels[1].out);
        }
    }
    for (int32_t row = row0; row < row1; row++) {
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        ec_dsp_clamp(line, p->out_w * p->out_c, p->act_min, p->act_max);
    }
}
