/*
 * ec_linear_w4_stream.cuh: what a block of ec_linear_w4_stream.cu works on, a warp's part of x and its products, how
 * sums are kept, joined and written. T, GROUP, ASYM, ROWS, NT, S, WK, SPLIT, PAIR, GATED, NORM and p are explained
 * there.
 */
#ifndef EC_LINEAR_W4_STREAM_CUH
#define EC_LINEAR_W4_STREAM_CUH

#include "ec_bulk.cuh"
#include "ec_linear_w4_params.h"
#include "ec_mma.cuh"
#include "ec_w4.cuh"

enum { EC_W4_STREAM_EARLY = 4 }; /* warps, one of each scheduler, that ask for x before the others */

/* A shared address that stays in a register. */
__device__ __forceinline__ uint32_t ec_w4_kept(const void *shared)
{
    uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("" : "+r"(at));
    return at;
}

/* What a block works on, and where its shared memory is: rings and x of all warps, scales, zeros, bias. */
template <int GROUP, bool ASYM, bool PAIR, bool SPLIT, int RINGS, int X_BYTES> struct ec_w4_stream_share {
    uint32_t rank, part, column, columns;
    int first, tiles;  /* of weights */
    int groups, begin; /* of channels: of the block, and its first */
    int all_groups;
    unsigned char *x, *scale, *zero;
    float *bias;

    __device__ __forceinline__ ec_w4_stream_share(const ec_linear_w4_params &p, unsigned char *shared)
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
        x = shared + RINGS;
        scale = x + X_BYTES;
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
template <typename T, int GROUP, int ROWS, int S> struct ec_w4_stream_x {
    static constexpr int NT = (ROWS + 7) / 8;
    typedef ec_w4_raw<T> Raw;
    typedef ec_w4_joined<T> Pairs;
    static constexpr int CHUNKS = GROUP / EC_W4_CHUNK, VECTORS = S * GROUP / 8, PITCH = S * GROUP * 2 + 16;
    uint32_t b[S][NT][CHUNKS][2][4];
    float plain[S][NT][2]; /* sums of x by group: rows 8 t + lane % 4 * 2 + 0, 1 */

    /* Asks for all rows, zeros behind the last group. */
    static __device__ __forceinline__ void ask(unsigned char *to, const T *from, int groups, int in_c, int lane)
    {
#pragma unroll 4
        for (int i = lane; i < ROWS * VECTORS; i += 32) {
            const int row = i / VECTORS, at = i % VECTORS;
            const bool valid = at < groups * (GROUP / 8);
            ec_copy_async16(to + row * PITCH + at * 16, from + (valid ? row * in_c + at * 8 : 0), valid);
        }
        ec_copy_commit();
    }

    /* What ask_half leaves out. */
    static __device__ __forceinline__ void fill(unsigned char *to, int groups, int lane)
    {
        for (int i = lane; i < ROWS * VECTORS && groups < S; i += 32) {
            if (i % VECTORS >= groups * (GROUP / 8)) {
                *(uint4 *)(to + i / VECTORS * PITCH + i % VECTORS * 16) = make_uint4(0, 0, 0, 0);
            }
        }
    }

    /* Expects the rows 8 t to 8 t + 7 by barrier t; by one thread. */
    static __device__ __forceinline__ void expect(uint32_t barriers, int groups)
    {
#pragma unroll
        for (int t = 0; t < NT; t++) {
            ec_arrival_expect(barriers + t * 8, min(ROWS - 8 * t, 8) * groups * (GROUP * 2));
        }
    }

    /* Asks for every other row, for both blocks of the cluster. */
    static __device__ __forceinline__ void ask_half(unsigned char *to, const T *from, int groups, int in_c,
                                                    uint32_t barriers, int rank, int lane)
    {
        const int row = 2 * lane + rank;
        if (row < ROWS && groups > 0) {
            ec_copy_bulk_both((uint32_t)__cvta_generic_to_shared(to) + row * PITCH, from + row * in_c,
                              groups * (GROUP * 2), barriers + row / 8 * 8);
        }
        __syncwarp();
    }

    /* Rows 8 t to 8 t + 7, which have arrived; `nothing`: 16 bytes of zeros. */
    __device__ __forceinline__ void load(int t, const unsigned char *held, const uint4 *nothing, int lane)
    {
        const int row = t * 8 + (lane & 7);
        const void *const at = row < ROWS ? (const void *)(held + row * PITCH + (lane >> 3) * 16) : nothing;
        const uint32_t from = (uint32_t)__cvta_generic_to_shared(at), next = row < ROWS ? 64 : 0;
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
                    products[t][e] = ASYM ? 0.0f : Pairs::start(start(k, t, e, 8.0f), start(k, t, e | 2, 8.0f), e);
                }
            }
#pragma unroll
            for (int c = 0; c < CHUNKS; c++) {
                const uint4 w = ec_load_shared16(at + (k * CHUNKS + c) * 512);
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    uint32_t a[4];
                    Pairs::run(a, j == 0 ? w.x : j == 1 ? w.y : j == 2 ? w.z : w.w);
#pragma unroll
                    for (int t = 0; t < NT; t++) {
                        const uint32_t (&v)[4] = b[k][t][c][j >> 1];
                        ec_mma<T>::run(products[t], a, v[j % 2 * 2], v[j % 2 * 2 + 1]);
                    }
                }
            }
            const float2 f = ec_scale_pair(ec_load_shared4(scale + k * 32), T());
            const uint32_t z = ASYM ? ec_load_shared2(zero + k * 16) : 0;
