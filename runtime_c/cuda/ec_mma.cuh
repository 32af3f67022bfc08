/*
 * ec_mma.cuh: the matrix instructions and the tile of a matrix product in shared memory.
 *
 * A slice of K is 128 bytes of it: 64 halves, 128 int8, 32 floats. A tile of one slice is rows of 128 bytes, and chunk
 * c (16 bytes) of row r stands at chunk c ^ (r & 7), so that neither the copies nor ldmatrix meet a bank twice.
 *
 * Requires sm_80 instructions: ldmatrix, mma.sync, cp.async. The operand layouts are those of the PTX manual,
 * section "Matrix multiply-accumulate operation using mma instruction" (m16n8k16 and m16n8k32).
 */
#ifndef EC_MMA_CUH
#define EC_MMA_CUH

#include "ec_cuda.cuh"

enum { EC_SLICE_BYTES = 128, EC_CHUNKS = 8 };

/* Byte of chunk `chunk` of row `row` in a tile of 128-byte rows. */
__device__ __forceinline__ uint32_t ec_swizzled(int row, int chunk)
{
    return (uint32_t)(row * EC_SLICE_BYTES + ((chunk ^ (row & 7)) << 4));
}

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8. */
__device__ __forceinline__ void ec_ldmatrix(uint32_t (&r)[4], uint32_t from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

__device__ __forceinline__ void ec_ldmatrix_transposed(uint32_t (&r)[4], uint32_t from)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

/*
 * c[16,8] += a[16,K] b[8,K]^T over 32 bytes of K. Lane l holds c[l / 4][2 (l % 4) + 0, 1] and, 8 rows on, the same;
 * a is the four matrices (rows 0-7, first 16 bytes), (8-15, first), (0-7, last), (8-15, last); b is (first, last).
 */
template <typename T> struct ec_mma;

template <> struct ec_mma<__half> {
    typedef float sum;
    static __device__ __forceinline__ void run(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
    {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                     "{%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <> struct ec_mma<__nv_bfloat16> {
    typedef float sum;
    static __device__ __forceinline__ void run(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
    {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                     "{%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <> struct ec_mma<int8_t> {
    typedef int32_t sum;
    static __device__ __forceinline__ void run(int32_t (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
    {
        asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
                     "{%8, %9}, {%0, %1, %2, %3};"
                     : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
};

template <> struct ec_mma<float> {
    typedef float sum;
};

/*
 * The tile of one block: BM rows of A by BN rows of B (columns of the product). WM x WN warps share it, and WK groups
 * of them share each slice of K, whose sums are added at the end. STAGES slices are under way at once.
 */
template <typename T_, int BM_, int BN_, int WM_, int WN_, int WK_, int STAGES_> struct ec_tile {
    typedef T_ T;
    typedef typename ec_mma<T_>::sum sum;
    static constexpr bool WIDE = false;
    static constexpr int BM = BM_, BN = BN_, WM = WM_, WN = WN_, WK = WK_, STAGES = STAGES_;
    static constexpr int THREADS = 32 * WM * WN * WK;
    static constexpr int SLICE = EC_SLICE_BYTES / (int)sizeof(T_); /* elements */
    static constexpr int CHUNK = 16 / (int)sizeof(T_);
    static constexpr int STEP = THREADS / EC_CHUNKS; /* rows between two that a thread copies */
    static constexpr int ROWS_A = BM / STEP, ROWS_B = BN / STEP;
    static constexpr int A_BYTES = BM * EC_SLICE_BYTES, B_BYTES = BN * EC_SLICE_BYTES;
    static constexpr int STAGE_BYTES = A_BYTES + B_BYTES;
    static constexpr int PITCH = BN + 8; /* of the sums in shared memory: no two lanes of a half warp share a bank */
    static constexpr int SUM_BYTES = WK * BM * PITCH * 4;
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES > SUM_BYTES ? STAGES * STAGE_BYTES : SUM_BYTES;
    static constexpr int MT = BM / WM, NT = BN / WN; /* of one warp */
    static_assert(BM % STEP == 0 && BN % STEP == 0, "each thread copies whole rows' chunks");
    static_assert(MT % 16 == 0 && NT % 16 == 0, "a warp has whole instructions");
    static_assert(WK == 1 || WK == 2 || WK == 4, "a slice has four steps");
};

/*
 * The sums of one warp by tensor cores. `start` and `add` of a slice stand before and after the copies of a later one.
 */
template <typename TILE, typename T = typename TILE::T, bool WIDE = TILE::WIDE> struct ec_sums {
    static constexpr int MI = TILE::MT / 16, NI = TILE::NT / 8;
    typename TILE::sum at[MI][NI][4];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < MI; i++) {
#pragma unroll
            for (int j = 0; j < NI; j++) {
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    at[i][j][e] = 0;
                }
            }
        }
    }

    __device__ __forceinline__ void start(uint32_t a, uint32_t b)
    {
    }

    /* Adds one slice: a and b are shared addresses of its tiles. B_ROWS_K: b's rows are k, not columns. */
    template <bool B_ROWS_K> __device__ __forceinline__ void add(uint32_t a, uint32_t b)
    {
        constexpr int STEPS = 4 / TILE::WK;
        uint32_t fa[2][MI][4], fb[2][NI / 2][4]; /* of this step and of the next */
        read<B_ROWS_K>(fa[0], fb[0], a, b, 0);
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            if (step + 1 < STEPS) {
                read<B_ROWS_K>(fa[(step + 1) % 2], fb[(step + 1) % 2], a, b, step + 1);
            }
#pragma unroll
            for (int i = 0; i < MI; i++) {
#pragma unroll
                for (int j = 0; j < NI; j++) {
                    ec_mma<T>::run(at[i][j], fa[step % 2][i], fb[step % 2][j / 2][j % 2 * 2],
                                   fb[step % 2][j / 2][j % 2 * 2 + 1]);
                }
            }
        }
    }

    template <bool B_ROWS_K>
    static __device__ __forceinline__ void read(uint32_t (&fa)[MI][4], uint32_t (&fb)[NI / 2][4], uint32_t a,
                                                uint32_t b, int step)
    {
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        const int wm = warp % TILE::WM, wn = warp / TILE::WM % TILE::WN, wk = warp / (TILE::WM * TILE::WN);
        const int k = step * TILE::WK + wk;
        a += (wm * TILE::MT + (lane & 15)) * EC_SLICE_BYTES + (((2 * k + (lane >> 4)) ^ (lane & 7)) << 4);
#pragma unroll
        for (int i = 0; i < MI; i++) {
            ec_ldmatrix(fa[i], a + i * 16 * EC_SLICE_BYTES);
        }
        const int row = wn * TILE::NT + (lane & 7) + ((lane >> 4) << 3);
        const uint32_t b_row = b + row * EC_SLICE_BYTES + (((2 * k + ((lane >> 3) & 1)) ^ (lane & 7)) << 4);
#pragma unroll
        for (int j = 0; j < NI / 2; j++) {
            if (B_ROWS_K) {
                const int chunk = (wn * TILE::NT + j * 16) / 8 + (lane >> 4);
                ec_ldmatrix_transposed(fb[j], b + rows_k(16 * k + (lane & 15), chunk));
            } else {
                ec_ldmatrix(fb[j], b_row + j * 16 * EC_SLICE_BYTES);
            }
        }
    }

    /* Byte of chunk `chunk` of row `k` in a tile whose rows are k and have BN elements. */
    static __device__ __forceinline__ uint32_t rows_k(int k, int chunk)
    {
        return (uint32_t)(k * TILE::BN * (int)sizeof(T) + ((chunk ^ (k & 7)) << 4));
    }

    /* Writes the sums as [WK][BM][PITCH]. */
    __device__ __forceinline__ void spill(typename TILE::sum *to) const
    {
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        const int wm = warp % TILE::WM, wn = warp / TILE::WM % TILE::WN, wk = warp / (TILE::WM * TILE::WN);
        to += (wk * TILE::BM + wm * TILE::MT + lane / 4) * TILE::PITCH + wn * TILE::NT + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < MI; i++) {
#pragma unroll
            for (int j = 0; j < NI; j++) {
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    ec_vector<typename TILE::sum, 2> pair;
                    pair.at[0] = at[i][j][2 * h];
                    pair.at[1] = at[i][j][2 * h + 1];
                    *reinterpret_cast<ec_vector<typename TILE::sum, 2> *>(to + (i * 16 + h * 8) * TILE::PITCH +
                                                                          j * 8) = pair;
                }
            }
        }
    }
};

/* The sums of one warp in plain float: lane l has the rows l / 4 + 8 i and the columns l % 4 + 4 j. */
template <typename TILE> struct ec_sums<TILE, float, false> {
    static constexpr int MI = TILE::MT / 8, NI = TILE::NT / 4;
    float at[MI][NI];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < MI; i++) {
#pragma unroll
            for (int j = 0; j < NI; j++) {
                at[i][j] = 0.0f;
            }
        }
    }

    __device__ __forceinline__ void start(uint32_t a, uint32_t b)
    {
    }

    static __device__ __forceinline__ void load(float (&v)[4], uint32_t from)
    {
        asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(v[0]), "=f"(v[1]), "=f"(v[2]), "=f"(v[3])
                     : "r"(from));
    }

    template <bool B_ROWS_K> __device__ __forceinline__ void add(uint32_t a, uint32_t b)
    {
        static_assert(!B_ROWS_K, "the columns of a float product are gathered by their loader");
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        const int wm = warp % TILE::WM, wn = warp / TILE::WM % TILE::WN, wk = warp / (TILE::WM * TILE::WN);
        const int row = wm * TILE::MT + lane / 4, column = wn * TILE::NT + lane % 4;
#pragma unroll 2
        for (int k = wk; k < EC_CHUNKS; k += TILE::WK) {
            float fa[MI][4];
#pragma unroll
            for (int i = 0; i < MI; i++) {
                load(fa[i], a + ec_swizzled(row + 8 * i, k));
            }
#pragma unroll
            for (int j = 0; j < NI; j++) {
                float fb[4];
                load(fb, b + ec_swizzled(column + 4 * j, k));
#pragma unroll
                for (int i = 0; i < MI; i++) {
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        at[i][j] = fmaf(fa[i][e], fb[e], at[i][j]);
                    }
                }
            }
        }
    }

    __device__ __forceinline__ void spill(float *to) const
    {
        const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
        const int wm = warp % TILE::WM, wn = warp / TILE::WM % TILE::WN, wk = warp / (TILE::WM * TILE::WN);
        to += (wk * TILE::BM + wm * TILE::MT + lane / 4) * TILE::PITCH + wn * TILE::NT + lane % 4;
#pragma unroll
        for (int i = 0; i < MI; i++) {
#pragma unroll
            for (int j = 0; j < NI; j++) {
                to[i * 8 * TILE::PITCH + j * 4] = at[i][j];
            }
        }
    }
};

