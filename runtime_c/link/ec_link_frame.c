/* ec_link_frame.c: frames of ec_link.h: COBS and the byte-at-a-time receiver. */
#include "ec_link.h"

#include "ec_crc32.h"

#define BLOCK 254u /* bytes that one COBS block can hold */

static void forget(ec_link_receiver *in) {
    in->used = 0;
    in->left = 0;
    in->zero_due = 0;
    in->lost = 0;
}

void ec_link_receiver_init(ec_link_receiver *in, uint8_t *buffer, uint32_t capacity) {
    in->buffer = buffer;
    in->capacity = capacity;
    in->good = 0;
    in->bad = 0;
    forget(in);
}

static void store(ec_link_receiver *in, uint8_t byte) {
    if (in->used == in->capacity) {
        in->lost = 1;
        return;
    }
    in->buffer[in->used] = byte;
    in->used++;
}

/* The frame in the buffer, or NULL where length or CRC are wrong. */
static const ec_link_frame *parse(ec_link_receiver *in) {
    const uint8_t *at = in->buffer;
    ec_link_frame *frame = &in->frame;
    if (in->lost || in->left != 0u || in->used < EC_LINK_FRAME_BYTES) {
        return NULL;
    }
    frame->type = at[0];
    frame->status = at[1];
    frame->length = (uint16_t)ec_link_get16(at + 2);
    frame->sequence = ec_link_get32(at + 4);
    frame->session = ec_link_get32(at + 8);
    frame->payload = at + EC_LINK_HEADER_BYTES;
    if (frame->length != in->used - EC_LINK_FRAME_BYTES) {
        return NULL;
    }
    frame->crc = ec_link_get32(frame->payload + frame->length);
    if (frame->crc != ec_crc32(0, at, in->used - 4u)) {
        return NULL;
    }
    return frame;
}

const ec_link_frame *ec_link_take(ec_link_receiver *in, uint8_t byte) {
    const ec_link_frame *frame = NULL;
    if (byte != 0u) {
        if (in->lost) {
            return NULL;
        }
        if (in->left != 0u) {
            in->left--;
            store(in, byte);
            return NULL;
        }
        if (in->zero_due) {
            store(in, 0);
        }
        in->left = (uint8_t)(byte - 1u);
        in->zero_due = byte != BLOCK + 1u;
        return NULL;
    }
    if (in->used != 0u || in->left != 0u || in->zero_due) { /* else two zeros in a row */
        frame = parse(in);
        if (frame != NULL) {
            in->good++;
        } else {
            in->bad++;
        }
        forget(in);
    }
    return frame;
}

uint32_t ec_link_seal(uint8_t *to, const ec_link_frame *frame) {
    uint32_t bytes = EC_LINK_HEADER_BYTES + frame->length;
    to[0] = frame->type;
    to[1] = frame->status;
    (void)ec_link_put16(to + 2, frame->length);
    (void)ec_link_put32(to + 4, frame->sequence);
    (void)ec_link_put32(to + 8, frame->session);
    (void)ec_link_put32(to + bytes, ec_crc32(0, to, bytes));
    return bytes + 4u;
}

void ec_link_emit(ec_link_send send, void *context, const uint8_t *bytes, uint32_t count) {
    static const uint8_t zero = 0;
    uint32_t at = 0;
    int more = 1;
    send(context, &zero, 1);
    while (more) {
        uint32_t run = 0;
        uint8_t code;
        while (run < BLOCK && at + run < count && bytes[at + run] != 0u) {
            run++;
        }
        code = (uint8_t)(run + 1u);
        send(context, &code, 1);
        if (run != 0u) {
            send(context, bytes + at, run);
        }
        at += run;
        more = at < count;
        if (more && run < BLOCK) {
            at++; /* the zero that the next block stands for */
        }
    }
    send(context, &zero, 1);
}
