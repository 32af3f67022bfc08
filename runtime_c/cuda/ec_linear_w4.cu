/*
 * ec_linear_w4: y[m,n] = epilogue(clamp(r[m] sum_k x[m,k] (q[n,k] - zero[n,k/G]) scale[n,k/G] + bias[n])) for up to
 * 8 NT rows m of x, where the time is that of reading the weights. r = 1, or rsqrt(mean_k x[m,k]^2 + eps) with NORM.
 * GATED: rows n < N/2 give g, the others u, and y[m,n] = silu(g) u for n < N/2.
 *
 * Weights are operand A of the tensor cores, as packed by backends/w4_packing.py (ec_w4.cuh has the order), so that a
 * tile of 16 rows costs the same for 1 and for 8 rows of x. With GATED the rows 0..7 of tile i are g of the outputs
 * 8 i .. 8 i + 7 and its rows 8..15 u of the same. Integers q - zero are exact in half precision; sums of a group are
 * scaled in fp32, as are all sums after it.
 *
 * Each thread copies into shared memory what itself will read, DEPTH chunks ahead, so that no barrier stands in the
 * loop; it starts before the previous kernel has ended. A block has WM x WK warps: WM sets of MT tiles, and WK ranges
 * of groups whose sums are added in shared memory. `splits` blocks share the channels: the last to arrive adds theirs.
 *
 * x [rows, in_c], y [rows, N]; pairs: scales of x's type, and behind them the zeros with ASYM; bias float. in_c is a multiple of GROUP (64 or 128). Shared memory:
 * ec_w4_shared in backends/kernels_cuda_w4.py. Scratch where splits > 1: splits * rows * (16 tiles + 1) floats.
 * Counters: one a column of blocks.
 */
#include "ec_linear_w4_params.h"
#include "ec_mma.cuh"
#include "ec_w4.cuh"

/* What a block works on. */
template <int GROUP, int MT> struct ec_w4_share {
    static constexpr int CHUNKS = GROUP / EC_W4_CHUNK; /* of a group */
    int warp, lane, wm, wk;
    int first_tile; /* of this warp */
    int group, groups; /* first of the block's split, and how many */
    int begin, end;    /* this warp's, from the split's first */
    int channels;      /* of the split */

    __device__ __forceinline__ explicit ec_w4_share(const ec_linear_w4_params &p)
    {
        warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
        wm = warp % p.wm, wk = warp / p.wm;
        first_tile = ((int)blockIdx.x * p.wm + wm) * MT;
        group = (int)blockIdx.y * p.split_groups;
        groups = min(p.split_groups, p.in_c / GROUP - group);
        begin = groups * wk / p.wk, end = groups * (wk + 1) / p.wk;
        channels = groups * GROUP;
    }
};

/* Shared memory of a block, in this order. The sums take the place of what is before. */
struct ec_w4_memory {
    unsigned char *x, *scale, *zero, *ring;
    float *sums;
    int pitch; /* bytes between two rows of x: no two of eight lanes that read together share a bank */
};

template <typename T, int GROUP, bool ASYM, int MT>
__device__ __forceinline__ ec_w4_memory ec_w4_divide(const ec_linear_w4_params &p, unsigned char *shared)
{
    ec_w4_memory m;
    const int pairs = p.wm * MT * p.split_groups;
    m.pitch = p.split_groups * GROUP * 2 + 16;
    m.sums = (float *)shared;
    m.x = shared;
    m.scale = m.x + p.rows * m.pitch;
    m.zero = m.scale + pairs * 32;
    m.ring = m.zero + (ASYM ? pairs * 16 : 0);
    return m;
}

/* Scales and zeros of the block's tiles: [tile][group of the split][8 pairs]. */
template <int BYTES>
__device__ __forceinline__ void ec_w4_copy_pairs(unsigned char *to, const void *from, const ec_linear_w4_params &p,
                                                 int block_tiles, int groups_all, int group, int groups)
{
    const int vectors = BYTES / 16 * groups;
    for (int i = threadIdx.x; i < block_tiles * vectors; i += blockDim.x) {
        const int tile = i / vectors, at = i % vectors;
        const int source = (int)blockIdx.x * block_tiles + tile;
        const size_t offset = ((size_t)source * groups_all + group) * BYTES + (size_t)at * 16;
        ec_copy_async16(to + (size_t)tile * p.split_groups * BYTES + at * 16,
                        (const unsigned char *)from + (source < p.tiles ? offset : 0), source < p.tiles);
    }
}

