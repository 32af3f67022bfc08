/* The instruction wrappers of ec_dsp.h as functions of one type. A source that includes this says
 * WRAPPERS, the name of its table, and which bodies ec_dsp.h takes. */
#ifndef DSP_WRAPPERS_H
#define DSP_WRAPPERS_H

#include "ec_dsp.h"

#define COUNT_OF_WRAPPERS 16

typedef struct wrapper {
    const char *name;
    uint32_t (*run)(uint32_t a, uint32_t b, uint32_t c);
} wrapper;

extern const wrapper native[COUNT_OF_WRAPPERS], portable[COUNT_OF_WRAPPERS];

#define WRAP(name, call)                                          \
    static uint32_t run_##name(uint32_t a, uint32_t b, uint32_t c) \
    {                                                             \
        (void)b;                                                  \
        (void)c;                                                  \
        return (uint32_t)call;                                    \
    }

WRAP(even, ec_dsp_even(a))
WRAP(odd, ec_dsp_odd(a))
WRAP(low, ec_dsp_low(a, b))
WRAP(high, ec_dsp_high(a, b))
WRAP(smlad, ec_dsp_smlad(a, b, (int32_t)c))
WRAP(smlabt, ec_dsp_smlabt(a, b, (int32_t)c))
WRAP(smlatb, ec_dsp_smlatb(a, b, (int32_t)c))
WRAP(smlabb, ec_dsp_smlabb(a, b, (int32_t)c))
WRAP(smlatt, ec_dsp_smlatt(a, b, (int32_t)c))
WRAP(qadd, ec_dsp_qadd((int32_t)a, (int32_t)b))
WRAP(max, ec_dsp_max(a, b))
WRAP(min, ec_dsp_min(a, b))
WRAP(add_even, ec_dsp_add_even(a, b))
WRAP(add_odd, ec_dsp_add_odd(a, b))
WRAP(smmla, ec_dsp_smmla((int32_t)a, (int32_t)b, (int32_t)c))
WRAP(saturate, ec_dsp_saturate((int32_t)a))

const wrapper WRAPPERS[COUNT_OF_WRAPPERS] = {
    {"even", run_even},         {"odd", run_odd},           {"low", run_low},
    {"high", run_high},         {"smlad", run_smlad},       {"smlabt", run_smlabt},
    {"smlatb", run_smlatb},     {"max", run_max},           {"min", run_min},
    {"add_even", run_add_even}, {"add_odd", run_add_odd},   {"smmla", run_smmla},
    {"saturate", run_saturate}, {"smlabb", run_smlabb},     {"smlatt", run_smlatt},
    {"qadd", run_qadd},
};

#endif
