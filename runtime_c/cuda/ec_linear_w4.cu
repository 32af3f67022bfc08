/*
 * ec_linear_w4.cu: y[m,n] = epilogue(clamp(r[m] sum_k x[m,k] (q[n,k] - zero[n,k/G]) scale[n,k/G] + bias[n])) for up to
 * 8 NT rows m of x, where the time is that of reading the weights. r = 1, or rsqrt(mean_k x[m,k]^2 + eps) with NORM.
 * GATED: rows n < N/2 give g, the others u, and y[m,n] = silu(g) u for n < N/2.
 *
 * Weights are operand A of the tensor cores, as packed by backends/w4_packing.py (ec_w4.cuh has the order), so that a
 * tile of 16 rows costs the same for 1 and for 8 rows of x. With GATED the rows 0..7 of tile i are g of the outputs
 * 8 i .. 8 i + 7 and its rows 8..15 u of the same. The products of a group are summed over the bare nibbles, exact in
 * half precision; zeros and scales come in fp32 afterwards, by the sums of x over groups.
 *
 * Each thread copies into shared memory what itself will read, DEPTH groups ahead, so that no barrier stands in the
 * loop; it starts before the previous kernel has ended. A block has WM x WK warps: WM sets of MT tiles, and WK ranges
 * of groups whose sums are added in shared memory. `splits` blocks share the channels: the last to arrive adds theirs,
 * in the order of the splits, so that the result does not depend on which it was.
 *
 * x [rows, in_c], y [rows, N]; pairs: scales of x's type, and behind them the zeros with ASYM; bias float. in_c is a
 * multiple of GROUP (64 or 128). Shared memory and scratch: FewRows in backends/w4_tiles.py. Counters: one a column of
 * blocks. ec_linear_w4_stream.cu takes up to sixteen rows on sm_90 where there are as many tiles as SMs.
 *
 * Measured on an H200, 2026-11-21, symmetric groups of 128, weights from memory, one launch of a graph of many, in us,
 * with the divisions of backends/w4_tiles.py (benchmarks/cuda_linears.py):
 *   N x K            6144x4096  4096x4096  28672x4096  4096x14336   sum
 *   batch 1                6.5        5.1        18.8        10.9  41.4
 *   batch 2                5.9        5.1        17.3        10.3  38.6
 *   batch 4                5.8        5.3        18.6        11.6  41.3
 *   batch 8                6.7        5.3        18.3        11.2  41.4
 *   batch 16               9.9        7.5        24.1        15.0  56.4  (a tuning run of the kernel alone)
 * Reading the weights at 4.8 TB/s takes 23.4. Tuning runs of the kernel alone at batch 1, the best of some hundred
 * divisions, summed: nibbles turned into q - zero, x staged load by load 45.9; eight loads of x at once 42.3; bare nibbles
 * 40.2; shorter chains 40.1; balanced over 132 SMs 41.5.
 */
#include "ec_linear_w4_params.h"
#include "ec_mma.cuh"
#include "ec_w4.cuh"

/* What a warp works on. */
template <int GROUP, int MT> struct ec_w4_share {
    static constexpr int CHUNKS = GROUP / EC_W4_CHUNK; /* of a group */
    int warp, lane, wm, wk;
    int tile, tiles;   /* first of the block, and how many: at most p.wm * MT */
    int group, groups; /* first of the block's split, and how many */
    int begin, end;    /* this warp's, from the split's first */

    __device__ __forceinline__ explicit ec_w4_share(const ec_linear_w4_params &p)
    {
        warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
        wm = warp % p.wm, wk = warp / p.wm;
        tile = (int)((int64_t)blockIdx.x * p.tiles / gridDim.x);
        tiles = (int)((int64_t)(blockIdx.x + 1) * p.tiles / gridDim.x) - tile;
        group = (int)blockIdx.y * p.split_groups;
        groups = min(p.split_groups, p.in_c / GROUP - group);
        begin = groups * wk / p.wk, end = groups * (wk + 1) / p.wk;
    }
};

/* Shared memory of a block: bias, x, sums of x over groups, scales, zeros, the ring of weights. The sums take the place
 * of all that is behind the bias. */