/* x of the split, eight loads of each thread under way at once. */
template <typename T>
__device__ __forceinline__ void ec_w4_stage_x(const ec_w4_memory &m, const ec_linear_w4_params &p, const void *x,
                                              int first, int channels)
{
    const int vectors = channels / 8, threads = blockDim.x;
    const int rows_on = threads / vectors, on = threads % vectors;
    int row = threadIdx.x / vectors, at = threadIdx.x % vectors;
    while (row < p.rows) {
        uint4 v[8];
        int to[8];
#pragma unroll
        for (int u = 0; u < 8; u++) {
            to[u] = row * m.pitch + at * 16;
            if (row < p.rows) {
                v[u] = __ldcg((const uint4 *)((const T *)x + (size_t)row * p.in_c + first + at * 8));
            } else {
                to[u] = -1;
            }
            row += rows_on, at += on;
            if (at >= vectors) {
                row++, at -= vectors;
            }
        }
#pragma unroll
        for (int u = 0; u < 8; u++) {
            if (to[u] >= 0) {
                *reinterpret_cast<uint4 *>(m.x + to[u]) = v[u];
            }
        }
    }
}

/* Sum of squares of row `row` of the staged x, by one warp. */
template <typename T> __device__ __forceinline__ float ec_w4_squares(const ec_w4_memory &m, int row, int channels)
{
    float sum = 0.0f;
    for (int at = (threadIdx.x & 31) * 8; at < channels; at += 256) {
        float v[8];
        ec_load<T, 8>(v, (const T *)(m.x + row * m.pitch) + at);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            sum = fmaf(v[e], v[e], sum);
        }
    }
    return ec_warp_sum(sum);
}

/* What becomes of V sums of row m of x from output n on. */
template <typename T, int V, bool GATED, bool NORM, typename Epilogue>
__device__ __forceinline__ void ec_w4_finish(const ec_linear_w4_params &p, float (&v)[V], const float (&u)[V],
                                             float squares, const float *bias, T *y, int m, int n,
                                             const Epilogue &epilogue)
{
    const int width = GATED ? p.out_c / 2 : p.out_c;
    if (n >= width) {
        return;
    }
    const float r = NORM ? rsqrtf(squares / (float)p.in_c + p.norm_eps) : 1.0f;
#pragma unroll
    for (int e = 0; e < V; e++) {
        v[e] = fmaf(v[e], r, bias[n + e]);
        if (GATED) {
            v[e] = v[e] / (1.0f + __expf(-v[e])) * fmaf(u[e], r, bias[width + n + e]);
        }
        v[e] = fminf(fmaxf(v[e], p.act_min), p.act_max);
    }
    const size_t index = (size_t)m * width + n;
    epilogue.template apply<V>(v, index, n);
    ec_store<T, V>(y + index, v);
}

template <typename T, int GROUP, bool ASYM, int NT, int MT, int DEPTH, int V, bool GATED, bool NORM,
          typename Epilogue>
