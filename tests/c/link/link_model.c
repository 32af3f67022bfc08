/* link_model.c: link_model.h. Sums run in order of the indices, with one rounding an operation. */
#include "link_model.h"

#include <string.h>

static float feature(const link_model *m, int i) {
    return i < FIRST ? m->first[i] : m->rest[i - FIRST];
}

static uint8_t *input(void *self, ec_link_type use, uint32_t offset, uint32_t *bytes) {
    link_model *m = (link_model *)self;
    (void)use;
    if (offset < sizeof m->first) {
        *bytes = (uint32_t)sizeof m->first - offset;
        return (uint8_t *)m->first + offset;
    }
    *bytes = (uint32_t)(sizeof m->first + sizeof m->rest) - offset;
    return (uint8_t *)m->rest + (offset - sizeof m->first);
}

static const uint8_t *output(void *self, uint32_t offset, uint32_t *bytes) {
    link_model *m = (link_model *)self;
    *bytes = (uint32_t)sizeof m->y - offset;
    return (const uint8_t *)m->y + offset;
}

static void forward(link_model *m) {
    int o;
    int i;
    for (o = 0; o < CLASSES; o++) {
        float sum = m->live.b[o];
        for (i = 0; i < FEATURES; i++) {
            sum += m->live.w[o][i] * feature(m, i);
        }
        m->y[o] = sum;
    }
}

static ec_status infer(void *self) {
    forward((link_model *)self);
    return EC_OK;
}

static ec_status evaluate(void *self, const uint8_t *label, ec_link_result *result) {
    link_model *m = (link_model *)self;
    int wanted = (int)ec_link_get32(label);
    int largest = 0;
    int o;
    m->bad_labels += wanted < 0 || wanted >= CLASSES;
    forward(m);
    result->loss = 0.0f;
    for (o = 0; o < CLASSES; o++) {
        float error = m->y[o] - (o == wanted ? 1.0f : 0.0f);
        result->loss += 0.5f * error * error;
        if (m->y[o] > m->y[largest]) {
            largest = o;
        }
    }
    result->correct = largest == wanted;
    return result->loss - result->loss == 0.0f ? EC_OK : EC_BAD_ARGUMENT; /* inf - inf is NaN */
}

static ec_status train_step(void *self, const uint8_t *label, ec_link_result *result) {
    link_model *m = (link_model *)self;
    int wanted = (int)ec_link_get32(label);
    int o;
    int i;
    ec_status status = evaluate(m, label, result);
    m->calls++;
    if (status != EC_OK) {
        return status;
    }
    for (o = 0; o < CLASSES; o++) {
        float step = m->live.rate * (m->y[o] - (o == wanted ? 1.0f : 0.0f));
        for (i = 0; i < FEATURES; i++) {
            m->live.w[o][i] -= step * feature(m, i);
        }
        m->live.b[o] -= step;
    }
    m->live.steps++;
    return EC_OK;
}

static ec_status set_rate(void *self, float rate) {
    ((link_model *)self)->live.rate = rate;
    return EC_OK;
}

static float rate(void *self) {
    return ((link_model *)self)->live.rate;
}

static uint32_t steps(void *self) {
    return ((link_model *)self)->live.steps;
}

static ec_status save(void *self) {
    link_model *m = (link_model *)self;
    if (m->dead_flash) {
        return EC_NOT_READY;
    }
    m->saved = m->live;
    m->has_saved = 1;
    return EC_OK;
}

static ec_status reset(void *self) {
    link_model *m = (link_model *)self;
    memset(&m->live, 0, sizeof m->live);
    m->live.rate = 0.01f;
    return EC_OK;
}

static ec_status load(void *self) {
    link_model *m = (link_model *)self;
    if (!m->has_saved) {
        return reset(m);
    }
    m->live = m->saved;
    return EC_OK;
}

static ec_status weights_read(void *self, uint32_t offset, uint8_t *to, uint32_t bytes) {
    link_model *m = (link_model *)self;
    memcpy(to, (const uint8_t *)&m->live + offset, bytes);
    return EC_OK;
}

static ec_status stage_begin(void *self) {
    ((link_model *)self)->staged_bytes = 0;
    return EC_OK;
}

static ec_status stage_write(void *self, uint32_t offset, const uint8_t *from, uint32_t bytes) {
    link_model *m = (link_model *)self;
    if (offset != m->staged_bytes) {
        return EC_BAD_ARGUMENT;
    }
    memcpy((uint8_t *)&m->staged + offset, from, bytes);
    m->staged_bytes += bytes;
    return EC_OK;
}

static ec_status stage_commit(void *self) {
    link_model *m = (link_model *)self;
    if (m->dead_flash) {
        return EC_NOT_READY;
    }
    m->live = m->staged;
    return EC_OK;
}

static void stage_abort(void *self) {
    ((link_model *)self)->staged_bytes = 0;
}

void link_model_init(link_model *m) {
    memset(m, 0, sizeof *m);
    (void)reset(m);
}

ec_link_model link_model_table(link_model *m) {
    ec_link_model table;
    memset(&table, 0, sizeof table);
    table.name = "one_layer";
    memcpy(table.graph_hash, "\x10graph\x01\xff", EC_LINK_HASH_BYTES);
    memcpy(table.layout_hash, "\x20layout\x02", EC_LINK_HASH_BYTES);
    table.input_bytes = FEATURES * 4;
    table.label_bytes = 4;
    table.output_bytes = CLASSES * 4;
    table.weight_bytes = (uint32_t)sizeof(link_weights);
    table.classes = CLASSES;
    table.self = m;
    table.input = input;
    table.output = output;
    table.infer = infer;
    table.train_step = train_step;
    table.evaluate = evaluate;
    table.set_rate = set_rate;
    table.rate = rate;
    table.steps = steps;
    table.save = save;
    table.load = load;
    table.reset = reset;
    table.weights_read = weights_read;
    table.stage_begin = stage_begin;
    table.stage_write = stage_write;
    table.stage_commit = stage_commit;
    table.stage_abort = stage_abort;
    return table;
}
