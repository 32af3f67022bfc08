#include "ec_record.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#define SETTINGS_WORDS                                                                             \
    (34u + 22u * (size_t)EC_CONTROL_MAX_AXES + 2u * (size_t)EC_CONTROL_MAX_STATES)

struct ec_recorder {
    const ec_control_config *config;
    uint8_t *ring;
    uint64_t size;    /* of the ring, a power of two */
    uint8_t *staged;  /* a record in the making */
    size_t used;      /* of it */
    uint64_t number;  /* of the next record */
    int64_t tick;     /* the loop's period */
    uint64_t asked;   /* the last question */
    ec_counts before; /* at the end of the last period */
    bool was_stopped; /* at the end of the last period */
    uint32_t crc[256];
    _Alignas(64) _Atomic uint64_t head; /* bytes written, by the producer */
    _Atomic uint64_t dropped;
    _Alignas(64) _Atomic uint64_t tail; /* bytes drained */
};

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

static void put_bytes(ec_recorder *recorder, const void *bytes, size_t count) {
    memcpy(recorder->staged + recorder->used, bytes, count);
    recorder->used += count;
}

static void store32(uint8_t *to, uint32_t x) {
    for (uint32_t i = 0; i < 4u; i++) {
        to[i] = (uint8_t)(x >> (8u * i));
    }
}

static uint32_t load32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static void put32(ec_recorder *recorder, uint32_t x) {
    store32(recorder->staged + recorder->used, x);
    recorder->used += 4u;
}

static void put64(ec_recorder *recorder, uint64_t x) {
    put32(recorder, (uint32_t)x);
    put32(recorder, (uint32_t)(x >> 32));
}

static void put_float(ec_recorder *recorder, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    put32(recorder, bits);
}

static void put_floats(ec_recorder *recorder, const float *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        put_float(recorder, x[i]);
    }
}

static void put_zeros(ec_recorder *recorder, size_t count) {
    memset(recorder->staged + recorder->used, 0, count);
    recorder->used += count;
}

static void make_table(uint32_t table[256]) {
    for (uint32_t i = 0; i < 256u; i++) {
        uint32_t x = i;
        for (uint32_t bit = 0; bit < 8u; bit++) {
            x = (x & 1u) != 0u ? 0xEDB88320u ^ (x >> 1) : x >> 1;
        }
        table[i] = x;
    }
}

static uint32_t crc_of(const uint32_t table[256], uint32_t crc, const uint8_t *bytes,
                       size_t count) {
    crc = ~crc;
    for (size_t i = 0; i < count; i++) {
        crc = table[(crc ^ bytes[i]) & 0xFFu] ^ (crc >> 8);
    }
    return ~crc;
}

/* Numbers of eight bytes, one after the other. */
typedef struct {
    uint64_t word[SETTINGS_WORDS];
    uint32_t count;
} words;

static void add(words *to, int64_t x) {
    to->word[to->count++] = (uint64_t)x;
}

static void add_real(words *to, double x) {
    memcpy(&to->word[to->count++], &x, sizeof x);
}

static void add_axis(words *to, const ec_axis *axis) {
    const float reals[] = {axis->gain,         axis->travel,       axis->brake,
                           axis->brake_max,    axis->alpha,        axis->rate,
                           axis->hold_action,  axis->action_min,   axis->action_max,
                           axis->position_min, axis->position_max, axis->motion_max,
                           axis->change_max,   axis->jerk_max};
    add(to, (int64_t)axis->kind);
    add(to, axis->position);
    add(to, axis->velocity);
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        add_real(to, (double)reals[i]);
    }
    add(to, axis->wraps);
    add_real(to, (double)axis->action_scale);
    add_real(to, (double)axis->action_offset);
}

static void add_estimate(words *to, const ec_delay_config *estimate) {
    add(to, estimate->window);
    add(to, estimate->warm_up);
    add(to, estimate->calm);
    add_real(to, estimate->share);
    add(to, estimate->guard_ns);
    add(to, estimate->first);
}

