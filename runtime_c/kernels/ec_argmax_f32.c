/* argmax over the middle axis of x[outer][size][inner]: y[o][i] = the first index of the largest.
 *
 * x float, y int32[outer][inner], other memory than x; no alignment asked of x; no scratch. Equals
 * argmax of edgec/ops/reduce.py.
 */
#include "ec_pointwise.h"

void ec_argmax_f32(const ec_argmax_params *p, const float *x, int32_t *y)
{
    for (int32_t o = 0; o < p->outer; o++) {
        for (int32_t i = 0; i < p->inner; i++) {
            const float *in = x + o * p->size * p->inner + i;
            int32_t best = 0;
            for (int32_t k = 1; k < p->size; k++) {
                if (in[k * p->inner] > in[best * p->inner]) {
                    best = k;
                }
            }
            *y++ = best;
        }
    }
}
