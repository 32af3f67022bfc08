#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "ec_loop_own.h"

static uint32_t chunks_of(const ec_control_config *config) {
    return config->mode == EC_ENSEMBLE ? EC_CONTROL_MAX_CHUNKS : 2u;
}

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

/* The next `count` floats of the loop's memory; with no memory only their bytes are counted. */
static float *take(uint8_t *memory, size_t *used, size_t count) {
    float *found = memory == NULL ? NULL : (float *)(void *)(memory + *used);
    *used += padded(count * sizeof(float));
    return found;
}

static size_t lay_out(const ec_control_config *config, uint8_t *memory, ec_loop *loop) {
    size_t axes = config->axes, states = config->states, chunk = axes * config->horizon;
    size_t used = padded(sizeof *loop);
    uint32_t chunks = chunks_of(config);
    loop->chunk = memory == NULL ? NULL : (ec_chunk *)(void *)(memory + used);
    used += padded(chunks * sizeof(ec_chunk));
    ec_command *commands[2] = {&loop->command, &loop->ahead};
    for (uint32_t i = 0; i < 2u; i++) {
        commands[i]->last = take(memory, &used, axes);
        commands[i]->motion = take(memory, &used, axes);
        commands[i]->change = take(memory, &used, axes);
    }
    loop->state = take(memory, &used, states);
    loop->measured = take(memory, &used, states);
    loop->rolled = take(memory, &used, states);
    loop->expected = take(memory, &used, states);
    loop->history = take(memory, &used, (size_t)EC_CONTROL_HISTORY * axes);
    loop->asked_state = take(memory, &used, states);
    loop->prefix = take(memory, &used, chunk);
    loop->incoming = take(memory, &used, chunk);
    loop->wanted = take(memory, &used, axes);
    loop->sent = take(memory, &used, axes);
    loop->stop_from = take(memory, &used, axes);
    for (uint32_t i = 0; i < chunks; i++) {
        float *action = take(memory, &used, chunk);
        if (memory != NULL) {
            loop->chunk[i].action = action;
        }
    }
    return used;
}

size_t ec_loop_bytes(const ec_control_config *config) {
    ec_loop loop;
    return lay_out(config, NULL, &loop);
}

static void restart(ec_loop *loop) {
    ec_command_clear(loop->config, &loop->command);
    ec_delay_init(&loop->delay, &loop->config->estimate);
    loop->held_chunks = 0;
    loop->pending = false;
    loop->ready = false;
    loop->expects = false;
    loop->seen = false;
    loop->frozen = 0;
    loop->overruns = 0;
    loop->starved = 0;
    loop->blind = 0;
    loop->unusable = 0;
    loop->held = false;
    loop->first = loop->tick;
    loop->stop = EC_STOP_NONE;
    loop->stopping = 0;
}

ec_control_status ec_loop_init(const ec_control_config *config, void *memory, size_t bytes,
                               ec_loop **loop) {
    ec_control_status status = ec_control_check(config);
    if (status != EC_CONTROL_OK) {
        return status;
    }
    if (memory == NULL || ((uintptr_t)memory & 63u) != 0u || bytes < ec_loop_bytes(config)) {
        return EC_CONTROL_BAD_MEMORY;
    }
    memset(memory, 0, ec_loop_bytes(config));
    *loop = (ec_loop *)memory;
    lay_out(config, (uint8_t *)memory, *loop);
    (*loop)->config = config;
    (*loop)->chunks = chunks_of(config);
    restart(*loop);
    return EC_CONTROL_OK;
}

void ec_loop_reset(ec_loop *loop) {
    restart(loop);
}

static bool is_aligned(ec_mode mode) {
    return mode == EC_ALIGNED || mode == EC_ENSEMBLE || mode == EC_RTC_PREFIX;
}

/* The committed actions of the next `delay` periods go to `prefix`, in the policy's units, and
 * bring `rolled` to the state after them. */
