/* ec_linear_w8a8_params.h: what quantize_rows is called with; linear_w8a8 takes ec_gemm_params. */
#ifndef EC_LINEAR_W8A8_PARAMS_H
#define EC_LINEAR_W8A8_PARAMS_H

#include <stdint.h>

/* Channels of a row. */
typedef struct {
    int32_t in_c;
} ec_quantize_rows_params;

#endif
