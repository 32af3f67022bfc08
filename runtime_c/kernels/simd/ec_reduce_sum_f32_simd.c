/* Sum and mean over axes, float, for targets with vectors of floats: neighbouring sums together.
 *
 *   y = sum x / divisor
 *
 * x float, laid out as the strides say; y float[kept0][kept1][kept2], other memory than x; no
 * scratch. Summed in the order of memory. Equals ec_reduce_sum_f32 bit for bit.
 */
#include "ec_pointwise.h"
#include "ec_tile_f32.h"

enum { EC_COLUMNS = 16, EC_CHAINS = 4 };

/* 16 sums whose elements are neighbours. */
static inline void ec_column_sums_f32(const ec_reduce_f32_params *p, const float *x, float *y)
{
    ec_f32x4 s0 = {0.0f, 0.0f, 0.0f, 0.0f};
    ec_f32x4 s1 = s0, s2 = s0, s3 = s0;
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const float *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                s0 += ec_load_f32x4(in);
                s1 += ec_load_f32x4(in + 4);
                s2 += ec_load_f32x4(in + 8);
                s3 += ec_load_f32x4(in + 12);
                in += p->stride2;
            }
        }
    }
    ec_store_f32x4(y, s0 / p->divisor);
    ec_store_f32x4(y + 4, s1 / p->divisor);
    ec_store_f32x4(y + 8, s2 / p->divisor);
    ec_store_f32x4(y + 12, s3 / p->divisor);
}

/* 4 sums whose elements are `step` apart: no addition waits for the one before. */
static inline void ec_chained_sums_f32(const ec_reduce_f32_params *p, const float *x, int32_t step,
                                       float *y)
{
    float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const float *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                s0 += in[0];
                s1 += in[step];
                s2 += in[2 * step];
                s3 += in[3 * step];
                in += p->stride2;
            }
        }
    }
    y[0] = s0 / p->divisor;
    y[1] = s1 / p->divisor;
    y[2] = s2 / p->divisor;
    y[3] = s3 / p->divisor;
}

static inline float ec_one_sum_f32(const ec_reduce_f32_params *p, const float *x)
{
    float sum = 0.0f;
    for (int32_t i = 0; i < p->size0; i++) {
        for (int32_t j = 0; j < p->size1; j++) {
            const float *in = x + i * p->stride0 + j * p->stride1;
            for (int32_t k = 0; k < p->size2; k++) {
                sum += in[k * p->stride2];
            }
        }
    }
    return sum / p->divisor;
}

void ec_reduce_sum_f32_simd(const ec_reduce_f32_params *p, const float *x, float *y)
{
    const ec_reduce_f32_params local = *p;
    int32_t step = local.kept_stride2;
    for (int32_t i = 0; i < local.kept0; i++) {
        for (int32_t j = 0; j < local.kept1; j++) {
            const float *in = x + i * local.kept_stride0 + j * local.kept_stride1;
            int32_t k = 0;
            for (; step == 1 && k + EC_COLUMNS <= local.kept2; k += EC_COLUMNS) {
                ec_column_sums_f32(&local, in + k, y + k);
            }
            for (; k + EC_CHAINS <= local.kept2; k += EC_CHAINS) {
                ec_chained_sums_f32(&local, in + k * step, step, y + k);
            }
            for (; k < local.kept2; k++) {
                y[k] = ec_one_sum_f32(&local, in + k * step);
            }
            y += local.kept2;
        }
    }
}
