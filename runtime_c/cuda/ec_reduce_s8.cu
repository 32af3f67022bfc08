/*
 * Sum, mean, maximum and minimum over axes, int8.
 *
 *   sum, mean: y = clamp(zero_out + requantize(sum (x - zero_in), multiplier, shift), -128, 127)
 *   maximum, minimum: of the elements, same scale and zero
 *
 * x int8 by its steps, y int8[kept0][kept1][kept2], other memory than x; at most three kept and three reduced axes; the
 * sum stays in int32. OP: 0 sum and mean, 1 maximum, 2 minimum. LANES: threads that share an output, 32, or 1 where
 * neighbouring outputs are neighbours in x. Grid: blocks of 128 threads over outputs * LANES. No scratch. Equals the
 * ops' quant in edgec/ops/reduce.py.
 */
#include "ec_cuda.cuh"
#include "ec_pointwise_s8_params.h"
#include "ec_requant.cuh"

template <int OP, int LANES>
__device__ __forceinline__ void ec_reduce_s8_body(const ec_reduce_cuda_s8_params &p, const void *input, void *output)
{
    const int index = (blockIdx.x * blockDim.x + threadIdx.x) / LANES, lane = threadIdx.x % LANES;
    if (index >= p.kept0 * p.kept1 * p.kept2) {
        return;
    }
    const int line = index / p.kept2, k2 = index - line * p.kept2, k0 = line / p.kept1, k1 = line - k0 * p.kept1;
    const int8_t *const x = static_cast<const int8_t *>(input) + (size_t)k0 * p.kept_stride0 +
                            (size_t)k1 * p.kept_stride1 + (size_t)k2 * p.kept_stride2;
    const int elements = p.size0 * p.size1 * p.size2;
    int32_t acc = OP == 0 ? 0 : OP == 1 ? -128 : 127;
    for (int i = lane; i < elements; i += LANES) {
        const int row = i / p.size2, i2 = i - row * p.size2, i0 = row / p.size1, i1 = row - i0 * p.size1;
        const int32_t value = x[(size_t)i0 * p.stride0 + (size_t)i1 * p.stride1 + (size_t)i2 * p.stride2];
        acc = OP == 0 ? acc + value - p.zero_in : OP == 1 ? max(acc, value) : min(acc, value);
    }
    if (LANES > 1) {
        acc = OP == 0   ? __reduce_add_sync(0xffffffffu, acc)
              : OP == 1 ? __reduce_max_sync(0xffffffffu, acc)
                        : __reduce_min_sync(0xffffffffu, acc);
    }
    if (lane == 0) {
        const int32_t v = OP == 0 ? ec_requantize_s8(acc, p.multiplier, p.shift, p.zero_out, -128, 127) : acc;
        static_cast<int8_t *>(output)[index] = (int8_t)v;
    }
}
