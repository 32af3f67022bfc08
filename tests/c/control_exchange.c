/* Hammers ec_slot.h: two threads, no pause, checksums. Prints what was published, taken and lost.
 *
 *   control_exchange COUNT
 *
 * The writer publishes until COUNT slots were taken; a thread that the other does not answer for a
 * while lets others have the processor. Exit 1: a slot was a mixture, older than the one before, or
 * not accounted for.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "ec_slot.h"

#define WORDS 32u
#define BYTES (WORDS * sizeof(uint64_t))
#define PATIENCE 256u /* turns */

typedef struct {
    ec_slots *slots;
    uint64_t count, published;
    _Atomic uint64_t taken; /* relaxed: orders nothing */
    _Atomic uint32_t done;
    uint64_t last, wrong;
} hammer;

static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void *write_all(void *given) {
    hammer *h = (hammer *)given;
    uint64_t number = 0, alone = 0;
    while (atomic_load_explicit(&h->taken, memory_order_relaxed) < h->count) {
        number++;
        uint64_t *word = (uint64_t *)ec_slots_back_payload(h->slots);
        uint64_t sum = 0;
        for (uint32_t i = 0; i < WORDS - 1u; i++) {
            word[i] = mix(number + i);
            sum += word[i];
        }
        word[WORDS - 1u] = sum;
        ec_slot_header *header = ec_slots_back(h->slots);
        header->sequence = number;
        header->published_ns = (int64_t)mix(number);
        alone = ec_slots_publish(h->slots) ? alone + 1u : 0u;
        if (alone % PATIENCE == PATIENCE - 1u) {
            sched_yield();
        }
    }
    h->published = number;
    atomic_store_explicit(&h->done, 1u, memory_order_release);
    return NULL;
}

static void check(hammer *h) {
    const ec_slot_header *header = ec_slots_front(h->slots);
    const uint64_t *word = (const uint64_t *)ec_slots_front_payload(h->slots);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < WORDS - 1u; i++) {
        sum += word[i];
        h->wrong += word[i] != mix(header->sequence + i) ? 1u : 0u;
    }
    h->wrong += word[WORDS - 1u] != sum ? 1u : 0u;
    h->wrong += header->published_ns != (int64_t)mix(header->sequence) ? 1u : 0u;
    h->wrong += header->sequence <= h->last ? 1u : 0u;
    h->last = header->sequence;
}

static void *read_all(void *given) {
    hammer *h = (hammer *)given;
    uint64_t taken = 0, alone = 0;
    bool more = true;
    while (more) {
        if (++alone % PATIENCE == 0u) {
            sched_yield();
        }
        more = atomic_load_explicit(&h->done, memory_order_acquire) == 0u;
        while (ec_slots_take(h->slots)) {
            check(h);
            alone = 0;
            atomic_store_explicit(&h->taken, ++taken, memory_order_relaxed);
        }
    }
    return NULL;
}

int main(int count, char **words) {
    hammer h = {.count = count > 1 ? strtoull(words[1], NULL, 10) : 1000000u};
    size_t bytes = ec_slots_bytes(BYTES);
    void *memory = aligned_alloc(64, bytes);
    h.slots = ec_slots_init(memory, BYTES);
    if (h.slots == NULL || ec_slots_init((uint8_t *)memory + 8, BYTES) != NULL) {
        return 2;
    }
    pthread_t writer, reader;
    if (pthread_create(&reader, NULL, read_all, &h) != 0 ||
        pthread_create(&writer, NULL, write_all, &h) != 0) {
        return 2;
    }
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    uint64_t taken = atomic_load(&h.taken), lost = ec_slots_lost(h.slots);
    printf("published=%" PRIu64 " taken=%" PRIu64 " lost=%" PRIu64 " wrong=%" PRIu64 "\n",
           h.published, taken, lost, h.wrong);
    bool whole = h.last == h.published && taken + lost == h.published;
    free(memory);
    return h.wrong == 0u && whole ? 0 : 1;
}
