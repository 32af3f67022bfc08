/*
 * Inverted residuals, int8: what stands between two narrow maps of MobileNetV2 and EfficientNet, in one to three launches.
 *
 *   e = act1(conv2d 1x1(x)), d = act_d(depthwise(e)), y = conv2d 1x1(d) [+ other]
 *   with squeeze and excite: g = act(conv2d 1x1(act(conv2d 1x1(average of d)))), y = conv2d 1x1(d * g) [+ other]
 *
 * ec_inverted_s8_body: x to y. A cluster of CLUSTER blocks makes the outputs of one tile of the map, each block with its
 *   share of the hidden channels: e of the tile and its border, d of the tile, and what its share adds to y; the sums
 *   meet in the cluster's shared memory. Neither e nor d leaves the SM. Without EXPAND e is x.
 * ec_expanded_s8_body: x to d, and the sums of d over each tile, int32[images * tiles][hidden].
 * ec_squeeze_s8_body: these sums to g, of one image, in one block.
 * ec_gated_s8_body: d and g to y; a tile is tile_w pixels in a row of all, k is shared by a cluster.
 *
 * x int8[N][H][W][C], C, hidden channels and outputs multiples of 8 (hidden of 16 in ec_squeeze_s8_body). `block`: all
 * weights, records and tables of each share one after the other as they stand in shared memory (backends/
 * cuda_inverted_s8.py), one bulk copy before the previous kernel has finished: weights of products in blocks of 32 x 32
 * in the order of the fragments (ec_tile_s8.cuh), of the depthwise convolution R x S "s8_columns"
 * (ec_depthwise_conv2d_s8.cu), of the squeeze int8[few][C] and words of k int32[few_words][C]; records HIGH
 * (ec_requant.cuh), 16 bytes free after every eight; tables int8[256] of activations where table1 and table_d say so;
 * zeros where the last share has no channels. Shared memory: as ec_inverted_s8_params places it.
 *
 * Measured on an H200, 2026-11-21, microseconds in whole graphs, MobileNetV2 (54 launches before, 21 since) and
 * EfficientNet-B0 (115, 52): each convolution a launch 111 and 217; first version 97 and 201, in which 420 instructions
 * of each warp for copies and places stood before the wait, as long as the previous kernel; constants in one bulk copy
 * 90 and 176; fewer instructions, constants of the depthwise convolution in registers before x arrives, sums of the
 * squeeze asked for eight at a time, shares by the fitted model 85 and 157. A launch takes 2.5 to 5 us (bound by bytes
 * below 0.3): about 1.5 us from the end of the previous kernel until x is there, then some 5 cycles an instruction of
 * each phase, since few warps have work.
 *
 * One rounding an op; the integers are those of conv2d.quant, add.quant, mul.quant, adaptive_avg_pool2d.quant and the
 * tables one after the other (edgec/ops). sm_90.
 */
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

/* Taps of four channels turned around: COUNT rows of four channels as a word of taps for each channel. Bytes beyond COUNT
 * are any: their weights are zero. */
template <int COUNT> __device__ __forceinline__ void ec_inverted_turn(uint32_t (&out)[4], const uint32_t *in)
{
    if constexpr (COUNT == 1) {
        out[0] = in[0];
        out[1] = in[0] >> 8;
        out[2] = in[0] >> 16;
        out[3] = in[0] >> 24;
    } else if constexpr (COUNT == 3) {
        const uint32_t a = __byte_perm(in[0], in[1], 0x5140), c = __byte_perm(in[0], in[1], 0x7362);
        out[0] = __byte_perm(a, in[2], 0x4410);
        out[1] = __byte_perm(a, in[2], 0x5532);
        out[2] = __byte_perm(c, in[2], 0x6610);
        out[3] = __byte_perm(c, in[2], 0x7732);
    } else {
        static_assert(COUNT == 4, "one, three or four rows");
        const uint32_t a = __byte_perm(in[0], in[1], 0x5140), c = __byte_perm(in[0], in[1], 0x7362);
        const uint32_t b = __byte_perm(in[2], in[3], 0x5140), d = __byte_perm(in[2], in[3], 0x7362);
        out[0] = __byte_perm(a, b, 0x5410);
        out[1] = __byte_perm(a, b, 0x7632);
        out[2] = __byte_perm(c, d, 0x5410);
        out[3] = __byte_perm(c, d, 0x7632);
    }
}

