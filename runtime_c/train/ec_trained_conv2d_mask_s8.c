/* ec_trained_conv2d_s8 with the mask of its clamp, portable C99: any groups, stride, dilation,
 * padding.
 *
 *   mask bit [n,p,q,o] = act_min <= zero_out + requantize(acc, multiplier[o], shift[o]) <= act_max
 *
 * All else as in ec_trained_conv2d_s8. scratch: R * S * I bytes. Equals trained_conv2d.quant of
 * edgec/ops/trained.py.
 */
#include "ec_trained_conv2d.h"

void ec_trained_conv2d_mask_s8(const ec_trained_conv2d_params *p, const int8_t *x, const int8_t *w,
                               const int32_t *bias, const int32_t *idx, const int8_t *slice,
                               const int32_t *multiplier, const uint8_t *shift, int8_t *y,
                               uint8_t *mask, void *scratch)
{
    ec_trained_conv2d_body(p, x, w, bias, idx, slice, multiplier, shift, y, mask, scratch);
}
