/*
 * ec_linear_w4_wgmma.cu: ec_linear_w4_gemm.cu's layer by the instructions of a warp group (sm_90a alone: elsewhere it
 * traps, and no record asks for it).
 *
 * y^T = w x^T: weights are operand A, taken apart in registers (ec_w4.cuh; 16 rows of a tile are one warp's part of a
 * product of 64 rows), x is operand B, N rows of it, in shared memory. A block has WARP_GROUPS warp groups that
 * multiply, each with 64 MT rows of weights, and LOADERS warps that keep STAGES slices of CHUNKS times 64 channels of
 * both, and their scales, on their way through shared memory; barriers say which are full and which are free again. The
 * weights' first slices are under way before the previous kernel has ended.
 *
 * `splits` neighbouring blocks, a cluster, share the channels of one tile; each adds up a part of the tile out of all
 * their shared memories, in the order of the splits.
 *
 * x [rows, in_c], y [rows, N]; q, pairs, bias as in ec_linear_w4.cu.
 *
 * Measured on an H200, 2026-11-21, as benchmarks/cuda_linears.py does, in us for 6144x4096, 4096x4096, 28672x4096,
 * 4096x14336 (N x K): batch 16 7.9, 7.1, 22.7, 14.8; batch 32 8.6, 7.9, 26.8, 16.6; batch 64 12.9, 10.3, 33.8, 22.5;
 * batch 128 18.3, 14.4, 53.2, 32.9; batch 2048 175, 116, 978, 406. At batch 128 the largest does 565 of 989 Tflop/s.
 * Tried and given up: weights by bulk copies of 1 KB each, whose issue takes 120 cycles a copy (144 us in all at batch
 * 128); weights from memory straight to registers (128 us); warp groups that take turns with their products, and
 * unpacking between the products of a unit (no change). Without its products the kernel takes half of the time, without
 * unpacking nine tenths at batch 128 and three quarters at batch 16.
 */
#include "ec_gemm.cuh"
#include "ec_hopper.cuh"
#include "ec_linear_w4_params.h"
#include "ec_w4.cuh"

template <typename T_, int GROUP_, bool ASYM_, int N_, int WARP_GROUPS_, int MT_, int CHUNKS_, int STAGES_,
          int LOADERS_>