/* What this thread has copied to shared memory is seen by the instructions that read it from there (sm_90). */
__device__ __forceinline__ void ec_fence_copies()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* Every slice of K is taken: the mask of dense products. A sparse one gives the next slice with work in it. */
struct ec_all_slices {
    __device__ __forceinline__ int next(int slice) const
    {
        return slice;
    }
};

/*
 * sums += A B^T over the slices first..last-1 that `slices` does not skip.
 *
 * ROWS_A and ROWS_B say where the chunks of a row stand (ec_rows.cuh): `seek(slice)`, then `copy(i, to)` for each row
 * that this thread copies. B's chunks are asked for before the previous kernel has ended where ROWS_B::CONSTANT; every
 * thread waits for that kernel here. `shared`: TILE::SHARED_BYTES, aligned to 1024; free again when this returns.
 */
template <typename TILE, typename ROWS_A, typename ROWS_B, typename SLICES>
__device__ __forceinline__ void ec_gemm_core(ec_sums<TILE> &sums, ROWS_A &a, ROWS_B &b, const SLICES &slices,
                                             int first, int last, unsigned char *shared)
{
    const int row = threadIdx.x / EC_CHUNKS;
    unsigned char *to = shared + ec_swizzled(row, threadIdx.x % EC_CHUNKS);
    first = slices.next(first);
    sums.clear();
    if (!ROWS_B::CONSTANT) {
        ec_wait_previous();
    }
    int ahead = first;
#pragma unroll
    for (int stage = 0; stage < TILE::STAGES - 1; stage++) {
        if (ahead < last) {
            b.seek(ahead);
            b.copy_all(shared + stage * TILE::STAGE_BYTES + TILE::A_BYTES,
                       to + stage * TILE::STAGE_BYTES + TILE::A_BYTES);
            ahead = slices.next(ahead + 1);
        }
    }
    if (ROWS_B::CONSTANT) {
        ec_wait_previous();
    }
    ahead = first;
#pragma unroll
    for (int stage = 0; stage < TILE::STAGES - 1; stage++) {
        if (ahead < last) {
            a.seek(ahead);
            a.copy_all(shared + stage * TILE::STAGE_BYTES, to + stage * TILE::STAGE_BYTES);
            ahead = slices.next(ahead + 1);
        }
        ec_copy_commit();
    }
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    int stage = 0, filled = TILE::STAGES - 1;
    for (int slice = first; slice < last; slice = slices.next(slice + 1)) {
        ec_copy_wait<TILE::STAGES - 2>();
        if (TILE::WIDE) {
            ec_fence_copies();
        }
        __syncthreads();
        sums.start(at + stage * TILE::STAGE_BYTES, at + stage * TILE::STAGE_BYTES + TILE::A_BYTES);
        if (ahead < last) {
            a.seek(ahead);
            b.seek(ahead);
            a.copy_all(shared + filled * TILE::STAGE_BYTES, to + filled * TILE::STAGE_BYTES);
            b.copy_all(shared + filled * TILE::STAGE_BYTES + TILE::A_BYTES,
                       to + filled * TILE::STAGE_BYTES + TILE::A_BYTES);
            ahead = slices.next(ahead + 1);
        }
        ec_copy_commit();
        sums.template add<ROWS_B::ROWS_K>(at + stage * TILE::STAGE_BYTES,
                                          at + stage * TILE::STAGE_BYTES + TILE::A_BYTES);
        stage = stage + 1 == TILE::STAGES ? 0 : stage + 1;
        filled = filled + 1 == TILE::STAGES ? 0 : filled + 1;
    }
    ec_copy_wait<0>();
    __syncthreads();
}

#endif