/* d of the tile, from e: a thread keeps four channels and makes two neighbouring outputs at a time. TO_MEMORY: d goes to
 * y, and its sums over the tile to `sums`; else it stays in shared memory. */
template <int R, int S, int STRIDE, bool TO_MEMORY> struct ec_inverted_depthwise {
    static constexpr int WORDS = (R + 3) / 4, COLUMNS = 2, WIDTH = (COLUMNS - 1) * STRIDE + S;
    int word, lane, lanes, row, column; /* its channels, its first strip */
    bool works;
    float by_across;
    int32_t taps[S][WORDS][4];
    int4 records[4];

    __device__ __forceinline__ void strip(const ec_inverted_s8_params &p, int index)
    {
        row = ec_divide_small(index, by_across);
        column = 2 * (index - row * ((p.tile_w + 1) / 2));
    }

    __device__ __forceinline__ void begin(const ec_inverted_s8_params &p, const ec_inverted_place &at)
    {
        const float by_words = ec_inverse(8 * p.blocks);
        lanes = ec_divide_small(blockDim.x, by_words);
        lane = ec_divide_small(threadIdx.x, by_words);
        word = threadIdx.x - lane * 8 * p.blocks;
        works = lane < lanes && 4 * word < at.here;
        by_across = ec_inverse((p.tile_w + 1) / 2);
        strip(p, lane);
    }

    /* Constants, once they are in shared memory. */
    __device__ __forceinline__ void load(const ec_inverted_s8_params &p, uint32_t shared)
    {
#pragma unroll
        for (int i = 0; i < S * WORDS; i++) {
            const int4 v = ec_load_cluster16<1>(shared + p.at_wd + (word * S * WORDS + i) * 16, 0);
            taps[i / WORDS][i % WORDS][0] = v.x;
            taps[i / WORDS][i % WORDS][1] = v.y;
            taps[i / WORDS][i % WORDS][2] = v.z;
            taps[i / WORDS][i % WORDS][3] = v.w;
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
            records[j] = ec_load_cluster16<1>(shared + p.at_records_d + ec_inverted_record(4 * word + j), 0);
        }
    }

    __device__ __forceinline__ void sum(const ec_inverted_s8_params &p, const uint8_t *e, int32_t (&acc)[COLUMNS][4]) const
    {
        const int stride = 32 * p.blocks + 16, line = p.halo_w * stride;
#pragma unroll
        for (int v = 0; v < WIDTH; v++) {
            uint32_t in[R];
#pragma unroll
            for (int r = 0; r < R; r++) {
                in[r] = *reinterpret_cast<const uint32_t *>(e + r * line + v * stride);
            }
            uint32_t turned[WORDS][4];
            if constexpr (WORDS == 1) {
                ec_inverted_turn<R>(turned[0], in);
            } else {
                ec_inverted_turn<4>(turned[0], in);
                ec_inverted_turn<R - 4>(turned[1], in + 4);
            }
#pragma unroll
            for (int q = 0; q < COLUMNS; q++) {
                const int s = v - q * STRIDE;
                if (s >= 0 && s < S) {
#pragma unroll
                    for (int i = 0; i < 4 * WORDS; i++) {
                        const int j = i % 4;
                        acc[q][j] = __dp4a((int32_t)turned[i / 4][j], taps[s][i / 4][j], acc[q][j]);
                    }
                }
            }
        }
    }

    __device__ __forceinline__ void run(const ec_inverted_s8_params &p, const ec_inverted_place &at, uint8_t *memory,
                                        int8_t *y, int32_t *sums)
    {
        const int stride = 32 * p.blocks + 16, strips = p.tile_h * ((p.tile_w + 1) / 2);
        const int8_t *const table = reinterpret_cast<const int8_t *>(memory + p.at_table_d) + 128;
        const bool narrow = TO_MEMORY || p.table_d || ec_inverted_narrow(p.min_d, p.max_d);
        int32_t *const totals = reinterpret_cast<int32_t *>(memory + p.at_sums);
        int32_t total[4] = {};
#pragma unroll 1
        for (int index = lane; works && index < strips; index += lanes) {
            if (index != lane) {
                strip(p, index);
            }
            if (at.row + row >= p.out_h) {
                break;
            }
            int32_t acc[COLUMNS][4] = {};
            sum(p, memory + p.at_e + (row * STRIDE * p.halo_w + column * STRIDE) * stride + 4 * word, acc);
#pragma unroll
            for (int q = 0; q < COLUMNS; q++) {
                if (column + q < p.tile_w && at.column + column + q < p.out_w) {
                    int32_t v[4];
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        v[j] = ec_requantize_channel<true>(acc[q][j], records[j]);
                    }
                    if (narrow) {
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            v[j] = ec_clamp(v[j], p.min_d, p.max_d);
                        }
                    }
                    if (p.table_d) {
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            v[j] = table[v[j]];
                        }
                    }
                    if (TO_MEMORY) {
                        const int pixel = (at.image * p.out_h + at.row + row) * p.out_w + at.column + column + q;
                        ec_store_s8<4>(y + (size_t)pixel * p.hidden + at.channel + 4 * word, v);
#pragma unroll
                        for (int j = 0; j < 4; j++) {
                            total[j] += v[j];
                        }
                    } else {
                        ec_store_s8<4>(reinterpret_cast<int8_t *>(memory + p.at_d) +
                                           (row * p.tile_w + column + q) * stride + 4 * word,
                                       v);
                    }
                }
            }
        }
        if (TO_MEMORY) {
            if (works) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    atomicAdd(totals + 4 * word + j, total[j]);
                }
            }
            __syncthreads();
            for (int i = threadIdx.x; i < at.here; i += blockDim.x) {
                sums[(size_t)at.tile * p.hidden + at.channel + i] = totals[i];
            }
        }
    }
};

