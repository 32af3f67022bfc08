/*
 * ec_linear_w4_gemm.cu: y[m,n] = epilogue(clamp(sum_k x[m,k] w[n,k] + bias[n])), w = (q - zero) scale rounded to x's
 * type, for the batches at which the tensor cores are busier than the memory. GATED as in ec_linear_w4.cu.
 *
 * A block has 16 MT WM rows of weights and 8 NT WN rows of x, WM x WN warps. Slices of 128 channels of both, and their
 * scales, go through STAGES stages of shared memory; the weights are operand A, taken apart in registers (ec_w4.cuh), x
 * is operand B. The weights' first stages are under way before the previous kernel has ended.
 *
 * `splits` neighbouring blocks share the channels of one tile. CLUSTER: they are a cluster, and each adds up a part of
 * the tile out of all their shared memories. Otherwise each writes its sums to scratch, and the last to arrive adds
 * them. Both add in the order of the splits, so that the result does not depend on which block came last.
 *
 * x [rows, in_c], y [rows, N]; pairs, bias as in ec_linear_w4.cu. Scratch where splits > 1 without CLUSTER: a float for
 * each sum of every block. Counters: one for each tile.
 *
 * Measured on an H200, 2026-11-21, in tuning runs of the kernel alone, the best division of each, in us for 6144x4096,
 * 4096x4096, 28672x4096, 4096x14336 (N x K): batch 32 13.6, 9.9, 34.3, 26.2; batch 64 16.5, 14.7, 53.3, 34.5; batch 128
 * 29.1, 22.0, 93.7, 59.8. At batch 128 the largest does 321 of 989 Tflop/s.
 */
#include "ec_gemm.cuh"
#include "ec_linear_w4_params.h"
#include "ec_w4.cuh"

template <typename T_, int GROUP_, bool ASYM_, int MT_, int NT_, int WM_, int WN_, int STAGES_> struct ec_w4_tile {
    typedef T_ T;
    static constexpr int GROUP = GROUP_, MT = MT_, NT = NT_, WM = WM_, WN = WN_, STAGES = STAGES_;
    static constexpr bool ASYM = ASYM_;
    static constexpr int CHUNKS = 2, SLICE = CHUNKS * EC_W4_CHUNK, GROUPS = SLICE / GROUP; /* of a stage */
    static constexpr int TILES = WM * MT, ROWS = 16 * TILES, COLUMNS = 8 * NT * WN, THREADS = 32 * WM * WN;
    static constexpr int X_BYTES = COLUMNS * EC_SLICE_BYTES, Q_BYTES = TILES * 512; /* of a chunk */
    static constexpr int PAIR_BYTES = TILES * (ASYM ? 48 : 32);                     /* of a group */
    static constexpr int Q_AT = CHUNKS * X_BYTES, PAIR_AT = Q_AT + CHUNKS * Q_BYTES;
    static constexpr int STAGE_BYTES = (PAIR_AT + GROUPS * PAIR_BYTES + 127) / 128 * 128;
    static constexpr int PITCH = ROWS + 4; /* floats between two rows of x in the hand-over of the sums */
    static constexpr int OUT_BYTES = 16 * WN * PITCH * 4;
    static_assert(NT % 2 == 0, "x is read in 16 rows at a time");
};

