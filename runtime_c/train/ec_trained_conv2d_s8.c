/* conv2d with weights and bias in state, int8, portable C99: any groups, stride, dilation, padding.
 *
 *   acc[n,p,q,o] = saturated(bias[o] + sum_{r,s,i} (X[n,p,q,r,s,i] - zero_in) * W[o,r,s,i])
 *   y[n,p,q,o]   = clamp(zero_out + requantize(acc, multiplier[o], shift[o]), act_min, act_max)
 *
 * X is x[n, p * stride_h - pad_top + r * dilation_h, ..., g * I + i], or zero_in outside of the
 * map; W is w with its trained part replaced (ec_train_s8.h). Layouts as there; bias int32[O],
 * multiplier int32[O], shift uint8[O]; no alignment asked of bytes.
 * scratch: R * S * I bytes. Single rounding (ec_requant.h). Equals trained_conv2d.quant of
 * edgec/ops/trained.py.
 */
#include "ec_trained_conv2d.h"

void ec_trained_conv2d_s8(const ec_trained_conv2d_params *p, const int8_t *x, const int8_t *w,
                          const int32_t *bias, const int32_t *idx, const int8_t *slice,
                          const int32_t *multiplier, const uint8_t *shift, int8_t *y,
                          void *scratch)
{
    ec_trained_conv2d_body(p, x, w, bias, idx, slice, multiplier, shift, y, NULL, scratch);
}
