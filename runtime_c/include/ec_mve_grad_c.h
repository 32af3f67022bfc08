/* The inner loops of ec_mve_grad.h in portable C99; only that header includes this. */
#ifndef EC_MVE_GRAD_C_H
#define EC_MVE_GRAD_C_H

static inline void ec_mve_masked(int8_t *to, const int8_t *q, const uint8_t *mask, int32_t at,
                                 int32_t count)
{
    for (int32_t i = 0; i < ec_mve_whole(count, EC_MVE_BYTES); i++) {
        to[i] = (int8_t)(i < count ? q[at + i] & -ec_mask_bit(mask, at + i) : 0);
    }
}

static inline void ec_mve_scaled(int16_t *to, int32_t step, const int8_t *q, const uint8_t *mask,
                                 const int16_t *eff, int32_t at, int32_t count)
{
    for (int32_t i = 0; i < ec_mve_whole(count, 8); i++) {
        int32_t value = i < count ? q[at + i] * eff[i] & -ec_mask_bit(mask, at + i) : 0;
        to[(i >> 3) * step + (i & 7)] = (int16_t)value;
    }
}

static inline void ec_mve_column(int8_t *to, int32_t apart, const int8_t *from, int32_t step,
                                 int32_t count)
{
    for (int32_t i = 0; i < ec_mve_whole(count, 8); i++) {
        to[(i >> 3) * apart + (i & 7)] = (int8_t)(i < count ? from[i * step] : 0);
    }
}

static inline int32_t ec_mve_sum(const int8_t *h, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += h[i];
    }
    return sum;
}

static inline void ec_mve_bias_sums(int32_t *sums, const int8_t *q, const uint8_t *mask, int32_t c,
                                    int32_t count, int32_t channels, int32_t pixels)
{
    memset(sums, 0, EC_MVE_BYTES * sizeof *sums);
    for (int32_t at = c; pixels > 0; pixels--, at += channels) {
        for (int32_t k = 0; k < count; k++) {
            sums[k] += q[at + k] & -ec_mask_bit(mask, at + k);
        }
    }
}

static inline void ec_mve_put(ec_block_float *to, const int32_t *acc, int32_t count)
{
    ec_block_float_put(to, acc, count);
}

#endif
