/*
 * ec_linear_w4_stream.cu: the formula of ec_linear_w4.cu for up to four rows of x on sm_90 and later, where the weights
 * stream through rings in shared memory while the kernel before still runs.
 *
 * There is one block an SM. In a chain of kernels the next one's blocks stand beside this one's and have asked for
 * their first weights before they wait, where narrow and wide layers take turns: of a narrow one no two blocks fit an
 * SM, of a wide one as many as the narrow one's leaves room for. Else a kernel would have two on one SM and none
 * on another. The warps of a block (p.wk) split the channels: of each tile of 16 rows of weights a warp takes S groups
 * of each p.wk S, DEPTH times S groups of MT tiles under way by bulk copies into a ring of its own, so that a block
 * reads one run of memory and no warp waits for another. KEEP: these S groups are all that a warp has of x, which stays
 * in registers as operand B, with its sums by group; else x comes anew with each step. After SET tiles the warps' sums
 * are added, in their order.
 *
 * x [rows, in_c], rows <= ROWS, y [rows, N]; packed weights, pairs, bias, GATED and NORM as in ec_linear_w4.cu. in_c is
 * a multiple of S GROUP; with KEEP it is p.wk S GROUP. p.wm: tiles of a block at most. p.splits is 1: no scratch, no
 * counters. Shared memory: StreamRows in backends/w4_stream.py.
 *
 * Measured on an H200, 2026-11-21, symmetric groups of 128, weights from memory, one launch of a graph of many, in us
 * (as benchmarks/cuda_linears.py), and a chain of the four with NORM and GATED, as a step of decoding has them; in
 * brackets what ec_linear_w4.cu took beside it:
 *   N x K            6144x4096  4096x4096  28672x4096  4096x14336          sum        chain
 *   batch 1                4.5        4.3        15.6        10.0  34.5 (41.5)  34.1 (44.1)
 *   batch 2                4.4        4.1        15.9        10.1  34.6 (38.8)
 *   batch 4                5.3        4.5        17.2        10.5  37.5 (41.4)  38.2 (44.3)
 * Reading the weights at 4.8 TB/s takes 23.4; a ring that only reads, 25. The next kernel knows of an end after 0.5 us.
 * That end and x wait behind weights that are asked for meanwhile: a whole ring asked for at once is slower (chain 34.9
 * instead of 34.5 in a tuning run), a next kernel that is launched late, too (40). Where all layers had half an SM, a
 * decode step placed two blocks on an SM and left 30 to 40 SMs without (51.6 us a layer, with stamps; 44.8 with one).
 * What did not help: weights asked for into L2, deeper rings of one block an SM, x by bulk copies, which queue behind
 * those of weights.
 */
#include "ec_bulk.cuh"
#include "ec_linear_w4_params.h"
#include "ec_mma.cuh"
#include "ec_w4.cuh"

enum {
    EC_W4_STREAM_WARPS = 8,
    EC_W4_STREAM_FIRST = 1 /* steps that a warp asks for before x: more stand in the way of the kernel before */
};

/* a / b of small numbers: exact below 2^22. */
__device__ __forceinline__ int ec_w4_quotient(int a, int b)
{
    return (int)__fdividef((float)a + 0.5f, (float)b);
}

/* 16 bytes at shared address `from` where `valid`; else v stays. */
__device__ __forceinline__ void ec_w4_read16(uint32_t (&v)[4], uint32_t from, bool valid)
{
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %5, 0;\n@p ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
                 : "+r"(v[0]), "+r"(v[1]), "+r"(v[2]), "+r"(v[3])
                 : "r"(from), "r"((int)valid)
                 : "memory");
}

/*
 * ROWS rows of x over one group for one warp, in registers as loaded, then as operand B. On the way they stand in the
 * warp's own shared memory: in each row the 16 channels of a chunk that a lane needs for its four steps together, and
 * chunks turned so that neither stores nor loads meet a bank twice.
 */
