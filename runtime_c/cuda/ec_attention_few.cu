/*
 * ec_attention_few.cu: one new token, or a few, over a cache: what ec_attention_decode.cu computes, with its arguments
 * but for scratch and counters, where tokens times the heads of a group are at most eight rows. sm_90 and later.
 *
 * D channels of keys and of values, 64 or 128; positions turn all of them or none. Grid: (SPLITS, kv_heads, batch),
 * the splits a cluster. The cached keys divide into tiles of 16: tile i is for warp i / SPLITS of block i % SPLITS,
 * and so on around. A warp copies its own tiles, STAGES ahead, and computes s = k q^T and sums = v^T p with eight
 * query rows as columns: no barrier stands between the new tokens' rows and its sums. Those of the warps are added in
 * shared memory, those of the blocks where they are sent to: block i of a cluster has the channels from i D / SPLITS
 * on. ITEMS: of four channels a thread, the rows of q, k and v. EARLY: as in ec_attention_decode.cu.
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, one token, 32 query and 8 key heads of 128 channels, caches from
 * memory, us a launch in a graph (ec_attention_decode.cu): 128 keys 2.6 (4.4), 1024 keys 4.0 (6.6), 8192 keys 14.9
 * (14.9). Tuning runs: 1000 keys 3.4, of it launch and wait 1.1, rows of the new tokens 0.4, products 1.1, both joins
 * 0.8; 1040 keys 4.0; 8000 keys 13.3, with one stage 19.3. Tried at 1000 and 1040 keys: values in registers 3.2 and
 * 3.9, with all 128 of them; 10 warps 3.5 and 3.7; no cluster, the last block joins what lies in L2, 4.3 to 5.1. In a
 * decode step it ends 4.1 us after the kernel before where registers allow its blocks beside that one's (then they
 * begin 11 us earlier), else 5.9; ec_attention_decode.cu 8.4.
 */
#include "ec_attention.cuh"
#include "ec_attention_cached.cuh"
#include "ec_cluster.cuh"

#define EC_FEW_ROWS 8
#define EC_FEW_KEYS 16 /* of a tile: a warp's share at a time */
#define EC_FEW_AHEAD 2 /* tiles of a warp on their way into L2 beside those on their way to it */

enum { EC_FEW_PLAIN, EC_FEW_HALF, EC_FEW_NEIGHBOURS }; /* how channels pair up */

/* 16 bytes from L2, zeros where `valid` is false; it stays where it stands among waits and other such loads. */
__device__ __forceinline__ uint4 ec_few_load(const void *from, bool valid)
{
    uint4 v;
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %5, 0;\nmov.u32 %0, 0;\nmov.u32 %1, 0;\nmov.u32 %2, 0;\n"
                 "mov.u32 %3, 0;\n@p ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];\n}"
                 : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
                 : "l"(from), "r"((int)valid));
    return v;
}

/* The same of 4 bytes. */
__device__ __forceinline__ uint32_t ec_few_load4(const void *from, bool valid)
{
    uint32_t v;
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %2, 0;\nmov.u32 %0, 0;\n@p ld.global.cg.u32 %0, [%1];\n}"
                 : "=&r"(v)
                 : "l"(from), "r"((int)valid));
    return v;
}

/* 8x8 elements of 16 bits, two neighbours a lane, with rows and columns exchanged. */
__device__ __forceinline__ uint32_t ec_few_transposed(uint32_t v)
{
    uint32_t t;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(t) : "r"(v));
    return t;
}

/*
 * The new tokens' rows on their way into shared memory: q's, then k's, then v's, q and k turned by their positions. A
 * thread takes ITEMS times four channels of a row: two neighbours at `from` and two `step` on. All that does not need
 * the rows themselves is ready before they are.
 */
