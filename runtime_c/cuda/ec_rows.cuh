/*
 * ec_rows.cuh: where the rows of a matrix product stand in memory. Each struct serves one operand of ec_gemm_core:
 *
 *     seek(slice)                 go to that slice of K; slices only grow
 *     copy_all(stage, to)         ask for the chunks of this thread's rows: row i goes to `to` + i * STEP rows of 128
 *                                 bytes (`stage` is the tile itself, for a loader with an order of its own)
 *     CONSTANT                    does not depend on the previous kernel
 *     ROWS_K                      the tile's rows are k (b[K,N]), not columns
 *
 * A thread copies chunk threadIdx.x % 8 of the rows threadIdx.x / 8 + i * STEP, i < COUNT. Beyond the matrix it copies
 * zeros. A sparse convolution adds a struct that reads its rows' numbers from a map.
 */
#ifndef EC_ROWS_CUH
#define EC_ROWS_CUH

#include "ec_mma.cuh"

/* 16 bytes that the thread has in registers. */
template <typename T> __device__ __forceinline__ void ec_put16(unsigned char *to, const T (&v)[16 / sizeof(T)])
{
    ec_vector<T, 16 / (int)sizeof(T)> chunk;
#pragma unroll
    for (int e = 0; e < 16 / (int)sizeof(T); e++) {
        chunk.at[e] = v[e];
    }
    *reinterpret_cast<ec_vector<T, 16 / (int)sizeof(T)> *>(to) = chunk;
}

/* Rows x[row * pitch + k]. Not ALIGNED: element by element, for pitches that are no multiple of 16 bytes. */
template <typename TILE, int COUNT, bool ALIGNED, bool CONSTANT_> struct ec_rows_dense {
    typedef typename TILE::T T;
    static constexpr bool CONSTANT = CONSTANT_, ROWS_K = false;
    const T *from;
    int64_t step;
    int left, k, k_end;

    __device__ __forceinline__ ec_rows_dense(const void *x, int64_t pitch, int first, int rows, int k_end_)
    {
        const int row = first + threadIdx.x / EC_CHUNKS;
        from = static_cast<const T *>(x) + row * pitch;
        step = TILE::STEP * pitch;
        left = rows - row;
        k_end = k_end_;
    }

    __device__ __forceinline__ void seek(int slice)
    {
        k = slice * TILE::SLICE + threadIdx.x % EC_CHUNKS * TILE::CHUNK;
    }

    __device__ __forceinline__ void copy_all(unsigned char *stage, unsigned char *to) const
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const T *at = from + i * step + k;
            const bool row = i * TILE::STEP < left;
            if (ALIGNED) {
                ec_copy_async16(to + i * TILE::STEP * EC_SLICE_BYTES, at, row && k < k_end);
            } else {
                T v[TILE::CHUNK];
#pragma unroll
                for (int e = 0; e < TILE::CHUNK; e++) {
                    v[e] = row && k + e < k_end ? at[e] : ec_element<T>::of(0.0f);
                }
                ec_put16<T>(to + i * TILE::STEP * EC_SLICE_BYTES, v);
            }
        }
    }
};

/* Columns of b[k * pitch + column]: the tile's rows are k. Pitch and columns are multiples of 16 bytes. */
template <typename TILE, bool CONSTANT_> struct ec_rows_of_k {
    typedef typename TILE::T T;
    static constexpr bool CONSTANT = CONSTANT_, ROWS_K = true;
    static constexpr int CHUNKS = TILE::BN / TILE::CHUNK;             /* of one k */
    static constexpr int ROWS = TILE::THREADS / CHUNKS;               /* k that the threads copy at once */
    static constexpr int COUNT = (TILE::SLICE + ROWS - 1) / ROWS;
    static_assert(TILE::BN >= 64 && TILE::SLICE % ROWS == 0, "swizzled over 128 bytes; whole rows");
    const T *from;
    int64_t pitch;
    int k, k_end;
    bool inside;

    __device__ __forceinline__ ec_rows_of_k(const void *b, int64_t pitch_, int first, int columns, int k_end_)
    {
        const int column = first + threadIdx.x % CHUNKS * TILE::CHUNK;
        from = static_cast<const T *>(b) + column;
        pitch = pitch_;
        inside = column < columns;
        k_end = k_end_;
    }

    __device__ __forceinline__ void seek(int slice)
    {
        k = slice * TILE::SLICE + threadIdx.x / CHUNKS;
    }

    __device__ __forceinline__ void copy_all(unsigned char *stage, unsigned char *to) const
    {
        const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int at = row + i * ROWS;
            ec_copy_async16(stage + at * TILE::BN * (int)sizeof(T) + ((chunk ^ (at & 7)) << 4),
                            from + (k + i * ROWS) * pitch, inside && k + i * ROWS < k_end);
        }
    }
};

