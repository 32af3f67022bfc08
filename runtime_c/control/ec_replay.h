/* A recording (ec_record.h) fed through the loop again: every record that comes out must be the
 * same, byte for byte. */
#ifndef EC_REPLAY_H
#define EC_REPLAY_H

#include "ec_record.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    EC_REPLAY_SAME = 0,
    EC_REPLAY_DIFFERS, /* a record is another one, or only here, or only in the recording */
    EC_REPLAY_GAP,     /* records are missing from here on; all before are the same */
    EC_REPLAY_BAD,     /* no records of these settings */
    EC_REPLAY_MEMORY   /* too few bytes */
} ec_replay_status;

typedef struct {
    uint64_t records, periods; /* that were the same */
    int64_t tick;              /* of the record that ended the replay */
    size_t recorded;           /* offset of that record; the end where there is none */
    size_t replayed_bytes;     /* of the record in its place; 0: none */
} ec_replay_result;

/* Bytes that a replay needs, a multiple of 64. */
size_t ec_replay_bytes(const ec_control_config *config);

/* The records in `bytes` [count], without the file's header, checked for their CRC-32. `replayed`
 * [ec_replay_record_bytes] receives the record that differs. `memory`: aligned to 64 bytes. */
ec_replay_status ec_replay(const ec_control_config *config, const uint8_t *bytes, size_t count,
                           void *memory, size_t memory_bytes, uint8_t *replayed,
                           ec_replay_result *result);

/* Bytes of the longest record. */
size_t ec_replay_record_bytes(const ec_control_config *config);

#ifdef __cplusplus
}
#endif

#endif
