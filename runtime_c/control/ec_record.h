/* A recording of a control loop: everything that goes into it and comes out of it, in order.
 *
 * The five calls of ec_loop have a counterpart here that makes the call and writes records of it
 * into a ring in the caller's memory. That takes no heap, no lock, no system call and no waiting:
 * where the ring is full, a record is dropped and counted. Another thread (or the same one, later)
 * drains the ring into a file. One thread writes, one drains.
 *
 * The file, all little-endian: a header, then records without gaps.
 *
 *   header   magic "EDGECREC", version u32, bytes u32, settings hash u64, model hash u8[32], axes
 *            u32, states u32, horizon u32, words u32, settings i64 or f64 [words], zero u32, CRC-32
 *            u32 of all before
 *   record   CRC-32 u32 of all that follows, bytes u32 with this head, number u64, tick i64, type
 *            u32, flags u32, content, zeros to a multiple of 8
 *
 * `number` counts records and dropped ones: a gap tells where records are missing. `settings` holds
 * the numbers of ec_control_config in its order, estimate within, then whether there are a model, a
 * scale and an offset, the numbers of each axis, scales, offsets; their hash is FNV-1a of 64 bits.
 *
 *   OBSERVATION  now i64, observed i64, lateness i64, frame u64, state f32[states]; flags 1:
 * overrun QUESTION     sequence u64, handover i64, observed i64, asked i64, delay u32, zero u32,
 * state f32 [states], prefix f32[horizon][axes], zeros from `delay` on CHUNK        sequence u64,
 * published i64, status u32, zero u32, action f32[horizon][axes] as delivered; flags 1: taken
 *   ACTION       sequence u64, index u32, source u32, handover u32, clipped u32, stop u32, zero
 * u32, action f32[axes], zeros where nothing was sent EVENT        kind u32, value u32, sequence
 * u64 of the last question
 *
 * A period is OBSERVATION, QUESTION where one is asked, ACTION, and an EVENT for each kind that
 * happened in it; a CHUNK stands where it was delivered.
 */
#ifndef EC_RECORD_H
#define EC_RECORD_H

#include "ec_control.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EC_RECORD_VERSION 1u
#define EC_RECORD_MAGIC "EDGECREC"
#define EC_RECORD_HASH_BYTES 32
#define EC_RECORD_HEAD_BYTES 32u

typedef enum {
    EC_RECORD_OBSERVATION = 1,
    EC_RECORD_QUESTION,
    EC_RECORD_CHUNK,
    EC_RECORD_ACTION,
    EC_RECORD_EVENT,
    EC_RECORD_TYPES
} ec_record_type;

/* What an event says; its value is a count but where another is named. */
typedef enum {
    EC_EVENT_ASKED_STOP = 1, /* ec_recorded_stop was called; ec_stop */
    EC_EVENT_RESET,          /* ec_recorded_reset was called; 0 */
    EC_EVENT_STOP,           /* the loop stops; ec_stop */
    EC_EVENT_LATE,           /* no chunk in the period that it was planned for */
    EC_EVENT_DROPPED,        /* chunks that came too late */
    EC_EVENT_REFUSED,        /* chunks that were bad or not asked for */
    EC_EVENT_BAD_OBSERVATION,
    EC_EVENT_BEYOND, /* the delay is beyond what was trained */
    EC_EVENT_SPLIT   /* joined actions that were split */
} ec_event;

typedef struct ec_recorder ec_recorder;

/* FNV-1a of the settings as they are stored. */
uint64_t ec_settings_hash(const ec_control_config *config);

/* Least bytes of a ring: the header and the records of a few periods. */
size_t ec_recorder_least(const ec_control_config *config);

/* Bytes of a recorder with a ring of so many bytes, a power of two, at least ec_recorder_least. 0:
 * it is not. */
size_t ec_recorder_bytes(const ec_control_config *config, size_t ring_bytes);

/* A recorder in `memory`, aligned to 64 bytes; the file's header is in the ring. `model`: the hash
 * of the policy, zeros where there is none. */
ec_control_status ec_recorder_init(const ec_control_config *config,
                                   const uint8_t model[EC_RECORD_HASH_BYTES], size_t ring_bytes,
                                   void *memory, size_t bytes, ec_recorder **recorder);

/* The calls of ec_loop, recorded; with recorder NULL the calls alone. `lateness_ns`: how late the
 * period began. */
const ec_request *ec_recorded_begin(ec_recorder *recorder, ec_loop *loop,
                                    const ec_observation *observation, int64_t lateness_ns);
ec_control_status ec_recorded_deliver(ec_recorder *recorder, ec_loop *loop, uint64_t sequence,
                                      const float *actions, int64_t published_ns);
ec_tick_result ec_recorded_end(ec_recorder *recorder, ec_loop *loop, float *action);
void ec_recorded_stop(ec_recorder *recorder, ec_loop *loop, ec_stop why);
void ec_recorded_reset(ec_recorder *recorder, ec_loop *loop);

/* Where the records of a file lie. `at`: the first one's offset, afterwards that of the first that
 * is damaged or cut short, or the end. `number`: the least that the next one may have, in and out.
 * Of each its offset and type, at most `room`; the count of them. `bytes_of` [EC_RECORD_TYPES]: of
 * a record of each type. */
size_t ec_record_scan(const uint64_t *bytes_of, const uint8_t *bytes, size_t count, uint64_t *at,
                      uint64_t *number, uint64_t *offset, uint8_t *type, size_t room);

/* Records that found no room so far. */
uint64_t ec_recorder_dropped(const ec_recorder *recorder);

/* Move the next record, or the header, to `to`. Its bytes; 0: there is none, or it is longer than
 * `room`. */
size_t ec_recorder_next(ec_recorder *recorder, uint8_t *to, size_t room);

/* Move whole records, at most `room` bytes, to `to`. The bytes moved. */
size_t ec_recorder_take(ec_recorder *recorder, uint8_t *to, size_t room);

/* Where records go: 0, or else they stay in the ring. */
typedef int32_t (*ec_sink)(void *user, const uint8_t *bytes, size_t count);

/* Hand all that is in the ring to `sink`, in one or two calls. What `sink` returned. */
int32_t ec_recorder_drain(ec_recorder *recorder, ec_sink sink, void *user);

#ifdef __cplusplus
}
#endif

#endif
