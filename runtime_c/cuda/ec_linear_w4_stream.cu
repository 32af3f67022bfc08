/*
 * ec_linear_w4_stream.cu: the formula of ec_linear_w4.cu for up to sixteen rows of x on sm_90 and later, where weights
 * stream through rings in shared memory while x stays in registers.
 *
 * There is one block an SM. Its warps (p.wk) split its channels: each has S groups of x in registers, as operand B for
 * NT times eight rows, and its sums by group. Of each tile of 16 rows of weights it takes these S groups, DEPTH times
 * under way by bulk copies into a ring of its own, so that a block reads one run of memory and no warp waits for
 * another. The warps' sums of a set of SET tiles stand in shared memory where x was; after one barrier a set some of
 * the warps add them, in their order, while the others go on with the next set in another place.
 *
 * PAIR: two neighbouring blocks, a cluster, fetch half of the rows of x each, for both. What leaves the L2 for x, again
 * for every SM, costs time of the weights. SPLIT: p.splits blocks or pairs share the channels of their tiles; the last
 * to arrive adds the sums of all, in the order of the splits.
 *
 * Products and all other instructions take turns: an HMMA takes 6 cycles of a scheduler, each other one 1.3 more. So
 * the loop has as few as possible, and addresses that the compiler would make anew in each turn are kept in registers.
 *
 * x [rows, in_c], rows <= 8 NT, y [rows, N]; packed weights, pairs, bias, GATED and NORM as in ec_linear_w4.cu. p.wm:
 * tiles of a block at most. p.split_groups, S p.wk: groups of a split. Shared memory, scratch: StreamRows in
 * backends/w4_stream.py. Counters: one for the blocks that share tiles.
 *
 * Measured on an H200, 2026-11-22, symmetric groups of 128, weights from memory, one launch of a graph of many, in us
 * (benchmarks/cuda_linears.py); in brackets the sum of the kernel before (up to four rows) and of the kernels that took
 * more rows, ec_linear_w4.cu (8) and ec_linear_w4_wgmma.cu (16):
 *   N x K            6144x4096  4096x4096  28672x4096  4096x14336          sum
 *   batch 1                4.4        3.6        15.0        10.0  33.0 (34.5)
 *   batch 2                4.7        4.1        15.5        10.2  34.5 (34.6)
 *   batch 4                5.0        4.4        16.0        10.4  35.7 (37.5)
 *   batch 8                5.2        4.6        16.5        10.5  36.7 (41.3)
 *   batch 16               6.6        5.8        18.1        13.1  43.6 (52.4)
 * Reading the weights at 4.8 TB/s takes 23.4; a ring that only reads, 25. What the sums of batch 16 owe (tuning runs):
 * x by loads of every SM 58.8, by a cluster of two 46.3, stages in x's place 45.5. Where 28672 x 4096 waits for no
 * weights its loop takes 12.5 us for 16 rows and 10.2 for 8; x is there 2.6 us after the kernel before has ended.
 * What did not help: x in two halves, so that the ring is twice as deep, since x then waits behind more weights (48.5);
 * whole rows of x by one copy; clusters that share the channels, of which only 30 of four fit the chip.
 *
 * A block has its SM alone, so that nothing of the next kernel runs before this one's end. The kernel before, whose
 * blocks took half an SM and kept x in shared memory where they could not hold it, was slower alone but not in a chain
 * of the four with NORM and GATED: 34.1 us where this one takes 35.3, and a decode step of 1.51 ms instead of 1.62.
 */
#include "ec_bulk.cuh"
#include "ec_cluster.cuh"
#include "ec_linear_w4_params.h"
#include "ec_mma.cuh"
#include "ec_w4.cuh"

enum { EC_W4_STREAM_WARPS = 16 };

/* Shared memory at 32-bit addresses. */
__device__ __forceinline__ uint4 ec_w4_shared16(uint32_t at)
{
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(at)
                 : "memory");
    return v;
}

__device__ __forceinline__ uint32_t ec_w4_shared4(uint32_t at)
{
    uint32_t v;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at) : "memory");
    return v;
}

__device__ __forceinline__ uint32_t ec_w4_shared2(uint32_t at)
{
    uint16_t v;
    asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at) : "memory");
    return v;
}

__device__ __forceinline__ void ec_w4_put(uint32_t at, float a, float b)
{
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(a), "f"(b) : "memory");
}

