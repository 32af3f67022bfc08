/*
 * Transposed conv2d, int8: any groups, stride, dilation and padding.
 *
 *   acc[p,q,o] = bias[o] + sum_{r,s,c} (x[h,v,c] - zero_in) * w[o,r,s,c]
 *                over the taps with h stride_h + r dilation_h = p + pad_top, and so for q, v, s
 *   y[p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * x int8[N][H][W][C]; w in layout "s8_transposed": int8[R][S][ceil(G/4)][O][4], G = C / groups, zeros beyond G; channel
 * int32[O][4] (ec_requant.cuh, bias not folded: how many taps reach an output differs from output to output); y
 * int8[N][P][Q][O]. WORDS: G is a multiple of 4 and x's pixels are aligned to 4; else x is read byte by byte.
 * A thread makes one output, o fastest. Grid: blocks of 128 threads over outputs. No scratch.
 * One rounding. Equals conv_transpose2d.quant of edgec/ops/conv.py.
 */
#include "ec_conv2d_s8_params.h"
#include "ec_cuda.cuh"
#include "ec_requant.cuh"

/* Input row of a tap, -1 where it reaches none. */
__device__ __forceinline__ int ec_transposed_row(int at, int stride, int size)
{
    const int row = at / stride;
    return at >= 0 && row * stride == at && row < size ? row : -1;
}

template <bool WORDS, bool HIGH, typename EPILOGUE = ec_no_epilogue>
__device__ __forceinline__ void ec_conv_transpose2d_s8_body(const ec_conv_transpose2d_s8_params &p, const void *input,
                                                            const void *weights, const void *channel, void *output,
                                                            const EPILOGUE &epilogue = EPILOGUE())
{
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= p.batch * p.out_h * p.out_w * p.out_c) {
        return;
    }
    const int o = index % p.out_c, pixel = index / p.out_c;
    const int column = pixel % p.out_w, line = pixel / p.out_w, row = line % p.out_h, image = line / p.out_h;
    const int depth = p.in_c / p.groups, words = (depth + 3) / 4, group = o / (p.out_c / p.groups);
    const int8_t *const x = static_cast<const int8_t *>(input) + (size_t)image * p.in_h * p.in_w * p.in_c +
                            group * depth;
    int32_t acc = 0, sum = 0;
    for (int r = 0; r < p.kernel_h; r++) {
        const int h = ec_transposed_row(row + p.pad_top - r * p.dilation_h, p.stride_h, p.in_h);
        for (int s = 0; h >= 0 && s < p.kernel_w; s++) {
            const int v = ec_transposed_row(column + p.pad_left - s * p.dilation_w, p.stride_w, p.in_w);
            if (v < 0) {
                continue;
            }
            const int8_t *const from = x + (size_t)(h * p.in_w + v) * p.in_c;
            const int32_t *const w =
                static_cast<const int32_t *>(weights) + (size_t)(r * p.kernel_w + s) * words * p.out_c + o;
            for (int i = 0; i < words; i++) {
                int32_t piece = 0;
                if (WORDS) {
                    piece = *reinterpret_cast<const int32_t *>(from + 4 * i);
                } else {
#pragma unroll
                    for (int b = 0; b < 4; b++) {
                        piece |= 4 * i + b < depth ? (int32_t)((uint32_t)(uint8_t)from[4 * i + b] << (8 * b)) : 0;
                    }
                }
                const int32_t word = __ldg(w + (size_t)i * p.out_c);
                acc = __dp4a(piece, word, acc);
                sum = __dp4a(word, 0x01010101, sum);
            }
        }
    }
    const int4 constants = __ldg(static_cast<const int4 *>(channel) + o);
    int32_t v[1] = {
        ec_clamp(ec_requantize_channel<HIGH>(acc - p.zero_in * sum, constants), p.act_min, p.act_max)};
    epilogue.template apply_s8<1>(v, (size_t)index, o);
    static_cast<int8_t *>(output)[index] = (int8_t)v[0];
}
