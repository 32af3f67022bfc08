/* Depthwise conv2d, int8, Armv7E-M DSP: any kernel, padding, stride across, and stride down to the
 * kernel's height; no dilation, one output channel for each input channel.
 *
 *   acc[p,q,c] = bias[c] + sum_{r,s} X[p,q,r,s,c] * w[c,r,s]
 *   y[p,q,c]   = clamp(zero_out + requantize(acc, multiplier[c], shift[c]), act_min, act_max)
 *
 * X is x[p * stride_h - pad_top + r, q * stride_w - pad_left + s, c], or zero_in outside.
 * x int8[ring_0][W][C], y int8[ring_y][Q][C], any alignment; w is
 * uint32[C][2 + ceil((1 + R S) / 4)] (layout "dsp_dw"), aligned to 4: bias, multiplier, then the
 * bytes n, w[0..R S - 1], zeros, with n = shift - 33 in 0..22 (ec_dsp_gemm.h explains n).
 *
 * Four channels at a time, a ring of R input rows is transposed into planes of int16; two taps an
 * instruction are summed, with S = 5, 6, 7, 8 and stride_w 1, 2 for four outputs of a channel at a
 * time. The weights' rows are repeated, so that any rotation of the ring finds them in its order.
 * Each input row is read once, before an output row of its number is written: y may be x where the
 * shapes are equal, stride 1, rows 0 to P in one call.
 * scratch, aligned to 4: 16 * R * pairs + 16 * (2 R - 1) * ceil(S / 2) bytes with
 * pairs = ((4 ceil(Q / 4) - 1) * stride_w + 2 ceil(S / 2) + 1) / 2.
 * Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py and
 * ec_depthwise_conv2d_s8.
 * Measured on QEMU Cortex-M4 (mps2-an386), GCC 12.2 -O2, 2026-11, instructions per MAC here
 * against ec_depthwise_conv2d_s8: 1.8 against 11.0 (5x5 on 20x20x48), 1.9
 * against 9.8 (7x7 on 10x10x96).
 */
#include "ec_dsp_kernels.h"
#define EC_DSP_PLANE_STEP 1
#include "ec_dsp_planes.h"
#include "ec_requant.h"

/* One channel; the assembly reads at the offsets written here. */
typedef struct ec_dw_channel {
    int32_t multiplier; /* 0 */
    int32_t n;          /* 4 */
    int32_t rounding;   /* 8 */
    int32_t bias;       /* 12 */
    const int8_t *x;    /* 16: its plane */
    const uint32_t *w;  /* 2 R - 1 rows of ceil(S / 2) words: rows 0 .. R - 1, 0 .. R - 2 */
} ec_dw_channel;

/* The row that is being made; all outputs of it read `rows` rows of `row_bytes`. */
typedef struct ec_dw_row {
    int32_t rows;      /* 0 */
    int32_t row_bytes; /* 4 */
    int32_t count;     /* 8: outputs */
    int32_t step;      /* 12: of y */
} ec_dw_row;

/* `count` outputs of one channel; w at the rotation. Named by ceil(S / 2) and stride. */
typedef void (*ec_dw_outputs)(const ec_dw_row *row, const ec_dw_channel *c, const uint32_t *w,
                              int8_t *y);

/* Any width and stride, one output at a time. */
static void ec_dw_outputs_any(const ec_dw_row *row, const ec_dw_channel *c, const uint32_t *w,
                              int8_t *y, int32_t halves, int32_t stride)
{
    const int8_t *x = c->x;
    for (int32_t i = 0; i < row->count; i++, x += 2 * stride, y += row->step) {
        int32_t acc = c->bias;
        const int8_t *in = x;
        const uint32_t *taps = w;
        for (int32_t r = row->rows; r > 0; r--, in += row->row_bytes) {
            for (int32_t h = 0; h < halves; h++) {
                acc = ec_dsp_smlad(ec_dsp_load(in + 4 * h), *taps++, acc);
            }
        }
        *y = (int8_t)ec_dsp_saturate(ec_dsp_smmla(acc, c->multiplier, c->rounding) >> c->n >> 1);
    }
}

#include EC_DSP_INNER(depthwise)

