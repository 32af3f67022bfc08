/* What ec_threads.c, which makes the threads, shares with ec_threads_run.c, which is what they do.
 */
#ifndef EC_THREADS_OWN_H
#define EC_THREADS_OWN_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "ec_slot.h"
#include "ec_threads.h"

typedef enum {
    CONTROL_PRIORITY,
    INFERENCE_PRIORITY,
    CONTROL_CPU,
    INFERENCE_CPU,
    LOCK_MEMORY,
    STACK,
    SLICE,
    GRANTS
} ec_grant;

struct ec_threads {
    const ec_control_config *control;
    const ec_threads_config *config;
    ec_loop *loop;
    ec_slots *requests, *chunks, *copies; /* copies: of the statistics */
    float *state, *nothing, *action;      /* [states], measured; NaN; [axes] */
    pthread_t control_thread, inference_thread;
    sem_t asked, ready, go, inference_done;
    _Atomic uint32_t stop, reset, running, wants; /* asked by other threads */
    _Atomic uint32_t quit, silent, entered;       /* of the inference thread */
    _Atomic int32_t grants[GRANTS];
    bool started, joined, abandoned;
    /* The control thread's own. */
    int64_t deadline_ns;
    bool overrun;
    uint32_t act_errors; /* in a row */
    ec_end end;
    ec_statistics statistics;
};

/* Bytes of the parts of a request's payload: state, prefix, and what the user's payload fills. */
size_t ec_threads_state_bytes(const ec_control_config *control);
size_t ec_threads_chunk_bytes(const ec_control_config *control);

/* Both threads. `given`: ec_threads. */
void *ec_threads_control_main(void *given);
void *ec_threads_inference_main(void *given);

/* Priority and CPU of the inference thread, in it. */
void ec_threads_prepare_inference(ec_threads *threads);

/* Answer requests until the run or the policy ends. */
void ec_threads_serve(ec_threads *threads);

/* Say that nobody answers any more. */
void ec_threads_fall_silent(void *given);

#endif
