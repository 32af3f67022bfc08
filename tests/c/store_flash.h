/*
 * store_flash.h: a flash that holds the store to its rules and loses power where a test says.
 *
 * A unit is programmed once between erases. Two things are excepted, both with all bits programmed
 * and with the bytes that were meant the first time: a unit that a power cut has torn, and a mark.
 * A sector whose erase was cut takes no program before it is erased whole, however blank it reads.
 */
#ifndef STORE_FLASH_H
#define STORE_FLASH_H

#include <stdbool.h>

#include "ec_flash.h"

/* What a power cut leaves of the unit being programmed, or of the sector being erased. */
typedef enum {
    CUT_CLEAN,      /* nothing was done */
    CUT_TORN,       /* some bits programmed; the first or the last units erased */
    CUT_ROTTEN,     /* bits flipped; units erased, as before or random */
    CUT_BITS,       /* each bit reads as before or as meant, at random each time */
    CUT_COIN,       /* each unit reads as before or as meant, at random each time */
    CUT_NOISE,      /* random bytes each time */
    CUT_UNREADABLE, /* reading fails, as with ECC */
    CUT_KINDS
} cut_kind;

typedef struct {
    const ec_flash_geometry *geometry;
    uint32_t bytes;
    uint8_t *content; /* what is there; of an unstable unit what was */
    uint8_t *meant;   /* of an unstable unit what was to be there */
    uint8_t *state;   /* of each unit */
    uint8_t *reading; /* of each unit: CUT_CLEAN reads content, others at random */
    uint64_t random;
    uint32_t operations; /* programs and erases since the power came on */
    uint32_t programs;
    uint32_t erases;
    uint32_t cut_at; /* number of the operation that is cut; 0: none */
    cut_kind cut;
    bool off;            /* the power is gone: nothing works */
    const char *offence; /* the first rule broken, or NULL */
} flash_model;

/* Content is random; nothing may be programmed before its erase. */
void flash_model_make(flash_model *model, const ec_flash_geometry *geometry, uint64_t seed);
void flash_model_free(flash_model *model);
ec_flash flash_model_driver(flash_model *model);

/* Power on; the operation number `cut_at` from here on loses it. */
void flash_model_power(flash_model *model, uint32_t cut_at, cut_kind cut);

/* The memory of `to` becomes what that of `from` is; both made with the same geometry. */
void flash_model_copy(flash_model *to, const flash_model *from);

uint64_t next_random(uint64_t *state);

#endif
