/* How many rows have their first largest element at the label.
 *
 * logits float[N][C], label int32[N], correct int32[1]; no scratch. Equals correct_count of
 * edgec/ops/loss.py.
 */
#include "ec_train_f32.h"

void ec_correct_count_f32(const ec_loss_f32_params *p, const float *logits, const int32_t *label,
                          int32_t *correct)
{
    *correct = 0;
    for (int32_t n = 0; n < p->rows; n++) {
        int32_t best = 0;
        for (int32_t c = 1; c < p->classes; c++) {
            if (logits[best] == logits[best] && !(logits[c] <= logits[best])) {
                best = c;
            }
        }
        *correct += best == label[n];
        logits += p->classes;
    }
}