template <typename T, int D, int PAIRS, int THREADS, int ITEMS> struct ec_few_new {
    static constexpr int EACH = D / 4, PITCH = D + 8;
    const T *from[ITEMS];
    float4 turns[ITEMS];
    uint32_t a[ITEMS], b[ITEMS];

    static __device__ __forceinline__ bool is_turned(int row, int rows, int tokens)
    {
        return PAIRS != EC_FEW_PLAIN && row < rows + tokens;
    }
    static __device__ __forceinline__ int channel(bool turned)
    {
        return (int)threadIdx.x % EACH * (PAIRS == EC_FEW_HALF && turned ? 2 : 4);
    }
    static __device__ __forceinline__ int step(bool turned)
    {
        return PAIRS == EC_FEW_HALF && turned ? D / 2 : 2;
    }
    static __device__ __forceinline__ int row_of(int i)
    {
        return (i * THREADS + (int)threadIdx.x) / EACH;
    }

    /* q, k, v: of the sample and the key head. */
    __device__ __forceinline__ void prepare(const ec_cached_attention_params &p, const T *q, const T *k, const T *v,
                                            const float *frequency, int position, int rows, int group)
    {
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            const int row = row_of(i), other = row - rows;
            const bool turned = is_turned(row, rows, p.tokens);
            const T *at = row < rows         ? q + row % group * p.q_head + row / group * p.q_token
                          : other < p.tokens ? k + other * p.k_token
                                             : v + (other - p.tokens) * p.v_token;
            from[i] = at + channel(turned);
            asm volatile("" : "+l"(from[i])); /* now, not after the wait */
            if (turned) {
                const int place = position + (row < rows ? row / group : other), pair = (int)threadIdx.x % EACH * 2;
                const float2 f = *reinterpret_cast<const float2 *>(frequency + pair);
                const float2 one = ec_turn(place, f.x, p.rotary_scale), two = ec_turn(place, f.y, p.rotary_scale);
                turns[i] = make_float4(one.x, one.y, two.x, two.y);
            }
        }
    }

    /* Asks for the rows. */
    __device__ __forceinline__ void load(int rows, int tokens)
    {
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            const int next = step(is_turned(row_of(i), rows, tokens));
            const bool valid = row_of(i) < rows + 2 * tokens;
            a[i] = ec_few_load4(from[i], valid);
            b[i] = ec_few_load4(from[i] + next, valid);
        }
    }
    __device__ __forceinline__ void store(T *to, int rows, int tokens)
    {
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            if (row_of(i) < rows + 2 * tokens) {
                const bool turned = is_turned(row_of(i), rows, tokens);
                if (turned) {
                    turn(a[i], b[i], turns[i]);
                }
                uint32_t *const at = reinterpret_cast<uint32_t *>(to + row_of(i) * PITCH + channel(turned));
                at[0] = a[i];
                at[step(turned) / 2] = b[i];
            }
        }
    }

  private:
    static __device__ __forceinline__ void turn(uint32_t &a, uint32_t &b, const float4 &turns)
    {
        const ec_vector<T, 2> u = *reinterpret_cast<const ec_vector<T, 2> *>(&a);
        const ec_vector<T, 2> w = *reinterpret_cast<const ec_vector<T, 2> *>(&b);
        const float x0 = ec_float(u.at[0]), y0 = ec_float(PAIRS == EC_FEW_HALF ? w.at[0] : u.at[1]);
        const float x1 = ec_float(PAIRS == EC_FEW_HALF ? u.at[1] : w.at[0]), y1 = ec_float(w.at[1]);
        const float s0 = x0 * turns.x - y0 * turns.y, t0 = y0 * turns.x + x0 * turns.y;
        const float s1 = x1 * turns.z - y1 * turns.w, t1 = y1 * turns.z + x1 * turns.w;
        a = PAIRS == EC_FEW_HALF ? ec_pack<T>(s0, s1) : ec_pack<T>(s0, t0);
        b = PAIRS == EC_FEW_HALF ? ec_pack<T>(t0, t1) : ec_pack<T>(s1, t1);
    }
};