static void add_numbers(words *to, const ec_control_config *config) {
    add(to, (int64_t)config->mode);
    add(to, config->axes);
    add(to, config->states);
    add(to, config->horizon);
    add(to, config->execute);
    add(to, config->delay);
    add(to, config->delay_min);
    add(to, config->delay_trained);
    add(to, (int64_t)config->beyond);
    add(to, config->period_ns);
    add(to, config->quantum);
    add(to, config->continuous);
    add_real(to, (double)config->ensemble_ratio);
    add(to, config->blend);
    add(to, config->blend_quintic);
    add(to, config->extra);
    add(to, config->stop_after);
    add(to, config->stop_periods);
    add(to, (int64_t)config->late);
    add(to, config->late_tolerance);
    add(to, config->stall_ns);
    add(to, config->age_max_ns);
    add(to, config->frozen_max);
    add(to, config->overrun_max);
    add_real(to, (double)config->absurd);
}

static void settings_of(const ec_control_config *config, words *to) {
    to->count = 0;
    add_numbers(to, config);
    add_estimate(to, &config->estimate);
    add(to, config->model != NULL);
    add(to, config->state_scale != NULL);
    add(to, config->state_offset != NULL);
    for (uint32_t i = 0; i < config->axes; i++) {
        add_axis(to, &config->axis[i]);
    }
    for (uint32_t i = 0; config->state_scale != NULL && i < config->states; i++) {
        add_real(to, (double)config->state_scale[i]);
    }
    for (uint32_t i = 0; config->state_offset != NULL && i < config->states; i++) {
        add_real(to, (double)config->state_offset[i]);
    }
}

static uint64_t hash_of(const words *settings) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (uint32_t i = 0; i < settings->count; i++) {
        for (uint32_t byte = 0; byte < 8u; byte++) {
            hash = (hash ^ (settings->word[i] >> (8u * byte) & 0xFFu)) * 0x100000001B3u;
        }
    }
    return hash;
}

uint64_t ec_settings_hash(const ec_control_config *config) {
    words settings;
    settings_of(config, &settings);
    return hash_of(&settings);
}

/* Bytes of the longest record, and of a header. */
static size_t longest(const ec_control_config *config) {
    size_t chunk = (size_t)config->horizon * config->axes * sizeof(float);
    return padded(EC_RECORD_HEAD_BYTES + 40u + config->states * sizeof(float) + chunk);
}

static size_t header_bytes(void) {
    return padded(8u + 8u + 8u + EC_RECORD_HASH_BYTES + 16u + 8u * SETTINGS_WORDS + 8u);
}

size_t ec_recorder_least(const ec_control_config *config) {
    return header_bytes() + 8u * longest(config);
}

size_t ec_recorder_bytes(const ec_control_config *config, size_t ring_bytes) {
    if ((ring_bytes & (ring_bytes - 1u)) != 0u || ring_bytes < ec_recorder_least(config)) {
        return 0;
    }
    size_t staged = longest(config) > header_bytes() ? longest(config) : header_bytes();
    return padded(sizeof(ec_recorder)) + staged + ring_bytes;
}

/* Copy the staged bytes into the ring, where they find room. Bytes are a multiple of 8. */
static bool publish(ec_recorder *recorder) {
    uint64_t head = atomic_load_explicit(&recorder->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&recorder->tail, memory_order_acquire);
    if (recorder->size - (head - tail) < recorder->used) {
        return false;
    }
    size_t at = (size_t)(head & (recorder->size - 1u));
    size_t first = (size_t)recorder->size - at;
    first = first < recorder->used ? first : recorder->used;
    memcpy(recorder->ring + at, recorder->staged, first);
    memcpy(recorder->ring, recorder->staged + first, recorder->used - first);
    atomic_store_explicit(&recorder->head, head + recorder->used, memory_order_release);
    return true;
}