/* What a thread copies into a stage: whole tiles of weights by warp, whole chunks of eight rows of x. */
template <typename TILE> struct ec_w4_loader {
    typedef typename TILE::T T;
    static constexpr int WARPS = TILE::THREADS / 32, X_STEP = TILE::THREADS / 8;
    const ec_linear_w4_params &p;
    const unsigned char *q, *pairs, *zeros;
    const T *x;
    int tile, x_row; /* first of this thread, from the block's */

    __device__ __forceinline__ ec_w4_loader(const ec_linear_w4_params &p_, const void *x_, const void *q_,
                                            const void *pairs_, int column)
        : p(p_)
    {
        tile = column * TILE::TILES;
        q = (const unsigned char *)q_ + (threadIdx.x & 31) * 16;
        pairs = (const unsigned char *)pairs_;
        zeros = pairs + (size_t)p.tiles * (p.in_c / TILE::GROUP) * 32;
        x_row = (int)blockIdx.y * TILE::COLUMNS + threadIdx.x / 8;
        x = (const T *)x_ + (size_t)x_row * p.in_c + threadIdx.x % 8 * 8;
    }

    __device__ __forceinline__ void weights(unsigned char *stage, int slice) const
    {
        const int chunks = p.in_c / EC_W4_CHUNK, groups = p.in_c / TILE::GROUP;
#pragma unroll
        for (int i = 0; i < (TILE::TILES + WARPS - 1) / WARPS; i++) {
            const int at = i * WARPS + (int)(threadIdx.x >> 5);
            if (TILE::TILES % WARPS == 0 || at < TILE::TILES) {
                const unsigned char *from = q + (size_t)min(tile + at, p.tiles - 1) * chunks * 512;
#pragma unroll
                for (int c = 0; c < TILE::CHUNKS; c++) {
                    const int chunk = min(slice * TILE::CHUNKS + c, chunks - 1);
                    ec_copy_async16(stage + TILE::Q_AT + c * TILE::Q_BYTES + (at * 32 + threadIdx.x % 32) * 16,
                                    from + (size_t)chunk * 512, true);
                }
            }
        }
        for (int i = threadIdx.x; i < TILE::TILES * TILE::GROUPS; i += TILE::THREADS) {
            const int at = i % TILE::TILES, g = i / TILE::TILES;
            const size_t pair = (size_t)min(tile + at, p.tiles - 1) * groups + min(slice * TILE::GROUPS + g, groups - 1);
            unsigned char *to = stage + TILE::PAIR_AT + g * TILE::PAIR_BYTES;
            ec_copy_async16(to + at * 32, pairs + pair * 32, true);
            ec_copy_async16(to + at * 32 + 16, pairs + pair * 32 + 16, true);
            if (TILE::ASYM) {
                ec_copy_async16(to + TILE::TILES * 32 + at * 16, zeros + pair * 16, true);
            }
        }
    }

    /* Zeros behind the last row and the last channel. */
    __device__ __forceinline__ void rows_of_x(unsigned char *stage, int slice) const
    {
        const int row = threadIdx.x / 8;
#pragma unroll
        for (int c = 0; c < TILE::CHUNKS; c++) {
            const int k = slice * TILE::SLICE + c * EC_W4_CHUNK;
#pragma unroll
            for (int i = 0; i < (TILE::COLUMNS + X_STEP - 1) / X_STEP; i++) {
                if (TILE::COLUMNS % X_STEP == 0 || row + i * X_STEP < TILE::COLUMNS) {
                    const bool valid = k < p.in_c && x_row + i * X_STEP < p.rows;
                    ec_copy_async16(stage + c * TILE::X_BYTES + ec_swizzled(row + i * X_STEP, threadIdx.x % 8),
                                    valid ? x + (size_t)(i * X_STEP) * p.in_c + k : x, valid);
                }
            }
        }
    }
};

/* Fragment `step` of a tile's chunk as scaled weights. */
template <typename T>
__device__ __forceinline__ void ec_w4_fragment(uint32_t (&a)[4], const ec_w4_decoder<T> &decoder, const uint4 &w,
                                               int step, uint32_t scale)
{
    decoder.run(a, step == 0 ? w.x : step == 1 ? w.y : step == 2 ? w.z : w.w);
    ec_scale_fragment<T>(a, scale);
}

/* Adds one slice. */
template <typename TILE>
__device__ __forceinline__ void ec_w4_add(float (&sums)[TILE::MT][TILE::NT][4], const unsigned char *stage)
{
    typedef typename TILE::T T;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, wm = warp % TILE::WM, wn = warp / TILE::WM;
    const uint32_t x = (uint32_t)__cvta_generic_to_shared(stage) +
                       (wn * TILE::NT * 8 + (lane & 7) + ((lane >> 4) << 3)) * EC_SLICE_BYTES;
    ec_w4_decoder<T> decoder[TILE::MT];
    uint32_t scale[TILE::MT];
#pragma unroll
    for (int c = 0; c < TILE::CHUNKS; c++) {
        const unsigned char *q = stage + TILE::Q_AT + c * TILE::Q_BYTES + (wm * TILE::MT * 32 + lane) * 16;
        const unsigned char *pairs = stage + TILE::PAIR_AT + c * TILE::GROUPS / TILE::CHUNKS * TILE::PAIR_BYTES;
        uint4 w[TILE::MT];
#pragma unroll
        for (int i = 0; i < TILE::MT; i++) {
            w[i] = *(const uint4 *)(q + i * 512);
            if (c * TILE::GROUPS % TILE::CHUNKS == 0) {
                const int pair = (wm * TILE::MT + i) * 8 + (lane >> 2);
                const uint32_t z = TILE::ASYM ? ((const uint16_t *)(pairs + TILE::TILES * 32))[pair] : 0x0808u;
                decoder[i].set(z & 0xffu, z >> 8);
                scale[i] = ((const uint32_t *)pairs)[pair];
            }
        }
        /* The fragment after the next is taken apart while the tensor cores have the last. */
        uint32_t a[2][4], b[TILE::NT / 2][4];
        ec_w4_fragment<T>(a[0], decoder[0], w[0], 0, scale[0]);
#pragma unroll
        for (int n = 0; n < 4 * TILE::MT; n++) {
            const int step = n / TILE::MT, i = n % TILE::MT, next = n + 1;
            if (i == 0) {
#pragma unroll
                for (int j = 0; j < TILE::NT; j += 2) {
                    ec_ldmatrix(b[j / 2], x + c * TILE::X_BYTES + j * 8 * EC_SLICE_BYTES +
                                              (((2 * step + ((lane >> 3) & 1)) ^ (lane & 7)) << 4));
                }
            }
            if (next < 4 * TILE::MT) {
                ec_w4_fragment<T>(a[next % 2], decoder[next % TILE::MT], w[next % TILE::MT], next / TILE::MT,
                                  scale[next % TILE::MT]);
            }
#pragma unroll
            for (int j = 0; j < TILE::NT; j += 2) {
                ec_mma<T>::run(sums[i][j], a[n % 2], b[j / 2][0], b[j / 2][1]);
                ec_mma<T>::run(sums[i][j + 1], a[n % 2], b[j / 2][2], b[j / 2][3]);
            }
        }
    }
}

