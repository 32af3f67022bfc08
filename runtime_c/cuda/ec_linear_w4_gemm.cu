/*
 * ec_linear_w4_gemm.cu: y[m,n] = epilogue(clamp(sum_k x[m,k] w[n,k] + bias[n])), w = (q - zero) scale rounded to x's
 * type, for the batches at which the tensor cores are busier than the memory. GATED as in ec_linear_w4.cu.
 *
 * A block has 16 MT WM rows of weights and 8 NT WN rows of x, WM x WN warps. Slices of 64 channels of both, and the
 * scales of the slice, go through STAGES stages of shared memory; the weights are operand A, taken apart in registers
 * (ec_w4.cuh), x is operand B. The weights' first stages are under way before the previous kernel has ended.
 *
 * `splits` blocks share the channels of one tile; each writes its sums to scratch, and the last to arrive adds them in
 * the order of the splits, so that the result does not depend on which it was.
 *
 * x [rows, in_c], y [rows, N]; pairs, bias as in ec_linear_w4.cu. Scratch where splits > 1: a float for each sum of
 * every block. Counters: one for each tile.
 */
#include "ec_linear_w4_params.h"
#include "ec_mma.cuh"
#include "ec_w4.cuh"

template <typename T_, int GROUP_, bool ASYM_, int MT_, int NT_, int WM_, int WN_, int STAGES_> struct ec_w4_tile {
    typedef T_ T;
    static constexpr int GROUP = GROUP_, MT = MT_, NT = NT_, WM = WM_, WN = WN_, STAGES = STAGES_;
    static constexpr bool ASYM = ASYM_;
    static constexpr int TILES = WM * MT, ROWS = 16 * TILES, COLUMNS = 8 * NT * WN, THREADS = 32 * WM * WN;
    static constexpr int X_BYTES = COLUMNS * EC_SLICE_BYTES, Q_BYTES = TILES * 512;
    static constexpr int PAIR_BYTES = TILES * (ASYM ? 48 : 32);
    static constexpr int STAGE_BYTES = (X_BYTES + Q_BYTES + PAIR_BYTES + 127) / 128 * 128;
    static constexpr int PITCH = ROWS + 4; /* floats between two rows of x in the hand-over of the sums */
    static_assert(NT % 2 == 0, "x is read in 16 rows at a time");
};

/* Copies of one slice of 64 channels into a stage. */
template <typename TILE>
__device__ __forceinline__ void ec_w4_copy_weights(unsigned char *stage, const ec_linear_w4_params &p,
                                                   const unsigned char *q, const unsigned char *pairs, int chunk)
{
    const int chunks = p.in_c / EC_W4_CHUNK, groups = p.in_c / TILE::GROUP;
    const int first = (int)blockIdx.x * TILE::TILES, group = chunk * EC_W4_CHUNK / TILE::GROUP;
    unsigned char *to = stage + TILE::X_BYTES;
#pragma unroll
    for (int begin = 0; begin < TILE::TILES * 32; begin += TILE::THREADS) {
        const int i = begin + (int)threadIdx.x, tile = first + i / 32;
        if (begin + TILE::THREADS <= TILE::TILES * 32 || i < TILE::TILES * 32) {
            const bool valid = tile < p.tiles;
            ec_copy_async16(to + i * 16, q + (((size_t)(valid ? tile : 0) * chunks + chunk) * 32 + i % 32) * 16, valid);
        }
    }
    to += TILE::Q_BYTES;
    for (int i = threadIdx.x; i < TILE::TILES * 2; i += TILE::THREADS) {
        const int tile = first + i / 2;
        const bool valid = tile < p.tiles;
        ec_copy_async16(to + i * 16, pairs + ((size_t)(valid ? tile : 0) * groups + group) * 32 + i % 2 * 16, valid);
    }
    if (TILE::ASYM) {
        const unsigned char *zeros = pairs + (size_t)p.tiles * groups * 32;
        for (int i = threadIdx.x; i < TILE::TILES; i += TILE::THREADS) {
            const bool valid = first + i < p.tiles;
            ec_copy_async16(to + TILE::TILES * 32 + i * 16,
                            zeros + ((size_t)(valid ? first + i : 0) * groups + group) * 16, valid);
        }
    }
}

