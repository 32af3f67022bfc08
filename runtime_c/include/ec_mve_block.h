/* Products of three vectors of int16 with two columns of int8 with MVE. */
#ifndef EC_MVE_BLOCK_H
#define EC_MVE_BLOCK_H

#include "ec_mve_grad.h"

#define EC_MVE_VECTORS 3
#define EC_MVE_COLUMNS 2

/* ec_mve_block: sums over `length` rows of vector k with the two columns, to first[k * step] and
 * second[k * step]. h: int16[ceil(length / 8)][3][8], panel: int8[ceil(length / 8)][2][8], zeros
 * beyond the last row. */
#include EC_MVE_INNER(block)

#endif