static void look_ahead(ec_loop *loop, uint32_t delay) {
    const ec_control_config *config = loop->config;
    memcpy(loop->rolled, loop->state, config->states * sizeof(float));
    ec_command_copy(config, &loop->ahead, &loop->command);
    for (uint32_t step = 0; step < delay; step++) {
        bool acts = ec_loop_action(loop, loop->tick + step, loop->wanted) != EC_FROM_HOLD;
        ec_command_send(config, &loop->ahead, loop->rolled, acts ? loop->wanted : NULL, loop->sent);
        for (uint32_t i = 0; i < config->axes; i++) {
            const ec_axis *axis = &config->axis[i];
            loop->prefix[step * config->axes + i] =
                (loop->sent[i] - axis->action_offset) / axis->action_scale;
        }
        ec_roll(config, loop->rolled, loop->sent);
    }
}

static void normalise(const ec_control_config *config, const float *state, float *to) {
    for (uint32_t i = 0; i < config->states; i++) {
        float offset = config->state_offset != NULL ? config->state_offset[i] : 0.0f;
        float scale = config->state_scale != NULL ? config->state_scale[i] : 1.0f;
        to[i] = config->state_offset == NULL && config->state_scale == NULL
                    ? state[i]
                    : (state[i] - offset) / scale;
    }
}

/* The delay of the next request. */
static uint32_t next_delay(const ec_loop *loop) {
    const ec_control_config *config = loop->config;
    if (config->delay >= 0) {
        return (uint32_t)config->delay;
    }
    uint32_t delay = loop->delay.delay > config->delay_min ? loop->delay.delay : config->delay_min;
    uint32_t limit = ec_control_delay_limit(config);
    uint32_t most = config->beyond == EC_BEYOND_LENGTHEN ? config->execute : limit;
    return delay < most ? delay : most;
}

/* Count, and stop where that is asked for, what is beyond the training. */
static void judge_delay(ec_loop *loop) {
    const ec_control_config *config = loop->config;
    if (config->delay < 0 && loop->delay.delay > ec_control_delay_limit(config)) {
        loop->counts.beyond++;
        if (config->beyond == EC_BEYOND_STOP) {
            ec_loop_stop(loop, EC_STOP_BEYOND);
        }
    }
}

static const ec_request *ask(ec_loop *loop) {
    const ec_control_config *config = loop->config;
    uint32_t delay = loop->asked_delay;
    uint32_t ahead = config->mode == EC_SYNC ? 0u : delay;
    look_ahead(loop, ahead);
    loop->expects = config->mode == EC_VLASH;
    memcpy(loop->expected, loop->rolled, config->states * sizeof(float));
    normalise(config, loop->expects && delay > 0u ? loop->rolled : loop->measured,
              loop->asked_state);
    loop->pending = true;
    loop->ready = false;
    loop->counts.asked++;
    loop->request = (ec_request){
        .sequence = ++loop->sequence,
        .tick = loop->tick,
        .handover = loop->tick + ahead,
        .observed_ns = loop->observed_ns,
        .asked_ns = loop->now_ns,
        .delay = delay,
        .state = loop->asked_state,
        .prefix = loop->prefix,
    };
    return &loop->request;
}

/* From one time to another, without overflow. */
static int64_t elapsed(int64_t from, int64_t to) {
    if (from < 0 && to > INT64_MAX + from) {
        return INT64_MAX;
    }
    if (from > 0 && to < INT64_MIN + from) {
        return INT64_MIN;
    }
    return to - from;
}

/* How long so many periods take. */
static int64_t lasting(const ec_loop *loop, int64_t periods) {
    int64_t period = loop->config->period_ns;
    return periods > INT64_MAX / period ? INT64_MAX : periods * period;
}

static float distance(const float *a, const float *b, uint32_t count) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < count; i++) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return sqrtf(sum);
}

static int64_t millionths(float x) {
    return x < 9e12f ? (int64_t)(x * 1e6f) : INT64_MAX;
}

/* From where the robot was to be to where it is; `expected` is lost. */
static float roll_error(ec_loop *loop) {
    const ec_control_config *config = loop->config;
    for (uint32_t i = 0; i < config->axes; i++) {
        const ec_axis *axis = &config->axis[i];
        if (axis->wraps != 0 && axis->position >= 0) {
            float place = loop->state[axis->position];
            loop->expected[axis->position] =
                place + ec_axis_way(axis, place, loop->expected[axis->position]);
        }
    }
    return distance(loop->expected, loop->state, config->states);
}