/* 8 outputs of a pixel of the tile, in memory; before the first where they are not there. */
__device__ __forceinline__ int64_t ec_inverted_output(const ec_inverted_s8_params &p, const ec_inverted_place &at,
                                                      int pixel, int channel)
{
    const int line = ec_divide_small(pixel, ec_inverse(p.tile_w)), row = at.row + line;
    const int column = at.column + pixel - line * p.tile_w;
    const bool there = line < p.tile_h && row < p.out_h && column < p.out_w && channel < p.out_c;
    return there ? (((int64_t)at.image * p.out_h + row) * p.out_w + column) * p.out_c + channel : -1;
}

/* What is added to outputs at `place`. */
__device__ __forceinline__ uint2 ec_inverted_other(const ec_inverted_s8_params &p, const int8_t *other, int64_t place)
{
    return p.add && place >= 0 ? *reinterpret_cast<const uint2 *>(other + place) : make_uint2(0, 0);
}

/* Requantises, adds and stores 8 outputs at `place`. */
__device__ __forceinline__ void ec_inverted_store(const ec_inverted_s8_params &p, int32_t (&v)[8], int64_t place,
                                                  const ec_inverted_records &records, uint2 other, int8_t *y)
{
    records.apply(v, p.add || ec_inverted_narrow(p.min2, p.max2), p.min2, p.max2);
    if (p.add) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int32_t b = ec_byte(i < 4 ? other.x : other.y, i % 4);
            const int32_t sum = p.add_offset + v[i] * p.own_multiplier + b * p.other_multiplier;
            v[i] = ec_clamp((sum >> p.add_shift) + p.add_zero, p.add_min, p.add_max);
        }
    }
    if (place >= 0) {
        ec_store_s8<8>(y + place, v);
    }
}