/* One tile of a warp in shared memory: EC_FEW_KEYS keys and their values, rows of PITCH elements. */
template <typename T, int D> struct ec_few_tile {
    static constexpr int PITCH = D + 8, CHUNKS = D / 8, AT_ONCE = 32 / CHUNKS; /* rows */
    static constexpr int SIZE = EC_FEW_KEYS * PITCH;
    T *k; /* the values stand behind the keys */

    __device__ __forceinline__ explicit ec_few_tile(T *at) : k(at)
    {
    }

    /* Asks for the rows from `first` on that lie before `position`; zeros for the others. */
    static __device__ __forceinline__ void copy(T *to, const T *rows, int first, int position)
    {
        const int lane = threadIdx.x & 31, row = lane / CHUNKS;
        const T *const from = rows + (int64_t)first * D + lane * 8;
        to += row * PITCH + lane % CHUNKS * 8;
#pragma unroll
        for (int i = 0; i < EC_FEW_KEYS; i += AT_ONCE) {
            ec_copy_async16(to + i * PITCH, from + i * D, first + row + i < position);
        }
        ec_copy_commit();
    }
    /* Asks for a later tile to come into L2. */
    static __device__ __forceinline__ void prefetch(const T *keys, const T *values, int first, int position)
    {
        const int lane = threadIdx.x & 31;
        if (first + lane / 2 < position) {
            asm volatile("prefetch.global.L2 [%0];" ::"l"(keys + (int64_t)first * D + lane * (D / 2)));
            asm volatile("prefetch.global.L2 [%0];" ::"l"(values + (int64_t)first * D + lane * (D / 2)));
        }
    }

    /* The new tokens among the keys from `first` on: `fresh` holds their keys, then their values, rows of PITCH. */
    __device__ __forceinline__ void take_new(const T *fresh, int tokens, int first, int position) const
    {
#pragma unroll 1
        for (int at = threadIdx.x & 31; at < 2 * tokens * CHUNKS; at += 32) {
            const int from = at / CHUNKS, token = from < tokens ? from : from - tokens;
            const int row = position + token - first, channel = at % CHUNKS * 8;
            if (row >= 0 && row < EC_FEW_KEYS) {
                *reinterpret_cast<uint4 *>(k + (from < tokens ? 0 : SIZE) + row * PITCH + channel) =
                    *reinterpret_cast<const uint4 *>(fresh + from * PITCH + channel);
            }
        }
        __syncwarp();
    }
};

/* What a warp knows of its query rows: lane l of the rows 2 (l % 4) + 0, 1. `sums[j]`: of those rows, the channels
 * 16 j + l / 4 (0, 1) and 16 j + l / 4 + 8 (2, 3). */
template <typename T, int D> struct ec_few_rows {
    static constexpr int PITCH = D + 8;
    float sums[D / 16][4], top[2], total[2];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                sums[j][e] = 0.0f;
            }
        }
        top[0] = top[1] = -INFINITY;
        total[0] = total[1] = 0.0f;
    }

    /* s[2 h + i]: key l / 4 + 8 h for row 2 (l % 4) + i. q: [8][PITCH] in shared memory. */
    static __device__ __forceinline__ void scores(float (&s)[4], const ec_few_tile<T, D> &tile, const T *q)
    {
        const int lane = threadIdx.x & 31;
        const uint32_t k_at = (uint32_t)__cvta_generic_to_shared(tile.k + (lane & 15) * PITCH + (lane >> 4) * 8);
        const uint32_t q_at = (uint32_t)__cvta_generic_to_shared(q + (lane & 7) * PITCH + (lane >> 3) * 8);
        float chain[2][4] = {};
#pragma unroll
        for (int i = 0; i < D / 32; i++) {
            uint32_t b[4], first[4], second[4];
            ec_ldmatrix(b, q_at + i * 64);
            ec_ldmatrix(first, k_at + i * 64);
            ec_ldmatrix(second, k_at + i * 64 + 32);
            ec_mma<T>::run(chain[0], first, b[0], b[1]);
            ec_mma<T>::run(chain[1], second, b[2], b[3]);
        }
#pragma unroll
        for (int e = 0; e < 4; e++) {
            s[e] = chain[0][e] + chain[1][e];
        }
    }

    /* Scores (times `scale` in powers of two, -inf where hidden) become weights. */
    __device__ __forceinline__ void soften(float (&s)[4], float scale, bool begun)
    {
        float before[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float now = fmaxf(fmaxf(s[i], s[i + 2]) * scale, top[i]);
#pragma unroll
            for (int step = 4; step < 32; step <<= 1) {
                now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, step));
            }
            const float base = now == -INFINITY ? 0.0f : now;
            before[i] = ec_exp2(top[i] - base);
            top[i] = now;
            s[i] = ec_exp2(fmaf(s[i], scale, -base));
            s[i + 2] = ec_exp2(fmaf(s[i + 2], scale, -base));
            total[i] = fmaf(total[i], before[i], s[i] + s[i + 2]);
        }
        if (begun) {
#pragma unroll
            for (int j = 0; j < D / 16; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    sums[j][e] *= before[e & 1];
                }
            }
        }
    }

    __device__ __forceinline__ void average(const float (&s)[4], const ec_few_tile<T, D> &tile)
    {
        const int lane = threadIdx.x & 31;
        const uint32_t b0 = ec_few_transposed(ec_pack<T>(s[0], s[1]));
        const uint32_t b1 = ec_few_transposed(ec_pack<T>(s[2], s[3]));
        const uint32_t v_at = (uint32_t)__cvta_generic_to_shared(
            tile.k + tile.SIZE + ((lane & 7) + (lane >> 4) * 8) * PITCH + (lane >> 3 & 1) * 8);
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            uint32_t a[4];
            ec_ldmatrix_transposed(a, v_at + j * 32);
            ec_mma<T>::run(sums[j], a, b0, b1);
        }
    }

    /* Sums of rows below `rows` to `to` [rows][D + 4], tops and totals to ends[row * STEP]. */
    template <int STEP> __device__ __forceinline__ void put(float *to, float2 *ends, int rows)
    {
        const int lane = threadIdx.x & 31;
#pragma unroll
        for (int i = 0; i < 2; i++) {
#pragma unroll
            for (int step = 4; step < 32; step <<= 1) {
                total[i] += __shfl_xor_sync(0xffffffffu, total[i], step);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = 2 * (lane & 3) + i;
            if (row < rows) {
                float *const own = to + row * (D + 4) + (lane >> 2);
#pragma unroll
                for (int j = 0; j < D / 16; j++) {
                    own[16 * j] = sums[j][i];
                    own[16 * j + 8] = sums[j][i + 2];
                }
                if (lane < 4) {
                    ends[row * STEP] = make_float2(top[i], total[i]);
                }
            }
        }
    }
};

