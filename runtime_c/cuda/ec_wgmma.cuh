/*
 * ec_wgmma.cuh: the tile of a matrix product by the instructions of a warp group (128 threads), which read both operands
 * from shared memory. sm_90a alone: elsewhere `start` traps, and no record asks for it.
 *
 * The swizzled rows of ec_mma.cuh are the layout that the PTX manual calls K-major with 128-byte swizzling: descriptors
 * have a stride of 1024 bytes from eight rows to the next eight, and a step of K is 32 bytes on.
 */
#ifndef EC_WGMMA_CUH
#define EC_WGMMA_CUH

#include "ec_mma.cuh"

/* As ec_tile, for GM x GN warp groups, each of which has rows 64 by BN / GN. */
template <typename T_, int BM_, int BN_, int GM_, int GN_, int STAGES_> struct ec_wide_tile {
    typedef T_ T;
    typedef float sum;
    static constexpr bool WIDE = true;
    static constexpr int BM = BM_, BN = BN_, GM = GM_, GN = GN_, WK = 1, STAGES = STAGES_;
    static constexpr int THREADS = 128 * GM * GN;
    static constexpr int SLICE = EC_SLICE_BYTES / (int)sizeof(T_);
    static constexpr int CHUNK = 16 / (int)sizeof(T_);
    static constexpr int STEP = THREADS / EC_CHUNKS;
    static constexpr int ROWS_A = BM / STEP, ROWS_B = BN / STEP;
    static constexpr int A_BYTES = BM * EC_SLICE_BYTES, B_BYTES = BN * EC_SLICE_BYTES;
    static constexpr int STAGE_BYTES = A_BYTES + B_BYTES;
    static constexpr int PITCH = BN + 8;
    static constexpr int SUM_BYTES = BM * PITCH * 4;
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES > SUM_BYTES ? STAGES * STAGE_BYTES : SUM_BYTES;
    static constexpr int NT = BN / GN;
    static_assert(BM == 64 * GM && BN % STEP == 0, "a warp group has 64 rows; each thread copies whole rows' chunks");
};

/* What a warp group reads of a tile from shared address `at` on. */
__device__ __forceinline__ uint64_t ec_describe(uint32_t at)
{
    return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}

/* d[64,N] += a[64,16] b[N,16]^T; d is laid out as ec_mma's, warp w with the rows from 16 w on. */
template <typename T, int N> struct ec_wgmma;

template <> struct ec_wgmma<__half, 32> {
    static __device__ __forceinline__ void run(float (&d)[16], uint64_t a, uint64_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
                     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
                     "%16, %17, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                       "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
                       "+f"(d[14]), "+f"(d[15])
                     : "l"(a), "l"(b));
#endif
    }
};

template <> struct ec_wgmma<__nv_bfloat16, 32> {
    static __device__ __forceinline__ void run(float (&d)[16], uint64_t a, uint64_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
                     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
                     "%16, %17, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                       "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
                       "+f"(d[14]), "+f"(d[15])
                     : "l"(a), "l"(b));
#endif
    }
};

template <> struct ec_wgmma<__half, 64> {
    static __device__ __forceinline__ void run(float (&d)[32], uint64_t a, uint64_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
                     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
                     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                     "%32, %33, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                       "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
                       "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
                       "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),
                       "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
                     : "l"(a), "l"(b));
#endif
    }
};

template <> struct ec_wgmma<__nv_bfloat16, 64> {
    static __device__ __forceinline__ void run(float (&d)[32], uint64_t a, uint64_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
                     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                     "%32, %33, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                       "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
                       "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
                       "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),
                       "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
                     : "l"(a), "l"(b));
#endif
    }
};

template <> struct ec_wgmma<__half, 96> {
    static __device__ __forceinline__ void run(float (&d)[48], uint64_t a, uint64_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.f16.f16 "
                     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
                     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
                     "%47}, "
                     "%48, %49, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                       "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
                       "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
                       "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),
                       "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
                       "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]),
                       "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
                       "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
                     : "l"(a), "l"(b));
#endif
    }
};

template <> struct ec_wgmma<__nv_bfloat16, 96> {
    static __device__ __forceinline__ void run(float (&d)[48], uint64_t a, uint64_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 "
                     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
                     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
                     "%47}, "
                     "%48, %49, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                       "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
                       "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
                       "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),
                       "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
                       "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]),
                       "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
                       "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
                     : "l"(a), "l"(b));
#endif
    }
};

template <> struct ec_wgmma<__half, 128> {
    static __device__ __forceinline__ void run(float (&d)[64], uint64_t a, uint64_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
                     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
                     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
                     "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
                     "%62, %63}, "
                     "%64, %65, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                       "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
                       "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
                       "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),
                       "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
                       "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]),
                       "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
                       "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),
                       "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
                       "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]),
                       "+f"(d[62]), "+f"(d[63])
                     : "l"(a), "l"(b));
#endif
    }
};

template <> struct ec_wgmma<__nv_bfloat16, 128> {
    static __device__ __forceinline__ void run(float (&d)[64], uint64_t a, uint64_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                     "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, "
                     "%17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                     "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, "
                     "%47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
                     "%62, %63}, "
                     "%64, %65, 1, 1, 1, 0, 0;"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]),
                       "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]),
                       "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
                       "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]),
                       "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
                       "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]),
                       "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
                       "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),
                       "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
                       "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]),
                       "+f"(d[62]), "+f"(d[63])
                     : "l"(a), "l"(b));
#endif
    }
};

/* The sums of one warp group. */
template <typename TILE, typename T> struct ec_sums<TILE, T, true> {
    static constexpr int NT = TILE::NT;
    float at[NT / 2];

    __device__ __forceinline__ void clear()
    {
#pragma unroll
        for (int i = 0; i < NT / 2; i++) {
            at[i] = 0.0f;
        }
    }

    __device__ __forceinline__ void hold()
    {
#pragma unroll
        for (int i = 0; i < NT / 2; i++) {
            asm volatile("" : "+f"(at[i])::"memory");
        }
    }

    __device__ __forceinline__ void start(uint32_t a, uint32_t b)
    {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        const int group = threadIdx.x / 128, gm = group % TILE::GM, gn = group / TILE::GM;
        const uint64_t from_a = ec_describe(a + gm * 64 * EC_SLICE_BYTES);
        const uint64_t from_b = ec_describe(b + gn * NT * EC_SLICE_BYTES);
        hold();
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
        for (int step = 0; step < 4; step++) {
            ec_wgmma<T, NT>::run(at, from_a + 2 * step, from_b + 2 * step);
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
        __trap();
#endif
    }

    template <bool B_ROWS_K> __device__ __forceinline__ void add(uint32_t a, uint32_t b)
    {
        static_assert(!B_ROWS_K, "b's rows are columns");
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        hold();
#endif
    }

    __device__ __forceinline__ void spill(float *to) const
    {
        const int lane = threadIdx.x & 31, warp = threadIdx.x / 32 & 3;
        const int group = threadIdx.x / 128, gm = group % TILE::GM, gn = group / TILE::GM;
        to += (gm * 64 + warp * 16 + lane / 4) * TILE::PITCH + gn * NT + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < NT / 8; j++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                ec_vector<float, 2> pair;
                pair.at[0] = at[4 * j + 2 * h];
                pair.at[1] = at[4 * j + 2 * h + 1];
                *reinterpret_cast<ec_vector<float, 2> *>(to + h * 8 * TILE::PITCH + j * 8) = pair;
            }
        }
    }
};

#endif
