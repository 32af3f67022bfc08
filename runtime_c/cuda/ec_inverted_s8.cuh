/*
 * ec_inverted_s8.cuh: what the kernels of ec_inverted_s8.cu share: constants of a share, a block's place in the map, its
 * input, products of 16 rows and 32 outputs, and the expansion.
 */
#ifndef EC_INVERTED_S8_CUH
#define EC_INVERTED_S8_CUH

#include "ec_cuda.cuh"
#include "ec_inverted_s8_params.h"
#include "ec_tile_s8.cuh"

/* Copies a share's block to shared memory, all at once; its first 16 bytes are the barrier that says when it is there. */
__device__ __forceinline__ void ec_block_fetch(uint32_t shared, const void *block, int bytes)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(shared) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared), "r"(bytes) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                         shared + EC_BLOCK_AT),
                     "l"(block), "r"(bytes), "r"(shared)
                     : "memory");
    }
#endif
}

/* Waits until the block is there; the barrier was made before a __syncthreads. */
__device__ __forceinline__ void ec_block_wait(uint32_t shared)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    uint32_t there = 0;
    while (!there) {
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], 0;\nselp.u32 %0, 1, 0, p;\n}"
                     : "=r"(there)
                     : "r"(shared)
                     : "memory");
    }
#endif
}

/* Where record `i` stands among records in shared memory: eight lanes that read eight apart meet no bank twice. */
__device__ __forceinline__ uint32_t ec_inverted_record(int i)
{
    return (uint32_t)(16 * i + 16 * (i / 8));
}

__device__ __forceinline__ float ec_inverse(int by)
{
    return __fdividef(1.0f, (float)by);
}

/* a / by for a below 2^20, `inverse` = ec_inverse(by). */
__device__ __forceinline__ int ec_divide_small(int a, float inverse)
{
    return (int)(((float)a + 0.5f) * inverse);
}

/* What a block makes: its outputs, the part of the tile's border that lies in the map, its hidden channels. */
struct ec_inverted_place {
    int image, tile, row, column;                            /* of the first output */
    int first_row, first_column, columns, count;             /* of the part in the map */
    int above, before;                                       /* rows and columns of the border outside, at its start */
    int channel, here;                                       /* first hidden channel, and how many there are */
};

__device__ __forceinline__ ec_inverted_place ec_inverted_begin(const ec_inverted_s8_params &p, int stride, int tile,
                                                               int share)
{
    ec_inverted_place at;
    const int line = ec_divide_small(tile, ec_inverse(p.tiles_w)), image = ec_divide_small(line, ec_inverse(p.tiles_h));
    at.tile = tile;
    at.image = image;
    at.row = (line - image * p.tiles_h) * p.tile_h;
    at.column = (tile - line * p.tiles_w) * p.tile_w;
    const int top = at.row * stride - p.pad_top, left = at.column * stride - p.pad_left;
    at.first_row = max(top, 0);
    at.first_column = max(left, 0);
    at.above = at.first_row - top;
    at.before = at.first_column - left;
    at.columns = min(left + p.halo_w, p.in_w) - at.first_column;
    at.count = (min(top + p.halo_h, p.in_h) - at.first_row) * at.columns;
    at.channel = 32 * share * p.blocks;
    at.here = max(0, min(32 * p.blocks, p.hidden - at.channel));
    return at;
}

/* The pieces of x that a thread copies: whole rows of channels of the border's pixels, or this block's hidden channels
 * straight to e. The first few are known before the previous kernel has finished. */
template <bool EXPAND> struct ec_inverted_input {
    static constexpr int KNOWN = 2;
    uint32_t to[KNOWN];
    int32_t from[KNOWN];
    int pieces, count, wide; /* of a pixel, of all; bytes of a piece */
    float by_pieces, by_columns;

    __device__ __forceinline__ void find(const ec_inverted_s8_params &p, const ec_inverted_place &at, int i,
                                         uint32_t &out, int32_t &in) const
    {
        const int m = ec_divide_small(i, by_pieces), c = (i - m * pieces) * wide;
        const int line = ec_divide_small(m, by_columns), column = m - line * at.columns;
        const int pixel = (at.image * p.in_h + at.first_row + line) * p.in_w + at.first_column + column;
        in = pixel * p.in_c + c + (EXPAND ? 0 : at.channel);
        out = EXPAND ? p.at_x + m * (32 * p.k1 + 16) + c
                     : p.at_e + ((at.above + line) * p.halo_w + at.before + column) * (32 * p.blocks + 16) + c;
    }

    __device__ __forceinline__ void begin(const ec_inverted_s8_params &p, const ec_inverted_place &at)
    {
        const int channels = EXPAND ? p.in_c : at.here;
        wide = p.in_c % 16 == 0 ? 16 : 8;
        pieces = channels / wide;
        count = pieces * at.count;
        by_pieces = ec_inverse(pieces);
        by_columns = ec_inverse(at.columns);
#pragma unroll
        for (int k = 0; k < KNOWN; k++) {
            find(p, at, threadIdx.x + k * blockDim.x, to[k], from[k]);
        }
    }

    __device__ __forceinline__ void copy(uint32_t out, const int8_t *in) const
    {
        if (wide == 16) {
            ec_copy_async<16, false>(out, in);
        } else {
            ec_copy_async<8, true>(out, in);
        }
    }

    __device__ __forceinline__ void run(const ec_inverted_s8_params &p, const ec_inverted_place &at, uint32_t shared,
                                        const int8_t *x) const
    {
#pragma unroll
        for (int k = 0; k < KNOWN; k++) {
            if (threadIdx.x + k * blockDim.x < count) {
                copy(shared + to[k], x + from[k]);
            }
        }
#pragma unroll 1
        for (int i = threadIdx.x + KNOWN * blockDim.x; i < count; i += blockDim.x) {
            uint32_t out;
            int32_t in;
            find(p, at, i, out, in);
            copy(shared + out, x + in);
        }
    }
};