struct ec_w4_memory {
    float *bias, *plain;
    unsigned char *x, *scale, *zero, *ring;
    float *sums;
    int pitch; /* bytes between two rows of x: no two of eight lanes that read together share a bank */
};

template <int GROUP, bool ASYM, int NT, int MT>
__device__ __forceinline__ ec_w4_memory ec_w4_divide(const ec_linear_w4_params &p, unsigned char *shared)
{
    ec_w4_memory m;
    const int pairs = p.wm * MT * p.split_groups;
    m.pitch = p.split_groups * GROUP * 2 + 16;
    m.bias = (float *)shared;
    m.x = shared + p.wm * MT * EC_W4_ROWS * 4;
    m.sums = (float *)m.x;
    m.plain = (float *)(m.x + p.rows * m.pitch);
    m.scale = (unsigned char *)(m.plain + p.split_groups * 8 * NT);
    m.zero = m.scale + pairs * 32;
    m.ring = m.zero + (ASYM ? pairs * 16 : 0);
    return m;
}

/* a / b of small numbers: exact below 2^22. */
__device__ __forceinline__ int ec_quotient(int a, int b)
{
    return (int)__fdividef((float)a + 0.5f, (float)b);
}

/* Scales or zeros of the block's tiles: [tile][group of the split][8 pairs]. */
template <int BYTES, typename SHARE>
__device__ __forceinline__ void ec_w4_copy_pairs(unsigned char *to, const void *from, const ec_linear_w4_params &p,
                                                 const SHARE &s, int groups_all)
{
    for (int tile = s.warp; tile < s.tiles; tile += blockDim.x >> 5) {
        const unsigned char *at = (const unsigned char *)from + ((size_t)(s.tile + tile) * groups_all + s.group) * BYTES;
        for (int i = s.lane; i < BYTES / 16 * s.groups; i += 32) {
            ec_copy_async16(to + tile * p.split_groups * BYTES + i * 16, at + i * 16, true);
        }
    }
}

/* bias[n] of the block's rows of weights, in their order; any number behind the last. */
template <bool GATED>
__device__ __forceinline__ void ec_w4_copy_bias(float *to, const float *bias, const ec_linear_w4_params &p, int first,
                                                int count)
{
    const int width = GATED ? p.out_c / 2 : p.out_c;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int row = first + i, n = GATED ? row / EC_W4_ROWS * 8 + row % 8 : row;
        ec_copy_async4(to + i, bias + (n < width ? (GATED && row % EC_W4_ROWS >= 8 ? width + n : n) : 0));
    }
}

/* Sum of the eight elements of LANES neighbouring lanes. */
template <typename T, int LANES> __device__ __forceinline__ float ec_w4_sum_of_lanes(const uint4 &v)
{
    const ec_vector<T, 8> eight = *reinterpret_cast<const ec_vector<T, 8> *>(&v);
    float sum = 0.0f;
#pragma unroll
    for (int e = 0; e < 8; e++) {
        sum += ec_float(eight.at[e]);
    }
#pragma unroll
    for (int step = LANES / 2; step > 0; step >>= 1) {
        sum += __shfl_xor_sync(0xffffffffu, sum, step);
    }
    return sum;
}

/*
 * x of the split, eight loads of each thread under way at once. For more than eight rows also its sums over groups,
 * plain[group][8 NT]; for fewer a product with ones gives these at less cost.
 */
