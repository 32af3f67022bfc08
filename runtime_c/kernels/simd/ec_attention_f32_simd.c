/* attention, float, without a mask, for targets with vectors of floats.
 *
 *   y[b,h,i,:] = sum_j softmax_j(scale q[b,h,i,:] k[b,g,j,:]) v[b,g,j,:],
 *   g = floor(h / (heads / kv_heads)); causal: j <= i only
 *
 * Layouts in ec_norm.h, scratch in ec_attention_f32_simd.h; exp by expf. y must not overlap an
 * input. Equals ec_attention_f32 bit for bit.
 */
#include "ec_attention_f32_simd.h"

void ec_attention_f32_simd(const ec_attention_f32_params *p, const float *q, const float *k,
                             const float *v, float *y, void *scratch)
{
    ec_attention_f32_simd_body(p, q, k, v, NULL, NULL, y, (float *)scratch);
}
