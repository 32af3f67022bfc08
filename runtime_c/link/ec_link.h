/*
 * ec_link.h: the link over which a host streams samples to a training firmware and pulls and
 * pushes its weights. docs/protocol.md holds the tables; edgec/link/host.py is the other side.
 *
 * A frame on the wire:   00  COBS(header, payload, CRC-32)  00
 *
 *   offset  bytes  header, all numbers little-endian
 *        0      1  type: ec_link_type; an answer's has the highest bit set
 *        1      1  status: ec_link_status; 0 in a request
 *        2      2  length of the payload
 *        4      4  sequence: counts a session's requests; an answer repeats its request's
 *        8      4  session: of hello's answer; 0 in hello
 *       12      n  payload
 *   12 + n      4  CRC-32 (IEEE 802.3, as zlib) of all bytes before it
 *
 * COBS (Cheshire and Baker, Consistent Overhead Byte Stuffing, IEEE/ACM Transactions on
 * Networking 7(2), 1999) leaves no 00 inside of a frame and costs one byte in 254. So a 00
 * always ends a frame: whatever garbage came before, the receiver is in step again at the next
 * one, without a timer. An escape byte would cost up to twice the length for the bytes that
 * quantised images are full of, and a length in front would have to be believed before it is
 * checked.
 *
 * CRC-32 and not CRC-16, although it costs two bytes more a frame: noise passes 16 bits once in
 * 65,536 frames, which on a bad cable is a wrong training step every few minutes; it passes 32
 * bits once in 4.3e9. The frames are long (a chunk of an image), so two bytes do not matter, and
 * the same routine (store/ec_crc32.c) guards whole weights.
 *
 * Every request is safe to repeat. A session's requests carry sequence numbers that grow by one.
 * The device runs the one after the last, answers a repetition of the last from memory, and
 * refuses every other; so a training step is never applied twice, however often it was sent. A
 * session begins with hello and has a number that the device gives, so that frames of an earlier
 * one are refused.
 *
 * Weights that the host pushes go to a staging place of the model's (stage_*) and are used only
 * when all of them came and their CRC-32 is right. A new hello forgets them.
 *
 * No heap, no recursion, no word accesses: a Cortex-M0 runs it. The caller gives two buffers:
 * one receives, the other holds the last answer.
 */
#ifndef EC_LINK_H
#define EC_LINK_H

#include "edgec.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EC_LINK_VERSION 1u
#define EC_LINK_HEADER_BYTES 12u
#define EC_LINK_FRAME_BYTES 16u    /* header and CRC */
#define EC_LINK_PAYLOAD_MIN 128u   /* the longest answer of fixed length is hello's */
#define EC_LINK_PAYLOAD_MAX 65519u /* of a frame of 65,535 bytes */
#define EC_LINK_HASH_BYTES 8u
#define EC_LINK_NAME_BYTES 32u
#define EC_LINK_ANSWER 0x80u

/* What a request asks. docs/protocol.md gives the payloads. */
typedef enum {
    EC_LINK_HELLO = 1,          /* begin a session; who are you */
    EC_LINK_STATS = 2,          /* counters, learning rate, CRC-32 of the weights */
    EC_LINK_RATE = 3,           /* set the learning rate */
    EC_LINK_INPUT = 4,          /* a part of a sample */
    EC_LINK_INFER = 5,          /* run the network on the sample */
    EC_LINK_OUTPUT = 6,         /* a part of the outputs */
    EC_LINK_TRAIN = 7,          /* one training step on the sample */
    EC_LINK_EVALUATE = 8,       /* loss of the sample, nothing is changed */
    EC_LINK_SAVE = 9,           /* weights to where they outlive a power cut */
    EC_LINK_LOAD = 10,          /* weights as they were saved last */
    EC_LINK_RESET = 11,         /* factory weights */
    EC_LINK_WEIGHTS_READ = 12,  /* a part of the weights */
    EC_LINK_WEIGHTS_BEGIN = 13, /* weights are about to come */
    EC_LINK_WEIGHTS_CHUNK = 14, /* a part of them */
    EC_LINK_WEIGHTS_COMMIT = 15, /* use them */
    EC_LINK_WEIGHTS_ABORT = 16, /* forget them */
    EC_LINK_REPLAY_KEEP = 17,   /* keep the sample in the replay buffer */
    EC_LINK_REPLAY_STEPS = 18   /* how many kept samples each training step repeats */
} ec_link_type;

