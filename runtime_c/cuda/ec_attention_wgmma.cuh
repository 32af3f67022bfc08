/*
 * ec_attention_wgmma.cuh: the core of softmax attention by the instructions of a warp group (sm_90a alone: elsewhere it
 * traps, and no record asks for it).
 *
 * A block has ROW_GROUPS x KEY_GROUPS warp groups that compute and one that copies. Warp group (r, s) takes 64 query
 * rows and, of the tiles of KEYS keys, every KEY_GROUPS-th from s on; the KEY_GROUPS results of a row are joined at the
 * end. The copying warp group keeps STAGES tiles of K and as many of V on their way through shared memory; barriers say
 * which are full and which are free again. All rows stand in shared memory as slices of 64 channels with the swizzle of
 * ec_mma.cuh; V is read across its rows ("MN-major" operands in the PTX manual). The weights, rounded to T, are the
 * first operand of the second product and never leave the registers.
 *
 * A warp group asks for the scores of its next tile together with the averages of this one. Row groups take turns at
 * asking, so that the softmax of one runs beside the products of another (FlashAttention-3, Shah et al. 2024, section
 * 3.1). A block of row groups stays and takes works in turn: copies for the next run beside the end of this one.
 */
#ifndef EC_ATTENTION_WGMMA_CUH
#define EC_ATTENTION_WGMMA_CUH

#include "ec_attention.cuh"
#include "ec_hopper.cuh"

/* The sizes of one block. Shared memory: q (twice), the stages of K, those of V, their barriers. */
template <typename T_, int D_, int KEYS_, int ROW_GROUPS_, int KEY_GROUPS_, int STAGES_> struct ec_wide_attention_tile {
    typedef T_ T;
    static constexpr int D = D_, KEYS = KEYS_, ROW_GROUPS = ROW_GROUPS_, KEY_GROUPS = KEY_GROUPS_, STAGES = STAGES_;
    static constexpr int COMPUTING = ROW_GROUPS * KEY_GROUPS, THREADS = 128 * (COMPUTING + 1), ROWS = 64 * ROW_GROUPS;
    static constexpr int CHUNKS = D / 8; /* of 16 bytes in a row */
    static constexpr int Q_BYTES = 2 * ROWS * D, TILE_BYTES = 2 * KEYS * D;
    static constexpr int Q_BUFFERS = KEY_GROUPS == 1 ? 2 : 1; /* of this work and of the next */
    static constexpr int K_AT = Q_BUFFERS * Q_BYTES, V_AT = K_AT + STAGES * TILE_BYTES;
    static constexpr int BARRIERS_AT = V_AT + STAGES * TILE_BYTES;
    static constexpr bool TURNS = ROW_GROUPS > 1 && KEY_GROUPS == 1;
    static constexpr int JOIN_FLOATS = D / 2 + 4; /* of a thread */
    static constexpr int REGISTERS = COMPUTING == 2 ? 232 : COMPUTING == 3 ? 160 : 112;
    static constexpr int COPY_REGISTERS = COMPUTING == 2 ? 40 : 32;
    static_assert(D == 64 || D == 128, "whole slices");
    static_assert(COMPUTING >= 2 && COMPUTING <= 4, "registers");
    static_assert((KEY_GROUPS - 1) * ROW_GROUPS * 128 * JOIN_FLOATS * 4 <= 2 * STAGES * TILE_BYTES,
                  "room for the join");
};

/* Rows of several heads: row r is head r % group, token r / group; r * group < 2^32. */
struct ec_wide_heads {
    int group;
    uint32_t inverse; /* 2^32 / group, rounded up */
    __device__ __forceinline__ explicit ec_wide_heads(int group_)
        : group(group_), inverse(group_ > 1 ? 0xffffffffu / (uint32_t)group_ + 1 : 0)
    {
    }
    __device__ __forceinline__ int token(int row) const
    {
        return group > 1 ? (int)__umulhi((uint32_t)row, inverse) : row;
    }
    __device__ __forceinline__ int64_t place(int row, int64_t head_step, int64_t token_step) const
    {
        const int t = token(row);
        return (row - t * group) * head_step + t * token_step;
    }
};