template <typename T, int GROUP, int NT>
__device__ __forceinline__ void ec_w4_stage_x(const ec_w4_memory &m, const ec_linear_w4_params &p, const void *x,
                                              int first, int channels)
{
    constexpr int LANES = GROUP / 8; /* that hold a group */
    const int vectors = channels / 8, all = p.rows * vectors;
    for (int begin = threadIdx.x & ~31u; begin < all; begin += 8 * blockDim.x) {
        uint4 v[8];
        int row[8], at[8];
#pragma unroll
        for (int u = 0; u < 8; u++) {
            const int i = begin + u * blockDim.x + (threadIdx.x & 31);
            row[u] = ec_quotient(i, vectors), at[u] = i - row[u] * vectors;
            v[u] = make_uint4(0, 0, 0, 0);
            if (i < all) {
                v[u] = __ldcg((const uint4 *)((const T *)x + (size_t)row[u] * p.in_c + first + at[u] * 8));
            }
        }
#pragma unroll
        for (int u = 0; u < 8; u++) {
            if (begin + u * (int)blockDim.x >= all) {
                break;
            }
            const float sum = NT > 1 ? ec_w4_sum_of_lanes<T, LANES>(v[u]) : 0.0f;
            if (row[u] < p.rows) {
                *reinterpret_cast<uint4 *>(m.x + row[u] * m.pitch + at[u] * 16) = v[u];
                if (NT > 1 && at[u] % LANES == 0) {
                    m.plain[at[u] / LANES * 8 * NT + row[u]] = sum;
                }
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

/* The ring of weights: a lane's own 16 bytes of each chunk and tile of a group, DEPTH groups. */
template <int GROUP, int MT, int DEPTH> struct ec_w4_ring {
    static constexpr int CHUNKS = GROUP / EC_W4_CHUNK, STAGE = MT * CHUNKS * 512;
    unsigned char *begin;
    const unsigned char *from[MT];
    int left, stage; /* groups not asked for yet; byte of the stage that is next */

    __device__ __forceinline__ ec_w4_ring(const ec_w4_share<GROUP, MT> &s, const ec_linear_w4_params &p,
                                          unsigned char *ring, const void *q)
    {
        begin = ring + s.warp * (DEPTH * STAGE) + s.lane * 16;
        stage = 0, left = s.end - s.begin;
#pragma unroll
        for (int i = 0; i < MT; i++) {
            const size_t chunk = (size_t)min(s.tile + s.wm * MT + i, p.tiles - 1) * (p.in_c / EC_W4_CHUNK) +
                                 (s.group + s.begin) * CHUNKS;
            from[i] = (const unsigned char *)q + (chunk * 32 + s.lane) * 16;
        }
    }

    /* Asks for the next group, into `to`. */
    __device__ __forceinline__ void copy(unsigned char *to)
    {
        if (left > 0) {
#pragma unroll
            for (int i = 0; i < MT; i++) {
#pragma unroll
                for (int c = 0; c < CHUNKS; c++) {
                    ec_copy_async16(to + (i * CHUNKS + c) * 512, from[i] + c * 512, true);
                }
                from[i] += CHUNKS * 512;
            }
            left--;
        }
        ec_copy_commit();
    }

    /* Takes the oldest group and asks for another in its place. */
    __device__ __forceinline__ void take(uint4 (&w)[MT][CHUNKS])
    {
        ec_copy_wait<DEPTH - 1>();
        unsigned char *at = begin + stage;
#pragma unroll
        for (int i = 0; i < MT; i++) {
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                w[i][c] = *(const uint4 *)(at + (i * CHUNKS + c) * 512);
            }
        }
        copy(at);
        stage = stage == (DEPTH - 1) * STAGE ? 0 : stage + STAGE;
    }
};

/* Sums of the warp's tiles over its groups. */
template <typename T, int GROUP, bool ASYM, int NT, int MT, int DEPTH>
__device__ __forceinline__ void ec_w4_sum(float (&sums)[MT][NT][4], const ec_linear_w4_params &p,
                                          const ec_w4_share<GROUP, MT> &s, const ec_w4_memory &m,
                                          ec_w4_ring<GROUP, MT, DEPTH> &ring, const unsigned char *nothing)
{
    typedef ec_w4_raw<T> Raw;
    constexpr int CHUNKS = GROUP / EC_W4_CHUNK;
    const uint32_t ones[4] = {Raw::ONES, Raw::ONES, Raw::ONES, Raw::ONES};
    const int pair = (s.wm * MT * p.split_groups + s.begin) * 8 + (s.lane >> 2);
    const uint32_t *scale = (const uint32_t *)m.scale + pair;
    const uint16_t *zero = (const uint16_t *)m.zero + pair;
    uint32_t x_at[NT], x_step[NT];
#pragma unroll
    for (int j = 0; j < NT; j++) {
        const int row = (s.lane & 7) + 8 * j;
        const unsigned char *of = row < p.rows ? m.x + row * m.pitch + s.begin * GROUP * 2 : nothing;
        x_at[j] = (uint32_t)__cvta_generic_to_shared(of) + (s.lane >> 3) * 16;
        x_step[j] = row < p.rows ? EC_SLICE_BYTES : 0;
    }
    uint4 ahead[MT][CHUNKS];
    ring.take(ahead);
    for (int group = s.begin; group < s.end; group++) {
        uint4 w[MT][CHUNKS];
        constexpr int CHAINS = MT * NT < 4 ? CHUNKS : 1; /* sums that do not wait for each other */
        float part[CHAINS][MT][NT][4] = {}, of_ones[CHUNKS][4] = {};
#pragma unroll
        for (int i = 0; i < MT * CHUNKS; i++) {
            w[i / CHUNKS][i % CHUNKS] = ahead[i / CHUNKS][i % CHUNKS];
        }
        uint32_t b[CHUNKS][NT][2][4];
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
            for (int j = 0; j < NT; j++) {
                ec_ldmatrix(b[c][j][0], x_at[j]);
                ec_ldmatrix(b[c][j][1], x_at[j] + 64);
                x_at[j] += x_step[j];
            }
        }
        if (group + 1 < s.end) {
            ring.take(ahead);
        }
#pragma unroll
        for (int step = 0; step < 4; step++) {
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                if (NT == 1) {
                    const uint32_t(&v)[4] = b[c][0][step >> 1];
                    ec_mma<T>::run(of_ones[c], ones, v[step % 2 * 2], v[step % 2 * 2 + 1]);
                }
#pragma unroll
                for (int i = 0; i < MT; i++) {
                    const uint4 &q = w[i][c];
                    uint32_t a[4];
                    Raw::run(a, step == 0 ? q.x : step == 1 ? q.y : step == 2 ? q.z : q.w);
#pragma unroll
                    for (int j = 0; j < NT; j++) {
                        const uint32_t(&v)[4] = b[c][j][step >> 1];
                        ec_mma<T>::run(part[c % CHAINS][i][j], a, v[step % 2 * 2], v[step % 2 * 2 + 1]);
                    }
                }
            }
        }
        float2 plain[NT];
#pragma unroll
        for (int j = 0; j < NT; j++) {
            plain[j] = NT > 1 ? *(const float2 *)(m.plain + (group * NT + j) * 8 + 2 * (s.lane & 3))
                              : make_float2(of_ones[0][0] + of_ones[CHUNKS - 1][0] * (CHUNKS - 1),
                                            of_ones[0][1] + of_ones[CHUNKS - 1][1] * (CHUNKS - 1));
        }
#pragma unroll
        for (int i = 0; i < MT; i++) {
            const float2 f = ec_scale_pair(scale[i * p.split_groups * 8], T());
            const uint32_t z = ASYM ? zero[i * p.split_groups * 8] : 0x0808u;
            const float first = f.x * Raw::FIRST, second = f.y * Raw::SECOND;
            const float zero_first = -f.x * (Raw::OFFSET + (float)(z & 0xffu));
            const float zero_second = -f.y * (Raw::OFFSET + (float)(z >> 8));
#pragma unroll
            for (int j = 0; j < NT; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const float product = part[0][i][j][e] + (CHAINS > 1 ? part[CHAINS - 1][i][j][e] : 0.0f);
                    const float x = e % 2 ? plain[j].y : plain[j].x;
                    sums[i][j][e] = fmaf(product, e < 2 ? first : second,
                                         fmaf(x, e < 2 ? zero_first : zero_second, sums[i][j][e]));
                }
            }
        }
        scale += 8, zero += 8;
    }
}