/* y of the tile, from d. Each warp takes 16 rows and 32 outputs at a time; the blocks of a cluster then add up their
 * shares, 8 rows at a time. What is added to the first of them is asked for early. */
template <int CLUSTER> struct ec_inverted_project {
    int64_t place[2];
    uint2 other[2];

    static __device__ __forceinline__ int tiles(const ec_inverted_s8_params &p)
    {
        return (p.tile_h * p.tile_w + 15) / 16;
    }

    /* The outputs of this lane in 8 rows and 32 outputs, of twice as many `part`s as warps take. */
    static __device__ __forceinline__ int64_t output(const ec_inverted_s8_params &p, const ec_inverted_place &at,
                                                     int part)
    {
        const int lane = threadIdx.x % 32, n = ec_divide_small(part / 2, ec_inverse(tiles(p)));
        const int m = part / 2 - n * tiles(p);
        return ec_inverted_output(p, at, 16 * m + part % 2 * 8 + lane / 4, 32 * n + lane % 4 * 8);
    }

    __device__ __forceinline__ void begin(const ec_inverted_s8_params &p, const ec_inverted_place &at, int rank)
    {
        const int warp = threadIdx.x / 32;
#pragma unroll
        for (int half = 0; half < (CLUSTER == 1 ? 2 : 1); half++) {
            place[half] = output(p, at, CLUSTER == 1 ? 2 * warp + half : rank + CLUSTER * warp);
        }
    }

    __device__ __forceinline__ void ask(const ec_inverted_s8_params &p, const int8_t *from)
    {
#pragma unroll
        for (int half = 0; half < (CLUSTER == 1 ? 2 : 1); half++) {
            other[half] = ec_inverted_other(p, from, place[half]);
        }
    }

    __device__ __forceinline__ void run(const ec_inverted_s8_params &p, const ec_inverted_place &at, uint32_t shared,
                                        int rank, const int8_t *from, int8_t *y)
    {
        const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
        const int units = tiles(p) * p.n2, stride = 32 * p.blocks + 16;
        const uint32_t sums = shared + p.at_sums + 16 * lane;
        const uint32_t at_records = shared + p.at_records2 + ec_inverted_record(lane % 4 * 8);
        const float inverse = ec_inverse(tiles(p));
#pragma unroll 1
        for (int unit = warp; unit < units; unit += warps) {
            const int n = ec_divide_small(unit, inverse), m = unit - n * tiles(p);
            int32_t acc[4][4] = {};
            ec_inverted_records records;
            if (CLUSTER == 1) {
                records.load(at_records + ec_inverted_record(32 * n));
            }
            ec_inverted_products(acc, shared + p.at_d + m * 16 * stride, stride,
                                 shared + p.at_w2 + n * p.blocks * EC_WEIGHT_BLOCK, p.blocks);
            if (CLUSTER == 1 && unit != warp) {
                place[0] = output(p, at, 2 * unit);
                place[1] = output(p, at, 2 * unit + 1);
                ask(p, from);
            }
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int32_t v[8];
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    v[i] = acc[i / 2][2 * half + i % 2];
                }
                if constexpr (CLUSTER == 1) {
                    ec_inverted_store(p, v, place[half], records, other[half], y);
                } else {
                    ec_store_shared16(sums + (2 * unit + half) * 1024, make_int4(v[0], v[1], v[2], v[3]));
                    ec_store_shared16(sums + (2 * unit + half) * 1024 + 512, make_int4(v[4], v[5], v[6], v[7]));
                }
            }
        }
        if constexpr (CLUSTER > 1) {
            ec_cluster_sync<CLUSTER>();
            const int first = rank + CLUSTER * warp;
#pragma unroll 1
            for (int part = first; part < 2 * units; part += CLUSTER * warps) {
                if (part != first) {
                    place[0] = output(p, at, part);
                    other[0] = ec_inverted_other(p, from, place[0]);
                }
                int32_t v[8] = {};
                ec_inverted_records records;
                records.load(at_records + ec_inverted_record(32 * ec_divide_small(part / 2, inverse)));
#pragma unroll
                for (int peer = 0; peer < CLUSTER; peer++) {
                    const int4 a = ec_load_cluster16<CLUSTER>(sums + part * 1024, peer);
                    const int4 b = ec_load_cluster16<CLUSTER>(sums + part * 1024 + 512, peer);
                    v[0] += a.x;
                    v[1] += a.y;
                    v[2] += a.z;
                    v[3] += a.w;
                    v[4] += b.x;
                    v[5] += b.y;
                    v[6] += b.z;
                    v[7] += b.w;
                }
                ec_inverted_store(p, v, place[0], records, other[0], y);
            }
            ec_cluster_sync<CLUSTER>(); /* the others still read this block's memory */
        }
    }
};