static void write_header(ec_recorder *recorder, const uint8_t *model) {
    const ec_control_config *config = recorder->config;
    words settings;
    settings_of(config, &settings);
    recorder->used = 0;
    put_bytes(recorder, EC_RECORD_MAGIC, 8u);
    put32(recorder, EC_RECORD_VERSION);
    put32(recorder, 80u + 8u * settings.count);
    put64(recorder, hash_of(&settings));
    put_bytes(recorder, model, EC_RECORD_HASH_BYTES);
    put32(recorder, config->axes);
    put32(recorder, config->states);
    put32(recorder, config->horizon);
    put32(recorder, settings.count);
    for (uint32_t i = 0; i < settings.count; i++) {
        put64(recorder, settings.word[i]);
    }
    put32(recorder, 0u);
    put32(recorder, crc_of(recorder->crc, 0u, recorder->staged, recorder->used));
    publish(recorder);
}

ec_control_status ec_recorder_init(const ec_control_config *config,
                                   const uint8_t model[EC_RECORD_HASH_BYTES], size_t ring_bytes,
                                   void *memory, size_t bytes, ec_recorder **recorder) {
    ec_control_status status = ec_control_check(config);
    if (status != EC_CONTROL_OK) {
        return status;
    }
    size_t needed = ec_recorder_bytes(config, ring_bytes);
    if (memory == NULL || ((uintptr_t)memory & 63u) != 0u || needed == 0u || bytes < needed) {
        return EC_CONTROL_BAD_MEMORY;
    }
    ec_recorder *made = (ec_recorder *)memory;
    memset(made, 0, sizeof *made);
    made->config = config;
    made->size = ring_bytes;
    made->ring = (uint8_t *)memory + padded(sizeof *made);
    made->staged = made->ring + ring_bytes;
    atomic_init(&made->head, 0u);
    atomic_init(&made->tail, 0u);
    atomic_init(&made->dropped, 0u);
    make_table(made->crc);
    write_header(made, model);
    *recorder = made;
    return EC_CONTROL_OK;
}

/* Begin a record; its CRC-32 is left to the thread that drains. */
static void start(ec_recorder *recorder, ec_record_type type, uint32_t flags) {
    recorder->used = 0;
    put64(recorder, 0u);
    put64(recorder, recorder->number++);
    put64(recorder, (uint64_t)recorder->tick);
    put32(recorder, (uint32_t)type);
    put32(recorder, flags);
}

static void finish(ec_recorder *recorder) {
    put_zeros(recorder, (8u - recorder->used % 8u) % 8u);
    store32(recorder->staged + 4u, (uint32_t)recorder->used);
    if (!publish(recorder)) {
        atomic_fetch_add_explicit(&recorder->dropped, 1u, memory_order_relaxed);
    }
}

static void write_observation(ec_recorder *recorder, const ec_observation *observation,
                              int64_t lateness_ns) {
    start(recorder, EC_RECORD_OBSERVATION, observation->overrun != 0u ? 1u : 0u);
    put64(recorder, (uint64_t)observation->now_ns);
    put64(recorder, (uint64_t)observation->observed_ns);
    put64(recorder, (uint64_t)lateness_ns);
    put64(recorder, observation->frame);
    put_floats(recorder, observation->state, recorder->config->states);
    finish(recorder);
}

static void write_question(ec_recorder *recorder, const ec_request *request) {
    const ec_control_config *config = recorder->config;
    size_t committed = (size_t)request->delay * config->axes;
    start(recorder, EC_RECORD_QUESTION, 0u);
    put64(recorder, request->sequence);
    put64(recorder, (uint64_t)request->handover);
    put64(recorder, (uint64_t)request->observed_ns);
    put64(recorder, (uint64_t)request->asked_ns);
    put32(recorder, request->delay);
    put32(recorder, 0u);
    put_floats(recorder, request->state, config->states);
    put_floats(recorder, request->prefix, committed);
    put_zeros(recorder, ((size_t)config->horizon * config->axes - committed) * sizeof(float));
    finish(recorder);
}

static void write_event(ec_recorder *recorder, ec_event kind, uint32_t value) {
    start(recorder, EC_RECORD_EVENT, 0u);
    put32(recorder, (uint32_t)kind);
    put32(recorder, value);
    put64(recorder, recorder->asked);
    finish(recorder);
}

