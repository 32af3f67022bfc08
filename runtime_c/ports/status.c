/* status.c: the one table of texts for ec_status. */
#include "edgec.h"

const char *ec_status_text(ec_status status) {
    static const char *const texts[] = {
        "ok",
        "a pointer is NULL",
        "an arena or the instance is not aligned as the model asks",
        "an arena is smaller than the model needs",
        "invoke before init",
        "an argument is outside of its range",
        "the loss is not finite",
    };
    uint32_t index = (uint32_t)status;
    return index < sizeof texts / sizeof texts[0] ? texts[index] : "unknown status";
}