/* What a block attends: query row i is token (row0 + i) / group of the group's head (row0 + i) % group. */
template <typename T> struct ec_wide_work {
    const T *q, *k, *v;
    T *y;
    int64_t q_head, q_token, k_token, v_token, y_head, y_token;
    ec_shown_keys shown;
    int depth, value_depth; /* multiples of 8, at most D */
    ec_wide_heads heads;
    int row0, count;
    float scale;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* Barriers of stage `stage`: which = 0, 1: K and V are full, 2, 3: are free. */
template <typename TILE> __device__ __forceinline__ uint32_t ec_wide_barrier(uint32_t shared, int which, int stage)
{
    return shared + TILE::BARRIERS_AT + (which * TILE::STAGES + stage) * 8;
}

/* Tiles of keys that some row of the block attends, and the end of these keys. */
template <typename TILE> struct ec_wide_range {
    int first, count, end;
    template <typename T> __device__ __forceinline__ explicit ec_wide_range(const ec_wide_work<T> &work)
    {
        const int last_row = min(work.row0 + TILE::ROWS, work.count) - 1;
        const int begin = work.shown.first(work.heads.token(work.row0));
        end = work.shown.last(work.heads.token(last_row)) + 1;
        first = begin / TILE::KEYS;
        count = end > begin ? (end + TILE::KEYS - 1) / TILE::KEYS - first : 0;
    }
};

/* KEYS rows from `first` on to shared memory; zeros from `end` on. */
template <typename TILE>
__device__ __forceinline__ void ec_wide_copy(uint32_t to, const typename TILE::T *from, int64_t step, int first,
                                             int end, int depth)
{
    constexpr int STEP = 128 / TILE::CHUNKS; /* a multiple of 8: the swizzle stays */
    const int thread = threadIdx.x & 127, row = thread / TILE::CHUNKS, chunk = thread % TILE::CHUNKS;
    const int left = chunk * 8 < depth ? end - first - row : 0;
    const typename TILE::T *at = from + (first + row) * step + chunk * 8;
    to += chunk / 8 * TILE::KEYS * EC_SLICE_BYTES + ec_swizzled(row, chunk % 8);
#pragma unroll
    for (int i = 0; i < TILE::KEYS / STEP; i++) {
        ec_copy_async16_to(to + i * STEP * EC_SLICE_BYTES, at, i * STEP < left);
        at += STEP * step;
    }
}

/* The works of a block, longest first over all blocks: each round goes through the blocks in the other direction. */
struct ec_wide_works {
    int count, index, round;
    __device__ __forceinline__ explicit ec_wide_works(int count_) : count(count_), index(blockIdx.x), round(0)
    {
    }
    __device__ __forceinline__ bool more() const
    {
        return index < count;
    }
    __device__ __forceinline__ void next()
    {
        round++;
        const int within = round & 1 ? (int)(gridDim.x - 1 - blockIdx.x) : (int)blockIdx.x;
        index = round * (int)gridDim.x + within;
    }
};

/* The warp group that copies. */
template <typename TILE, typename MAKE>
__device__ __forceinline__ void ec_wide_copies(const MAKE &make, ec_wide_works works, uint32_t shared)
{
    int item = 0;
    for (; works.more(); works.next()) {
        const ec_wide_work<typename TILE::T> work = make(works.index);
        const ec_wide_range<TILE> range(work);
        for (int i = 0; i < range.count; i++, item++) {
            const int stage = item % TILE::STAGES, turn = item / TILE::STAGES, key = (range.first + i) * TILE::KEYS;
            if (turn > 0) {
                ec_barrier_wait(ec_wide_barrier<TILE>(shared, 2, stage), (turn - 1) & 1);
            }
            ec_wide_copy<TILE>(shared + TILE::K_AT + stage * TILE::TILE_BYTES, work.k, work.k_token, key, range.end,
                               work.depth);
            ec_barrier_arrive_copies(ec_wide_barrier<TILE>(shared, 0, stage));
            if (turn > 0) {
                ec_barrier_wait(ec_wide_barrier<TILE>(shared, 3, stage), (turn - 1) & 1);
            }
            ec_wide_copy<TILE>(shared + TILE::V_AT + stage * TILE::TILE_BYTES, work.v, work.v_token, key, range.end,
                               work.value_depth);
            ec_barrier_arrive_copies(ec_wide_barrier<TILE>(shared, 1, stage));
        }
    }
    ec_copy_commit();
    ec_copy_wait<0>();
}

/* One warp group that computes. */
template <typename TILE> struct ec_wide_rows {
    typedef typename TILE::T T;
    static constexpr int D = TILE::D, KEYS = TILE::KEYS;
    float o[D / 2], s[KEYS / 2]; /* as wgmma lays them out: row lane / 4 + 8 i of the warp's 16 at [4 j + 2 i] and on */
    uint32_t p[KEYS / 4];
    float top[2], total[2]; /* top: of the scores; total: of this lane's columns */
    int from[2], to[2];     /* the keys that the two rows attend, less this lane's first column */
    uint32_t shared;
    uint32_t q_at;   /* of the row group, shared */
    int group, part; /* r, s */
    int items;       /* tiles of this block's works before this one */

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < D / 2; i++) {
            o[i] = 0.0f;
        }
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            s[i] = 0.0f;
        }
        top[0] = top[1] = -INFINITY;
        total[0] = total[1] = 0.0f;
    }

    /* Asks for the scores of the tile in `stage`. */
    __device__ __forceinline__ void ask_scores(int stage)
    {
        const uint64_t q = ec_describe(q_at);
        const uint64_t k = ec_describe(shared + TILE::K_AT + stage * TILE::TILE_BYTES);
        ec_group_product<T, KEYS>::first(s, q, k);
#pragma unroll
        for (int step = 1; step < D / 16; step++) {
            const int chunk = step % 4 * 2, slice = step / 4 * (EC_SLICE_BYTES / 16);
            ec_group_product<T, KEYS>::more(s, q + chunk + slice * TILE::ROWS, k + chunk + slice * KEYS);
        }
        ec_products_close();
    }

    /* Asks for the values of the tile in `stage`, weighted and added. */
    __device__ __forceinline__ void ask_average(int stage)
    {
        const uint64_t v = ec_describe_rows_k(shared + TILE::V_AT + stage * TILE::TILE_BYTES, KEYS * EC_SLICE_BYTES);
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            ec_group_product<T, D>::rows_k(o, p + 4 * step, v + step * (16 * EC_SLICE_BYTES / 16));
        }
        ec_products_close();
    }

    /* Hides scores of keys, of which `key` is the tile's first. */
    __device__ __forceinline__ void hide(int key)
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int least = from[i] - key, most = to[i] - key;
#pragma unroll
            for (int j = 0; j < KEYS / 4; j++) {
                const int column = j / 2 * 8 + j % 2;
                float &score = s[j / 2 * 4 + 2 * i + j % 2];
                score = column < least || column > most ? -INFINITY : score;
            }
        }
    }

    /* Scores become weights to the new tops; `before`: what o has to be multiplied with. */
    __device__ __forceinline__ void soften(float scale, float (&before)[2])
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float now[2] = {top[i], -INFINITY}, sum[2] = {0.0f, 0.0f};
#pragma unroll
            for (int j = 0; j < KEYS / 4; j++) {
                now[j % 2] = fmaxf(now[j % 2], s[j / 2 * 4 + 2 * i + j % 2]);
            }
            float most = fmaxf(now[0], now[1]);
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
            most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
            const float base = most == -INFINITY ? 0.0f : most * scale;
            before[i] = ec_exp2(fmaf(top[i], scale, -base));
            top[i] = most;
