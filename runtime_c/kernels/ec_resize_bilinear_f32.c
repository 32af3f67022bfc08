/* resize bilinear, float, portable C99.
 *
 *   a(h)     = x[h,v0,c] * (1 - v) + x[h,v1,c] * v   for columns[q] = (v0, v1), column_weight[q] = v
 *   y[p,q,c] = a(h0) * (1 - u) + a(h1) * u           for rows[p] = (h0, h1), row_weight[p] = u
 *
 * x float[N][H][W][C], rows uint16[P][2], columns uint16[Q][2], row_weight float[P], column_weight
 * float[Q], y float[N][P][Q][C]; no scratch. Equals resize.ref of edgec/ops/resize.py but for the
 * order of the sum.
 */
#include "ec_conv.h"

static inline void ec_resize_bilinear_f32_body(const ec_resize_params *p, const float *restrict x,
                                               const uint16_t *restrict rows,
                                               const uint16_t *restrict columns,
                                               const float *restrict row_weight,
                                               const float *restrict column_weight,
                                               float *restrict y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t row = 0; row < p->out_h; row++) {
            const float *above = x + rows[2 * row] * p->in_w * p->pixel;
            const float *below = x + rows[2 * row + 1] * p->in_w * p->pixel;
            float u = row_weight[row];
            for (int32_t column = 0; column < p->out_w; column++) {
                int32_t first = columns[2 * column] * p->pixel;
                int32_t second = columns[2 * column + 1] * p->pixel;
                float v = column_weight[column];
                for (int32_t c = 0; c < p->pixel; c++) {
                    float top = above[first + c] * (1.0f - v) + above[second + c] * v;
                    float bottom = below[first + c] * (1.0f - v) + below[second + c] * v;
                    *y++ = top * (1.0f - u) + bottom * u;
                }
            }
        }
        x += p->in_h * p->in_w * p->pixel;
    }
}

void ec_resize_bilinear_f32(const ec_resize_params *p, const float *x, const uint16_t *rows,
                            const uint16_t *columns, const float *row_weight,
                            const float *column_weight, float *y)
{
    ec_resize_bilinear_f32_body(p, x, rows, columns, row_weight, column_weight, y);
}
