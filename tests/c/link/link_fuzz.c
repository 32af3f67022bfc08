/*
 * link_fuzz.c: FRAMES frames into the link, most of them damaged; built with sanitizers.
 *
 *   link_fuzz FRAMES SEED
 *
 * After every frame it holds, against a decoder of its own (bit by bit, from whole pieces):
 *   - exactly those frames arrive whose length and CRC are right;
 *   - each of them that asks is answered once, every other byte sequence is not answered;
 *   - train_step ran as often as newly answered training steps say, never for a repetition;
 *   - weights changed only where an answer says so, and pushed ones only whole and intact;
 *   - a request sent again gives the same answer again;
 *   - after any damage the next good request is answered.
 * Prints counts of what it did as "name=number" words.
 */
#include "link_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER (EC_LINK_PAYLOAD_MIN + EC_LINK_FRAME_BYTES)
#define KEPT 3u
#define MOST 1024u /* bytes of one damaged frame on the wire */
#define SAMPLE (FEATURES * 4u)

typedef struct {
    uint8_t bytes[4 * MOST];
    uint32_t used;
} sink;

static link_model model;
static ec_link_model table;
static ec_link link_;
static sink out;
static uint8_t pending[2 * MOST]; /* since the last zero, for the decoder here */
static uint32_t pending_bytes;
static uint8_t last_answer[BUFFER];
static uint32_t last_answer_bytes;
static uint8_t put_bytes[sizeof(link_weights)];
static uint32_t put_at;
static uint64_t state;
static unsigned long fresh; /* answers that were no repetition */
static unsigned long fed, arrived, answered, repeated, steps, commits, refusals, revivals, resets;

static uint32_t draw(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % below;
}

static void fail(const char *what) {
    fprintf(stderr, "after %lu frames: %s\n", fed, what);
    abort();
}

static void take(void *context, const uint8_t *bytes, uint32_t count) {
    sink *to = (sink *)context;
    if (count > sizeof to->bytes - to->used) {
        fail("more was sent than all answers together may take");
    }
    memcpy(to->bytes + to->used, bytes, count);
    to->used += count;
}

static uint32_t plain_crc(const uint8_t *bytes, uint32_t count) {
    uint32_t crc = 0xFFFFFFFFu;
    uint32_t i;
    int bit;
    for (i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1u ? 0xEDB88320u : 0u);
        }
    }
    return ~crc;
}

/* Bytes of the frame in `block` (what stands between zeros) into `to`, 0 where it is not whole. */
static uint32_t plain_decode(const uint8_t *block, uint32_t count, uint8_t *to, uint32_t most) {
    uint32_t at = 0;
    uint32_t used = 0;
    while (at < count) {
        uint32_t code = block[at];
        uint32_t i;
        if (at + code > count) {
            return 0;
        }
        for (i = 1; i < code; i++) {
            if (used == most) {
                return 0;
            }
            to[used++] = block[at + i];
        }
        at += code;
        if (code != 255u && at < count) {
            if (used == most) {
                return 0;
            }
            to[used++] = 0;
        }
    }
    if (used < 16u || (uint32_t)to[2] + 256u * to[3] != used - 16u ||
        plain_crc(to, used - 4u) != ec_link_get32(to + used - 4u)) {
        return 0;
    }
    return used;
}

/* How many whole requests the bytes complete; `answers` of them would come back as answers. */
static uint32_t expected_frames(const uint8_t *bytes, uint32_t count, uint32_t *answers) {
    uint8_t frame[BUFFER];
    uint32_t frames = 0;
    uint32_t i;
    *answers = 0;
    for (i = 0; i < count; i++) {
        if (bytes[i] != 0u) {
            if (pending_bytes < sizeof pending) {
                pending[pending_bytes++] = bytes[i];
            }
            continue;
        }
        if (pending_bytes < sizeof pending &&
            plain_decode(pending, pending_bytes, frame, BUFFER) != 0u) {
            frames++;
            *answers += (frame[0] & EC_LINK_ANSWER) == 0u;
        }
        pending_bytes = 0;
    }
    return frames;
}

static uint32_t live_crc(void) {
    return plain_crc((const uint8_t *)&model.live, (uint32_t)sizeof model.live);
}

typedef struct {
    uint32_t frames;
    uint32_t least_steps; /* of one training request: replay may change between two frames */
    uint32_t most_steps;
    uint32_t least_calls;
    uint32_t most_calls;
    int may_change;
    int committed;
    int greeted;
} told;