template <typename T, int GROUP, int ROWS> struct ec_w4_x {
    static constexpr int CHUNKS = GROUP / EC_W4_CHUNK, VECTORS = GROUP / 8; /* of a row */
    static constexpr int LOADS = ROWS * VECTORS > 32 ? ROWS * VECTORS / 32 : 1;
    static constexpr int PITCH = GROUP * 2 + 16, BYTES = ROWS * PITCH;
    uint4 v[LOADS];

    __device__ __forceinline__ void load(const T *from, int rows, int in_c, int lane)
    {
#pragma unroll
        for (int u = 0; u < LOADS; u++) {
            const int row = (u * 32 + lane) / VECTORS;
            v[u] = make_uint4(0, 0, 0, 0);
            if (row < rows) {
                v[u] = __ldcg((const uint4 *)(from + row * in_c + (u * 32 + lane) % VECTORS * 8));
            }
        }
    }

    /* Adds the squares of what each lane has loaded. */
    __device__ __forceinline__ void square(float (&sum)[LOADS]) const
    {
#pragma unroll
        for (int u = 0; u < LOADS; u++) {
            const ec_vector<T, 8> eight = *reinterpret_cast<const ec_vector<T, 8> *>(&v[u]);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                sum[u] = fmaf(ec_float(eight.at[e]), ec_float(eight.at[e]), sum[u]);
            }
        }
    }

    /* b[chunk][step / 2][step % 2 * 2 + 0, 1]; rows from ROWS on stay. */
    __device__ __forceinline__ void arrange(uint32_t (&b)[CHUNKS][2][4], unsigned char *memory, int lane) const
    {
        __syncwarp();
#pragma unroll
        for (int u = 0; u < LOADS; u++) {
            const int row = (u * 32 + lane) / VECTORS, at = (u * 32 + lane) % VECTORS;
            if (row < ROWS) {
                const uint32_t w[4] = {v[u].x, v[u].y, v[u].z, v[u].w};
#pragma unroll
                for (int t = 0; t < 4; t++) {
                    *(uint32_t *)(memory + row * PITCH + at / 8 * 128 + at % 8 * 4 + ((at / 8 ^ t) % 4 << 5)) = w[t];
                }
            }
        }
        __syncwarp();
        const int row = lane >> 2;
        const uint32_t from = (uint32_t)__cvta_generic_to_shared(memory) + row * PITCH;
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            const uint32_t at = from + c * 128 + ((lane ^ c) % 4 << 5);
            ec_w4_read16(b[c][0], at, row < ROWS);
            ec_w4_read16(b[c][1], at + 16, row < ROWS);
        }
    }
};

/* bias[n] of the block's rows of weights, in their order; any number behind the last. */
template <bool GATED>
__device__ __forceinline__ void ec_w4_copy_biases(float *to, const float *bias, int out_c, int first, int count)
{
    const int width = GATED ? out_c / 2 : out_c;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int row = first + i, n = GATED ? row / EC_W4_ROWS * 8 + row % 8 : row;
        ec_copy_async4(to + i, bias + (n < width ? (GATED && row % EC_W4_ROWS >= 8 ? width + n : n) : 0));
    }
    ec_copy_commit();
}

/* Shared memory of a block: see StreamRows in backends/w4_stream.py. */
template <int GROUP, bool ASYM, int RING> struct ec_w4_stream_memory {
    float *bias, *sums;
    unsigned char *ring, *x, *scale, *zero;

    __device__ __forceinline__ ec_w4_stream_memory(const ec_linear_w4_params &p, unsigned char *shared)
    {
        const int pairs = p.wm * (p.in_c / GROUP);
        ring = shared;
        scale = ring + p.wk * RING;
        zero = scale + pairs * 32;
        bias = (float *)(zero + (ASYM ? pairs * 16 : 0));
        sums = bias + p.wm * EC_W4_ROWS;
        x = (unsigned char *)sums;
    }
};

