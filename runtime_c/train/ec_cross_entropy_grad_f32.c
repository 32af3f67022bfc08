/* Gradient of softmax cross-entropy to its logits, float, portable C99:
 *
 *   dlogits[n,c] = (softmax(x)[c] - [c is the label]) * dloss / rows counted
 *
 * logits, dlogits float[N][C], label int32[N], dloss float[1]; 0 in a row whose label is not
 * 0..C-1; dlogits may be logits; no scratch. Equals cross_entropy_grad of edgec/ops/loss.py, bit
 * for bit.
 */
#include "ec_float.h"
#include "ec_train_f32.h"

static inline void ec_cross_entropy_grad_f32_row(const float *x, int32_t classes, int32_t label,
                                                 float factor, float *y)
{
    float most = x[0];
    for (int32_t c = 1; c < classes; c++) {
        most = x[c] > most || x[c] != x[c] ? x[c] : most;
    }
    float sum = 0.0f;
    for (int32_t c = 0; c < classes; c++) {
        y[c] = ec_exp_f32(x[c] - most);
        sum += y[c];
    }
    for (int32_t c = 0; c < classes; c++) {
        y[c] = (y[c] / sum - (c == label ? 1.0f : 0.0f)) * factor;
    }
}

void ec_cross_entropy_grad_f32(const ec_loss_f32_params *p, const float *logits,
                               const int32_t *label, const float *dloss, float *dlogits)
{
    int32_t counted = 0;
    for (int32_t n = 0; n < p->rows; n++) {
        counted += label[n] >= 0 && label[n] < p->classes;
    }
    float factor = *dloss / (float)(counted > 0 ? counted : 1);
    for (int32_t n = 0; n < p->rows; n++) {
        float *y = dlogits + n * p->classes;
        if (label[n] >= 0 && label[n] < p->classes) {
            ec_cross_entropy_grad_f32_row(logits + n * p->classes, p->classes, label[n], factor, y);
        } else {
            for (int32_t c = 0; c < p->classes; c++) {
                y[c] = 0.0f;
            }
        }
    }
}