/* Adds up PARTS partial sums of V channels, `step` floats apart, by their tops and totals. */
template <int PARTS, int V>
__device__ __forceinline__ void ec_few_join(float (&sum)[V], float &top, float &total, const float *parts, int step,
                                            const float2 *ends)
{
    float4 two[PARTS / 2];
    top = -INFINITY;
#pragma unroll
    for (int i = 0; i < PARTS / 2; i++) {
        two[i] = reinterpret_cast<const float4 *>(ends)[i];
        top = fmaxf(top, fmaxf(two[i].x, two[i].z));
    }
    const float base = top == -INFINITY ? 0.0f : top;
    total = 0.0f;
#pragma unroll
    for (int e = 0; e < V; e++) {
        sum[e] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < PARTS; i++) {
        const float weight = ec_exp2((i % 2 ? two[i / 2].z : two[i / 2].x) - base);
        float v[V];
        ec_load<float, V>(v, parts + i * step);
        total = fmaf(i % 2 ? two[i / 2].w : two[i / 2].y, weight, total);
#pragma unroll
        for (int e = 0; e < V; e++) {
            sum[e] = fmaf(v[e], weight, sum[e]);
        }
    }
}

/* New tokens' rows; of each warp its keys and, in the end, its sums; tops and totals of the warps; and what the blocks
 * of the cluster send here: their sums of this block's channels, with tops and totals. */
template <typename T, int D, int WARPS, int SPLITS, int STAGES> struct ec_few_shared {
    static constexpr int OWN = 2 * STAGES * ec_few_tile<T, D>::SIZE * (int)sizeof(T);
    static_assert(OWN >= EC_FEW_ROWS * (D + 4) * (int)sizeof(float), "a warp's sums take the place of its tile");
    T fresh[3 * EC_FEW_ROWS][D + 8];
    unsigned char warps[WARPS][OWN];
    float2 ends[EC_FEW_ROWS][WARPS];
    float sums[SPLITS][EC_FEW_ROWS][D / SPLITS];
    float2 sums_ends[EC_FEW_ROWS][SPLITS];
    uint64_t arrived;
};

