/* Passes numbers from one thread to another without a lock: the reader gets the newest whole slot.
 *
 * Three slots: the writer fills one, the reader holds one, the third lies between them. Publishing
 * swaps the writer's with the one between, taking swaps the reader's; each is one atomic exchange,
 * so that neither ever waits. A slot belongs to one thread at a time: what the reader sees is never
 * a mixture of two. What was published and not taken before the next is lost: the latest wins.
 *
 * One thread writes and one reads. tests/models/slot.pml checks all interleavings under the memory
 * order of C11.
 */
#ifndef EC_SLOT_H
#define EC_SLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What every slot says of its content; times in ns, 0 where there is none. */
typedef struct {
    uint64_t sequence; /* of the question that it asks or answers */
    int64_t tick, handover;
    int64_t observed_ns, asked_ns, started_ns, published_ns;
    uint32_t delay;
    int32_t status; /* 0: the content is good */
} ec_slot_header;

typedef struct ec_slots ec_slots;

/* Bytes of three slots of `payload` bytes each, a multiple of 64. */
size_t ec_slots_bytes(size_t payload);

/* In `memory`, aligned to 64 bytes and of ec_slots_bytes(payload); all slots are 0. NULL: it is not
 * aligned. Before the threads begin. */
ec_slots *ec_slots_init(void *memory, size_t payload);

/* The writer's slot, to fill; its payload is aligned to 64 bytes and holds what an earlier slot
 * did. */
ec_slot_header *ec_slots_back(ec_slots *slots);
void *ec_slots_back_payload(ec_slots *slots);

/* Give the writer's slot to the reader. Whether one was lost that the reader had not taken. */
bool ec_slots_publish(ec_slots *slots);

/* Slots so far that the reader had not taken before the next was published. Of any thread. */
uint64_t ec_slots_lost(const ec_slots *slots);

/* The reader takes the newest slot. Whether there was one that it had not taken yet. */
bool ec_slots_take(ec_slots *slots);

/* The slot that the reader took last; it stays as it is until the next is taken. */
const ec_slot_header *ec_slots_front(const ec_slots *slots);
const void *ec_slots_front_payload(const ec_slots *slots);

#ifdef __cplusplus
}
#endif

#endif
