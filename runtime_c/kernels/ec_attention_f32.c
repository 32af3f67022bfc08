/* attention, float, with no mask, portable C99.
 *
 *   y[b,h,i,:] = sum_j softmax_j(scale q[b,h,i,:] k[b,g,j,:] + mask[b,h,i,j]) v[b,g,j,:],
 *   g = floor(h / (heads / kv_heads)); causal: j <= i only
 *
 * Layouts in ec_norm.h, arithmetic in ec_attention_f32.h; exp by expf. y must not overlap an
 * input. scratch: 4 * keys bytes at a multiple of 4. Equals attention.ref of
 * edgec/ops/attention.py within float rounding.
 */
#include "ec_attention_f32.h"

void ec_attention_f32(const ec_attention_f32_params *p, const float *q, const float *k,
                      const float *v, float *y, void *scratch)
{
    float *scores = scratch;
    ec_attention_f32_body(p, q, k, v, NULL, NULL, y, scores);
}
