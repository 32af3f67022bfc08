/* attention, int8, with an additive mask, portable C99.
 *
 *   y[b,h,i,:] = sum_j softmax_j(scale q[b,h,i,:] k[b,g,j,:] + mask[b,h,i,j]) v[b,g,j,:],
 *   g = floor(h / (heads / kv_heads)); causal: j <= i only
 *
 * Layouts in ec_norm.h, arithmetic in ec_attention.h; table uint32[256]; integers only. y must
 * not overlap an input. scratch: 4 * keys + 2 * depth bytes at a multiple of 4. Equals
 * attention.quant of edgec/ops/attention.py.
 */
#include "ec_attention.h"

void ec_attention_bias_s8(const ec_attention_params *p, const int8_t *q, const int8_t *k,
                          const int8_t *v, const int32_t *bias, const uint32_t *table, int8_t *y,
                          void *scratch)
{
    int32_t *scores = scratch;
    ec_attention_s8_body(p, q, k, v, bias, NULL, table, y, scores);
}