/* Writes the warp's sums as [wk][row of x][row of the block]; `pitch` floats lie between two rows of x. */
template <int NT, int MT>
__device__ __forceinline__ void ec_w4_spill(float *to, const float (&sums)[MT][NT][4], int wm, int wk, int pitch)
{
    const int lane = threadIdx.x & 31;
    to += (wk * 8 * NT + 2 * (lane & 3)) * pitch + wm * MT * EC_W4_ROWS + (lane >> 2);
#pragma unroll
    for (int i = 0; i < MT; i++) {
#pragma unroll
        for (int j = 0; j < NT; j++) {
            float *at = to + 8 * j * pitch + i * EC_W4_ROWS;
            at[0] = sums[i][j][0];
            at[pitch] = sums[i][j][1];
            at[8] = sums[i][j][2];
            at[pitch + 8] = sums[i][j][3];
        }
    }
}

/* Where the sums of a block come from: `parts` of them, `part` floats apart, rows of x `pitch` floats apart. What other
 * blocks wrote is read from L2: kernels that overlap share the L1 cache of an SM. */
struct ec_w4_sums {
    const float *at;
    size_t part;
    int parts, pitch;
    bool of_others;

    template <int V> __device__ __forceinline__ void add(float (&v)[V], int row, int n) const
    {
        const float *from = at + (size_t)row * pitch + n;
#pragma unroll 4
        for (int k = 0; k < parts; k++) {
#pragma unroll
            for (int e = 0; e < V; e += V % 4 == 0 ? 4 : 1) {
                if (V % 4 == 0) {
                    const float4 *four = (const float4 *)(from + k * part + e);
                    const float4 u = of_others ? __ldcg(four) : *four;
                    v[e] += u.x;
                    v[(e + 1) % V] += u.y;
                    v[(e + 2) % V] += u.z;
                    v[(e + 3) % V] += u.w;
                } else {
                    v[e] += of_others ? __ldcg(from + k * part + e) : from[k * part + e];
                }
            }
        }
    }
};