template <typename TILE>
__device__ __forceinline__ void ec_w4_copy_x(unsigned char *stage, const ec_linear_w4_params &p,
                                             const typename TILE::T *x, int chunk)
{
    const int first = (int)blockIdx.y * TILE::COLUMNS;
#pragma unroll
    for (int begin = 0; begin < TILE::COLUMNS * 8; begin += TILE::THREADS) {
        const int i = begin + (int)threadIdx.x, row = i / 8, at = i % 8;
        if (begin + TILE::THREADS <= TILE::COLUMNS * 8 || i < TILE::COLUMNS * 8) {
            const bool valid = first + row < p.rows;
            ec_copy_async16(stage + ec_swizzled(row, at),
                            x + (size_t)(valid ? first + row : 0) * p.in_c + chunk * EC_W4_CHUNK + at * 8, valid);
        }
    }
}

/* Adds one slice. */
template <typename TILE>
__device__ __forceinline__ void ec_w4_add(float (&sums)[TILE::MT][TILE::NT][4], const unsigned char *stage)
{
    typedef typename TILE::T T;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, wm = warp % TILE::WM, wn = warp / TILE::WM;
    const unsigned char *q = stage + TILE::X_BYTES + (wm * TILE::MT * 32 + lane) * 16;
    const unsigned char *pairs = stage + TILE::X_BYTES + TILE::Q_BYTES;
    const uint32_t x = (uint32_t)__cvta_generic_to_shared(stage) +
                       (wn * TILE::NT * 8 + (lane & 7) + ((lane >> 4) << 3)) * EC_SLICE_BYTES;
    ec_w4_decoder<T> decoder[TILE::MT];
    uint4 w[TILE::MT];
    uint32_t scale[TILE::MT];
#pragma unroll
    for (int i = 0; i < TILE::MT; i++) {
        const int pair = (wm * TILE::MT + i) * 8 + (lane >> 2);
        const uint32_t z = TILE::ASYM ? ((const uint16_t *)(pairs + TILE::TILES * 32))[pair] : 0x0808u;
        decoder[i].set(z & 0xffu, z >> 8);
        scale[i] = ((const uint32_t *)pairs)[pair];
        w[i] = *(const uint4 *)(q + i * 512);
    }
#pragma unroll
    for (int step = 0; step < 4; step++) {
        uint32_t a[TILE::MT][4];
#pragma unroll
        for (int i = 0; i < TILE::MT; i++) {
            decoder[i].run(a[i], step == 0 ? w[i].x : step == 1 ? w[i].y : step == 2 ? w[i].z : w[i].w);
            ec_scale_fragment<T>(a[i], scale[i]);
        }
#pragma unroll
        for (int j = 0; j < TILE::NT; j += 2) {
            uint32_t b[4];
            ec_ldmatrix(b, x + j * 8 * EC_SLICE_BYTES + (((2 * step + ((lane >> 3) & 1)) ^ (lane & 7)) << 4));
#pragma unroll
            for (int i = 0; i < TILE::MT; i++) {
                ec_mma<T>::run(sums[i][j], a[i], b[0], b[1]);
                ec_mma<T>::run(sums[i][j + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* Whether this block is the last of its tile's splits; then `sums` are those of all. */
template <typename TILE>
__device__ __forceinline__ bool ec_w4_join_splits(float (&sums)[TILE::MT][TILE::NT][4], const ec_linear_w4_params &p,
                                                  float *scratch, int *counters)
{
    __shared__ int arrived;
    const size_t tile = (size_t)blockIdx.y * gridDim.x + blockIdx.x, tiles = (size_t)gridDim.x * gridDim.y;
    float4 *at = (float4 *)scratch + tile * TILE::MT * TILE::NT * TILE::THREADS + threadIdx.x;
    const size_t split = tiles * TILE::MT * TILE::NT * TILE::THREADS;
#pragma unroll
    for (int i = 0; i < TILE::MT * TILE::NT; i++) {
        const float(&v)[4] = sums[i / TILE::NT][i % TILE::NT];
        __stcg(at + blockIdx.z * split + i * TILE::THREADS, make_float4(v[0], v[1], v[2], v[3]));
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

/* Writes the outputs of the block, 16 WN rows of x at a time, through shared memory. */
template <typename TILE, int V, bool GATED, typename Epilogue>
__device__ __forceinline__ void ec_w4_write(const float (&sums)[TILE::MT][TILE::NT][4], const ec_linear_w4_params &p,
                                            const float *bias, typename TILE::T *y, float *shared,
                                            const Epilogue &epilogue)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, wm = warp % TILE::WM, wn = warp / TILE::WM;
    const int width = GATED ? p.out_c / 2 : p.out_c, vectors = (GATED ? TILE::ROWS / 2 : TILE::ROWS) / V;
#pragma unroll
    for (int j = 0; j < TILE::NT; j += 2) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TILE::MT * 2; i++) {
            const float(&v)[4] = sums[i / 2][j + i % 2];
            float *to = shared + (wn * 16 + i % 2 * 8 + 2 * (lane & 3)) * TILE::PITCH +
                        (wm * TILE::MT + i / 2) * EC_W4_ROWS + (lane >> 2);
            to[0] = v[0];
            to[TILE::PITCH] = v[1];
            to[8] = v[2];
            to[TILE::PITCH + 8] = v[3];
        }
        __syncthreads();
        for (int i = threadIdx.x; i < 16 * TILE::WN * vectors; i += TILE::THREADS) {
            const int row = i / vectors, at = i % vectors;
            const int m = (int)blockIdx.y * TILE::COLUMNS + row / 16 * TILE::NT * 8 + j * 8 + row % 16;
            const int n = GATED ? at / (8 / V) * EC_W4_ROWS + at % (8 / V) * V : at * V;
            const int out = (int)blockIdx.x * vectors * V + at * V;
            if (m >= p.rows || out >= width) {
                continue;
            }
            float v[V];
#pragma unroll
            for (int e = 0; e < V; e++) {
                v[e] = shared[row * TILE::PITCH + n + e] + bias[out + e];
                if (GATED) {
                    v[e] = v[e] / (1.0f + __expf(-v[e])) *
                           (shared[row * TILE::PITCH + n + 8 + e] + bias[width + out + e]);
                }
                v[e] = fminf(fmaxf(v[e], p.act_min), p.act_max);
            }
            const size_t index = (size_t)m * width + out;
            epilogue.template apply<V>(v, index, out);
            ec_store<typename TILE::T, V>(y + index, v);
        }
    }
}

template <typename T, int GROUP, bool ASYM, int MT, int NT, int WM, int WN, int STAGES, int V, bool GATED,
          typename Epilogue>
__device__ __forceinline__ void ec_linear_w4_gemm_body(const ec_linear_w4_params &p, const void *x, const void *q,
                                                       const void *pairs, const void *bias, void *y, void *scratch,
                                                       void *counters, const Epilogue &epilogue)
{
    typedef ec_w4_tile<T, GROUP, ASYM, MT, NT, WM, WN, STAGES> TILE;
    extern __shared__ __align__(128) unsigned char shared[];
    const int chunks = p.in_c / EC_W4_CHUNK, each = p.split_groups * (GROUP / EC_W4_CHUNK);
    const int first = (int)blockIdx.z * each, last = min(first + each, chunks);
    float sums[MT][NT][4] = {};
    ec_launch_next();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (first + s < last) {
            ec_w4_copy_weights<TILE>(shared + s * TILE::STAGE_BYTES, p, (const unsigned char *)q,
                                     (const unsigned char *)pairs, first + s);
        }
    }
    ec_wait_previous();
#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (first + s < last) {
            ec_w4_copy_x<TILE>(shared + s * TILE::STAGE_BYTES, p, (const T *)x, first + s);
        }
        ec_copy_commit();
    }
    int stage = 0, filled = STAGES - 1;
    for (int chunk = first; chunk < last; chunk++) {
        ec_copy_wait<STAGES - 2>();
        __syncthreads();
        if (chunk + STAGES - 1 < last) {
            unsigned char *to = shared + filled * TILE::STAGE_BYTES;
            ec_w4_copy_weights<TILE>(to, p, (const unsigned char *)q, (const unsigned char *)pairs,
                                     chunk + STAGES - 1);
            ec_w4_copy_x<TILE>(to, p, (const T *)x, chunk + STAGES - 1);
        }
        ec_copy_commit();
        ec_w4_add<TILE>(sums, shared + stage * TILE::STAGE_BYTES);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        filled = filled + 1 == STAGES ? 0 : filled + 1;
    }
    ec_copy_wait<0>();
    if (p.splits > 1 && !ec_w4_join_splits<TILE>(sums, p, (float *)scratch, (int *)counters)) {
        return;
    }
    ec_w4_write<TILE, V, GATED>(sums, p, (const float *)bias, (T *)y, (float *)shared, epilogue);
}
