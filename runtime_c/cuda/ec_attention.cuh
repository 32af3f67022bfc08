/*
 * ec_attention.cuh: the core of all softmax attention on tensor cores, and what its kernels share.
 *
 *   y[r, :] = sum_j p[r, j] v[j, :] / sum_j p[r, j],  p[r, j] = 2^(scale (q[r, :] . k[j, :]) + mask - top[r])
 *
 * A block takes ROWS = 16 WM query rows and goes through the keys in tiles of KEYS = BN WN; warp (wm, wn) takes 16 rows
 * and BN keys of each tile, and the WN partial results of a row are joined at the end (online softmax, Milakov and
 * Gimelshein 2018; registers as in FlashAttention-2, Dao 2023). Scores, sums and y are float32; p is rounded to T for
 * the second product. Rows of K and V in shared memory are 16 bytes longer than their content, so that ldmatrix meets
 * no bank twice (D and E are multiples of 16).
 */
#ifndef EC_ATTENTION_CUH
#define EC_ATTENTION_CUH

#include "ec_mma.cuh"

#define EC_LOG2E 1.4426950408889634f

__device__ __forceinline__ float ec_exp2(float v)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(v));
    return y;
}

/* Two floats as T in one register, the first in the low half. */
template <typename T> __device__ __forceinline__ uint32_t ec_pack(float low, float high);
template <> __device__ __forceinline__ uint32_t ec_pack<__half>(float low, float high)
{
    const __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&v);
}
template <> __device__ __forceinline__ uint32_t ec_pack<__nv_bfloat16>(float low, float high)
{
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&v);
}

/* Token i of a head at equal steps. */
template <typename T> struct ec_strided_rows {
    const T *base;
    int64_t step;
    __device__ __forceinline__ const T *at(int i) const
    {
        return base + i * step;
    }
};

/* Query row r of a key head: token r / group of the group's head r % group. */
template <typename T> struct ec_grouped_rows {
    const T *base;
    int64_t head_step, token_step;
    int group;
    __device__ __forceinline__ const T *at(int i) const
    {
        return base + i % group * head_step + i / group * token_step;
    }
};

/* The keys that query token t may attend, without a mask: [first(t), last(t)]. */
struct ec_shown_keys {
    int keys, offset; /* offset: position of query token 0 among the keys */
    bool causal;
    int window;
    __device__ __forceinline__ int first(int t) const
    {
        return window > 0 ? max(0, t + offset - window + 1) : 0;
    }
    __device__ __forceinline__ int last(int t) const
    {
        return causal ? min(keys - 1, t + offset) : keys - 1;
    }
};

/*
 * Masks: `row(i, head, token)` once for each of a thread's two rows, then `apply(i, score, key)` for scores in powers
 * of two.
 */
struct ec_no_mask {
    __device__ __forceinline__ void row(int i, int head, int token)
    {
    }
    __device__ __forceinline__ float apply(int i, float score, int key) const
    {
        return score;
    }
};

/* Booleans (true: attend). */
struct ec_boolean_mask {
    const uint8_t *base;
    int64_t head_step, query_step, key_step;
    const uint8_t *at[2];
    __device__ __forceinline__ void row(int i, int head, int token)
    {
        at[i] = base + head * head_step + token * query_step;
    }
    __device__ __forceinline__ float apply(int i, float score, int key) const
    {
        return at[i][key * key_step] != 0 ? score : -INFINITY;
    }
};

/* Numbers that are added to the scaled scores. */
template <typename T> struct ec_additive_mask {
    const T *base;
    int64_t head_step, query_step, key_step;
    const T *at[2];
    __device__ __forceinline__ void row(int i, int head, int token)
    {
        at[i] = base + head * head_step + token * query_step;
    }
    __device__ __forceinline__ float apply(int i, float score, int key) const
    {
        return fmaf(ec_float(at[i][key * key_step]), EC_LOG2E, score);
    }
};

