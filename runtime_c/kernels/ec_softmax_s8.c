/* softmax along one axis, int8, portable C99.
 *
 *   e(i) = table[max(x) - x[i]],  S = sum e
 *   y[i] = min(127, floor((256 e(i) + floor(S / 2)) / S) - 128)
 *
 * x, y int8[outer][count][inner]; y may be x. table uint32[256] such that `count` entries add up
 * to at most 2^31 and none exceeds 2^20. No scratch. Equals softmax.quant of
 * edgec/ops/softmax.py.
 */
#include "ec_norm.h"

static inline void ec_softmax_s8_row(const int8_t *x, int32_t count, int32_t step,
                                     const uint32_t *table, int8_t *y)
{
    int32_t end = count * step;
    int32_t most = x[0];
    for (int32_t i = step; i < end; i += step) {
        most = x[i] > most ? x[i] : most;
    }
    uint32_t sum = 0;
    for (int32_t i = 0; i < end; i += step) {
        sum += table[most - x[i]];
    }
    for (int32_t i = 0; i < end; i += step) {
        uint32_t part = ((table[most - x[i]] << 8) + (sum >> 1)) / sum;
        y[i] = (int8_t)(part > 255 ? 127 : (int32_t)part - 128);
    }
}

void ec_softmax_s8(const ec_softmax_params *p, const int8_t *x, const uint32_t *table, int8_t *y)
{
    for (int32_t o = 0; o < p->outer; o++) {
        int32_t block = o * p->count * p->inner;
        for (int32_t j = 0; j < p->inner; j++) {
            ec_softmax_s8_row(x + block + j, p->count, p->inner, table, y + block + j);
        }
    }
}