/* What the counts tell of the period. */
static void write_events(ec_recorder *recorder, const ec_loop *loop) {
    const ec_counts *now = ec_loop_counts(loop), *before = &recorder->before;
    const struct {
        ec_event kind;
        uint64_t count;
    } counted[] = {
        {EC_EVENT_LATE, now->late - before->late},
        {EC_EVENT_DROPPED, now->dropped - before->dropped},
        {EC_EVENT_REFUSED, now->refused - before->refused},
        {EC_EVENT_BAD_OBSERVATION, now->bad_observations - before->bad_observations},
        {EC_EVENT_BEYOND, now->beyond - before->beyond},
        {EC_EVENT_SPLIT, now->split - before->split},
    };
    for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
        if (counted[i].count > 0u) {
            write_event(recorder, counted[i].kind, (uint32_t)counted[i].count);
        }
    }
    if (now->stops > before->stops) {
        write_event(recorder, EC_EVENT_STOP, (uint32_t)ec_loop_stopped(loop));
    }
    recorder->before = *now;
}

const ec_request *ec_recorded_begin(ec_recorder *recorder, ec_loop *loop,
                                    const ec_observation *observation, int64_t lateness_ns) {
    const ec_request *request = ec_loop_begin(loop, observation);
    if (recorder != NULL) {
        write_observation(recorder, observation, lateness_ns);
        if (request != NULL) {
            recorder->asked = request->sequence;
            write_question(recorder, request);
        }
    }
    return request;
}

ec_control_status ec_recorded_deliver(ec_recorder *recorder, ec_loop *loop, uint64_t sequence,
                                      const float *actions, int64_t published_ns) {
    ec_control_status status = ec_loop_deliver(loop, sequence, actions, published_ns);
    if (recorder != NULL) {
        const ec_control_config *config = recorder->config;
        start(recorder, EC_RECORD_CHUNK, status == EC_CONTROL_OK ? 1u : 0u);
        put64(recorder, sequence);
        put64(recorder, (uint64_t)published_ns);
        put32(recorder, (uint32_t)status);
        put32(recorder, 0u);
        put_floats(recorder, actions, (size_t)config->horizon * config->axes);
        finish(recorder);
    }
    return status;
}

ec_tick_result ec_recorded_end(ec_recorder *recorder, ec_loop *loop, float *action) {
    ec_tick_result result = ec_loop_end(loop, action);
    if (recorder != NULL) {
        start(recorder, EC_RECORD_ACTION, 0u);
        put64(recorder, result.sequence);
        put32(recorder, result.index);
        put32(recorder, (uint32_t)result.source);
        put32(recorder, result.handover);
        put32(recorder, result.clipped);
        put32(recorder, (uint32_t)result.stop);
        put32(recorder, 0u);
        if (result.source == EC_FROM_NOTHING) {
            put_zeros(recorder, recorder->config->axes * sizeof(float));
        } else {
            put_floats(recorder, action, recorder->config->axes);
        }
        finish(recorder);
        write_events(recorder, loop);
        recorder->tick++;
    }
    return result;
}

void ec_recorded_stop(ec_recorder *recorder, ec_loop *loop, ec_stop why) {
    if (recorder != NULL && ec_loop_stopped(loop) == EC_STOP_NONE) {
        write_event(recorder, EC_EVENT_ASKED_STOP, (uint32_t)why);
    }
    ec_loop_stop(loop, why);
}

void ec_recorded_reset(ec_recorder *recorder, ec_loop *loop) {
    if (recorder != NULL) {
        write_event(recorder, EC_EVENT_RESET, 0u);
    }
    ec_loop_reset(loop);
}

