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
 * divide C and the channels of a group (1: any number of channels, through registers). KIND: how rows stand in x;
 * kernels have at most 16 rows and columns. OUT: 8 where the outputs of a group are a multiple of 8, else 1. Weights
 * are fetched before the previous kernel has finished. CLUSTER: the blocks of a tile's splits are a cluster of so many
 * and add their sums through its shared memory (sm_90); 0: through scratch; 1: there are no splits. Grid: (rows / BM *
 * splits, outputs of a group / BN, groups). Shared memory: the channel records, 18 BN bytes up to a multiple of 128,
 * and as many stages of (BM + BN) * BK bytes as there are steps, STAGES at most; WARPS_K * BM * BN * 4 bytes at least.
 * Scratch, where splits > 1: 4 bytes a sum and split; counters: one a tile.
 *
 * One rounding; sums exact in int32. Equals conv2d.quant of edgec/ops/conv2d.py and linear.quant of
 * edgec/ops/linear.py.
 *
 * Measured on an H200, 2026-11-21, one layer of ResNet-50 repeated in a graph, best tile, microseconds (bound by bytes below
 * 0.6):
 *   first version, tiles of 64 x 64:            56x56 64 3x3 4.4, 28x28 128 3x3 5.0, 14x14 256 3x3 7.2, 7x7 512 3x3 8.4
 *   records early, masks for taps, 16-row tiles:             2.9,             3.6,             4.5,            5.9
 *   clusters for splits of k:                                3.1,             3.7,             4.6,            5.4
 * Pieces beyond k that read one padding vector had made all SMs meet at one address of L2: 5.4 -> 2.0 for 112x112 32
 * to 16. A third of the code (30 -> 9 KiB a kernel): MobileNetV2 154 -> 130, ResNet-50 284 -> 250 in whole graphs,
 * where a kernel's instructions are cold. One short end and shared memory by the steps in use: 111 and 203,
 * EfficientNet-B0 217 (our fp16 in the same run: 106, 237, 227). Half of an SM's memory as shared memory for all kernels
 * of ResNet-50, so that none waits for another division: 204 -> 178. Slices of 512 and tiles fitted again: its layers
 * one by one 176 -> 166, the graph 177: 32 kernels instead of 27.
 */
#include "ec_conv2d_s8_params.h"
#include "ec_tile_s8.cuh"

/* How the rows of the product stand in x. */
enum {
    EC_ROWS_DENSE = 0,   /* row m is x[m][C]: a linear layer, a 1x1 kernel of stride 1 */
    EC_ROWS_PIXELS = 1,  /* a pixel each: a 1x1 kernel with a stride */
    EC_ROWS_WINDOWS = 2, /* a window each */
    EC_ROWS_RUNS = 3 /* a window each, whose rows are runs of kernel_w * C bytes at any address; in k, each run is
                        filled up to group_in, a multiple of 16 (w is zero there) */
};

/* Bits of the bytes low..high-1 of a word; low and high may lie outside of it. */
__device__ __forceinline__ uint32_t ec_byte_mask(int low, int high)
{
    const int from = min(max(low, 0), 4), to = min(max(high, 0), 4);
    return (uint32_t)((((uint64_t)1 << (8 * to)) - 1) & ~(((uint64_t)1 << (8 * from)) - 1));
}

