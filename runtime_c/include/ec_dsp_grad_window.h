/* The inner loop of the depthwise gradient to the input on Armv7E-M: the taps of a transposed
 * window, four channels at a time. */
#ifndef EC_DSP_GRAD_WINDOW_H
#define EC_DSP_GRAD_WINDOW_H

#include "ec_dsp.h"

/* The taps that reach one pixel of dx; assembly reads at the offsets written here. Rows of h stand
 * in a ring, each next one of the window a slot before; the next tap of a row stands `step` before.
 */
typedef struct ec_dsp_grad_taps {
    int32_t ring;      /* 0: rows of the ring */
    int32_t slot;      /* 4: of the window's first row */
    int32_t rows;      /* 8: at least 1 */
    int32_t taps;      /* 12: of a row, at least 1 */
    int32_t row_bytes; /* 16: of h */
    int32_t step;      /* 20: bytes of h from tap to tap */
    int32_t w_step;    /* 24: weights from tap to tap */
    int32_t w_row;     /* 28: from row to row */
    int32_t channel;   /* 32: from channel to channel */
} ec_dsp_grad_taps;

/* ec_dsp_grad_window: sums of four channels. h: the first tap's column and channel in row 0 of the
 * ring, any alignment; w: the first tap's weight of the first channel. */
#include EC_DSP_INNER(grad_window)

#endif
