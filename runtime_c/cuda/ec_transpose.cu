/*
 * ec_transpose.cu: y[o, c, r] = x[o, r, c] through tiles in shared memory, of op transpose and what moves like it.
 *
 * Elements of BYTES bytes. x is read along its dense axis (rows r here run over x's dense axis: y_row is its stride in
 * y), y is written along its own (columns: x_column is its stride in x); up to three outer axes of any strides. A block
 * of 256 threads moves a tile of TILE by TILE elements, TILE 64 for 1 and 2 bytes, else 32. Grid: column tiles, row
 * tiles, outer. No scratch.
 *
 * H200, 2026-11-21, fp16, benchmarks/cuda_memory.py: 64 x 256 x 64 x 64 from NCHW to NHWC at 52 % of 4.2 TB/s (PyTorch
 * 16 %).
 */
#include "ec_move.cuh"
#include "ec_move_params.h"

template <int BYTES, int TILE>
__device__ __forceinline__ void ec_transpose_body(const ec_transpose_params &p, const void *x, void *y)
{
    typedef typename ec_unit<BYTES>::type U;
    __shared__ U tile[TILE][TILE + (BYTES < 4 ? 4 / BYTES : 1)];
    const int o = (int)blockIdx.z, o2 = o % p.outer2, o1 = o / p.outer2 % p.outer1, o0 = o / p.outer2 / p.outer1;
    const U *from = (const U *)x + p.offset + o0 * p.x_outer0 + o1 * p.x_outer1 + o2 * p.x_outer2;
    U *to = (U *)y + o0 * p.y_outer0 + o1 * p.y_outer1 + o2 * p.y_outer2;
    const int row0 = (int)blockIdx.y * TILE, column0 = (int)blockIdx.x * TILE;
    const int fast = (int)threadIdx.x % TILE, slow = (int)threadIdx.x / TILE;
#pragma unroll
    for (int k = slow; k < TILE; k += 256 / TILE) {
        if (row0 + fast < p.rows && column0 + k < p.columns) {
            tile[k][fast] = from[(row0 + fast) + (column0 + k) * p.x_column];
        }
    }
    __syncthreads();
#pragma unroll
    for (int k = slow; k < TILE; k += 256 / TILE) {
        if (row0 + k < p.rows && column0 + fast < p.columns) {
            to[(row0 + k) * p.y_row + (column0 + fast)] = tile[fast][k];
        }
    }
}