/* The rows of a tile that a thread copies: always the same PIECE bytes of each step, of ROWS rows. */
template <int BM, int BK, int THREADS, int VEC, int KIND> struct ec_rows_s8 {
    static constexpr int PIECE = VEC == 1 ? 16 : VEC; /* bytes of a row that a thread writes */
    static constexpr int PIECES = BK / PIECE, STEP = THREADS / PIECES, ROWS = BM / STEP;
    static constexpr bool TAPS = KIND == EC_ROWS_WINDOWS, RUNS = KIND == EC_ROWS_RUNS;
    static_assert(THREADS % PIECES == 0 && BM % STEP == 0, "a thread keeps its place in the rows");

    int32_t base[ROWS];    /* of the window's first tap in x; may be before it */
    uint32_t inside[ROWS]; /* bit r: tap row r lies in the map; bit 16 + s: tap column s does (RUNS: h and v) */
    int32_t k, c, s, r;    /* where this thread's piece of the coming step lies */
    int32_t offset;        /* from the window's first tap */
    int32_t left;          /* rows of the product from this thread's first on; what is copied of others is never read */

    __device__ __forceinline__ void begin(const ec_conv2d_s8_params &p, int first_row, int first_k, int group)
    {
        k = first_k + threadIdx.x % PIECES * PIECE;
        left = p.rows - first_row - (int)(threadIdx.x / PIECES);
        const int tap = TAPS || RUNS ? k / p.group_in : 0;
        c = TAPS || RUNS ? k - tap * p.group_in : k;
        r = TAPS ? tap / p.kernel_w : tap;
        s = TAPS ? tap - r * p.kernel_w : 0;
        offset = (r * p.dilation_h * p.in_w + s * p.dilation_w) * p.in_c + c;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            int m = first_row + threadIdx.x / PIECES + i * STEP;
            m = m < p.rows ? m : 0;
            if (KIND == EC_ROWS_DENSE) {
                base[i] = m * p.in_c + group * p.group_in;
                continue;
            }
            const int line = m / p.out_w, column = m - line * p.out_w, image = line / p.out_h;
            const int h = (line - image * p.out_h) * p.stride_h - p.pad_top, v = column * p.stride_w - p.pad_left;
            base[i] = ((image * p.in_h + h) * p.in_w + v) * p.in_c + group * p.group_in;
            if (RUNS) {
                inside[i] = (uint32_t)h << 16 | (v & 0xffff);
            }
            if (TAPS) {
                inside[i] = 0;
#pragma unroll 1
                for (int t = 0; t < p.kernel_h; t++) {
                    inside[i] |= (uint32_t)(h + t * p.dilation_h) < (uint32_t)p.in_h ? 1u << t : 0;
                }
#pragma unroll 1
                for (int t = 0; t < p.kernel_w; t++) {
                    inside[i] |= (uint32_t)(v + t * p.dilation_w) < (uint32_t)p.in_w ? 0x10000u << t : 0;
                }
            }
        }
    }

    __device__ __forceinline__ bool real(const ec_conv2d_s8_params &p, int i, int at, int below, int right) const
    {
        return at < p.k && (!TAPS || (inside[i] >> below & inside[i] >> (16 + right) & 1));
    }

    /* Copies this thread's pieces of one step to the tile at `to`, then moves on to the next step. */
    __device__ __forceinline__ void copy(const ec_conv2d_s8_params &p, uint8_t *to, const int8_t *x,
                                         const int8_t *padding)
    {
        const int piece = threadIdx.x % PIECES, row = threadIdx.x / PIECES;
        if constexpr (RUNS) {
            runs(p, to, x, padding, row, piece);
        } else if constexpr (VEC == 1) {
            gather(p, to, x, padding, row, piece);
        } else {
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                if (k < p.k && i * STEP < left) { /* beyond k weights are zero: any bytes will do */
                    const int8_t *from = real(p, i, k, r, s) ? x + (base[i] + offset) : padding;
                    const uint32_t at = ec_swizzle<BK>(row + i * STEP, piece * PIECE / 16) + piece * PIECE % 16;
                    ec_copy_async<PIECE, TAPS>((uint32_t)__cvta_generic_to_shared(to + at), from);
                }
            }
            offset += BK;
            if (TAPS) {
                c += BK;
#pragma unroll 1
                while (c >= p.group_in) {
                    c -= p.group_in;
                    offset += p.dilation_w * p.in_c - p.group_in;
                    s++;
                    if (s == p.kernel_w) {
                        s = 0;
                        r++;
                        offset += (p.dilation_h * p.in_w - p.kernel_w * p.dilation_w) * p.in_c;
                    }
                }
            }
        }
        k += BK;
    }

    /* The same for runs: 16 bytes at any address, by aligned words; beyond the map's columns, zero_in. */
    __device__ __forceinline__ void runs(const ec_conv2d_s8_params &p, uint8_t *to, const int8_t *x,
                                         const int8_t *padding, int row, int piece)
    {
        const uint32_t pad = *reinterpret_cast<const uint32_t *>(padding);
        const int run = p.kernel_w * p.in_c, wide = p.in_w * p.in_c;
        uint32_t words[ROWS][4];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int h = (int)inside[i] >> 16, v = (int16_t)(inside[i] & 0xffff);
            const bool valid = k < p.k && i * STEP < left && (uint32_t)(h + r * p.dilation_h) < (uint32_t)p.in_h;
            const int at = base[i] + offset, first = at & ~3, shift = 8 * (at & 3);
            uint32_t in[5];
#pragma unroll
            for (int j = 0; j < 5; j++) {
                const int place = first + 4 * j;
                in[j] = valid && (uint32_t)place < (uint32_t)p.in_bytes ? *reinterpret_cast<const uint32_t *>(x + place)
                                                                        : pad;
            }
            const int low = -v * p.in_c - c, high = min(run, wide - v * p.in_c) - c; /* bytes of the piece in the map */
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const uint32_t mask = valid ? ec_byte_mask(low - 4 * j, high - 4 * j) : 0;
                words[i][j] = (__funnelshift_r(in[j], in[j + 1], shift) & mask) | (pad & ~mask);
            }
        }
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            *reinterpret_cast<uint4 *>(to + ec_swizzle<BK>(row + i * STEP, piece)) =
                make_uint4(words[i][0], words[i][1], words[i][2], words[i][3]);
        }
        c += BK;
        offset += BK;