/* Adds the warps' sums, bias, gate, clamp, epilogue; writes y of `tiles` tiles from the block's `begin` on. */
template <typename T, int ROWS, bool GATED, bool NORM, typename Epilogue>
__device__ __forceinline__ void ec_w4_stream_finish(const ec_linear_w4_params &p, const float *sums, int part,
                                                    int tile_sums, const float *squares, const float *bias, int first,
                                                    int tiles, T *y, const Epilogue &epilogue)
{
    const int width = GATED ? p.out_c / 2 : p.out_c, each = GATED ? 8 : EC_W4_ROWS; /* outputs of a tile */
    const int outs = tiles * each;
#pragma unroll 1
    for (int i = threadIdx.x; i < p.rows * outs; i += blockDim.x) {
        const int row = ec_w4_quotient(i, outs), at = i - row * outs, tile = at / each, n = at % each;
        const int out = first * each + at;
        if (out >= width) {
            continue;
        }
        const float *of = sums + tile * tile_sums + row * EC_W4_ROWS + n;
        float v[1] = {}, u = 0.0f, square = 0.0f;
#pragma unroll 8
        for (int k = 0; k < p.wk; k++) {
            v[0] += of[k * part];
            u += GATED ? of[k * part + 8] : 0.0f;
            square += NORM ? squares[k * ROWS + row] : 0.0f;
        }
        const float r = NORM ? rsqrtf(square / (float)p.in_c + p.norm_eps) : 1.0f;
        const float *of_bias = bias + tile * EC_W4_ROWS + n;
        v[0] = fmaf(v[0], r, of_bias[0]);
        if (GATED) {
            v[0] = v[0] / (1.0f + __expf(-v[0])) * fmaf(u, r, of_bias[8]);
        }
        v[0] = fminf(fmaxf(v[0], p.act_min), p.act_max);
        const size_t index = (size_t)row * width + out;
        epilogue.template apply<1>(v, index, out);
        ec_store<T, 1>(y + index, v);
    }
}

template <typename T, int GROUP, bool ASYM, int ROWS, int MT, int S, int DEPTH, int SET, bool KEEP, bool GATED,
          bool NORM, typename Epilogue>
