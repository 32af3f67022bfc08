/* Depthwise conv2d with a 3x3 kernel, int8, Armv7E-M DSP: stride 1 or 2 across and 1 to 3 down, any
 * padding, no dilation, one output channel for each input channel.
 *
 *   acc[p,q,c] = bias[c] + sum_{r,s} X[p,q,r,s,c] * w[c,r,s]
 *   y[p,q,c]   = clamp(zero_out + requantize(acc, multiplier[c], shift[c]), act_min, act_max)
 *
 * X is x[p * stride_h - pad_top + r, q * stride_w - pad_left + s, c], or zero_in outside.
 * x int8[ring_0][W][C], y int8[ring_y][Q][C], any alignment; w is uint32[C][5] (layout
 * "dsp_dw3x3"), aligned to 4: bias, multiplier, then the bytes w0 w3 w1 w4, n w6 w2 w7, 0 0 w5 w8
 * of w0..w8 = w[c,0,0]..w[c,2,2], so that SXTB16 gives pairs; n = shift - 33 in 0..22
 * (ec_dsp_gemm.h explains n).
 *
 * Four channels at a time, a ring of three input rows is transposed into planes of int16. A plane
 * holds column pairs (2j, 2j + 1), for each the three rows of the ring: one LDM loads what both
 * outputs of a pair need of a column pair. The weights' rows are stored 0 1 2 0 1, so that any
 * rotation of the ring finds them in its order. Each input row is read once, before an output row
 * of its number is written: y may be x where the shapes are equal, stride 1, rows 0 to P in one call.
 * scratch, aligned to 4: 288 + 48 * pairs bytes, pairs = (Q + 1) / 2 + 1 at stride 1, Q + 1 at
 * stride 2.
 * Single rounding (ec_requant.h). Equals conv2d.quant of edgec/ops/conv2d.py and
 * ec_depthwise_conv2d_s8.
 * Measured on QEMU Cortex-M4 (mps2-an386), GCC 12.2 -O2, 2026-11, instructions per MAC here
 * against ec_depthwise_conv2d_s8: 2.0 against 13.8 (24x24x32), 3.1 against
 * 13.9 (the same at stride 2).
 */
#include "ec_dsp_kernels.h"
#define EC_DSP_PLANE_STEP 3
#include "ec_dsp_planes.h"
#include "ec_requant.h"

/* One channel; the assembly reads at the offsets written here, from `multiplier` on. Links are from
 * the channel itself. */
typedef struct ec_dw3x3_channel {
    uint32_t w[5][2];   /* -40: rows 0 1 2 0 1 of (w1 << 16 | w0), (w2 << 16 | w1) */
    int32_t multiplier; /* 0 */
    int32_t n;          /* 4 */
    int32_t rounding;   /* 8: (2 zero_out + 1) << n */
    int32_t bias;       /* 12 */
    int32_t step;       /* 16: C, the distance of two pixels of y */
    ec_dsp_link end;    /* 20: of the column pairs at which full blocks of two outputs begin */
    ec_dsp_link x;      /* 24: the plane */
    int32_t odd;        /* 28: a last single output follows */
} ec_dw3x3_channel;     /* 72 bytes */

#include EC_DSP_INNER(depthwise3x3)

/* Unpacks the constants of one channel. */
static inline void ec_dw3x3_prepare(const ec_conv2d_params *p, const uint32_t *packed,
                                    ec_dw3x3_channel *channel)
{
    uint32_t a = ec_dsp_even(packed[2]); /* w0, w1 */
    uint32_t b = ec_dsp_odd(packed[2]);  /* w3, w4 */
    uint32_t c = ec_dsp_odd(packed[3]);  /* w6, w7 */
    channel->w[0][0] = channel->w[3][0] = a;
    channel->w[1][0] = channel->w[4][0] = b;
    channel->w[2][0] = c;
    channel->w[0][1] = channel->w[3][1] = ec_dsp_high(a, ec_dsp_even(packed[3])); /* w1, w2 */
    channel->w[1][1] = channel->w[4][1] = ec_dsp_high(b, ec_dsp_even(packed[4])); /* w4, w5 */
    channel->w[2][1] = ec_dsp_high(c, ec_dsp_odd(packed[4]));                     /* w7, w8 */
    channel->bias = (int32_t)packed[0];
    channel->multiplier = (int32_t)packed[1];
    channel->n = (int32_t)(packed[3] & 0xffu);
    channel->rounding = (int32_t)((uint32_t)(2 * p->zero_out + 1) << channel->n);
}

/* All rows of up to four channels, the first of which x, w and y point to. */
static void ec_dw3x3_channels(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                              const int8_t *x, const uint32_t *w, int8_t *y, int32_t channels,
                              ec_dw3x3_channel *channel)
{
    int32_t pairs = p->stride_w == 2 ? p->out_w + 1 : ((p->out_w + 1) >> 1) + 1;
    ec_dsp_planes planes;
    ec_dsp_planes_begin(p, &planes, (uint32_t *)(channel + 4), pairs, 3, 1);
    for (int32_t c = 0; c < channels; c++) {
        ec_dw3x3_prepare(p, w + 5 * c, channel + c);
        channel[c].step = p->out_c;
        const uint32_t *plane = planes.first + c * planes.words;
        channel[c].x = ec_dsp_link_to(channel + c, plane);
        channel[c].end = ec_dsp_link_to(channel + c, plane + 3 * p->stride_w * (p->out_w >> 1));
        channel[c].odd = p->out_w & 1;
    }
    int32_t next = row0 * p->stride_h - p->pad_top;
    int32_t slot = 0; /* of the row `next`; row row0 begins at slot 0 */
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * p->stride_h - p->pad_top;
        for (; next < top + 3; next++) {
            const int8_t *from = NULL;
            if (next >= 0 && next < p->in_h) {
                from = x + ec_ring_row(next, p->ring_0) * p->in_w * p->in_c;
            }
            ec_dsp_planes_row(p, from, channels, &planes, planes.first + slot);
            slot = slot == 2 ? 0 : slot + 1;
        }
        int32_t rotation = slot == 0 ? 0 : 3 - slot; /* the next slot to fill holds the top row */
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        if (p->stride_w == 2) {
            ec_dw3x3_row_2(channel, line, 8 * rotation - 40, channels);
        } else {
            ec_dw3x3_row_1(channel, line, 8 * rotation - 40, channels);
        }
    }
}

void ec_depthwise3x3_conv2d_s8_dsp(const ec_conv2d_params *p, int32_t row0, int32_t row1,
                                   const int8_t *x, const uint32_t *w, int8_t *y, void *scratch)
{
    for (int32_t c = 0; c < p->in_c; c += 4) {
        int32_t channels = p->in_c - c < 4 ? p->in_c - c : 4;
        ec_dw3x3_channels(p, row0, row1, x + c, w + 5 * c, y + c, channels, scratch);
    }
    for (int32_t row = row0; row < row1; row++) {
        int8_t *line = y + ec_ring_row(row, p->ring_y) * p->out_w * p->out_c;
        ec_dsp_clamp(line, p->out_w * p->out_c, p->act_min, p->act_max);
    }
}
