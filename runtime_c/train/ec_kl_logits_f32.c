/* Divergence from a teacher, float, portable C99: square * mean over rows of sum p (log p - log q),
 * p and q the softmax of inverse * teacher and inverse * logits.
 *
 * logits, teacher float[N][C], loss float[1]; inverse = 1 / T, square = T^2; no scratch. Equals
 * kl_logits of edgec/ops/loss.py, bit for bit.
 */
#include "ec_float.h"
#include "ec_train_f32.h"

/* The largest of inverse * x and the sum of exp(inverse * x - that). */
static inline void ec_kl_logits_f32_sum(const float *x, int32_t classes, float inverse, float *most,
                                        float *sum)
{
    *most = x[0] * inverse;
    for (int32_t c = 1; c < classes; c++) {
        float z = x[c] * inverse;
        *most = z > *most || z != z ? z : *most;
    }
    *sum = 0.0f;
    for (int32_t c = 0; c < classes; c++) {
        *sum += ec_exp_f32(x[c] * inverse - *most);
    }
}

void ec_kl_logits_f32(const ec_loss_f32_params *p, const float *logits, const float *teacher,
                      float *loss)
{
    float total = 0.0f;
    for (int32_t n = 0; n < p->rows; n++) {
        const float *x = logits + n * p->classes;
        const float *t = teacher + n * p->classes;
        float most, sum, teacher_most, teacher_sum;
        ec_kl_logits_f32_sum(x, p->classes, p->inverse, &most, &sum);
        ec_kl_logits_f32_sum(t, p->classes, p->inverse, &teacher_most, &teacher_sum);
        float log_sum = ec_log_f32(sum);
        float teacher_log_sum = ec_log_f32(teacher_sum);
        float row = 0.0f;
        for (int32_t c = 0; c < p->classes; c++) {
            float z = t[c] * p->inverse - teacher_most;
            float log_q = (x[c] * p->inverse - most) - log_sum;
            row += (ec_exp_f32(z) / teacher_sum) * ((z - teacher_log_sum) - log_q);
        }
        total += row;
    }
    *loss = total / (float)p->rows * p->square;
}
