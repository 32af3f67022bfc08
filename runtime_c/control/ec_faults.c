#include "ec_faults.h"

#include <math.h>
#include <string.h>

/* A chunk under way. */
typedef struct {
    float *actions;
    uint64_t sequence;
    int64_t published_ns;
    int64_t due; /* period */
    bool used;
    bool overtaken; /* waits until another chunk was delivered */
} parcel;

/* An observation that was made. */
typedef struct {
    float *state;
    int64_t observed_ns;
    uint64_t frame;
} view;

struct ec_faults {
    const ec_control_config *config;
    const ec_fault_script *script;
    uint64_t seed;
    int64_t tick;
    int64_t set_ns; /* the clock by what it was set */
    uint32_t planned;
    int64_t until[EC_FAULTS];
    uint32_t length[EC_FAULTS];
    uint32_t index; /* into the state, of the fault at hand */
    float off;
    parcel queue[EC_FAULT_QUEUE];
    view history[EC_FAULT_HISTORY];
    view shown; /* to the loop, the last time */
    uint64_t views;
    float *shift, *state, *out;
    uint64_t count[EC_FAULTS];
};

uint64_t ec_random(uint64_t *seed) {
    uint64_t x = *seed += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* From 0 to 1. */
static double share(ec_faults *faults) {
    return (double)(ec_random(&faults->seed) >> 11) * 0x1p-53;
}

static uint32_t below(ec_faults *faults, uint32_t most) {
    return (uint32_t)(ec_random(&faults->seed) % most);
}

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

static size_t chunk_bytes(const ec_control_config *config) {
    return padded((size_t)config->horizon * config->axes * sizeof(float));
}

static size_t state_bytes(const ec_control_config *config) {
    return padded(config->states * sizeof(float));
}

size_t ec_faults_bytes(const ec_control_config *config) {
    return padded(sizeof(ec_faults)) + (EC_FAULT_QUEUE + 1u) * chunk_bytes(config) +
           (EC_FAULT_HISTORY + 4u) * state_bytes(config);
}

ec_control_status ec_faults_init(const ec_control_config *config, const ec_fault_script *script,
                                 void *memory, size_t bytes, ec_faults **faults) {
    if (memory == NULL || ((uintptr_t)memory & 63u) != 0u || bytes < ec_faults_bytes(config)) {
        return EC_CONTROL_BAD_MEMORY;
    }
    for (uint32_t i = 0; i < EC_FAULTS; i++) {
        const ec_fault_rate *rate = &script->rate[i];
        if (!(rate->rate >= 0.0 && rate->rate <= 1.0) || rate->least > rate->most) {
            return EC_CONTROL_BAD_OPTION;
        }
    }
    memset(memory, 0, ec_faults_bytes(config));
    ec_faults *made = (ec_faults *)memory;
    uint8_t *at = (uint8_t *)memory + padded(sizeof *made);
    made->config = config;
    made->script = script;
    made->seed = script->seed;
    made->tick = -1;
    for (uint32_t i = 0; i < EC_FAULT_QUEUE; i++, at += chunk_bytes(config)) {
        made->queue[i].actions = (float *)(void *)at;
    }
    made->out = (float *)(void *)at;
    at += chunk_bytes(config);
    for (uint32_t i = 0; i < EC_FAULT_HISTORY; i++, at += state_bytes(config)) {
        made->history[i].state = (float *)(void *)at;
    }
    made->shown.state = (float *)(void *)at;
    made->shift = (float *)(void *)(at + state_bytes(config));
    made->state = (float *)(void *)(at + 2u * state_bytes(config));
    *faults = made;
    return EC_CONTROL_OK;
}

static bool lasts(const ec_faults *faults, ec_fault fault) {
    return faults->tick < faults->until[fault];
}

static bool is_of_chunk(ec_fault fault) {
    return fault < EC_FAULT_DEAD;
}

static void begin(ec_faults *faults, ec_fault fault, uint32_t periods) {
    bool once = fault >= EC_FAULT_JUMP || is_of_chunk(fault);
    faults->length[fault] = periods;
    faults->until[fault] = faults->tick + (once || periods == 0u ? 1 : (int64_t)periods);
    faults->count[fault] += is_of_chunk(fault) ? 0u : 1u;
}

/* Whether a fault that does not last begins by chance. */
static bool happens(ec_faults *faults, ec_fault fault) {
    const ec_fault_rate *rate = &faults->script->rate[fault];
    if (rate->rate <= 0.0 || share(faults) >= rate->rate) {
        return false;
    }
    begin(faults, fault, rate->least + below(faults, rate->most - rate->least + 1u));
    return true;
}

/* Faults that begin in this period. Plans come first, then chance. */
static void begin_all(ec_faults *faults) {
    const ec_fault_script *script = faults->script;
    for (; faults->planned < script->plans && script->plan[faults->planned].tick <= faults->tick;
         faults->planned++) {
        const ec_fault_plan *plan = &script->plan[faults->planned];
        begin(faults, plan->fault, plan->periods);
    }
    for (uint32_t i = EC_FAULT_DEAD; i < EC_FAULTS; i++) {
        if (!lasts(faults, (ec_fault)i)) {
            happens(faults, (ec_fault)i);
        }
    }
}

/* What is off in the state, from this period on. */
static void draw(ec_faults *faults) {
    uint32_t states = faults->config->states;
    faults->index = states > 0u ? below(faults, states) : 0u;
    faults->off = faults->script->size * (float)(2.0 * share(faults) - 1.0);
    int64_t periods = (int64_t)faults->length[EC_FAULT_FORWARD];
    if (lasts(faults, EC_FAULT_FORWARD)) {
        faults->set_ns += periods * faults->config->period_ns;
    }
    if (lasts(faults, EC_FAULT_BACKWARD)) {
        periods = (int64_t)faults->length[EC_FAULT_BACKWARD];
        faults->set_ns -= periods * faults->config->period_ns;
    }
    if (lasts(faults, EC_FAULT_JUMP) && states > 0u) {
        faults->shift[faults->index] = faults->off;
    }
}

static void copy_view(const ec_faults *faults, view *to, const view *from) {
    memcpy(to->state, from->state, faults->config->states * sizeof(float));
    to->observed_ns = from->observed_ns;
    to->frame = from->frame;
}

/* The true observation, by the clock as it is set. */
static view *keep(ec_faults *faults, const ec_observation *observation) {
    view *now = &faults->history[faults->views++ % EC_FAULT_HISTORY];
    for (uint32_t i = 0; i < faults->config->states; i++) {
        now->state[i] = observation->state[i] + faults->shift[i];
    }
    now->observed_ns = observation->observed_ns + faults->set_ns;
    now->frame = observation->frame;
    return now;
}

ec_observation ec_faults_observe(ec_faults *faults, const ec_observation *observation) {
    ec_observation seen = *observation;
    faults->tick++;
    begin_all(faults);
    draw(faults);
    bool first = faults->views == 0u;
    const view *now = keep(faults, observation);
    if (lasts(faults, EC_FAULT_STALE)) {
        uint64_t age = 1u + faults->length[EC_FAULT_STALE] * 7u % 16u;
        age = age < faults->views ? age : faults->views - 1u;
        now = &faults->history[(faults->views - 1u - age) % EC_FAULT_HISTORY];
    }
    if (!first && lasts(faults, EC_FAULT_FROZEN)) {
        faults->shown.observed_ns = now->observed_ns;
    } else if (first || !lasts(faults, EC_FAULT_DROPPED)) {
        copy_view(faults, &faults->shown, now);
    }
    memcpy(faults->state, faults->shown.state, faults->config->states * sizeof(float));
    if (faults->config->states > 0u && lasts(faults, EC_FAULT_SPIKE)) {
        faults->state[faults->index] += faults->off;
    }
    if (faults->config->states > 0u && lasts(faults, EC_FAULT_STATE_NAN)) {
        faults->state[faults->index] = NAN;
    }
    seen.now_ns += faults->set_ns;
    seen.observed_ns = faults->shown.observed_ns;
    seen.frame = faults->shown.frame;
    seen.state = faults->state;
    seen.overrun = lasts(faults, EC_FAULT_OVERRUN) ? 1u : seen.overrun;
    return seen;
}

/* Whether the fault befalls the chunk at hand. */
static bool befalls(ec_faults *faults, ec_fault fault) {
    if (!lasts(faults, fault) && !happens(faults, fault)) {
        return false;
    }
    faults->count[fault]++;
    return true;
}

static void enqueue(ec_faults *faults, uint64_t sequence, const float *actions,
                    int64_t published_ns, int64_t due, bool overtaken) {
    for (uint32_t i = 0; i < EC_FAULT_QUEUE; i++) {
        parcel *one = &faults->queue[i];
        if (!one->used) {
            size_t count = (size_t)faults->config->horizon * faults->config->axes;
            memcpy(one->actions, actions, count * sizeof(float));
            one->sequence = sequence;
            one->published_ns = published_ns;
            one->due = due;
            one->used = true;
            one->overtaken = overtaken;
            return;
        }
    }
}

/* Spoil a number of the chunk in `out`. */
static void spoil(ec_faults *faults) {
    const ec_control_config *config = faults->config;
    uint32_t at = below(faults, config->horizon * config->axes);
    const ec_axis *axis = &config->axis[at % config->axes];
    float sign = below(faults, 2u) != 0u ? 1.0f : -1.0f;
    if (befalls(faults, EC_FAULT_RANGE)) {
        float most = axis->action_max - axis->action_min;
        float action = axis->action_max + sign * faults->script->size * (most > 0.0f ? most : 1.0f);
        faults->out[at] = (action - axis->action_offset) / axis->action_scale;
    }
    if (befalls(faults, EC_FAULT_INFINITE)) {
        faults->out[at] = sign * INFINITY;
    }
    if (befalls(faults, EC_FAULT_NAN)) {
        faults->out[at] = NAN;
    }
}

void ec_faults_publish(ec_faults *faults, uint64_t sequence, const float *actions,
                       int64_t published_ns) {
    const ec_control_config *config = faults->config;
    memcpy(faults->out, actions, (size_t)config->horizon * config->axes * sizeof(float));
    spoil(faults);
    int64_t due = faults->tick;
    published_ns += faults->set_ns;
    if (befalls(faults, EC_FAULT_LATE)) {
        due += (int64_t)faults->length[EC_FAULT_LATE];
        published_ns += (int64_t)faults->length[EC_FAULT_LATE] * config->period_ns;
    }
    bool lost = befalls(faults, EC_FAULT_LOST);
    if (lost || lasts(faults, EC_FAULT_DEAD)) {
        return;
    }
    bool overtaken = befalls(faults, EC_FAULT_REORDER);
    enqueue(faults, sequence, faults->out, published_ns, due, overtaken);
    if (befalls(faults, EC_FAULT_DUPLICATE)) {
        due += (int64_t)faults->length[EC_FAULT_DUPLICATE];
        enqueue(faults, sequence, faults->out, published_ns, due, false);
    }
}

bool ec_faults_next(ec_faults *faults, ec_delivery *delivery) {
    for (uint32_t i = 0; i < EC_FAULT_QUEUE; i++) {
        parcel *one = &faults->queue[i];
        if (one->used && !one->overtaken && one->due <= faults->tick) {
            size_t count = (size_t)faults->config->horizon * faults->config->axes;
            memcpy(faults->out, one->actions, count * sizeof(float));
            *delivery = (ec_delivery){one->sequence, faults->out, one->published_ns};
            one->used = false;
            for (uint32_t k = 0; k < EC_FAULT_QUEUE; k++) {
                faults->queue[k].overtaken = false; /* what waited for this one follows */
            }
            return true;
        }
    }
    return false;
}

const uint64_t *ec_faults_counts(const ec_faults *faults) {
    return faults->count;
}