/* What one answer, `size` bytes unwrapped, says has happened. */
static void read_answer(const uint8_t *answer, uint32_t size, told *says) {
    uint32_t kind = answer[0] & 0x7Fu;
    uint32_t status = answer[1];
    says->frames++;
    answered++;
    if ((answer[0] & EC_LINK_ANSWER) == 0u || status > EC_LINK_MODEL) {
        fail("the answer's type or status is none");
    }
    refusals += status != EC_LINK_OK;
    if (status == EC_LINK_BAD_SESSION || status == EC_LINK_BAD_SEQUENCE ||
        status == EC_LINK_BAD_VERSION || (kind == EC_LINK_HELLO && status != EC_LINK_OK)) {
        return;
    }
    if (last_answer_bytes != 0u && memcmp(last_answer + 4, answer + 4, 8) == 0) {
        if (last_answer_bytes != size || memcmp(last_answer, answer, size) != 0) {
            fail("a repetition was answered differently");
        }
        repeated++;
        return;
    }
    memcpy(last_answer, answer, size);
    last_answer_bytes = size;
    fresh++;
    says->greeted = kind == EC_LINK_HELLO;
    if (kind == EC_LINK_TRAIN && (status == EC_LINK_OK || status == EC_LINK_MODEL)) {
        says->least_calls += status == EC_LINK_OK ? says->least_steps : 1u;
        says->most_calls += says->most_steps;
        says->may_change = 1;
        steps++;
    }
    if (status == EC_LINK_OK && (kind == EC_LINK_RATE || kind == EC_LINK_LOAD ||
                                 kind == EC_LINK_RESET || kind == EC_LINK_WEIGHTS_COMMIT)) {
        says->may_change = 1;
        says->committed = kind == EC_LINK_WEIGHTS_COMMIT;
        commits += kind == EC_LINK_WEIGHTS_COMMIT;
        resets += kind == EC_LINK_RESET;
    }
}

static uint32_t steps_a_request(void) {
    return 1u + (link_.replay_count != 0u ? link_.replay_steps : 0u);
}

static void read_answers(told *says) {
    uint8_t answer[BUFFER];
    uint32_t begin = 0;
    uint32_t i;
    for (i = 0; i < out.used; i++) {
        if (out.bytes[i] != 0u) {
            continue;
        }
        if (i != begin) {
            uint32_t size = plain_decode(out.bytes + begin, i - begin, answer, BUFFER);
            if (size == 0u) {
                fail("an answer is not a frame");
            }
            read_answer(answer, size, says);
        }
        begin = i + 1;
    }
    if (begin != out.used) {
        fail("an answer is cut short");
    }
}

/* Gives the bytes to the link and holds all that the head comment says. */
static void feed(const uint8_t *bytes, uint32_t count) {
    uint32_t before = live_crc();
    uint32_t calls = model.calls;
    uint32_t good = link_.in.good;
    uint32_t steps_before = steps_a_request();
    uint32_t steps_after;
    uint32_t answers;
    uint32_t frames = expected_frames(bytes, count, &answers);
    uint32_t i;
    told says;
    memset(&says, 0, sizeof says);
    out.used = 0;
    fed++;
    for (i = 0; i < count; i++) {
        const ec_link_frame *request = ec_link_receive(&link_, bytes[i]);
        if (request != NULL) {
            ec_link_answer(&link_, request);
        }
    }
    steps_after = steps_a_request();
    says.least_steps = steps_before < steps_after ? steps_before : steps_after;
    says.most_steps = steps_before > steps_after ? steps_before : steps_after;
    read_answers(&says);
    arrived += frames;
    if (link_.in.good - good != frames) {
        fail("a whole frame was dropped, or a damaged one taken");
    }
    if (says.frames > answers) {
        fail("something was answered that did not ask");
    }
    if (model.calls - calls < says.least_calls || model.calls - calls > says.most_calls) {
        fail("training steps ran that no answer tells of, or the other way round");
    }
    if (live_crc() != before && !says.may_change) {
        fail("weights changed that no answer tells of");
    }
    if (model.bad_labels != 0u) {
        fail("a label that is no class came through");
    }
    if (says.greeted && frames == 1u && link_.staged) {
        fail("a new session goes on with the weights on their way in the last");
    }
    if (says.committed && frames == 1u && live_crc() != link_.expected_crc) {
        fail("pushed weights are not those announced");
    }
}

static uint32_t label_or_not(void) {
    return draw(20) == 0u ? draw(0xFFFFFFFFu) : draw(CLASSES);
}

