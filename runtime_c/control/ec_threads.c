#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <string.h>

#include "ec_realtime.h"
#include "ec_threads_own.h"

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

size_t ec_threads_state_bytes(const ec_control_config *control) {
    return padded(control->states * sizeof(float));
}

size_t ec_threads_chunk_bytes(const ec_control_config *control) {
    return padded((size_t)control->horizon * control->axes * sizeof(float));
}

/* state, prefix, payload */
static size_t request_bytes(const ec_control_config *control, const ec_threads_config *config) {
    return ec_threads_state_bytes(control) + ec_threads_chunk_bytes(control) +
           padded(config->payload_bytes);
}

/* The next `bytes` of the memory; with no memory they are only counted. */
static void *take(uint8_t *memory, size_t *used, size_t bytes) {
    void *found = memory == NULL ? NULL : memory + *used;
    *used += padded(bytes);
    return found;
}

typedef struct {
    void *loop, *requests, *chunks, *copies, *state, *nothing, *action;
} places;

static size_t lay_out(const ec_control_config *control, const ec_threads_config *config,
                      uint8_t *memory, places *at) {
    size_t used = padded(sizeof(ec_threads));
    at->loop = take(memory, &used, ec_loop_bytes(control));
    at->requests = take(memory, &used, ec_slots_bytes(request_bytes(control, config)));
    at->chunks = take(memory, &used, ec_slots_bytes(ec_threads_chunk_bytes(control)));
    at->copies = take(memory, &used, ec_slots_bytes(sizeof(ec_statistics)));
    at->state = take(memory, &used, ec_threads_state_bytes(control));
    at->nothing = take(memory, &used, ec_threads_state_bytes(control));
    at->action = take(memory, &used, control->axes * sizeof(float));
    return used;
}

size_t ec_threads_bytes(const ec_control_config *control, const ec_threads_config *config) {
    places at;
    return lay_out(control, config, NULL, &at);
}

static bool options_in_range(const ec_threads_config *config) {
    const ec_callbacks *call = &config->callbacks;
    const ec_realtime *realtime = &config->realtime;
    return call->sense != NULL && call->act != NULL && call->infer != NULL &&
           (config->heartbeat_periods == 0u || call->heartbeat != NULL) &&
           (config->payload_bytes == 0u || call->payload != NULL) &&
           (config->clock.now == NULL) == (config->clock.sleep_until == NULL) &&
           realtime->control_priority >= 0 && realtime->control_priority <= 99 &&
           realtime->inference_priority >= 0 && realtime->inference_priority <= 99 &&
           realtime->control_cpu >= -1 && realtime->inference_cpu >= -1;
}

static void set_grants(ec_threads *threads, const ec_realtime *asked) {
    bool is_asked[GRANTS] = {
        asked->control_priority > 0,
        asked->inference_priority > 0,
        asked->control_cpu >= 0,
        asked->inference_cpu >= 0,
        asked->lock_memory != 0u,
        true,
        false,
    };
    for (uint32_t i = 0; i < GRANTS; i++) {
        atomic_init(&threads->grants[i], is_asked[i] ? EC_GRANT_PENDING : EC_GRANT_NOT_ASKED);
    }
}

ec_threads_status ec_threads_init(const ec_control_config *control, const ec_threads_config *config,
                                  void *memory, size_t bytes, ec_threads **threads) {
    if (ec_control_check(control) != EC_CONTROL_OK) {
        return EC_THREADS_BAD_CONTROL;
    }
    if (!options_in_range(config)) {
        return EC_THREADS_BAD_OPTION;
    }
    size_t needed = ec_threads_bytes(control, config);
    if (memory == NULL || ((uintptr_t)memory & 63u) != 0u || bytes < needed) {
        return EC_THREADS_BAD_MEMORY;
    }
    memset(memory, 0, needed); /* touches every page */
    places at;
    lay_out(control, config, (uint8_t *)memory, &at);
    ec_threads *made = (ec_threads *)memory;
    made->control = control;
    made->config = config;
    made->requests = ec_slots_init(at.requests, request_bytes(control, config));
    made->chunks = ec_slots_init(at.chunks, ec_threads_chunk_bytes(control));
    made->copies = ec_slots_init(at.copies, sizeof(ec_statistics));
    made->state = (float *)at.state;
    made->nothing = (float *)at.nothing;
    made->action = (float *)at.action;
    for (uint32_t i = 0; i < control->states; i++) {
        made->nothing[i] = NAN;
    }
    if (ec_loop_init(control, at.loop, ec_loop_bytes(control), &made->loop) != EC_CONTROL_OK ||
        sem_init(&made->asked, 0, 0) != 0 || sem_init(&made->ready, 0, 0) != 0 ||
        sem_init(&made->go, 0, 0) != 0 || sem_init(&made->inference_done, 0, 0) != 0) {
        return EC_THREADS_BAD_MEMORY;
    }
    set_grants(made, &config->realtime);
    *threads = made;
    return EC_THREADS_OK;
}

int64_t ec_threads_now(void) {
    return ec_realtime_now();
}

static bool granted(const ec_threads *threads, ec_grant which) {
    return atomic_load_explicit(&threads->grants[which], memory_order_acquire) <= 0;
}