template <typename T, int D, int WARPS, int SPLITS, int STAGES, int ITEMS, int PAIRS, bool EARLY>
__device__ __forceinline__ void ec_few_run(const ec_cached_attention_params &p, const void *q_, const void *k_,
                                           const void *v_, const void *keys_, const void *values_,
                                           const void *position_, const void *frequency, void *y_, void *new_keys_,
                                           void *new_values_)
{
    constexpr int THREADS = 32 * WARPS, STEP = WARPS * SPLITS * EC_FEW_KEYS, OWN = D / SPLITS, CHUNKS = D / 8;
    static_assert(EC_FEW_ROWS * (D / 4) <= THREADS, "a thread joins four channels of one row");
    typedef ec_few_shared<T, D, WARPS, SPLITS, STAGES> Shared;
    extern __shared__ __align__(128) unsigned char ec_shared[];
    Shared &shared = *reinterpret_cast<Shared *>(ec_shared);
    ec_launch_next();
    if (!EARLY) {
        ec_wait_previous();
    }
    const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, rank = blockIdx.x;
    const int sample = blockIdx.z, b = blockIdx.y, group = p.heads / p.kv_heads;
    const int rows = p.tokens * group;
    const int position = ec_cached_position(p, position_, sample), end = position + p.tokens;
    const int64_t cached = (int64_t)(sample * p.kv_heads + b) * p.keys * D;
    const T *const keys = static_cast<const T *>(keys_) + cached;
    const T *const values = static_cast<const T *>(values_) + cached;
    int first = p.window > 0 ? max(0, position - p.window + 1) & ~(EC_FEW_KEYS - 1) : 0;
    first += (warp * SPLITS + rank) * EC_FEW_KEYS;
    T *const tiles = reinterpret_cast<T *>(shared.warps[warp]);
    typedef ec_few_tile<T, D> Tile;
    const auto copy = [&](int stage, int at) {
        Tile::copy(tiles + 2 * stage * Tile::SIZE, keys, at, position);
        Tile::copy(tiles + (2 * stage + 1) * Tile::SIZE, values, at, position);
    };
#pragma unroll
    for (int stage = 0; stage < STAGES; stage++) {
        copy(stage, first + stage * STEP);
    }
#pragma unroll
    for (int i = 0; i < EC_FEW_AHEAD; i++) {
        Tile::prefetch(keys, values, first + (STAGES + i) * STEP, position);
    }
    if (threadIdx.x == 0) {
        ec_cluster_expect(&shared.arrived, SPLITS * rows * (OWN * 4 + 8));
    }
    ec_cluster_arrive();
    ec_few_new<T, D, PAIRS, THREADS, ITEMS> fresh;
    fresh.prepare(p, static_cast<const T *>(q_) + p.q_offset + sample * p.q_batch + b * group * p.q_head,
                  static_cast<const T *>(k_) + p.k_offset + sample * p.k_batch + b * p.k_head,
                  static_cast<const T *>(v_) + p.v_offset + sample * p.v_batch + b * p.v_head,
                  static_cast<const float *>(frequency), position, rows, group);
    ec_cluster_wait();
    if (EARLY) {
        ec_wait_previous();
    }
    fresh.load(rows, p.tokens);
    fresh.store(shared.fresh[0], rows, p.tokens);
    __syncthreads();
    ec_few_rows<T, D> own;
    own.clear();
    bool begun = false;
    int stage = 0;
#pragma unroll 1
    while (first < end) {
        const Tile tile(tiles + 2 * stage * Tile::SIZE);
        const bool newest = first + EC_FEW_KEYS > position;
        ec_copy_wait<2 * STAGES - 1>();
        if (newest) {
            ec_copy_wait<2 * STAGES - 2>();
            tile.take_new(shared.fresh[rows], p.tokens, first, position);
        }
        __syncwarp();
        float s[4];
        own.scores(s, tile, shared.fresh[0]);
        if (newest || p.window > 0) {
            const ec_shown_keys shown = {end, position, p.causal != 0, p.window};
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int key = first + (lane >> 2) + 8 * (e / 2);
                const int token = p.tokens == 1 ? 0 : min(2 * (lane & 3) + e % 2, rows - 1) / group;
                s[e] = key >= shown.first(token) && key <= shown.last(token) ? s[e] : -INFINITY;
            }
        }
        own.soften(s, p.scale, begun);
        ec_copy_wait<2 * STAGES - 2>();
        __syncwarp();
        own.average(s, tile);
        __syncwarp();
        copy(stage, first + STAGES * STEP);
        Tile::prefetch(keys, values, first + (STAGES + EC_FEW_AHEAD) * STEP, position);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        begun = true;
        first += STEP;
    }
    ec_copy_wait<0>();
    __syncwarp();
    own.template put<WARPS>(reinterpret_cast<float *>(shared.warps[warp]), shared.ends[0] + warp, rows);
    __syncthreads();
    if ((int)threadIdx.x < rows * (D / 4)) {
        const int r = threadIdx.x / (D / 4), c = threadIdx.x % (D / 4) * 4, to = c / OWN;
        float sum[4], ends[2];
        ec_few_join<WARPS>(sum, ends[0], ends[1], reinterpret_cast<const float *>(shared.warps[0]) + r * (D + 4) + c,
                           Shared::OWN / 4, shared.ends[r]);
        ec_cluster_send(&shared.sums[rank][r][c % OWN], sum, &shared.arrived, to);
        if (c % OWN == 0) {
            ec_cluster_send(reinterpret_cast<float *>(&shared.sums_ends[r][rank]), ends, &shared.arrived, to);
        }
    }
    T *const new_keys = static_cast<T *>(new_keys_) + cached;
    T *const new_values = static_cast<T *>(new_values_) + cached;
    if (new_keys != keys || new_values != values) {
        const int each = (p.keys + SPLITS - 1) / SPLITS, from = rank * each, last = min(from + each, p.keys);
        ec_keep_cache(new_keys, keys, from, last, position, p.tokens, D, (int)threadIdx.x, THREADS);
        ec_keep_cache(new_values, values, from, last, position, p.tokens, D, (int)threadIdx.x, THREADS);
    }
    if (rank == SPLITS - 1) {
#pragma unroll 1
        for (int at = THREADS - 1 - (int)threadIdx.x; at < 2 * p.tokens * CHUNKS; at += THREADS) {
            const int from = at / CHUNKS, c = at % CHUNKS * 8;
            T *const to = from < p.tokens ? new_keys + from * D : new_values + (from - p.tokens) * D;
            *reinterpret_cast<uint4 *>(to + (int64_t)position * D + c) =
                *reinterpret_cast<const uint4 *>(&shared.fresh[rows + from][c]);
        }
    }
    /* This thread writes two channels of a row. */
    const int row = threadIdx.x / (OWN / 2), channel = threadIdx.x % (OWN / 2) * 2;
    if (row < rows) {
        T *const y = static_cast<T *>(y_) + rank * OWN + channel +
                     (((int64_t)sample * p.tokens + row / group) * p.heads + b * group + row % group) * D;
        ec_cluster_await(&shared.arrived);
        float sum[2], top, total;
        ec_few_join<SPLITS>(sum, top, total, &shared.sums[0][row][channel], EC_FEW_ROWS * OWN, shared.sums_ends[row]);
        const float factor = total > 0.0f ? __fdividef(1.0f, total) : 0.0f;
        *reinterpret_cast<uint32_t *>(y) = ec_pack<T>(sum[0] * factor, sum[1] * factor);
    }
}

template <typename T, int D, int WARPS, int SPLITS, int STAGES, int ITEMS, int PAIRS, bool EARLY>
__device__ __forceinline__ void
ec_attention_few_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                      const void *keys, const void *values, const void *position, void *y, void *new_keys,
                      void *new_values)
{
    ec_few_run<T, D, WARPS, SPLITS, STAGES, ITEMS, PAIRS, EARLY>(p, q, k, v, keys, values, position, nullptr, y,
                                                                 new_keys, new_values);
}

template <typename T, int D, int WARPS, int SPLITS, int STAGES, int ITEMS, int PAIRS, bool EARLY>
__device__ __forceinline__ void
ec_attention_few_rotary_body(const ec_cached_attention_params &p, const void *q, const void *k, const void *v,
                             const void *keys, const void *values, const void *position, const void *frequency,
                             void *y, void *new_keys, void *new_values)
{
    ec_few_run<T, D, WARPS, SPLITS, STAGES, ITEMS, PAIRS, EARLY>(p, q, k, v, keys, values, position, frequency, y,
                                                                 new_keys, new_values);
}
