#define _GNU_SOURCE
#include "ec_mailbox.h"

#include <stdatomic.h>
#include <string.h>

#include "ec_realtime.h"
#include "ec_slot.h"

struct ec_mailbox {
    size_t states, axes, payload_bytes;
    ec_slots *observations, *commands;
    bool seen; /* the control thread's: an observation was there */
    sem_t sent;
    _Atomic int64_t skipped_ns; /* beginning of the period after one without a command; 0: none */
    _Atomic uint32_t closed;
};

/* What a command's slot holds. */
typedef struct {
    ec_sent sent;
    float action[EC_CONTROL_MAX_AXES];
} command;

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

static size_t observation_bytes(size_t states, size_t payload_bytes) {
    return padded(states * sizeof(float)) + padded(payload_bytes);
}

size_t ec_mailbox_bytes(const ec_control_config *control, size_t payload_bytes) {
    return padded(sizeof(ec_mailbox)) +
           ec_slots_bytes(observation_bytes(control->states, payload_bytes)) +
           ec_slots_bytes(sizeof(command));
}

ec_mailbox *ec_mailbox_init(const ec_control_config *control, size_t payload_bytes, void *memory) {
    uint8_t *at = (uint8_t *)memory;
    if (memory == NULL || ((uintptr_t)memory & 63u) != 0u) {
        return NULL;
    }
    memset(memory, 0, ec_mailbox_bytes(control, payload_bytes));
    ec_mailbox *made = (ec_mailbox *)memory;
    made->states = control->states;
    made->axes = control->axes;
    made->payload_bytes = payload_bytes;
    at += padded(sizeof *made);
    made->observations = ec_slots_init(at, observation_bytes(control->states, payload_bytes));
    at += ec_slots_bytes(observation_bytes(control->states, payload_bytes));
    made->commands = ec_slots_init(at, sizeof(command));
    return sem_init(&made->sent, 0, 0) == 0 ? made : NULL;
}

/* state, payload; `sequence` of the header is the frame */
int32_t ec_mailbox_sense(void *mailbox, ec_sensed *sensed) {
    ec_mailbox *box = (ec_mailbox *)mailbox;
    box->seen = ec_slots_take(box->observations) || box->seen;
    if (!box->seen) {
        return 1;
    }
    const ec_slot_header *header = ec_slots_front(box->observations);
    memcpy(sensed->state, ec_slots_front_payload(box->observations), box->states * sizeof(float));
    sensed->observed_ns = header->observed_ns;
    sensed->frame = header->sequence;
    return 0;
}

void ec_mailbox_payload(void *mailbox, void *payload) {
    const ec_mailbox *box = (const ec_mailbox *)mailbox;
    const uint8_t *from = (const uint8_t *)ec_slots_front_payload(box->observations);
    memcpy(payload, from + padded(box->states * sizeof(float)), box->payload_bytes);
}

int32_t ec_mailbox_act(void *mailbox, const ec_sent *sent) {
    ec_mailbox *box = (ec_mailbox *)mailbox;
    command *to = (command *)ec_slots_back_payload(box->commands);
    to->sent = *sent;
    memcpy(to->action, sent->action, box->axes * sizeof(float));
    ec_slots_publish(box->commands);
    sem_post(&box->sent);
    return 0;
}

void ec_mailbox_skip(void *mailbox, const ec_sent *sent) {
    ec_mailbox *box = (ec_mailbox *)mailbox;
    atomic_store_explicit(&box->skipped_ns, sent->next_ns, memory_order_relaxed);
    sem_post(&box->sent);
}

bool ec_mailbox_wait(ec_mailbox *mailbox, ec_sent *sent, float *action) {
    for (;;) {
        /* before the look for a command: one that came before the end is still to be sent */
        bool closed = atomic_load_explicit(&mailbox->closed, memory_order_acquire) != 0u;
        if (ec_slots_take(mailbox->commands)) {
            const command *found = (const command *)ec_slots_front_payload(mailbox->commands);
            *sent = found->sent;
            sent->action = action;
            memcpy(action, found->action, mailbox->axes * sizeof(float));
            return true;
        }
        int64_t next_ns = atomic_exchange_explicit(&mailbox->skipped_ns, 0, memory_order_relaxed);
        if (next_ns != 0) {
            *sent = (ec_sent){.next_ns = next_ns};
            return true;
        }
        if (closed) {
            return false;
        }
        ec_realtime_wait(&mailbox->sent);
    }
}

void ec_mailbox_post(ec_mailbox *mailbox, const float *state, const void *payload,
                     int64_t observed_ns, uint64_t frame) {
    ec_slot_header *header = ec_slots_back(mailbox->observations);
    uint8_t *to = (uint8_t *)ec_slots_back_payload(mailbox->observations);
    header->observed_ns = observed_ns;
    header->sequence = frame;
    memcpy(to, state, mailbox->states * sizeof(float));
    if (mailbox->payload_bytes > 0u) {
        memcpy(to + padded(mailbox->states * sizeof(float)), payload, mailbox->payload_bytes);
    }
    ec_slots_publish(mailbox->observations);
}

void ec_mailbox_close(ec_mailbox *mailbox) {
    atomic_store_explicit(&mailbox->closed, 1u, memory_order_release);
    sem_post(&mailbox->sent);
}

uint64_t ec_mailbox_lost(const ec_mailbox *mailbox) {
    return ec_slots_lost(mailbox->commands);
}
