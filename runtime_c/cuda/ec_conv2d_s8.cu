/*
 * conv2d and linear, int8, as a product of gathered rows and packed weights on tensor cores.
 *
 *   acc[m,o] = bias[o] + sum_{r,s,c} x[n, p stride_h - pad_top + r dilation_h, q stride_w - pad_left + s dilation_w, c]
 *                                    * w[o,r,s,c]                                            m = (n, p, q)
 *   y[m,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * x int8[N][H][W][C]; w in layout "s8_mma" (ec_tile_s8.cuh), zeros beyond k and beyond the outputs; channel int32[O][4]
 * (ec_requant.cuh), its bias folded: bias[o] - zero_in * sum w; padding: 16 bytes of zero_in, which taps outside of the
 * map read, so that they contribute exactly zero; y int8[N][P][Q][O]. x and y aligned to 16 bytes.
 *
 * A block makes BM rows by BN outputs of one group and one split of k, in steps of BK; VEC: bytes of one copy, which
 * divide C and the channels of a group (1: any number of channels, through registers). TAPS is false where the kernel is
 * 1x1 without padding. OUT: 8 where the outputs of a group are a multiple of 8, else 1. Weights are fetched before the
 * previous kernel has finished.
 * Grid: (rows / BM, outputs of a group / BN, groups * splits). Shared memory: STAGES * (BM + BN) * BK bytes.
 * Scratch, where splits > 1: 4 bytes a sum and split; counters: one a tile.
 *
 * One rounding; sums exact in int32. Equals conv2d.quant of edgec/ops/conv2d.py and linear.quant of edgec/ops/linear.py.
 */
#include "ec_conv2d_s8_params.h"
#include "ec_tile_s8.cuh"