struct ec_w4_wide_tile {
    typedef T_ T;
    static constexpr int GROUP = GROUP_, N = N_, WARP_GROUPS = WARP_GROUPS_, MT = MT_, STAGES = STAGES_;
    static constexpr bool ASYM = ASYM_;
    static constexpr int MULTIPLYING = 128 * WARP_GROUPS, LOADING = 32 * LOADERS_; /* threads */
    static constexpr int CHUNKS = CHUNKS_, SLICE = CHUNKS * EC_W4_CHUNK, GROUPS = SLICE / GROUP; /* of a stage */
    static constexpr int TILES = 4 * WARP_GROUPS * MT, ROWS = 16 * TILES;
    static constexpr int X_BYTES = N * EC_SLICE_BYTES; /* of a chunk */
    static constexpr int Q_AT = CHUNKS * X_BYTES, PAIR_AT = Q_AT + CHUNKS * TILES * 512;
    static constexpr int ZERO_AT = PAIR_AT + GROUPS * TILES * 32;
    static constexpr int STAGE_BYTES = (ZERO_AT + (ASYM ? GROUPS * TILES * 16 : 0) + 1023) / 1024 * 1024;
    static constexpr int PITCH = ROWS + 4; /* floats between two rows of x in the hand-over of the sums */
    static constexpr int SUM_BYTES = N * PITCH * 4;
    static constexpr int BARRIERS_AT = STAGES * STAGE_BYTES > SUM_BYTES ? STAGES * STAGE_BYTES : SUM_BYTES;
    static constexpr int UNITS = CHUNKS * MT; /* of a stage: 64 rows by a chunk */
    static constexpr bool MANY_REGISTERS = MT * N >= 256; /* more than an even share of them */
    static constexpr int LANES = CHUNKS * 32; /* of 16 bytes, of a tile in a stage */
    static_assert(CHUNKS % 2 == 0 && LOADING % LANES == 0 && N % (LOADING / 8) == 0, "each loader copies as much");
    static_assert(!MANY_REGISTERS || (WARP_GROUPS == 2 && LOADERS_ == 4), "whole warp groups hand registers over");
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* The slices of this block in shared memory, and the barriers of each stage. */
template <typename TILE> struct ec_w4_ring {
    unsigned char *shared;
    uint32_t at;
    int first, count; /* slices */

    __device__ __forceinline__ uint32_t filled(int stage) const
    {
        return at + TILE::BARRIERS_AT + stage * 8;
    }
    __device__ __forceinline__ uint32_t freed(int stage) const
    {
        return at + TILE::BARRIERS_AT + (TILE::STAGES + stage) * 8;
    }
};

/* What one of the threads that load copies into a stage. */
template <typename TILE> struct ec_w4_feeder {
    typedef typename TILE::T T;
    static constexpr int X_STEP = TILE::LOADING / 8, TILE_STEP = TILE::LOADING / TILE::LANES;
    const ec_linear_w4_params &p;
    const ec_w4_ring<TILE> &ring;
    const unsigned char *q, *pairs, *zeros;
    const T *x;
    int thread, tile, x_rows; /* first tile of the block; rows of x from this thread's first on */

    __device__ __forceinline__ ec_w4_feeder(const ec_linear_w4_params &p_, const ec_w4_ring<TILE> &ring_,
                                            const void *x_, const void *q_, const void *pairs_, int column)
        : p(p_), ring(ring_), thread((int)threadIdx.x - TILE::MULTIPLYING), tile(column * TILE::TILES)
    {
        const int row = (int)blockIdx.y * TILE::N + thread / 8;
        x_rows = p.rows - row;
        x = (const T *)x_ + (size_t)row * p.in_c + thread % 8 * 8;
        q = (const unsigned char *)q_ + (size_t)(tile + thread / TILE::LANES) * (p.in_c / EC_W4_CHUNK) * 512 +
            thread % TILE::LANES * 16;
        pairs = (const unsigned char *)pairs_;
        zeros = pairs + (size_t)p.tiles * (p.in_c / TILE::GROUP) * 32;
    }

    /* Zeros behind the last tile and the last chunk. */
    __device__ __forceinline__ void weights(int stage, int slice) const
    {
        const int chunks = p.in_c / EC_W4_CHUNK, groups = p.in_c / TILE::GROUP;
        const uint32_t to = ring.at + stage * TILE::STAGE_BYTES;
        const unsigned char *from = q + (size_t)slice * TILE::CHUNKS * 512;
        const bool whole = slice * TILE::CHUNKS + thread % TILE::LANES / 32 < chunks;
#pragma unroll 8
        for (int i = 0; i < TILE::TILES / TILE_STEP; i++) {
            const bool valid = whole && tile + thread / TILE::LANES + i * TILE_STEP < p.tiles;
            ec_copy_async16_to(to + TILE::Q_AT + (i * TILE::LOADING + thread) * 16, valid ? from : q, valid);
            from += (size_t)TILE_STEP * chunks * 512;
        }
        for (int i = thread; i < TILE::TILES * TILE::GROUPS * 2; i += TILE::LOADING) {
            const int at = i / 2 % TILE::TILES, group = slice * TILE::GROUPS + i / 2 / TILE::TILES;
            const bool valid = tile + at < p.tiles && group < groups;
            const size_t pair = valid ? (size_t)(tile + at) * groups + group : 0;
            ec_copy_async16_to(to + TILE::PAIR_AT + i * 16, pairs + pair * 32 + i % 2 * 16, valid);
            if (TILE::ASYM && i % 2 == 0) {
                ec_copy_async16_to(to + TILE::ZERO_AT + i * 8, zeros + pair * 16, valid);
            }
        }
    }

    /* Zeros behind the last row and the last channel. */
    __device__ __forceinline__ void rows_of_x(int stage, int slice) const
    {
        const uint32_t to = ring.at + stage * TILE::STAGE_BYTES;
#pragma unroll 1
        for (int c = 0; c < TILE::CHUNKS; c++) {
            const int k = slice * TILE::SLICE + c * EC_W4_CHUNK;
            const T *from = x + k;
#pragma unroll 4
            for (int i = 0; i < TILE::N / X_STEP; i++) {
                const bool valid = k < p.in_c && i * X_STEP < x_rows;
                ec_copy_async16_to(to + c * TILE::X_BYTES + ec_swizzled(thread / 8 + i * X_STEP, thread % 8),
                                   valid ? from : x, valid);
                from += (size_t)X_STEP * p.in_c;
            }
        }
        ec_barrier_arrive_copies(ring.filled(stage));
    }

    __device__ __forceinline__ void run() const
    {
        const int ahead = min(ring.count, TILE::STAGES);
        for (int n = 0; n < ahead; n++) {
            weights(n, ring.first + n);
        }
        ec_wait_previous();
        for (int n = 0; n < ahead; n++) {
            rows_of_x(n, ring.first + n);
        }
        int stage = 0, parity = 0;
        for (int n = ahead; n < ring.count; n++) {
            ec_barrier_wait(ring.freed(stage), parity);
            weights(stage, ring.first + n);
            rows_of_x(stage, ring.first + n);
            if (++stage == TILE::STAGES) {
                stage = 0;
                parity ^= 1;
            }
        }
        ec_copy_wait<0>();
    }
};

/* Unit `unit` of a stage as operand A of four products, scaled. */
template <typename TILE>
__device__ __forceinline__ void ec_w4_take(uint32_t (&a)[4][4], const unsigned char *stage, int unit)
{
    typedef typename TILE::T T;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int tile = (warp / 4 * TILE::MT + unit % TILE::MT) * 4 + warp % 4, chunk = unit / TILE::MT;
    const int pair = (chunk * TILE::GROUPS / TILE::CHUNKS * TILE::TILES + tile) * 8 + (lane >> 2);
    const uint4 w = *(const uint4 *)(stage + TILE::Q_AT + ((tile * TILE::CHUNKS + chunk) * 32 + lane) * 16);
    const uint32_t scale = ((const uint32_t *)(stage + TILE::PAIR_AT))[pair];
    const uint32_t z = TILE::ASYM ? ((const uint16_t *)(stage + TILE::ZERO_AT))[pair] : 0x0808u;
    ec_w4_decoder<T> decoder;
    decoder.set(z & 0xffu, z >> 8);
#pragma unroll
    for (int step = 0; step < 4; step++) {
        decoder.run(a[step], step == 0 ? w.x : step == 1 ? w.y : step == 2 ? w.z : w.w);
        ec_scale_fragment<T>(a[step], scale);
    }
}

/* A warp group's sums of all slices: while one unit is multiplied, the next is taken apart. */
template <typename TILE>
__device__ __forceinline__ void ec_w4_multiply(float (&sums)[TILE::MT][TILE::N / 2], const ec_w4_ring<TILE> &ring)
{
    const uint64_t x = ec_describe(ring.at);
    uint32_t a[2][4][4];
    int stage = 0, before = 0, parity = 0;
    ec_barrier_wait(ring.filled(0), 0);
    ec_w4_take<TILE>(a[0], ring.shared, 0);
    for (int n = 0; n < ring.count; n++) {
        const unsigned char *here = ring.shared + stage * TILE::STAGE_BYTES;
        const uint64_t x_here = x + (uint32_t)stage * (TILE::STAGE_BYTES >> 4);
#pragma unroll
        for (int unit = 0; unit < TILE::UNITS; unit++) {
            ec_hold(sums[unit % TILE::MT]);
            ec_products_open();
#pragma unroll
            for (int step = 0; step < 4; step++) {
                ec_group_product<typename TILE::T, TILE::N>::registers(
                    sums[unit % TILE::MT], a[unit % 2][step],
                    x_here + unit / TILE::MT * (TILE::X_BYTES >> 4) + 2 * step);
            }
            ec_products_close();
            ec_products_wait<1>();
            if (unit == 0 && n > 0 && threadIdx.x % 32 == 0) {
                ec_barrier_arrive(ring.freed(before));
            }
            if (unit + 1 < TILE::UNITS) {
                ec_w4_take<TILE>(a[(unit + 1) % 2], here, unit + 1);
            } else {
                before = stage;
                if (++stage == TILE::STAGES) {
                    stage = 0;
                    parity ^= 1;
                }
                if (n + 1 < ring.count) {
                    ec_barrier_wait(ring.filled(stage), parity);
                    ec_w4_take<TILE>(a[0], ring.shared + stage * TILE::STAGE_BYTES, 0);
                }
            }
        }
    }
    ec_products_wait<0>();
#pragma unroll
    for (int i = 0; i < TILE::MT; i++) {
        ec_hold(sums[i]);
    }
}

/* Hands the sums over to shared memory, as [row of x][row of weights]. */
template <typename TILE>
__device__ __forceinline__ void ec_w4_spill(const float (&sums)[TILE::MT][TILE::N / 2], float *to)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
    for (int i = 0; i < TILE::MT; i++) {
        const int tile = (warp / 4 * TILE::MT + i) * 4 + warp % 4;
        float *at = to + lane % 4 * 2 * TILE::PITCH + tile * EC_W4_ROWS + lane / 4;
#pragma unroll
        for (int j = 0; j < TILE::N / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                at[(8 * j + e % 2) * TILE::PITCH + e / 2 * 8] = sums[i][4 * j + e];
            }
        }
    }
}

