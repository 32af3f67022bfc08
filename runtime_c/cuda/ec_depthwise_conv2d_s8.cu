/*
 * Depthwise conv2d, int8: one output a channel, groups == C.
 *
 *   acc[p,q,c] = bias[c] + sum_{r,s} x[n, p stride_h - pad_top + r dilation_h, q stride_w - pad_left + s dilation_w, c]
 *                                    * w[c,r,s]
 *   y[p,q,c]   = clamp(zero_out + requantize(acc, multiplier[c], shift[c]), act_min, act_max)
 *
 * x int8[N][H][W][C], y int8[N][P][Q][C], channel int32[C][4] (ec_requant.cuh, bias folded with zero_in); taps outside
 * of the map read zero_in, so that they contribute exactly zero.
 *
 * ec_depthwise_s8_body: C a multiple of 4, dilation 1, R x S and the stride across in the template. A thread makes 4
 * channels of COLUMNS outputs of a row. It turns four rows of a column around in registers, so that one dp4a takes
 * four taps of a column; a turned column serves all outputs that read it. w in layout "s8_columns":
 * uint32[C/4][S][ceil(R/4)] [4], word j of column s holds taps 4 i .. 4 i + 3 of channel j, zeros beyond R.
 * ec_depthwise_plain_s8_body: any C, kernel and dilation; w int8[R][S][C]; a thread makes one output. Grid: threads
 * over channels (fastest), strips of a row, rows, images. No scratch.
 *
 * One rounding; sums exact in int32. Equals conv2d.quant of edgec/ops/conv2d.py.
 *
 * Measured on an H200, 2026-11-21, repeated in a graph: 3x3 over 14x14x576 1.7 us, 7x7x960 1.4, 112x112x32 2.9 with 2
 * and 3.1 with 4 outputs a thread (bounds 0.05, 0.02 and 0.17 us by bytes): what a launch takes, not what it moves.
 */
#include "ec_conv2d_s8_params.h"
#include "ec_cuda.cuh"
#include "ec_requant.cuh"

/* Four rows of four channels as four columns of four taps. */
__device__ __forceinline__ void ec_turn_bytes(uint32_t (&out)[4], const uint32_t (&in)[4])
{
    const uint32_t a = __byte_perm(in[0], in[1], 0x5140), b = __byte_perm(in[2], in[3], 0x5140);
    const uint32_t c = __byte_perm(in[0], in[1], 0x7362), d = __byte_perm(in[2], in[3], 0x7362);
    out[0] = __byte_perm(a, b, 0x5410);
    out[1] = __byte_perm(a, b, 0x7632);
    out[2] = __byte_perm(c, d, 0x5410);
    out[3] = __byte_perm(c, d, 0x7632);
}

template <int R, int S, int STRIDE, int COLUMNS, bool HIGH, typename EPILOGUE = ec_no_epilogue>
__device__ __forceinline__ void ec_depthwise_s8_body(const ec_depthwise_s8_params &p, const void *input, const void *w,
                                                     const void *channel, void *output,
                                                     const EPILOGUE &epilogue = EPILOGUE())
{
    constexpr int WORDS = (R + 3) / 4, WIDTH = (COLUMNS - 1) * STRIDE + S;
    const int words = p.channels / 4, total = words * p.strips * p.out_h * p.batch;
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    const bool real = index < total;
    index = real ? index : 0;
    const int word = index % words, rest = index / words;
    const int strip = rest % p.strips, line = rest / p.strips, row = line % p.out_h, image = line / p.out_h;
    int32_t taps[S][WORDS][4];
    ec_launch_next();
#pragma unroll
    for (int s = 0; s < S; s++) {
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            const int4 v = __ldg(static_cast<const int4 *>(w) + (word * S + s) * WORDS + i);
            taps[s][i][0] = v.x;
            taps[s][i][1] = v.y;
            taps[s][i][2] = v.z;
            taps[s][i][3] = v.w;
        }
    }
    ec_wait_previous();
    if (!real) {
        return;
    }
    const int top = row * p.stride_h - p.pad_top, left = strip * COLUMNS * STRIDE - p.pad_left;
    const uint32_t zeros = 0x01010101u * (uint8_t)p.zero_in;
    const uint32_t *const x = static_cast<const uint32_t *>(input) + (size_t)image * p.in_h * p.in_w * words + word;
    int32_t acc[COLUMNS][4] = {};
