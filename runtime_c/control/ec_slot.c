#include "ec_slot.h"

#include <stdatomic.h>
#include <string.h>

/* Of `between`: the number of its slot, and whether the reader has not taken it. */
#define NUMBER 3u
#define NEW 4u

struct ec_slots {
    _Alignas(64) _Atomic uint32_t between;
    _Alignas(64) uint32_t back;  /* the writer's */
    _Atomic uint64_t lost;       /* the writer's; others read it */
    _Alignas(64) uint32_t front; /* the reader's */
    size_t stride;
};

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

static size_t stride_of(size_t payload) {
    return padded(sizeof(ec_slot_header)) + padded(payload);
}

size_t ec_slots_bytes(size_t payload) {
    return sizeof(ec_slots) + 3u * stride_of(payload);
}

ec_slots *ec_slots_init(void *memory, size_t payload) {
    if (memory == NULL || ((uintptr_t)memory & 63u) != 0u) {
        return NULL;
    }
    memset(memory, 0, ec_slots_bytes(payload));
    ec_slots *slots = (ec_slots *)memory;
    slots->back = 0;
    atomic_init(&slots->between, 1u);
    slots->front = 2u;
    slots->stride = stride_of(payload);
    return slots;
}

static size_t place_of(const ec_slots *slots, uint32_t number) {
    return sizeof(ec_slots) + number * slots->stride;
}

ec_slot_header *ec_slots_back(ec_slots *slots) {
    return (ec_slot_header *)(void *)((uint8_t *)slots + place_of(slots, slots->back));
}

void *ec_slots_back_payload(ec_slots *slots) {
    return (uint8_t *)ec_slots_back(slots) + padded(sizeof(ec_slot_header));
}

bool ec_slots_publish(ec_slots *slots) {
    /* release: what was written comes before; acquire: what the reader read of the slot that comes
     * back, it has read. */
    uint32_t was =
        atomic_exchange_explicit(&slots->between, slots->back | NEW, memory_order_acq_rel);
    slots->back = was & NUMBER;
    bool lost = (was & NEW) != 0u;
    if (lost) {
        uint64_t before = atomic_load_explicit(&slots->lost, memory_order_relaxed);
        atomic_store_explicit(&slots->lost, before + 1u, memory_order_relaxed);
    }
    return lost;
}

uint64_t ec_slots_lost(const ec_slots *slots) {
    return atomic_load_explicit(&slots->lost, memory_order_relaxed);
}

bool ec_slots_take(ec_slots *slots) {
    /* A glance that orders nothing: only the reader takes NEW away. */
    if ((atomic_load_explicit(&slots->between, memory_order_relaxed) & NEW) == 0u) {
        return false;
    }
    uint32_t was = atomic_exchange_explicit(&slots->between, slots->front, memory_order_acq_rel);
    slots->front = was & NUMBER;
    return true;
}

const ec_slot_header *ec_slots_front(const ec_slots *slots) {
    return (const ec_slot_header *)(const void *)((const uint8_t *)slots +
                                                  place_of(slots, slots->front));
}

const void *ec_slots_front_payload(const ec_slots *slots) {
    return (const uint8_t *)ec_slots_front(slots) + padded(sizeof(ec_slot_header));
}
