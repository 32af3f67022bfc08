/* y = x where the loss is finite, else 0: the rate of a step that is to be left out, and whether it
 * counts.
 *
 * x, y float or int32 [1], loss float[1]; y may be x; no scratch. Equals when_finite of
 * edgec/ops/optimizer.py.
 */
#include <string.h>

#include "ec_train_f32.h"

void ec_when_finite_x4(const ec_elements_f32_params *p, const void *x, const float *loss, void *y)
{
    uint32_t bits[1] = {0};
    (void)p;
    if (ec_is_finite_f32(*loss)) {
        memcpy(bits, x, sizeof bits);
    }
    memcpy(y, bits, sizeof bits);
}