/* Whether this block is the last of its tile's splits; then `sums` are those of all. */
template <typename TILE>
__device__ __forceinline__ bool ec_w4_join_splits(float (&sums)[TILE::MT][TILE::NT][4], const ec_linear_w4_params &p,
                                                  int column, int part, float *scratch, int *counters)
{
    __shared__ int arrived;
    const size_t tiles = (size_t)gridDim.x / p.splits * gridDim.y;
    const size_t tile = (size_t)blockIdx.y * (gridDim.x / p.splits) + column;
    float4 *at = (float4 *)scratch + tile * TILE::MT * TILE::NT * TILE::THREADS + threadIdx.x;
    const size_t split = tiles * TILE::MT * TILE::NT * TILE::THREADS;
#pragma unroll
    for (int i = 0; i < TILE::MT * TILE::NT; i++) {
        const float(&v)[4] = sums[i / TILE::NT][i % TILE::NT];
        __stcg(at + part * split + i * TILE::THREADS, make_float4(v[0], v[1], v[2], v[3]));
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        arrived = atomicAdd(counters + tile, 1);
    }
    __syncthreads();
    if (arrived != p.splits - 1) {
        return false;
    }
    __threadfence();
    if (threadIdx.x == 0) {
        counters[tile] = 0;
    }
    for (int s = 0; s < p.splits; s++) {
#pragma unroll
        for (int i = 0; i < TILE::MT * TILE::NT; i++) {
            const float4 v = __ldcg(at + s * split + i * TILE::THREADS);
            float(&to)[4] = sums[i / TILE::NT][i % TILE::NT];
            to[0] = (s ? to[0] : 0.0f) + v.x;
            to[1] = (s ? to[1] : 0.0f) + v.y;
            to[2] = (s ? to[2] : 0.0f) + v.z;
            to[3] = (s ? to[3] : 0.0f) + v.w;
        }
    }
    return true;
}

/* The sums of all blocks of the cluster for instructions (i, j) of this thread. */
template <typename TILE>
__device__ __forceinline__ void ec_w4_gather(float (&v)[4], const float4 *spilled, int index, int splits)
{
#pragma unroll
    for (int e = 0; e < 4; e++) {
        v[e] = 0.0f;
    }
    for (int s = 0; s < splits; s++) {
        float u[4];
        ec_cluster_load(u, (const float *)(spilled + index * TILE::THREADS + threadIdx.x), s);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            v[e] += u[e];
        }
    }
}

/* Writes the outputs of 16 WN rows of x, columns j and j + 1 of the instructions, through shared memory. */
template <typename TILE, int V, bool GATED, typename Epilogue>
__device__ __forceinline__ void ec_w4_write(const float (&sums)[2 * TILE::MT][4], int j, const ec_linear_w4_params &p,
                                            int column, const float *bias, typename TILE::T *y, float *shared,
                                            const Epilogue &epilogue)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, wm = warp % TILE::WM, wn = warp / TILE::WM;
    const int width = GATED ? p.out_c / 2 : p.out_c;
    constexpr int VECTORS = (GATED ? TILE::ROWS / 2 : TILE::ROWS) / V;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < TILE::MT * 2; i++) {
        float *to = shared + (wn * 16 + i % 2 * 8 + 2 * (lane & 3)) * TILE::PITCH +
                    (wm * TILE::MT + i / 2) * EC_W4_ROWS + (lane >> 2);
        to[0] = sums[i][0];
        to[TILE::PITCH] = sums[i][1];
        to[8] = sums[i][2];
        to[TILE::PITCH + 8] = sums[i][3];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 16 * TILE::WN * VECTORS; i += TILE::THREADS) {
        const int row = i / VECTORS, at = i % VECTORS;
        const int m = (int)blockIdx.y * TILE::COLUMNS + row / 16 * TILE::NT * 8 + j * 8 + row % 16;
        const int n = GATED ? at / (8 / V) * EC_W4_ROWS + at % (8 / V) * V : at * V;
        const int out = column * VECTORS * V + at * V;
        if (m >= p.rows || out >= width) {
            continue;
        }
        float v[V];
#pragma unroll
        for (int e = 0; e < V; e++) {
            v[e] = shared[row * TILE::PITCH + n + e] + bias[out + e];
            if (GATED) {
                v[e] = v[e] / (1.0f + __expf(-v[e])) * (shared[row * TILE::PITCH + n + 8 + e] + bias[width + out + e]);
            }
            v[e] = fminf(fmaxf(v[e], p.act_min), p.act_max);
        }
        const size_t index = (size_t)m * width + out;
        epilogue.template apply<V>(v, index, out);
        ec_store<typename TILE::T, V>(y + index, v);
    }
}

