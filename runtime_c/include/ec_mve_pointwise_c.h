/* The inner loops of ec_mve_pointwise.h in portable C99; only that header includes this. */
#ifndef EC_MVE_POINTWISE_C_H
#define EC_MVE_POINTWISE_C_H

static inline int32_t ec_mve_dot_row(const int8_t *x, const int8_t *row, int32_t inputs,
                                     int32_t start)
{
    uint32_t sum = (uint32_t)start;
    for (int32_t i = 0; i < inputs; i++) {
        sum += (uint32_t)(x[i] * row[(i & -16) * EC_MVE_ROWS + (i & 15)]);
    }
    return (int32_t)sum;
}

static inline void ec_mve_add_rows(int32_t *sums, const int8_t *x, const int8_t *panel,
                                   int32_t inputs, int32_t start)
{
    for (int32_t k = 0; k < EC_MVE_ROWS; k++) {
        int32_t sum = ec_mve_dot_row(x, panel + k * EC_MVE_BYTES, inputs, start);
        sums[k] = (int32_t)((uint32_t)sums[k] + (uint32_t)sum);
    }
}

static inline void ec_mve_pixels(const ec_mve_four *to, const ec_mve_run *run, const int8_t *panel)
{
    const int8_t *x = run->x;
    int32_t at = run->at;
    for (int32_t n = 0; n < run->pixels; n++, x += run->step, at += run->y_step) {
        int32_t acc[EC_MVE_ROWS];
        for (int32_t k = 0; k < EC_MVE_ROWS; k++) {
            const int8_t *row = panel + k * EC_MVE_BYTES;
            acc[k] = ec_mve_dot_row(x, row, run->inputs, to->start[k]);
        }
        ec_mve_put_any(to, acc, run->y, run->mask, at);
    }
}

static inline void ec_mve_copy_row(int8_t *to, const int8_t *row, int32_t inputs)
{
    for (int32_t i = 0; i < ec_mve_whole(inputs, EC_MVE_BYTES); i++) {
        to[(i & -16) * EC_MVE_ROWS + (i & 15)] = (int8_t)(i < inputs ? row[i] : 0);
    }
}

static inline void ec_mve_copy(int8_t *to, const int8_t *from, int32_t count)
{
    memcpy(to, from, (size_t)count);
}

static inline void ec_mve_fill(int8_t *to, int32_t value, int32_t count)
{
    memset(to, value, (size_t)count);
}

static inline void ec_mve_sum_rows(int32_t *sums, const int8_t *panel, int32_t inputs)
{
    memset(sums, 0, EC_MVE_ROWS * sizeof *sums);
    for (int32_t i = 0; i < ec_mve_panel_bytes(inputs); i++) {
        sums[i >> 4 & 3] += panel[i];
    }
}

#endif
