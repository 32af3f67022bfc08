/*
 * where and masked_fill, int8 of one scale and zero:
 *
 *   where:       y = c ? a : b
 *   masked_fill: y = c ? value : a, value the quantised constant in the params
 *
 * c bytes (0: false), a, b, y int8; each operand has its steps along the six merged axes of the output, 0 where it
 * repeats; other memory than y, or an operand of its size. A thread makes one element. Grid: blocks of 128 threads over
 * the output. No alignment asked; no scratch. Equals the ops' quant in edgec/ops/select.py.
 */
#include "ec_cuda.cuh"
#include "ec_pointwise_s8_params.h"

/* Where the operands' elements of output element `index` stand. */
__device__ __forceinline__ void ec_select_place(const ec_select_s8_params &p, int32_t index, int32_t (&at)[3])
{
    const int32_t sizes[6] = {p.d0, p.d1, p.d2, p.d3, p.d4, p.d5};
    const int32_t steps[3][6] = {{p.c0, p.c1, p.c2, p.c3, p.c4, p.c5},
                                 {p.a0, p.a1, p.a2, p.a3, p.a4, p.a5},
                                 {p.b0, p.b1, p.b2, p.b3, p.b4, p.b5}};
#pragma unroll
    for (int axis = 5; axis >= 0; axis--) {
        const int32_t rest = index / sizes[axis], place = index - rest * sizes[axis];
#pragma unroll
        for (int k = 0; k < 3; k++) {
            at[k] += place * steps[k][axis];
        }
        index = rest;
    }
}

__device__ __forceinline__ void ec_where_s8_body(const ec_select_s8_params &p, const void *condition, const void *a,
                                                 const void *b, void *y)
{
    const int32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < p.size) {
        int32_t at[3] = {};
        ec_select_place(p, index, at);
        const bool first = static_cast<const uint8_t *>(condition)[at[0]] != 0;
        static_cast<int8_t *>(y)[index] =
            first ? static_cast<const int8_t *>(a)[at[1]] : static_cast<const int8_t *>(b)[at[2]];
    }
}

__device__ __forceinline__ void ec_masked_fill_s8_body(const ec_select_s8_params &p, const void *a,
                                                       const void *condition, void *y)
{
    const int32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index < p.size) {
        int32_t at[3] = {};
        ec_select_place(p, index, at);
        const bool filled = static_cast<const uint8_t *>(condition)[at[0]] != 0;
        static_cast<int8_t *>(y)[index] = filled ? (int8_t)p.value : static_cast<const int8_t *>(a)[at[1]];
    }
}