static void count_handover(ec_loop *loop, const ec_chunk *chunk, uint32_t late) {
    const ec_control_config *config = loop->config;
    if (loop->command.started) {
        const float *first = chunk->action + (size_t)chunk->start * config->axes;
        for (uint32_t i = 0; i < config->axes; i++) {
            loop->wanted[i] = loop->command.last[i] +
                              ec_command_way(&config->axis[i], loop->command.last[i], first[i]);
        }
        float jump = distance(loop->wanted, loop->command.last, config->axes);
        ec_histogram_add(&loop->histogram[EC_SEAM_JUMP], millionths(jump));
    }
    if (loop->expects && loop->fresh && late == 0u) {
        ec_histogram_add(&loop->histogram[EC_ROLL_ERROR], millionths(roll_error(loop)));
    }
    ec_histogram_add(&loop->histogram[EC_AGE], elapsed(loop->request.observed_ns, loop->now_ns));
    loop->counts.taken++;
    loop->took = 1;
    loop->unusable = 0;
}

/* Take up the answer that is here, if this is its period. */
static void take_up(ec_loop *loop) {
    const ec_control_config *config = loop->config;
    if (!loop->ready || (config->mode != EC_SYNC && loop->tick < loop->request.handover)) {
        return;
    }
    uint32_t late = config->mode == EC_SYNC ? 0u : (uint32_t)(loop->tick - loop->request.handover);
    loop->pending = false;
    loop->ready = false;
    bool plays = late == 0u || (config->late == EC_LATE_PLAY && late <= config->late_tolerance);
    uint32_t next = (loop->newest + 1u) % loop->chunks;
    ec_chunk *chunk = &loop->chunk[next];
    if (plays) {
        loop->counts.split += ec_chunk_read(config, loop->incoming, loop->command.last, chunk);
        chunk->sequence = loop->request.sequence;
        chunk->taken = loop->tick;
        chunk->joins = !loop->held;
        chunk->start = is_aligned(config->mode) ? loop->request.delay + late : 0u;
        chunk->execute += is_aligned(config->mode) ? loop->request.delay : 0u;
        chunk->execute = chunk->execute < chunk->count ? chunk->execute : chunk->count;
    }
    if (!plays || chunk->start >= chunk->execute) {
        loop->counts.dropped++;
        loop->unusable++;
        loop->held_chunks =
            loop->held_chunks < loop->chunks ? loop->held_chunks : loop->chunks - 1u;
        return;
    }
    loop->newest = next;
    loop->held_chunks += loop->held_chunks < loop->chunks ? 1u : 0u;
    count_handover(loop, chunk, late);
}

/* The clock was set back: so are the times that are remembered. */
static void set_back(ec_loop *loop, int64_t by) {
    loop->observed_ns = elapsed(by, loop->observed_ns);
    loop->request.observed_ns = elapsed(by, loop->request.observed_ns);
    loop->request.asked_ns = elapsed(by, loop->request.asked_ns);
}

/* Bring the state over the last `periods`, as far as the actions sent are remembered. */
static void catch_up(ec_loop *loop, int64_t periods) {
    const ec_control_config *config = loop->config;
    int64_t known = loop->tick - loop->first;
    known = known < EC_CONTROL_HISTORY ? known : EC_CONTROL_HISTORY;
    for (int64_t back = periods < known ? periods : known; back > 0; back--) {
        size_t at = (size_t)((loop->tick - back) % EC_CONTROL_HISTORY);
        ec_roll(config, loop->state, loop->history + at * config->axes);
    }
}

