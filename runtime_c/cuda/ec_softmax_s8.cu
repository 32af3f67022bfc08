/*
 * softmax along one axis, int8:
 *
 *   e(i) = table[max(x) - x[i]],  S = sum e,  y[i] = min(127, floor((256 e(i) + floor(S / 2)) / S) - 128)
 *
 * x, y int8[outer][count][inner]; y may be x. table uint32[256] such that `count` entries add up to at most 2^31 and
 * none exceeds 2^20. LANES threads share a row: 32 where inner is 1, else 1 (neighbouring rows are neighbours in
 * memory). Grid: blocks of 128 threads over rows * LANES. No scratch. Equals softmax.quant of edgec/ops/softmax.py.
 */
#include "ec_cuda.cuh"
#include "ec_norm_s8_params.h"

template <int LANES>
__device__ __forceinline__ void ec_softmax_s8_body(const ec_softmax_s8_params &p, const void *input, const void *table,
                                                   void *output)
{
    __shared__ uint32_t entries[256];
    for (int i = threadIdx.x; i < 256; i += blockDim.x) {
        entries[i] = __ldg(static_cast<const uint32_t *>(table) + i);
    }
    __syncthreads();
    const int row = (blockIdx.x * blockDim.x + threadIdx.x) / LANES, lane = threadIdx.x % LANES;
    if (row >= p.outer * p.inner) {
        return;
    }
    const int block = row / p.inner;
    const size_t first = (size_t)block * p.count * p.inner + (row - block * p.inner);
    const int8_t *const x = static_cast<const int8_t *>(input) + first;
    int8_t *const y = static_cast<int8_t *>(output) + first;
    int32_t most = -128;
    for (int i = lane; i < p.count; i += LANES) {
        most = max(most, (int32_t)x[(size_t)i * p.inner]);
    }
    most = LANES > 1 ? __reduce_max_sync(0xffffffffu, most) : most;
    uint32_t sum = 0;
    for (int i = lane; i < p.count; i += LANES) {
        sum += entries[most - x[(size_t)i * p.inner]];
    }
    sum = LANES > 1 ? __reduce_add_sync(0xffffffffu, sum) : sum;
    for (int i = lane; i < p.count; i += LANES) {
        const uint32_t part = ((entries[most - x[(size_t)i * p.inner]] << 8) + (sum >> 1)) / sum;
        y[(size_t)i * p.inner] = (int8_t)(part > 255 ? 127 : (int32_t)part - 128);
    }
}