__device__ __forceinline__ void ec_linear_w4_stream_body(const ec_linear_w4_params &p, const void *x, const void *q,
                                                         const void *pairs, const void *bias, void *y,
                                                         const Epilogue &epilogue)
{
    typedef ec_w4_raw<T> Raw;
    typedef ec_w4_x<T, GROUP, ROWS> X;
    constexpr int CHUNKS = GROUP / EC_W4_CHUNK, TILE = S * CHUNKS * 512, STAGE = MT * TILE;
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ float squares[EC_W4_STREAM_WARPS * ROWS];
    __shared__ __align__(8) unsigned long long arrivals[EC_W4_STREAM_WARPS * DEPTH + 1];
    const ec_w4_stream_memory<GROUP, ASYM, DEPTH * STAGE> m(p, shared);
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;
    const int groups = p.in_c / GROUP;
    const int first = (int)((int64_t)blockIdx.x * p.tiles / gridDim.x);
    const int tiles = (int)((int64_t)(blockIdx.x + 1) * p.tiles / gridDim.x) - first;
    const int steps = KEEP ? 1 : (groups / S - warp + p.wk - 1) / p.wk; /* of the warp in a tile */
    const uint32_t ring = (uint32_t)__cvta_generic_to_shared(m.ring) + warp * (DEPTH * STAGE);
    const uint32_t arrived = (uint32_t)__cvta_generic_to_shared(arrivals) + warp * DEPTH * 8;
    const uint32_t pairs_arrived = (uint32_t)__cvta_generic_to_shared(arrivals) + EC_W4_STREAM_WARPS * DEPTH * 8;

    /* What is asked for next: `left` times S groups of MT tiles. */
    const uint32_t tile_bytes = groups * (CHUNKS * 512);
    const unsigned char *from = (const unsigned char *)q + (size_t)first * tile_bytes + warp * TILE;
    const uint32_t next_step = p.wk * TILE, next_tile = MT * tile_bytes - (KEEP ? 0 : (steps - 1) * next_step);
    int left = steps * ((tiles + MT - 1) / MT), left_of_tile = steps;
    auto ask = [&](int stage, bool elected) {
        const int count = MT == 1 ? 1 : left > steps ? MT : tiles - (tiles - 1) / MT * MT;
        if (elected) {
            ec_arrival_expect(arrived + stage * 8, count * TILE);
#pragma unroll
            for (int i = 0; i < MT; i++) {
                if (i < count) {
                    ec_copy_bulk(ring + stage * STAGE + i * TILE, from + i * tile_bytes, TILE, arrived + stage * 8);
                }
            }
        }
        left--;
        if (KEEP) {
            from += next_tile;
        } else {
            from += --left_of_tile ? next_step : next_tile;
            left_of_tile = left_of_tile ? left_of_tile : steps;
        }
    };
    const bool elected = ec_elected();
    if (elected) {
#pragma unroll
        for (int d = 0; d < DEPTH; d++) {
            ec_arrival_init(arrived + d * 8);
        }
        if (warp == 0) {
            ec_arrival_init(pairs_arrived);
        }
        ec_arrivals_ready();
    }
    __syncwarp();
#pragma unroll 1
    for (int d = 0; d < min(DEPTH, EC_W4_STREAM_FIRST) && left > 0; d++) {
        ask(d, elected);
    }
    if (warp == 0 && elected) {
        const size_t pair = (size_t)first * groups, all = (size_t)p.tiles * groups;
        ec_arrival_expect(pairs_arrived, tiles * groups * (ASYM ? 48 : 32));
        ec_copy_bulk((uint32_t)__cvta_generic_to_shared(m.scale), (const unsigned char *)pairs + pair * 32,
                     tiles * groups * 32, pairs_arrived);
        if (ASYM) {
            ec_copy_bulk((uint32_t)__cvta_generic_to_shared(m.zero),
                         (const unsigned char *)pairs + all * 32 + pair * 16, tiles * groups * 16, pairs_arrived);
        }
    }
    ec_launch_next();
    ec_w4_copy_biases<GATED>(m.bias, (const float *)bias, p.out_c, first * EC_W4_ROWS, tiles * EC_W4_ROWS);
    __syncthreads();

    ec_wait_previous();
    const T *const x_from = (const T *)x + warp * (S * GROUP);
    unsigned char *const x_held = m.x + warp * X::BYTES;
    const uint32_t ones[4] = {Raw::ONES, Raw::ONES, Raw::ONES, Raw::ONES};
    constexpr int HELD = KEEP ? S : 1; /* groups of x in registers */
    uint32_t b[HELD][CHUNKS][2][4] = {};
    float plain[HELD][2], square[X::LOADS] = {};
    auto arrange = [&](const X &of_x, int k) {
        of_x.arrange(b[k], x_held, lane);
        float sum[2][4] = {};
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const uint32_t (&v)[4] = b[k][c][j >> 1];
                ec_mma<T>::run(sum[j & 1], ones, v[j % 2 * 2], v[j % 2 * 2 + 1]);
            }
        }
        plain[k][0] = sum[0][0] + sum[1][0], plain[k][1] = sum[0][1] + sum[1][1];
    };
    auto share_squares = [&]() {
        constexpr int LANES = X::VECTORS; /* that have a row */
#pragma unroll
        for (int u = 0; u < X::LOADS; u++) {
#pragma unroll
            for (int far = LANES / 2; far > 0; far >>= 1) {
                square[u] += __shfl_xor_sync(0xffffffffu, square[u], far);
            }
            const int row = (u * 32 + lane) / X::VECTORS;
            if (lane % LANES == 0 && row < ROWS) {
                squares[warp * ROWS + row] = square[u];
            }
        }
    };
    auto ask_more = [&]() {
#pragma unroll 1
        for (int d = EC_W4_STREAM_FIRST; d < DEPTH && left > 0; d++) {
            ask(d, elected);
        }
    };
    X coming[KEEP ? 1 : S]; /* x of the next step */
    if constexpr (KEEP) {
        X of_x[S];
#pragma unroll
        for (int k = 0; k < S; k++) {
            of_x[k].load(x_from + k * GROUP, p.rows, p.in_c, lane);
        }
        ask_more();
        ec_copy_wait<0>();
#pragma unroll
        for (int k = 0; k < S; k++) {
            if (NORM) {
                of_x[k].square(square);
            }
            arrange(of_x[k], k);
        }
        if (NORM) {
            share_squares();
        }
        __syncthreads(); /* the sums take the place of x */
    } else {
#pragma unroll
        for (int k = 0; k < S; k++) {
            coming[k].load(x_from + k * GROUP, p.rows, p.in_c, lane);
        }
        ask_more();
        ec_copy_wait<0>();
    }
    ec_arrival_wait(pairs_arrived, 0);
    const int part = p.rows * EC_W4_ROWS, tile_sums = p.wk * part + EC_W4_ROWS;
    float *const sums_of = (KEEP ? m.sums : (float *)(m.x + p.wk * X::BYTES));
    int stage = 0, parity = 0;
