/*
 * ec_depthwise_conv2d.cu: y[n, p, q, c] = clamp(sum_rs x[n, p * stride + r - top, q * stride + s - left, c] *
 * w[r, s, c] + bias[c]), of op conv2d with as many groups as input and output channels and dilation 1.
 *
 * x [batch, in_h, in_w, channels] and y [batch, out_h, out_w, channels] of type T (__half, __nv_bfloat16, float);
 * w fp32 [channel tiles, R * S + 1, CX * V]: the taps of CX * V channels, then their biases, zeros beyond the last
 * channel. channels is a multiple of V; V elements are aligned to their size.
 * Sums in fp32, one rounding at the end, after the epilogue.
 *
 * A thread makes TH rows by TW columns of V channels: it walks down the input rows, AHEAD of which are under way, and
 * adds each to every output row that it reaches. CX neighbouring threads share a strip and differ in channels; the
 * weights of a block's CX * V channels lie in shared memory, loaded before the kernel waits for the one before it.
 * Grid: strips / (threads / CX), channel tiles, batch.
 *
 * ec_depthwise_rows_body, for windows of many taps: the R warps of a block share 32 / CX strips of TW <= R columns, each
 * warp taking one row of the window; their sums meet in shared memory, where warp j finishes column j. Grid: strips /
 * (32 / CX), channel tiles, batch; 32 * R threads. A map at batch 1 is small: one warp a scheduler waits for itself.
 *
 * H200, 2026-11-21, fp16, best tile of a tuning run: 3x3 of 112 x 112 x 32 in 1.82 us (PyTorch 5.54), 14 x 14 x 384 in
 * 1.31 (4.96). 7x7 of 7 x 7 x 768: 2.97 us by one warp for all rows (PyTorch 12.9), 1.77 with rows shared, in ConvNeXt-T;
 * its 15 layers of 56 x 56 to 14 x 14 take 2.64 us on average, 3.6 to 5.0 with one warp for all rows.
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

/* The columns of one input row as they are, those with a bit in `columns`; zeros for the others and outside of the map. */
template <typename T, int V, int COLUMNS>
__device__ __forceinline__ void ec_depthwise_row(ec_vector<T, V> (&to)[COLUMNS], const T *row, uint32_t columns,
                                                 int channels)
{
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
        if (columns >> j & 1) {
            to[j] = *reinterpret_cast<const ec_vector<T, V> *>(row + (ptrdiff_t)j * channels);
        } else {
            to[j] = ec_vector<T, V>{};
        }
    }
}

template <typename T, int R, int S, int STRIDE, int V, int TW, int TH, int CX, typename Epilogue>
__device__ __forceinline__ void ec_depthwise_conv2d_body(const ec_depthwise_conv2d_params &p, const void *x,
                                                         const void *w, void *y, const Epilogue &epilogue)
{
    constexpr int COLUMNS = (TW - 1) * STRIDE + S, ROWS = (TH - 1) * STRIDE + R;
    /* rows that are under way: in 96 registers of half types, 48 of floats, less the sums */
    constexpr int FIT = ((sizeof(T) == 4 ? 192 : 384) - TH * TW * V * 4) / (COLUMNS * V * (int)sizeof(T));
    constexpr int AHEAD = FIT < 1 ? 1 : FIT < ROWS ? FIT : ROWS;
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
    uint32_t columns = 0;
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
        columns |= (left + j >= 0 && left + j < p.in_w ? 1u : 0u) << j;
    }
    const T *from = map + ((ptrdiff_t)top * p.in_w + left) * p.channels;
    const ptrdiff_t pitch = (ptrdiff_t)p.in_w * p.channels;
    ec_vector<T, V> raw[AHEAD][COLUMNS];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        ec_depthwise_row<T, V, COLUMNS>(raw[i], from + i * pitch, top + i >= 0 && top + i < p.in_h ? columns : 0,
                                        p.channels);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
        float row[COLUMNS][V];
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
#pragma unroll
            for (int v = 0; v < V; v++) {
                row[j][v] = ec_float(raw[i % AHEAD][j].at[v]);
            }
        }
        if (i + AHEAD < ROWS) {
            const int next = i + AHEAD;
            ec_depthwise_row<T, V, COLUMNS>(raw[i % AHEAD], from + next * pitch,
                                            top + next >= 0 && top + next < p.in_h ? columns : 0, p.channels);
        }
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