__device__ __forceinline__ void ec_w4_put(uint32_t at, float a, float b, float c, float d)
{
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(at), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}

/* A shared address that stays in a register. */
__device__ __forceinline__ uint32_t ec_w4_kept(const void *shared)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("" : "+r"(at));
    return at;
}

/* What a block works on, and where its shared memory is: rings, x by warps, scales, zeros, bias. */
template <int GROUP, bool ASYM, bool PAIR, bool SPLIT, int RING> struct ec_w4_stream_share {
    uint32_t rank, part, column, columns;
    int first, tiles;            /* tiles of weights */
    int groups, begin;           /* of channels: of the block, and its first */
    int all_groups;
    unsigned char *x, *scale, *zero;
    float *bias;

    __device__ __forceinline__ ec_w4_stream_share(const ec_linear_w4_params &p, unsigned char *shared, int x_each)
    {
        const uint32_t splits = SPLIT ? p.splits : 1, block = PAIR ? blockIdx.x / 2 : blockIdx.x;
        rank = PAIR ? blockIdx.x % 2 : 0;
        part = SPLIT ? block % splits : 0;
        column = PAIR ? block / splits * 2 + rank : block / splits;
        columns = gridDim.x / splits;
        first = column * (uint32_t)p.tiles / columns;
        tiles = (column + 1) * (uint32_t)p.tiles / columns - first;
        all_groups = p.in_c / GROUP;
        begin = part * p.split_groups;
        groups = min(p.split_groups, all_groups - begin);
        x = shared + p.wk * RING;
        scale = x + p.wk * x_each;
        zero = scale + p.wm * p.split_groups * 32;
        bias = (float *)(zero + (ASYM ? p.wm * p.split_groups * 16 : 0));
    }

    /* Asks for the pairs of all tiles; for one warp. */
    __device__ __forceinline__ void ask_pairs(const ec_linear_w4_params &p, const void *pairs, uint32_t barrier,
                                              bool elected, int lane) const
    {
        const unsigned char *const scales = (const unsigned char *)pairs + ((size_t)first * all_groups + begin) * 32;
        const unsigned char *const zeros =
            (const unsigned char *)pairs + ((size_t)(2 * p.tiles + first) * all_groups + begin) * 16;
        const uint32_t to_scale = (uint32_t)__cvta_generic_to_shared(scale);
        const uint32_t to_zero = (uint32_t)__cvta_generic_to_shared(zero);
        if (elected) {
            ec_arrival_expect(barrier, tiles * groups * (ASYM ? 48 : 32));
        }
        __syncwarp();
        if (groups == all_groups && groups == p.split_groups) {
            if (elected) {
                ec_copy_bulk(to_scale, scales, tiles * groups * 32, barrier);
                if (ASYM) {
                    ec_copy_bulk(to_zero, zeros, tiles * groups * 16, barrier);
                }
            }
        } else {
            for (int t = lane; t < tiles; t += 32) {
                ec_copy_bulk(to_scale + t * p.split_groups * 32, scales + (size_t)t * all_groups * 32, groups * 32,
                             barrier);
                if (ASYM) {
                    ec_copy_bulk(to_zero + t * p.split_groups * 16, zeros + (size_t)t * all_groups * 16, groups * 16,
                                 barrier);
                }
            }
        }
    }

    /* Scales of the groups from `from` to `to`, which are behind the last. */
    __device__ __forceinline__ void fill_pairs(const ec_linear_w4_params &p, int from, int to, int lane) const
    {
        for (int t = 0; t < tiles && from < to; t++) {
            for (int i = from * 8 + lane; i < to * 8; i += 32) {
                ((uint32_t *)scale)[t * p.split_groups * 8 + i] = 0;
            }
        }
    }

    /* bias[n] of the block's rows of weights, in their order; any number behind the last. */
    template <bool GATED>
    __device__ __forceinline__ void copy_biases(const ec_linear_w4_params &p, const float *from) const
    {
        const int width = GATED ? p.out_c / 2 : p.out_c;
        for (int i = threadIdx.x; i < tiles * EC_W4_ROWS; i += blockDim.x) {
            const int row = first * EC_W4_ROWS + i, n = GATED ? row / EC_W4_ROWS * 8 + row % 8 : row;
            ec_copy_async4(bias + i, from + (n < width ? (GATED && row % EC_W4_ROWS >= 8 ? width + n : n) : 0));
        }
        ec_copy_commit();
    }
};