/* Whether the observation may be used. What it says of itself is remembered. */
static bool check_observation(ec_loop *loop, const ec_observation *observation) {
    const ec_control_config *config = loop->config;
    int64_t age = elapsed(observation->observed_ns, loop->now_ns);
    bool good = !loop->seen || observation->observed_ns >= loop->observed_ns;
    good =
        good && age >= -config->period_ns && (config->age_max_ns == 0 || age <= config->age_max_ns);
    for (uint32_t i = 0; i < config->states; i++) {
        good = good && isfinite(observation->state[i]);
    }
    good = good && (loop->seen || ec_command_reaches(config, observation->state));
    bool frozen = observation->frame != 0u && loop->seen && observation->frame == loop->frame;
    loop->frozen = frozen ? loop->frozen + 1u : 0u;
    loop->blind = good ? 0u : loop->blind + 1u;
    if (!good) {
        loop->counts.bad_observations++;
        catch_up(loop, 1);
        return false;
    }
    memcpy(loop->state, observation->state, config->states * sizeof(float));
    memcpy(loop->measured, observation->state, config->states * sizeof(float));
    catch_up(loop, age / config->period_ns + (age % config->period_ns > config->period_ns / 2));
    ec_command_start(config, &loop->command, loop->state);
    loop->frame = observation->frame;
    loop->observed_ns = observation->observed_ns;
    loop->seen = true;
    return true;
}

/* Stop where no good observation has come for too long, by the clock or by the periods. */
static void watch_observation(ec_loop *loop, const ec_observation *observation) {
    const ec_control_config *config = loop->config;
    loop->overruns = observation->overrun != 0u ? loop->overruns + 1u : 0u;
    if (config->overrun_max > 0u && loop->overruns >= config->overrun_max) {
        ec_loop_stop(loop, EC_STOP_OVERRUN);
    }
    if (config->frozen_max > 0u && loop->frozen >= config->frozen_max) {
        ec_loop_stop(loop, EC_STOP_FROZEN);
    }
    if (config->age_max_ns > 0 && loop->seen &&
        (elapsed(loop->observed_ns, loop->now_ns) > config->age_max_ns ||
         lasting(loop, loop->blind) > config->age_max_ns)) {
        ec_loop_stop(loop, EC_STOP_OBSERVATION);
    }
}

/* Stop where the policy does not answer, or not well. */
static void watch_policy(ec_loop *loop) {
    const ec_control_config *config = loop->config;
    uint32_t cold = config->delay < 0 ? config->estimate.warm_up + 1u : 0u;
    if (loop->starved >= config->stop_after) {
        ec_loop_stop(loop, EC_STOP_LATE);
    }
    if (loop->unusable >= config->stop_after + cold) {
        ec_loop_stop(loop, EC_STOP_CHUNK);
    }
    if (config->stall_ns > 0 && loop->pending && !loop->ready &&
        (elapsed(loop->request.asked_ns, loop->now_ns) > config->stall_ns ||
         lasting(loop, loop->tick - loop->request.tick) > config->stall_ns)) {
        ec_loop_stop(loop, EC_STOP_STALL);
    }
}

const ec_request *ec_loop_begin(ec_loop *loop, const ec_observation *observation) {
    if (loop->counts.ticks > 0u && observation->now_ns < loop->now_ns) {
        int64_t lost = elapsed(observation->now_ns, loop->now_ns);
        set_back(loop, lost < INT64_MAX - loop->config->period_ns ? lost + loop->config->period_ns
                                                                  : lost);
    }
    loop->now_ns = observation->now_ns;
    loop->took = 0;
    loop->counts.ticks++;
    loop->counts.overruns += observation->overrun != 0u ? 1u : 0u;
    loop->fresh = check_observation(loop, observation);
    if (loop->stop == EC_STOP_NONE) {
        take_up(loop);
        watch_observation(loop, observation);
        watch_policy(loop);
    }
    loop->asked_delay = next_delay(loop);
    int64_t due = loop->config->mode == EC_SYNC ? 0 : (int64_t)loop->asked_delay;
    if (loop->stop != EC_STOP_NONE || loop->pending || !loop->fresh ||
        ec_loop_remaining(loop) > due) {
        return NULL;
    }
    judge_delay(loop);
    return loop->stop == EC_STOP_NONE ? ask(loop) : NULL;
}

