#define _GNU_SOURCE
#include <math.h>
#include <string.h>

#include "ec_realtime.h"
#include "ec_threads_own.h"

static int64_t now_of(const ec_threads *threads) {
    const ec_clock *clock = &threads->config->clock;
    return clock->now != NULL ? clock->now(clock->user) : ec_realtime_now();
}

static void sleep_until(const ec_threads *threads, int64_t deadline_ns) {
    const ec_clock *clock = &threads->config->clock;
    if (clock->sleep_until != NULL) {
        clock->sleep_until(clock->user, deadline_ns);
    } else {
        ec_realtime_sleep_until(deadline_ns);
    }
}

/* The observation of this period; numbers that the loop refuses where sense has none. */
static ec_observation observe(ec_threads *threads, int64_t woken_ns) {
    const ec_callbacks *call = &threads->config->callbacks;
    ec_sensed sensed = {
        .period = (int64_t)threads->statistics.periods,
        .deadline_ns = threads->deadline_ns,
        .now_ns = woken_ns,
        .state = threads->state,
        .observed_ns = woken_ns,
    };
    bool good = call->sense(call->robot, &sensed) == 0;
    threads->statistics.sense_errors += good ? 0u : 1u;
    return (ec_observation){
        .now_ns = now_of(threads), /* not before what sense has measured */
        .observed_ns = sensed.observed_ns,
        .frame = good ? sensed.frame : 0u,
        .state = good ? threads->state : threads->nothing,
        .overrun = threads->overrun ? 1u : 0u,
    };
}

static void give(ec_threads *threads, ec_period *period, const ec_delivery *one) {
    period->delivered = one->sequence;
    period->chunk = one->actions;
    period->published_ns = one->published_ns;
    period->taken = ec_recorded_deliver(threads->config->recorder, threads->loop, one->sequence,
                                        one->actions, one->published_ns);
}

/* What the policy has published, if anything. */
static bool receive(ec_threads *threads, ec_delivery *one) {
    if (!ec_slots_take(threads->chunks)) {
        return false;
    }
    const ec_slot_header *header = ec_slots_front(threads->chunks);
    ec_histogram *histogram = threads->statistics.threads;
    ec_histogram_add(&histogram[EC_WAKE], header->started_ns - header->asked_ns);
    ec_histogram_add(&histogram[EC_INFERENCE], header->published_ns - header->started_ns);
    threads->statistics.infer_errors += header->status != 0 ? 1u : 0u;
    one->sequence = header->sequence;
    one->actions = (const float *)ec_slots_front_payload(threads->chunks);
    one->published_ns = header->published_ns;
    return true;
}

/* The loop gets the chunk that came, if one did; with faults, what they make of it. */
static void deliver(ec_threads *threads, ec_period *period) {
    ec_faults *faults = threads->config->faults;
    ec_delivery one;
    bool came = receive(threads, &one);
    if (faults == NULL) {
        if (came) {
            give(threads, period, &one);
        }
        return;
    }
    if (came) {
        ec_faults_publish(faults, one.sequence, one.actions, one.published_ns);
    }
    while (ec_faults_next(faults, &one)) {
        give(threads, period, &one);
    }
}

/* The inference thread gets the request and is woken. */
static void hand_over(ec_threads *threads, const ec_request *request) {
    const ec_control_config *control = threads->control;
    const ec_callbacks *call = &threads->config->callbacks;
    ec_slot_header *header = ec_slots_back(threads->requests);
    uint8_t *to = (uint8_t *)ec_slots_back_payload(threads->requests);
    header->sequence = request->sequence;
    header->tick = request->tick;
    header->handover = request->handover;
    header->observed_ns = request->observed_ns;
    header->asked_ns = request->asked_ns;
    header->delay = request->delay;
    memcpy(to, request->state, control->states * sizeof(float));
    to += ec_threads_state_bytes(control);
    memcpy(to, request->prefix, (size_t)request->delay * control->axes * sizeof(float));
    if (threads->config->payload_bytes > 0u) {
        call->payload(call->robot, to + ec_threads_chunk_bytes(control));
    }
    ec_slots_publish(threads->requests);
    sem_post(&threads->asked);
}

/* What other threads asked for, and whether there is still one to infer. */
static void obey(ec_threads *threads) {
    const ec_threads_config *config = threads->config;
    if (atomic_load_explicit(&threads->stop, memory_order_acquire) != 0u &&
        threads->end == EC_END_RUNS) {
        threads->end = EC_END_ASKED;
    }
    if (config->periods > 0u && threads->statistics.periods >= config->periods &&
        threads->end == EC_END_RUNS) {
        threads->end = EC_END_PERIODS;
    }
    if (atomic_exchange_explicit(&threads->reset, 0u, memory_order_acq_rel) != 0u &&
        threads->end == EC_END_RUNS) {
        ec_recorded_reset(threads->config->recorder, threads->loop);
    }
    if (threads->end != EC_END_RUNS) {
        ec_recorded_stop(threads->config->recorder, threads->loop, EC_STOP_ASKED);
    } else if (atomic_load_explicit(&threads->silent, memory_order_acquire) != 0u) {
        ec_recorded_stop(threads->config->recorder, threads->loop, EC_STOP_STALL);
    }
}

