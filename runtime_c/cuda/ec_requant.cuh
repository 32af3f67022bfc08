/*
 * ec_requant.cuh: how an int32 sum becomes an int8 on a GPU. Equals edgec/fixedpoint.py and ec_requant.h bit for bit.
 *
 *   ec_requantize(a, m, s) = floor((a * m + 2^(s - 1)) / 2^s)        with 64-bit a * m, one rounding
 *
 * |m| is in [2^30, 2^31) or 0, s in [1, 62].
 *
 * Kernels with weights read one record of four int32 a channel (layout "s8_channel"): bias, multiplier, round, shift.
 * HIGH (all shifts of the node in 33..55, most networks): round = (2 zero_out + 1) << (s - 33), shift = s - 32, so that
 *
 *   zero_out + ec_requantize(a, m, s) = (high word of a * m + round) >> shift
 *
 * since 2^(s - 1) is a multiple of 2^32. Otherwise round is zero_out, shift is s, and the sum takes 64 bits.
 */
#ifndef EC_REQUANT_CUH
#define EC_REQUANT_CUH

#include <stdint.h>

#define EC_REQUANT_LIMIT 0x3fffffff

__device__ __forceinline__ int32_t ec_clamp(int32_t value, int32_t low, int32_t high)
{
    return min(max(value, low), high);
}

/* floor((acc * m + 2^(shift - 1)) / 2^shift), saturated to +-EC_REQUANT_LIMIT. */
__device__ __forceinline__ int32_t ec_requantize(int32_t acc, int32_t m, int32_t shift)
{
    const int64_t product = ((int64_t)acc * m + ((int64_t)1 << (shift - 1))) >> shift;
    const int64_t low = -EC_REQUANT_LIMIT, high = EC_REQUANT_LIMIT;
    return (int32_t)min(max(product, low), high);
}

/* int8 output of an accumulator, not packed: clamp(zero + requantize(acc, m, shift), low, high). */
__device__ __forceinline__ int32_t ec_requantize_s8(int32_t acc, int32_t m, int32_t shift, int32_t zero, int32_t low,
                                                    int32_t high)
{
    return ec_clamp(ec_requantize(acc, m, shift) + zero, low, high);
}

/* zero_out + the requantised sum of a channel whose record is `c` (bias, multiplier, round, shift), without a clamp. */
template <bool HIGH> __device__ __forceinline__ int32_t ec_requantize_channel(int32_t sum, int4 c)
{
    const int32_t acc = sum + c.x;
    if (HIGH) {
        return (__mulhi(acc, c.y) + c.z) >> c.w;
    }
    return ec_requantize(acc, c.y, c.w) + c.z;
}

/* Four int32 as four bytes, the first lowest; those beyond int8 saturate. */
__device__ __forceinline__ uint32_t ec_pack4(int32_t a, int32_t b, int32_t c, int32_t d)
{
    uint32_t high, all;
    asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, 0;" : "=r"(high) : "r"(d), "r"(c));
    asm("cvt.pack.sat.s8.s32.b32 %0, %1, %2, %3;" : "=r"(all) : "r"(b), "r"(a), "r"(high));
    return all;
}

/* Byte `i` of a word, sign-extended. */
__device__ __forceinline__ int32_t ec_byte(uint32_t word, int i)
{
    return (int32_t)(word << (24 - 8 * i)) >> 24;
}

/* floor(sum / divisor + 1/2) for divisor > 0; 2 * sum + divisor must fit int32. */
__device__ __forceinline__ int32_t ec_divide_round(int32_t sum, int32_t divisor)
{
    const int32_t twice = 2 * sum + divisor, by = 2 * divisor;
    return twice >= 0 ? twice / by : -((by - 1 - twice) / by);
}

/* Values of V consecutive outputs to memory as int8; `y` is aligned to V bytes. V is 1, 2, 4, 8 or 16. */
template <int V> __device__ __forceinline__ void ec_store_s8(int8_t *y, const int32_t (&v)[V])
{
    if constexpr (V == 1) {
        *y = (int8_t)v[0];
    } else if constexpr (V == 2) {
        *reinterpret_cast<uint16_t *>(y) = (uint16_t)__byte_perm((uint32_t)v[0], (uint32_t)v[1], 0x0040);
    } else {
        uint32_t words[V / 4];
#pragma unroll
        for (int i = 0; i < V / 4; i++) {
            words[i] = ec_pack4(v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]);
        }
        if constexpr (V == 4) {
            *reinterpret_cast<uint32_t *>(y) = words[0];
        } else if constexpr (V == 8) {
            *reinterpret_cast<uint2 *>(y) = make_uint2(words[0], words[1]);
        } else {
            static_assert(V == 16, "1, 2, 4, 8 or 16 values");
            *reinterpret_cast<uint4 *>(y) = make_uint4(words[0], words[1], words[2], words[3]);
        }
    }
}

/* V consecutive int8 as int32; `x` is aligned to V bytes. */
template <int V> __device__ __forceinline__ void ec_load_s8(int32_t (&v)[V], const int8_t *x)
{
    if constexpr (V == 1) {
        v[0] = *x;
    } else if constexpr (V == 2) {
        const uint32_t word = *reinterpret_cast<const uint16_t *>(x);
        v[0] = ec_byte(word, 0);
        v[1] = ec_byte(word, 1);
    } else {
        uint32_t words[V / 4];
        if constexpr (V == 4) {
            words[0] = *reinterpret_cast<const uint32_t *>(x);
        } else if constexpr (V == 8) {
            const uint2 two = *reinterpret_cast<const uint2 *>(x);
            words[0] = two.x;
            words[1] = two.y;
        } else {
            static_assert(V == 16, "1, 2, 4, 8 or 16 values");
            const uint4 four = *reinterpret_cast<const uint4 *>(x);
            words[0] = four.x;
            words[1] = four.y;
            words[2] = four.z;
            words[3] = four.w;
        }
#pragma unroll
        for (int i = 0; i < V; i++) {
            v[i] = ec_byte(words[i / 4], i % 4);
        }
    }
}

#endif
