/* Params of ec_sample.cu. */
#ifndef EC_SAMPLE_PARAMS_H
#define EC_SAMPLE_PARAMS_H

#include <stdint.h>

typedef struct {
    int32_t size;   /* logits of a row */
    int32_t splits; /* blocks that share a row */
} ec_sample_params;

#endif
