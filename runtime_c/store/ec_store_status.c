/* ec_store_status.c: the one table of texts for ec_store_status. */
#include "ec_store.h"

const char *ec_store_status_text(ec_store_status status)
{
    static const char *const texts[] = {
        "ok",
        "call ec_store_erase_step again: sectors remain to be erased",
        "nothing is saved: the weights of the firmware are in use",
        "save again: the saved weights are of another version of the store",
        "save again: the saved weights are of another network",
        "save again: the saved weights are of another choice of trained weights",
        "pass a store, a flash with its four functions, and a layout: a pointer is NULL",
        "check the geometry: the write unit or the sectors are not supported",
        "check the layout: it needs two areas or more, inside of the flash, and a payload",
        "give each area more sectors: a record does not fit",
        "call ec_store_open first",
        "commit or abort the save that has begun",
        "call ec_store_save_begin first: no save has begun",
        "announce at least one byte and at most the payload of the layout",
        "save as many bytes as announced: the chunks add up to another length",
        "read inside of the record",
        "call ec_store_erase_step until it returns ok: no slot is free",
        "try again or replace the flash: it could not be read",
        "try again or replace the flash: it could not be programmed",
        "try again or replace the flash: it reads back other bytes than were programmed",
        "try again or replace the flash: it could not be erased",
        "try again or replace the flash: a sector is not blank after its erase",
        "try again or replace the flash: its writes could not be synchronised",
    };
    uint32_t index = (uint32_t)status;
    return index < sizeof texts / sizeof texts[0] ? texts[index] : "unknown status";
}