static void send(ec_threads *threads, ec_period *period) {
    const ec_callbacks *call = &threads->config->callbacks;
    bool skips = period->result.source == EC_FROM_NOTHING;
    ec_sent sent = {
        .period = period->period,
        .deadline_ns = threads->deadline_ns,
        .next_ns = threads->deadline_ns + threads->control->period_ns,
        .action = skips ? NULL : threads->action,
        .result = period->result,
    };
    if (skips) {
        if (call->skip != NULL) {
            call->skip(call->robot, &sent);
        }
        return;
    }
    period->action = threads->action;
    bool good = call->act(call->robot, &sent) == 0;
    threads->statistics.act_errors += good ? 0u : 1u;
    threads->act_errors = good ? 0u : threads->act_errors + 1u;
}

/* Whether another period follows. */
static bool goes_on(ec_threads *threads, ec_source source) {
    const ec_threads_config *config = threads->config;
    if (config->act_errors_max > 0u && threads->act_errors >= config->act_errors_max) {
        threads->end = EC_END_ACT;
        return false;
    }
    bool rests = source == EC_FROM_REST || source == EC_FROM_NOTHING;
    if (ec_loop_stopped(threads->loop) == EC_STOP_NONE || !rests) {
        return true;
    }
    if (threads->end == EC_END_RUNS && config->end_on_stop != 0u) {
        threads->end = EC_END_STOPPED;
    }
    return threads->end == EC_END_RUNS;
}

static void tell(ec_threads *threads, const ec_period *period) {
    const ec_callbacks *call = &threads->config->callbacks;
    uint32_t every = threads->config->heartbeat_periods;
    if (every > 0u && period->period % (int64_t)every == 0) {
        call->heartbeat(call->heartbeat_user, period->period);
    }
    if (call->trace != NULL) {
        call->trace(call->trace_user, period);
    }
}

static bool run_period(ec_threads *threads, int64_t woken_ns) {
    ec_statistics *statistics = &threads->statistics;
    ec_histogram_add(&statistics->threads[EC_LATENESS], woken_ns - threads->deadline_ns);
    statistics->first_ns = statistics->periods == 0u ? threads->deadline_ns : statistics->first_ns;
    statistics->last_ns = threads->deadline_ns;
    obey(threads);
    ec_observation observation = observe(threads, woken_ns);
    if (threads->config->faults != NULL) {
        observation = ec_faults_observe(threads->config->faults, &observation);
    }
    ec_period period = {
        .period = (int64_t)statistics->periods,
        .deadline_ns = threads->deadline_ns,
        .woken_ns = woken_ns,
        .observation = &observation,
    };
    deliver(threads, &period);
    period.request = ec_recorded_begin(threads->config->recorder, threads->loop, &observation,
                                       woken_ns - threads->deadline_ns);
    if (period.request != NULL) {
        hand_over(threads, period.request);
    }
    period.result = ec_recorded_end(threads->config->recorder, threads->loop, threads->action);
    send(threads, &period);
    statistics->periods++;
    tell(threads, &period);
    return goes_on(threads, period.result.source);
}

/* The next deadline of the grid that is not gone entirely. */
static void next_deadline(ec_threads *threads, int64_t now_ns) {
    int64_t period_ns = threads->control->period_ns;
    threads->deadline_ns += period_ns;
    threads->overrun = now_ns > threads->deadline_ns;
    if (now_ns - threads->deadline_ns >= period_ns) {
        int64_t gone = (now_ns - threads->deadline_ns) / period_ns;
        threads->statistics.missed += (uint64_t)gone;
        threads->deadline_ns += gone * period_ns;
    }
}

static void publish_statistics(ec_threads *threads) {
    ec_statistics *statistics = &threads->statistics;
    statistics->delay = ec_loop_delay(threads->loop);
    statistics->stop = ec_loop_stopped(threads->loop);
    statistics->end = threads->end;
    statistics->counts = *ec_loop_counts(threads->loop);
    for (uint32_t i = 0; i < EC_LOOP_HISTOGRAMS; i++) {
        statistics->loop[i] = *ec_loop_statistics(threads->loop, (ec_loop_histogram)i);
    }
    memcpy(ec_slots_back_payload(threads->copies), statistics, sizeof *statistics);
    ec_slots_publish(threads->copies);
}

static void set_grant(ec_threads *threads, ec_grant which, int32_t found) {
    atomic_store_explicit(&threads->grants[which], found, memory_order_release);
}