/* The rows of a tile that a thread copies: always the same BYTES of each step, of ROWS rows. */
template <int BM, int BK, int THREADS, int VEC, bool TAPS> struct ec_rows_s8 {
    static constexpr int PIECE = VEC == 1 ? 16 : VEC; /* bytes of a row that a thread writes */
    static constexpr int PIECES = BK / PIECE, STEP = THREADS / PIECES, ROWS = BM / STEP;
    static_assert(THREADS % PIECES == 0 && BM % STEP == 0, "a thread keeps its place in the rows");

    int32_t base[ROWS];   /* of the window's first tap in x; may be before it */
    int32_t corner[ROWS]; /* its row and column, 16 bits each */
    int32_t k, c, s, r;   /* where this thread's piece of the coming step lies */

    __device__ __forceinline__ void begin(const ec_conv2d_s8_params &p, int first_row, int first_k, int group)
    {
        k = first_k + threadIdx.x % PIECES * PIECE;
        const int tap = TAPS ? k / p.group_in : 0;
        c = TAPS ? k - tap * p.group_in : k;
        r = TAPS ? tap / p.kernel_w : 0;
        s = TAPS ? tap - r * p.kernel_w : 0;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            int m = first_row + threadIdx.x / PIECES + i * STEP;
            m = m < p.rows ? m : 0;
            const int column = m % p.out_w, line = m / p.out_w, image = line / p.out_h;
            const int h = (line - image * p.out_h) * p.stride_h - p.pad_top, v = column * p.stride_w - p.pad_left;
            base[i] = ((image * p.in_h + h) * p.in_w + v) * p.in_c + group * p.group_in;
            corner[i] = (h << 16) | (v & 0xffff);
        }
    }

    __device__ __forceinline__ bool inside(const ec_conv2d_s8_params &p, int i, int below, int right) const
    {
        const int h = (corner[i] >> 16) + below, v = (int16_t)(corner[i] & 0xffff) + right;
        return (uint32_t)h < (uint32_t)p.in_h && (uint32_t)v < (uint32_t)p.in_w;
    }

    /* Copies this thread's pieces of one step to the tile at `to`, then moves on to the next step. */
    __device__ __forceinline__ void copy(const ec_conv2d_s8_params &p, uint8_t *to, const int8_t *x,
                                         const int8_t *padding)
    {
        const int piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
        if constexpr (VEC == 1) {
            gather(p, to, x, padding, row, piece);
        } else {
            const int below = r * p.dilation_h, right = s * p.dilation_w;
            const int offset = TAPS ? (below * p.in_w + right) * p.in_c + c : c;
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                const bool real = k < p.k && (!TAPS || inside(p, i, below, right));
                const int8_t *from = real ? x + (base[i] + offset) : padding;
                const uint32_t at = ec_swizzle<BK>(row + i * STEP, piece * PIECE / 16) + piece * PIECE % 16;
                ec_copy_async<PIECE>((uint32_t)__cvta_generic_to_shared(to + at), from);
            }
            c += BK;
            if (TAPS) {
                while (c >= p.group_in) {
                    c -= p.group_in;
                    s++;
                    if (s == p.kernel_w) {
                        s = 0;
                        r++;
                    }
                }
            }
        }
        k += BK;
    }

    /* The same where channels divide into no vectors: 16 elements, one by one. */
    __device__ __forceinline__ void gather(const ec_conv2d_s8_params &p, uint8_t *to, const int8_t *x,
                                           const int8_t *padding, int row, int piece)
    {
        const int pad = *padding;
        uint32_t words[ROWS][4];
        const int tap = TAPS ? k / p.group_in : 0;
        int channel = TAPS ? k - tap * p.group_in : k, line = TAPS ? tap / p.kernel_w : 0;
        int column = TAPS ? tap - line * p.kernel_w : 0;
#pragma unroll
        for (int b = 0; b < 16; b++) {
            const int below = line * p.dilation_h, right = column * p.dilation_w;
            const int offset = (below * p.in_w + right) * p.in_c + channel;
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                const bool real = k + b < p.k && (!TAPS || inside(p, i, below, right));
                const uint32_t value = (uint8_t)(real ? x[base[i] + offset] : pad);
                words[i][b / 4] = b % 4 == 0 ? value : words[i][b / 4] | value << (8 * (b % 4));
            }
            channel++;
            if (TAPS && channel == p.group_in) {
                channel = 0;
                column++;
                if (column == p.kernel_w) {
                    column = 0;
                    line++;
                }
            }
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            *reinterpret_cast<uint4 *>(to + ec_swizzle<BK>(row + i * STEP, piece)) =
                make_uint4(words[i][0], words[i][1], words[i][2], words[i][3]);
        }
    }
};

/* Requantises, clamps and stores 8 consecutive outputs from `column` of the group on. */
template <bool HIGH, int OUT, typename EPILOGUE>
__device__ __forceinline__ void ec_conv2d_s8_store(const ec_conv2d_s8_params &p, const int32_t (&sums)[8], int row,
                                                   int column, int group, const int4 *channel, int8_t *y,
                                                   const EPILOGUE &epilogue)
{
    const int first = group * p.group_out + column;
    const size_t at = (size_t)row * p.out_c + first;
#pragma unroll
    for (int part = 0; part < 8 / OUT; part++) {
        if (column + part * OUT >= p.group_out) {
            break;
        }
        int32_t v[OUT];
#pragma unroll
        for (int i = 0; i < OUT; i++) {
            const int32_t value = ec_requantize_channel<HIGH>(sums[part * OUT + i], channel[part * OUT + i]);
            v[i] = ec_clamp(value, p.act_min, p.act_max);
        }
        epilogue.template apply_s8<OUT>(v, at + part * OUT, first + part * OUT);
        ec_store_s8<OUT>(y + at + part * OUT, v);
    }
}

template <int BM, int BN, int BK, int WARPS_M, int WARPS_N, int WARPS_K, int STAGES, int VEC, bool TAPS, bool HIGH,
          int OUT, typename EPILOGUE = ec_no_epilogue>