/* The same gathered element by element into rows that are columns: for any pitch and element. */
template <typename TILE, int COUNT, bool CONSTANT_> struct ec_rows_strided {
    typedef typename TILE::T T;
    static constexpr bool CONSTANT = CONSTANT_, ROWS_K = false;
    const T *from;
    int64_t pitch;
    int left, k, k_end;

    __device__ __forceinline__ ec_rows_strided(const void *b, int64_t pitch_, int first, int columns, int k_end_)
    {
        const int column = first + threadIdx.x / EC_CHUNKS;
        from = static_cast<const T *>(b) + column;
        pitch = pitch_;
        left = columns - column;
        k_end = k_end_;
    }

    __device__ __forceinline__ void seek(int slice)
    {
        k = slice * TILE::SLICE + threadIdx.x % EC_CHUNKS * TILE::CHUNK;
    }

    __device__ __forceinline__ void copy_all(unsigned char *stage, unsigned char *to) const
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            T v[TILE::CHUNK];
#pragma unroll
            for (int e = 0; e < TILE::CHUNK; e++) {
                v[e] = i * TILE::STEP < left && k + e < k_end ? from[i * TILE::STEP + (k + e) * pitch]
                                                             : ec_element<T>::of(0.0f);
            }
            ec_put16<T>(to + i * TILE::STEP * EC_SLICE_BYTES, v);
        }
    }
};

/* What a convolution's rows are made of; see ec_gemm_params.h. */
struct ec_window {
    int32_t h, w, c, p, q, taps_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, up_h, up_w;
};

/*
 * Rows of a convolution: row ((n P + p) Q + q), k = (r S + s) C + c, from x[N,H,W,C]. With UP the map is taken as
 * spread by up_h and up_w with zeros between (a transposed convolution). Not ALIGNED: element by element.
 */
template <typename TILE, int COUNT, bool ALIGNED, bool UP> struct ec_rows_conv {
    typedef typename TILE::T T;
    static constexpr bool CONSTANT = false, ROWS_K = false;
    const ec_window &o;
    const T *from[COUNT]; /* of the row's image */
    int y[COUNT], x[COUNT];
    int at, r, s, c, k, k_end;

    __device__ __forceinline__ ec_rows_conv(const ec_window &window, const void *map, int first, int rows,
                                            int k_end_, int slice)
        : o(window), at(slice), k_end(k_end_)
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int row = first + threadIdx.x / EC_CHUNKS + i * TILE::STEP;
            const int line = row / o.q, image = line / o.p;
            y[i] = row < rows ? (line - image * o.p) * o.stride_h - o.pad_h : -(1 << 28);
            x[i] = (row - line * o.q) * o.stride_w - o.pad_w;
            from[i] = static_cast<const T *>(map) + (int64_t)image * o.h * o.w * o.c;
        }
        k = slice * TILE::SLICE + threadIdx.x % EC_CHUNKS * TILE::CHUNK;
        const int tap = k / o.c;
        c = k - tap * o.c;
        r = tap / o.taps_w;
        s = tap - r * o.taps_w;
    }

    __device__ __forceinline__ void walk(int steps, int &r_, int &s_, int &c_) const
    {
        for (c_ += steps; c_ >= o.c; c_ -= o.c) {
            if (++s_ == o.taps_w) {
                s_ = 0;
                r_++;
            }
        }
    }

    __device__ __forceinline__ void seek(int slice)
    {
        for (; at < slice; at++) {
            walk(TILE::SLICE, r, s, c);
            k += TILE::SLICE;
        }
    }

    /* The element of row i at tap (r, s), channel c; false where it is padding. */
    __device__ __forceinline__ bool place(int i, int r_, int s_, int c_, const T *&to) const
    {
        int row = y[i] + r_ * o.dilation_h, column = x[i] + s_ * o.dilation_w;
        bool inside = row >= 0 && column >= 0;
        if (UP) {
            const int row_up = row / o.up_h, column_up = column / o.up_w;
            inside = inside && row_up * o.up_h == row && column_up * o.up_w == column;
            row = row_up;
            column = column_up;
        }
        to = from[i] + ((int64_t)row * o.w + column) * o.c + c_;
        return inside && row < o.h && column < o.w;
    }

    __device__ __forceinline__ void copy_all(unsigned char *stage, unsigned char *to) const
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const T *chunk;
            if (ALIGNED) {
                const bool inside = place(i, r, s, c, chunk);
                ec_copy_async16(to + i * TILE::STEP * EC_SLICE_BYTES, chunk, inside && k < k_end);
            } else {
                T v[TILE::CHUNK];
                int r_ = r, s_ = s, c_ = c;
#pragma unroll
                for (int e = 0; e < TILE::CHUNK; e++) {
                    const bool inside = place(i, r_, s_, c_, chunk) && k + e < k_end;
                    v[e] = inside ? *chunk : ec_element<T>::of(0.0f);
                    walk(1, r_, s_, c_);
                }
                ec_put16<T>(to + i * TILE::STEP * EC_SLICE_BYTES, v);
            }
        }
    }
};

#endif
