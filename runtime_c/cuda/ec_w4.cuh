/*
 * ec_w4.cuh: 4-bit weights as operand A of mma.m16n8k16.
 *
 * Packed weights, by 16 rows (a tile) and 64 channels (a chunk): 32 lanes of 16 bytes, so that a warp reads a chunk in
 * one access. Word j of lane l is the lane's fragment for the channels 16 j .. 16 j + 15 of the chunk: with g = l / 4,
 * t = l % 4 and k = 16 j + 2 t, its nibbles 0..7 are (g, k), (g + 8, k), (g, k + 8), (g + 8, k + 8), (g, k + 1),
 * (g + 8, k + 1), (g, k + 9), (g + 8, k + 9) as (row, channel).
 *
 * Scales by tile and group: eight pairs (row g, row g + 8); zeros, where they are not all 8, eight pairs of bytes.
 */
#ifndef EC_W4_CUH
#define EC_W4_CUH

#include "ec_cuda.cuh"

enum { EC_W4_ROWS = 16, EC_W4_CHUNK = 64 };

/* (a & b) | c in one instruction. */
__device__ __forceinline__ uint32_t ec_and_or(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t d;
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

__device__ __forceinline__ uint32_t ec_pair(uint32_t half)
{
    return half * 0x00010001u;
}

/*
 * Integers to floats without a conversion: a nibble in the low bits of 1024 (fp16) or 128 (bf16) adds its value, one
 * four bits higher 16 times that; then 1024 + zero is subtracted. Both steps are exact.
 */
template <typename T> struct ec_w4_decoder;

template <> struct ec_w4_decoder<__half> {
    __half2 first, second; /* 1024 + zero of row g; -(64 + zero) of row g + 8 */

    __device__ __forceinline__ void set(uint32_t zero_first, uint32_t zero_second)
    {
        const uint32_t a = ec_pair(0x6400u | zero_first), b = ec_pair(0xd400u | (zero_second << 4));
        first = *reinterpret_cast<const __half2 *>(&a);
        second = *reinterpret_cast<const __half2 *>(&b);
    }

    __device__ __forceinline__ void run(uint32_t (&a)[4], uint32_t w) const
    {
        const uint32_t one = 0x64006400u, sixteenth = 0x2c002c00u;
        const __half2 s = *reinterpret_cast<const __half2 *>(&sixteenth);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const uint32_t low = ec_and_or(w, 0x000f000fu, one), high = ec_and_or(w, 0x00f000f0u, one);
            const __half2 u = __hsub2(*reinterpret_cast<const __half2 *>(&low), first);
            const __half2 v = __hfma2(*reinterpret_cast<const __half2 *>(&high), s, second);
            a[2 * h] = *reinterpret_cast<const uint32_t *>(&u);
            a[2 * h + 1] = *reinterpret_cast<const uint32_t *>(&v);
            w >>= 8;
        }
    }
};

template <> struct ec_w4_decoder<__nv_bfloat16> {
    __nv_bfloat162 zero[2]; /* 128 + zero of rows g and g + 8 */

    __device__ __forceinline__ void set(uint32_t zero_first, uint32_t zero_second)
    {
        const uint32_t a = ec_pair(0x4300u | zero_first), b = ec_pair(0x4300u | zero_second);
        zero[0] = *reinterpret_cast<const __nv_bfloat162 *>(&a);
        zero[1] = *reinterpret_cast<const __nv_bfloat162 *>(&b);
    }

    __device__ __forceinline__ void run(uint32_t (&a)[4], uint32_t w) const
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t u = ec_and_or(w, 0x000f000fu, 0x43004300u);
            const __nv_bfloat162 v = __hsub2(*reinterpret_cast<const __nv_bfloat162 *>(&u), zero[i & 1]);
            a[i] = *reinterpret_cast<const uint32_t *>(&v);
            w >>= 4;
        }
    }
};

/*
 * The same without a subtraction, for sums that are corrected afterwards: sum (q - zero) x = FIRST sum raw x - (OFFSET +
 * zero) sum x in the rows g, with SECOND in the rows g + 8. fp16: a nibble alone in a half is a subnormal number, q
 * 2^-24 or, four bits higher, q 2^-20, which tensor cores multiply exactly. bf16, whose subnormals are too small for
 * sums in fp32: 16 + q.
 */