/* What an answer's status says. */
typedef enum {
    EC_LINK_OK = 0,
    EC_LINK_BAD_TYPE = 1,     /* this firmware does not know the request */
    EC_LINK_BAD_LENGTH = 2,   /* the payload's length is not that of the request */
    EC_LINK_BAD_VERSION = 3,  /* the two sides speak different versions of the protocol */
    EC_LINK_BAD_SESSION = 4,  /* no session, or another: the device started anew */
    EC_LINK_BAD_SEQUENCE = 5, /* neither the next request nor a repetition of the last */
    EC_LINK_BAD_ARGUMENT = 6, /* a value outside of its range */
    EC_LINK_BAD_OFFSET = 7,   /* a part that does not continue the one before, or exceeds the whole */
    EC_LINK_INCOMPLETE = 8,   /* parts are missing */
    EC_LINK_NO_OUTPUT = 9,    /* no outputs are there: the sample has changed since infer */
    EC_LINK_STAGED = 10,      /* weights are on their way: commit or abort them first */
    EC_LINK_NOT_STAGED = 11,  /* no weights are on their way */
    EC_LINK_BAD_GRAPH = 12,   /* the weights belong to another network */
    EC_LINK_BAD_LAYOUT = 13,  /* the weights belong to another choice of what trains */
    EC_LINK_BAD_CRC = 14,     /* the weights came damaged; they were forgotten */
    EC_LINK_UNSUPPORTED = 15, /* this firmware cannot do that */
    EC_LINK_MODEL = 16        /* the model refused: its ec_status and the text follow */
} ec_link_status;

/* Bits of hello's flags. */
#define EC_LINK_CAN_SAVE 1u     /* save and load */
#define EC_LINK_CAN_RECEIVE 2u  /* weights from the host */
#define EC_LINK_CAN_EVALUATE 4u /* evaluate */

/* What a training step or an evaluation found. */
typedef struct {
    float loss;
    int32_t correct; /* 1 where the largest output was the label's, else 0 */
} ec_link_result;

/*
 * The model behind the link. Sizes are in bytes; several inputs or outputs stand one after the
 * other. Every call may overwrite the memory of the inputs and outputs.
 *
 * input, output: where byte `offset` of them stands; *bytes receives how many follow it there.
 * `use`: the request that will read the sample, EC_LINK_INFER, EC_LINK_TRAIN or EC_LINK_EVALUATE:
 * it may stand elsewhere for each.
 * train_step: one step, or none at all: where it returns anything but EC_OK, weights, optimiser
 * and step counter are as before.
 * weights_read: trained weights with all that is saved with them, as save would store them now.
 * stage_begin, stage_write (offsets grow without gaps), stage_commit: receive weights into a
 * place of their own; commit makes them the weights, wholly or (not EC_OK) not at all. Nothing
 * before commit may change what the network computes or what load would bring back.
 * status_text: what a status that these functions return means; NULL: ec_status_text says it.
 * NULL where a model has none: output; evaluate; save with load; all four of stage.
 */
typedef struct {
    const char *name; /* the first 32 bytes are told */
    uint8_t graph_hash[EC_LINK_HASH_BYTES];
    uint8_t layout_hash[EC_LINK_HASH_BYTES];
    uint32_t input_bytes;
    uint32_t label_bytes;
    uint32_t output_bytes;
    uint32_t weight_bytes;
    uint32_t classes; /* labels are 0..classes-1, each an int32; 0: they are other values */
    void *self;
    uint8_t *(*input)(void *self, ec_link_type use, uint32_t offset, uint32_t *bytes);
    const uint8_t *(*output)(void *self, uint32_t offset, uint32_t *bytes);
    ec_status (*infer)(void *self);
    ec_status (*train_step)(void *self, const uint8_t *label, ec_link_result *result);
    ec_status (*evaluate)(void *self, const uint8_t *label, ec_link_result *result);
    ec_status (*set_rate)(void *self, float rate);
    float (*rate)(void *self);
    uint32_t (*steps)(void *self); /* training steps since the factory weights */
    ec_status (*save)(void *self);
    ec_status (*load)(void *self);
    ec_status (*reset)(void *self);
    ec_status (*weights_read)(void *self, uint32_t offset, uint8_t *to, uint32_t bytes);
    ec_status (*stage_begin)(void *self);
    ec_status (*stage_write)(void *self, uint32_t offset, const uint8_t *from, uint32_t bytes);
    ec_status (*stage_commit)(void *self);
    void (*stage_abort)(void *self);
    const char *(*status_text)(ec_status status);
} ec_link_model;