/* The inference thread's work is over: no more requests are read. */
static void end_inference(ec_threads *threads) {
    atomic_store_explicit(&threads->quit, 1u, memory_order_release);
    sem_post(&threads->asked);
}

void *ec_threads_control_main(void *given) {
    ec_threads *threads = (ec_threads *)given;
    const ec_realtime *asked = &threads->config->realtime;
    if (asked->control_cpu >= 0) {
        set_grant(threads, CONTROL_CPU, ec_realtime_cpu(asked->control_cpu));
    }
    set_grant(threads, STACK, ec_realtime_touch_stack());
    if (asked->control_priority > 0) {
        set_grant(threads, CONTROL_PRIORITY, ec_realtime_priority(asked->control_priority));
    }
    if (atomic_load(&threads->grants[CONTROL_PRIORITY]) != 0) {
        set_grant(threads, SLICE, ec_realtime_short_slice());
    }
    sem_post(&threads->ready);
    ec_realtime_wait(&threads->go);
    if (!threads->abandoned) {
        threads->deadline_ns = now_of(threads) + threads->control->period_ns;
        bool more = true;
        while (more) {
            sleep_until(threads, threads->deadline_ns);
            int64_t woken_ns = now_of(threads);
            more = run_period(threads, woken_ns);
            int64_t now_ns = now_of(threads);
            ec_histogram_add(&threads->statistics.threads[EC_EXECUTION], now_ns - woken_ns);
            if (!more || atomic_exchange_explicit(&threads->wants, 0u, memory_order_acq_rel)) {
                publish_statistics(threads);
            }
            next_deadline(threads, now_ns);
        }
    }
    end_inference(threads);
    atomic_store_explicit(&threads->running, 0u, memory_order_release);
    return NULL;
}

/* Answer the request that was taken. Whether the policy goes on. */
static bool answer(ec_threads *threads) {
    const ec_control_config *control = threads->control;
    const ec_callbacks *call = &threads->config->callbacks;
    const ec_slot_header *asked = ec_slots_front(threads->requests);
    const uint8_t *from = (const uint8_t *)ec_slots_front_payload(threads->requests);
    ec_request request = {
        .sequence = asked->sequence,
        .tick = asked->tick,
        .handover = asked->handover,
        .observed_ns = asked->observed_ns,
        .asked_ns = asked->asked_ns,
        .delay = asked->delay,
        .state = (const float *)(const void *)from,
        .prefix = (const float *)(const void *)(from + ec_threads_state_bytes(control)),
    };
    ec_slot_header *header = ec_slots_back(threads->chunks);
    float *chunk = (float *)ec_slots_back_payload(threads->chunks);
    header->sequence = asked->sequence;
    header->tick = asked->tick;
    header->handover = asked->handover;
    header->observed_ns = asked->observed_ns;
    header->asked_ns = asked->asked_ns;
    header->delay = asked->delay;
    header->started_ns = now_of(threads);
    const uint8_t *payload =
        from + ec_threads_state_bytes(control) + ec_threads_chunk_bytes(control);
    header->status = call->infer(call->policy, &request,
                                 threads->config->payload_bytes > 0u ? payload : NULL, chunk);
    if (header->status == EC_INFER_END) {
        return false;
    }
    if (header->status != 0) {
        chunk[0] = NAN; /* the loop refuses it, and asks again */
    }
    header->published_ns = now_of(threads);
    ec_slots_publish(threads->chunks);
    return true;
}

/* However the inference thread ends. */
void ec_threads_fall_silent(void *given) {
    ec_threads *threads = (ec_threads *)given;
    atomic_store_explicit(&threads->silent, 1u, memory_order_release);
    sem_post(&threads->inference_done);
}

void ec_threads_serve(ec_threads *threads) {
    bool more = true;
    while (more) {
        ec_realtime_wait(&threads->asked);
        if (atomic_load_explicit(&threads->quit, memory_order_acquire) != 0u) {
            more = false;
        } else if (ec_slots_take(threads->requests)) {
            more = answer(threads);
        }
    }
}

void ec_threads_prepare_inference(ec_threads *threads) {
    const ec_realtime *asked = &threads->config->realtime;
    if (asked->inference_cpu >= 0) {
        set_grant(threads, INFERENCE_CPU, ec_realtime_cpu(asked->inference_cpu));
    }
    if (asked->inference_priority > 0) {
        set_grant(threads, INFERENCE_PRIORITY, ec_realtime_priority(asked->inference_priority));
    }
}

void *ec_threads_inference_main(void *given) {
    ec_threads *threads = (ec_threads *)given;
    pthread_cleanup_push(ec_threads_fall_silent, threads);
    ec_threads_prepare_inference(threads);
    sem_post(&threads->ready);
    ec_realtime_wait(&threads->go);
    if (!threads->abandoned) {
        ec_threads_serve(threads);
    }
    pthread_cleanup_pop(1);
    return NULL;
}
