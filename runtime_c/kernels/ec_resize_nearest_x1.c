/* resize nearest, any element type, portable C99: whole pixels are copied.
 *
 *   y[n,p,q] = x[n,rows[p],columns[q]]
 *
 * `pixel` is the bytes of all channels; x [N][H][W][pixel], y [N][P][Q][pixel] bytes; rows
 * uint16[P], columns uint16[Q]; no scratch. Equals resize.ref and resize.quant of
 * edgec/ops/resize.py.
 */
#include "ec_conv.h"

#include <stddef.h>
#include <string.h>

static inline void ec_resize_nearest_x1_body(const ec_resize_params *p, const uint8_t *restrict x,
                                             const uint16_t *restrict rows,
                                             const uint16_t *restrict columns, uint8_t *restrict y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t row = 0; row < p->out_h; row++) {
            const uint8_t *in = x + rows[row] * p->in_w * p->pixel;
            for (int32_t column = 0; column < p->out_w; column++) {
                memcpy(y, in + columns[column] * p->pixel, (size_t)p->pixel);
                y += p->pixel;
            }
        }
        x += p->in_h * p->in_w * p->pixel;
    }
}

void ec_resize_nearest_x1(const ec_resize_params *p, const void *x, const uint16_t *rows,
                          const uint16_t *columns, void *y)
{
    ec_resize_nearest_x1_body(p, x, rows, columns, y);
}