/* A frame that arrived whole. `payload` stands in the receive buffer until the next byte. */
typedef struct {
    uint8_t type;
    uint8_t status;
    uint16_t length;
    uint32_t sequence;
    uint32_t session;
    uint32_t crc;
    const uint8_t *payload;
} ec_link_frame;

/* Sends bytes to the host, all of them; what becomes of them the link does not need to know. */
typedef void (*ec_link_send)(void *context, const uint8_t *bytes, uint32_t count);

/*
 * Memory that the caller gives. `receive` and `answer`: buffer_bytes each, at least
 * EC_LINK_PAYLOAD_MIN + EC_LINK_FRAME_BYTES; what exceeds 65,535 is not used. `replay`: samples
 * with their labels, at least one or NULL.
 */
typedef struct {
    uint8_t *receive;
    uint8_t *answer;
    uint32_t buffer_bytes;
    uint8_t *replay;
    uint32_t replay_bytes;
} ec_link_memory;

/* The receiving half: bytes into frames. */
typedef struct {
    uint8_t *buffer;
    uint32_t capacity;
    uint32_t used;
    uint8_t left;     /* bytes that the COBS block still has */
    uint8_t zero_due; /* a 00 stands before the next block */
    uint8_t lost;     /* waiting for the 00 that ends a frame too long */
    uint32_t good;    /* frames that arrived whole */
    uint32_t bad;     /* those that did not */
    ec_link_frame frame;
} ec_link_receiver;

typedef struct {
    ec_link_receiver in;
    const ec_link_model *model;
    ec_link_send send;
    void *context;
    uint8_t *answer;
    uint32_t answer_bytes; /* of the last answer, header and CRC included */
    uint32_t payload_max;
    uint32_t seed;
    uint32_t hellos;
    uint32_t nonce;
    uint32_t session; /* 0: none */
    uint32_t sequence;
    uint32_t request_crc; /* of the request that was answered last */
    uint32_t repeated;    /* requests answered from memory */
    uint32_t refused;
    uint32_t input_bytes; /* of the sample, arrived so far */
    ec_link_type use;     /* what for */
    uint32_t staged_bytes;
    uint32_t staged_crc;
    uint32_t expected_crc;
    uint8_t staged;
    uint8_t has_output;
    uint8_t *replay;
    uint32_t replay_capacity; /* samples */
    uint32_t replay_count;
    uint32_t replay_steps;
} ec_link;

/* Prepares a receiver: frames of `capacity` bytes, header and CRC included, fit. */
void ec_link_receiver_init(ec_link_receiver *in, uint8_t *buffer, uint32_t capacity);

/* Takes one byte. The frame that it completes, valid until the next call, or NULL. */
const ec_link_frame *ec_link_take(ec_link_receiver *in, uint8_t byte);

/*
 * Writes header and CRC around the payload, which stands at to + 12. Returns the bytes of the
 * whole.
 */
uint32_t ec_link_seal(uint8_t *to, const ec_link_frame *frame);

/* Sends `count` bytes as one frame: COBS between two zeros. */
void ec_link_emit(ec_link_send send, void *context, const uint8_t *bytes, uint32_t count);

/*
 * Prepares a link. `seed`: any number that differs from one start of the device to the next,
 * where it has one; sessions then differ too. EC_NULL_POINTER, EC_TOO_SMALL, EC_BAD_ARGUMENT (no
 * input, or labels of classes that are no int32): nothing was prepared.
 */
ec_status ec_link_init(ec_link *link, const ec_link_model *model, const ec_link_memory *memory,
                       ec_link_send send, void *context, uint32_t seed);

/* Takes one byte from the host. The request that it completes, or NULL. */
const ec_link_frame *ec_link_receive(ec_link *link, uint8_t byte);

/* Does what the request asks and sends the answer. */
void ec_link_answer(ec_link *link, const ec_link_frame *request);

static inline uint32_t ec_link_get16(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

static inline uint32_t ec_link_get32(const uint8_t *from) {
    return ec_link_get16(from) | ec_link_get16(from + 2) << 16;
}

static inline uint8_t *ec_link_put16(uint8_t *to, uint32_t value) {
    to[0] = (uint8_t)(value & 0xFFu);
    to[1] = (uint8_t)(value >> 8 & 0xFFu);
    return to + 2;
}

static inline uint8_t *ec_link_put32(uint8_t *to, uint32_t value) {
    return ec_link_put16(ec_link_put16(to, value), value >> 16);
}

#ifdef __cplusplus
}
#endif

#endif