/* Scratch of split channels: sums[split][row of x][row of weights], then squares[split][column of blocks][row of x]. */
struct ec_w4_partial {
    float *sums, *squares;
    int pitch; /* rows of weights of all blocks */

    __device__ __forceinline__ ec_w4_partial(const ec_linear_w4_params &p, void *scratch, int block_rows)
    {
        pitch = (int)gridDim.x * block_rows;
        sums = (float *)scratch;
        squares = sums + (size_t)p.splits * p.rows * pitch;
    }
};

/* Hands this block's sums over. Whether it is the last of its column. */
__device__ __forceinline__ bool ec_w4_hand_over(const ec_linear_w4_params &p, const ec_w4_partial &to,
                                                const ec_w4_sums &from, const float *squares, int block_rows,
                                                int *counters)
{
    __shared__ int arrived;
    const int split = (int)blockIdx.y;
    for (int i = threadIdx.x; i < p.rows * block_rows / 4; i += blockDim.x) {
        const int row = ec_quotient(i, block_rows / 4), n = (i - row * (block_rows / 4)) * 4;
        float v[4] = {};
        from.add(v, row, n);
        __stcg((float4 *)(to.sums + ((size_t)split * p.rows + row) * to.pitch + blockIdx.x * block_rows + n),
               make_float4(v[0], v[1], v[2], v[3]));
    }
    if ((int)threadIdx.x < p.rows) {
        __stcg(to.squares + ((size_t)split * gridDim.x + blockIdx.x) * p.rows + threadIdx.x, squares[threadIdx.x]);
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        arrived = atomicAdd(counters + blockIdx.x, 1);
        if (arrived == p.splits - 1) {
            counters[blockIdx.x] = 0;
        }
    }
    __syncthreads();
    __threadfence();
    return arrived == p.splits - 1;
}

