/*
 * linear, and conv2d of a 1x1 kernel, int8, of a few rows: weights are read once, as they stand, and nothing is staged.
 *
 *   acc[m,o] = bias[o] + sum_k x[m,k] w[o,k],   y[m,o] = clamp(zero_out + requantize(acc, multiplier[o], shift[o]),
 *                                                            act_min, act_max)
 *
 * x int8[rows][K], w int8[O][K], channel int32[O][4] (ec_requant.cuh, bias folded with zero_in), y int8[rows][O]; x and
 * w aligned to 16 bytes. VEC divides K: bytes of one load, 16, 4 or 1. Each warp makes OUTPUTS outputs of ROWS rows, k
 * spread over its lanes; dp4a, sums exact in int32. Weights of the first steps are fetched before the previous kernel
 * has finished.
 * Grid: (O / (OUTPUTS * warps), rows / ROWS, 1). No scratch.
 *
 * One rounding. Equals linear.quant of edgec/ops/linear.py and conv2d.quant of edgec/ops/conv2d.py.
 *
 * Measured on an H200, 2026-11-21, repeated in a graph: 2048 to 1000, one row: 1.4 us (bound 0.43 us by bytes).
 */
#include "ec_conv2d_s8_params.h"
#include "ec_cuda.cuh"
#include "ec_requant.cuh"

/* VEC bytes as words, the last filled with zeros. */
template <int VEC> struct ec_piece_s8 {
    static constexpr int WORDS = VEC < 4 ? 1 : VEC / 4;
    uint32_t at[WORDS];

    __device__ __forceinline__ void load(const int8_t *from, bool real)
    {
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            at[i] = 0;
        }
        if (real) {
            if constexpr (VEC == 16) {
                const uint4 v = *reinterpret_cast<const uint4 *>(from);
                at[0] = v.x;
                at[1] = v.y;
                at[2] = v.z;
                at[3] = v.w;
            } else if constexpr (VEC == 4) {
                at[0] = *reinterpret_cast<const uint32_t *>(from);
            } else {
                at[0] = (uint8_t)*from;
            }
        }
    }

    __device__ __forceinline__ int32_t dot(const ec_piece_s8 &other, int32_t sum) const
    {
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            sum = __dp4a((int32_t)at[i], (int32_t)other.at[i], sum);
        }
        return sum;
    }
};

template <int VEC, int OUTPUTS, int ROWS, int WARPS, bool HIGH, typename EPILOGUE = ec_no_epilogue>
__device__ __forceinline__ void ec_gemv_s8_body(const ec_gemv_s8_params &p, const void *input, const void *weights,
                                                const void *channel, void *output,
                                                const EPILOGUE &epilogue = EPILOGUE())
{
    constexpr int AHEAD = VEC == 16 ? 4 : 2; /* steps of weights that are fetched at once */
    const int8_t *const x = static_cast<const int8_t *>(input), *const w = static_cast<const int8_t *>(weights);
    const int lane = threadIdx.x % 32, output0 = (blockIdx.x * WARPS + threadIdx.x / 32) * OUTPUTS;
    const int row0 = blockIdx.y * ROWS;
    ec_launch_next();
    ec_piece_s8<VEC> held[AHEAD][OUTPUTS];
    int32_t acc[ROWS][OUTPUTS] = {};
    bool first = true;
    for (int start = 0; start < p.in_c; start += 32 * VEC * AHEAD) {
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            const int k = start + (a * 32 + lane) * VEC;
#pragma unroll
            for (int o = 0; o < OUTPUTS; o++) {
                const bool real = k < p.in_c && output0 + o < p.out_c;
                held[a][o].load(w + (size_t)(output0 + o) * p.in_c + k, real);
            }
        }
        if (first) {
            ec_wait_previous();
            first = false;
        }
#pragma unroll
        for (int a = 0; a < AHEAD; a++) {
            const int k = start + (a * 32 + lane) * VEC;
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                ec_piece_s8<VEC> piece;
                piece.load(x + (size_t)(row0 + m) * p.in_c + k, k < p.in_c && row0 + m < p.rows);
#pragma unroll
                for (int o = 0; o < OUTPUTS; o++) {
                    acc[m][o] = piece.dot(held[a][o], acc[m][o]);
                }
            }
        }
    }
    int8_t *const y = static_cast<int8_t *>(output);
#pragma unroll
    for (int m = 0; m < ROWS; m++) {
#pragma unroll
        for (int o = 0; o < OUTPUTS; o++) {
            const int32_t sum = __reduce_add_sync(0xffffffffu, acc[m][o]);
            const int column = output0 + o, row = row0 + m;
            if (lane == m * OUTPUTS + o && row < p.rows && column < p.out_c) {
                const int4 c = __ldg(static_cast<const int4 *>(channel) + column);
                int32_t v[1] = {ec_clamp(ec_requantize_channel<HIGH>(sum, c), p.act_min, p.act_max)};
                const size_t at = (size_t)row * p.out_c + column;
                epilogue.template apply_s8<1>(v, at, column);
                y[at] = (int8_t)v[0];
            }
        }
    }
}