/* Where the pixels of the border stand in e, and the zeros of e. */
template <bool EXPAND>
__device__ __forceinline__ void ec_inverted_prepare(const ec_inverted_s8_params &p, const ec_inverted_place &at,
                                                    uint8_t *memory)
{
    const int stride = 32 * p.blocks + 16;
    if (EXPAND) {
        const float by_columns = ec_inverse(at.columns);
        int32_t *const place = reinterpret_cast<int32_t *>(memory + p.at_place);
        for (int m = threadIdx.x; m < at.count; m += blockDim.x) {
            const int line = ec_divide_small(m, by_columns), column = m - line * at.columns;
            place[m] = ((at.above + line) * p.halo_w + at.before + column) * stride;
        }
    }
    if (at.count < p.halo_h * p.halo_w) {
        const uint32_t zeros = 0x01010101u * (uint8_t)p.zero_hidden;
        uint4 *const e = reinterpret_cast<uint4 *>(memory + p.at_e);
        for (int i = threadIdx.x; i < p.halo_h * p.halo_w * stride / 16; i += blockDim.x) {
            e[i] = make_uint4(zeros, zeros, zeros, zeros);
        }
    }
}

/* Whether a clamp does more than the saturation of a store. */
__device__ __forceinline__ bool ec_inverted_narrow(int low, int high)
{
    return low > -128 || high < 127;
}

/* Sums of 16 rows and 32 outputs: rows at `rows` with `stride` bytes from one to the next, `count` blocks of weights. */
__device__ __forceinline__ void ec_inverted_products(int32_t (&acc)[4][4], uint32_t rows, int stride, uint32_t weights,
                                                     int count)
{
    constexpr int AHEAD = 2; /* blocks that are loaded before the first is used */
    const int lane = threadIdx.x % 32;
    uint32_t a_at = rows + lane % 16 * stride + lane / 16 * 16, b_at = weights + 16 * lane;
#pragma unroll 1
    for (int k = 0; k < count; k += AHEAD) {
        uint32_t a[AHEAD][4];
        uint4 b[AHEAD], c[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (i == 0 || k + i < count) {
                ec_load_matrices(a[i], a_at + 32 * i);
                b[i] = ec_load_shared16(b_at + EC_WEIGHT_BLOCK * i);
                c[i] = ec_load_shared16(b_at + EC_WEIGHT_BLOCK * i + 512);
            }
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (i == 0 || k + i < count) {
                ec_mma_s8(acc[0], a[i], b[i].x, b[i].y);
                ec_mma_s8(acc[1], a[i], b[i].z, b[i].w);
                ec_mma_s8(acc[2], a[i], c[i].x, c[i].y);
                ec_mma_s8(acc[3], a[i], c[i].z, c[i].w);
            }
        }
        a_at += 32 * AHEAD;
        b_at += EC_WEIGHT_BLOCK * AHEAD;
    }
}

/* The records of 8 neighbouring channels, and values that they requantise and clamp. */
struct ec_inverted_records {
    int4 at[8];

    __device__ __forceinline__ void load(uint32_t shared)
    {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            at[i] = ec_load_cluster16<1>(shared + 16 * i, 0);
        }
    }

    /* `narrow`: the values are to lie between low and high; else the store's saturation is all they need. */
    __device__ __forceinline__ void apply(int32_t (&v)[8], bool narrow, int low, int high) const
    {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = ec_requantize_channel<true>(v[i], at[i]);
        }
        if (narrow) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                v[i] = ec_clamp(v[i], low, high);
            }
        }
    }
};

/* e of the border, from x. */
__device__ __forceinline__ void ec_inverted_expand(const ec_inverted_s8_params &p, const ec_inverted_place &at,
                                                   uint8_t *memory, uint32_t shared)
{
    const int warps = blockDim.x / 32, lane = threadIdx.x % 32, tiles = (at.count + 15) / 16;
    const int stride = 32 * p.k1 + 16;
    const int32_t *const place = reinterpret_cast<const int32_t *>(memory + p.at_place);
    const int8_t *const table = reinterpret_cast<const int8_t *>(memory + p.at_table1) + 128;
    const bool narrow = p.table1 || ec_inverted_narrow(p.min1, p.max1);
    int m = threadIdx.x / 32, n = 0;
    for (;;) {
        while (m >= tiles) {
            m -= tiles;
            n++;
        }
        if (n >= p.blocks) {
            return;
        }
        const int channel = 32 * n + lane % 4 * 8;
        int32_t acc[4][4] = {};
        ec_inverted_records records;
        records.load(shared + p.at_records1 + ec_inverted_record(channel));
        ec_inverted_products(acc, shared + p.at_x + m * 16 * stride, stride,
                             shared + p.at_w1 + n * p.k1 * EC_WEIGHT_BLOCK, p.k1);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = 16 * m + 8 * half + lane / 4;
            int32_t v[8];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                v[i] = acc[i / 2][2 * half + i % 2];
            }
            records.apply(v, narrow, p.min1, p.max1);
            if (row < at.count) {
                if (p.table1) {
#pragma unroll
                    for (int i = 0; i < 8; i++) {
                        v[i] = table[v[i]];
                    }
                }
                ec_store_s8<8>(reinterpret_cast<int8_t *>(memory + p.at_e) + place[row] + channel, v);
            }
        }
        m += warps;
    }
}

#endif
