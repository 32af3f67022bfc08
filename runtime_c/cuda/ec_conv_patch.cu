/*
 * ec_conv_patch.cu: convolutions of few channels (a network's first layer) by tensor cores or plain float.
 *
 *     y[n,p,q,o] = epilogue(clamp(b[o] + sum_{r,s,c} x[n, p stride + r dilation - pad, ..., c] w[o,r,s,c]))
 *
 * A block makes BM = tile_h x TILE_W places of one image. It brings the patch of x that they read to shared memory once,
 * element by element (rows of pixels have no alignment to rely on), and spreads it there into the rows of the product;
 * all SLICES of K = R S C are in shared memory at once. x NHWC, w [o, k] with rows pitch_b apart (a multiple of 16
 * bytes), b float[o], y NHWC. Sums are float; the result is rounded once. Shared: rows, weights, patch, then an int16
 * place in the patch for each k. Equals the op conv2d within the rounding.
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, batch 1, 224x224, us a launch in a graph (PyTorch 2.11): 7x7/2 to 64
 * channels 5.9 (19.2), 3x3/2 to 32 6.2 (6.9), 4x4/4 to 96 3.8 (8.3).
 */
#include "ec_gemm.cuh"
#include "ec_gemm_params.h"
#include "ec_rows.cuh"

extern __shared__ __align__(1024) unsigned char ec_shared[];

/* Bias, clamp, epilogue and store at the places of a patch. */
template <typename T, int TILE_W, typename EPILOGUE> struct ec_finish_patch {
    const ec_conv_patch_params &o;
    const float *bias;
    T *y;
    int image, top, left;
    EPILOGUE epilogue;

    template <int V> __device__ __forceinline__ void run(float (&v)[V], int row, int column) const
    {
        const int p = top + row / TILE_W, q = left + row % TILE_W;
        if (p < o.p && q < o.q) {
            const size_t index = ((size_t)(image * o.p + p) * o.q + q) * o.n + column;
            float b[V];
            ec_load_run<float, V>(b, bias + column);
#pragma unroll
            for (int e = 0; e < V; e++) {
                v[e] = fminf(fmaxf(v[e] + b[e], o.act_min), o.act_max);
            }
            epilogue.template apply<V>(v, index, column);
            ec_store<T, V>(y + index, v);
        }
    }
};

template <typename TILE, int SLICES, int TILE_W, int V, typename EPILOGUE>
__device__ __forceinline__ void ec_conv_patch_body(const ec_conv_patch_params &o, const void *x_, const void *w,
                                                   const void *bias, void *y, const EPILOGUE &epilogue)
{
    typedef typename TILE::T T;
    constexpr int CHUNK = TILE::CHUNK, ALL = SLICES * TILE::SLICE;
    T *const patch = reinterpret_cast<T *>(ec_shared + SLICES * TILE::STAGE_BYTES);
    const int size = o.patch_h * o.patch_w;
    int16_t *const places = reinterpret_cast<int16_t *>(patch + (size + 7) / 8 * 8);
    ec_launch_next();
    ec_rows_dense<TILE, TILE::ROWS_B, true, true> b(w, o.pitch_b, blockIdx.y * TILE::BN, o.n, o.pitch_b);
    unsigned char *const to =
        ec_shared + SLICES * TILE::A_BYTES + ec_swizzled(threadIdx.x / EC_CHUNKS, threadIdx.x % EC_CHUNKS);
#pragma unroll
    for (int slice = 0; slice < SLICES; slice++) {
        b.seek(slice);
        b.copy_all(ec_shared, to + slice * TILE::B_BYTES);
    }
    ec_copy_commit();
    for (int k = threadIdx.x; k < ALL; k += TILE::THREADS) {
        const int tap = k / o.c, r = tap / o.taps_w, s = tap - r * o.taps_w;
        const int at = r * o.dilation_h * o.patch_w + s * o.dilation_w * o.c + k - tap * o.c;
        places[k] = (int16_t)(k < o.k ? at : 0);
    }
    const int image = blockIdx.x / (o.tiles_h * o.tiles_w), tile = blockIdx.x - image * o.tiles_h * o.tiles_w;
    const int p = tile / o.tiles_w * (TILE::BM / TILE_W), q = tile % o.tiles_w * TILE_W;
    const int top = p * o.stride_h - o.pad_h, left = (q * o.stride_w - o.pad_w) * o.c, line = o.w * o.c;
    const T *const x = static_cast<const T *>(x_) + (int64_t)image * o.h * line;
    ec_wait_previous();
    constexpr int AT_ONCE = 8; /* loads of a thread under way */
    for (int begin = threadIdx.x; begin < size; begin += AT_ONCE * TILE::THREADS) {
        T v[AT_ONCE];
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++) {
            const int at = begin + e * TILE::THREADS, row = at / o.patch_w, column = left + at - row * o.patch_w;
            const bool inside = (unsigned)(top + row) < (unsigned)o.h && (unsigned)column < (unsigned)line;
            v[e] = inside && at < size ? x[(top + row) * line + column] : ec_element<T>::of(0.0f);
        }
#pragma unroll
        for (int e = 0; e < AT_ONCE; e++) {
            if (begin + e * TILE::THREADS < size) {
                patch[begin + e * TILE::THREADS] = v[e];
            }
        }
    }
    __syncthreads();
#pragma unroll 2
    for (int item = threadIdx.x; item < TILE::BM * (ALL / CHUNK); item += TILE::THREADS) {
        const int row = item % TILE::BM, chunk = item / TILE::BM;
        const T *const from = patch + row / TILE_W * o.stride_h * o.patch_w + row % TILE_W * o.stride_w * o.c;
        const ec_vector<int16_t, CHUNK> place = reinterpret_cast<const ec_vector<int16_t, CHUNK> *>(places)[chunk];
        T v[CHUNK];
#pragma unroll
        for (int e = 0; e < CHUNK; e++) {
            v[e] = from[place.at[e]];
        }
        if ((chunk + 1) * CHUNK > o.k) {
#pragma unroll
            for (int e = 0; e < CHUNK; e++) {
                v[e] = chunk * CHUNK + e < o.k ? v[e] : ec_element<T>::of(0.0f);
            }
        }
        ec_put16<T>(ec_shared + chunk / EC_CHUNKS * TILE::A_BYTES + ec_swizzled(row, chunk % EC_CHUNKS), v);
    }
    ec_copy_wait<0>();
    __syncthreads();
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(ec_shared);
    ec_sums<TILE> sums;
    sums.clear();
#pragma unroll
    for (int slice = 0; slice < SLICES; slice++) {
        sums.template add<false>(at + slice * TILE::A_BYTES,
                                 at + SLICES * TILE::A_BYTES + slice * TILE::B_BYTES);
    }
    __syncthreads();
    const ec_place place = {0, 1, 0, 0, (int)blockIdx.y * TILE::BN};
    const ec_finish_patch<T, TILE_W, EPILOGUE> finish = {o, static_cast<const float *>(bias), static_cast<T *>(y),
                                                         image, p, q, epilogue};
    ec_gemm_finish<TILE, EC_SPLIT_NONE, V>(sums, place, TILE::BM, o.n, ec_shared, NULL, NULL, finish);
}