#pragma unroll
            for (int j = 0; j < KEYS / 4; j++) {
                float &score = s[j / 2 * 4 + 2 * i + j % 2];
                score = ec_exp2(fmaf(score, scale, -base));
                sum[j % 2] += score;
            }
            total[i] = fmaf(total[i], before[i], sum[0] + sum[1]);
        }
    }

    __device__ __forceinline__ void pack()
    {
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++) {
            p[i] = ec_pack<T>(s[2 * i], s[2 * i + 1]);
        }
    }

    __device__ __forceinline__ void rescale(const float (&before)[2])
    {
#pragma unroll
        for (int i = 0; i < D / 2; i++) {
            o[i] *= before[i / 2 % 2];
        }
    }

    __device__ __forceinline__ void release(int which, int stage)
    {
        if ((threadIdx.x & 31) == 0) {
            ec_barrier_arrive(ec_wide_barrier<TILE>(shared, which, stage));
        }
    }

    /* Row group r may ask from `take` to `give`. */
    __device__ __forceinline__ void take()
    {
        if constexpr (TILE::TURNS) {
            ec_some_sync<256>(5 + group);
        }
    }

    __device__ __forceinline__ void give()
    {
        if constexpr (TILE::TURNS) {
            ec_some_arrive<256>(group + 1 == TILE::ROW_GROUPS ? 5 : 6 + group);
        }
    }

    __device__ __forceinline__ void run(const ec_wide_work<T> &work)
    {
        const int lane = threadIdx.x & 31, warp = threadIdx.x / 32 & 3, last_row = work.count - 1;
        const int row = work.row0 + group * 64, token = work.heads.token(min(row, last_row));
        const int last_token = work.heads.token(min(row + 63, last_row));
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int own = work.heads.token(min(row + warp * 16 + lane / 4 + 8 * i, last_row));
            from[i] = work.shown.first(own) - (lane & 3) * 2;
            to[i] = work.shown.last(own) - (lane & 3) * 2;
        }
        const int whole_from = work.shown.first(last_token), whole_to = work.shown.last(token);
        const ec_wide_range<TILE> range(work);
        clear();
        int i = part;
        if (i >= range.count) {
            return;
        }
        const auto finish = [&](int tile) {
            const int key = (range.first + tile) * KEYS;
            if (key < whole_from || key + KEYS - 1 > whole_to) {
                hide(key);
            }
        };
        float before[2];
        int stage = (items + i) % TILE::STAGES, parity = (items + i) / TILE::STAGES & 1;
        ec_barrier_wait(ec_wide_barrier<TILE>(shared, 0, stage), parity);
        ec_fence_copies();
        take();
        ec_hold(s);
        ec_products_open();
        ask_scores(stage);
        give();
        ec_products_wait<0>();
        ec_hold(s);
        release(2, stage);
        finish(i);
        soften(work.scale, before);
        pack();
        for (int next = i + TILE::KEY_GROUPS; next < range.count; next += TILE::KEY_GROUPS) {
            const int item = items + next;
            const int next_stage = item % TILE::STAGES, next_parity = item / TILE::STAGES & 1;
            ec_barrier_wait(ec_wide_barrier<TILE>(shared, 0, next_stage), next_parity);
            ec_barrier_wait(ec_wide_barrier<TILE>(shared, 1, stage), parity);
            ec_fence_copies();
            take();
            ec_hold(s);
            ec_hold(o);
            ec_hold(p);
            ec_products_open();
            ask_scores(next_stage);
            ask_average(stage);
            give();
            ec_products_wait<1>();
            ec_hold(s);
            release(2, next_stage);
            finish(next);
            soften(work.scale, before);
            ec_hold(s);
            ec_products_wait<0>();
            ec_hold(o);
            ec_hold(p);
            release(3, stage);
            rescale(before);
            pack();
            stage = next_stage;
            parity = next_parity;
        }
        ec_barrier_wait(ec_wide_barrier<TILE>(shared, 1, stage), parity);
        ec_fence_copies();
        take();
        ec_hold(o);
        ec_hold(p);
        ec_products_open();
        ask_average(stage);
        give();
        ec_products_wait<0>();
        ec_hold(o);
        release(3, stage);
        items += range.count;
    }

    /* Adds the results of the other parts; afterwards part 0 has the sums of all. */
    __device__ __forceinline__ void join(float scale)
    {
        constexpr int PITCH = 512; /* floats from four of a thread to its next four */
        float *const room =
            reinterpret_cast<float *>(__cvta_shared_to_generic(shared + TILE::K_AT)) + 4 * (threadIdx.x & 127);
        ec_some_sync<128 * TILE::COMPUTING>(4);
        if (part > 0) {
            float *const own = room + ((part - 1) * TILE::ROW_GROUPS + group) * 128 * TILE::JOIN_FLOATS;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                ec_store<float, 4>(own + j * PITCH, {o[4 * j], o[4 * j + 1], o[4 * j + 2], o[4 * j + 3]});
            }
            ec_store<float, 4>(own + D / 8 * PITCH, {top[0], top[1], total[0], total[1]});
        }
        ec_some_sync<128 * TILE::COMPUTING>(4);
        if (part > 0) {
            return;
        }
