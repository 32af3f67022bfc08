/* adaptive_avg_pool2d with ties to even, int8, portable C99.
 *
 *   y[n,p,q,c] = sum x / count, rounded to the nearest integer, to the even one halfway
 *
 * Window p holds the rows floor(p * H / P) <= h < ceil((p + 1) * H / P), and so for columns. x
 * int8_t[N][H][W][C], y int8_t[N][P][Q][C]; no alignment asked; no scratch. Divisions only per
 * window and per output. Equals adaptive_avg_pool2d.quant of edgec/ops/pool.py.
 */
#include "ec_conv.h"
#include "ec_requant.h"

static inline int32_t ec_divide_even(int32_t sum, int32_t divisor)
{
    int32_t rounded = ec_divide_round(sum, divisor);
    if (rounded % 2 != 0 && 2 * sum + divisor == 2 * divisor * rounded) {
        rounded--;
    }
    return rounded;
}

static inline void ec_adaptive_avg_pool2d_even_s8_window(const ec_adaptive_pool2d_params *p,
                                                         int32_t height, int32_t width,
                                                         const int8_t *x, int8_t *y)
{
    for (int32_t c = 0; c < p->channels; c++) {
        int32_t sum = 0;
        for (int32_t h = 0; h < height; h++) {
            const int8_t *in = x + h * p->in_w * p->channels + c;
            for (int32_t v = 0; v < width; v++) {
                sum += *in;
                in += p->channels;
            }
        }
        y[c] = (int8_t)ec_divide_even(sum, height * width);
    }
}

void ec_adaptive_avg_pool2d_even_s8(const ec_adaptive_pool2d_params *p, const int8_t *x, int8_t *y)
{
    for (int32_t n = 0; n < p->batch; n++) {
        for (int32_t row = 0; row < p->out_h; row++) {
            int32_t top = row * p->in_h / p->out_h;
            int32_t bottom = ((row + 1) * p->in_h + p->out_h - 1) / p->out_h;
            for (int32_t column = 0; column < p->out_w; column++) {
                int32_t left = column * p->in_w / p->out_w;
                int32_t right = ((column + 1) * p->in_w + p->out_w - 1) / p->out_w;
                ec_adaptive_avg_pool2d_even_s8_window(p, bottom - top, right - left,
                                                      x + (top * p->in_w + left) * p->channels, y);
                y += p->channels;
            }
        }
        x += p->in_h * p->in_w * p->channels;
    }
}