/* The sizes of one block, all known when it is compiled. */
template <typename T_, int D_, int E_, int BN_, int WM_, int WN_, int STAGES_> struct ec_attention_tile {
    typedef T_ T;
    static constexpr int D = D_, E = E_, BN = BN_, WM = WM_, WN = WN_, STAGES = STAGES_;
    static constexpr int ROWS = 16 * WM, KEYS = BN * WN, THREADS = 32 * WM * WN;
    static constexpr int K_PITCH = D + 8, V_PITCH = E + 8; /* elements */
    static constexpr int Q_SIZE = ROWS * K_PITCH, K_SIZE = KEYS * K_PITCH, V_SIZE = KEYS * V_PITCH;
    static constexpr int STAGE_SIZE = K_SIZE + V_SIZE;
    static constexpr int O_PITCH = E + 4; /* floats */
    static constexpr bool HELD = D <= 128; /* q in registers */
    static_assert(D % 16 == 0 && E % 16 == 0 && BN % 16 == 0, "whole instructions");
    static_assert(STAGES >= 2, "one tile is under way while another is used");
};

/* Rows first..first+ROWS-1 of `from` to shared memory; zeros in rows from `count` on and channels from `depth` on. */
template <int ROWS, int CHANNELS, int THREADS, typename T, typename FROM>
__device__ __forceinline__ void ec_copy_rows(T *to, const FROM &from, int first, int count, int depth)
{
    constexpr int CHUNKS = CHANNELS / 8, PITCH = CHANNELS + 8;
#pragma unroll
    for (int i = 0; i < (ROWS * CHUNKS + THREADS - 1) / THREADS; i++) {
        const int at = i * THREADS + (int)threadIdx.x, row = at / CHUNKS, chunk = at % CHUNKS;
        if (ROWS * CHUNKS % THREADS == 0 || at < ROWS * CHUNKS) {
            const bool valid = first + row < count && chunk * 8 < depth;
            ec_copy_async16(to + row * PITCH + chunk * 8, from.at(valid ? first + row : 0) + (valid ? chunk * 8 : 0),
                            valid);
        }
    }
}

/* What one warp knows of its 16 rows. Lane l has the rows l / 4 and l / 4 + 8. */
template <typename TILE> struct ec_attention_rows {
    typedef typename TILE::T T;
    float o[TILE::E / 8][4];
    float top[2], total[2]; /* total: of this lane's columns */
    uint32_t q[TILE::HELD ? TILE::D / 16 : 1][4];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int j = 0; j < TILE::E / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                o[j][e] = 0.0f;
            }
        }
        top[0] = top[1] = -INFINITY;
        total[0] = total[1] = 0.0f;
    }

    /* q: shared address of this warp's first row. */
    static __device__ __forceinline__ void fetch(uint32_t (&to)[4], uint32_t q_at, int step)
    {
        const int lane = threadIdx.x & 31;
        ec_ldmatrix(to, q_at + ((lane & 15) * TILE::K_PITCH + (2 * step + (lane >> 4)) * 8) * (int)sizeof(T));
    }

    __device__ __forceinline__ void hold(uint32_t q_at)
    {
        if constexpr (TILE::HELD) {
#pragma unroll
            for (int step = 0; step < TILE::D / 16; step++) {
                fetch(q[step], q_at, step);
            }
        }
    }

    /* s = q k^T for N keys; k: shared address of the first of them. */
    template <int N> __device__ __forceinline__ void scores(float (&s)[N / 8][4], uint32_t q_at, uint32_t k_at)
    {
        const int lane = threadIdx.x & 31;
        const uint32_t from = k_at + (((lane & 7) + ((lane >> 4) << 3)) * TILE::K_PITCH + ((lane >> 3) & 1) * 8) *
                                         (uint32_t)sizeof(T);
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[j][e] = 0.0f;
            }
        }
