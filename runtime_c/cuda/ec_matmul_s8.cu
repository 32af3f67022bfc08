/*
 * matmul of two activations, int8, leading axes broadcast.
 *
 *   acc[..,i,j] = sum_k (a[..,i,k] - zero_a) (b[..,k,j] - zero_b)
 *   y[..,i,j]   = clamp(zero_out + requantize(acc, multiplier, shift), -128, 127)
 *
 * a int8[..][M][K]; b by its steps b_k and b_n, one of which is 1; y int8[n0][n1][n2][M][N]; K <= 32896, so that no
 * sum leaves int32; no alignment asked. A block makes 32 x 64 outputs from tiles in shared memory, b turned so that
 * four of k share a word: dp4a, and one more for the sum of each row and column, since acc = sum a b - zero_b sum a -
 * zero_a sum b + K zero_a zero_b. Grid: (N / 64, M / 32, n0 n1 n2) of 128 threads. No scratch. One rounding. Equals
 * matmul.quant of edgec/ops/linear.py.
 */
#include "ec_conv2d_s8_params.h"
#include "ec_cuda.cuh"
#include "ec_requant.cuh"

#define EC_MATMUL_K 64 /* of a tile */
#define EC_MATMUL_PITCH (EC_MATMUL_K / 4 + 1)

/* Whether b's rows are k (b_n is 1), or columns. */
template <bool ROWS_K>
__device__ __forceinline__ void ec_matmul_s8_body(const ec_matmul_s8_params &p, const void *left, const void *right,
                                                  void *output)
{
    __shared__ uint32_t tile_a[32][EC_MATMUL_PITCH], tile_b[64][EC_MATMUL_PITCH];
    const int row0 = blockIdx.y * 32, column0 = blockIdx.x * 64, batch = blockIdx.z;
    const int i2 = batch % p.n2, rest = batch / p.n2, i1 = rest % p.n1, i0 = rest / p.n1;
    const int8_t *const a = static_cast<const int8_t *>(left) + (size_t)i0 * p.a_0 + (size_t)i1 * p.a_1 +
                            (size_t)i2 * p.a_2;
    const int8_t *const b = static_cast<const int8_t *>(right) + (size_t)i0 * p.b_0 + (size_t)i1 * p.b_1 +
                            (size_t)i2 * p.b_2;
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16;
    int32_t acc[4][4] = {}, sum_a[4] = {}, sum_b[4] = {};
    for (int k0 = 0; k0 < p.k; k0 += EC_MATMUL_K) {
        __syncthreads();
        for (int i = threadIdx.x; i < 32 * EC_MATMUL_K; i += 128) {
            const int m = i / EC_MATMUL_K, k = i % EC_MATMUL_K;
            const bool real = row0 + m < p.m && k0 + k < p.k;
            reinterpret_cast<int8_t *>(tile_a[m])[k] = real ? a[(size_t)(row0 + m) * p.k + k0 + k] : 0;
        }
        for (int i = threadIdx.x; i < 64 * EC_MATMUL_K; i += 128) {
            const int n = ROWS_K ? i % 64 : i / EC_MATMUL_K, k = ROWS_K ? i / 64 : i % EC_MATMUL_K;
            const bool real = column0 + n < p.n && k0 + k < p.k;
            const size_t at = (size_t)(k0 + k) * p.b_k + (size_t)(column0 + n) * p.b_n;
            reinterpret_cast<int8_t *>(tile_b[n])[k] = real ? b[at] : 0;
        }
        __syncthreads();
#pragma unroll 4
        for (int word = 0; word < EC_MATMUL_K / 4; word++) {
            int32_t wa[4], wb[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                wa[i] = (int32_t)tile_a[row + i][word];
                wb[i] = (int32_t)tile_b[column + 16 * i][word];
                sum_a[i] = __dp4a(wa[i], 0x01010101, sum_a[i]);
                sum_b[i] = __dp4a(wb[i], 0x01010101, sum_b[i]);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    acc[i][j] = __dp4a(wa[i], wb[j], acc[i][j]);
                }
            }
        }
    }
    int8_t *const y = static_cast<int8_t *>(output) + (size_t)batch * p.m * p.n;
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int m = row0 + row + i, n = column0 + column + 16 * j;
            if (m < p.m && n < p.n) {
                const int32_t sum = acc[i][j] - p.zero_b * sum_a[i] - p.zero_a * sum_b[j] + p.k * p.zero_a * p.zero_b;
                y[(size_t)m * p.n + n] =
                    (int8_t)ec_requantize_s8(sum, p.multiplier, p.shift, p.zero_out, -128, 127);
            }
        }
    }
}