/*
 * A warp's part of x: its rows, at most 8 NT, over S groups, in the warp's own shared memory, row after row and PITCH
 * bytes apart, so that ldmatrix meets no bank twice; then in registers as operand B.
 */
template <typename T, int GROUP, int NT, int S> struct ec_w4_stream_x {
    typedef ec_w4_raw<T> Raw;
    static constexpr int CHUNKS = GROUP / EC_W4_CHUNK, VECTORS = S * GROUP / 8, PITCH = S * GROUP * 2 + 16;
    uint32_t b[S][NT][CHUNKS][2][4];
    float plain[S][NT][2]; /* sums of x by group: rows 8 t + lane % 4 * 2 + 0, 1 */

    /* Asks for all rows, zeros behind the last group. */
    static __device__ __forceinline__ void ask(unsigned char *to, const T *from, int rows, int groups, int in_c,
                                               int lane)
    {
#pragma unroll 4
        for (int i = lane; i < rows * VECTORS; i += 32) {
            const int row = i / VECTORS, at = i % VECTORS;
            const bool valid = at < groups * (GROUP / 8);
            ec_copy_async16(to + row * PITCH + at * 16, from + (valid ? row * in_c + at * 8 : 0), valid);
        }
        ec_copy_commit();
    }

    /* What ask_half leaves out. */
    static __device__ __forceinline__ void fill(unsigned char *to, int rows, int groups, int lane)
    {
        for (int i = lane; i < rows * VECTORS && groups < S; i += 32) {
            if (i % VECTORS >= groups * (GROUP / 8)) {
                *(uint4 *)(to + i / VECTORS * PITCH + i % VECTORS * 16) = make_uint4(0, 0, 0, 0);
            }
        }
    }

    /* Expects the rows 8 t to 8 t + 7 by barrier t; by one thread. */
    static __device__ __forceinline__ void expect(uint32_t barriers, int rows, int groups)
    {
#pragma unroll
        for (int t = 0; t < NT; t++) {
            ec_arrival_expect(barriers + t * 8, min(max(rows - 8 * t, 0), 8) * groups * (GROUP * 2));
        }
    }

    /* Asks for every other row, for both blocks of the cluster. */
    static __device__ __forceinline__ void ask_half(unsigned char *to, const T *from, int rows, int groups, int in_c,
                                                    uint32_t barriers, int rank, int lane)
    {
        const int row = 2 * lane + rank;
        if (lane < NT * 4 && row < rows && groups > 0) {
            ec_copy_bulk_both((uint32_t)__cvta_generic_to_shared(to) + row * PITCH, from + row * in_c,
                              groups * (GROUP * 2), barriers + row / 8 * 8);
        }
        __syncwarp();
    }

    /* Rows 8 t to 8 t + 7, which have arrived; `nothing`: 16 bytes of zeros. */
    __device__ __forceinline__ void load(int t, const unsigned char *held, const uint4 *nothing, int rows, int lane)
    {
        const int row = t * 8 + (lane & 7);
        const void *const at = row < rows ? (const void *)(held + row * PITCH + (lane >> 3) * 16) : nothing;
        const uint32_t from = (uint32_t)__cvta_generic_to_shared(at), next = row < rows ? 64 : 0;
        const uint32_t ones[4] = {Raw::ONES, Raw::ONES, Raw::ONES, Raw::ONES};
#pragma unroll
        for (int k = 0; k < S; k++) {
            float sum[2][4] = {};
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                ec_ldmatrix(b[k][t][c][0], from + (k * CHUNKS + c) * 2 * next);
                ec_ldmatrix(b[k][t][c][1], from + ((k * CHUNKS + c) * 2 + 1) * next);
            }
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const uint32_t (&v)[4] = b[k][t][c][j >> 1];
                    ec_mma<T>::run(sum[j & 1], ones, v[j % 2 * 2], v[j % 2 * 2 + 1]);
                }
            }
            plain[k][t][0] = sum[0][0] + sum[1][0], plain[k][t][1] = sum[0][1] + sum[1][1];
        }
    }

    /* Sums of squares of the rows to to[0] .. to[8 NT - 1]: the diagonal of x x^T. Operand A of a row is its B. */
    __device__ __forceinline__ void square(float *to, int lane) const
    {
#pragma unroll
        for (int t = 0; t < NT; t++) {
            float sum[4][4] = {};
#pragma unroll
            for (int k = 0; k < S; k++) {
#pragma unroll
                for (int c = 0; c < CHUNKS; c++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        const uint32_t (&v)[4] = b[k][t][c][j >> 1];
                        const uint32_t a[4] = {v[j % 2 * 2], 0u, v[j % 2 * 2 + 1], 0u};
                        ec_mma<T>::run(sum[j], a, v[j % 2 * 2], v[j % 2 * 2 + 1]);
                    }
                }
            }
            const int row = lane >> 2, odd = row % 2;
            if (row / 2 == (lane & 3)) {
                to[8 * t + row] = odd ? (sum[0][1] + sum[1][1]) + (sum[2][1] + sum[3][1])
                                      : (sum[0][0] + sum[1][0]) + (sum[2][0] + sum[3][0]);
            }
        }
    }

    /* Adds the products with a tile's S groups at shared address `at`, whose pairs are at `scale` and `zero`. */
    template <bool ASYM>
    __device__ __forceinline__ void multiply(float (&sums)[NT][4], uint32_t at, uint32_t scale, uint32_t zero) const
    {
#pragma unroll
        for (int k = 0; k < S; k++) {
            float products[NT][4];
#pragma unroll
            for (int t = 0; t < NT; t++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    products[t][e] = ASYM ? 0.0f : start(k, t, e, 8.0f);
                }
            }
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                const uint4 w = ec_w4_shared16(at + (k * CHUNKS + c) * 512);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    uint32_t a[4];
                    Raw::run(a, j == 0 ? w.x : j == 1 ? w.y : j == 2 ? w.z : w.w);
#pragma unroll
                    for (int t = 0; t < NT; t++) {
                        const uint32_t (&v)[4] = b[k][t][c][j >> 1];
                        ec_mma<T>::run(products[t], a, v[j % 2 * 2], v[j % 2 * 2 + 1]);
                    }
                }
            }
            const float2 f = ec_scale_pair(ec_w4_shared4(scale + k * 32), T());
            const uint32_t z = ASYM ? ec_w4_shared2(zero + k * 16) : 0;