__device__ __forceinline__ void ec_linear_w4_body(const ec_linear_w4_params &p, const void *x, const void *q,
                                                  const void *pairs, const void *bias, void *y, void *scratch,
                                                  void *counters, const Epilogue &epilogue)
{
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ __align__(16) unsigned char nothing[EC_SLICE_BYTES]; /* x of rows that are not there */
    __shared__ float squares[8 * NT];
    __shared__ int arrived;
    typedef ec_w4_share<GROUP, MT> Share;
    const Share s(p);
    const ec_w4_memory m = ec_w4_divide<T, GROUP, ASYM, MT>(p, shared);
    const int groups_all = p.in_c / GROUP, block_tiles = p.wm * MT;
    const int chunks_all = p.in_c / EC_W4_CHUNK;

    ec_launch_next();
    if (threadIdx.x < EC_SLICE_BYTES / 4) {
        ((uint32_t *)nothing)[threadIdx.x] = 0;
    }
    ec_w4_copy_pairs<32>(m.scale, pairs, p, block_tiles, groups_all, s.group, s.groups);
    if (ASYM) {
        const unsigned char *zeros = (const unsigned char *)pairs + (size_t)p.tiles * groups_all * 32;
        ec_w4_copy_pairs<16>(m.zero, zeros, p, block_tiles, groups_all, s.group, s.groups);
    }
    /* The ring: thread by thread, a stage is MT tiles of one chunk. */
    const int stage_bytes = blockDim.x * MT * 16;
    unsigned char *mine = m.ring + threadIdx.x * 16;
    const unsigned char *from[MT];
    bool valid[MT];
#pragma unroll
    for (int i = 0; i < MT; i++) {
        valid[i] = s.first_tile + i < p.tiles;
        from[i] = (const unsigned char *)q +
                  (((size_t)(valid[i] ? s.first_tile + i : 0) * chunks_all +
                    (s.group + s.begin) * Share::CHUNKS) * 32 + s.lane) * 16;
    }
    const int count = (s.end - s.begin) * Share::CHUNKS;
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        if (d < count) {
#pragma unroll
            for (int i = 0; i < MT; i++) {
                ec_copy_async16(mine + d * stage_bytes + i * blockDim.x * 16, from[i] + d * 512, valid[i]);
            }
        }
        ec_copy_commit();
    }

    ec_wait_previous();
    ec_w4_stage_x<T>(m, p, x, s.group * GROUP, s.channels);
    ec_copy_wait<DEPTH - 1>();
    __syncthreads();
    if (NORM) {
        for (int row = s.warp; row < p.rows; row += blockDim.x >> 5) {
            const float sum = ec_w4_squares<T>(m, row, s.channels);
            if (s.lane == 0) {
                squares[row] = sum;
            }
        }
    }

    const int g = s.lane >> 2, t = s.lane & 3;
    float sums[MT][NT][4] = {};
    int stage = 0, done = 0;
    uint32_t x_at[NT], x_step[NT];
#pragma unroll
    for (int j = 0; j < NT; j++) {
        const int row = (s.lane & 7) + 8 * j;
        const unsigned char *of = row < p.rows ? m.x + row * m.pitch + s.begin * GROUP * 2 : nothing;
        x_at[j] = (uint32_t)__cvta_generic_to_shared(of) + (s.lane >> 3) * 16;
        x_step[j] = row < p.rows ? EC_SLICE_BYTES : 0;
    }
    for (int group = s.begin; group < s.end; group++) {
        float part[MT][NT][4] = {};
        ec_w4_decoder<T> decoder[MT];
#pragma unroll
        for (int i = 0; i < MT; i++) {
            const int pair = ((s.wm * MT + i) * p.split_groups + group) * 8 + g;
            const uint32_t z = ASYM ? ((const uint16_t *)m.zero)[pair] : 0x0808u;
            decoder[i].set(z & 0xffu, z >> 8);
        }
#pragma unroll
        for (int c = 0; c < Share::CHUNKS; c++) {
            ec_copy_wait<DEPTH - 1>();
            uint4 w[MT];
            uint32_t b[NT][2][4];
#pragma unroll
            for (int i = 0; i < MT; i++) {
                w[i] = *(const uint4 *)(mine + stage * stage_bytes + i * blockDim.x * 16);
            }
#pragma unroll
            for (int j = 0; j < NT; j++) {
                ec_ldmatrix(b[j][0], x_at[j]);
                ec_ldmatrix(b[j][1], x_at[j] + 64);
                x_at[j] += x_step[j];
            }
#pragma unroll
            for (int step = 0; step < 4; step++) {
#pragma unroll
                for (int i = 0; i < MT; i++) {
                    uint32_t a[4];
                    decoder[i].run(a, step == 0 ? w[i].x : step == 1 ? w[i].y : step == 2 ? w[i].z : w[i].w);
#pragma unroll
                    for (int j = 0; j < NT; j++) {
                        const uint32_t(&v)[4] = b[j][step >> 1];
                        ec_mma<T>::run(part[i][j], a, v[step % 2 * 2], v[step % 2 * 2 + 1]);
                    }
                }
            }
            if (done + DEPTH < count) {
#pragma unroll
                for (int i = 0; i < MT; i++) {
                    ec_copy_async16(mine + stage * stage_bytes + i * blockDim.x * 16,
                                    from[i] + (size_t)(done + DEPTH) * 512, valid[i]);
                }
            }
            ec_copy_commit();
            done++;
            stage = stage + 1 == DEPTH ? 0 : stage + 1;
        }
#pragma unroll
        for (int i = 0; i < MT; i++) {
            const int pair = ((s.wm * MT + i) * p.split_groups + group) * 8 + g;
            const float2 f = ec_scale_pair(((const uint32_t *)m.scale)[pair], T());
#pragma unroll
            for (int j = 0; j < NT; j++) {
                sums[i][j][0] = fmaf(part[i][j][0], f.x, sums[i][j][0]);
                sums[i][j][1] = fmaf(part[i][j][1], f.x, sums[i][j][1]);
                sums[i][j][2] = fmaf(part[i][j][2], f.y, sums[i][j][2]);
                sums[i][j][3] = fmaf(part[i][j][3], f.y, sums[i][j][3]);
            }
        }
    }
    ec_copy_wait<0>();
    __syncthreads();

    /* sums[wk][row of x][row of the block], pitch as that of no bank conflict. */
    const int block_rows = block_tiles * EC_W4_ROWS, pitch = block_rows + 4;