__device__ __forceinline__ void ec_conv2d_s8_body(const ec_conv2d_s8_params &p, const void *input, const void *w,
                                                  const void *channel, const void *padding, void *output, void *scratch,
                                                  void *counters, const EPILOGUE &epilogue = EPILOGUE())
{
    constexpr int MI = BM / WARPS_M / 16, NB = BN / WARPS_N / 32, SLICE = 32 * WARPS_M * WARPS_N;
    constexpr int THREADS = SLICE * WARPS_K, COUNT = MI * NB * 16, TILE = BM * BK, STAGE = (BM + BN) * BK;
    extern __shared__ __align__(128) uint8_t ec_shared[];
    const int8_t *const x = static_cast<const int8_t *>(input), *const pad = static_cast<const int8_t *>(padding);
    const int group = blockIdx.z / p.splits, split = blockIdx.z - group * p.splits;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int warp_m = warp % WARPS_M, warp_n = warp / WARPS_M % WARPS_N, warp_k = warp / (WARPS_M * WARPS_N);
    const int all = (p.k + BK - 1) / BK, first = split * p.steps, steps = min(all - first, p.steps);
    const int block = group * p.n_blocks + blockIdx.y * (BN / 32);
    const uint8_t *weights =
        static_cast<const uint8_t *>(w) + ((size_t)block * p.k_blocks + first * (BK / 32)) * EC_WEIGHT_BLOCK;
    const uint32_t shared = (uint32_t)__cvta_generic_to_shared(ec_shared);

    ec_launch_next();
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage < steps) {
            ec_weights_copy<BN, BK, THREADS>(shared + stage * STAGE + TILE, weights, p.k_blocks);
            weights += BK / 32 * EC_WEIGHT_BLOCK;
        }
    }
    ec_rows_s8<BM, BK, THREADS, VEC, TAPS> rows;
    rows.begin(p, blockIdx.x * BM, first * BK, group);
    ec_wait_previous();
#pragma unroll
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage < steps) {
            rows.copy(p, ec_shared + stage * STAGE, x, pad);
        }
        ec_copy_commit();
    }
    int32_t acc[MI][4 * NB][4] = {};
    int now = 0, next = STAGES - 1;
    for (int step = 0; step < steps; step++) {
        ec_copy_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) {
            rows.copy(p, ec_shared + next * STAGE, x, pad);
            ec_weights_copy<BN, BK, THREADS>(shared + next * STAGE + TILE, weights, p.k_blocks);
            weights += BK / 32 * EC_WEIGHT_BLOCK;
        }
        ec_copy_commit();
        ec_tile_products<MI, NB, BK, WARPS_K>(acc, shared + now * STAGE, warp_m * 16 * MI,
                                              shared + now * STAGE + TILE + warp_n * NB * 32 * BK, warp_k);
        now = now + 1 == STAGES ? 0 : now + 1;
        next = next + 1 == STAGES ? 0 : next + 1;
    }
    ec_copy_wait<0>();
    ec_sum_slices<COUNT, SLICE, WARPS_K>(&acc[0][0][0], reinterpret_cast<int32_t *>(ec_shared));
    if (p.splits > 1) {
        const int tile = (group * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
        if (!ec_sum_splits<COUNT, SLICE>(&acc[0][0][0], tile, split, p.splits, scratch,
                                         static_cast<int32_t *>(counters),
                                         reinterpret_cast<volatile int32_t *>(ec_shared))) {
            return;
        }
    }
    if (warp_k > 0) {
        return;
    }
#pragma unroll
    for (int n = 0; n < NB; n++) {
        const int column = blockIdx.y * BN + (warp_n * NB + n) * 32 + lane % 4 * 8;
        int4 constants[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            constants[i] = __ldg(static_cast<const int4 *>(channel) + group * p.n_blocks * 32 + column + i);
        }
#pragma unroll
        for (int i = 0; i < MI; i++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int row = blockIdx.x * BM + (warp_m * MI + i) * 16 + half * 8 + lane / 4;
                int32_t sums[8];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    sums[j] = acc[i][4 * n + j / 2][2 * half + j % 2];
                }
                if (row < p.rows) {
                    ec_conv2d_s8_store<HIGH, OUT>(p, sums, row, column, group, constants, static_cast<int8_t *>(output),
                                                  epilogue);
                }
            }
        }
    }
}
