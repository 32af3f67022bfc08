/* What ec_threads.h asks of Linux. Each returns 0, or the errno that says why not. */
#ifndef EC_REALTIME_H
#define EC_REALTIME_H

#include <semaphore.h>
#include <stdbool.h>
#include <stdint.h>

int64_t ec_realtime_now(void);
void ec_realtime_sleep_until(int64_t deadline_ns);

/* Of the calling thread. */
int32_t ec_realtime_priority(int32_t priority);
int32_t ec_realtime_cpu(int32_t cpu);

/* Of the calling thread, under the ordinary scheduler: it asks for little time at once, so that
 * Linux 6.12 and later let it run soon after it wakes, beside threads that compute. Earlier ones
 * take no notice. Needs no permission. */
int32_t ec_realtime_short_slice(void);

/* Pages of the calling thread's stack that its work will need are there afterwards, and its timers
 * are not put off for the sake of power. */
int32_t ec_realtime_touch_stack(void);

/* All memory that the process has now stays in RAM. Not what it takes later: under a limit of
 * locked memory that would make the policy's allocations fail. */
int32_t ec_realtime_lock_memory(void);
void ec_realtime_unlock_memory(void);

/* Wait, whatever signals come. */
void ec_realtime_wait(sem_t *semaphore);

/* At most so long; whether it was posted. */
bool ec_realtime_wait_for(sem_t *semaphore, int64_t timeout_ns);

#endif