/* Most often a sensible payload of request `kind`. Returns its length. */
static uint32_t sensible(uint32_t kind, uint8_t *to) {
    uint32_t rest = SAMPLE - link_.input_bytes;
    uint32_t at;
    float rate = (float)draw(100) * 0.001f;
    for (at = 0; at < EC_LINK_PAYLOAD_MIN; at++) {
        to[at] = 0;
    }
    for (at = 11; at < EC_LINK_PAYLOAD_MIN; at += 4) { /* floats from 0.5 to 1, or 0 */
        to[at] = draw(2) ? 0x3Fu : 0u;
        to[at - 3] = (uint8_t)draw(256);
    }
    switch (kind) {
    case EC_LINK_HELLO:
        (void)ec_link_put32(ec_link_put16(to, draw(50) ? EC_LINK_VERSION : draw(9)), draw(1u << 30));
        return 6;
    case EC_LINK_RATE:
        memcpy(to, &rate, sizeof rate);
        return 4;
    case EC_LINK_INPUT:
        at = draw(SAMPLE + 1u);
        to[0] = (uint8_t)(draw(4) ? EC_LINK_TRAIN : draw(10));
        (void)ec_link_put32(to + 1, draw(4) ? link_.input_bytes : draw(SAMPLE));
        return 5u + (draw(3) && at > rest ? rest : at);
    case EC_LINK_INFER:
        return rest;
    case EC_LINK_OUTPUT:
        (void)ec_link_put16(ec_link_put32(to, draw(CLASSES * 4u)), draw(16));
        return 6;
    case EC_LINK_TRAIN:
    case EC_LINK_EVALUATE:
        (void)ec_link_put32(to, label_or_not());
        return 4u + rest;
    case EC_LINK_WEIGHTS_READ:
        (void)ec_link_put16(ec_link_put32(to, draw((uint32_t)sizeof(link_weights))), draw(64));
        return 6;
    case EC_LINK_WEIGHTS_BEGIN:
        memcpy(put_bytes, &model.live, sizeof put_bytes);
        put_bytes[draw((uint32_t)sizeof put_bytes)] ^= 1u;
        put_at = 0;
        (void)ec_link_put32(to, (uint32_t)sizeof put_bytes);
        (void)ec_link_put32(to + 4, plain_crc(put_bytes, (uint32_t)sizeof put_bytes) ^ !draw(9));
        memcpy(to + 8, table.graph_hash, EC_LINK_HASH_BYTES);
        memcpy(to + 16, table.layout_hash, EC_LINK_HASH_BYTES);
        to[8 + draw(16)] ^= (uint8_t)!draw(9);
        return 24;
    case EC_LINK_WEIGHTS_CHUNK:
        put_at = link_.staged_bytes;
        at = 1u + draw(40);
        at = at > (uint32_t)sizeof put_bytes - put_at ? (uint32_t)sizeof put_bytes - put_at : at;
        (void)ec_link_put32(to, put_at);
        memcpy(to + 4, put_bytes + put_at, at);
        return 4u + at;
    case EC_LINK_REPLAY_KEEP:
        (void)ec_link_put32(to, draw(KEPT + 1u));
        (void)ec_link_put32(to + 4, label_or_not());
        return 8u + rest;
    case EC_LINK_REPLAY_STEPS:
        (void)ec_link_put32(to, draw(4));
        return 4;
    default:
        return 0;
    }
}

static uint32_t next_kind(void) {
    if (link_.session == 0u || draw(200) == 0u) {
        return EC_LINK_HELLO;
    }
    if (link_.staged && draw(8)) {
        return link_.staged_bytes == sizeof(link_weights) ? EC_LINK_WEIGHTS_COMMIT
                                                          : EC_LINK_WEIGHTS_CHUNK;
    }
    return draw(19);
}

/* One request as bytes before COBS, perhaps with strange fields but always with the right CRC. */
static uint32_t make_request(uint8_t *to) {
    ec_link_frame frame;
    uint32_t kind = next_kind();
    uint32_t length = sensible(kind, to + EC_LINK_HEADER_BYTES);
    if (draw(8) == 0u) {
        length = draw(2 * EC_LINK_PAYLOAD_MIN); /* also longer than the device's buffer */
    }
    frame.type = (uint8_t)(draw(50) ? kind : draw(256));
    frame.status = (uint8_t)(draw(50) ? 0 : draw(256));
    frame.length = (uint16_t)length;
    frame.sequence = link_.sequence + (draw(10) ? 1u : draw(4) - 2u);
    frame.session = kind == EC_LINK_HELLO ? 0u : link_.session;
    if (draw(50) == 0u) {
        frame.session = draw(3);
    }
    length = ec_link_seal(to, &frame);
    if (draw(50) == 0u) { /* a length that is not the frame's, with a right CRC */
        to[2] = (uint8_t)draw(256);
        (void)ec_link_put32(to + length - 4u, plain_crc(to, length - 4u));
    }
    return length;
}

