/* The control loop in real time: a control thread on absolute deadlines, and an inference thread.
 *
 * Period k begins at first + k period_ns. In it: sense, take up the policy's chunk, ask the policy,
 * act; then sleep until the next deadline, whatever this period took. A period that begins up to a
 * period late runs at once; deadlines that are gone entirely are left out and counted as missed,
 * and the grid is kept. The loop counts the periods that ran (ec_control.h).
 *
 * In a period the control thread calls the clock, the user's callbacks and, where it asks the
 * policy, sem_post; nothing else of the system, no heap, no lock. The threads exchange through
 * ec_slot.h. All memory is the caller's. Linux: priorities, CPUs and locked memory are asked for as
 * configured, and the report says what was granted.
 *
 * Whatever ends the run, the robot comes to rest first: ec_threads_stop (from a signal handler,
 * too), a policy that is late or silent, an inference thread that ends. Signals are blocked in both
 * threads, so that a handler runs elsewhere.
 */
#ifndef EC_THREADS_H
#define EC_THREADS_H

#include <stdbool.h>

#include "ec_control.h"
#include "ec_faults.h"
#include "ec_record.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whose time it is: the monotonic clock's where both are NULL. */
typedef struct {
    int64_t (*now)(void *user);
    void (*sleep_until)(void *user, int64_t deadline_ns);
    void *user;
} ec_clock;

/* What sense is told and fills in. */
typedef struct {
    int64_t period; /* from 0 */
    int64_t deadline_ns, now_ns;
    float *state;        /* [states], to fill */
    int64_t observed_ns; /* when that was measured; now_ns on entry */
    uint64_t frame;      /* changes with each picture; 0 on entry: there are none */
} ec_sensed;

/* What is sent. */
typedef struct {
    int64_t period;
    int64_t deadline_ns, next_ns; /* of this period, of the next */
    const float *action;          /* [axes] */
    ec_tick_result result;
} ec_sent;

/* Everything of a period, for records; pointers are good until the callback returns. */
typedef struct {
    int64_t period;
    int64_t deadline_ns, woken_ns;
    const ec_observation *observation;
    const ec_request *request; /* NULL: the policy was not asked */
    uint64_t delivered;        /* number of the chunk that came; 0: none */
    const float *chunk;        /* [horizon][axes], the policy's numbers; NULL: none */
    int64_t published_ns;
    ec_control_status taken; /* what ec_loop_deliver said of it */
    const float *action;     /* [axes]; NULL: nothing was sent */
    ec_tick_result result;
} ec_period;

/* Inference thread: what infer returns to end it. Above 0: there is no chunk, ask again. */
#define EC_INFER_END (-1)

/* All but infer run in the control thread. sense and act return 0, or else: there is no
 * observation; the command did not reach the robot. */
typedef struct {
    int32_t (*sense)(void *user, ec_sensed *sensed);
    int32_t (*act)(void *user, const ec_sent *sent);
    /* In a period in which nothing is sent, instead of act; `action` is NULL. NULL: nothing. */
    void (*skip)(void *user, const ec_sent *sent);
    void *robot; /* `user` of sense, act, skip and payload */
    /* Fill what the policy reads beyond the state, such as a picture; only where it is asked. NULL:
     * there is none. */
    void (*payload)(void *user, void *payload);
    int32_t (*infer)(void *user, const ec_request *request, const void *payload, float *chunk);
    void *policy;
    void (*heartbeat)(void *user, int64_t period); /* each heartbeat_periods; NULL: none */
    void *heartbeat_user;
    void (*trace)(void *user, const ec_period *period); /* at the end of each period; NULL: none */
    void *trace_user;
} ec_callbacks;

typedef struct {
    int32_t control_priority; /* of SCHED_FIFO; 0: not asked for */
    int32_t inference_priority;
    int32_t control_cpu; /* -1: any */
    int32_t inference_cpu;
    uint32_t lock_memory; /* 1: mlockall, of the whole process */
    uint32_t require;     /* 1: do not start without all that is asked for */
} ec_realtime;

typedef struct {
    ec_callbacks callbacks;
    ec_clock clock;
    ec_realtime realtime;
    size_t payload_bytes;
    uint64_t periods;           /* after which it stops; 0: never */
    uint32_t heartbeat_periods; /* 0: no heartbeat */
    uint32_t end_on_stop;       /* 1: a loop that has stopped itself ends the run; 0: it rests until
                                   ec_threads_reset or ec_threads_stop */
    uint32_t act_errors_max;    /* commands in a row that did not reach the robot and end the run;
                                   0: not watched */
    uint32_t inference_outside; /* 1: the caller runs ec_threads_infer in a thread of its own */
    ec_recorder *recorder;      /* that another thread drains; NULL: none */
    ec_faults *faults;          /* what goes wrong on purpose; NULL: nothing */
} ec_threads_config;

