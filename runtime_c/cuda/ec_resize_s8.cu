/*
 * resize bilinear, int8:
 *
 *   a(h)     = x[h,v0,c] * (2^11 - v) + x[h,v1,c] * v         for columns[q] = (v0, v1, v)
 *   y[p,q,c] = floor((a(h0) * (2^11 - u) + a(h1) * u + 2^21) / 2^22)  for rows[p] = (h0, h1, u)
 *
 * x int8[N][H][W][C], rows uint16[P][3], columns uint16[Q][3], y int8[N][P][Q][C] with x's scale and zero. VEC (16, 8,
 * 4, 2 or 1) divides C; x and y aligned to 16 bytes. Grid: threads over channels (fastest) and outputs. No scratch.
 * One rounding. Equals resize.quant of edgec/ops/resize.py.
 */
#include "ec_cuda.cuh"
#include "ec_pool2d_s8_params.h"
#include "ec_requant.cuh"

template <int VEC>
__device__ __forceinline__ void ec_resize_bilinear_s8_body(const ec_resize_s8_params &p, const void *input,
                                                           const void *rows, const void *columns, void *output)
{
    const int vectors = p.channels / VEC, index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= vectors * p.batch * p.out_h * p.out_w) {
        return;
    }
    const int vector = index % vectors, pixel = index / vectors;
    const int column = pixel % p.out_w, line = pixel / p.out_w, row = line % p.out_h, image = line / p.out_h;
    const uint16_t *const down = static_cast<const uint16_t *>(rows) + 3 * row;
    const uint16_t *const right = static_cast<const uint16_t *>(columns) + 3 * column;
    const int8_t *const x = static_cast<const int8_t *>(input) + vector * VEC;
    const int above = (image * p.in_h + down[0]) * p.in_w, below = (image * p.in_h + down[1]) * p.in_w;
    const int32_t u = down[2], v = right[2];
    int32_t corners[4][VEC], out[VEC];
    ec_load_s8<VEC>(corners[0], x + (size_t)(above + right[0]) * p.channels);
    ec_load_s8<VEC>(corners[1], x + (size_t)(above + right[1]) * p.channels);
    ec_load_s8<VEC>(corners[2], x + (size_t)(below + right[0]) * p.channels);
    ec_load_s8<VEC>(corners[3], x + (size_t)(below + right[1]) * p.channels);
#pragma unroll
    for (int i = 0; i < VEC; i++) {
        const int32_t top = corners[0][i] * (2048 - v) + corners[1][i] * v;
        const int32_t bottom = corners[2][i] * (2048 - v) + corners[3][i] * v;
        out[i] = (top * (2048 - u) + bottom * u + (1 << 21)) >> 22;
    }
    ec_store_s8<VEC>(static_cast<int8_t *>(output) + (size_t)pixel * p.channels + vector * VEC, out);
}