#pragma unroll
        for (int other = 1; other < TILE::KEY_GROUPS; other++) {
            const float *const from = room + ((other - 1) * TILE::ROW_GROUPS + group) * 128 * TILE::JOIN_FLOATS;
            float ends[4], mine[2], theirs[2];
            ec_load<float, 4>(ends, from + D / 8 * PITCH);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const float most = fmaxf(top[i], ends[i]), base = most == -INFINITY ? 0.0f : most;
                mine[i] = ec_exp2((top[i] - base) * scale);
                theirs[i] = ec_exp2((ends[i] - base) * scale);
                total[i] = total[i] * mine[i] + ends[2 + i] * theirs[i];
                top[i] = most;
            }
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                float v[4];
                ec_load<float, 4>(v, from + j * PITCH);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    o[4 * j + e] = o[4 * j + e] * mine[e / 2] + v[e] * theirs[e / 2];
                }
            }
        }
    }
};

/* Row i of the chunks that this of `THREADS` threads copies: f(row, chunk). */
template <typename TILE, int THREADS, typename F>
__device__ __forceinline__ void ec_wide_each_chunk(int thread, const F &f)
{
    constexpr int STEP = THREADS / TILE::CHUNKS;
#pragma unroll
    for (int i = 0; i < (64 + STEP - 1) / STEP; i++) {
        const int row = thread / TILE::CHUNKS + i * STEP;
        if (64 % STEP == 0 || row < 64) {
            f(row, thread % TILE::CHUNKS);
        }
    }
}

