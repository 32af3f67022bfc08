#include "ec_replay.h"

#include <stdbool.h>
#include <string.h>

#define CONTENT EC_RECORD_HEAD_BYTES

typedef struct {
    const ec_control_config *config;
    ec_loop *loop;
    ec_recorder *recorder;
    float *floats, *action;
    uint8_t *replayed;
    const uint8_t *bytes;
    size_t count, at;
    uint64_t number; /* of the next record */
    ec_replay_result *result;
} replay;

static size_t padded(size_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

static size_t float_bytes(const ec_control_config *config) {
    size_t chunk = (size_t)config->horizon * config->axes;
    return padded((chunk > config->states ? chunk : config->states) * sizeof(float));
}

/* The least power of two that a recorder takes. */
static size_t ring_bytes(const ec_control_config *config) {
    size_t bytes = 64;
    while (bytes < ec_recorder_least(config)) {
        bytes *= 2u;
    }
    return bytes;
}

size_t ec_replay_record_bytes(const ec_control_config *config) {
    size_t chunk = (size_t)config->horizon * config->axes * sizeof(float);
    return padded(EC_RECORD_HEAD_BYTES + 40u + config->states * sizeof(float) + chunk);
}

size_t ec_replay_bytes(const ec_control_config *config) {
    return ec_loop_bytes(config) + ec_recorder_bytes(config, ring_bytes(config)) +
           float_bytes(config) + padded(config->axes * sizeof(float));
}

static uint32_t get32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static uint64_t get64(const uint8_t *from) {
    return (uint64_t)get32(from) | (uint64_t)get32(from + 4) << 32;
}

static void get_floats(const uint8_t *from, float *to, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = get32(from + 4u * i);
        memcpy(&to[i], &bits, sizeof bits);
    }
}

/* Bytes of the content that a type has with these settings; 0: there is no such type. */
static size_t content_bytes(const ec_control_config *config, uint32_t type) {
    size_t chunk = (size_t)config->horizon * config->axes * sizeof(float);
    switch (type) {
    case EC_RECORD_OBSERVATION:
        return 32u + config->states * sizeof(float);
    case EC_RECORD_QUESTION:
        return 40u + config->states * sizeof(float) + chunk;
    case EC_RECORD_CHUNK:
        return 24u + chunk;
    case EC_RECORD_ACTION:
        return 32u + config->axes * sizeof(float);
    case EC_RECORD_EVENT:
        return 16u;
    default:
        return 0;
    }
}

/* Whether a whole record lies at `at`. */
static bool is_record(const replay *self, size_t at) {
    if (self->count - at < CONTENT) {
        return false;
    }
    size_t size = get32(self->bytes + at + 4u);
    size_t content = content_bytes(self->config, get32(self->bytes + at + 24u));
    return content > 0u && size == (CONTENT + content + 7u) / 8u * 8u && size <= self->count - at;
}

/* Compare what the last call wrote with the recording. */
static ec_replay_status compare(replay *self) {
    ec_replay_result *result = self->result;
    size_t most = ec_replay_record_bytes(self->config), made;
    while ((made = ec_recorder_next(self->recorder, self->replayed, most)) > 0u) {
        if (self->at == self->count) {
            return EC_REPLAY_SAME; /* the recording ends within a period */
        }
        if (!is_record(self, self->at)) {
            return EC_REPLAY_BAD;
        }
        const uint8_t *recorded = self->bytes + self->at;
        if (get64(recorded + 8u) != self->number) {
            return EC_REPLAY_GAP;
        }
        size_t size = get32(recorded + 4u);
        if (made != size || memcmp(self->replayed, recorded, size) != 0) {
            result->replayed_bytes = made;
            return EC_REPLAY_DIFFERS;
        }
        result->periods += get32(recorded + 24u) == EC_RECORD_ACTION ? 1u : 0u;
        result->records++;
        self->number++;
        self->at += size;
    }
    return EC_REPLAY_SAME;
}

/* Make the call that the record tells of. False: it is none that a call begins with. */
static bool call(replay *self, const uint8_t *record) {
    const uint8_t *content = record + CONTENT;
    uint32_t type = get32(record + 24u);
    if (type == EC_RECORD_OBSERVATION) {
        get_floats(content + 32u, self->floats, self->config->states);
        ec_observation observation = {
            .now_ns = (int64_t)get64(content),
            .observed_ns = (int64_t)get64(content + 8u),
            .frame = get64(content + 24u),
            .state = self->floats,
            .overrun = get32(record + 28u),
        };
        ec_recorded_begin(self->recorder, self->loop, &observation, (int64_t)get64(content + 16u));
    } else if (type == EC_RECORD_CHUNK) {
        get_floats(content + 24u, self->floats, (size_t)self->config->horizon * self->config->axes);
        ec_recorded_deliver(self->recorder, self->loop, get64(content), self->floats,
                            (int64_t)get64(content + 8u));
    } else if (type == EC_RECORD_ACTION) {
        ec_recorded_end(self->recorder, self->loop, self->action);
    } else if (type == EC_RECORD_EVENT && get32(content) == EC_EVENT_ASKED_STOP) {
        ec_recorded_stop(self->recorder, self->loop, (ec_stop)get32(content + 4u));
    } else if (type == EC_RECORD_EVENT && get32(content) == EC_EVENT_RESET) {
        ec_recorded_reset(self->recorder, self->loop);
    } else {
        return false;
    }
    return true;
}

static ec_replay_status run(replay *self) {
    while (self->at < self->count) {
        if (!is_record(self, self->at)) {
            return EC_REPLAY_BAD;
        }
        const uint8_t *record = self->bytes + self->at;
        self->result->tick = (int64_t)get64(record + 16u);
        if (get64(record + 8u) != self->number) {
            return EC_REPLAY_GAP;
        }
        if (!call(self, record)) {
            return EC_REPLAY_DIFFERS; /* only the recording has it */
        }
        ec_replay_status status = compare(self);
        if (status != EC_REPLAY_SAME) {
            return status;
        }
    }
    return EC_REPLAY_SAME;
}

static int32_t discard(void *user, const uint8_t *bytes, size_t count) {
    (void)user;
    (void)bytes;
    (void)count;
    return 0;
}

ec_replay_status ec_replay(const ec_control_config *config, const uint8_t *bytes, size_t count,
                           void *memory, size_t memory_bytes, uint8_t *replayed,
                           ec_replay_result *result) {
    static const uint8_t no_model[EC_RECORD_HASH_BYTES];
    *result = (ec_replay_result){.recorded = 0};
    if (memory == NULL || memory_bytes < ec_replay_bytes(config)) {
        return EC_REPLAY_MEMORY;
    }
    uint8_t *at = (uint8_t *)memory;
    replay self = {.config = config, .replayed = replayed, .bytes = bytes, .count = count};
    self.result = result;
    size_t size = ec_recorder_bytes(config, ring_bytes(config));
    if (ec_loop_init(config, at, ec_loop_bytes(config), &self.loop) != EC_CONTROL_OK ||
        ec_recorder_init(config, no_model, ring_bytes(config), at + ec_loop_bytes(config), size,
                         &self.recorder) != EC_CONTROL_OK) {
        return EC_REPLAY_MEMORY;
    }
    at += ec_loop_bytes(config) + size;
    self.floats = (float *)(void *)at;
    self.action = (float *)(void *)(at + float_bytes(config));
    ec_recorder_drain(self.recorder, discard, NULL); /* the header */
    ec_replay_status status = run(&self);
    result->recorded = self.at;
    return status;
}