typedef enum {
    EC_THREADS_OK = 0,
    EC_THREADS_BAD_CONTROL, /* ec_control_check says what */
    EC_THREADS_BAD_OPTION,  /* a callback is absent, or a number out of its range */
    EC_THREADS_BAD_MEMORY,
    EC_THREADS_NO_THREAD,   /* the system makes none */
    EC_THREADS_NOT_GRANTED, /* `require`, and the report says what was not granted */
    EC_THREADS_RUNNING,     /* not while it runs */
    EC_THREADS_HANGS        /* infer does not return: its thread and this memory must stay */
} ec_threads_status;

const char *ec_threads_text(ec_threads_status status);

/* Why a run has ended. */
typedef enum {
    EC_END_RUNS = 0,
    EC_END_ASKED,
    EC_END_PERIODS,
    EC_END_STOPPED, /* the loop stopped itself */
    EC_END_ACT,     /* commands do not reach the robot */
    EC_ENDS
} ec_end;

/* What was asked of the system: 0 granted, above 0 the errno that says why not. */
#define EC_GRANT_NOT_ASKED (-1)
#define EC_GRANT_PENDING (-2)

typedef struct {
    int32_t control_priority, inference_priority, control_cpu, inference_cpu, lock_memory;
    int32_t stack; /* of the control thread, touched before the first period */
    int32_t slice; /* of the control thread, where it has no priority: ec_realtime_short_slice */
} ec_grants;

typedef enum {
    EC_LATENESS,  /* from the deadline to the wake of the control thread */
    EC_EXECUTION, /* of a period, from its wake to the end of act */
    EC_WAKE,      /* from the question to the start of infer */
    EC_INFERENCE, /* from the start of infer to its chunk */
    EC_THREADS_HISTOGRAMS
} ec_threads_histogram;

typedef struct {
    uint64_t periods; /* that ran */
    uint64_t missed;  /* deadlines that were left out */
    uint64_t sense_errors, act_errors, infer_errors;
    int64_t first_ns, last_ns; /* deadlines of the first and the last period */
    uint32_t delay;            /* of the next question */
    ec_stop stop;
    ec_end end;
    ec_counts counts;
    ec_histogram loop[EC_LOOP_HISTOGRAMS];
    ec_histogram threads[EC_THREADS_HISTOGRAMS]; /* in ns */
} ec_statistics;

typedef struct ec_threads ec_threads;

/* Bytes of the loop, its slots and threads, a multiple of 64. `control` has been checked. */
size_t ec_threads_bytes(const ec_control_config *control, const ec_threads_config *config);

/* In `memory`, aligned to 64 bytes. Both configurations and what they point to stay. */
ec_threads_status ec_threads_init(const ec_control_config *control, const ec_threads_config *config,
                                  void *memory, size_t bytes, ec_threads **threads);

/* Start the threads; the first period begins a period later. */
ec_threads_status ec_threads_start(ec_threads *threads);

/* The inference thread's work, for `inference_outside`: returns when the run ends, or at infer's
 * EC_INFER_END. EC_THREADS_NOT_GRANTED: `require`. */
ec_threads_status ec_threads_infer(ec_threads *threads);

/* Come to rest and end. Safe in a signal handler. */
void ec_threads_stop(ec_threads *threads);

/* Leave the rest after a stop (ec_loop_reset). */
void ec_threads_reset(ec_threads *threads);

/* Whether the control thread runs. */
bool ec_threads_running(const ec_threads *threads);

/* Wait for the end of the run; for the inference thread at most `infer_ns` longer. */
ec_threads_status ec_threads_wait(ec_threads *threads, int64_t infer_ns);

/* What was granted so far. */
ec_grants ec_threads_grants(const ec_threads *threads);

/* The newest statistics go to `to`, whole; a newer copy is asked for, which the control thread
 * makes at the end of its period. False: none was made since the last call, `to` is as it was. Of
 * one thread. After the end the last copy is that of the whole run. */
bool ec_threads_statistics(ec_threads *threads, ec_statistics *to);

/* The monotonic clock, in ns. */
int64_t ec_threads_now(void);

#ifdef __cplusplus
}
#endif

#endif