#pragma unroll
        for (int step = 0; step < TILE::D / 16; step++) {
            if constexpr (!TILE::HELD) {
                fetch(q[0], q_at, step);
            }
#pragma unroll
            for (int j = 0; j < N / 16; j++) {
                uint32_t k[4];
                ec_ldmatrix(k, from + (j * 16 * TILE::K_PITCH + step * 16) * (int)sizeof(T));
                ec_mma<T>::run(s[2 * j], q[TILE::HELD ? step : 0], k[0], k[1]);
                ec_mma<T>::run(s[2 * j + 1], q[TILE::HELD ? step : 0], k[2], k[3]);
            }
        }
    }

    /* Scores (in powers of two, -inf where hidden) become weights; what is known so far is scaled to the new top. */
    template <int N> __device__ __forceinline__ void soften(float (&s)[N / 8][4])
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float m = top[i];
#pragma unroll
            for (int j = 0; j < N / 8; j++) {
                m = fmaxf(m, fmaxf(s[j][2 * i], s[j][2 * i + 1]));
            }
            m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 1));
            m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, 2));
            const float base = m == -INFINITY ? 0.0f : m;
            const float before = ec_exp2(top[i] - base);
            top[i] = m;
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < N / 8; j++) {
                s[j][2 * i] = ec_exp2(s[j][2 * i] - base);
                s[j][2 * i + 1] = ec_exp2(s[j][2 * i + 1] - base);
                sum += s[j][2 * i] + s[j][2 * i + 1];
            }
            total[i] = fmaf(total[i], before, sum);
#pragma unroll
            for (int j = 0; j < TILE::E / 8; j++) {
                o[j][2 * i] *= before;
                o[j][2 * i + 1] *= before;
            }
        }
    }

    /* o += p v for N keys; v: shared address of the first of them. */
    template <int N> __device__ __forceinline__ void average(const float (&p)[N / 8][4], uint32_t v_at)
    {
        const int lane = threadIdx.x & 31;
        const uint32_t from = v_at + ((lane & 15) * TILE::V_PITCH + (lane >> 4) * 8) * (uint32_t)sizeof(T);
#pragma unroll
        for (int step = 0; step < N / 16; step++) {
            const uint32_t a[4] = {ec_pack<T>(p[2 * step][0], p[2 * step][1]), ec_pack<T>(p[2 * step][2], p[2 * step][3]),
                                   ec_pack<T>(p[2 * step + 1][0], p[2 * step + 1][1]),
                                   ec_pack<T>(p[2 * step + 1][2], p[2 * step + 1][3])};
#pragma unroll
            for (int j = 0; j < TILE::E / 16; j++) {
                uint32_t v[4];
                ec_ldmatrix_transposed(v, from + (step * 16 * TILE::V_PITCH + j * 16) * (int)sizeof(T));
                ec_mma<T>::run(o[2 * j], a, v[0], v[1]);
                ec_mma<T>::run(o[2 * j + 1], a, v[2], v[3]);
            }
        }
    }

    /* Writes o, and then top and total, of the 16 rows to `to`: [16][O_PITCH], `ends`: [16][2]. */
    __device__ __forceinline__ void put(float *to, float *ends)
    {
        const int lane = threadIdx.x & 31;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = lane / 4 + 8 * i;
            total[i] += __shfl_xor_sync(0xffffffffu, total[i], 1);
            total[i] += __shfl_xor_sync(0xffffffffu, total[i], 2);
            if ((lane & 3) == 0) {
                ends[2 * row] = top[i];
                ends[2 * row + 1] = total[i];
            }
#pragma unroll
            for (int j = 0; j < TILE::E / 8; j++) {
                ec_vector<float, 2> pair;
                pair.at[0] = o[j][2 * i];
                pair.at[1] = o[j][2 * i + 1];
                *reinterpret_cast<ec_vector<float, 2> *>(to + row * TILE::O_PITCH + j * 8 + (lane & 3) * 2) = pair;
            }
        }
    }
};

/* Floats of the joined sums before the tops and totals in shared memory. */
template <typename TILE> __device__ __forceinline__ constexpr int ec_attention_ends()
{
    return TILE::WN * TILE::ROWS * TILE::O_PITCH;
}

