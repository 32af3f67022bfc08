/*
 * ec_inverted_depthwise_s8.cuh: the depthwise convolution inside of an inverted residual (ec_inverted_s8.cu), from e in
 * shared memory.
 */
#ifndef EC_INVERTED_DEPTHWISE_S8_CUH
#define EC_INVERTED_DEPTHWISE_S8_CUH

#include "ec_inverted_s8.cuh"

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

#endif
