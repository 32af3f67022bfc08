/* Parameters of ec_inverted_s8.cu; C99. */
#ifndef EC_INVERTED_S8_PARAMS_H
#define EC_INVERTED_S8_PARAMS_H

#include <stdint.h>

#define EC_BLOCK_AT 128 /* where the constants stand in shared memory; before them is their barrier */

/* A block of threads makes tile_h x tile_w outputs of the depthwise convolution; `blocks`: of 32 hidden channels that
 * it holds. at_...: bytes into its shared memory. */
typedef struct ec_inverted_s8_params {
    int32_t in_h, in_w, in_c, hidden, out_h, out_w, out_c;
    int32_t pad_top, pad_left;
    int32_t tile_h, tile_w, tiles_h, tiles_w, halo_h, halo_w;
    int32_t blocks, block_bytes; /* block_bytes: constants of a share */
    int32_t k1, n2;              /* blocks of 32 input channels, of 32 outputs */
    int32_t zero_hidden;         /* what taps of the depthwise convolution read outside of the map */
    int32_t min1, max1, table1, min_d, max_d, table_d, min2, max2;
    int32_t gate_zero, map_zero, gate_multiplier, gate_round, gate_shift, gate_zero_out, gate_min, gate_max;
    int32_t add, own_multiplier, other_multiplier, add_offset, add_shift, add_zero, add_min, add_max;
    int32_t at_w1, at_w2, at_wd, at_records1, at_records_d, at_records2, at_table1, at_table_d;
    int32_t at_place, at_x, at_e, at_d, at_sums;
} ec_inverted_s8_params;

/* ec_squeeze_s8_body: `tiles` of sums, over `pixels` in all; `few`: outputs of the first product, few_words: in words. */
typedef struct ec_squeeze_s8_params {
    int32_t channels, tiles, pixels, zero, few, few_words, block_bytes;
    int32_t min1, max1, table1, min2, max2, table2;
    int32_t at_w1, at_w2, at_records1, at_records2, at_table1, at_table2, at_totals, at_average, at_few;
} ec_squeeze_s8_params;

#endif
