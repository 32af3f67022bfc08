#define _GNU_SOURCE
#include "ec_realtime.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <time.h>

#define SECOND 1000000000
#define STACK_BYTES (64 * 1024)
#define SLICE_NS 100000 /* the least that Linux takes */

/* struct sched_attr of sched_setattr(2), its first version; the C library has neither. */
typedef struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} scheduling;

static struct timespec timespec_of(int64_t ns) {
    return (struct timespec){.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
}

static int64_t ns_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * SECOND + (int64_t)now.tv_nsec;
}

int64_t ec_realtime_now(void) {
    return ns_of(CLOCK_MONOTONIC);
}

void ec_realtime_sleep_until(int64_t deadline_ns) {
    struct timespec until = timespec_of(deadline_ns > 0 ? deadline_ns : 0);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

int32_t ec_realtime_priority(int32_t priority) {
    struct sched_param param = {.sched_priority = priority};
    return pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
}

int32_t ec_realtime_cpu(int32_t cpu) {
    cpu_set_t set;
    if (cpu < 0 || cpu >= CPU_SETSIZE) {
        return EINVAL;
    }
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

int32_t ec_realtime_short_slice(void) {
    scheduling asked = {
        .size = sizeof asked,
        .policy = SCHED_OTHER,
        .nice = getpriority(PRIO_PROCESS, 0), /* of this thread; as it is */
        .runtime = SLICE_NS,
    };
    return syscall(SYS_sched_setattr, 0, &asked, 0) == 0 ? 0 : errno;
}

int32_t ec_realtime_touch_stack(void) {
    volatile uint8_t page[STACK_BYTES];
    for (uint32_t i = 0; i < STACK_BYTES; i += 1024u) {
        page[i] = 0;
    }
    (void)page[0];
    return prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL) == 0 ? 0 : errno;
}

int32_t ec_realtime_lock_memory(void) {
    return mlockall(MCL_CURRENT) == 0 ? 0 : errno;
}

void ec_realtime_unlock_memory(void) {
    munlockall();
}

void ec_realtime_wait(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0 && errno == EINTR) {
    }
}

bool ec_realtime_wait_for(sem_t *semaphore, int64_t timeout_ns) {
    struct timespec until = timespec_of(ns_of(CLOCK_REALTIME) + timeout_ns);
    int status;
    while ((status = sem_timedwait(semaphore, &until)) != 0 && errno == EINTR) {
    }
    return status == 0;
}
