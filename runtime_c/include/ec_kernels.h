/* All kernels of the runtime: one header a family.
 *
 * Argument order: (params, [row0, row1,] inputs, constants, outputs, [scratch]).
 * Kernels with row0, row1 compute output rows row0 <= p < row1 of one batch element; ring_0, ring_1,
 * ... and ring_y are the rows that each buffer holds, row r standing at r % ring. No buffer is read
 * or written outside of its size; inputs and outputs do not overlap except where a kernel says so.
 */
#ifndef EC_KERNELS_H
#define EC_KERNELS_H

#include "ec_conv.h"
#include "ec_decoder.h"
#include "ec_dsp_kernels.h"
#include "ec_mve_kernels.h"
#include "ec_norm.h"
#include "ec_pointwise.h"
#include "ec_requant.h"
#include "ec_shape.h"
#include "ec_train_f32.h"
#include "ec_train_s8.h"

#endif
