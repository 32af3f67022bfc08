/*
 * ec_attention.cuh: the core of all softmax attention on tensor cores, and what its kernels share.
 *
 *   y[r, :] = sum_j p[r, j] v[j, :] / sum_j p[r, j],  p[r, j] = 2^(scale (q[r, :] . k[j, :]) + mask - top[r])
 *
 * A block takes ROWS = 16 MI WM query rows and goes through the keys in tiles of KEYS = BN WN; warp (wm, wn) takes 16
 * MI rows and BN keys of each tile, and the WN partial results of a row are joined at the end (online softmax,
 * Milakov and Gimelshein 2018; registers as in FlashAttention-2, Dao 2023). Scores, sums and y are float32; p is
 * rounded to T for the second product. Rows of K and V in shared memory are 16 bytes longer than their content, so
 * that ldmatrix meets no bank twice (D and E are multiples of 16).
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
    static constexpr bool EQUAL_STEPS = true;
    const T *base;
    int64_t step;
    __device__ __forceinline__ const T *at(int i) const
    {
        return base + i * step;
    }
};

/* Query row r of a key head: token r / group of the group's head r % group. */
template <typename T> struct ec_grouped_rows {
    static constexpr bool EQUAL_STEPS = false;
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
 * Masks of MI: `row(i, head, token)` once for each of a thread's 2 MI rows, then `apply(i, score, key)` for scores in
 * powers of two.
 */
struct ec_no_mask {
    static constexpr bool SCALED = false;
    __device__ __forceinline__ void row(int i, int head, int token)
    {
    }
    __device__ __forceinline__ float apply(int i, float score, int key) const
    {
        return score;
    }
};

/* Booleans (true: attend). */
template <int MI> struct ec_boolean_mask {
    static constexpr bool SCALED = true;
    const uint8_t *base;
    int64_t head_step, query_step, key_step;
    const uint8_t *at[2 * MI];
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
template <typename T, int MI> struct ec_additive_mask {
    static constexpr bool SCALED = true;
    const T *base;
    int64_t head_step, query_step, key_step;
    const T *at[2 * MI];
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
template <typename T_, int D_, int E_, int BN_, int WM_, int WN_, int STAGES_, int MI_ = 1> struct ec_attention_tile {
    typedef T_ T;
    static constexpr int D = D_, E = E_, BN = BN_, WM = WM_, WN = WN_, STAGES = STAGES_, MI = MI_;
    static constexpr int OWN_ROWS = 16 * MI, ROWS = OWN_ROWS * WM, KEYS = BN * WN, THREADS = 32 * WM * WN;
    static constexpr int K_PITCH = D + 8, V_PITCH = E + 8; /* elements */
    static constexpr int Q_SIZE = ROWS * K_PITCH, K_SIZE = KEYS * K_PITCH, V_SIZE = KEYS * V_PITCH;
    static constexpr int STAGE_SIZE = K_SIZE + V_SIZE;
    static constexpr int O_PITCH = E + 4; /* floats */
    static constexpr bool HELD = D * MI <= 128; /* q in registers */
    static_assert(D % 16 == 0 && E % 16 == 0 && BN % 16 == 0, "whole instructions");
    static_assert(STAGES >= 2, "one tile is under way while another is used");
};

/* Rows first..first+ROWS-1 of `from` to shared memory; zeros in rows from `count` on and channels from `depth` on. */
template <int ROWS, int CHANNELS, int THREADS, typename T, typename FROM>
__device__ __forceinline__ void ec_copy_rows(T *to, const FROM &from, int first, int count, int depth)
{
    constexpr int CHUNKS = CHANNELS / 8, PITCH = CHANNELS + 8, TIMES = (ROWS * CHUNKS + THREADS - 1) / THREADS;
    if constexpr (FROM::EQUAL_STEPS && THREADS % CHUNKS == 0 && ROWS * CHUNKS % THREADS == 0) {
        /* A thread's chunks stand at one step from row to row: one address moves along. */
        constexpr int STEP = THREADS / CHUNKS;
        const int row = (int)threadIdx.x / CHUNKS, chunk = (int)threadIdx.x % CHUNKS;
        const int left = chunk * 8 < depth ? count - first - row : 0;
        const T *at = from.at(first + row) + chunk * 8;
        T *here = to + row * PITCH + chunk * 8;
#pragma unroll
        for (int i = 0; i < TIMES; i++) {
            ec_copy_async16(here + i * STEP * PITCH, i * STEP < left ? at : from.base, i * STEP < left);
            at += STEP * from.step;
        }
    } else {
#pragma unroll
        for (int i = 0; i < TIMES; i++) {
            const int at = i * THREADS + (int)threadIdx.x, row = at / CHUNKS, chunk = at % CHUNKS;
            if (ROWS * CHUNKS % THREADS == 0 || at < ROWS * CHUNKS) {
                const bool valid = first + row < count && chunk * 8 < depth;
                ec_copy_async16(to + row * PITCH + chunk * 8,
                                from.at(valid ? first + row : 0) + (valid ? chunk * 8 : 0), valid);
            }
        }
    }
}

/* What one warp knows of its 16 MI rows. Lane l has the rows l / 4 and l / 4 + 8 of each 16. */
template <typename TILE> struct ec_attention_rows {
    typedef typename TILE::T T;
    static constexpr int MI = TILE::MI;
    static constexpr int AHEAD = 2; /* fragments of k and v that are on their way while one is used */
    static constexpr int HELD_STEPS = TILE::HELD ? TILE::D / 16 : 2;
    float o[MI][TILE::E / 8][4];
    float top[MI][2], total[MI][2]; /* total: of this lane's columns */
    uint32_t q[HELD_STEPS][MI][4];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int m = 0; m < MI; m++) {
#pragma unroll
            for (int j = 0; j < TILE::E / 8; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    o[m][j][e] = 0.0f;
                }
            }
            top[m][0] = top[m][1] = -INFINITY;
            total[m][0] = total[m][1] = 0.0f;
        }
    }

    /* q: shared address of this warp's first row. */
    static __device__ __forceinline__ void fetch(uint32_t (&to)[MI][4], uint32_t q_at, int step)
    {
        const int lane = threadIdx.x & 31;
#pragma unroll
        for (int m = 0; m < MI; m++) {
            ec_ldmatrix(to[m], q_at + ((m * 16 + (lane & 15)) * TILE::K_PITCH + (2 * step + (lane >> 4)) * 8) *
                                          (int)sizeof(T));
        }
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
    template <int N> __device__ __forceinline__ void scores(float (&s)[MI][N / 8][4], uint32_t q_at, uint32_t k_at)
    {
        const int lane = threadIdx.x & 31;
        const uint32_t from = k_at + (((lane & 7) + ((lane >> 4) << 3)) * TILE::K_PITCH + ((lane >> 3) & 1) * 8) *
                                         (uint32_t)sizeof(T);
#pragma unroll
        for (int m = 0; m < MI; m++) {
#pragma unroll
            for (int j = 0; j < N / 8; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    s[m][j][e] = 0.0f;
                }
            }
        }
        constexpr int ACROSS = N / 16, COUNT = TILE::D / 16 * ACROSS;
        const auto load = [&](uint32_t(&k)[4], int i) {
            ec_ldmatrix(k, from + (i % ACROSS * 16 * TILE::K_PITCH + i / ACROSS * 16) * (int)sizeof(T));
        };
        uint32_t k[AHEAD + 1][4];
        if constexpr (!TILE::HELD) {
            fetch(q[0], q_at, 0);
        }
#pragma unroll
        for (int i = 0; i < AHEAD && i < COUNT; i++) {
            load(k[i], i);
        }
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int step = i / ACROSS, j = i % ACROSS;
            if (!TILE::HELD && j == 0 && step + 1 < TILE::D / 16) {
                fetch(q[(step + 1) % HELD_STEPS], q_at, step + 1);
            }
            if (i + AHEAD < COUNT) {
                load(k[(i + AHEAD) % (AHEAD + 1)], i + AHEAD);
            }
            const uint32_t(&now)[4] = k[i % (AHEAD + 1)];
#pragma unroll
            for (int m = 0; m < MI; m++) {
                ec_mma<T>::run(s[m][2 * j], q[step % HELD_STEPS][m], now[0], now[1]);
                ec_mma<T>::run(s[m][2 * j + 1], q[step % HELD_STEPS][m], now[2], now[3]);
            }
        }
    }

    /* Scores (times `scale` in powers of two, -inf where hidden) become weights; what is known so far is scaled to the
     * new top. */
    template <int N> __device__ __forceinline__ void soften(float (&s)[MI][N / 8][4], float scale)
    {
#pragma unroll
        for (int row = 0; row < 2 * MI; row++) {
            const int m = row / 2, i = row % 2;
            float now = -INFINITY;
#pragma unroll
            for (int j = 0; j < N / 8; j++) {
                now = fmaxf(now, fmaxf(s[m][j][2 * i], s[m][j][2 * i + 1]));
            }
            now = fmaxf(now * scale, top[m][i]);
            now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
            now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
            const float base = now == -INFINITY ? 0.0f : now;
            const float before = ec_exp2(top[m][i] - base);
            top[m][i] = now;
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < N / 8; j++) {
                s[m][j][2 * i] = ec_exp2(fmaf(s[m][j][2 * i], scale, -base));
                s[m][j][2 * i + 1] = ec_exp2(fmaf(s[m][j][2 * i + 1], scale, -base));
                sum += s[m][j][2 * i] + s[m][j][2 * i + 1];
            }
            total[m][i] = fmaf(total[m][i], before, sum);
#pragma unroll
            for (int j = 0; j < TILE::E / 8; j++) {
                o[m][j][2 * i] *= before;
                o[m][j][2 * i + 1] *= before;
            }
        }
    }

    /* o += p v for N keys; v: shared address of the first of them. */
    template <int N> __device__ __forceinline__ void average(const float (&p)[MI][N / 8][4], uint32_t v_at)
    {
        const int lane = threadIdx.x & 31;
        const uint32_t from = v_at + ((lane & 15) * TILE::V_PITCH + (lane >> 4) * 8) * (uint32_t)sizeof(T);
        constexpr int ACROSS = TILE::E / 16, COUNT = N / 16 * ACROSS;
        const auto load = [&](uint32_t(&v)[4], int i) {
            ec_ldmatrix_transposed(v, from + (i / ACROSS * 16 * TILE::V_PITCH + i % ACROSS * 16) * (int)sizeof(T));
        };
        uint32_t v[AHEAD + 1][4], a[MI][4];
#pragma unroll
        for (int i = 0; i < AHEAD && i < COUNT; i++) {
            load(v[i], i);
        }
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int step = i / ACROSS, j = i % ACROSS;
            if (i + AHEAD < COUNT) {
                load(v[(i + AHEAD) % (AHEAD + 1)], i + AHEAD);
            }
            if (j == 0) {
#pragma unroll
                for (int m = 0; m < MI; m++) {
#pragma unroll
                    for (int r = 0; r < 4; r++) {
                        const float(&pair)[4] = p[m][2 * step + r / 2];
                        a[m][r] = ec_pack<T>(pair[r % 2 * 2], pair[r % 2 * 2 + 1]);
                    }
                }
            }
            const uint32_t(&now)[4] = v[i % (AHEAD + 1)];
#pragma unroll
            for (int m = 0; m < MI; m++) {
                ec_mma<T>::run(o[m][2 * j], a[m], now[0], now[1]);
                ec_mma<T>::run(o[m][2 * j + 1], a[m], now[2], now[3]);
            }
        }
    }

    /* Writes o, and then top and total, of the rows to `to`: [16 MI][O_PITCH], `ends`: [16 MI][2]. */
    __device__ __forceinline__ void put(float *to, float *ends)
    {
        const int lane = threadIdx.x & 31;
#pragma unroll
        for (int r = 0; r < 2 * MI; r++) {
            const int m = r / 2, i = r % 2, row = m * 16 + lane / 4 + 8 * i;
            float sum = total[m][i];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            if ((lane & 3) == 0) {
                ends[2 * row] = top[m][i];
                ends[2 * row + 1] = sum;
            }
#pragma unroll
            for (int j = 0; j < TILE::E / 8; j++) {
                ec_store<float, 2>(to + row * TILE::O_PITCH + j * 8 + (lane & 3) * 2,
                                   {o[m][j][2 * i], o[m][j][2 * i + 1]});
            }
        }
    }
};

