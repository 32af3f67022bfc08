/* linear, int8, MVE.
 *
 *   acc[t,o] = bias[o] + sum_k x[t,k] * w[o,k]
 *   y[t,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * x int8[rows][K], w int8[ceil(O / 4)][ceil(K / 16)][4][16], zeros beyond O and K ("mve_o4"), bias
 * int32[O] folded, y int8[rows][O]; no alignment asked of bytes; no scratch. Single rounding
 * (ec_requant.h). Equals linear.quant of edgec/ops/linear.py.
 */
#include "ec_mve_kernels.h"
#include "ec_mve_pointwise.h"

void ec_linear_s8_mve(const ec_linear_params *p, const int8_t *x, const int8_t *w,
                      const int32_t *bias, const int32_t *multiplier, const uint8_t *shift,
                      int8_t *y)
{
    ec_mve_four to = {{0}, {0}, {0}, {0}, {0}, p->zero_out, p->act_min, p->act_max, 0, 0};
    ec_mve_run run = {x, p->in_c, p->in_c, p->rows, y, NULL, 0, p->out_c};
    for (int32_t o = 0; o < p->out_c; o += EC_MVE_ROWS, w += ec_mve_panel_bytes(p->in_c)) {
        ec_mve_four_next(&to, bias + o, multiplier + o, shift + o, p->out_c - o);
        run.at = o;
        ec_mve_pixels(&to, &run, w);
    }
}
