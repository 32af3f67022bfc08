/*
 * add, sub, mul, minimum and maximum, int8, with broadcasting.
 *
 *   add, sub: v = (offset + a * multiplier_a + b * multiplier_b) >> shift,
 *             offset = 2^(shift - 1) - zero_a * multiplier_a - zero_b * multiplier_b
 *   minimum, maximum: v = (merge((a - zero_a) * multiplier_a, (b - zero_b) * multiplier_b) + 2^(shift - 1)) >> shift
 *   mul: v = requantize((a - zero_a) * (b - zero_b), multiplier_a, shift)
 *   y = clamp(zero_out + v, act_min, act_max)
 *
 * Multipliers but that of mul are below 2^21, shift in [1, 31]: sums stay in int32. Over the merged axes of the output
 * (up to six, the last of d5 elements); each operand has its steps along the outer five and along the last runs (ROW)
 * or repeats. VEC (16, 8, 4, 2 or 1) divides d5 and the outer steps of operands that run; a, b, y aligned to VEC; y
 * may be an operand of its size. OP: 0 add and sub, 1 mul, 2 minimum, 3 maximum. AXES: outer axes in use. Grid:
 * threads over vectors. No scratch. Equals the ops' quant in edgec/ops/binary.py.
 */
#include "ec_cuda.cuh"
#include "ec_pointwise_s8_params.h"
#include "ec_requant.cuh"

template <int OP>
__device__ __forceinline__ int32_t ec_binary_s8_step(const ec_binary_cuda_s8_params &p, int32_t a, int32_t b)
{
    int32_t v;
    if constexpr (OP == 0) {
        v = (p.offset + a * p.multiplier_a + b * p.multiplier_b) >> p.shift;
    } else if constexpr (OP == 1) {
        v = ec_requantize((a - p.zero_a) * (b - p.zero_b), p.multiplier_a, p.shift);
    } else {
        const int32_t first = (a - p.zero_a) * p.multiplier_a, second = (b - p.zero_b) * p.multiplier_b;
        v = ((OP == 2 ? min(first, second) : max(first, second)) + (1 << (p.shift - 1))) >> p.shift;
    }
    return ec_clamp(v + p.zero_out, p.act_min, p.act_max);
}

/* One step of the walk through the outer axes: `index` along an axis of `size`. */
__device__ __forceinline__ void ec_outer_step(int32_t &rest, int32_t size, int32_t a, int32_t b, int32_t &at_a,
                                              int32_t &at_b)
{
    const int32_t next = rest / size, index = rest - next * size;
    at_a += index * a;
    at_b += index * b;
    rest = next;
}

template <int OP, int VEC, bool ROW_A, bool ROW_B, int AXES>
__device__ __forceinline__ void ec_binary_s8_body(const ec_binary_cuda_s8_params &p, const void *left,
                                                  const void *right, void *output)
{
    const int32_t first = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (first >= p.size) {
        return;
    }
    int32_t rest = first, at_a = 0, at_b = 0;
    if (AXES > 0) {
        const int32_t row = first / p.d5, at = first - row * p.d5;
        rest = row;
        at_a = ROW_A ? at : 0;
        at_b = ROW_B ? at : 0;
        if (AXES > 1) {
            ec_outer_step(rest, p.d4, p.a4, p.b4, at_a, at_b);
        }
        if (AXES > 2) {
            ec_outer_step(rest, p.d3, p.a3, p.b3, at_a, at_b);
            ec_outer_step(rest, p.d2, p.a2, p.b2, at_a, at_b);
            ec_outer_step(rest, p.d1, p.a1, p.b1, at_a, at_b);
        }
        at_a += rest * (AXES > 2 ? p.a0 : AXES > 1 ? p.a3 : p.a4);
        at_b += rest * (AXES > 2 ? p.b0 : AXES > 1 ? p.b3 : p.b4);
    } else {
        at_a = ROW_A ? first : 0;
        at_b = ROW_B ? first : 0;
    }
    const int8_t *const a = static_cast<const int8_t *>(left) + at_a;
    const int8_t *const b = static_cast<const int8_t *>(right) + at_b;
    int32_t va[VEC], vb[VEC], v[VEC];
    if (ROW_A) {
        ec_load_s8<VEC>(va, a);
    } else {
        va[0] = *a;
    }
    if (ROW_B) {
        ec_load_s8<VEC>(vb, b);
    } else {
        vb[0] = *b;
    }
#pragma unroll
    for (int i = 0; i < VEC; i++) {
        v[i] = ec_binary_s8_step<OP>(p, ROW_A ? va[i] : va[0], ROW_B ? vb[i] : vb[0]);
    }
    ec_store_s8<VEC>(static_cast<int8_t *>(output) + first, v);
}