/* Shared address of a chunk of this row group's q, and of its y later. */
template <typename TILE> __device__ __forceinline__ uint32_t ec_wide_chunk(uint32_t at, int row, int chunk)
{
    return at + chunk / 8 * TILE::ROWS * EC_SLICE_BYTES + ec_swizzled(row, chunk % 8);
}

/* Asks for the 64 rows of q of a row group; its KEY_GROUPS warp groups share them. */
template <typename TILE>
__device__ __forceinline__ void ec_wide_copy_q(const ec_wide_work<typename TILE::T> &work, uint32_t to, int group,
                                               int part)
{
    const int row0 = work.row0 + group * 64, left = work.count - row0;
    ec_wide_each_chunk<TILE, 128 * TILE::KEY_GROUPS>(part * 128 + (threadIdx.x & 127), [&](int row, int chunk) {
        ec_copy_async16_to(ec_wide_chunk<TILE>(to, row, chunk),
                           work.q + work.heads.place(row0 + row, work.q_head, work.q_token) + chunk * 8,
                           row < left && chunk * 8 < work.depth);
    });
    ec_copy_commit();
}

/* y of a row group, through the place of its q. */
template <typename TILE>
__device__ __forceinline__ void ec_wide_write(const ec_wide_work<typename TILE::T> &work, ec_wide_rows<TILE> &rows)
{
    typedef typename TILE::T T;
    const int lane = threadIdx.x & 31, warp = threadIdx.x / 32 & 3;
    const int row0 = work.row0 + rows.group * 64, left = work.count - row0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float sum = rows.total[i];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const float factor = sum > 0.0f ? 1.0f / sum : 0.0f;
#pragma unroll
        for (int j = 0; j < TILE::D / 8; j++) {
            const uint32_t pair = ec_pack<T>(rows.o[4 * j + 2 * i] * factor, rows.o[4 * j + 2 * i + 1] * factor);
            asm volatile("st.shared.b32 [%0], %1;" ::"r"(
                             ec_wide_chunk<TILE>(rows.q_at, warp * 16 + lane / 4 + 8 * i, j) + (lane & 3) * 4),
                         "r"(pair)
                         : "memory");
        }
    }
    ec_some_sync<128>(1 + rows.group);
    ec_wide_each_chunk<TILE, 128>(threadIdx.x & 127, [&](int row, int chunk) {
        if (row < left && chunk * 8 < work.value_depth) {
            uint4 v;
            asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                         : "r"(ec_wide_chunk<TILE>(rows.q_at, row, chunk))
                         : "memory");
            T *const to = work.y + work.heads.place(row0 + row, work.y_head, work.y_token) + chunk * 8;
            *reinterpret_cast<uint4 *>(to) = v;
        }
    });
}

