/*
 * ec_gemm.cuh: what follows the sums of a tile: adding the parts of a K that was split, then handing runs of
 * neighbouring columns to a functor (bias, clamp, epilogue, store).
 *
 * A split K is summed in the order of its parts, so results do not depend on which block ends first:
 * EC_SPLIT_CLUSTER: the parts are the blocks of one cluster and read each other's shared memory (sm_90);
 * EC_SPLIT_SCRATCH: each writes its sums to scratch, and the last one (by a counter, which it clears) adds them.
 */
#ifndef EC_GEMM_CUH
#define EC_GEMM_CUH

#include "ec_cluster.cuh"
#include "ec_mma.cuh"

enum { EC_SPLIT_NONE, EC_SPLIT_CLUSTER, EC_SPLIT_SCRATCH };

/* The tile that this block has: blockIdx.x = (column tile * row tiles + row tile) * splits + part. */
struct ec_place {
    int part, splits, tile, row, column;

    template <typename TILE> static __device__ __forceinline__ ec_place of(int m, int splits)
    {
        ec_place o;
        const int row_tiles = (m + TILE::BM - 1) / TILE::BM;
        o.splits = splits;
        o.tile = blockIdx.x / splits;
        o.part = blockIdx.x - o.tile * splits;
        o.column = o.tile / row_tiles;
        o.row = (o.tile - o.column * row_tiles) * TILE::BM;
        o.column *= TILE::BN;
        return o;
    }

    /* First slice of this block's part, and the end, of `k` elements. */
    template <typename TILE> __device__ __forceinline__ int first(int k) const
    {
        return share<TILE>(k) * part;
    }
    template <typename TILE> __device__ __forceinline__ int last(int k) const
    {
        const int slices = (k + TILE::SLICE - 1) / TILE::SLICE, end = share<TILE>(k) * (part + 1);
        return end < slices ? end : slices;
    }
    template <typename TILE> __device__ __forceinline__ int share(int k) const
    {
        return ((k + TILE::SLICE - 1) / TILE::SLICE + splits - 1) / splits;
    }
};

/* v = the sum of this block's WK groups at `from`. */
template <typename TILE, typename S> __device__ __forceinline__ void ec_sum_groups(S (&v)[8], const S *from)
{
#pragma unroll
    for (int g = 0; g < TILE::WK; g++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const ec_vector<S, 4> part =
                *reinterpret_cast<const ec_vector<S, 4> *>(from + g * TILE::BM * TILE::PITCH + 4 * half);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                v[4 * half + e] = g == 0 ? part.at[e] : v[4 * half + e] + part.at[e];
            }
        }
    }
}

template <typename S> __device__ __forceinline__ void ec_put8(S *to, const S (&v)[8])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        ec_vector<S, 4> part;
#pragma unroll
        for (int e = 0; e < 4; e++) {
            part.at[e] = v[4 * half + e];
        }
        *reinterpret_cast<ec_vector<S, 4> *>(to + 4 * half) = part;
    }
}

/* Hands eight columns from (row, column) on to finish.run<V>(v, row, column), as runs of V inside of m by n. */
template <int V, typename S, typename FINISH>
__device__ __forceinline__ void ec_hand_on(const S (&v)[8], int row, int column, int m, int n, const FINISH &finish)
{
#pragma unroll
    for (int run = 0; run < 8; run += V) {
        if (row < m && column + run < n) {
            S part[V];
#pragma unroll
            for (int e = 0; e < V; e++) {
                part[e] = v[run + e];
            }
            finish.template run<V>(part, row, column + run);
        }
    }
}

/*
 * Ends a tile: `sums` of all warps and parts, to `finish` in runs of V columns. `scratch`: splits * tiles * BM * BN
 * sums, `counters`: one for each tile; both of the whole grid's, used by EC_SPLIT_SCRATCH alone.
 */