ec_threads_status ec_threads_infer(ec_threads *threads) {
    atomic_store_explicit(&threads->entered, 1u, memory_order_release);
    ec_threads_prepare_inference(threads);
    if (threads->config->realtime.require != 0u &&
        !(granted(threads, INFERENCE_PRIORITY) && granted(threads, INFERENCE_CPU))) {
        ec_threads_fall_silent(threads);
        return EC_THREADS_NOT_GRANTED;
    }
    pthread_cleanup_push(ec_threads_fall_silent, threads);
    ec_threads_serve(threads);
    pthread_cleanup_pop(1);
    return EC_THREADS_OK;
}

/* Make the threads, with all signals blocked in them. The number made. */
static uint32_t make_threads(ec_threads *threads) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    uint32_t made = 0;
    if (pthread_create(&threads->control_thread, NULL, ec_threads_control_main, threads) == 0) {
        made = 1;
        if (threads->config->inference_outside == 0u &&
            pthread_create(&threads->inference_thread, NULL, ec_threads_inference_main, threads) ==
                0) {
            made = 2;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return made;
}

static bool all_granted(const ec_threads *threads) {
    bool all = true;
    for (uint32_t i = 0; i < SLICE; i++) { /* nobody asked for a slice */
        all = all && granted(threads, (ec_grant)i);
    }
    return all;
}

ec_threads_status ec_threads_start(ec_threads *threads) {
    const ec_realtime *asked = &threads->config->realtime;
    if (threads->started) {
        return EC_THREADS_RUNNING;
    }
    uint32_t wanted = threads->config->inference_outside != 0u ? 1u : 2u;
    atomic_store_explicit(&threads->running, 1u, memory_order_release);
    uint32_t made = make_threads(threads);
    for (uint32_t i = 0; i < made; i++) {
        ec_realtime_wait(&threads->ready);
    }
    if (made == wanted && asked->lock_memory != 0u) {
        atomic_store(&threads->grants[LOCK_MEMORY], ec_realtime_lock_memory());
    }
    bool refused = asked->require != 0u && !all_granted(threads);
    threads->abandoned = made < wanted || refused;
    for (uint32_t i = 0; i < made; i++) {
        sem_post(&threads->go);
    }
    threads->started = made > 0u;
    if (!threads->abandoned) {
        return EC_THREADS_OK;
    }
    if (made > 0u) {
        pthread_join(threads->control_thread, NULL);
    }
    if (made > 1u) {
        pthread_join(threads->inference_thread, NULL);
    }
    if (asked->lock_memory != 0u) {
        ec_realtime_unlock_memory();
    }
    threads->joined = true;
    atomic_store_explicit(&threads->running, 0u, memory_order_release);
    return refused ? EC_THREADS_NOT_GRANTED : EC_THREADS_NO_THREAD;
}

void ec_threads_stop(ec_threads *threads) {
    atomic_store_explicit(&threads->stop, 1u, memory_order_release);
}

void ec_threads_reset(ec_threads *threads) {
    atomic_store_explicit(&threads->reset, 1u, memory_order_release);
}

bool ec_threads_running(const ec_threads *threads) {
    return atomic_load_explicit(&threads->running, memory_order_acquire) != 0u;
}

ec_threads_status ec_threads_wait(ec_threads *threads, int64_t infer_ns) {
    if (!threads->started || threads->joined) {
        return EC_THREADS_OK;
    }
    pthread_join(threads->control_thread, NULL);
    threads->joined = true;
    if (threads->config->realtime.lock_memory != 0u) {
        ec_realtime_unlock_memory();
    }
    bool outside = threads->config->inference_outside != 0u;
    if (outside && atomic_load_explicit(&threads->entered, memory_order_acquire) == 0u) {
        return EC_THREADS_OK;
    }
    bool ended = ec_realtime_wait_for(&threads->inference_done, infer_ns);
    if (!outside && ended) {
        pthread_join(threads->inference_thread, NULL);
    } else if (!outside) {
        pthread_detach(threads->inference_thread);
    }
    return ended ? EC_THREADS_OK : EC_THREADS_HANGS;
}

ec_grants ec_threads_grants(const ec_threads *threads) {
    int32_t found[GRANTS];
    for (uint32_t i = 0; i < GRANTS; i++) {
        found[i] = atomic_load_explicit(&threads->grants[i], memory_order_acquire);
    }
    return (ec_grants){
        .control_priority = found[CONTROL_PRIORITY],
        .inference_priority = found[INFERENCE_PRIORITY],
        .control_cpu = found[CONTROL_CPU],
        .inference_cpu = found[INFERENCE_CPU],
        .lock_memory = found[LOCK_MEMORY],
        .stack = found[STACK],
        .slice = found[SLICE],
    };
}

bool ec_threads_statistics(ec_threads *threads, ec_statistics *to) {
    bool found = ec_slots_take(threads->copies);
    if (found) {
        memcpy(to, ec_slots_front_payload(threads->copies), sizeof *to);
    }
    atomic_store_explicit(&threads->wants, 1u, memory_order_release);
    return found;
}

const char *ec_threads_text(ec_threads_status status) {
    static const char *const text[] = {
        "no error",
        "the control loop's settings cannot be",
        "a callback is absent, or an option is out of its range",
        "too little memory, or not aligned to 64 bytes",
        "the system makes no more threads",
        "the system does not grant what real time needs",
        "it was started already",
        "the policy does not return",
    };
    return (uint32_t)status < sizeof text / sizeof text[0] ? text[status] : "unknown status";
}