template <int R, int S, int STRIDE, int CLUSTER, bool EXPAND>
__device__ __forceinline__ void ec_inverted_s8_body(const ec_inverted_s8_params &p, const void *x, const void *other,
                                                    const void *block, void *y)
{
    extern __shared__ __align__(128) uint8_t ec_shared[];
    const uint32_t shared = (uint32_t)__cvta_generic_to_shared(ec_shared);
    const int tile = blockIdx.x / CLUSTER, rank = blockIdx.x - tile * CLUSTER;
    const int8_t *const from = static_cast<const int8_t *>(other);
    ec_launch_next();
    ec_block_fetch(shared, static_cast<const uint8_t *>(block) + (size_t)rank * p.block_bytes, p.block_bytes);
    const ec_inverted_place at = ec_inverted_begin(p, STRIDE, tile, rank);
    ec_inverted_input<EXPAND> input;
    input.begin(p, at);
    ec_inverted_prepare<EXPAND>(p, at, ec_shared);
    ec_inverted_project<CLUSTER> project;
    project.begin(p, at, rank);
    ec_inverted_depthwise<R, S, STRIDE, false> depthwise;
    depthwise.begin(p, at);
    __syncthreads();
    ec_wait_previous();
    input.run(p, at, shared, static_cast<const int8_t *>(x));
    project.ask(p, from);
    ec_copy_commit();
    ec_block_wait(shared);
    if (R == 3) { /* of larger kernels they are too many registers */
        depthwise.load(p, shared);
    }
    ec_copy_wait<0>();
    __syncthreads();
    if (EXPAND) {
        ec_inverted_expand(p, at, ec_shared, shared);
        __syncthreads();
    }
    if (R > 3) {
        depthwise.load(p, shared);
    }
    depthwise.run(p, at, ec_shared, nullptr, nullptr);
    __syncthreads();
    project.run(p, at, shared, rank, from, static_cast<int8_t *>(y));
}

template <int R, int S, int STRIDE, bool EXPAND>
__device__ __forceinline__ void ec_expanded_s8_body(const ec_inverted_s8_params &p, const void *x, const void *block,
                                                    void *d, void *sums)
{
    extern __shared__ __align__(128) uint8_t ec_shared[];
    const uint32_t shared = (uint32_t)__cvta_generic_to_shared(ec_shared);
    ec_launch_next();
    ec_block_fetch(shared, static_cast<const uint8_t *>(block) + (size_t)blockIdx.y * p.block_bytes, p.block_bytes);
    const ec_inverted_place at = ec_inverted_begin(p, STRIDE, blockIdx.x, blockIdx.y);
    ec_inverted_input<EXPAND> input;
    input.begin(p, at);
    ec_inverted_prepare<EXPAND>(p, at, ec_shared);
    for (int i = threadIdx.x; i < 32 * p.blocks; i += blockDim.x) {
        reinterpret_cast<int32_t *>(ec_shared + p.at_sums)[i] = 0;
    }
    ec_inverted_depthwise<R, S, STRIDE, true> depthwise;
    depthwise.begin(p, at);
    __syncthreads();
    ec_wait_previous();
    input.run(p, at, shared, static_cast<const int8_t *>(x));
    ec_copy_commit();
    ec_block_wait(shared);
    if (R == 3) { /* of larger kernels they are too many registers */
        depthwise.load(p, shared);
    }
    ec_copy_wait<0>();
    __syncthreads();
    if (EXPAND) {
        ec_inverted_expand(p, at, ec_shared, shared);
        __syncthreads();
    }
    if (R > 3) {
        depthwise.load(p, shared);
    }
    depthwise.run(p, at, ec_shared, static_cast<int8_t *>(d), static_cast<int32_t *>(sums));
}

