/* The control loop of a robot whose policy takes longer than a control period.
 *
 * A policy returns a chunk of H actions; K of them are played, one a period. It is asked for the
 * next chunk `delay` periods before those are used up, so that the robot does not wait (Tang et
 * al., VLASH, arXiv 2512.01031). The modes differ in what the policy is told and where its chunk is
 * taken up:
 *
 *   sync        asked when the chunk is used up; the robot holds until the answer is here
 *   naive       the measured state; from action 0
 *   aligned     the measured state; from action `delay`, which was meant for this period
 *   ensemble    as aligned, the weighted mean of all chunks that speak of this period (Zhao et al.,
 * arXiv 2304.13705) rtc-prefix  the measured state and the `delay` committed actions; from action
 * `delay` vlash       the state that the committed actions will have brought about; from action 0
 *
 * Time comes in with each call: nothing here reads a clock, allocates, locks or calls the system.
 * The same calls with the same numbers give the same actions, which is what replay, simulation and
 * the threads of ec_threads.h build on.
 *
 * Order of calls in a period: ec_loop_deliver (chunks that arrived), ec_loop_begin, ec_loop_deliver
 * again where the policy answers at once, ec_loop_end. Units: actions and positions are the user's,
 * per control period.
 */
#ifndef EC_CONTROL_H
#define EC_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "ec_delay.h"
#include "ec_histogram.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EC_CONTROL_MAX_AXES 64
#define EC_CONTROL_MAX_STATES 128
#define EC_CONTROL_MAX_HORIZON 256
#define EC_CONTROL_MAX_CHUNKS 16 /* of an ensemble */
#define EC_CONTROL_HISTORY 32    /* actions that are remembered, for old observations */

typedef enum {
    EC_CONTROL_OK = 0,
    EC_CONTROL_BAD_SIZE,  /* axes, states, horizon or execute out of range */
    EC_CONTROL_BAD_LIMIT, /* a limit is absent, not finite where it must be, or inverted */
    EC_CONTROL_BAD_AXIS,  /* an index outside the state, or a number that the kind does not take */
    EC_CONTROL_BAD_DELAY, /* delay beyond execute, or beyond what was trained */
    EC_CONTROL_BAD_QUANTUM, /* action quantisation of a kind that has none, or below 1 */
    EC_CONTROL_BAD_MEMORY,  /* too few bytes, or not aligned */
    EC_CONTROL_BAD_CHUNK,   /* not finite, absurd, or not asked for */
    EC_CONTROL_BAD_OPTION   /* another field out of its range */
} ec_control_status;

/* What is wrong, in words. */
const char *ec_control_text(ec_control_status status);

typedef enum {
    EC_SYNC,
    EC_NAIVE,
    EC_ALIGNED,
    EC_ENSEMBLE,
    EC_RTC_PREFIX,
    EC_VLASH,
    EC_MODES
} ec_mode;

/* What an action does to position p and velocity v in one period; `hold` is what is sent when there
 * is no action. */
typedef enum {
    EC_DELTA,        /* p += gain a; hold: 0 */
    EC_ABSOLUTE,     /* p = a; hold: the last target */
    EC_LAG,          /* p += clip(alpha (a - p), rate); hold: the last target */
    EC_VELOCITY,     /* p += gain a; hold: 0 */
    EC_ACCELERATION, /* v += gain a, p += travel v; hold: a = -brake v / gain */
    EC_DISCRETE,     /* p = a, a gripper or a switch; hold: the last command */
    EC_MODEL,        /* by the callback `model`; hold: hold_action */
    EC_AXIS_KINDS
} ec_axis_kind;

