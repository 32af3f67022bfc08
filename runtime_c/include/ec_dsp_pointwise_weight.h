/* Weight gradients of pointwise convolutions on Armv7E-M: sums over EC_DSP_PIXELS pixels at most.
 */
#ifndef EC_DSP_POINTWISE_WEIGHT_H
#define EC_DSP_POINTWISE_WEIGHT_H

#include "ec_dsp_vectors.h"

/* Adds the sums over `count` pixels to sums[outputs][I]; h as ec_dsp_weight_vectors leaves it,
 * panel of 2 * EC_DSP_PIXELS words. */
static void ec_train_weight_sums(const ec_train_weight_params *p, const int8_t *x,
                                 const uint32_t *h, uint32_t *panel, int32_t count, int32_t outputs,
                                 int32_t *sums)
{
    int32_t inputs = p->in_c;
    int32_t fours = ec_dsp_fours(count);
    uint32_t minus = ((uint32_t)-p->zero_in & 0xffffu) * 0x10001u;
    for (int32_t i = 0; i < inputs; i += 4) {
        int32_t columns = inputs - i < 4 ? inputs - i : 4;
        ec_dsp_grad_panel(panel, x + i, inputs, count, columns, minus);
        for (int32_t o = 0; o < outputs; o += 2) {
            int32_t found[8];
            int32_t *to = sums + o * inputs + i;
            ec_dsp_grad_dot(found, h + (o >> 1) * fours, panel, panel + 2 * fours);
            for (int32_t k = 0; k < columns; k++) {
                to[k] += found[k];
                to[inputs + k] += found[4 + k];
            }
        }
    }
}

#endif
