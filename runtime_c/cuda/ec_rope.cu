/*
 * ec_rope.cu: op rope, y = ((a cos t - b sin t) * scale, (b cos t + a sin t) * scale) for each channel pair (a, b) of a
 * token, t = position * frequency[r] in fp32; channels beyond the pairs are copied.
 *
 * x, y [batch, first, second, depth] of type T (__half, __nv_bfloat16, float), dense; y may be x. SECOND: the tokens are
 * axis `second`, else `first`. INTERLEAVED: pair r is channels (2 r, 2 r + 1), else (r, r + pairs). position int32
 * [tokens] or [batch, tokens], frequency fp32 [pairs]. One rounding at the end. One pair or one copied channel a thread.
 * No scratch.
 */
#include "ec_cuda.cuh"
#include "ec_rope_params.h"

template <typename T, bool SECOND, bool INTERLEAVED>
__device__ __forceinline__ void ec_rope_body(const ec_rope_params &p, const void *x, const void *position,
                                             const void *frequency, void *y)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x, units = (uint32_t)(p.depth - p.pairs);
    const uint32_t row = i / units, r = i - row * units, images = row / (uint32_t)(p.first * p.second);
    if (images >= (uint32_t)p.batch) {
        return;
    }
    const T *from = (const T *)x + (size_t)row * p.depth;
    T *to = (T *)y + (size_t)row * p.depth;
    if (r >= (uint32_t)p.pairs) {
        to[r + p.pairs] = from[r + p.pairs];
        return;
    }
    const uint32_t token = SECOND ? row % (uint32_t)p.second : row / (uint32_t)p.second % (uint32_t)p.first;
    const int32_t at = ((const int32_t *)position)[images * p.position_batch + token];
    float sine, cosine;
    sincosf((float)at * ((const float *)frequency)[r], &sine, &cosine);
    const uint32_t a = INTERLEAVED ? 2 * r : r, b = INTERLEAVED ? 2 * r + 1 : r + p.pairs;
    const float va = ec_float(from[a]), vb = ec_float(from[b]);
    cosine *= p.scale;
    sine *= p.scale;
    to[a] = ec_element<T>::of(va * cosine - vb * sine);
    to[b] = ec_element<T>::of(vb * cosine + va * sine);
}