/* Damages the bytes of a frame on the wire; returns how many they are then. */
static uint32_t damage(uint8_t *wire, uint32_t count) {
    uint32_t at = draw(count);
    uint32_t some = 1u + draw(count - at);
    uint32_t i;
    switch (draw(8)) {
    case 0: /* flipped bits */
        for (i = 1u + draw(8); i != 0u; i--) {
            wire[draw(count)] ^= (uint8_t)(1u << draw(8));
        }
        return count;
    case 1: /* dropped bytes */
        memmove(wire + at, wire + at + some, count - at - some);
        return count - some;
    case 2: /* doubled bytes */
        memmove(wire + at + some, wire + at, count - at);
        return count + some;
    case 3: /* cut off */
        return at;
    case 4: /* the front is missing */
        memmove(wire, wire + at, count - at);
        return count - at;
    case 5: /* garbage in between */
        memmove(wire + at + 20, wire + at, count - at);
        for (i = 0; i < 20u; i++) {
            wire[at + i] = (uint8_t)draw(256);
        }
        return count + 20u;
    case 6: /* sent twice */
        memcpy(wire + count, wire, count);
        return 2u * count;
    default: /* one byte becomes another */
        wire[at] = (uint8_t)draw(256);
        return count;
    }
}

/* A good request after whatever came before: it must be answered, and rightly. */
static void revive(void) {
    static const uint8_t zero = 0;
    uint8_t bytes[BUFFER];
    static sink wire;
    ec_link_frame frame;
    uint32_t kind;
    feed(&zero, 1); /* a frame of which only the end was missing may yet be whole */
    kind = link_.session == 0u ? EC_LINK_HELLO : EC_LINK_STATS;
    frame.type = (uint8_t)kind;
    frame.status = 0;
    frame.length = (uint16_t)sensible(kind, bytes + EC_LINK_HEADER_BYTES);
    frame.sequence = link_.sequence + 1u;
    frame.session = link_.session;
    (void)ec_link_put16(bytes + EC_LINK_HEADER_BYTES, EC_LINK_VERSION);
    frame.length = kind == EC_LINK_HELLO ? 6 : 0;
    wire.used = 0;
    ec_link_emit(take, &wire, bytes, ec_link_seal(bytes, &frame));
    feed(wire.bytes, wire.used);
    if (out.used < EC_LINK_FRAME_BYTES || last_answer[0] != (kind | EC_LINK_ANSWER) ||
        last_answer[1] != EC_LINK_OK) {
        fail("a good request after damaged ones was not answered");
    }
    revivals++;
}

/* The request on the wire again, where it is the one that was answered last. */
static void repeat(const uint8_t *bytes, uint32_t count) {
    unsigned long before = repeated;
    feed(bytes, count);
    if (repeated != before + 1u) {
        fail("a repetition was not answered");
    }
}

int main(int argc, char **argv) {
    unsigned long wanted = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000u;
    ec_link_memory memory;
    uint8_t *receive = (uint8_t *)malloc(BUFFER); /* of their own, so that ASan sees their ends */
    uint8_t *answer = (uint8_t *)malloc(BUFFER);
    uint8_t *replay = (uint8_t *)malloc(KEPT * (SAMPLE + 4u));
    state = UINT64_C(0x9E3779B97F4A7C15) * (strtoul(argc > 2 ? argv[2] : "0", NULL, 10) + 1u);
    memory.receive = receive;
    memory.answer = answer;
    memory.buffer_bytes = BUFFER;
    memory.replay = replay;
    memory.replay_bytes = KEPT * (SAMPLE + 4u);
    link_model_init(&model);
    table = link_model_table(&model);
    if (ec_link_init(&link_, &table, &memory, take, &out, 1) != EC_OK) {
        fail("the link does not start");
    }
    while (fed < wanted) {
        static uint8_t bytes[MOST];
        static sink wire;
        uint32_t count = make_request(bytes);
        uint32_t damaged = draw(2);
        uint32_t crc = ec_link_get32(bytes + count - 4u);
        unsigned long before;
        wire.used = 0;
        ec_link_emit(take, &wire, bytes, count);
        count = wire.used;
        if (damaged) {
            count = damage(wire.bytes, count);
        }
        model.dead_flash = draw(40) == 0u;
        before = fresh;
        feed(wire.bytes, count);
        if (!damaged && fresh == before + 1u && link_.request_crc == crc && draw(16) == 0u) {
            repeat(wire.bytes, count);
        }
        if (draw(64) == 0u) {
            revive();
        }
    }
    printf("fed=%lu arrived=%lu dropped=%lu answered=%lu repeated=%lu steps=%lu commits=%lu "
           "refusals=%lu revivals=%lu resets=%lu\n",
           fed, arrived, (unsigned long)link_.in.bad, answered, repeated, steps, commits, refusals,
           revivals, resets);
    free(receive);
    free(answer);
    free(replay);
    return 0;
}