#pragma unroll
            for (int t = 0; t < NT; t++) {
                Pairs::part(products[t]);
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

/*
 * Sums of a set of tiles in shared memory: of each warp and tile OF_TILE units of 32 lanes by WIDTH floats. These are
 * the sums of the rows lane / 4 and lane / 4 + 8 of the tile for a row of x, then for the next one if WIDTH is 4.
 */
template <int ROWS> struct ec_w4_stream_units {
    static constexpr int NT = (ROWS + 7) / 8, WIDTH = NT == 1 ? 2 : 4, OF_TILE = 4 * NT / WIDTH;

    /* v: sums of 8 rows of x, as the products leave them. */
    static __device__ __forceinline__ void put(uint32_t to, const float (&v)[4])
    {
        if constexpr (WIDTH == 2) {
            asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to), "f"(v[0]), "f"(v[2]) : "memory");
            asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + 256), "f"(v[1]), "f"(v[3]) : "memory");
        } else {
            asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(v[0]), "f"(v[2]), "f"(v[1]),
                         "f"(v[3])
                         : "memory");
        }
    }

    /* The lane's first row of x. */
    static __device__ __forceinline__ int row(int unit, int lane)
    {
        return (lane & 3) * 2 + unit % OF_TILE * (WIDTH == 2 ? 1 : 8);
    }

    static __device__ __forceinline__ bool there(int unit)
    {
        return row(unit, 0) < ROWS;
    }
};

/* Bias, gate, clamp, epilogue of outputs whose sums are complete; `norm` of lane i belongs to row i of x. */
template <typename T, int ROWS, bool GATED, bool NORM, typename Epilogue> struct ec_w4_stream_writer {
    typedef ec_w4_stream_units<ROWS> Units;
    const ec_linear_w4_params &p;
    T *y;
    const float *bias;
    int first, lane;
    float norm;
    const Epilogue &epilogue;

    /* v: the sums of a unit of the block's tiles. */
    __device__ __forceinline__ void run(const float (&v)[Units::WIDTH], int unit) const
    {
        const int width = GATED ? p.out_c / 2 : p.out_c, tile = unit / Units::OF_TILE;
        const int out = (first + tile) * (GATED ? 8 : EC_W4_ROWS) + (lane >> 2);
        const float *const of_bias = bias + tile * EC_W4_ROWS + (lane >> 2);
        const float biases[2] = {of_bias[0], of_bias[8]};
#pragma unroll
        for (int h = 0; h < Units::WIDTH / 2; h++) {
            const int row = Units::row(unit, lane) + h;
            const float r = NORM ? __shfl_sync(0xffffffffu, norm, row) : 1.0f;
            const float two[2] = {fmaf(v[2 * h] * ec_w4_raw<T>::FIRST, r, biases[0]),
                                  fmaf(v[2 * h + 1] * ec_w4_raw<T>::SECOND, r, biases[1])};
            if (row < ROWS) {
                const size_t index = (size_t)row * width + out;
#pragma unroll
                for (int e = 0; e < (GATED ? 1 : 2); e++) {
                    if (out + e * 8 < width) {
                        float u[1] = {GATED ? two[0] / (1.0f + __expf(-two[0])) * two[1] : two[e]};
                        u[0] = fminf(fmaxf(u[0], p.act_min), p.act_max);
                        epilogue.template apply<1>(u, index + e * 8, out + e * 8);
                        ec_store<T, 1>(y + index + e * 8, u);
                    }
                }
            }
        }
    }
};