#pragma unroll
            for (int t = 0; t < NT; t++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    if (ASYM) {
                        products[t][e] += start(k, t, e, (float)(e < 2 ? z & 0xffu : z >> 8));
                    }
                    sums[t][e] = fmaf(products[t][e], e < 2 ? f.x : f.y, sums[t][e]);
                }
            }
        }
    }

    /* What the sum of raw products of group k begins with, so that it becomes one of q - zero. */
    __device__ __forceinline__ float start(int k, int t, int e, float zero) const
    {
        return plain[k][t][e % 2] * (-(Raw::OFFSET + zero) / (e < 2 ? Raw::FIRST : Raw::SECOND));
    }
};

/* Bias, gate, clamp, epilogue of outputs whose sums are complete; `norm` of lane i belongs to row i of x. */
template <typename T, bool GATED, bool NORM, typename Epilogue> struct ec_w4_stream_writer {
    const ec_linear_w4_params &p;
    T *y;
    const float *bias;
    int first, lane;
    float norm;
    const Epilogue &epilogue;

    /* v: the sums of the rows lane / 4 and lane / 4 + 8 of weights of the block's tile `tile`, for row `row` of x. */
    __device__ __forceinline__ void run(float (&v)[2], int row, int tile) const
    {
        const int width = GATED ? p.out_c / 2 : p.out_c;
        const int out = (first + tile) * (GATED ? 8 : EC_W4_ROWS) + (lane >> 2);
        const float r = NORM ? __shfl_sync(0xffffffffu, norm, row) : 1.0f;
        const float *of_bias = bias + tile * EC_W4_ROWS + (lane >> 2);
        v[0] = fmaf(v[0] * ec_w4_raw<T>::FIRST, r, of_bias[0]);
        v[1] = fmaf(v[1] * ec_w4_raw<T>::SECOND, r, of_bias[8]);
        if (row < p.rows) {
            const size_t index = (size_t)row * width + out;
#pragma unroll
            for (int e = 0; e < (GATED ? 1 : 2); e++) {
                if (out + e * 8 < width) {
                    float u[1] = {GATED ? v[0] / (1.0f + __expf(-v[0])) * v[1] : v[e]};
                    u[0] = fminf(fmaxf(u[0], p.act_min), p.act_max);
                    epilogue.template apply<1>(u, index + e * 8, out + e * 8);
                    ec_store<T, 1>(y + index + e * 8, u);
                }
            }
        }
    }
};

