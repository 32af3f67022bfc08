/* Many loops of one configuration in virtual time: one call begins a period of all, one ends it.
 *
 * The policy's answers are given at once, with the time that they took; they reach their loop when
 * that time has passed. A period is ec_virtual_begin, ec_virtual_answer, ec_virtual_end.
 */
#ifndef EC_VIRTUAL_H
#define EC_VIRTUAL_H

#include "ec_control.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ec_virtual ec_virtual;

size_t ec_virtual_bytes(const ec_control_config *config, uint32_t count);
ec_control_status ec_virtual_init(const ec_control_config *config, uint32_t count, void *memory,
                                  size_t bytes, ec_virtual **loops);

/* The next period of all loops, with their states [count][states]. Who asks its policy: numbers
 * `who` [count], the states [count][states] and committed actions [count][horizon][axes] that it is
 * told, and their delays [count]. The number of those who ask. */
uint32_t ec_virtual_begin(ec_virtual *loops, const float *states, uint32_t *who, float *told,
                          float *prefix, uint32_t *delay);

/* Chunks [count][horizon][axes] for these loops, `latency_ns` [count] after their observations. */
void ec_virtual_answer(ec_virtual *loops, uint32_t count, const uint32_t *who, const float *chunks,
                       const int64_t *latency_ns);

/* The actions [count][axes] of the period and where they come from [count]; of EC_FROM_NOTHING they
 * are 0. */
void ec_virtual_end(ec_virtual *loops, float *actions, ec_tick_result *results);

ec_loop *ec_virtual_loop(ec_virtual *loops, uint32_t which);

#ifdef __cplusplus
}
#endif

#endif
