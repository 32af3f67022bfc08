/* Depthwise convolutions with MVE, eight channels at a time.
 *
 * The input rows that an output row needs stand as int16[8] a pixel, less their zero point, in a
 * ring of R rows, with zeros for the padding to the left and right: so every window has all taps
 * of its rows, and y may be x where both have one shape.
 */
#ifndef EC_MVE_DEPTHWISE_H
#define EC_MVE_DEPTHWISE_H

#include "ec_mve_pointwise.h"
#include "ec_mve_window.h"

/* A map and its windows; no dilation. x and y have `channels` channels. */
typedef struct ec_mve_map {
    int32_t in_h;
    int32_t in_w;
    int32_t out_w;
    int32_t channels;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t stride_h;
    int32_t stride_w;
    int32_t pad_top;
    int32_t pad_left;
    int32_t zero_in;
    int32_t ring_0;
    int32_t ring_y;
} ec_mve_map;

/* Pixels of a row of the ring. */
static inline int32_t ec_mve_ring_width(const ec_mve_map *map)
{
    int32_t reach = (map->out_w - 1) * map->stride_w + map->kernel_w;
    int32_t width = map->pad_left + map->in_w;
    return reach > width ? reach : width;
}

/* Rows row0 to row1 of eight channels of an image. x and y at their first channel; mask (or NULL)
 * from element `at` on, which is that of y's row 0. scratch: 4 * R + 16 * R * ring width bytes,
 * aligned to 4. */
static inline void ec_mve_depthwise_eight(const ec_mve_map *map, const ec_mve_eight *to,
                                          int32_t row0, int32_t row1, const int8_t *x,
                                          const int8_t *w, int8_t *y, uint8_t *mask, int32_t at,
                                          void *scratch)
{
    int32_t *rows = scratch;
    int16_t *ring = (int16_t *)(rows + map->kernel_h);
    int32_t pitch = ec_mve_ring_width(map) * EC_MVE_EIGHT;
    int32_t made = 0;
    memset(ring, 0, (size_t)(map->kernel_h * pitch) * sizeof *ring);
    for (int32_t row = row0; row < row1; row++) {
        int32_t top = row * map->stride_h - map->pad_top;
        ec_taps inside = ec_taps_inside(top, map->in_h, map->kernel_h, 1);
        int32_t count = inside.end - inside.first;
        made = made > top + inside.first ? made : top + inside.first;
        for (; made < top + inside.end; made++) {
            const int8_t *from = x + ec_ring_row(made, map->ring_0) * map->in_w * map->channels;
            int16_t *slot = ring + made % map->kernel_h * pitch + map->pad_left * EC_MVE_EIGHT;
            ec_mve_widen(slot, from, map->channels, map->in_w, map->zero_in);
        }
        for (int32_t r = 0; r < count; r++) {
            rows[r] = (top + inside.first + r) % map->kernel_h * pitch;
        }
        const int8_t *first = w + inside.first * map->kernel_w * EC_MVE_EIGHT;
        int8_t *out = y + ec_ring_row(row, map->ring_y) * map->out_w * map->channels;
        int32_t bit = at + row * map->out_w * map->channels;
        const int16_t *in = ring;
        for (int32_t j = 0; j < map->out_w; j++) {
            uint32_t same = ec_mve_window_put(rows, count, map->kernel_w, to, in, first, out);
            if (mask != NULL) {
                ec_mve_mark(mask, bit, same);
            }
            out += map->channels;
            bit += map->channels;
            in += map->stride_w * EC_MVE_EIGHT;
        }
    }
}

#endif
