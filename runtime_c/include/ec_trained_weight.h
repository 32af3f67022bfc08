/* Weights of which a part is trained, as the kernels of int8 training read them (ec_train_s8.h). */
#ifndef EC_TRAINED_WEIGHT_H
#define EC_TRAINED_WEIGHT_H

#include <stdint.h>
#include <string.h>

/* w int8[O][taps][inputs]; trained, by_rows, idx, slice as in ec_train_s8.h. */
typedef struct ec_trained_weight {
    const int8_t *w;
    const int32_t *idx;
    const int8_t *slice;
    int32_t taps;
    int32_t inputs;
    int32_t trained;
    int32_t by_rows;
} ec_trained_weight;

/* The weights int8[count][inputs] of output `o` from tap `tap` on: where they lie, or put together
 * in `row` where single columns are trained. */
static inline const int8_t *ec_trained_taps(const ec_trained_weight *from, int32_t o, int32_t tap,
                                            int32_t count, int8_t *row)
{
    int32_t first = o * from->taps + tap;
    const int8_t *whole = from->w + first * from->inputs;
    if (from->by_rows != 0) {
        for (int32_t j = from->trained; j-- > 0;) {
            if (from->idx[j] == o) {
                return from->slice + (j * from->taps + tap) * from->inputs;
            }
        }
        return whole;
    }
    if (from->trained == 0) {
        return whole;
    }
    const int8_t *columns = from->slice + first * from->trained;
    memcpy(row, whole, (size_t)(count * from->inputs));
    for (int8_t *to = row; count > 0; count--, to += from->inputs, columns += from->trained) {
        for (int32_t j = 0; j < from->trained; j++) {
            to[from->idx[j]] = columns[j];
        }
    }
    return row;
}

#endif