/* y = product of the gated map. A tile is tile_w pixels, tile_h is 1. */
template <int CLUSTER>
__device__ __forceinline__ void ec_gated_s8_body(const ec_inverted_s8_params &p, const void *map, const void *gate,
                                                 const void *other, const void *block, void *y)
{
    constexpr int AHEAD = 4; /* pieces that are asked for at once */
    extern __shared__ __align__(128) uint8_t ec_shared[];
    const uint32_t shared = (uint32_t)__cvta_generic_to_shared(ec_shared);
    const int tile = blockIdx.x / CLUSTER, rank = blockIdx.x - tile * CLUSTER;
    const int8_t *const added = static_cast<const int8_t *>(other);
    ec_launch_next();
    ec_block_fetch(shared, static_cast<const uint8_t *>(block) + (size_t)rank * p.block_bytes, p.block_bytes);
    ec_inverted_place at = {};
    at.column = tile * p.tile_w;
    at.channel = 32 * rank * p.blocks;
    at.here = max(0, min(32 * p.blocks, p.hidden - at.channel));
    const int stride = 32 * p.blocks + 16, pieces = at.here / 8, rows = min(p.tile_w, p.out_w - at.column);
    const float inverse = ec_inverse(pieces);
    const int8_t *const from = static_cast<const int8_t *>(map) + (size_t)at.column * p.hidden + at.channel;
    const int8_t *const factor = static_cast<const int8_t *>(gate) + at.channel;
    ec_inverted_project<CLUSTER> project;
    project.begin(p, at, rank);
    __syncthreads();
    ec_wait_previous();
    project.ask(p, added);
#pragma unroll 1
    for (int start = threadIdx.x; start < rows * pieces; start += AHEAD * blockDim.x) {
        uint2 a[AHEAD], g[AHEAD];
        int to[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            const int i = start + k * blockDim.x, row = ec_divide_small(i, inverse), c = (i - row * pieces) * 8;
            to[k] = i < rows * pieces ? row * stride + c : -1;
            if (to[k] >= 0) {
                a[k] = *reinterpret_cast<const uint2 *>(from + (size_t)row * p.hidden + c);
                g[k] = *reinterpret_cast<const uint2 *>(factor + c);
            }
        }
#pragma unroll
        for (int k = 0; k < AHEAD; k++) {
            if (to[k] >= 0) {
                int32_t v[8];
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    const int32_t m = ec_byte(j < 4 ? a[k].x : a[k].y, j % 4) - p.map_zero;
                    const int32_t f = ec_byte(j < 4 ? g[k].x : g[k].y, j % 4) - p.gate_zero;
                    const int32_t value = (__mulhi(m * f, p.gate_multiplier) + p.gate_round) >> p.gate_shift;
                    v[j] = ec_clamp(value + p.gate_zero_out, p.gate_min, p.gate_max);
                }
                ec_store_s8<8>(reinterpret_cast<int8_t *>(ec_shared + p.at_d) + to[k], v);
            }
        }
    }
    ec_block_wait(shared);
    __syncthreads();
    project.run(p, at, shared, rank, added, static_cast<int8_t *>(y));
}