/*
 * What blocks that share channels have of the same tiles, in scratch: sums of all splits, then the squares of x. A warp
 * of each has the same units, so that warps of different blocks join them without waiting for the rest of their blocks.
 */
template <int ROWS, int WK> struct ec_w4_stream_parts {
    typedef ec_w4_stream_units<ROWS> Units;
    static constexpr int NT = Units::NT, UNIT = 32 * Units::WIDTH; /* floats */
    const ec_linear_w4_params &p;
    float *sums, *squares; /* of the block's tiles, of the warp: of split 0 */
    uint32_t part, counter;
    size_t each, each_squares; /* from one split to the next */
    int warp, lane;

    __device__ __forceinline__ ec_w4_stream_parts(const ec_linear_w4_params &p, float *scratch, uint32_t part,
                                                  uint32_t column, uint32_t columns, int first, int warp, int lane)
        : p(p), part(part), counter(column * WK + warp), warp(warp), lane(lane)
    {
        each = (size_t)p.tiles * Units::OF_TILE * UNIT;
        each_squares = columns * (WK * NT * 8);
        sums = scratch + first * Units::OF_TILE * UNIT + lane * Units::WIDTH;
        squares = scratch + p.splits * each + counter * (NT * 8) + lane;
    }

    __device__ __forceinline__ void keep(const float (&v)[Units::WIDTH], int unit) const
    {
        ec_store<float, Units::WIDTH>(sums + part * each + unit * UNIT, v);
    }

    __device__ __forceinline__ void keep_square(float v) const
    {
        if (lane < ROWS) {
            squares[part * each_squares] = v;
        }
    }

    /* Of the warps that share units the last to come here: all that the others have written is to be seen. */
    __device__ __forceinline__ bool last(uint32_t *counters) const
    {
        uint32_t turn = 0;
        __syncwarp();
        if (lane == 0) {
            asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], 1;"
                         : "=r"(turn)
                         : "l"(counters + counter)
                         : "memory");
            if (turn == p.splits - 1) {
                counters[counter] = 0;
            }
        }
        turn = __shfl_sync(0xffffffffu, turn, 0);
        __syncwarp();
        return turn == p.splits - 1;
    }

    /* Of row `lane` of x, over all channels. */
    __device__ __forceinline__ float square() const
    {
        float sum = 0.0f;
        for (int k = 0; k < p.splits; k++) {
            sum += lane < ROWS ? __ldcg(squares + k * each_squares) : 0.0f;
        }
        return sum;
    }

    /* Adds the warp's units in the order of the splits. */
    template <typename Writer> __device__ __forceinline__ void join(int tiles, const Writer &writer) const
    {
        constexpr int TOGETHER = 3;
        const int units = tiles * Units::OF_TILE;
#pragma unroll 1
        for (int begin = warp; begin < units; begin += WK * TOGETHER) {
            auto there = [&](int i) {
                return (i == 0 || begin + i * WK < units) && Units::there(begin + i * WK);
            };
            float v[TOGETHER][Units::WIDTH] = {};
#pragma unroll 4
            for (int k = 0; k < p.splits; k++) {
#pragma unroll
                for (int i = 0; i < TOGETHER; i++) {
                    if (there(i)) {
                        const float *const from = sums + k * each + (begin + i * WK) * UNIT;
#pragma unroll
                        for (int e = 0; e < Units::WIDTH; e += 2) {
                            const float2 w = __ldcg((const float2 *)(from + e));
                            v[i][e] += w.x;
                            v[i][e + 1] += w.y;
                        }
                    }
                }
            }
#pragma unroll
            for (int i = 0; i < TOGETHER; i++) {
                if (there(i)) {
                    writer.run(v[i], begin + i * WK);
                }
            }
        }
    }
};

#endif