/* Bias, gate, clamp, epilogue; writes y. `squares`: of each row of x, with NORM. */
template <typename T, int V, bool GATED, bool NORM, typename Epilogue>
__device__ __forceinline__ void ec_w4_finish(const ec_linear_w4_params &p, const ec_w4_sums &sums,
                                             const float *squares, const float *bias, int first, int tiles, T *y,
                                             const Epilogue &epilogue)
{
    const int width = GATED ? p.out_c / 2 : p.out_c, each = GATED ? 8 : EC_W4_ROWS; /* outputs of a tile */
    const int vectors = tiles * (each / V);
    for (int i = threadIdx.x; i < p.rows * vectors; i += blockDim.x) {
        const int row = ec_quotient(i, vectors), at = i - row * vectors;
        const int tile = at / (each / V), in = at % (each / V) * V;
        const int n = tile * EC_W4_ROWS + in;
        const int out = (first + tile) * each + in;
        if (out >= width) {
            continue;
        }
        const float r = NORM ? rsqrtf(squares[row] / (float)p.in_c + p.norm_eps) : 1.0f;
        float v[V] = {}, u[V] = {};
        sums.add(v, row, n);
        if (GATED) {
            sums.add(u, row, n + 8);
        }
#pragma unroll
        for (int e = 0; e < V; e++) {
            v[e] = fmaf(v[e], r, bias[n + e]);
            if (GATED) {
                v[e] = v[e] / (1.0f + __expf(-v[e])) * fmaf(u[e], r, bias[n + 8 + e]);
            }
            v[e] = fminf(fmaxf(v[e], p.act_min), p.act_max);
        }
        const size_t index = (size_t)row * width + out;
        epilogue.template apply<V>(v, index, out);
        ec_store<T, V>(y + index, v);
    }
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
    const ec_w4_share<GROUP, MT> s(p);
    const ec_w4_memory m = ec_w4_divide<GROUP, ASYM, NT, MT>(p, shared);
    const int groups_all = p.in_c / GROUP, block_rows = p.wm * MT * EC_W4_ROWS;

    ec_launch_next();
    ec_w4_copy_pairs<32>(m.scale, pairs, p, s, groups_all);
    if (ASYM) {
        const unsigned char *zeros = (const unsigned char *)pairs + (size_t)p.tiles * groups_all * 32;
        ec_w4_copy_pairs<16>(m.zero, zeros, p, s, groups_all);
    }
    ec_w4_copy_bias<GATED>(m.bias, (const float *)bias, p, s.tile * EC_W4_ROWS, s.tiles * EC_W4_ROWS);
    ec_w4_ring<GROUP, MT, DEPTH> ring(s, p, m.ring, q);
#pragma unroll
    for (int d = 0; d < DEPTH; d++) {
        ring.copy(ring.begin + d * ring.STAGE);
    }
    if (threadIdx.x < EC_SLICE_BYTES / 4) {
        ((uint32_t *)nothing)[threadIdx.x] = 0;
    }

    ec_wait_previous();
    ec_w4_stage_x<T, GROUP, NT>(m, p, x, s.group * GROUP, s.groups * GROUP);
    ec_copy_wait<DEPTH - 1>();
    __syncthreads();
    if (NORM) {
        for (int row = s.warp; row < p.rows; row += blockDim.x >> 5) {
            const float sum = ec_w4_squares<T>(m, row, s.groups * GROUP);
            if (s.lane == 0) {
                squares[row] = sum;
            }
        }
    }
    float sums[MT][NT][4] = {};
    ec_w4_sum<T, GROUP, ASYM, NT, MT, DEPTH>(sums, p, s, m, ring, nothing);
    ec_copy_wait<0>();
    __syncthreads();

    const int pitch = block_rows + 4; /* so that no two lanes of a warp that write share a bank */
    ec_w4_spill<NT, MT>(m.sums, sums, s.wm, s.wk, pitch);
    __syncthreads();
    ec_w4_sums from = {m.sums, (size_t)8 * NT * pitch, p.wk, pitch, false};
    if (p.splits > 1) {
        const ec_w4_partial partial(p, scratch, block_rows);
        if (!ec_w4_hand_over(p, partial, from, squares, block_rows, (int *)counters)) {
            return;
        }
        from = {partial.sums + (size_t)blockIdx.x * block_rows, (size_t)p.rows * partial.pitch, p.splits,
                partial.pitch, true};
        if (NORM && (int)threadIdx.x < p.rows) {
            float sum = 0.0f;
            for (int k = 0; k < p.splits; k++) {
                sum += __ldcg(partial.squares + ((size_t)k * gridDim.x + blockIdx.x) * p.rows + threadIdx.x);
            }
            squares[threadIdx.x] = sum;
        }
        __syncthreads();
    }
    ec_w4_finish<T, V, GATED, NORM>(p, from, squares, m.bias, s.tile, s.tiles, (T *)y, epilogue);
}
