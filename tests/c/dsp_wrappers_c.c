/* The wrappers with their C bodies, on a processor that has the instructions. */
#undef __ARM_FEATURE_DSP
#define WRAPPERS portable
#include "dsp_wrappers.h"

#ifndef EC_DSP_C_H
#error "these must be the C bodies"
#endif