/* Four sums, of all the blocks that share the channels. */
template <bool CLUSTER> __device__ __forceinline__ void ec_w4_total(float (&v)[4], const float *from, int splits)
{
    if constexpr (!CLUSTER) {
        ec_load<float, 4>(v, from);
    } else {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            v[e] = 0.0f;
        }
#pragma unroll 4
        for (int s = 0; s < splits; s++) {
            float u[4];
            ec_cluster_load(u, from, s);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                v[e] += u[e];
            }
        }
    }
}

/* Bias, gate, clamp, epilogue; writes this block's part of y. */
template <typename TILE, bool CLUSTER, int V, bool GATED, typename Epilogue>
__device__ __forceinline__ void ec_w4_finish(const ec_linear_w4_params &p, const float *sums, int column, int part,
                                             const float *bias, typename TILE::T *y, const Epilogue &epilogue)
{
    constexpr int FOURS = (GATED ? TILE::ROWS / 2 : TILE::ROWS) / 4;
    const int width = GATED ? p.out_c / 2 : p.out_c, above = (int)blockIdx.y * TILE::N;
    const int items = min(p.rows - above, TILE::N) * FOURS;
    for (int i = part * TILE::MULTIPLYING + threadIdx.x; i < items; i += p.splits * TILE::MULTIPLYING) {
        const int row = i / FOURS, at = i % FOURS, out = (column * FOURS + at) * 4;
        if (out >= width) {
            continue;
        }
        float v[4], up[4];
        const float *from = sums + row * TILE::PITCH + (GATED ? at / 2 * EC_W4_ROWS + at % 2 * 4 : at * 4);
        ec_w4_total<CLUSTER>(v, from, p.splits);
        if (GATED) {
            ec_w4_total<CLUSTER>(up, from + 8, p.splits);
        }
#pragma unroll
        for (int run = 0; run < 4; run += V) {
            if (V == 4 || out + run < width) {
                float u[V];
#pragma unroll
                for (int e = 0; e < V; e++) {
                    u[e] = v[run + e] + bias[out + run + e];
                    if (GATED) {
                        u[e] = u[e] / (1.0f + __expf(-u[e])) * (up[run + e] + bias[width + out + run + e]);
                    }
                    u[e] = fminf(fmaxf(u[e], p.act_min), p.act_max);
                }
                const size_t index = (size_t)(above + row) * width + out + run;
                epilogue.template apply<V>(u, index, out + run);
                ec_store<typename TILE::T, V>(y + index, u);
            }
        }
    }
}