ec_control_status ec_loop_deliver(ec_loop *loop, uint64_t sequence, const float *actions,
                                  int64_t published_ns) {
    const ec_control_config *config = loop->config;
    if (!loop->pending || loop->ready || sequence != loop->request.sequence) {
        loop->counts.refused++;
        return EC_CONTROL_BAD_CHUNK;
    }
    int64_t latency = elapsed(loop->request.observed_ns, published_ns);
    ec_histogram_add(&loop->histogram[EC_LATENCY], latency);
    /* No more than the periods that have passed: the clock may have jumped. */
    int64_t age = elapsed(loop->request.observed_ns, loop->request.asked_ns);
    int64_t most = elapsed(-age, lasting(loop, loop->tick - loop->request.tick + 1));
    ec_delay_add(&loop->delay, &config->estimate, latency < most ? latency : most,
                 config->period_ns);
    ec_control_status status = ec_chunk_check(config, actions);
    if (status != EC_CONTROL_OK) {
        loop->counts.refused++;
        loop->unusable++;
        loop->pending = false; /* ask again */
        return status;
    }
    memcpy(loop->incoming, actions, (size_t)config->horizon * config->axes * sizeof(float));
    loop->ready = true;
    return EC_CONTROL_OK;
}

/* The action of a period in which the loop comes to rest, or rests. */
static ec_source stopped_action(ec_loop *loop, float *action) {
    const ec_control_config *config = loop->config;
    if (loop->stopping >= config->stop_periods) {
        ec_command_send(config, &loop->command, loop->state, NULL, action);
        return EC_FROM_REST;
    }
    ec_command_stop(config, &loop->command, loop->state, loop->stop_from, loop->stopping,
                    config->stop_periods, action);
    loop->stopping++;
    return EC_FROM_STOP;
}

ec_tick_result ec_loop_end(ec_loop *loop, float *action) {
    const ec_control_config *config = loop->config;
    ec_tick_result result = {EC_FROM_HOLD, 0, 0, 0, 0, EC_STOP_NONE};
    if (loop->stop == EC_STOP_NONE) {
        take_up(loop); /* an answer in the same period */
    }
    if (!loop->seen) {
        result.source = EC_FROM_NOTHING;
    } else if (loop->stop != EC_STOP_NONE) {
        result.source = stopped_action(loop, action);
    } else {
        const ec_chunk *chunk = ec_loop_newest(loop);
        result.source = ec_loop_action(loop, loop->tick, loop->wanted);
        bool acts = result.source != EC_FROM_HOLD;
        if (acts) {
            result.sequence = chunk->sequence;
            result.index = (uint32_t)ec_loop_index(chunk, loop->tick);
        }
        result.clipped = ec_command_send(config, &loop->command, loop->state,
                                         acts ? loop->wanted : NULL, action);
        loop->counts.clipped += result.clipped;
        loop->counts.held += acts ? 0u : 1u;
        loop->counts.extra += result.source == EC_FROM_EXTRA ? 1u : 0u;
        loop->held = !acts;
        bool waits = chunk == NULL || config->mode == EC_SYNC || result.source == EC_FROM_CHUNK;
        loop->starved = waits ? 0u : loop->starved + 1u;
    }
    if (result.source != EC_FROM_NOTHING) {
        size_t at = (size_t)(loop->tick % EC_CONTROL_HISTORY);
        memcpy(loop->history + at * config->axes, action, config->axes * sizeof(float));
    } else {
        loop->first = loop->tick + 1;
    }
    bool missing = loop->pending && !loop->ready && config->mode != EC_SYNC;
    loop->counts.late += missing && loop->tick == loop->request.handover ? 1u : 0u;
    result.handover = loop->took;
    result.stop = loop->stop;
    loop->tick++;
    return result;
}

void ec_loop_stop(ec_loop *loop, ec_stop why) {
    if (loop->stop != EC_STOP_NONE) {
        return;
    }
    loop->stop = why > EC_STOP_NONE && why < EC_STOPS ? why : EC_STOP_ASKED;
    loop->stopping = 0;
    loop->pending = false;
    loop->ready = false;
    loop->counts.stops++;
    memcpy(loop->stop_from, loop->command.motion, loop->config->axes * sizeof(float));
}

ec_stop ec_loop_stopped(const ec_loop *loop) {
    return loop->stop;
}

uint32_t ec_loop_delay(const ec_loop *loop) {
    return next_delay(loop);
}

const ec_counts *ec_loop_counts(const ec_loop *loop) {
    return &loop->counts;
}

const ec_histogram *ec_loop_statistics(const ec_loop *loop, ec_loop_histogram which) {
    return &loop->histogram[which];
}
