/*
 * ec_index.cu: ops that read or write at indices: index_select, embedding, index_copy, gather, scatter, scatter_add.
 *
 * Indices of type I (int32_t, int64_t); a negative one counts from the end, what then lies outside of the axis is taken
 * as the nearest element. Tensors are dense.
 *
 * ec_index_select_body: y[o, k, u] = x[o, index[k], u], `count` indices, elements of size_1 units of BYTES bytes.
 * ec_index_copy_body: y = x, then y[o, index[k], u] = source[o, k, u]. y may be x: then only the named elements are
 * touched. Else the units that no index names are copied here, so that no thread waits for another. Of equal indices the
 * last counts. Grid: enough threads for `total` units; they stride over the `whole`.
 * ec_gather_body: y[i] = x at the same place, along the axis at index[i]; up to four merged axes with strides of x.
 * ec_whole_body, then ec_scatter_body / ec_scatter_add_body: y = x (nothing where y is x), then y at the index = source,
 * or += source, summed in float. Of equal indices the last counts, or all do, in their order, as the op says: each
 * thread looks through the axis_count indices along its axis, axis_inner apart, and one of those with equal ones writes.
 */
#include "ec_move.cuh"
#include "ec_move_params.h"

template <typename I> __device__ __forceinline__ int32_t ec_resolved(const void *index, uint32_t k, int32_t size)
{
    const I i = ((const I *)index)[k];
    const I from = i < 0 ? i + (I)size : i;
    return from < 0 ? 0 : from >= (I)size ? size - 1 : (int32_t)from;
}

/* Of the indices at `k` + step, + 2 step, ... before `end`: where the first stands that names the element of the one at
 * `k`; `end` or more where none does. */
template <typename I>
__device__ __forceinline__ uint32_t ec_next_equal(const void *index, uint32_t k, uint32_t end, uint32_t step, int32_t size)
{
    const int32_t mine = ec_resolved<I>(index, k, size);
    uint32_t next = k + step;
    while (next < end && ec_resolved<I>(index, next, size) != mine) {
        next += step;
    }
    return next;
}

/* Unit `i` of the named elements: its index k, and where it stands in a tensor with axis_size of them. */
template <typename I>
__device__ __forceinline__ size_t ec_named(uint32_t i, const void *index, const ec_slices_cuda_params &p)
{
    const uint32_t slice = ec_divide(i, p.magic_1, p.shift_1), unit = i - slice * p.size_1;
    const uint32_t outer = ec_divide(slice, p.magic_2, p.shift_2), k = slice - outer * (uint32_t)p.count;
    return ((size_t)outer * p.axis_size + ec_resolved<I>(index, k, p.axis_size)) * p.size_1 + unit;
}

template <int BYTES, typename I>
__device__ __forceinline__ void ec_index_select_body(const ec_slices_cuda_params &p, const void *x, const void *index,
                                                     void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.total) {
        ((U *)y)[i] = ((const U *)x)[ec_named<I>(i, index, p)];
    }
}

template <int BYTES, typename I>
__device__ __forceinline__ void ec_index_copy_body(const ec_slices_cuda_params &p, const void *x, const void *index,
                                                   const void *source, void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.total) {
        const uint32_t k = ec_divide(i, p.magic_1, p.shift_1) % (uint32_t)p.count;
        if (ec_next_equal<I>(index, k, (uint32_t)p.count, 1, p.axis_size) == (uint32_t)p.count) {
            ((U *)y)[ec_named<I>(i, index, p)] = ((const U *)source)[i];
        }
    }
    if (x == y) {
        return;
    }
    for (uint32_t at = i; at < p.whole; at += gridDim.x * blockDim.x) {
        const int32_t element = (int32_t)(ec_divide(at, p.magic_1, p.shift_1) % (uint32_t)p.axis_size);
        bool named = false;
        for (int32_t k = 0; k < p.count; k++) {
            named = named || ec_resolved<I>(index, k, p.axis_size) == element;
        }
        if (!named) {
            ((U *)y)[at] = ((const U *)x)[at];
        }
    }
}

/* Element `i` of the index: where x has the element at the same place, along the axis at the index. */
template <typename I>
__device__ __forceinline__ size_t ec_gathered(uint32_t i, const void *index, const ec_gather_cuda_params &p)
{
    const uint32_t q3 = ec_divide(i, p.magic_3, p.shift_3), q2 = ec_divide(q3, p.magic_2, p.shift_2);
    const uint32_t q1 = ec_divide(q2, p.magic_1, p.shift_1);
    const int64_t place = (i - q3 * p.size_3) * p.stride_3 + (q3 - q2 * p.size_2) * p.stride_2 +
                          (q2 - q1 * p.size_1) * p.stride_1 + q1 * p.stride_0;
    return (size_t)(place + ec_resolved<I>(index, i, p.axis_size) * p.axis_stride);
}

template <int BYTES, typename I>
__device__ __forceinline__ void ec_gather_body(const ec_gather_cuda_params &p, const void *x, const void *index, void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.total) {
        ((U *)y)[i] = ((const U *)x)[ec_gathered<I>(i, index, p)];
    }
}

template <int BYTES>
__device__ __forceinline__ void ec_whole_body(const ec_gather_cuda_params &p, const void *x, const void *index,
                                              const void *source, void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (x != y && i < p.whole) {
        ((U *)y)[i] = ((const U *)x)[i];
    }
}

/* Beyond the last of the indices that lie along the axis with the one at `i`, counted from that on in steps of inner. */
__device__ __forceinline__ uint32_t ec_axis_end(uint32_t i, const ec_gather_cuda_params &p)
{
    const uint32_t k = i / p.axis_inner % p.axis_count;
    return i + (p.axis_count - k) * p.axis_inner;
}

template <int BYTES, typename I>
__device__ __forceinline__ void ec_scatter_body(const ec_gather_cuda_params &p, const void *x, const void *index,
                                                const void *source, void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.total) {
        const uint32_t end = ec_axis_end(i, p);
        if (ec_next_equal<I>(index, i, end, p.axis_inner, p.axis_size) >= end) {
            ((U *)y)[ec_gathered<I>(i, index, p)] = ((const U *)source)[i];
        }
    }
}

template <typename T, typename I>
__device__ __forceinline__ void ec_scatter_add_body(const ec_gather_cuda_params &p, const void *x, const void *index,
                                                    const void *source, void *y)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= p.total) {
        return;
    }
    const uint32_t end = ec_axis_end(i, p), first = end - p.axis_count * p.axis_inner;
    const int32_t mine = ec_resolved<I>(index, i, p.axis_size);
    for (uint32_t before = first; before < i; before += p.axis_inner) {
        if (ec_resolved<I>(index, before, p.axis_size) == mine) {
            return; /* an earlier thread adds this source too */
        }
    }
    T *to = (T *)y + ec_gathered<I>(i, index, p);
    float sum = ec_float(*to);
    for (uint32_t at = i; at < end; at = ec_next_equal<I>(index, at, end, p.axis_inner, p.axis_size)) {
        sum += ec_float(((const T *)source)[at]);
    }
    *to = ec_element<T>::of(sum);
}