/* Sums of the slices first..last-1. */
template <typename TILE>
__device__ __forceinline__ void ec_w4_slices(float (&sums)[TILE::MT][TILE::NT][4], const ec_w4_loader<TILE> &loader,
                                             int first, int last, unsigned char *shared)
{
    constexpr int STAGES = TILE::STAGES;
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (first + s < last) {
            loader.weights(shared + s * TILE::STAGE_BYTES, first + s);
        }
    }
    ec_wait_previous();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (first + s < last) {
            loader.rows_of_x(shared + s * TILE::STAGE_BYTES, first + s);
        }
        ec_copy_commit();
    }
    int stage = 0, filled = STAGES - 1;
    for (int slice = first; slice < last; slice++) {
        ec_copy_wait<STAGES - 2>();
        __syncthreads();
        if (slice + STAGES - 1 < last) {
            loader.weights(shared + filled * TILE::STAGE_BYTES, slice + STAGES - 1);
            loader.rows_of_x(shared + filled * TILE::STAGE_BYTES, slice + STAGES - 1);
        }
        ec_copy_commit();
        ec_w4_add<TILE>(sums, shared + stage * TILE::STAGE_BYTES);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        filled = filled + 1 == STAGES ? 0 : filled + 1;
    }
    ec_copy_wait<0>();
}

template <typename T, int GROUP, bool ASYM, int MT, int NT, int WM, int WN, int STAGES, bool CLUSTER, int V,
          bool GATED, typename Epilogue>
__device__ __forceinline__ void ec_linear_w4_gemm_body(const ec_linear_w4_params &p, const void *x, const void *q,
                                                       const void *pairs, const void *bias, void *y, void *scratch,
                                                       void *counters, const Epilogue &epilogue)
{
    typedef ec_w4_tile<T, GROUP, ASYM, MT, NT, WM, WN, STAGES> TILE;
    extern __shared__ __align__(128) unsigned char ec_w4_shared[];
    const int column = (int)blockIdx.x / p.splits, part = (int)blockIdx.x - column * p.splits;
    const int slices = (p.in_c + TILE::SLICE - 1) / TILE::SLICE, each = (slices + p.splits - 1) / p.splits;
    ec_launch_next();
    const ec_w4_loader<TILE> loader(p, x, q, pairs, column);
    float sums[MT][NT][4] = {};
    ec_w4_slices<TILE>(sums, loader, part * each, min(part * each + each, slices), ec_w4_shared);
    float *const out = (float *)ec_w4_shared;
    float4 *const spilled = (float4 *)(ec_w4_shared + TILE::OUT_BYTES);
    if (CLUSTER) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < MT * NT; i++) {
            const float(&v)[4] = sums[i / NT][i % NT];
            spilled[i * TILE::THREADS + threadIdx.x] = make_float4(v[0], v[1], v[2], v[3]);
        }
        ec_cluster_sync();
    } else if (p.splits > 1 &&
               !ec_w4_join_splits<TILE>(sums, p, column, part, (float *)scratch, (int *)counters)) {
        return;
    }
#pragma unroll
    for (int j = 0; j < NT; j += 2) {
        if (!CLUSTER || j / 2 % p.splits == part) {
            float both[2 * MT][4];
#pragma unroll
            for (int i = 0; i < 2 * MT; i++) {
                if (CLUSTER) {
                    ec_w4_gather<TILE>(both[i], spilled, i / 2 * NT + j + i % 2, p.splits);
                } else {
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        both[i][e] = sums[i / 2][j + i % 2][e];
                    }
                }
            }
            ec_w4_write<TILE, V, GATED>(both, j, p, column, (const float *)bias, (T *)y, out, epilogue);
        }
    }
    if (CLUSTER) {
        ec_cluster_sync(); /* the others may still read this block's sums */
    }
}
