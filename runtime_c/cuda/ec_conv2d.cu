/*
 * ec_conv2d.cu: convolutions, transposed convolutions, linear layers and matrix products by tensor cores (half types)
 * or plain float.
 *
 *     y[n,p,q,o] = epilogue(clamp(b[o] + sum_{r,s,c} x[n, p stride + r dilation - pad, ..., c] w[o,r,s,c]))
 *
 * x NHWC, w OHWI flattened to [o, k] with rows pitch_b apart (a multiple of 16 bytes), b float[o], y NHWC.
 * Sums are float; the result is rounded once, after the epilogue. ALIGNED: c is a multiple of 16 bytes. HELD: w is
 * a constant, and is asked for before the previous kernel has ended. Scratch and
 * counters: see ec_gemm.cuh. Equals the ops conv2d, conv_transpose2d, conv1d, linear and matmul within the rounding.
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, batch 1, us a launch in a graph with weights from memory, the
 * best tile of a tuning run (cuDNN or cuBLAS of PyTorch 2.11 in the same run):
 *     rows x outputs x k        mma.sync   warp groups   PyTorch
 *     3136 x 64 x 64                 1.5           1.9       3.2
 *     784 x 128 x 1152 (3x3)         4.7           5.2       6.8
 *     196 x 256 x 2304 (3x3)         5.4           5.7       8.3
 *     49 x 512 x 4608 (3x3)          6.7           6.7      13.2
 *     3136 x 384 x 96                3.6           3.2       4.1
 *     197 x 2304 x 768               5.8           4.8       5.0
 *     197 x 3072 x 768               6.1           5.0       5.3
 *     197 x 768 x 3072               8.6           7.7       7.7
 * Parts of K added through memory take 0.8 of the time that a cluster takes for 8 parts of 16x64 or 32x32, 1.1 to 1.6
 * for 2 parts or tiles of 64x64. What limits the large ones is how fast an SM takes slices from the L2 (about 55 bytes
 * a clock). Reading the fragments of the next step of K ahead of the products changes nothing: the compiler does so.
 */
#include "ec_gemm.cuh"
#include "ec_gemm_params.h"
#include "ec_rows.cuh"
#include "ec_wgmma.cuh"

extern __shared__ __align__(1024) unsigned char ec_shared[];

/* Rows are windows; see ec_rows_conv. */
template <typename TILE, int SPLIT, int V, bool HELD, bool ALIGNED, bool UP, typename EPILOGUE>
__device__ __forceinline__ void ec_conv_body(const ec_conv_params &p, const void *x, const void *w, const void *bias,
                                             void *y, void *scratch, void *counters, const EPILOGUE &epilogue)
{
    typedef typename TILE::T T;
    ec_launch_next();
    const ec_place place = ec_place::of<TILE>(p.m, p.splits);
    const int first = place.first<TILE>(p.k), last = place.last<TILE>(p.k);
    const ec_window window = {p.h,        p.w,     p.c,     p.p,          p.q,          p.taps_w, p.stride_h,
                              p.stride_w, p.pad_h, p.pad_w, p.dilation_h, p.dilation_w, p.up_h,   p.up_w};
    ec_rows_conv<TILE, TILE::ROWS_A, ALIGNED, UP> a(window, x, place.row, p.m, p.k, first);
    ec_rows_dense<TILE, TILE::ROWS_B, true, HELD> b(w, p.pitch_b, place.column, p.n, p.pitch_b);
    ec_sums<TILE> sums;
    ec_gemm_core(sums, a, b, ec_all_slices(), first, last, ec_shared);
    const ec_finish_float<T, true, EPILOGUE> finish = {
        static_cast<const float *>(bias), p.act_min, p.act_max, static_cast<T *>(y), 0, p.n, epilogue};
    ec_gemm_finish<TILE, SPLIT, V>(sums, place, p.m, p.n, ec_shared, scratch, counters, finish);
}

/* Rows stand one after the other: linear, and convolutions of 1x1. */
template <typename TILE, int SPLIT, int V, bool HELD, bool ALIGNED, typename EPILOGUE>
__device__ __forceinline__ void ec_linear_body(const ec_gemm_params &p, const void *x, const void *w, const void *bias,
                                               void *y, void *scratch, void *counters, const EPILOGUE &epilogue)
{
    typedef typename TILE::T T;
    ec_launch_next();
    const ec_place place = ec_place::of<TILE>(p.m, p.splits);
    const int first = place.first<TILE>(p.k), last = place.last<TILE>(p.k);
    ec_rows_dense<TILE, TILE::ROWS_A, ALIGNED, false> a(x, p.pitch_a, place.row, p.m, p.k);
    ec_rows_dense<TILE, TILE::ROWS_B, true, HELD> b(w, p.pitch_b, place.column, p.n, p.pitch_b);
    ec_sums<TILE> sums;
    ec_gemm_core(sums, a, b, ec_all_slices(), first, last, ec_shared);
    const ec_finish_float<T, true, EPILOGUE> finish = {
        static_cast<const float *>(bias), p.act_min, p.act_max, static_cast<T *>(y), 0, p.n, epilogue};
    ec_gemm_finish<TILE, SPLIT, V>(sums, place, p.m, p.n, ec_shared, scratch, counters, finish);
}

/*
 * y[i] = a[i] b[i] for each place i of the leading axes (blockIdx.y), both computed at run time. B: how b is read, an
 * ec_rows struct over the columns: ec_rows_dense for b[n,k], ec_rows_of_k and ec_rows_strided for b[k,n].
 */
template <typename TILE, int SPLIT, int V, bool ALIGNED, typename B, typename EPILOGUE>
__device__ __forceinline__ void ec_matmul_body(const ec_matmul_params &p, const void *x, const void *w, void *y,
                                               void *scratch, void *counters, const EPILOGUE &epilogue)
{
    typedef typename TILE::T T;
    ec_launch_next();
    ec_place place = ec_place::of<TILE>(p.m, p.splits);
    place.tile += blockIdx.y * (gridDim.x / p.splits);
    const int first = place.first<TILE>(p.k), last = place.last<TILE>(p.k);
    const int i2 = blockIdx.y % p.n2, rest = blockIdx.y / p.n2, i1 = rest % p.n1, i0 = rest / p.n1;
    const T *const at_a = static_cast<const T *>(x) + i0 * p.a_0 + i1 * p.a_1 + i2 * p.a_2;
    const T *const at_b = static_cast<const T *>(w) + i0 * p.b_0 + i1 * p.b_1 + i2 * p.b_2;
    ec_rows_dense<TILE, TILE::ROWS_A, ALIGNED, false> a(at_a, p.pitch_a, place.row, p.m, p.k);
    B b(at_b, p.pitch_b, place.column, p.n, p.k);
    ec_sums<TILE> sums;
    ec_gemm_core(sums, a, b, ec_all_slices(), first, last, ec_shared);
    const ec_finish_float<T, false, EPILOGUE> finish = {
        NULL, 0.0f, 0.0f, static_cast<T *>(y), (size_t)blockIdx.y * p.m * p.n, p.n, epilogue};
    ec_gemm_finish<TILE, SPLIT, V>(sums, place, p.m, p.n, ec_shared, scratch, counters, finish);
}
