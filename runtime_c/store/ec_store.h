/*
 * ec_store.h: a journal in flash that keeps the trained weights of a model; a power cut at any
 * moment leaves the weights of before or those being saved, whole. docs/store.md says why.
 *
 * The flash is divided into areas of whole sectors, an area into slots of one record:
 *
 *   slot    fence | header   | payload                 | CRC-32 of it    | commit mark | notes
 *   units       1 | 32 bytes | the longest one, padded | 4 bytes, padded |           3 |     6
 *
 * Records are appended slot by slot. Where an area is full, the next one is erased, never the one
 * that holds the newest record. The newest valid record is the one that counts; where there is
 * none, the caller keeps the weights that it was built with.
 *
 * No heap, no static data, no alignment asked of any pointer to bytes. One save at a time; calls
 * on one store come from one thread.
 */
#ifndef EC_STORE_H
#define EC_STORE_H

#include <stdbool.h>

#include "ec_flash.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EC_STORE_UNIT_MAX 32u

typedef enum {
    EC_STORE_OK = 0,
    EC_STORE_MORE = 1,             /* erase_step: sectors remain, call it again */
    EC_STORE_EMPTY = 2,            /* no record: the weights of the firmware count */
    EC_STORE_WRONG_VERSION = 3,    /* the newest record is of another version of the store */
    EC_STORE_WRONG_GRAPH = 4,      /* ... of another network */
    EC_STORE_WRONG_LAYOUT = 5,     /* ... of another choice or order of trained weights */
    EC_STORE_NULL_POINTER = 6,     /* open: a pointer or function is NULL */
    EC_STORE_BAD_GEOMETRY = 7,     /* open: write unit or sectors outside of what is supported */
    EC_STORE_BAD_LAYOUT = 8,       /* open: fewer than two areas, no payload, or beyond the flash */
    EC_STORE_AREA_TOO_SMALL = 9,   /* open: a record does not fit into an area */
    EC_STORE_NOT_OPEN = 10,        /* the store is not open */
    EC_STORE_BUSY = 11,            /* a save has begun and is neither committed nor aborted */
    EC_STORE_NOT_BEGUN = 12,       /* no save has begun, or an error of the flash ended it */
    EC_STORE_BAD_LENGTH = 13,      /* save_begin: no bytes, or more than the layout's payload */
    EC_STORE_LENGTH_MISMATCH = 14, /* chunks add up to more or fewer bytes than announced */
    EC_STORE_OUT_OF_RANGE = 15,    /* read: beyond the end of the record */
    EC_STORE_FULL = 16,            /* save_begin: no free slot; erase_step makes room */
    EC_STORE_READ_FAILED = 17,     /* the driver could not read */
    EC_STORE_PROGRAM_FAILED = 18,  /* the driver could not program */
    EC_STORE_VERIFY_FAILED = 19,   /* a programmed unit reads back otherwise */
    EC_STORE_ERASE_FAILED = 20,    /* the driver could not erase */
    EC_STORE_NOT_ERASED = 21,      /* a sector is not blank after its erase */
    EC_STORE_SYNC_FAILED = 22      /* the driver could not sync */
} ec_store_status;

/* Where records lie and whose they are. */
typedef struct {
    uint32_t first_sector;  /* of area 0 */
    uint32_t area_sectors;  /* sectors of each area, one after the other */
    uint32_t areas;         /* at least 2 */
    uint32_t payload_bytes; /* the longest payload */
    uint32_t graph_hash;    /* of the network */
    uint32_t layout_hash;   /* of which weights train, in which order and format */
} ec_store_layout;

typedef struct {
    uint32_t sequence; /* each save takes the next number; wraps around */
    uint32_t length;   /* bytes of the payload */
} ec_store_record;

/* Private, but for its size. */
typedef struct {
    const ec_flash *flash;
    const ec_store_layout *layout;
    uint32_t slot_bytes;    /* 0: not open */
    uint32_t sequence;      /* of the last record begun, whether whole or not */
    ec_store_status found;  /* what find returns */
    ec_store_record newest; /* where found is EC_STORE_OK */
    uint32_t newest_at;     /* address of its slot */
    uint32_t kept_area;     /* area that the next erase leaves alone; `areas` for none */
    uint32_t latest_area;   /* area of the record begun last */
    uint32_t area;          /* area and slot that the next save tries first */
    uint32_t slot;
    bool slot_is_free;      /* that slot was seen to be blank */
    uint32_t erased;        /* sectors of the next area erased so far */
    uint32_t save_at;       /* address of the slot being written */
    uint32_t note;          /* where its refusal would be noted */
    uint32_t total;         /* bytes announced by save_begin; 0: no save */
    uint32_t written;       /* bytes taken by save_chunk */
    uint32_t crc;           /* of the header and them */
    uint8_t unit[EC_STORE_UNIT_MAX]; /* the last written % unit_bytes of them */
} ec_store;

/*
 * Finds the newest record and checks all of it, which reads up to the whole journal. Programs up
 * to 5 units where a power cut has left a record between valid and not, so that the answer is the
 * same from then on; otherwise only reads. `flash`, `layout` and what they point to are used for
 * as long as the store is. An unusable flash or layout is an error, no record is not: see find.
 */
ec_store_status ec_store_open(ec_store *store, const ec_flash *flash, const ec_store_layout *layout);

/* OK and the newest record; or EMPTY or WRONG_*, and the caller keeps what it was built with. */
ec_store_status ec_store_find(const ec_store *store, ec_store_record *record);

/* Bytes offset <= i < offset + bytes of the newest record, also while another is being saved. */
ec_store_status ec_store_read(const ec_store *store, uint32_t offset, void *data, uint32_t bytes);

/*
 * OK where a save may begin, with nothing done; else erases one sector, reads it back and returns
 * MORE, or OK after the last. The only call that erases. What it erased is forgotten by open.
 */
ec_store_status ec_store_erase_step(ec_store *store);

/*
 * Begins a record of `total` bytes: at most 1 + ceil(32 / unit) programs. FULL where erase_step
 * has to make room first.
 */
ec_store_status ec_store_save_begin(ec_store *store, uint32_t total);

/* Appends to the payload: at most ceil(bytes / unit) programs. */
ec_store_status ec_store_save_chunk(ec_store *store, const void *data, uint32_t bytes);

/*
 * Makes the record the newest: at most 4 + ceil(4 / unit) programs, 2 more where it fails. After
 * OK the record stays until newer ones replace it.
 */
ec_store_status ec_store_save_commit(ec_store *store);

/* Gives up the save that has begun, if any. The newest record stays; the slot is lost. */
void ec_store_abort(ec_store *store);

/* Text of a status; "unknown status" for other values. Never NULL. (ec_store_status.c) */
const char *ec_store_status_text(ec_store_status status);

#ifdef __cplusplus
}
#endif

#endif
