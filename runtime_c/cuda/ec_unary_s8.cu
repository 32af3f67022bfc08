/*
 * Pointwise int8 ops of one operand, and the ways between float and int8.
 *
 *   ec_lut_s8_body:        y[i] = table[x[i] + 128], table int8[256] (edgec/ops/lookup.py)
 *   ec_requantize_s8_body: y = clamp(zero_out + requantize(x - zero_in, multiplier, shift), -128, 127)
 *   ec_prelu_s8_body:      the same, with slope[c] = (multiplier, shift) of channel c = i % channels below zero_in
 *                          (edgec/ops/activation.py)
 *   ec_quantize_s8_body:   t = fl32(x * scale); y = clamp(floor(min(max(t, -1024), 1024) + 0.5) + zero_out, -128, 127);
 *                          NaN becomes zero_out (edgec/ops/cast.py)
 *   ec_dequantize_s8_body: y = fl32(scale * (x - zero_in)), rounded to T where that is a half type
 *
 * size elements, VEC (16, 8, 4, 2 or 1) of them a thread; VEC divides size; x and y aligned to 16 bytes; y may be x in
 * the first three. Grid: threads over vectors. No scratch.
 */
#include "ec_cuda.cuh"
#include "ec_pointwise_s8_params.h"
#include "ec_requant.cuh"

template <int VEC>
__device__ __forceinline__ void ec_lut_s8_body(const ec_unary_s8_params &p, const void *input, const void *table,
                                               void *output)
{
    __shared__ uint32_t words[64];
    ec_launch_next();
    if (threadIdx.x < 64) {
        words[threadIdx.x] = __ldg(static_cast<const uint32_t *>(table) + threadIdx.x);
    }
    __syncthreads();
    ec_wait_previous();
    const int8_t *const entries = reinterpret_cast<const int8_t *>(words) + 128;
    const int first = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (first < p.size) {
        int32_t v[VEC];
        ec_load_s8<VEC>(v, static_cast<const int8_t *>(input) + first);
#pragma unroll
        for (int i = 0; i < VEC; i++) {
            v[i] = entries[v[i]];
        }
        ec_store_s8<VEC>(static_cast<int8_t *>(output) + first, v);
    }
}

template <int VEC>
__device__ __forceinline__ void ec_requantize_s8_body(const ec_unary_s8_params &p, const void *input, void *output)
{
    const int first = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (first < p.size) {
        int32_t v[VEC];
        ec_load_s8<VEC>(v, static_cast<const int8_t *>(input) + first);
#pragma unroll
        for (int i = 0; i < VEC; i++) {
            v[i] = ec_requantize_s8(v[i] - p.zero_in, p.multiplier, p.shift, p.zero_out, -128, 127);
        }
        ec_store_s8<VEC>(static_cast<int8_t *>(output) + first, v);
    }
}

template <int VEC>
__device__ __forceinline__ void ec_prelu_s8_body(const ec_unary_s8_params &p, const void *input, const void *slope,
                                                 void *output)
{
    const int first = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (first < p.size) {
        int32_t v[VEC];
        ec_load_s8<VEC>(v, static_cast<const int8_t *>(input) + first);
        const int channel = first % p.channels;
#pragma unroll
        for (int i = 0; i < VEC; i++) {
            const int32_t value = v[i] - p.zero_in;
            const int c = channel + i;
            const int2 below = __ldg(static_cast<const int2 *>(slope) + (c < p.channels ? c : c % p.channels));
            v[i] = ec_requantize_s8(value, value < 0 ? below.x : p.multiplier, value < 0 ? below.y : p.shift,
                                    p.zero_out, -128, 127);
        }
        ec_store_s8<VEC>(static_cast<int8_t *>(output) + first, v);
    }
}

template <typename T, int VEC>
__device__ __forceinline__ void ec_quantize_s8_body(const ec_unary_s8_params &p, const void *input, void *output)
{
    constexpr int PART = 16 / sizeof(T) < VEC ? 16 / sizeof(T) : VEC;
    const int first = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (first < p.size) {
        int32_t v[VEC];
#pragma unroll
        for (int part = 0; part < VEC / PART; part++) {
            float in[PART];
            ec_load<T, PART>(in, static_cast<const T *>(input) + first + part * PART);
#pragma unroll
            for (int i = 0; i < PART; i++) {
                float t = __fmul_rn(in[i], p.scale);
                t = t != t ? 0.0f : fminf(fmaxf(t, -1024.0f), 1024.0f);
                const int32_t q = __float2int_rd(__fadd_rn(t, 0.5f)) + p.zero_out;
                v[part * PART + i] = ec_clamp(q, -128, 127);
            }
        }
        ec_store_s8<VEC>(static_cast<int8_t *>(output) + first, v);
    }
}

template <typename T, int VEC>
__device__ __forceinline__ void ec_dequantize_s8_body(const ec_unary_s8_params &p, const void *input, void *output)
{
    constexpr int PART = 16 / sizeof(T) < VEC ? 16 / sizeof(T) : VEC;
    const int first = (blockIdx.x * blockDim.x + threadIdx.x) * VEC;
    if (first < p.size) {
        int32_t v[VEC];
        ec_load_s8<VEC>(v, static_cast<const int8_t *>(input) + first);
#pragma unroll
        for (int part = 0; part < VEC / PART; part++) {
            float out[PART];
#pragma unroll
            for (int i = 0; i < PART; i++) {
                out[i] = __fmul_rn((float)(v[part * PART + i] - p.zero_in), p.scale);
            }
            ec_store<T, PART>(static_cast<T *>(output) + first + part * PART, out);
        }
    }
}