/* The first row of x of place `place`: of a tile there are PLACES, each of 32 lanes, whose rows are lane % 4 * 2 on. */
template <int PLACES> __device__ __forceinline__ int ec_w4_stream_row(int place)
{
    return place % PLACES / 2 * 8 + place % 2;
}

/* Of the blocks that share tiles the last to come here: all that the others have written is to be seen. */
__device__ __forceinline__ bool ec_w4_stream_last(uint32_t *counter, uint32_t splits)
{
    __shared__ uint32_t last;
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t turn;
        asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;" : "=r"(turn) : "l"(counter) : "memory");
        if (turn == splits - 1) {
            *counter = 0;
        }
        last = turn == splits - 1;
    }
    __syncthreads();
    return last;
}

/* Adds the sums that all splits have left in `parts`, `each` floats of one, for `places` of 32 lanes by two. */
template <int PLACES, typename Writer>
__device__ __forceinline__ void ec_w4_stream_join(const ec_linear_w4_params &p, const float *parts, size_t each,
                                                  int places, int warp, int lane, const Writer &writer)
{
    constexpr int TOGETHER = 4;
    auto there = [&](int place) { return place < places && ec_w4_stream_row<PLACES>(place) < p.rows; };
#pragma unroll 1
    for (int begin = warp; begin < places; begin += p.wk * TOGETHER) {
        float v[TOGETHER][2] = {};
#pragma unroll 4
        for (int k = 0; k < p.splits; k++) {
#pragma unroll
            for (int i = 0; i < TOGETHER; i++) {
                if (there(begin + i * p.wk)) {
                    const float2 u = __ldcg((const float2 *)(parts + k * each) + (begin + i * p.wk) * 32 + lane);
                    v[i][0] += u.x;
                    v[i][1] += u.y;
                }
            }
        }
#pragma unroll
        for (int i = 0; i < TOGETHER; i++) {
            const int place = begin + i * p.wk;
            if (there(place)) {
                writer.run(v[i], ec_w4_stream_row<PLACES>(place) + (lane & 3) * 2, place / PLACES);
            }
        }
    }
}

template <typename T, int GROUP, bool ASYM, int NT, int S, int DEPTH, int SET, bool SPLIT, bool PAIR, bool GATED,
          bool NORM, typename Epilogue>
