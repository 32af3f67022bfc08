/* log_softmax along one axis, float, portable C99.
 *
 *   y[i] = x[i] - max(x) - log(sum exp(x - max(x)))
 *
 * x, y float[outer][count][inner]; y may be x. No scratch. Equals log_softmax.ref of
 * edgec/ops/softmax.py within float rounding.
 */
#include <math.h>

#include "ec_norm.h"

static inline void ec_log_softmax_f32_row(const float *x, int32_t count, int32_t step, float *y)
{
    int32_t end = count * step;
    float most = x[0];
    for (int32_t i = step; i < end; i += step) {
        most = x[i] > most ? x[i] : most;
    }
    float sum = 0.0f;
    for (int32_t i = 0; i < end; i += step) {
        sum += expf(x[i] - most);
    }
    float log_sum = logf(sum);
    for (int32_t i = 0; i < end; i += step) {
        y[i] = x[i] - most - log_sum;
    }
}

void ec_log_softmax_f32(const ec_softmax_params *p, const float *x, float *y)
{
    for (int32_t o = 0; o < p->outer; o++) {
        int32_t block = o * p->count * p->inner;
        for (int32_t j = 0; j < p->inner; j++) {
            ec_log_softmax_f32_row(x + block + j, p->count, p->inner, y + block + j);
        }
    }
}
