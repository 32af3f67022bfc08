/* Runs the control loop with its threads and a robot in memory, and prints what came of it.
 *
 *   control_threads SCENARIO PERIODS [PRIORITY]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control_heap.h"
#include "control_robot.h"
#include "ec_mailbox.h"

#define PERIOD_NS 5000000
#define HORIZON 64u

uint64_t heap_calls(void) __attribute__((weak));

static ec_axis axes[ROBOT_AXES];
static ec_control_config control;
static ec_threads_config config;
static robot body = {.limit = 1.0f, .act_fails_from = -1, .sense_fails_from = -1};
static policy mind = {.horizon = HORIZON, .target = 3.0f, .latency_ns = 12000000};
static ec_threads *threads;
static ec_statistics statistics;

/* A clock that goes as far as it is asked to; `jump_at` it goes on by a second. */
static _Atomic int64_t virtual_ns;
static uint64_t torn; /* copies of the statistics whose parts do not agree */

static int64_t virtual_now(void *user) {
    (void)user;
    return virtual_ns;
}

static void virtual_sleep(void *user, int64_t deadline_ns) {
    int64_t jump_at = *(const int64_t *)user;
    virtual_ns = deadline_ns + (body.last_period + 1 == jump_at ? 1000000000 : 0);
}

/* A driver with a thread of its own, behind a mailbox. */
static ec_mailbox *mailbox;
static int64_t first_age_ns; /* of what was observed before the start */
static uint64_t skips;       /* periods in which the driver was told to observe alone */

static void post(void) {
    uint32_t payload[ROBOT_PAYLOAD / sizeof(uint32_t)];
    body.senses++;
    for (uint32_t i = 0; i < ROBOT_PAYLOAD / sizeof(uint32_t); i++) {
        payload[i] = (uint32_t)body.senses;
    }
    int64_t age_ns = body.senses == 1u ? first_age_ns : 0;
    ec_mailbox_post(mailbox, body.position, payload, ec_threads_now() - age_ns, body.senses);
}

static void *drive(void *unused) {
    ec_sent sent;
    float action[ROBOT_AXES];
    while (ec_mailbox_wait(mailbox, &sent, action)) {
        if (sent.action == NULL) {
            skips++;
            post();
            continue;
        }
        body.wrong += body.acts > 0u && sent.period <= body.last_period ? 1u : 0u;
        body.last_period = sent.period;
        body.acts++;
        for (uint32_t i = 0; i < ROBOT_AXES; i++) {
            body.outside += !(fabsf(action[i]) <= body.limit) ? 1u : 0u;
            body.last[i] = action[i];
            body.position[i] += action[i];
        }
        post();
    }
    return unused;
}

static void use_mailbox(void) {
    size_t bytes = ec_mailbox_bytes(&control, ROBOT_PAYLOAD);
    mailbox = ec_mailbox_init(&control, ROBOT_PAYLOAD, aligned_alloc(64, bytes));
    config.callbacks.sense = ec_mailbox_sense;
    config.callbacks.act = ec_mailbox_act;
    config.callbacks.skip = ec_mailbox_skip;
    config.callbacks.payload = ec_mailbox_payload;
    config.callbacks.robot = mailbox;
    config.callbacks.trace = NULL;
    mind.unnumbered = 1;
    post();
}

static void on_signal(int number) {
    (void)number;
    ec_threads_stop(threads);
}