__device__ __forceinline__ void ec_linear_w4_stream_body(const ec_linear_w4_params &p, const void *x, const void *q,
                                                         const void *pairs, const void *bias, void *y, void *scratch,
                                                         void *counters, const Epilogue &epilogue)
{
    typedef ec_w4_stream_x<T, GROUP, NT, S> X;
    constexpr int TILE = S * X::CHUNKS * 512, FIRST = DEPTH - 1; /* stages asked for before x */
    constexpr int MORE = DEPTH - 2, STAGES = DEPTH + MORE;       /* stages in the place of x */
    constexpr int AFTER = MORE * TILE + 2 * SET * NT * 512;      /* bytes that take the place of a warp's x */
    constexpr int BARRIERS = STAGES + (PAIR ? NT : 0); /* of a warp */
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ __align__(8) unsigned long long arrivals[EC_W4_STREAM_WARPS * BARRIERS + 1];
    __shared__ uint4 nothing[EC_W4_STREAM_WARPS];
    __shared__ float squares[NORM ? EC_W4_STREAM_WARPS * NT * 8 : 1];
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;
    const int x_each = max(p.rows * X::PITCH, AFTER);
    const ec_w4_stream_share<GROUP, ASYM, PAIR, SPLIT, DEPTH * TILE> m(p, shared, x_each);
    const int tiles = m.tiles, mine = min(max(m.groups - warp * S, 0), S); /* groups of the warp */
    unsigned char *const ring = shared + warp * (DEPTH * TILE), *const held = m.x + warp * x_each;
    unsigned char *const more = held - DEPTH * TILE;
    const uint32_t arrived = ec_w4_kept(arrivals + warp * BARRIERS);
    const uint32_t ring_to = ec_w4_kept(ring), more_to = MORE > 0 ? ec_w4_kept(more) : 0;
    const uint32_t ring_at = ec_w4_kept(ring + lane * 16), more_at = MORE > 0 ? ec_w4_kept(more + lane * 16) : 0;
    const uint32_t x_arrived = arrived + STAGES * 8;
    const uint32_t pairs_arrived = (uint32_t)__cvta_generic_to_shared(arrivals) + EC_W4_STREAM_WARPS * BARRIERS * 8;

    /* The next tile's groups of the warp, of `left` tiles. */
    const uint32_t tile_bytes = m.all_groups * (X::CHUNKS * 512), mine_bytes = mine * (X::CHUNKS * 512);
    const unsigned char *from =
        (const unsigned char *)q + (size_t)m.first * tile_bytes + (m.begin + warp * S) * (X::CHUNKS * 512);
    int left = tiles;
    auto ask = [&](int stage, bool elected) {
        if (elected) {
            ec_arrival_expect(arrived + stage * 8, mine_bytes);
            if (mine_bytes > 0) {
                ec_copy_bulk((MORE == 0 || stage < DEPTH ? ring_to : more_to) + stage * TILE, from, mine_bytes,
                             arrived + stage * 8);
            }
        }
        left--;
        from += tile_bytes;
    };
    const bool elected = ec_elected();
    if (elected) {
#pragma unroll
        for (int d = 0; d < BARRIERS; d++) {
            ec_arrival_init(arrived + d * 8);
        }
        if (warp == 0) {
            ec_arrival_init(pairs_arrived);
        }
        ec_arrivals_ready();
        if (PAIR) {
            X::expect(x_arrived, p.rows, mine);
        }
    }
    __syncwarp();
    if (PAIR) {
        ec_cluster_arrive();
    }
#pragma unroll 1
    for (int d = 0; d < FIRST && left > 0; d++) {
        ask(d, elected);
    }
    if (warp == 0) {
        m.ask_pairs(p, pairs, pairs_arrived, elected, lane);
    }
    m.fill_pairs(p, warp * S + mine, warp * S + S, lane);
    ec_launch_next();
    m.template copy_biases<GATED>(p, (const float *)bias);
    if (PAIR) {
        X::fill(held, p.rows, mine, lane);
        ec_cluster_wait(); /* the other block's barriers are ready */
    }
    if (lane == 0) {
        nothing[warp] = make_uint4(0, 0, 0, 0);
    }

    ec_wait_previous();
    const T *const x_from = (const T *)x + (m.begin + warp * S) * GROUP;
    if (PAIR) {
        X::ask_half(held, x_from, p.rows, mine, p.in_c, x_arrived, m.rank, lane);
    } else {
        X::ask(held, x_from, p.rows, mine, p.in_c, lane);
    }
#pragma unroll 1
    for (int d = FIRST; d < DEPTH && left > 0; d++) {
        ask(d, elected);
    }
    ec_copy_wait<0>();
    __syncwarp();
    X of_x;
#pragma unroll
    for (int t = 0; t < NT; t++) {
        if (PAIR) {
            ec_arrival_wait(x_arrived + t * 8, 0);
        }
        of_x.load(t, held, nothing + warp, p.rows, lane);
    }
    __syncwarp();
#pragma unroll 1
    for (int d = DEPTH; d < STAGES && left > 0; d++) {
        ask(d, ec_elected());
    }
    ec_arrival_wait(pairs_arrived, 0);
    /* A set's sums stand in places of 32 lanes: WIDTH floats of a lane, of eight rows of x each UNITS of a tile. */
    constexpr int PLACES = 2 * NT, WIDTH = NT == 1 ? 2 : 4, UNITS = 4 * NT / WIDTH;
    const float inverse = 1.0f / (float)p.in_c;
    ec_w4_stream_writer<T, GATED, NORM, Epilogue> writer = {p, (T *)y, m.bias, m.first, lane, 0.0f, epilogue};
    float *const parts = (float *)scratch;
    const size_t each = (size_t)p.tiles * PLACES * 64; /* floats of a split */
    float *const others = parts + p.splits * each;     /* squares: splits, columns, rows */
    const uint32_t pitch = p.split_groups;
    uint32_t scale = ec_w4_kept((uint32_t *)m.scale + warp * S * 8 + (lane >> 2));
    uint32_t zero = ASYM ? ec_w4_kept((uint16_t *)m.zero + warp * S * 8 + (lane >> 2)) : 0;
    float *const sums_at = (float *)(m.x + MORE * TILE);
    const uint32_t sums_to = ec_w4_kept(sums_at + warp * (x_each / 4) + lane * WIDTH);
    int stage = 0, parity = 0, starter = 0;
#pragma unroll 1
    for (int begin = 0; begin < tiles; begin += SET) {
        const int end = min(begin + SET, tiles);
        const int place_of_set = (begin / SET & 1) * (SET * NT * 128);
        const float *const set = sums_at + place_of_set;
        uint32_t to = sums_to + place_of_set * 4;
#pragma unroll 1
        for (int tile = begin; tile < end; tile++) {
            float sums[NT][4] = {};
            ec_arrival_wait(arrived + stage * 8, parity);
            of_x.template multiply<ASYM>(sums, (MORE == 0 || stage < DEPTH ? ring_at : more_at) + stage * TILE, scale,
                                         zero);
            scale += pitch * 32;
            zero += pitch * 16;
            if (left > 0) {
                __syncwarp();
                ask(stage, ec_elected());
            }
            if (++stage == STAGES) {
                stage = 0;
                parity ^= 1;
            }
#pragma unroll
            for (int t = 0; t < NT; t++) {
                const float (&v)[4] = sums[t];
                if constexpr (WIDTH == 2) {
                    ec_w4_put(to + t * 512, v[0], v[2]);
                    ec_w4_put(to + t * 512 + 256, v[1], v[3]);
                } else {
                    ec_w4_put(to + t * 512, v[0], v[2], v[1], v[3]);
                }
            }
            to += NT * 512;
            if (NORM && tile == 0) { /* weights arrive meanwhile */
                of_x.square(squares + warp * NT * 8, lane);
            }
        }
        __syncthreads();
        if (NORM && begin == 0) {
            float square = 0.0f;
#pragma unroll
            for (int k = 0; k < EC_W4_STREAM_WARPS; k++) {
                square += k < p.wk && lane < NT * 8 ? squares[k * (NT * 8) + lane] : 0.0f;
            }
            writer.norm = rsqrtf(fmaf(square, inverse, p.norm_eps));
            if (SPLIT && warp == 0 && lane < p.rows) {
                __stcg(others + (m.part * m.columns + m.column) * (NT * 8) + lane, square);
            }
        }
        const int units = (end - begin) * UNITS;
#pragma unroll 1
        for (int u = warp >= starter ? warp - starter : warp - starter + p.wk; u < units; u += p.wk) {
            if (ec_w4_stream_row<PLACES>(u * (WIDTH / 2)) >= p.rows) {
                continue;
            }
            float v[WIDTH] = {};
#pragma unroll 8
            for (int k = 0; k < p.wk; k++) {
                float w[WIDTH];
                ec_load<float, WIDTH>(w, set + k * (x_each / 4) + (u * 32 + lane) * WIDTH);
#pragma unroll
                for (int e = 0; e < WIDTH; e++) {
                    v[e] += w[e];
                }
            }
#pragma unroll
            for (int h = 0; h < WIDTH / 2; h++) {
                float two[2] = {v[2 * h], v[2 * h + 1]};
                const int place = u * (WIDTH / 2) + h;
                if (SPLIT) {
                    float *const to = parts + m.part * each + ((m.first + begin) * PLACES + place) * 64 + lane * 2;
                    __stcg((float2 *)to, make_float2(two[0], two[1]));
                } else {
                    writer.run(two, ec_w4_stream_row<PLACES>(place) + (lane & 3) * 2, begin + place / PLACES);
                }
            }
        }
        starter = (starter + units) % p.wk;
    }
    if constexpr (SPLIT) {
        if (ec_w4_stream_last((uint32_t *)counters + m.column, p.splits)) {
            if (NORM) {
                float square = 0.0f;
                for (int k = 0; k < p.splits && lane < p.rows; k++) {
                    square += __ldcg(others + (k * m.columns + m.column) * (NT * 8) + lane);
                }
                writer.norm = rsqrtf(fmaf(square, inverse, p.norm_eps));
            }
            ec_w4_stream_join<PLACES>(p, parts + (size_t)m.first * PLACES * 64, each, tiles * PLACES, warp, lane,
                                      writer);
        }
    }
}