/* The warp groups that compute. */
template <typename TILE, typename MAKE>
__device__ __forceinline__ void ec_wide_computes(const MAKE &make, ec_wide_works works, uint32_t shared)
{
    const int which = __shfl_sync(0xffffffffu, (int)threadIdx.x / 128, 0); /* one for the warp, as the compiler sees */
    ec_wide_rows<TILE> rows;
    rows.shared = shared;
    rows.group = which % TILE::ROW_GROUPS;
    rows.part = which / TILE::ROW_GROUPS;
    rows.items = 0;
    rows.q_at = shared + rows.group * 64 * EC_SLICE_BYTES;
    if (works.more()) {
        ec_wide_copy_q<TILE>(make(works.index), rows.q_at, rows.group, rows.part);
    }
    if (rows.group + 1 == TILE::ROW_GROUPS) {
        rows.give();
    }
    while (works.more()) {
        const ec_wide_work<typename TILE::T> work = make(works.index);
        ec_copy_wait<0>();
        ec_fence_copies();
        ec_some_sync<128 * TILE::KEY_GROUPS>(1 + rows.group);
        works.next();
        const int other = (works.round & 1 ? 1 : -1) * TILE::Q_BYTES;
        if (TILE::Q_BUFFERS > 1 && works.more()) {
            ec_wide_copy_q<TILE>(make(works.index), rows.q_at + other, rows.group, rows.part);
        }
        rows.run(work);
        if constexpr (TILE::KEY_GROUPS > 1) {
            rows.join(work.scale);
            if (rows.part == 0) {
                ec_wide_write(work, rows);
            }
            return; /* the join's room is the ring's: one work a block */
        } else {
            ec_some_sync<128>(1 + rows.group);
            ec_wide_write(work, rows);
            rows.q_at += other;
        }
    }
    if (rows.group == 0) {
        rows.take();
    }
}

#endif

/* A whole block: `count` works, of which make(i) is the i-th. */
template <typename TILE, typename MAKE> __device__ __forceinline__ void ec_wide_attend(int count, const MAKE &make)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ __align__(1024) unsigned char ec_wide_shared[];
    const uint32_t shared = (uint32_t)__cvta_generic_to_shared(ec_wide_shared);
    if (threadIdx.x == 0) {
#pragma unroll
        for (int stage = 0; stage < TILE::STAGES; stage++) {
            ec_barrier_start(ec_wide_barrier<TILE>(shared, 0, stage), 128);
            ec_barrier_start(ec_wide_barrier<TILE>(shared, 1, stage), 128);
            ec_barrier_start(ec_wide_barrier<TILE>(shared, 2, stage), 4 * TILE::ROW_GROUPS);
            ec_barrier_start(ec_wide_barrier<TILE>(shared, 3, stage), 4 * TILE::ROW_GROUPS);
        }
    }
    __syncthreads();
    ec_wait_previous();
    ec_launch_next();
    if (threadIdx.x >= 128 * TILE::COMPUTING) {
        ec_fewer_registers<TILE::COPY_REGISTERS>();
        ec_wide_copies<TILE>(make, ec_wide_works(count), shared);
    } else {
        ec_more_registers<TILE::REGISTERS>();
        ec_wide_computes<TILE>(make, ec_wide_works(count), shared);
    }
#else
    __trap();
#endif
}

#endif