/* Unpacks the constants of one channel; its weights as pairs at `to`. */
static void ec_dw_prepare(const ec_conv2d_params *p, const uint32_t *packed, uint32_t *to,
                          ec_dw_channel *c)
{
    const int8_t *bytes = (const int8_t *)(packed + 2);
    c->w = to;
    c->bias = (int32_t)packed[0];
    c->multiplier = (int32_t)packed[1];
    c->n = bytes[0];
    c->rounding = (int32_t)((uint32_t)(2 * p->zero_out + 1) << bytes[0]);
    bytes++;
    int32_t halves = (p->kernel_w + 1) >> 1;
    int32_t words = p->kernel_h * halves;
    for (int32_t r = 0; r < p->kernel_h; r++, bytes += p->kernel_w) {
        for (int32_t s = 0; s < p->kernel_w; s += 2) {
            int32_t second = s + 1 < p->kernel_w ? bytes[s + 1] : 0;
            *to++ = ((uint32_t)bytes[s] & 0xffffu) | ((uint32_t)second << 16);
        }
    }
    memcpy(to, c->w, (size_t)(4 * (words - halves)));
}

/* One output row of `channels` channels from the planes, whose top row stands in slot `oldest`. */
static void ec_dw_make_row(const ec_conv2d_params *p, const ec_dw_channel *channel,
                           int32_t channels, const ec_dsp_planes *planes, int32_t oldest,
                           int8_t *line)
{
    int32_t halves = (p->kernel_w + 1) >> 1;
    const ec_dw_row row = {p->kernel_h, 4 * planes->pairs, p->out_w, p->out_c};
    int32_t rotation = oldest == 0 ? 0 : p->kernel_h - oldest;
    ec_dw_outputs outputs = ec_dw_choose(halves, p->stride_w);
    for (int32_t c = 0; c < channels; c++) {
        const uint32_t *w = channel[c].w + rotation * halves;
        if (outputs != NULL) {
            outputs(&row, channel + c, w, line + c);
        } else {
            ec_dw_outputs_any(&row, channel + c, w, line + c, halves, p->stride_w);
        }
    }
}

/* All rows of up to four channels, the first of which x, w and y point to. */
static void ec_dw_channels(const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                           const uint32_t *w, int8_t *y, int32_t channels, uint32_t *scratch)
{
    int32_t halves = (p->kernel_w + 1) >> 1;
    int32_t pairs = ((((p->out_w + 3) & ~3) - 1) * p->stride_w + 2 * halves + 1) >> 1;
    int32_t taps = (2 * p->kernel_h - 1) * halves;
    int32_t packed = 2 + ((p->kernel_h * p->kernel_w + 4) >> 2);
    ec_dsp_planes planes;
    ec_dsp_planes_begin(p, &planes, scratch + 4 * taps, pairs, p->kernel_h, pairs);
    ec_dw_channel channel[4];
    for (int32_t c = 0; c < channels; c++) {
        ec_dw_prepare(p, w + c * packed, scratch + c * taps, channel + c);
        channel[c].x = (const int8_t *)(planes.first + c * planes.words);
    }
    int32_t next = row0 * p->stride_h - p->pad_top;
    int32_t slot = 0; /* of the row `next` */
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * p->stride_h - p->pad_top;
        for (; next < top + p->kernel_h; next++) {
            const int8_t *from = NULL;
            if (next >= 0 && next < p->in_h) {
                from = x + ec_ring_row(next, p->ring_0) * p->in_w * p->in_c;
            }
            ec_dsp_planes_row(p, from, channels, &planes, planes.first + slot * pairs);
            slot = slot + 1 == p->kernel_h ? 0 : slot + 1;
        }
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        ec_dw_make_row(p, channel, channels, &planes, slot, line);
    }
}

void ec_depthwise_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                const int8_t *x, const uint32_t *w, int8_t *y, void *scratch)
{
    int32_t packed = 2 + ((p->kernel_h * p->kernel_w + 4) >> 2);
    for (int32_t c = 0; c < p->in_c; c += 4) {
        int32_t channels = p->in_c - c < 4 ? p->in_c - c : 4;
        ec_dw_channels(p, row0, row1, x + c, w + c * packed, y + c, channels, scratch);
    }
    for (int32_t row = row0; row < row1; row++) {
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        ec_dsp_clamp(line, p->out_w * p->out_c, p->act_min, p->act_max);
    }
}