template <typename TILE, int SPLIT, int V, typename FINISH>
__device__ __forceinline__ void ec_gemm_finish(const ec_sums<TILE> &sums, const ec_place &place, int m, int n,
                                               unsigned char *shared, void *scratch, void *counters,
                                               const FINISH &finish)
{
    typedef typename TILE::sum S;
    constexpr int RUNS = TILE::BN / 8, ALL = TILE::BM * RUNS;
    S *here = reinterpret_cast<S *>(shared);
    sums.spill(here);
    __syncthreads();
    if constexpr (SPLIT == EC_SPLIT_CLUSTER) {
        if (TILE::WK > 1) {
            for (int at = threadIdx.x; at < ALL; at += TILE::THREADS) {
                S *to = here + at / RUNS * TILE::PITCH + at % RUNS * 8, v[8];
                ec_sum_groups<TILE>(v, to);
                ec_put8(to, v);
            }
        }
        ec_cluster_sync();
        for (int at = threadIdx.x + place.part * TILE::THREADS; at < ALL; at += TILE::THREADS * place.splits) {
            const int row = at / RUNS, column = at % RUNS * 8;
            S v[8];
#pragma unroll
            for (int e = 0; e < 8; e++) {
                v[e] = 0;
            }
#pragma unroll 4
            for (int part = 0; part < place.splits; part++) {
                S low[4], high[4];
                ec_cluster_load(low, here + row * TILE::PITCH + column, part);
                ec_cluster_load(high, here + row * TILE::PITCH + column + 4, part);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    v[e] += low[e];
                    v[4 + e] += high[e];
                }
            }
            ec_hand_on<V>(v, place.row + row, place.column + column, m, n, finish);
        }
        ec_cluster_sync(); /* the others may still read this block's sums */
    } else if constexpr (SPLIT == EC_SPLIT_SCRATCH) {
        S *mine = static_cast<S *>(scratch) + (int64_t)place.tile * place.splits * TILE::BM * TILE::BN;
        for (int at = threadIdx.x; at < ALL; at += TILE::THREADS) {
            S v[8];
            ec_sum_groups<TILE>(v, here + at / RUNS * TILE::PITCH + at % RUNS * 8);
            ec_put8(mine + (int64_t)place.part * TILE::BM * TILE::BN + at * 8, v);
        }
        volatile int *before = reinterpret_cast<int *>(shared); /* all have read their sums by then */
        __threadfence();
        __syncthreads();
        int *counter = static_cast<int *>(counters) + place.tile;
        if (threadIdx.x == 0) {
            *before = atomicAdd(counter, 1);
        }
        __syncthreads();
        if (*before != place.splits - 1) {
            return;
        }
        __threadfence();
        if (threadIdx.x == 0) {
            *counter = 0;
        }
        for (int at = threadIdx.x; at < ALL; at += TILE::THREADS) {
            S v[8];
#pragma unroll
            for (int e = 0; e < 8; e++) {
                v[e] = 0;
            }
#pragma unroll 4
            for (int part = 0; part < place.splits; part++) {
                const int4 *from =
                    reinterpret_cast<const int4 *>(mine + (int64_t)part * TILE::BM * TILE::BN + at * 8);
                const int4 low = __ldcg(from), high = __ldcg(from + 1);
                const S *l = reinterpret_cast<const S *>(&low), *h = reinterpret_cast<const S *>(&high);
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    v[e] += l[e];
                    v[4 + e] += h[e];
                }
            }
            ec_hand_on<V>(v, place.row + at / RUNS, place.column + at % RUNS * 8, m, n, finish);
        }
    } else {
        for (int at = threadIdx.x; at < ALL; at += TILE::THREADS) {
            S v[8];
            ec_sum_groups<TILE>(v, here + at / RUNS * TILE::PITCH + at % RUNS * 8);
            ec_hand_on<V>(v, place.row + at / RUNS, place.column + at % RUNS * 8, m, n, finish);
        }
    }
}

/* Bias and clamp where BIASED, epilogue and store of a product of floats; y[row, column] of n columns from `first`. */
template <typename T, bool BIASED, typename EPILOGUE> struct ec_finish_float {
    const float *bias;
    float low, high;
    T *y;
    size_t first;
    int n;
    EPILOGUE epilogue;

    template <int V> __device__ __forceinline__ void run(float (&v)[V], int row, int column) const
    {
        const size_t index = first + (size_t)row * n + column;
        if (BIASED) {
            float b[V];
            ec_load_run<float, V>(b, bias + column);
#pragma unroll
            for (int e = 0; e < V; e++) {
                v[e] = fminf(fmaxf(v[e] + b[e], low), high);
            }
        }
        epilogue.template apply<V>(v, index, column);
        ec_store<T, V>(y + index, v);
    }
};

#endif
