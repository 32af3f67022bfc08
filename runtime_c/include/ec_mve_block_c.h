/* The inner loop of ec_mve_block.h in portable C99; only that header includes this. */
#ifndef EC_MVE_BLOCK_C_H
#define EC_MVE_BLOCK_C_H

static inline void ec_mve_block(int32_t *first, int32_t *second, int32_t step, const int16_t *h,
                                const int8_t *panel, int32_t length)
{
    for (int32_t k = 0; k < EC_MVE_VECTORS * EC_MVE_COLUMNS; k++) {
        const int16_t *vector = h + (k >> 1) * 8;
        const int8_t *column = panel + (k & 1) * 8;
        uint32_t sum = 0;
        for (int32_t i = 0; i < length; i++) {
            int32_t at = (i >> 3) * 8;
            int32_t product = vector[at * EC_MVE_VECTORS + (i & 7)] *
                              column[at * EC_MVE_COLUMNS + (i & 7)];
            sum += (uint32_t)product;
        }
        ((k & 1) != 0 ? second : first)[(k >> 1) * step] = (int32_t)sum;
    }
}

#endif