typedef struct {
    ec_axis_kind kind;
    int32_t position; /* index into the state; -1: there is none */
    int32_t velocity; /* acceleration only */
    float gain, travel;
    float brake;       /* acceleration only, in (0, 1]: share of v that a held period takes away */
    float brake_max;   /* the most of an action that does so; infinite: action_min and action_max
                          alone */
    float alpha, rate; /* lag only */
    float hold_action; /* of model; of a target that has no position, until the first command */
    /* What the actuator takes; both finite. Nothing outside is ever sent. */
    float action_min, action_max;
    /* Of the position; infinite where there is no limit. delta, absolute, lag and velocity keep
     * inside. */
    float position_min, position_max;
    /* Most that a command moves in a period, that this changes, that the change changes; infinite:
     * no limit. Of delta, velocity and acceleration the command itself is the motion, of absolute
     * and lag the way from the last target. */
    float motion_max, change_max, jerk_max;
    int32_t wraps; /* 1: the position is an angle in (-pi, pi], ways are the short ones; it has no
                      position limits, and a target's actuator takes all angles */
    /* Action of the actuator = scale * action of the policy + offset. */
    float action_scale, action_offset;
} ec_axis;

/* What happens to a chunk that comes after the period it was planned for. */
typedef enum {
    EC_LATE_DROP, /* it is left, the policy is asked again */
    EC_LATE_PLAY  /* it is taken up: aligned modes skip what has passed, the others start with its
                     first action */
} ec_late;

/* What happens where the estimated delay is beyond what the policy was trained for. */
typedef enum { EC_BEYOND_CLAMP, EC_BEYOND_LENGTHEN, EC_BEYOND_STOP } ec_beyond;

/* A model of the robot for axes of kind `model`: state of the next period, in place. */
typedef void (*ec_model)(void *user, float *state, const float *action);

typedef struct {
    ec_mode mode;
    uint32_t axes, states;
    uint32_t horizon; /* H, actions of a chunk */
    uint32_t execute; /* K, of which are played */
    int32_t delay;    /* in periods; -1: estimated */
    uint32_t delay_min;
    uint32_t delay_trained; /* the most that the policy was trained for; where that is unknown,
                               execute */
    ec_beyond beyond;
    int64_t period_ns;
    uint32_t quantum;     /* q, actions joined to one; 1: none */
    uint32_t continuous;  /* 1: the policy is asked again as soon as its chunk is taken up */
    float ensemble_ratio; /* exp(-m), weight of a chunk over that of the next older one */
    uint32_t blend;       /* periods in which a new chunk replaces the old one; 0: at once */
    uint32_t blend_quintic;
    uint32_t extra;        /* actions beyond K that may be played while a chunk is late */
    uint32_t stop_after;   /* periods in a row without a planned action that stop the loop, not in
                              mode sync; as many answers in a row that are bad or dropped stop it
                              too, where the delay is estimated after warm_up + 1 more */
    uint32_t stop_periods; /* in which it comes to rest */
    ec_late late;
    uint32_t late_tolerance; /* periods; EC_LATE_PLAY takes no chunk that is later */
    int64_t stall_ns; /* a policy that does not answer for so long stops the loop; 0: not watched */
    int64_t age_max_ns;  /* of an observation; 0: not watched */
    uint32_t frozen_max; /* equal frames in a row that stop the loop; 0: not watched */
    uint32_t
        overrun_max; /* periods in a row that took too long and stop the loop; 0: not watched */
    float absurd; /* a chunk with an action so many times beyond its range is refused; 0: none is */
    ec_delay_config estimate;
    const ec_axis *axis; /* [axes] */
    const float
        *state_scale; /* [states], or NULL: state of the policy = (state - offset) / scale */
    const float *state_offset; /* [states], or NULL */
    ec_model model;            /* NULL where no axis is of kind `model` */
    void *model_user;
} ec_control_config;

/* Why the loop stops; 0: it does not. */
typedef enum {
    EC_STOP_NONE = 0,
    EC_STOP_ASKED,
    EC_STOP_LATE,        /* no planned action for stop_after periods */
    EC_STOP_STALL,       /* the policy does not answer */
    EC_STOP_OBSERVATION, /* no good observation for age_max_ns */
    EC_STOP_FROZEN,
    EC_STOP_OVERRUN,
    EC_STOP_BEYOND, /* the delay is beyond what was trained */
    EC_STOP_CHUNK,  /* stop_after answers in a row that were bad or dropped */
    EC_STOPS
} ec_stop;

const char *ec_stop_text(ec_stop stop);

