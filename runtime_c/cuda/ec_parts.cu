/*
 * ec_parts.cu: concat of up to eight tensors along an axis, and split into up to four.
 *
 * The joined tensor is [outer, size_1] units of BYTES bytes; part k holds units end_(k-1) .. end_k - 1 of each run, and
 * is dense itself. One unit of the joined tensor a thread. No scratch. Pointers beyond the last part are not used.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: four maps of 56 x 56 x 64 in 1.28 us (PyTorch 1.98).
 */
#include "ec_move.cuh"
#include "ec_move_params.h"

/* Where a unit of the joined tensor stands: in which part, and there. */
struct ec_part {
    int part;
    size_t at;
    template <int PARTS> static __device__ __forceinline__ ec_part of(uint32_t i, const ec_parts_cuda_params &p)
    {
        const uint32_t ends[8] = {p.end_0, p.end_1, p.end_2, p.end_3, p.end_4, p.end_5, p.end_6, p.end_7};
        const uint32_t outer = ec_divide(i, p.magic_1, p.shift_1), place = i - outer * p.size_1;
        uint32_t begin = 0, end = ends[0];
        ec_part found;
        found.part = 0;
#pragma unroll
        for (int k = 1; k < PARTS; k++) {
            if (place >= ends[k - 1]) {
                found.part = k;
                begin = ends[k - 1];
                end = ends[k];
            }
        }
        found.at = (size_t)outer * (end - begin) + (place - begin);
        return found;
    }
};

template <typename U, int PARTS>
__device__ __forceinline__ void ec_concat(const ec_parts_cuda_params &p, const void *const (&xs)[PARTS], void *y)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.total) {
        return;
    }
    const ec_part from = ec_part::of<PARTS>(i, p);
    const U *x = (const U *)xs[0];
#pragma unroll
    for (int k = 1; k < PARTS; k++) {
        x = from.part == k ? (const U *)xs[k] : x;
    }
    ((U *)y)[i] = x[from.at];
}

template <int BYTES>
__device__ __forceinline__ void ec_concat2_body(const ec_parts_cuda_params &p, const void *x0, const void *x1, void *y)
{
    const void *const xs[2] = {x0, x1};
    ec_concat<typename ec_unit<BYTES>::type, 2>(p, xs, y);
}

template <int BYTES>
__device__ __forceinline__ void ec_concat4_body(const ec_parts_cuda_params &p, const void *x0, const void *x1,
                                                const void *x2, const void *x3, void *y)
{
    const void *const xs[4] = {x0, x1, x2, x3};
    ec_concat<typename ec_unit<BYTES>::type, 4>(p, xs, y);
}

template <int BYTES>
__device__ __forceinline__ void ec_concat8_body(const ec_parts_cuda_params &p, const void *x0, const void *x1,
                                                const void *x2, const void *x3, const void *x4, const void *x5,
                                                const void *x6, const void *x7, void *y)
{
    const void *const xs[8] = {x0, x1, x2, x3, x4, x5, x6, x7};
    ec_concat<typename ec_unit<BYTES>::type, 8>(p, xs, y);
}

template <typename U, int PARTS>
__device__ __forceinline__ void ec_split(const ec_parts_cuda_params &p, const void *x, void *const (&ys)[PARTS])
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.total) {
        return;
    }
    const ec_part to = ec_part::of<PARTS>(i, p);
    U *y = (U *)ys[0];
#pragma unroll
    for (int k = 1; k < PARTS; k++) {
        y = to.part == k ? (U *)ys[k] : y;
    }
    y[to.at] = ((const U *)x)[i];
}

template <int BYTES>
__device__ __forceinline__ void ec_split2_body(const ec_parts_cuda_params &p, const void *x, void *y0, void *y1)
{
    void *const ys[2] = {y0, y1};
    ec_split<typename ec_unit<BYTES>::type, 2>(p, x, ys);
}

template <int BYTES>
__device__ __forceinline__ void ec_split3_body(const ec_parts_cuda_params &p, const void *x, void *y0, void *y1,
                                               void *y2)
{
    void *const ys[3] = {y0, y1, y2};
    ec_split<typename ec_unit<BYTES>::type, 3>(p, x, ys);
}

template <int BYTES>
__device__ __forceinline__ void ec_split4_body(const ec_parts_cuda_params &p, const void *x, void *y0, void *y1,
                                               void *y2, void *y3)
{
    void *const ys[4] = {y0, y1, y2, y3};
    ec_split<typename ec_unit<BYTES>::type, 4>(p, x, ys);
}