/* Scores of N keys from `first` on: scaled, hidden outside [from, to] of each row, masked. */
template <int N, typename MASK>
__device__ __forceinline__ void ec_finish_scores(float (&s)[N / 8][4], const MASK &mask, float scale, int first,
                                                 const int (&from)[2], const int (&to)[2], bool whole)
{
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int key = first + j * 8 + (lane & 3) * 2 + (e & 1), i = e >> 1;
            if (whole) {
                s[j][e] = mask.apply(i, s[j][e] * scale, key);
            } else {
                s[j][e] = key >= from[i] && key <= to[i] ? mask.apply(i, s[j][e] * scale, key) : -INFINITY;
            }
        }
    }
}

/* The query rows of a block: row r is token (row0 + r) / group of head head0 + (row0 + r) % group. */
struct ec_query_rows {
    int row0, count, group, head0; /* count: rows of all blocks of this key head */
};

/* The tiles of keys first..last-1 of one block, on their way through STAGES stages of shared memory. */
template <typename TILE, typename K, typename V> struct ec_attention_stream {
    typedef typename TILE::T T;
    K k_from;
    V v_from;
    int first, last, end, depth, value_depth; /* tiles; end: keys from here on are zeros */
    T *stages;

    __device__ __forceinline__ void copy_k(int tile, int stage) const
    {
        if (tile < last) {
            ec_copy_rows<TILE::KEYS, TILE::D, TILE::THREADS>(stages + stage * TILE::STAGE_SIZE, k_from,
                                                             tile * TILE::KEYS, end, depth);
        }
        ec_copy_commit();
    }

    __device__ __forceinline__ void copy_v(int tile, int stage) const
    {
        if (tile < last) {
            ec_copy_rows<TILE::KEYS, TILE::E, TILE::THREADS>(stages + stage * TILE::STAGE_SIZE + TILE::K_SIZE, v_from,
                                                             tile * TILE::KEYS, end, value_depth);
        }
        ec_copy_commit();
    }

    /* The keys begin..end-1 from now on; the first tiles are asked for. */
    __device__ __forceinline__ void start(int begin, int end_)
    {
        end = end_;
        first = begin / TILE::KEYS;
        last = end > begin ? (end + TILE::KEYS - 1) / TILE::KEYS : first;
#pragma unroll
        for (int stage = 0; stage < TILE::STAGES - 1; stage++) {
            copy_k(first + stage, stage);
            copy_v(first + stage, stage);
        }
    }

    /* All tiles for `rows`, whose q stands at the shared address q_at (before the first tile, after a barrier). */
    template <typename MASK>
    __device__ __forceinline__ void run(ec_attention_rows<TILE> &rows, MASK &mask, const ec_shown_keys &shown,
                                        const ec_query_rows &query, float scale, uint32_t q_at) const
    {
        const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, wm = warp % TILE::WM, wn = warp / TILE::WM;
        const int row = query.row0 + wm * 16, token = row / query.group;
        const int last_token = (min(row + 16, query.count) - 1) / query.group;
        int from[2], to[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int r = min(row + lane / 4 + 8 * i, query.count - 1);
            from[i] = shown.first(r / query.group);
            to[i] = shown.last(r / query.group);
            mask.row(i, query.head0 + r % query.group, r / query.group);
        }
        q_at += wm * 16 * TILE::K_PITCH * (int)sizeof(T);
        const uint32_t stages_at = (uint32_t)__cvta_generic_to_shared(stages);
        int stage = 0, filled = TILE::STAGES - 1;
        for (int tile = first; tile < last; tile++) {
            ec_copy_wait<2 * (TILE::STAGES - 1) - 1>();
            __syncthreads();
            if (tile == first) {
                rows.hold(q_at);
            }
            copy_k(tile + TILE::STAGES - 1, filled);
            copy_v(tile + TILE::STAGES - 1, filled);
            const int key = tile * TILE::KEYS + wn * TILE::BN, key_last = key + TILE::BN - 1;
            const bool any = row < query.count && key_last >= shown.first(token) && key <= shown.last(last_token);
            const uint32_t tile_at = stages_at + stage * TILE::STAGE_SIZE * (int)sizeof(T);
            float s[TILE::BN / 8][4];
            if (any) {
                rows.template scores<TILE::BN>(s, q_at, tile_at + wn * TILE::BN * TILE::K_PITCH * (int)sizeof(T));
                const bool whole = key >= shown.first(last_token) && key_last <= shown.last(token);
                ec_finish_scores<TILE::BN>(s, mask, scale, key, from, to, whole);
                rows.template soften<TILE::BN>(s);
            }
            ec_copy_wait<2 * (TILE::STAGES - 1)>();
            __syncthreads();
            if (any) {
                rows.template average<TILE::BN>(
                    s, tile_at + (TILE::K_SIZE + wn * TILE::BN * TILE::V_PITCH) * (int)sizeof(T));
            }
            stage = stage + 1 == TILE::STAGES ? 0 : stage + 1;
            filled = filled + 1 == TILE::STAGES ? 0 : filled + 1;
        }
        ec_copy_wait<0>();
        __syncthreads();
    }
};