/* Where the action of a period came from. */
typedef enum {
    EC_FROM_CHUNK,
    EC_FROM_EXTRA, /* beyond K */
    EC_FROM_HOLD,
    EC_FROM_STOP, /* on the way to rest */
    EC_FROM_REST,
    EC_FROM_NOTHING /* no good observation so far: send nothing */
} ec_source;

/* An observation is bad, and left, where a number is not finite, where it is older than the last
 * one or than age_max_ns, or more than a period in the future; before the first command also where
 * an actuator cannot reach the position within its limits.
 * For limits, holds and roll-forward the state is brought to now by the actions that were sent since
 * `observed_ns`, in whole periods, without a good observation by those since the last good one. A
 * policy that is told no state of the future is told it as it was observed.
 * Where now_ns falls, the clock was set back, and all times with it. */
typedef struct {
    int64_t now_ns;
    int64_t observed_ns;
    uint64_t frame;     /* changes with each picture; 0: there are none */
    const float *state; /* [states] */
    uint32_t overrun;   /* 1: the last period's work took longer than a period */
} ec_observation;

/* What the policy is asked. */
typedef struct {
    uint64_t sequence;      /* from 1 */
    int64_t tick, handover; /* periods, counted from 0: of its observation, of its first action */
    int64_t observed_ns, asked_ns;
    uint32_t delay;
    const float *state;  /* [states], in the policy's units; rolled forward in mode vlash */
    const float *prefix; /* [delay][axes], the committed actions in the policy's units */
} ec_request;

typedef struct {
    uint64_t asked, taken, late, dropped, refused, held, extra, clipped, split, stops,
        bad_observations, beyond, overruns, ticks;
} ec_counts;

typedef struct {
    ec_source source;
    uint64_t sequence; /* of the chunk; 0: none */
    uint32_t index;    /* of its action */
    uint32_t handover; /* 1: a chunk was taken up in this period */
    uint32_t clipped;  /* axes whose action was limited */
    ec_stop stop;
} ec_tick_result;

typedef struct ec_loop ec_loop;

/* Whether the loop may run with `config`. */
ec_control_status ec_control_check(const ec_control_config *config);

/* The most periods of delay that the chunks and the training allow. */
uint32_t ec_control_delay_limit(const ec_control_config *config);

/* Bytes of a loop, a multiple of 64. `config` has been checked. */
size_t ec_loop_bytes(const ec_control_config *config);

/* A loop in `memory`, aligned to 64 bytes. `config` and what it points to stay. */
ec_control_status ec_loop_init(const ec_control_config *config, void *memory, size_t bytes,
                               ec_loop **loop);

/* A period begins. The request, where the policy is to be asked now (its arrays stay until the next
 * one); else NULL. */
const ec_request *ec_loop_begin(ec_loop *loop, const ec_observation *observation);

/* The policy's chunk [horizon][axes] for a request, published at `published_ns`. BAD_CHUNK: it is
 * left, and counts as missing. */
ec_control_status ec_loop_deliver(ec_loop *loop, uint64_t sequence, const float *actions,
                                  int64_t published_ns);

/* The action [axes] of this period; nothing is written where `source` is EC_FROM_NOTHING. */
ec_tick_result ec_loop_end(ec_loop *loop, float *action);

/* Come to rest in stop_periods and stay. */
void ec_loop_stop(ec_loop *loop, ec_stop why);

/* Leave the rest: everything is as at the start but counts and histograms. */
void ec_loop_reset(ec_loop *loop);

ec_stop ec_loop_stopped(const ec_loop *loop);
uint32_t ec_loop_delay(const ec_loop *loop);
const ec_counts *ec_loop_counts(const ec_loop *loop);

typedef enum {
    EC_SEAM_JUMP,
    EC_ROLL_ERROR,
    EC_LATENCY,
    EC_AGE,
    EC_LOOP_HISTOGRAMS
} ec_loop_histogram;

/* seam jump and roll error in millionths of the user's units, latency (observation to chunk) and
 * age of the observation at the hand-over in ns. */
const ec_histogram *ec_loop_statistics(const ec_loop *loop, ec_loop_histogram which);

#ifdef __cplusplus
}
#endif

#endif