/* Floats of the joined sums before the tops and totals in shared memory. */
template <typename TILE> __device__ __forceinline__ constexpr int ec_attention_ends()
{
    return TILE::WN * TILE::ROWS * TILE::O_PITCH;
}

/* The query rows of a block: row r is token (row0 + r) / group of head head0 + (row0 + r) % group. */
struct ec_query_rows {
    int row0, count, group, head0; /* count: rows of all blocks of this key head */
};

/*
 * Scores of N keys from `first` on, of rows from `row` on: masked, and hidden where a row may not attend the key. A
 * mask takes and gives scaled scores; without one they stay as they are.
 */
template <int N, int MI, typename MASK>
__device__ __forceinline__ void ec_finish_scores(float (&s)[MI][N / 8][4], const MASK &mask, float scale, int first,
                                                 const ec_shown_keys &shown, const ec_query_rows &query, int row,
                                                 bool whole)
{
    const int lane = threadIdx.x & 31;
#pragma unroll
    for (int r = 0; r < 2 * MI; r++) {
        const int m = r / 2, i = r % 2;
        int from = 0, to = INT32_MAX;
        if (!whole) {
            const int token = min(row + m * 16 + lane / 4 + 8 * i, query.count - 1) / query.group;
            from = shown.first(token);
            to = shown.last(token);
        }
#pragma unroll
        for (int j = 0; j < N / 4; j++) {
            const int key = first + j / 2 * 8 + (lane & 3) * 2 + j % 2;
            float &score = s[m][j / 2][2 * i + j % 2];
            if constexpr (MASK::SCALED) {
                score = mask.apply(r, score * scale, min(key, shown.keys - 1));
            }
            if (!whole && (key < from || key > to)) {
                score = -INFINITY;
            }
        }
    }
}

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
        const int row = query.row0 + wm * TILE::OWN_ROWS, token = row / query.group;
        const int last_token = (min(row + TILE::OWN_ROWS, query.count) - 1) / query.group;
        if constexpr (MASK::SCALED) {
#pragma unroll
            for (int i = 0; i < 2 * TILE::MI; i++) {
                const int r = min(row + lane / 4 + 8 * i, query.count - 1);
                mask.row(i, query.head0 + r % query.group, r / query.group);
            }
        }
        q_at += wm * TILE::OWN_ROWS * TILE::K_PITCH * (int)sizeof(T);
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
            float s[TILE::MI][TILE::BN / 8][4];
            if (any) {
                rows.template scores<TILE::BN>(s, q_at, tile_at + wn * TILE::BN * TILE::K_PITCH * (int)sizeof(T));
                const bool whole = key >= shown.first(last_token) && key_last <= shown.last(token);
                ec_finish_scores<TILE::BN, TILE::MI>(s, mask, scale, key, shown, query, row, whole);
                rows.template soften<TILE::BN>(s, MASK::SCALED ? 1.0f : scale);
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
 * Joins the WN partial results of the first `count` rows in shared memory (the tiles' place) and hands them on, eight
 * channels at a time: sink(row of the block, first channel, unnormalised sums, top, total).
 */
template <typename TILE, typename SINK>
__device__ __forceinline__ void ec_attention_join(ec_attention_rows<TILE> &rows, float *shared, int count,
                                                  const SINK &sink)
{
    const int warp = threadIdx.x >> 5, wm = warp % TILE::WM, wn = warp / TILE::WM;
    float *const ends = shared + ec_attention_ends<TILE>();
    const int own = wn * TILE::ROWS + wm * TILE::OWN_ROWS;
    rows.put(shared + own * TILE::O_PITCH, ends + 2 * own);
    __syncthreads();
    for (int at = threadIdx.x; at < min(count, TILE::ROWS) * (TILE::E / 8); at += TILE::THREADS) {
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
