/* resize bilinear, int8, portable C99.
 *
 *   a(h)       = x[h,v0,c] * (2^11 - v) + x[h,v1,c] * v         for columns[q] = (v0, v1, v)
 *   y[p,q,c]   = floor((a(h0) * (2^11 - u) + a(h1) * u + 2^21) / 2^22)  for rows[p] = (h0, h1, u)
 *
 * x int8[N][H][W][C], rows uint16[P][3], columns uint16[Q][3], y int8[N][P][Q][C]; no alignment
 * asked; no scratch. One rounding; input and output share scale and zero. Equals resize.quant of
 * edgec/ops/resize.py.
 */
#include "ec_conv.h"

#define EC_RESIZE_ONE 2048

static inline void ec_resize_bilinear_s8_body(const ec_resize_params *p, const int8_t *restrict x,
                                              const uint16_t *restrict rows,
                                              const uint16_t *restrict columns, int8_t *restrict y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t row = 0; row < p->out_h; row++) {
            const int8_t *above = x + rows[3 * row] * p->in_w * p->pixel;
            const int8_t *below = x + rows[3 * row + 1] * p->in_w * p->pixel;
            int32_t u = rows[3 * row + 2];
            for (int32_t column = 0; column < p->out_w; column++) {
                int32_t first = columns[3 * column] * p->pixel;
                int32_t second = columns[3 * column + 1] * p->pixel;
                int32_t v = columns[3 * column + 2];
                for (int32_t c = 0; c < p->pixel; c++) {
                    int32_t top = above[first + c] * (EC_RESIZE_ONE - v) + above[second + c] * v;
                    int32_t bottom = below[first + c] * (EC_RESIZE_ONE - v) + below[second + c] * v;
                    int32_t sum = top * (EC_RESIZE_ONE - u) + bottom * u;
                    *y++ = (int8_t)((sum + (1 << 21)) >> 22);
                }
            }
        }
        x += p->in_h * p->in_w * p->pixel;
    }
}

void ec_resize_bilinear_s8(const ec_resize_params *p, const int8_t *x, const uint16_t *rows,
                           const uint16_t *columns, int8_t *y)
{
    ec_resize_bilinear_s8_body(p, x, rows, columns, y);
}
