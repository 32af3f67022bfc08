/*
 * ec_depthwise_conv2d.cu: y[n, p, q, c] = clamp(sum_rs x[n, p * stride + r - top, q * stride + s - left, c] *
 * w[r, s, c] + bias[c]), of op conv2d with as many groups as input and output channels and dilation 1.
 *
 * x [batch, in_h, in_w, channels] and y [batch, out_h, out_w, channels] of type T (__half, __nv_bfloat16, float);
 * w fp32 [channel tiles, R * S + 1, CX * V]: the taps of CX * V channels, then their biases, zeros beyond the last
 * channel. channels is a multiple of V; V elements are aligned to their size.
 * Sums in fp32, one rounding at the end, after the epilogue.
 *
 * A thread makes TH rows by TW columns of V channels: it walks down the input rows, holds one of them in registers and
 * adds it to every output row that it reaches. CX neighbouring threads share a strip and differ in channels; the
 * weights of a block's CX * V channels lie in shared memory, loaded before the kernel waits for the one before it.
 * Grid: strips / (threads / CX), channel tiles, batch.
 */
#include "ec_cuda.cuh"
#include "ec_depthwise_conv2d_params.h"

/* BYTES of weights and biases, a multiple of 16, into shared memory; all copies are under way at once. */
template <int BYTES> __device__ __forceinline__ void ec_depthwise_weights(float *to, const void *from)
{
    for (int i = (int)threadIdx.x * 16; i < BYTES; i += (int)blockDim.x * 16) {
        ec_copy_async16((char *)to + i, (const char *)from + i, true);
    }
    ec_copy_commit();
}

/* Columns `left`.. of one input row as floats; zeros outside of the map. */
template <typename T, int V, int COLUMNS>
__device__ __forceinline__ void ec_depthwise_row(float (&to)[COLUMNS][V], const T *row, bool inside, int left,
                                                 const ec_depthwise_conv2d_params &p)
{
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
        if (inside && left + j >= 0 && left + j < p.in_w) {
            ec_load<T, V>(to[j], row + (ptrdiff_t)(left + j) * p.channels);
        } else {
#pragma unroll
            for (int v = 0; v < V; v++) {
                to[j][v] = 0.0f;
            }
        }
    }
}

template <typename T, int R, int S, int STRIDE, int V, int TW, int TH, int CX, typename Epilogue>
__device__ __forceinline__ void ec_depthwise_conv2d_body(const ec_depthwise_conv2d_params &p, const void *x,
                                                         const void *w, void *y, const Epilogue &epilogue)
{
    constexpr int COLUMNS = (TW - 1) * STRIDE + S;
    __shared__ alignas(16) float weights[R * S + 1][CX * V];
    ec_depthwise_weights<(int)sizeof(weights)>(weights[0],
                                               (const char *)w + (size_t)blockIdx.y * sizeof(weights));
    ec_wait_previous();
    ec_launch_next();
    ec_copy_wait<0>();
    __syncthreads();
    const int lane = (int)threadIdx.x % CX * V, c = (int)blockIdx.y * CX * V + lane;
    const int strip = (int)(blockIdx.x * (blockDim.x / CX) + threadIdx.x / CX);
    if (strip >= p.strips || c >= p.channels) {
        return;
    }
    const int p0 = strip / p.strips_w * TH, q0 = strip % p.strips_w * TW;
    const int top = p0 * STRIDE - p.pad_top, left = q0 * STRIDE - p.pad_left;
    const T *map = (const T *)x + (size_t)blockIdx.z * p.in_h * p.in_w * p.channels + c;
    float acc[TH][TW][V];
#pragma unroll
    for (int h = 0; h < TH; h++) {
#pragma unroll
        for (int j = 0; j < TW; j++) {
            ec_load<float, V>(acc[h][j], &weights[R * S][lane]);
        }
    }
#pragma unroll(R > 5 ? 2 : 8)
    for (int i = 0; i < (TH - 1) * STRIDE + R; i++) {
        float row[COLUMNS][V];
        ec_depthwise_row<T, V, COLUMNS>(row, map + (ptrdiff_t)(top + i) * p.in_w * p.channels,
                                        top + i >= 0 && top + i < p.in_h, left, p);
#pragma unroll
        for (int h = 0; h < TH; h++) {
            const int r = i - h * STRIDE;
            if (r < 0 || r >= R) {
                continue;
            }
#pragma unroll
            for (int s = 0; s < S; s++) {
                float tap[V];
                ec_load<float, V>(tap, &weights[r * S + s][lane]);
#pragma unroll
                for (int j = 0; j < TW; j++) {
#pragma unroll
                    for (int v = 0; v < V; v++) {
                        acc[h][j][v] += row[j * STRIDE + s][v] * tap[v];
                    }
                }
            }
        }
    }
#pragma unroll
    for (int h = 0; h < TH; h++) {
#pragma unroll
        for (int j = 0; j < TW; j++) {
            if (p0 + h < p.out_h && q0 + j < p.out_w) {
                const size_t at = (((size_t)blockIdx.z * p.out_h + p0 + h) * p.out_w + q0 + j) * p.channels + c;
#pragma unroll
                for (int v = 0; v < V; v++) {
                    acc[h][j][v] = fminf(fmaxf(acc[h][j][v], p.act_min), p.act_max);
                }
                epilogue.template apply<V>(acc[h][j], at, c);
                ec_store<T, V>((T *)y + at, acc[h][j]);
            }
        }
    }
}