static void configure(uint64_t periods, int32_t priority) {
    for (uint32_t i = 0; i < ROBOT_AXES; i++) {
        axes[i] = (ec_axis){
            .kind = EC_DELTA,
            .position = (int32_t)i,
            .velocity = -1,
            .gain = 1.0f,
            .travel = 1.0f,
            .brake = 1.0f,
            .alpha = 1.0f,
            .rate = INFINITY,
            .action_min = -1.0f,
            .action_max = 1.0f,
            .position_min = -INFINITY,
            .position_max = INFINITY,
            .motion_max = INFINITY,
            .change_max = INFINITY,
            .jerk_max = INFINITY,
            .action_scale = 1.0f,
        };
    }
    control.mode = EC_VLASH;
    control.axes = ROBOT_AXES;
    control.states = ROBOT_AXES;
    control.horizon = HORIZON;
    control.execute = HORIZON / 2u;
    control.delay = -1;
    control.delay_trained = HORIZON / 2u;
    control.beyond = EC_BEYOND_CLAMP;
    control.period_ns = PERIOD_NS;
    control.quantum = 1;
    control.ensemble_ratio = 1.0f;
    control.stop_after = 1000000;
    control.stop_periods = 10;
    control.late = EC_LATE_PLAY;
    control.late_tolerance = 1000000;
    control.estimate = (ec_delay_config){64, 2, 8, 0.99, PERIOD_NS / 10, 4};
    control.axis = axes;
    config.callbacks = (ec_callbacks){
        .sense = robot_sense,
        .act = robot_act,
        .robot = &body,
        .payload = robot_payload,
        .infer = policy_infer,
        .policy = &mind,
        .heartbeat = robot_beat,
        .heartbeat_user = &body,
        .trace = robot_trace,
        .trace_user = &body,
    };
    config.realtime = (ec_realtime){priority, 0, -1, -1, 0, 0};
    config.payload_bytes = ROBOT_PAYLOAD;
    config.periods = periods;
    config.heartbeat_periods = 10;
    config.end_on_stop = 1;
}

static int64_t jump_at = -1;

static void choose(const char *scenario) {
    static const char *const faults[] = {"works", "hangs", "exits", "returns", "fails", "nan"};
    for (uint32_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        mind.fault = strcmp(scenario, faults[i]) == 0 ? (policy_fault)i : mind.fault;
    }
    mind.after = 3;
    if (mind.fault == POLICY_HANGS) {
        control.stall_ns = 100000000;
    }
    body.allocates = strcmp(scenario, "allocates") == 0 ? 1u : 0u;
    if (strcmp(scenario, "act_fails") == 0) {
        body.act_fails_from = 50;
        config.act_errors_max = 3;
    }
    if (strcmp(scenario, "sense_fails") == 0) {
        body.sense_fails_from = 50;
        control.age_max_ns = 10 * PERIOD_NS;
    }
    if (strcmp(scenario, "virtual") == 0 || strcmp(scenario, "jump") == 0) {
        jump_at = strcmp(scenario, "jump") == 0 ? 100 : -1;
        config.clock = (ec_clock){virtual_now, virtual_sleep, &jump_at};
        mind.latency_ns = 0;
        body.virtual_time = 1;
    }
    if (strncmp(scenario, "mailbox", 7) == 0) {
        bool old = strcmp(scenario, "mailbox_old") == 0;
        control.age_max_ns = old ? 1000000000 : 0;
        first_age_ns = old ? 10000000000 : 0;
        use_mailbox();
    }
    if (strcmp(scenario, "require") == 0) {
        config.realtime.control_cpu = 1000; /* there is no such CPU */
        config.realtime.require = 1;
    }
    if (strcmp(scenario, "degraded") == 0) {
        config.realtime.control_cpu = 1000;
        config.realtime.inference_cpu = 0;
    }
}

/* Statistics may be read at any time: their parts agree with each other. */
static uint64_t read_while_running(void) {
    uint64_t copies = 0;
    while (ec_threads_running(threads)) {
        if (ec_threads_statistics(threads, &statistics)) {
            copies++;
            torn += statistics.periods != statistics.counts.ticks ? 1u : 0u;
            torn += statistics.periods != statistics.threads[EC_LATENESS].count ? 1u : 0u;
        }
    }
    return copies;
}