template <typename T, int R, int S, int STRIDE, int V, int TW, int CX, typename Epilogue>
__device__ __forceinline__ void ec_depthwise_rows_body(const ec_depthwise_conv2d_params &p, const void *x, const void *w,
                                                       void *y, const Epilogue &epilogue)
{
    static_assert(TW <= R, "a warp finishes a column");
    constexpr int COLUMNS = (TW - 1) * STRIDE + S;
    __shared__ alignas(16) float weights[R * S + 1][CX * V];
    __shared__ alignas(16) float sums[R][TW][32][V];
    ec_depthwise_weights<(int)sizeof(weights)>(weights[0],
                                               (const char *)w + (size_t)blockIdx.y * sizeof(weights));
    const int thread = (int)threadIdx.x % 32, r = (int)threadIdx.x / 32;
    const int lane = thread % CX * V, c = (int)blockIdx.y * CX * V + lane;
    const int strip = (int)blockIdx.x * (32 / CX) + thread / CX;
    const int row = strip / p.strips_w, q0 = strip % p.strips_w * TW;
    const int in_row = row * STRIDE - p.pad_top + r, left = q0 * STRIDE - p.pad_left;
    const bool mine = strip < p.strips && c < p.channels, inside = mine && in_row >= 0 && in_row < p.in_h;
    const T *from =
        (const T *)x + (((ptrdiff_t)blockIdx.z * p.in_h + in_row) * p.in_w + left) * (ptrdiff_t)p.channels + c;
    ec_wait_previous();
    ec_launch_next();
    ec_vector<T, V> raw[COLUMNS];
#pragma unroll
    for (int j = 0; j < COLUMNS; j++) {
        if (inside && left + j >= 0 && left + j < p.in_w) {
            raw[j] = *reinterpret_cast<const ec_vector<T, V> *>(from + (ptrdiff_t)j * p.channels);
        } else {
            raw[j] = ec_vector<T, V>{};
        }
    }
    ec_copy_wait<0>();
    __syncthreads();
    float acc[TW][V];
#pragma unroll
    for (int j = 0; j < TW; j++) {
#pragma unroll
        for (int v = 0; v < V; v++) {
            acc[j][v] = 0.0f;
        }
    }
#pragma unroll
    for (int s = 0; s < S; s++) {
        float tap[V];
        ec_load<float, V>(tap, &weights[r * S + s][lane]);
#pragma unroll
        for (int j = 0; j < TW; j++) {
#pragma unroll
            for (int v = 0; v < V; v++) {
                acc[j][v] += ec_float(raw[j * STRIDE + s].at[v]) * tap[v];
            }
        }
    }
#pragma unroll
    for (int j = 0; j < TW; j++) {
        ec_store<float, V>(sums[r][j][thread], acc[j]);
    }
    __syncthreads();
    if (!mine || r >= TW || q0 + r >= p.out_w) {
        return;
    }
    float v[V];
    ec_load<float, V>(v, &weights[R * S][lane]);
#pragma unroll
    for (int i = 0; i < R; i++) {
        float part[V];
        ec_load<float, V>(part, sums[i][r][thread]);
#pragma unroll
        for (int k = 0; k < V; k++) {
            v[k] += part[k];
        }
    }
    const size_t at = (((size_t)blockIdx.z * p.out_h + row) * p.out_w + q0 + r) * p.channels + c;
#pragma unroll
    for (int k = 0; k < V; k++) {
        v[k] = fminf(fmaxf(v[k], p.act_min), p.act_max);
    }
    epilogue.template apply<V>(v, at, c);
    ec_store<T, V>((T *)y + at, v);
}
