/*
 * ec_linear_plain.cu: y[m, n] = clamp(sum_k x[m, k] * w[n, k] + bias[n]), of op linear.
 *
 * Any sizes and alignments: the reference that the faster kernels are held against, and what serves shapes that they
 * refuse. T: __half, __nv_bfloat16 or float; sums in fp32, the result rounded once. x [rows, in_c], w [out_c, in_c],
 * bias [out_c], y [rows, out_c], all dense. One warp an output.
 */
#include "ec_cuda.cuh"
#include "ec_linear_plain_params.h"

template <typename T, typename Epilogue>
__device__ __forceinline__ void ec_linear_plain_body(const ec_linear_plain_params &p, const void *x,
                                                     const void *w, const void *bias, void *y,
                                                     const Epilogue &epilogue)
{
    const int warp = (int)((blockIdx.x * blockDim.x + threadIdx.x) / 32u);
    const int lane = (int)(threadIdx.x % 32u);
    if (warp >= p.rows * p.out_c) {
        return;
    }
    const int m = warp / p.out_c, n = warp % p.out_c;
    const T *row = (const T *)x + (size_t)m * p.in_c;
    const T *column = (const T *)w + (size_t)n * p.in_c;
    float sum = 0.0f;
    for (int k = lane; k < p.in_c; k += 32) {
        sum += ec_float(row[k]) * ec_float(column[k]);
    }
    float v[1] = {ec_warp_sum(sum) + ec_float(((const T *)bias)[n])};
    v[0] = fminf(fmaxf(v[0], p.act_min), p.act_max);
    epilogue.template apply<1>(v, (size_t)warp, n);
    if (lane == 0) {
        ((T *)y)[warp] = ec_element<T>::of(v[0]);
    }
}