#pragma unroll
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int j = 0; j < NT; j++) {
            float *to = m.sums + (s.wk * 8 * NT + 8 * j + 2 * t) * pitch + (s.wm * MT + i) * EC_W4_ROWS + g;
            to[0] = sums[i][j][0];
            to[pitch] = sums[i][j][1];
            to[8] = sums[i][j][2];
            to[pitch + 8] = sums[i][j][3];
        }
    }
    __syncthreads();
    const int row_first = (int)blockIdx.x * block_rows, row_all = p.tiles * EC_W4_ROWS;
    float *partial = (float *)scratch;
    float *partial_squares = partial + (size_t)p.splits * p.rows * row_all;
    if (p.splits > 1) {
        for (int i = threadIdx.x; i < p.rows * block_rows; i += blockDim.x) {
            const int row = i / block_rows, n = i % block_rows;
            float v = 0.0f;
            for (int k = 0; k < p.wk; k++) {
                v += m.sums[(k * 8 * NT + row) * pitch + n];
            }
            if (row_first + n < row_all) {
                __stcg(partial + ((size_t)blockIdx.y * p.rows + row) * row_all + row_first + n, v);
            }
        }
        if (NORM && (int)threadIdx.x < p.rows) {
            __stcg(partial_squares + ((size_t)blockIdx.y * p.rows + threadIdx.x) * gridDim.x + blockIdx.x,
                   squares[threadIdx.x]);
        }
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) {
            arrived = atomicAdd((int *)counters + blockIdx.x, 1);
        }
        __syncthreads();
        if (arrived != p.splits - 1) {
            return;
        }
        __threadfence();
        if (threadIdx.x == 0) {
            ((int *)counters)[blockIdx.x] = 0;
        }
    }
    const int step = GATED ? EC_W4_ROWS : V; /* rows of the block behind V outputs, by vector or by tile */
    const int vectors = GATED ? block_tiles * (8 / V) : block_rows / V;
    for (int i = threadIdx.x; i < p.rows * vectors; i += blockDim.x) {
        const int row = i / vectors, at = i % vectors;
        const int n = GATED ? at / (8 / V) * step + at % (8 / V) * V : at * step;
        float v[V] = {}, u[V] = {}, square = NORM ? (p.splits > 1 ? 0.0f : squares[row]) : 0.0f;
        if (row_first + n >= row_all) {
            continue;
        }
        for (int k = 0; k < (p.splits > 1 ? p.splits : p.wk); k++) {
            const float *of = p.splits > 1 ? partial + ((size_t)k * p.rows + row) * row_all + row_first + n
                                           : m.sums + (k * 8 * NT + row) * pitch + n;
#pragma unroll
            for (int e = 0; e < V; e++) {
                v[e] += p.splits > 1 ? __ldcg(of + e) : of[e];
                u[e] += GATED ? (p.splits > 1 ? __ldcg(of + 8 + e) : of[8 + e]) : 0.0f;
            }
            if (NORM && p.splits > 1) {
                square += __ldcg(partial_squares + ((size_t)k * p.rows + row) * gridDim.x + blockIdx.x);
            }
        }
        const int out = GATED ? (row_first + n) / EC_W4_ROWS * 8 + n % EC_W4_ROWS : row_first + n;
        ec_w4_finish<T, V, GATED, NORM>(p, v, u, square, (const float *)bias, (T *)y, row, out, epilogue);
    }
}
