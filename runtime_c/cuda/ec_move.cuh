/*
 * ec_move.cuh: what kernels that only move bytes share: units of 1 to 16 bytes, and division by numbers that are known
 * on the host. A unit is as large as sizes, strides and alignment allow; element types play no part.
 */
#ifndef EC_MOVE_CUH
#define EC_MOVE_CUH

#include "ec_cuda.cuh"

template <int BYTES> struct ec_unit;
template <> struct ec_unit<1> {
    typedef uint8_t type;
};
template <> struct ec_unit<2> {
    typedef uint16_t type;
};
template <> struct ec_unit<4> {
    typedef uint32_t type;
};
template <> struct ec_unit<8> {
    typedef uint2 type;
};
template <> struct ec_unit<16> {
    typedef uint4 type;
};

/* n / size for n < 2**31: magic and shift by backends/cuda_move.py (Granlund and Montgomery, PLDI 1994, figure 4.1). */
__device__ __forceinline__ uint32_t ec_divide(uint32_t n, uint32_t magic, uint32_t shift)
{
    return (__umulhi(n, magic) + n) >> shift;
}

#endif
