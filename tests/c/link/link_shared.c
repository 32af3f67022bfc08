/*
 * link_shared.c: the device of link_model.h as a shared library, for tests that hold its bytes in
 * their hands: link_device_feed takes bytes from the host and gives back what the device sends.
 * The codec alone: link_encode and link_decode.
 */
#include "link_model.h"

#include "ec_crc32.h"

#include <stdlib.h>
#include <string.h>

#define PAYLOAD 160u
#define KEPT 4u
#define BUFFER (PAYLOAD + EC_LINK_FRAME_BYTES)

typedef struct {
    uint8_t *bytes;
    uint32_t room;
    uint32_t used;
} sink;

typedef struct {
    link_model model;
    ec_link_model table;
    ec_link link;
    sink out;
    uint8_t receive[BUFFER];
    uint8_t answer[BUFFER];
    uint8_t replay[KEPT * (FEATURES * 4 + 4)];
} device;

static void put(void *context, const uint8_t *bytes, uint32_t count) {
    sink *to = (sink *)context;
    if (count <= to->room - to->used) {
        memcpy(to->bytes + to->used, bytes, count);
        to->used += count;
    } else {
        abort();
    }
}

/* Starts the device; `flags`: 1 without save and load, 2 without weights from the host. */
void *link_device_new(uint32_t seed, uint32_t flags) {
    device *d = (device *)malloc(sizeof *d);
    ec_link_memory memory;
    if (d == NULL) {
        return NULL;
    }
    memory.receive = d->receive;
    memory.answer = d->answer;
    memory.buffer_bytes = BUFFER;
    memory.replay = d->replay;
    memory.replay_bytes = (uint32_t)sizeof d->replay;
    link_model_init(&d->model);
    d->table = link_model_table(&d->model);
    if (flags & 1u) {
        d->table.save = NULL;
        d->table.load = NULL;
    }
    if (flags & 2u) {
        d->table.stage_begin = NULL;
    }
    if (ec_link_init(&d->link, &d->table, &memory, put, &d->out, seed) != EC_OK) {
        abort();
    }
    return d;
}

/* A power cut: what was saved stays, all else is as at the first start. */
void link_device_cut_power(void *self, uint32_t seed) {
    device *d = (device *)self;
    link_weights saved = d->model.saved;
    uint32_t has_saved = d->model.has_saved;
    ec_link_memory memory;
    memory.receive = d->receive;
    memory.answer = d->answer;
    memory.buffer_bytes = BUFFER;
    memory.replay = d->replay;
    memory.replay_bytes = (uint32_t)sizeof d->replay;
    link_model_init(&d->model);
    d->model.saved = saved;
    d->model.has_saved = has_saved;
    if (d->table.load != NULL && d->table.load(&d->model) != EC_OK) {
        abort();
    }
    if (ec_link_init(&d->link, &d->table, &memory, put, &d->out, seed) != EC_OK) {
        abort();
    }
}

void link_device_free(void *self) {
    free(self);
}

uint32_t link_device_feed(void *self, const uint8_t *bytes, uint32_t count, uint8_t *to,
                          uint32_t room) {
    device *d = (device *)self;
    uint32_t i;
    d->out.bytes = to;
    d->out.room = room;
    d->out.used = 0;
    for (i = 0; i < count; i++) {
        const ec_link_frame *request = ec_link_receive(&d->link, bytes[i]);
        if (request != NULL) {
            ec_link_answer(&d->link, request);
        }
    }
    return d->out.used;
}

/* CRC-32 of all that training changes; what load would bring back; calls of train_step. */
uint32_t link_device_weights(void *self) {
    device *d = (device *)self;
    return ec_crc32(0, (const uint8_t *)&d->model.live, (uint32_t)sizeof d->model.live);
}

uint32_t link_device_saved(void *self) {
    device *d = (device *)self;
    return ec_crc32(0, (const uint8_t *)&d->model.saved, (uint32_t)sizeof d->model.saved);
}

uint32_t link_device_calls(void *self) {
    return ((device *)self)->model.calls;
}

void link_device_kill_flash(void *self, uint32_t dead) {
    ((device *)self)->model.dead_flash = dead;
}

/* Any bytes as one frame on the wire. */
uint32_t link_encode(const uint8_t *bytes, uint32_t count, uint8_t *to, uint32_t room) {
    sink out;
    out.bytes = to;
    out.room = room;
    out.used = 0;
    ec_link_emit(put, &out, bytes, count);
    return out.used;
}

/*
 * All frames in `bytes` through a receiver for frames of `capacity` bytes; each goes to `to` as
 * its length (4 bytes), header and payload. Returns the bytes written; *bad the frames dropped.
 */
uint32_t link_decode(const uint8_t *bytes, uint32_t count, uint32_t capacity, uint8_t *to,
                     uint32_t room, uint32_t *bad) {
    uint8_t *buffer = (uint8_t *)malloc(capacity);
    ec_link_receiver in;
    sink out;
    uint32_t i;
    out.bytes = to;
    out.room = room;
    out.used = 0;
    if (buffer == NULL) {
        abort();
    }
    ec_link_receiver_init(&in, buffer, capacity);
    for (i = 0; i < count; i++) {
        const ec_link_frame *frame = ec_link_take(&in, bytes[i]);
        if (frame != NULL) {
            uint8_t length[4];
            uint32_t size = EC_LINK_HEADER_BYTES + frame->length;
            (void)ec_link_put32(length, size);
            put(&out, length, 4);
            put(&out, frame->payload - EC_LINK_HEADER_BYTES, size);
        }
    }
    *bad = in.bad;
    free(buffer);
    return out.used;
}
