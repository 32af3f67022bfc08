/*
 * ec_gemv.cu: y[m,n] = epilogue(clamp(sum_k x[m,k] w[n,k] + bias[n])) for a few rows m and very many n, where the time is
 * that of reading w: a language model's head. fp16 and bf16, sums in fp32.
 *
 * x [ROWS, K], w [N, K] as it stands, bias float [N], y [ROWS, N]; K is a multiple of 8. A warp makes OUTPUTS
 * neighbouring outputs at a time, K spread over its lanes by eight, and asks for UNROLL * OUTPUTS vectors of weights
 * before it uses the first; the first of them before the previous kernel has ended. x stands in shared memory, 2 ROWS K
 * bytes. Blocks stride over the outputs. No scratch.
 */
#include "ec_cuda.cuh"
#include "ec_gemm_params.h"

extern __shared__ __align__(16) unsigned char ec_gemv_x[];

/* Vectors of weights of OUTPUTS rows from step `step` on; zeros behind the last channel and for the last row again. */
template <int OUTPUTS, int UNROLL>
__device__ __forceinline__ void ec_gemv_load(uint4 (&w)[UNROLL][OUTPUTS], const uint4 *from, int n, int step,
                                             const ec_gemm_params &p)
{
    const int vectors = p.k / 8;
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const int at = (step + u) * 32 + (int)(threadIdx.x & 31);
#pragma unroll
        for (int o = 0; o < OUTPUTS; o++) {
            w[u][o] = at < vectors ? __ldcs(from + (size_t)min(n + o, p.n - 1) * vectors + at)
                                   : make_uint4(0, 0, 0, 0);
        }
    }
}

template <typename T, int ROWS, int OUTPUTS, int UNROLL>
__device__ __forceinline__ void ec_gemv_add(float (&sums)[ROWS][OUTPUTS], const uint4 (&w)[UNROLL][OUTPUTS], int step,
                                            int k)
{
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const int at = (step + u) * 32 + (int)(threadIdx.x & 31);
        if (at * 8 < k) {
            float x[ROWS][8];
#pragma unroll
            for (int m = 0; m < ROWS; m++) {
                ec_load<T, 8>(x[m], (const T *)ec_gemv_x + (size_t)m * k + at * 8);
            }
#pragma unroll
            for (int o = 0; o < OUTPUTS; o++) {
                const ec_vector<T, 8> v = *reinterpret_cast<const ec_vector<T, 8> *>(&w[u][o]);
#pragma unroll
                for (int e = 0; e < 8; e++) {
#pragma unroll
                    for (int m = 0; m < ROWS; m++) {
                        sums[m][o] = fmaf(x[m][e], ec_float(v.at[e]), sums[m][o]);
                    }
                }
            }
        }
    }
}

template <typename T, int ROWS, int OUTPUTS, int UNROLL, typename EPILOGUE>
__device__ __forceinline__ void ec_gemv_body(const ec_gemm_params &p, const void *x, const void *w, const void *bias,
                                             void *y, const EPILOGUE &epilogue)
{
    const int lane = threadIdx.x & 31, warps = (int)(gridDim.x * (blockDim.x >> 5));
    const int warp = (int)(blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)), steps = (p.k + 255) / 256;
    uint4 ahead[UNROLL][OUTPUTS];
    ec_launch_next();
    ec_gemv_load(ahead, (const uint4 *)w, warp * OUTPUTS, 0, p);
    ec_wait_previous();
    for (int i = threadIdx.x; i < ROWS * p.k / 8; i += blockDim.x) {
        ((uint4 *)ec_gemv_x)[i] = __ldcg((const uint4 *)x + i);
    }
    __syncthreads();
    for (int n = warp * OUTPUTS; n < p.n; n += warps * OUTPUTS) {
        float sums[ROWS][OUTPUTS] = {};
        for (int step = 0; step < steps; step += UNROLL) {
            if (step > 0 || n != warp * OUTPUTS) {
                ec_gemv_load(ahead, (const uint4 *)w, n, step, p);
            }
            ec_gemv_add<T>(sums, ahead, step, p.k);
        }
#pragma unroll
        for (int m = 0; m < ROWS; m++) {
#pragma unroll
            for (int o = 0; o < OUTPUTS; o++) {
                float v[1] = {ec_warp_sum(sums[m][o])};
                if (lane == m * OUTPUTS + o && n + o < p.n) {
                    const size_t index = (size_t)m * p.n + n + o;
                    v[0] = fminf(fmaxf(v[0] + ((const float *)bias)[n + o], p.act_min), p.act_max);
                    epilogue.template apply<1>(v, index, n + o);
                    ((T *)y)[index] = ec_element<T>::of(v[0]);
                }
            }
        }
    }
}