template <typename T> struct ec_w4_raw;

template <> struct ec_w4_raw<__half> {
    static constexpr float FIRST = 16777216.0f, SECOND = 1048576.0f, OFFSET = 0.0f;
    static constexpr uint32_t ONES = 0x3c003c00u;

    static __device__ __forceinline__ void run(uint32_t (&a)[4], uint32_t w)
    {
        a[0] = w & 0x000f000fu;
        a[1] = w & 0x00f000f0u;
        w >>= 8;
        a[2] = w & 0x000f000fu;
        a[3] = w & 0x00f000f0u;
    }
};

template <> struct ec_w4_raw<__nv_bfloat16> {
    static constexpr float FIRST = 1.0f, SECOND = 1.0f, OFFSET = 16.0f;
    static constexpr uint32_t ONES = 0x3f803f80u;

    static __device__ __forceinline__ void run(uint32_t (&a)[4], uint32_t w)
    {
        a[0] = ec_and_or(w << 3, 0x00780078u, 0x41804180u);
        a[1] = ec_and_or(w >> 1, 0x00780078u, 0x41804180u);
        a[2] = ec_and_or(w >> 5, 0x00780078u, 0x41804180u);
        a[3] = ec_and_or(w >> 9, 0x00780078u, 0x41804180u);
    }
};

/*
 * The same where it costs less: row g of T's first words is taken together with row g + 8 of the second, whose sums are
 * then subtracted. Eight bits of a half need no shift. `start` of a row: what sums begin with that alone begin with
 * `own`, row g + 8 with `other`. `part`: sums as ec_w4_raw's.
 */
template <typename T> struct ec_w4_joined {
    static __device__ __forceinline__ void run(uint32_t (&a)[4], uint32_t w)
    {
        ec_w4_raw<T>::run(a, w);
    }
    static __device__ __forceinline__ float start(float own, float other, int e)
    {
        return own;
    }
    static __device__ __forceinline__ void part(float (&v)[4])
    {
    }
};

template <> struct ec_w4_joined<__half> {
    static __device__ __forceinline__ void run(uint32_t (&a)[4], uint32_t w)
    {
        a[0] = w & 0x00ff00ffu;
        a[1] = w & 0x00f000f0u;
        a[2] = __byte_perm(w, 0u, 0x4341);
        a[3] = a[2] & 0x00f000f0u;
    }
    static __device__ __forceinline__ float start(float own, float other, int e)
    {
        return e < 2 ? own + other : own;
    }
    static __device__ __forceinline__ void part(float (&v)[4])
    {
        v[0] -= v[2];
        v[1] -= v[3];
    }
};

/* The two scales of a pair, as floats. */
__device__ __forceinline__ float2 ec_scale_pair(uint32_t pair, __half)
{
    return __half22float2(*reinterpret_cast<const __half2 *>(&pair));
}
__device__ __forceinline__ float2 ec_scale_pair(uint32_t pair, __nv_bfloat16)
{
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

/* Multiplies the fragment's rows g (words 0 and 2) and g + 8 (1 and 3) by the pair of scales. */
template <typename T> __device__ __forceinline__ void ec_scale_fragment(uint32_t (&a)[4], uint32_t pair);

template <> __device__ __forceinline__ void ec_scale_fragment<__half>(uint32_t (&a)[4], uint32_t pair)
{
    const __half2 both = *reinterpret_cast<const __half2 *>(&pair);
    const __half2 scale[2] = {__low2half2(both), __high2half2(both)};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const __half2 v = __hmul2(*reinterpret_cast<const __half2 *>(&a[i]), scale[i & 1]);
        a[i] = *reinterpret_cast<const uint32_t *>(&v);
    }
}

template <> __device__ __forceinline__ void ec_scale_fragment<__nv_bfloat16>(uint32_t (&a)[4], uint32_t pair)
{
    const __nv_bfloat162 both = *reinterpret_cast<const __nv_bfloat162 *>(&pair);
    const __nv_bfloat162 scale[2] = {__low2bfloat162(both), __high2bfloat162(both)};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const __nv_bfloat162 v = __hmul2(*reinterpret_cast<const __nv_bfloat162 *>(&a[i]), scale[i & 1]);
        a[i] = *reinterpret_cast<const uint32_t *>(&v);
    }
}

#endif