#pragma unroll 1
    for (int begin = 0; begin < tiles; begin += SET) {
        const int end = min(begin + SET, tiles);
        float *to = sums_of + warp * part + 2 * (lane & 3) * EC_W4_ROWS + (lane >> 2);
#pragma unroll 1
        for (int tile = begin; tile < end; tile += MT) {
            float sums[MT][4] = {};
            int pair = (tile * groups + warp * S) * 8 + (lane >> 2);
#pragma unroll 1
            for (int step = 0; step < steps; step++) {
                ec_arrival_wait(arrived + stage * 8, parity);
                const unsigned char *at = m.ring + warp * (DEPTH * STAGE) + stage * STAGE + lane * 16;
#pragma unroll
                for (int k = 0; k < S; k++) {
                    if constexpr (!KEEP) {
                        if (NORM && tile == 0) {
                            coming[k].square(square);
                        }
                        arrange(coming[k], 0);
                        const int next = step + 1 < steps ? step + 1 : 0;
                        if (next > 0 || tile + MT < tiles) {
                            coming[k].load(x_from + (next * p.wk * S + k) * GROUP, p.rows, p.in_c, lane);
                        }
                    }
                    float products[MT][4] = {};
#pragma unroll
                    for (int c = 0; c < CHUNKS; c++) {
                        uint4 w[MT];
#pragma unroll
                        for (int i = 0; i < MT; i++) {
                            w[i] = *(const uint4 *)(at + i * TILE + (k * CHUNKS + c) * 512);
                        }
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            const uint32_t (&v)[4] = b[KEEP ? k : 0][c][j >> 1];
#pragma unroll
                            for (int i = 0; i < MT; i++) {
                                uint32_t a[4];
                                Raw::run(a, j == 0 ? w[i].x : j == 1 ? w[i].y : j == 2 ? w[i].z : w[i].w);
                                ec_mma<T>::run(products[i], a, v[j % 2 * 2], v[j % 2 * 2 + 1]);
                            }
                        }
                    }
#pragma unroll
                    for (int i = 0; i < MT; i++) {
                        const int of = pair + (i * groups + k) * 8;
                        const float2 f = ec_scale_pair(((const uint32_t *)m.scale)[of], T());
                        const uint32_t z = ASYM ? ((const uint16_t *)m.zero)[of] : 0x0808u;
                        const float first_zero = -(Raw::OFFSET + (float)(z & 0xffu)) / Raw::FIRST;
                        const float second_zero = -(Raw::OFFSET + (float)(z >> 8)) / Raw::SECOND;
#pragma unroll
                        for (int e = 0; e < 4; e++) {
                            const float zero = e < 2 ? first_zero : second_zero;
                            sums[i][e] = fmaf(fmaf(plain[KEEP ? k : 0][e % 2], zero, products[i][e]), e < 2 ? f.x : f.y,
                                              sums[i][e]);
                        }
                    }
                }
                if (left > 0) {
                    __syncwarp();
                    ask(stage, ec_elected());
                }
                if (++stage == DEPTH) {
                    stage = 0;
                    parity ^= 1;
                }
                pair += p.wk * S * 8;
            }
#pragma unroll
            for (int e = 0; e < 2; e++) {
                if (2 * (lane & 3) + e < p.rows) {
#pragma unroll
                    for (int i = 0; i < MT; i++) {
                        if (MT == 1 || tile + i < end) {
                            to[e * EC_W4_ROWS + i * tile_sums] = sums[i][e] * Raw::FIRST;
                            to[e * EC_W4_ROWS + i * tile_sums + 8] = sums[i][2 + e] * Raw::SECOND;
                        }
                    }
                }
            }
            to += MT * tile_sums;
        }
        if (NORM && !KEEP && begin == 0) {
            share_squares();
        }
        __syncthreads();
        ec_w4_stream_finish<T, ROWS, GATED, NORM>(p, sums_of, part, tile_sums, squares, m.bias + begin * EC_W4_ROWS,
                                                  first + begin, end - begin, (T *)y, epilogue);
        if (end < tiles) {
            __syncthreads();
        }
    }
}