#endif

template <typename T, int GROUP, bool ASYM, int N, int WARP_GROUPS, int MT, int CHUNKS, int STAGES, int LOADERS,
          bool CLUSTER, int V, bool GATED, typename Epilogue>
__device__ __forceinline__ void ec_linear_w4_wgmma_body(const ec_linear_w4_params &p, const void *x, const void *q,
                                                        const void *pairs, const void *bias, void *y,
                                                        const Epilogue &epilogue)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    typedef ec_w4_wide_tile<T, GROUP, ASYM, N, WARP_GROUPS, MT, CHUNKS, STAGES, LOADERS> TILE;
    extern __shared__ __align__(1024) unsigned char ec_w4_shared[];
    const int column = (int)blockIdx.x / p.splits, part = (int)blockIdx.x - column * p.splits;
    const int slices = (p.in_c + TILE::SLICE - 1) / TILE::SLICE, each = (slices + p.splits - 1) / p.splits;
    ec_launch_next();
    ec_w4_ring<TILE> ring;
    ring.shared = ec_w4_shared;
    ring.at = (uint32_t)__cvta_generic_to_shared(ec_w4_shared);
    ring.first = part * each;
    ring.count = max(min(part * each + each, slices) - part * each, 0);
    if (threadIdx.x == 0) {
#pragma unroll
        for (int s = 0; s < STAGES; s++) {
            ec_barrier_start(ring.filled(s), TILE::LOADING);
            ec_barrier_start(ring.freed(s), TILE::MULTIPLYING / 32);
        }
    }
    __syncthreads();
    if (threadIdx.x >= TILE::MULTIPLYING) {
        if (TILE::MANY_REGISTERS) {
            ec_fewer_registers<72>();
        }
        ec_w4_feeder<TILE>(p, ring, x, q, pairs, column).run();
    } else {
        if (TILE::MANY_REGISTERS) {
            ec_more_registers<216>();
        }
        float *const out = (float *)ec_w4_shared;
        float sums[MT][N / 2] = {};
        ec_wait_previous();
        if (ring.count > 0) {
            ec_w4_multiply<TILE>(sums, ring);
        }
        ec_some_sync<TILE::MULTIPLYING>(1); /* all have read the ring */
        ec_w4_spill<TILE>(sums, out);
        if (CLUSTER) {
            ec_cluster_sync();
        } else {
            ec_some_sync<TILE::MULTIPLYING>(1);
        }
        ec_w4_finish<TILE, CLUSTER, V, GATED>(p, out, column, part, (const float *)bias, (T *)y, epilogue);
        if (CLUSTER) {
            ec_cluster_sync_reads(); /* the others may still read this block's sums */
        }
    }
#else
    __trap();
#endif
}