static void print_result(ec_threads_status status, uint64_t copies) {
    const ec_counts *counts = &statistics.counts;
    ec_grants grants = ec_threads_grants(threads);
    int64_t grid = (statistics.last_ns - statistics.first_ns) / PERIOD_NS + 1;
    printf("status=%d end=%d stop=%d\n", (int)status, (int)statistics.end, (int)statistics.stop);
    printf("periods=%" PRIu64 " missed=%" PRIu64 " grid=%" PRId64 " ticks=%" PRIu64 "\n",
           statistics.periods, statistics.missed, grid, counts->ticks);
    printf("senses=%" PRIu64 " acts=%" PRIu64 " traces=%" PRIu64 " beats=%" PRIu64 "\n",
           body.senses, body.acts, body.traces, body.beats);
    printf("asked=%" PRIu64 " asks_seen=%" PRIu64 " delivered=%" PRIu64 " taken=%" PRIu64
           " refused=%" PRIu64 " answers=%" PRIu64 "\n",
           counts->asked, body.asked, body.delivered, counts->taken, counts->refused, mind.answers);
    printf("sense_errors=%" PRIu64 " act_errors=%" PRIu64 " infer_errors=%" PRIu64
           " bad_observations=%" PRIu64 " overruns=%" PRIu64 "\n",
           statistics.sense_errors, statistics.act_errors, statistics.infer_errors,
           counts->bad_observations, counts->overruns);
    printf("outside=%" PRIu64 " wrong=%" PRIu64 " rests=%" PRIu64 " last=%g copies=%" PRIu64 "\n",
           body.outside, body.wrong + mind.wrong + torn, body.rests,
           (double)(fabsf(body.last[0]) + fabsf(body.last[1])), copies);
    printf("position=%.4f\n", (double)body.position[0]);
    printf("heap=%" PRId64 "\n", heap_calls != NULL ? (int64_t)heap_calls() : -1);
    printf("control_priority=%d control_cpu=%d inference_cpu=%d stack=%d\n",
           grants.control_priority, grants.control_cpu, grants.inference_cpu, grants.stack);
}

int main(int count, char **words) {
    const char *scenario = count > 1 ? words[1] : "works";
    configure(count > 2 ? strtoull(words[2], NULL, 10) : 200u,
              count > 3 ? (int32_t)strtol(words[3], NULL, 10) : 0);
    choose(scenario);
    sem_init(&mind.release, 0, 0);
    size_t bytes = ec_threads_bytes(&control, &config);
    void *memory = aligned_alloc(64, bytes);
    ec_threads_status status = ec_threads_init(&control, &config, memory, bytes, &threads);
    if (status != EC_THREADS_OK) {
        printf("status=%d\n", (int)status);
        return 1;
    }
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    pthread_t driver;
    if (mailbox != NULL && pthread_create(&driver, NULL, drive, NULL) != 0) {
        return 1;
    }
    status = ec_threads_start(threads);
    uint64_t copies = 0;
    if (status == EC_THREADS_OK) {
        printf("started=1\n");
        fflush(stdout);
        copies = strcmp(scenario, "statistics") == 0 ? read_while_running() : 0u;
        /* a policy that hangs is waited for as long, and then let go */
        int64_t patience_ns = mind.fault == POLICY_HANGS ? 50000000 : 20000000000;
        status = ec_threads_wait(threads, patience_ns);
        ec_threads_statistics(threads, &statistics);
        ec_threads_statistics(threads, &statistics);
    }
    uint64_t lost = 0;
    if (mailbox != NULL) {
        ec_mailbox_close(mailbox);
        pthread_join(driver, NULL);
        lost = ec_mailbox_lost(mailbox);
    }
    printf("lost=%" PRIu64 "\nskips=%" PRIu64 "\n", lost, skips);
    print_result(status, copies);
    if (status == EC_THREADS_HANGS) {
        return 0; /* its thread and the memory stay */
    }
    free(memory);
    free(mailbox);
    return 0;
}