#pragma unroll
    for (int column = 0; column < WIDTH; column++) {
        const int v = left + column;
        uint32_t in[4 * WORDS];
#pragma unroll
        for (int r = 0; r < 4 * WORDS; r++) {
            const int h = top + r;
            const bool inside = r < R && (uint32_t)h < (uint32_t)p.in_h && (uint32_t)v < (uint32_t)p.in_w;
            in[r] = r >= R ? 0 : inside ? x[(h * p.in_w + v) * words] : zeros;
        }
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            const uint32_t lines[4] = {in[4 * i], in[4 * i + 1], in[4 * i + 2], in[4 * i + 3]};
            uint32_t turned[4];
            ec_turn_bytes(turned, lines);
#pragma unroll
            for (int q = 0; q < COLUMNS; q++) {
                const int s = column - q * STRIDE;
                if (s >= 0 && s < S) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        acc[q][j] = __dp4a((int32_t)turned[j], taps[s][i][j], acc[q][j]);
                    }
                }
            }
        }
    }
    int4 constants[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        constants[j] = __ldg(static_cast<const int4 *>(channel) + word * 4 + j);
    }
#pragma unroll
    for (int q = 0; q < COLUMNS; q++) {
        const int column = strip * COLUMNS + q;
        if (column < p.out_w) {
            int32_t v[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                v[j] = ec_clamp(ec_requantize_channel<HIGH>(acc[q][j], constants[j]), p.act_min, p.act_max);
            }
            const size_t at = ((size_t)line * p.out_w + column) * p.channels + word * 4;
            epilogue.template apply_s8<4>(v, at, word * 4);
            ec_store_s8<4>(static_cast<int8_t *>(output) + at, v);
        }
    }
}

template <bool HIGH, typename EPILOGUE = ec_no_epilogue>
__device__ __forceinline__ void ec_depthwise_plain_s8_body(const ec_depthwise_s8_params &p, const void *input,
                                                           const void *weights, const void *channel, void *output,
                                                           const EPILOGUE &epilogue = EPILOGUE())
{
    const int8_t *const w = static_cast<const int8_t *>(weights);
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    ec_wait_previous();
    ec_launch_next();
    if (index >= p.batch * p.out_h * p.out_w * p.channels) {
        return;
    }
    const int c = index % p.channels, pixel = index / p.channels;
    const int column = pixel % p.out_w, line = pixel / p.out_w, row = line % p.out_h, image = line / p.out_h;
    const int8_t *const x = static_cast<const int8_t *>(input) + (size_t)image * p.in_h * p.in_w * p.channels + c;
    int32_t acc = 0;
    for (int r = 0; r < p.kernel_h; r++) {
        const int h = row * p.stride_h - p.pad_top + r * p.dilation_h;
        for (int s = 0; s < p.kernel_w; s++) {
            const int v = column * p.stride_w - p.pad_left + s * p.dilation_w;
            const bool inside = (uint32_t)h < (uint32_t)p.in_h && (uint32_t)v < (uint32_t)p.in_w;
            const int32_t value = inside ? x[(h * p.in_w + v) * p.channels] : p.zero_in;
            acc += value * w[(r * p.kernel_w + s) * p.channels + c];
        }
    }
    const int4 constants = __ldg(static_cast<const int4 *>(channel) + c);
    int32_t v[1] = {ec_clamp(ec_requantize_channel<HIGH>(acc, constants), p.act_min, p.act_max)};
    epilogue.template apply_s8<1>(v, (size_t)index, c);
    static_cast<int8_t *>(output)[index] = (int8_t)v[0];
}
