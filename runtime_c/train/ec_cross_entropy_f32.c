/* Softmax cross-entropy, float, portable C99: the mean over rows of log(sum exp(x)) - x[label].
 *
 * logits float[N][C], label int32[N], loss float[1]; a row whose label is not 0..C-1 counts for
 * nothing; no scratch. Equals cross_entropy of edgec/ops/loss.py, bit for bit.
 */
#include "ec_float.h"
#include "ec_train_f32.h"

static inline float ec_cross_entropy_f32_row(const float *x, int32_t classes, int32_t label)
{
    float most = x[0];
    for (int32_t c = 1; c < classes; c++) {
        most = x[c] > most || x[c] != x[c] ? x[c] : most;
    }
    float sum = 0.0f;
    for (int32_t c = 0; c < classes; c++) {
        sum += ec_exp_f32(x[c] - most);
    }
    return ec_log_f32(sum) - (x[label] - most);
}

void ec_cross_entropy_f32(const ec_loss_f32_params *p, const float *logits, const int32_t *label,
                          float *loss)
{
    float sum = 0.0f;
    int32_t counted = 0;
    for (int32_t n = 0; n < p->rows; n++) {
        if (label[n] >= 0 && label[n] < p->classes) {
            sum += ec_cross_entropy_f32_row(logits + n * p->classes, p->classes, label[n]);
            counted++;
        }
    }
    *loss = sum / (float)(counted > 0 ? counted : 1);
}
