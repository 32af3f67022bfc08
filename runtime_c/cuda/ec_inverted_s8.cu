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
#include "ec_inverted_depthwise_s8.cuh"

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