/* g = act2(w2 act1(w1 average + b1) + b2). The block of constants: w1, w2, records of both without gaps, tables. */
__device__ __forceinline__ void ec_squeeze_s8_body(const ec_squeeze_s8_params &p, const void *sums, const void *block,
                                                   void *output)
{
    extern __shared__ __align__(128) uint8_t ec_shared[];
    const uint32_t shared = (uint32_t)__cvta_generic_to_shared(ec_shared);
    const int words = p.channels / 4, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int32_t *const totals = reinterpret_cast<int32_t *>(ec_shared + p.at_totals);
    int8_t *const few = reinterpret_cast<int8_t *>(ec_shared + p.at_few);
    ec_launch_next();
    ec_block_fetch(shared, block, p.block_bytes);
    for (int c = threadIdx.x; c < p.channels; c += blockDim.x) {
        totals[c] = 0;
    }
    if (threadIdx.x < p.few_words) {
        reinterpret_cast<uint32_t *>(few)[threadIdx.x] = 0;
    }
    const float by_words = ec_inverse(words);
    const int lanes = ec_divide_small(blockDim.x, by_words), part = ec_divide_small(threadIdx.x, by_words);
    const int first = threadIdx.x - part * words;
    __syncthreads();
    ec_wait_previous();
    if (part < lanes) {
        constexpr int AHEAD = 8; /* sums that are asked for at once */
        const int4 *const from = static_cast<const int4 *>(sums) + first;
        int4 total = make_int4(0, 0, 0, 0);
#pragma unroll 1
        for (int tile = part; tile < p.tiles; tile += AHEAD * lanes) {
            int4 v[AHEAD];
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                const int now = tile + k * lanes;
                v[k] = now < p.tiles ? from[(size_t)now * words] : make_int4(0, 0, 0, 0);
            }
#pragma unroll
            for (int k = 0; k < AHEAD; k++) {
                total.x += v[k].x;
                total.y += v[k].y;
                total.z += v[k].z;
                total.w += v[k].w;
            }
        }
        atomicAdd(totals + 4 * first, total.x);
        atomicAdd(totals + 4 * first + 1, total.y);
        atomicAdd(totals + 4 * first + 2, total.z);
        atomicAdd(totals + 4 * first + 3, total.w);
    }
    ec_block_wait(shared);
    __syncthreads();
    int8_t *const average = reinterpret_cast<int8_t *>(ec_shared + p.at_average);
    for (int c = threadIdx.x; c < p.channels; c += blockDim.x) {
        const int32_t mean = ec_divide_round(totals[c] - p.pixels * p.zero, p.pixels) + p.zero;
        average[c] = (int8_t)ec_clamp(mean, -128, 127);
    }
    __syncthreads();
    const int32_t *const x = reinterpret_cast<const int32_t *>(average);
    for (int o = warp; o < p.few; o += blockDim.x / 32) {
        const int32_t *const row = reinterpret_cast<const int32_t *>(ec_shared + p.at_w1) + o * words;
        const int4 record = ec_load_cluster16<1>(shared + p.at_records1 + 16 * o, 0);
        int32_t sum = 0;
#pragma unroll 4
        for (int k = lane; k < words; k += 32) {
            sum = __dp4a(x[k], row[k], sum);
        }
        sum = __reduce_add_sync(0xffffffffu, sum);
        if (lane == 0) {
            const int32_t v = ec_clamp(ec_requantize_channel<true>(sum, record), p.min1, p.max1);
            few[o] = p.table1 ? reinterpret_cast<const int8_t *>(ec_shared + p.at_table1)[128 + v] : (int8_t)v;
        }
    }
    __syncthreads();
    const int32_t *const k_words = reinterpret_cast<const int32_t *>(few);
    const int32_t *const w = reinterpret_cast<const int32_t *>(ec_shared + p.at_w2);
    for (int c = threadIdx.x; c < p.channels; c += blockDim.x) {
        const int4 record = ec_load_cluster16<1>(shared + p.at_records2 + 16 * c, 0);
        int32_t sum = 0;
#pragma unroll 4
        for (int k = 0; k < p.few_words; k++) {
            sum = __dp4a(k_words[k], w[k * p.channels + c], sum);
        }
        const int32_t v = ec_clamp(ec_requantize_channel<true>(sum, record), p.min2, p.max2);
        static_cast<int8_t *>(output)[c] =
            p.table2 ? reinterpret_cast<const int8_t *>(ec_shared + p.at_table2)[128 + v] : (int8_t)v;
    }
}