size_t ec_record_scan(const uint64_t *bytes_of, const uint8_t *bytes, size_t count, uint64_t *at,
                      uint64_t *number, uint64_t *offset, uint8_t *type, size_t room) {
    uint32_t table[256];
    make_table(table);
    size_t found = 0, here = (size_t)*at;
    while (found < room && count - here >= EC_RECORD_HEAD_BYTES) {
        const uint8_t *record = bytes + here;
        size_t size = load32(record + 4u);
        uint64_t one = (uint64_t)load32(record + 8u) | (uint64_t)load32(record + 12u) << 32;
        uint32_t kind = load32(record + 24u);
        if (kind < EC_RECORD_OBSERVATION || kind >= EC_RECORD_TYPES || size != bytes_of[kind] ||
            size > count - here || one < *number ||
            crc_of(table, 0u, record + 4u, size - 4u) != load32(record)) {
            break;
        }
        offset[found] = here;
        type[found] = (uint8_t)kind;
        *number = one + 1u;
        here += size;
        found++;
    }
    *at = here;
    return found;
}

uint64_t ec_recorder_dropped(const ec_recorder *recorder) {
    return atomic_load_explicit(&recorder->dropped, memory_order_relaxed);
}

static void copy_out(const ec_recorder *recorder, uint64_t from, uint8_t *to, size_t count) {
    size_t at = (size_t)(from & (recorder->size - 1u));
    size_t first = (size_t)recorder->size - at;
    first = first < count ? first : count;
    memcpy(to, recorder->ring + at, first);
    memcpy(to + first, recorder->ring, count - first);
}

/* CRC-32 of bytes in the ring. */
static uint32_t crc_in_ring(const ec_recorder *recorder, uint64_t from, size_t count) {
    size_t at = (size_t)(from & (recorder->size - 1u));
    size_t first = (size_t)recorder->size - at;
    first = first < count ? first : count;
    uint32_t crc = crc_of(recorder->crc, 0u, recorder->ring + at, first);
    return crc_of(recorder->crc, crc, recorder->ring, count - first);
}

/* Bytes of the record (or header) that begins at `from`; its CRC-32 is filled in. Bytes between
 * tail and head are the draining thread's own. */
static size_t seal(ec_recorder *recorder, uint64_t from) {
    uint8_t head[16];
    copy_out(recorder, from, head, sizeof head);
    if (from == 0u) { /* the header has its own at its end */
        return load32(head + 12u);
    }
    size_t count = load32(head + 4u);
    uint32_t crc = crc_in_ring(recorder, from + 4u, count - 4u);
    store32(recorder->ring + (size_t)(from & (recorder->size - 1u)), crc);
    return count;
}

size_t ec_recorder_next(ec_recorder *recorder, uint8_t *to, size_t room) {
    uint64_t head = atomic_load_explicit(&recorder->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&recorder->tail, memory_order_relaxed);
    size_t count = tail < head ? seal(recorder, tail) : 0u;
    if (count > room) {
        return 0;
    }
    copy_out(recorder, tail, to, count);
    atomic_store_explicit(&recorder->tail, tail + count, memory_order_release);
    return count;
}

size_t ec_recorder_take(ec_recorder *recorder, uint8_t *to, size_t room) {
    uint64_t head = atomic_load_explicit(&recorder->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&recorder->tail, memory_order_relaxed);
    uint64_t at = tail;
    while (at < head) {
        size_t count = seal(recorder, at);
        if (at - tail + count > room) {
            break;
        }
        at += count;
    }
    size_t moved = (size_t)(at - tail);
    copy_out(recorder, tail, to, moved);
    atomic_store_explicit(&recorder->tail, at, memory_order_release);
    return moved;
}

int32_t ec_recorder_drain(ec_recorder *recorder, ec_sink sink, void *user) {
    uint64_t head = atomic_load_explicit(&recorder->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&recorder->tail, memory_order_relaxed);
    for (uint64_t at = tail; at < head;) {
        at += seal(recorder, at);
    }
    size_t at = (size_t)(tail & (recorder->size - 1u));
    size_t count = (size_t)(head - tail), first = (size_t)recorder->size - at;
    first = first < count ? first : count;
    int32_t status = first > 0u ? sink(user, recorder->ring + at, first) : 0;
    if (status == 0 && count > first) {
        status = sink(user, recorder->ring, count - first);
    }
    if (status == 0) {
        atomic_store_explicit(&recorder->tail, head, memory_order_release);
    }
    return status;
}
