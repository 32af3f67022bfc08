/* adaptive_avg_pool2d, int8, portable C99.
 *
 *   y[n,p,q,c] = zero + floor(sum (x - zero) / count + 1/2)
 *
 * Window p holds the rows floor(p * H / P) <= h < ceil((p + 1) * H / P), and so for columns. x
 * int8_t[N][H][W][C], y int8_t[N][P][Q][C]; no alignment asked; no scratch. Divisions only per
 * window and per output. Equals adaptive_avg_pool2d.quant of edgec/ops/pool.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"

static inline void ec_adaptive_avg_pool2d_s8_window(const ec_adaptive_pool2d_params *p,
                                                    int32_t height, int32_t width,
                                                    const int8_t *restrict x, int8_t *restrict y)
{
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t sum = -height * width * p->zero;
        for (int32_t h = 0; h < height; h++) {
            const int8_t *in = x + h * p->in_w * p->channels + c;
            for (int32_t v = 0; v < width; v++) {
                sum += *in;
                in += p->channels;
            }
        }
        y[c] = (int8_t)(ec_divide_round(sum, height * width) + p->zero);
    }
}

static inline void ec_adaptive_avg_pool2d_s8_body(const ec_adaptive_pool2d_params *p,
                                                  const int8_t *restrict x, int8_t *restrict y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t row = 0; row < p->out_h; row++) {
            int32_t top = row * p->in_h / p->out_h;
            int32_t bottom = ((row + 1) * p->in_h + p->out_h - 1) / p->out_h;
            for (int32_t column = 0; column < p->out_w; column++) {
                int32_t left = column * p->in_w / p->out_w;
                int32_t right = ((column + 1) * p->in_w + p->out_w - 1) / p->out_w;
                ec_adaptive_avg_pool2d_s8_window(p, bottom - top, right - left,
                             x + (top * p->in_w + left) * p->channels, y);
                y += p->channels;
            }
        }
        x += p->in_h * p->in_w * p->channels;
    }
}

void ec_adaptive_avg_pool2d_s8(const ec_adaptive_pool2d_params *p, const int8_t *x, int8_t *y)
{
    ec_adaptive_avg_pool2d_s8_body(p, x, y);
}