#pragma unroll 1
        while (c >= p.group_in) {
            c -= p.group_in;
            r++;
            offset += p.dilation_h * wide - p.group_in;
        }
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
            const int at = (line * p.dilation_h * p.in_w + column * p.dilation_w) * p.in_c + channel;
#pragma unroll
            for (int i = 0; i < ROWS; i++) {
                const uint32_t value = (uint8_t)(real(p, i, k + b, line, column) ? x[base[i] + at] : pad);
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

/* Adds 8 sums that stand as two vectors of shared memory. */
__device__ __forceinline__ void ec_add_sums(int32_t (&sums)[8], int4 a, int4 b)
{
    sums[0] += a.x;
    sums[1] += a.y;
    sums[2] += a.z;
    sums[3] += a.w;
    sums[4] += b.x;
    sums[5] += b.y;
    sums[6] += b.z;
    sums[7] += b.w;
}

/* Where a block's sums go: what ec_conv2d_s8_finish is told. */
struct ec_conv2d_s8_place {
    uint32_t shared, records; /* shared memory: the stages, free now, and the channel records */
    int row0, column0, group, tile, split;
};

/* Byte of channel `c`'s record among a tile's: 8 apart, they fall on different banks. */
__device__ __forceinline__ uint32_t ec_record_place(int c)
{
    return (uint32_t)(16 * (c + c / 8));
}

/* 8 sums that blocks wrote to scratch, `stride` vectors apart. */
__device__ __forceinline__ void ec_sum_blocks(int32_t (&sums)[8], const int4 *from, int splits, size_t stride)
{
#pragma unroll 1
    for (int other = 0; other < splits; other++) {
        ec_add_sums(sums, __ldcg(from + other * stride), __ldcg(from + other * stride + 1));
    }
}

/* This warp's sums, those of the warps and blocks that took other parts of k: written to shared memory, added and
 * stored by all threads of the block (of the cluster), 8 outputs of a row at a time. Short loops, since a kernel's
 * first run waits for its instructions. CLUSTER 0: the sums of a tile's blocks meet in scratch, and its last block
 * stores. */
template <int MI, int NB, int WARPS_M, int WARPS_N, int WARPS_K, int CLUSTER, bool HIGH, int OUT, typename EPILOGUE>
__device__ __forceinline__ void ec_conv2d_s8_finish(const ec_conv2d_s8_params &p, const int32_t (&acc)[MI][4 * NB][4],
                                                    const ec_conv2d_s8_place &place, int8_t *y, void *scratch,
                                                    int32_t *counters, const EPILOGUE &epilogue)
{
    constexpr int SLICE = 32 * WARPS_M * WARPS_N, UNITS = 2 * MI * NB, PART = UNITS * SLICE * 32;
    constexpr int PEERS = CLUSTER > 1 ? CLUSTER : 1, SHARES = PEERS * WARPS_K; /* that divide the units */
    constexpr int ROW_STEP = SHARES < 2 * MI ? SHARES : 2 * MI, COLUMN_STEP = SHARES / ROW_STEP;
    const int thread = threadIdx.x % SLICE, warp = thread / 32, lane = thread % 32;
    const int share = (PEERS > 1 ? place.split * WARPS_K : 0) + threadIdx.x / SLICE;
    const uint32_t mine = place.shared + threadIdx.x / SLICE * PART + thread * 16;
    __syncthreads();
#pragma unroll
    for (int unit = 0; unit < UNITS; unit++) {
        const int half = unit % 2, i = unit / 2 % MI, n = unit / 2 / MI;
#pragma unroll
        for (int part = 0; part < 2; part++) {
            const int j = 4 * n + 2 * part;
            ec_store_shared16(mine + (2 * unit + part) * SLICE * 16,
                              make_int4(acc[i][j][2 * half], acc[i][j][2 * half + 1], acc[i][j + 1][2 * half],
                                        acc[i][j + 1][2 * half + 1]));
        }
    }
    ec_cluster_sync<PEERS>();
    const size_t stride = (size_t)UNITS * SLICE * 2;
    int4 *const parts = static_cast<int4 *>(scratch) + (size_t)place.tile * p.splits * stride;
#pragma unroll 1
    for (int pass = CLUSTER == 0 ? 0 : 1; pass < 2; pass++) {
        if (CLUSTER == 0 && pass == 1 &&
            !ec_last_block(counters + place.tile, p.splits,
                           static_cast<volatile int32_t *>(__cvta_shared_to_generic(place.shared)))) {
            return;
        }
#pragma unroll 1
        for (int n = share / ROW_STEP; n < NB; n += COLUMN_STEP) {
            const int inner = (warp / WARPS_M * NB + n) * 32 + lane % 4 * 8;
            int4 constants[8];
#pragma unroll
            for (int j = 0; j < 8; j++) {
                constants[j] = ec_load_cluster16<1>(place.records + ec_record_place(inner) + 16 * j, 0);
            }
#pragma unroll 1
            for (int r = share % ROW_STEP; r < 2 * MI; r += ROW_STEP) {
                const int unit = n * 2 * MI + r;
                const size_t at = ((size_t)unit * SLICE + thread) * 2;
                int32_t sums[8] = {};
                if (CLUSTER == 0 && pass == 1) {
                    ec_sum_blocks(sums, parts + at, p.splits, stride);
                } else {
#pragma unroll
                    for (int part = 0; part < SHARES; part++) {
                        const uint32_t from =
                            place.shared + part % WARPS_K * PART + 2 * unit * SLICE * 16 + thread * 16;
                        ec_add_sums(sums, ec_load_cluster16<PEERS>(from, part / WARPS_K),
                                    ec_load_cluster16<PEERS>(from + SLICE * 16, part / WARPS_K));
                    }
                }
                if (CLUSTER == 0 && pass == 0) {
                    int4 *const to = parts + place.split * stride + at;
                    __stcg(to, make_int4(sums[0], sums[1], sums[2], sums[3]));
                    __stcg(to + 1, make_int4(sums[4], sums[5], sums[6], sums[7]));
                    continue;
                }
                const int row = place.row0 + (warp % WARPS_M * MI + r / 2) * 16 + r % 2 * 8 + lane / 4;
                if (row < p.rows) {
                    ec_conv2d_s8_store<HIGH, OUT>(p, sums, row, place.column0 + inner, place.group, constants, y,
                                                  epilogue);
                }
            }
        }
    }
    if (PEERS > 1) {
        ec_cluster_sync<PEERS>(); /* the others still read this block's memory */
    }
}

template <int BM, int BN, int BK, int WARPS_M, int WARPS_N, int WARPS_K, int STAGES, int VEC, int KIND, int CLUSTER,
          bool HIGH, int OUT, typename EPILOGUE = ec_no_epilogue>
__device__ __forceinline__ void ec_conv2d_s8_body(const ec_conv2d_s8_params &p, const void *input, const void *w,
                                                  const void *channel, const void *padding, void *output, void *scratch,
                                                  void *counters, const EPILOGUE &epilogue = EPILOGUE())
{
    constexpr int MI = BM / WARPS_M / 16, NB = BN / WARPS_N / 32, SLICE = 32 * WARPS_M * WARPS_N;
    constexpr int THREADS = SLICE * WARPS_K, TILE = BM * BK, STAGE = (BM + BN) * BK;
    constexpr int RECORDS = (18 * BN + 127) / 128 * 128;
    extern __shared__ __align__(128) uint8_t ec_shared[];
    ec_launch_next();
    const int8_t *const x = static_cast<const int8_t *>(input), *const pad = static_cast<const int8_t *>(padding);
    int8_t *const y = static_cast<int8_t *>(output);
    const int splits = CLUSTER == 0 ? p.splits : CLUSTER, tile_m = blockIdx.x / splits, group = blockIdx.z;
    const int split = blockIdx.x - tile_m * splits, row0 = tile_m * BM, column0 = blockIdx.y * BN;
    const int warp = threadIdx.x / 32, warp_m = warp % WARPS_M, warp_n = warp / WARPS_M % WARPS_N;
    const int warp_k = warp / (WARPS_M * WARPS_N);
    const int all = (p.k + BK - 1) / BK, first = split * p.steps, steps = min(all - first, p.steps);
    const int block = group * p.n_blocks + blockIdx.y * (BN / 32);
    const uint8_t *weights =
        static_cast<const uint8_t *>(w) + ((size_t)block * p.k_blocks + first * (BK / 32)) * EC_WEIGHT_BLOCK;
    uint8_t *const stages = ec_shared + RECORDS;
    const uint32_t records = (uint32_t)__cvta_generic_to_shared(ec_shared), shared = records + RECORDS;
    const int4 *const channels = static_cast<const int4 *>(channel) + group * p.n_blocks * 32 + column0;

    for (int i = threadIdx.x; i < BN; i += THREADS) {
        ec_copy_async<16, false>(records + ec_record_place(i), channels + i);
    }
#pragma unroll 1
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage < steps) {
            ec_weights_copy<BN, BK, THREADS>(shared + stage * STAGE + TILE, weights, p.k_blocks);
            weights += BK / 32 * EC_WEIGHT_BLOCK;
        }
    }
    ec_rows_s8<BM, BK, THREADS, VEC, KIND> rows;
    rows.begin(p, row0, first * BK, group);
    ec_wait_previous();
#pragma unroll 1
    for (int stage = 0; stage < STAGES - 1; stage++) {
        if (stage < steps) {
            rows.copy(p, stages + stage * STAGE, x, pad);
        }
        ec_copy_commit();
    }
    int32_t acc[MI][4 * NB][4] = {};
    int now = 0, next = STAGES - 1;
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        ec_copy_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < steps) {
            rows.copy(p, stages + next * STAGE, x, pad);
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
    const int tile = (group * gridDim.y + blockIdx.y) * (gridDim.x / splits) + tile_m;
    const ec_conv2d_s8_place place = {shared, records, row0, column0, group, tile, split};
    ec_conv2d_s8_finish<MI, NB, WARPS_M, WARPS_N, WARPS_K, CLUSTER, HIGH, OUT>(
        p, acc, place, y, scratch, static_cast<int32_t *>(counters), epilogue);
}