/* q rows of this block and all their keys: `shared` holds Q_SIZE elements of q, then the stages. */
template <typename TILE, typename Q, typename K, typename V, typename MASK>
__device__ __forceinline__ void ec_attention_core(ec_attention_rows<TILE> &rows, const Q &q_from,
                                                  ec_attention_stream<TILE, K, V> &stream, MASK mask,
                                                  const ec_shown_keys &shown, const ec_query_rows &query, float scale,
                                                  typename TILE::T *shared)
{
    const int last = (min(query.row0 + TILE::ROWS, query.count) - 1) / query.group;
    ec_copy_rows<TILE::ROWS, TILE::D, TILE::THREADS>(shared, q_from, query.row0, query.count, stream.depth);
    stream.stages = shared + TILE::Q_SIZE;
    stream.start(shown.first(query.row0 / query.group), shown.last(last) + 1);
    rows.clear();
    stream.run(rows, mask, shown, query, scale, (uint32_t)__cvta_generic_to_shared(shared));
}

/*
 * Joins the WN partial results of each row in shared memory (the tiles' place) and hands them on, eight channels at a
 * time: sink(row of the block, first channel, unnormalised sums, top, total).
 */
template <typename TILE, typename SINK>
__device__ __forceinline__ void ec_attention_join(ec_attention_rows<TILE> &rows, float *shared, const SINK &sink)
{
    const int warp = threadIdx.x >> 5, wm = warp % TILE::WM, wn = warp / TILE::WM;
    float *const ends = shared + ec_attention_ends<TILE>();
    const int own = wn * TILE::ROWS + wm * 16;
    rows.put(shared + own * TILE::O_PITCH, ends + 2 * own);
    __syncthreads();
    for (int at = threadIdx.x; at < TILE::ROWS * (TILE::E / 8); at += TILE::THREADS) {
        const int row = at / (TILE::E / 8), channel = at % (TILE::E / 8) * 8;
        float top = -INFINITY, total = 0.0f, sum[8] = {};
#pragma unroll
        for (int part = 0; part < TILE::WN; part++) {
            top = fmaxf(top, ends[2 * (part * TILE::ROWS + row)]);
        }
        const float base = top == -INFINITY ? 0.0f : top;
#pragma unroll
        for (int part = 0; part < TILE::WN; part++) {
            const int from = part * TILE::ROWS + row;
            const float weight = ec_exp2(ends[2 * from] - base);
            total = fmaf(ends[2 * from + 1], weight, total);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                sum[e] = fmaf(shared[from * TILE::O_PITCH + channel + e], weight, sum[e]);
            }
        }
        sink(row, channel, sum, top, total);
    }
}

/* Sums over their total, 0 where no key was attended. */
__device__ __forceinline__ void ec_normalise(float (&sum)[8], float total)
{
    const float factor = total > 0.0f ? 1.0f / total : 0.0f;
#pragma unroll
    for (int e = 0; e < 8; e++) {
        sum[e] *= factor;
    }
}

#endif
