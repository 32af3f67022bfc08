/*
 * ec_attention_window.cuh: the pixels of a window of a map that is rolled and cut.
 */
#ifndef EC_ATTENTION_WINDOW_CUH
#define EC_ATTENTION_WINDOW_CUH

#include "ec_attention_params.h"
#include "ec_cuda.cuh"

/* A window of one sample. */
struct ec_window {
    int row, column; /* of its first pixel, after the roll */
    int rows, columns, window_columns, shift_rows, shift_columns;
    /* Pixel of the map, row-major. */
    __device__ __forceinline__ int pixel(int i) const
    {
        int r = row + i / window_columns + shift_rows, c = column + i % window_columns + shift_columns;
        r -= r >= rows ? rows : 0;
        c -= c >= columns ? columns : 0;
        return r * columns + c;
    }
    /* Pixels of one window with equal numbers were neighbours before the roll. */
    __device__ __forceinline__ int region(int i) const
    {
        return (row + i / window_columns >= rows - shift_rows ? 2 : 0) +
               (column + i % window_columns >= columns - shift_columns ? 1 : 0);
    }
};

template <typename T> struct ec_window_rows {
    static constexpr bool EQUAL_STEPS = false;
    const T *base;
    ec_window window;
    int channels;
    __device__ __forceinline__ const T *at(int i) const
    {
        return base + (int64_t)window.pixel(i) * channels;
    }
};

/* Window `at` of a sample, row-major. */
__device__ __forceinline__ ec_window ec_window_of(const ec_window_attention_params &p, int at)
{
    const int across = p.columns / p.window_columns;
    return {at / across * p.window_rows, at % across * p.window_columns, p.rows, p.columns, p.window_columns,
            p.shift_rows, p.shift_columns};
}

#endif
