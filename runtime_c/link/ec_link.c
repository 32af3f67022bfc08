/* ec_link.c: the requests of ec_link.h. One function a request, one table that names them all. */
#include "ec_link.h"

#include "ec_crc32.h"
#include "ec_philox.h"

#include <string.h>

#define REFUSAL_BYTES 4u   /* of payload in an answer that is not kept */
#define TEXT_BYTES 96u     /* of a model's status at most */
#define REPLAY_KEY 0x5EED1E55u
#define BEGIN_BYTES (8u + 2u * EC_LINK_HASH_BYTES)

/* Where an answer's payload grows: handlers move it. */
typedef uint8_t *ec_link_writer;

typedef ec_link_status (*handler)(ec_link *link, const ec_link_frame *request,
                                  ec_link_writer *to);

static void put32(ec_link_writer *to, uint32_t value) {
    *to = ec_link_put32(*to, value);
}

static void put_float(ec_link_writer *to, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put32(to, bits);
}

static void put_bytes(ec_link_writer *to, const void *from, uint32_t bytes) {
    memcpy(*to, from, bytes);
    *to += bytes;
}

/* EC_LINK_OK, or EC_LINK_MODEL with the model's status, its step counter and a text. */
static ec_link_status model_status(ec_link *link, ec_status status, ec_link_writer *to) {
    const char *text;
    size_t bytes;
    if (status == EC_OK) {
        return EC_LINK_OK;
    }
    text = link->model->status_text != NULL ? link->model->status_text(status)
                                            : ec_status_text(status);
    bytes = strlen(text);
    put32(to, (uint32_t)status);
    put32(to, link->model->steps(link->model->self));
    put_bytes(to, text, (uint32_t)(bytes < TEXT_BYTES ? bytes : TEXT_BYTES));
    return EC_LINK_MODEL;
}

/* Copies `bytes` bytes into the inputs of `use` from byte `offset` on. They fit. */
static void write_input(const ec_link_model *model, ec_link_type use, uint32_t offset,
                        const uint8_t *from, uint32_t bytes) {
    while (bytes != 0u) {
        uint32_t room = 0;
        uint8_t *to = model->input(model->self, use, offset, &room);
        uint32_t part = room < bytes ? room : bytes;
        memcpy(to, from, part);
        offset += part;
        from += part;
        bytes -= part;
    }
}

/* The last bytes of the sample may come with the request that uses it. */
static ec_link_status complete_input(ec_link *link, ec_link_type use, const uint8_t *from,
                                     uint32_t bytes) {
    const ec_link_model *model = link->model;
    if (bytes == model->input_bytes) {
        link->input_bytes = 0; /* a whole sample: what came before was given up */
    }
    if (link->input_bytes != 0u && use != link->use) {
        return EC_LINK_INCOMPLETE;
    }
    if (bytes > model->input_bytes - link->input_bytes) {
        return EC_LINK_BAD_LENGTH;
    }
    if (link->input_bytes + bytes != model->input_bytes) {
        return EC_LINK_INCOMPLETE;
    }
    write_input(model, use, link->input_bytes, from, bytes);
    link->input_bytes = 0; /* whatever follows may overwrite it */
    link->has_output = 0;
    return EC_LINK_OK;
}

static ec_link_status check_label(const ec_link *link, const uint8_t *label) {
    uint32_t classes = link->model->classes;
    uint32_t at;
    for (at = 0; classes != 0u && at < link->model->label_bytes; at += 4u) {
        if (ec_link_get32(label + at) >= classes) {
            return EC_LINK_BAD_ARGUMENT;
        }
    }
    return EC_LINK_OK;
}

/* A label and the rest of the sample, `skip` bytes into the payload. */
static ec_link_status labelled_input(ec_link *link, ec_link_type use,
                                     const ec_link_frame *request, uint32_t skip) {
    uint32_t label_bytes = link->model->label_bytes;
    ec_link_status status;
    if (request->length < skip + label_bytes) {
        return EC_LINK_BAD_LENGTH;
    }
    status = check_label(link, request->payload + skip);
    if (status != EC_LINK_OK) {
        return status;
    }
    return complete_input(link, use, request->payload + skip + label_bytes,
                          request->length - skip - label_bytes);
}

static void drop_staged(ec_link *link) {
    if (link->staged) {
        link->staged = 0;
        link->model->stage_abort(link->model->self);
    }
}

static ec_link_status weights_crc(ec_link *link, uint32_t *crc, ec_link_writer *to) {
    const ec_link_model *model = link->model;
    uint8_t part[64];
    uint32_t at = 0;
    *crc = 0;
    while (at < model->weight_bytes) {
        uint32_t rest = model->weight_bytes - at;
        uint32_t bytes = rest < sizeof part ? rest : (uint32_t)sizeof part;
        ec_status status = model->weights_read(model->self, at, part, bytes);
        if (status != EC_OK) {
            return model_status(link, status, to);
        }
        *crc = ec_crc32(*crc, part, bytes);
        at += bytes;
    }
    return EC_LINK_OK;
}

static void write_hello(const ec_link *link, ec_link_writer *to) {
    const ec_link_model *model = link->model;
    uint32_t flags = 0;
    size_t bytes = strlen(model->name);
    flags |= model->save != NULL ? EC_LINK_CAN_SAVE : 0u;
    flags |= model->stage_begin != NULL ? EC_LINK_CAN_RECEIVE : 0u;
    flags |= model->evaluate != NULL ? EC_LINK_CAN_EVALUATE : 0u;
    *to = ec_link_put16(*to, EC_LINK_VERSION);
    *to = ec_link_put16(*to, link->payload_max);
    put32(to, link->session);
    put32(to, link->nonce);
    put_bytes(to, model->graph_hash, EC_LINK_HASH_BYTES);
    put_bytes(to, model->layout_hash, EC_LINK_HASH_BYTES);
    put32(to, model->input_bytes);
    put32(to, model->label_bytes);
    put32(to, model->output_bytes);
    put32(to, model->weight_bytes);
    put32(to, model->classes);
    put32(to, flags);
    put32(to, model->steps(model->self));
    put32(to, link->replay_capacity);
    put_bytes(to, model->name,
              (uint32_t)(bytes < EC_LINK_NAME_BYTES ? bytes : EC_LINK_NAME_BYTES));
}

static ec_link_status do_stats(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    const ec_link_model *model = link->model;
    uint32_t crc;
    ec_link_status status = weights_crc(link, &crc, to);
    (void)request;
    if (status != EC_LINK_OK) {
        return status;
    }
    put32(to, model->steps(model->self));
    put32(to, crc);
    put_float(to, model->rate(model->self));
    put32(to, link->in.good);
    put32(to, link->in.bad);
    put32(to, link->repeated);
    put32(to, link->refused);
    put32(to, link->replay_count);
    put32(to, link->replay_steps);
    return EC_LINK_OK;
}

static ec_link_status do_rate(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    uint32_t bits = ec_link_get32(request->payload);
    float rate;
    if (bits >= 0x7F800000u) { /* negative, infinite or no number */
        return EC_LINK_BAD_ARGUMENT;
    }
    memcpy(&rate, &bits, sizeof rate);
    return model_status(link, link->model->set_rate(link->model->self, rate), to);
}

static ec_link_status do_input(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    ec_link_type use = (ec_link_type)request->payload[0];
    uint32_t offset = ec_link_get32(request->payload + 1);
    uint32_t bytes = request->length - 5u;
    (void)to;
    if (use != EC_LINK_INFER && use != EC_LINK_TRAIN && use != EC_LINK_EVALUATE) {
        return EC_LINK_BAD_ARGUMENT;
    }
    if (offset != 0u && (offset != link->input_bytes || use != link->use)) {
        return EC_LINK_BAD_OFFSET;
    }
    if (bytes > link->model->input_bytes - offset) {
        return EC_LINK_BAD_OFFSET;
    }
    link->has_output = 0;
    write_input(link->model, use, offset, request->payload + 5, bytes);
    link->input_bytes = offset + bytes;
    link->use = use;
    return EC_LINK_OK;
}

static ec_link_status do_infer(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    ec_link_status status = complete_input(link, EC_LINK_INFER, request->payload, request->length);
    if (status != EC_LINK_OK) {
        return status;
    }
    status = model_status(link, link->model->infer(link->model->self), to);
    link->has_output = status == EC_LINK_OK && link->model->output != NULL;
    return status;
}

static ec_link_status do_output(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    const ec_link_model *model = link->model;
    uint32_t offset = ec_link_get32(request->payload);
    uint32_t bytes = ec_link_get16(request->payload + 4);
    if (!link->has_output) {
        return EC_LINK_NO_OUTPUT;
    }
    if (bytes > link->payload_max || offset > model->output_bytes ||
        bytes > model->output_bytes - offset) {
        return EC_LINK_BAD_OFFSET;
    }
    while (bytes != 0u) {
        uint32_t rest = 0;
        const uint8_t *from = model->output(model->self, offset, &rest);
        uint32_t part = rest < bytes ? rest : bytes;
        put_bytes(to, from, part);
        offset += part;
        bytes -= part;
    }
    return EC_LINK_OK;
}

/* One step on a kept sample, drawn by the step counter. */
static ec_status replay_step(ec_link *link, ec_link_result *result) {
    const ec_link_model *model = link->model;
    uint32_t drawn = ec_philox(model->steps(model->self), 0, 0, REPLAY_KEY) % link->replay_count;
    const uint8_t *sample = link->replay + drawn * (model->label_bytes + model->input_bytes);
    write_input(model, EC_LINK_TRAIN, 0, sample + model->label_bytes, model->input_bytes);
    return model->train_step(model->self, sample, result);
}

static ec_link_status do_train(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    const ec_link_model *model = link->model;
    ec_link_result result = {0.0f, 0};
    ec_link_result replayed = {0.0f, 0};
    float sum = 0.0f;
    uint32_t steps = link->replay_count != 0u ? link->replay_steps : 0u;
    uint32_t i;
    ec_status done;
    ec_link_status status = labelled_input(link, EC_LINK_TRAIN, request, 0);
    if (status != EC_LINK_OK) {
        return status;
    }
    done = model->train_step(model->self, request->payload, &result);
    for (i = 0; i < steps && done == EC_OK; i++) {
        done = replay_step(link, &replayed);
        sum += replayed.loss;
    }
    status = model_status(link, done, to);
    if (status == EC_LINK_OK) {
        put_float(to, result.loss);
        put32(to, (uint32_t)result.correct);
        put32(to, model->steps(model->self));
        put_float(to, steps != 0u ? sum / (float)steps : 0.0f);
    }
    return status;
}

static ec_link_status do_evaluate(ec_link *link, const ec_link_frame *request,
                                  ec_link_writer *to) {
    const ec_link_model *model = link->model;
    ec_link_result result = {0.0f, 0};
    ec_link_status status;
    if (model->evaluate == NULL) {
        return EC_LINK_UNSUPPORTED;
    }
    status = labelled_input(link, EC_LINK_EVALUATE, request, 0);
    if (status != EC_LINK_OK) {
        return status;
    }
    status = model_status(link, model->evaluate(model->self, request->payload, &result), to);
    if (status == EC_LINK_OK) {
        put_float(to, result.loss);
        put32(to, (uint32_t)result.correct);
    }
    return status;
}

/* save, load and reset: nothing in, the step counter out. */
static ec_link_status call_model(ec_link *link, ec_status (*call)(void *self),
                                 ec_link_writer *to) {
    ec_link_status status;
    if (call == NULL) {
        return EC_LINK_UNSUPPORTED;
    }
    link->input_bytes = 0;
    link->has_output = 0;
    status = model_status(link, call(link->model->self), to);
    if (status == EC_LINK_OK) {
        put32(to, link->model->steps(link->model->self));
    }
    return status;
}

static ec_link_status do_save(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    (void)request;
    return call_model(link, link->model->save, to);
}

static ec_link_status do_load(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    (void)request;
    return call_model(link, link->model->load, to);
}

static ec_link_status do_reset(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    (void)request;
    return call_model(link, link->model->reset, to);
}

static ec_link_status do_weights_read(ec_link *link, const ec_link_frame *request,
                                      ec_link_writer *to) {
    const ec_link_model *model = link->model;
    uint32_t offset = ec_link_get32(request->payload);
    uint32_t bytes = ec_link_get16(request->payload + 4);
    ec_link_status status;
    if (bytes > link->payload_max || offset > model->weight_bytes ||
        bytes > model->weight_bytes - offset) {
        return EC_LINK_BAD_OFFSET;
    }
    status = model_status(link, model->weights_read(model->self, offset, *to, bytes), to);
    if (status == EC_LINK_OK) {
        *to += bytes;
    }
    return status;
}

static ec_link_status do_weights_begin(ec_link *link, const ec_link_frame *request,
                                       ec_link_writer *to) {
    const ec_link_model *model = link->model;
    const uint8_t *hashes = request->payload + 8;
    ec_link_status status;
    if (model->stage_begin == NULL) {
        return EC_LINK_UNSUPPORTED;
    }
    if (memcmp(hashes, model->graph_hash, EC_LINK_HASH_BYTES) != 0) {
        return EC_LINK_BAD_GRAPH;
    }
    if (memcmp(hashes + EC_LINK_HASH_BYTES, model->layout_hash, EC_LINK_HASH_BYTES) != 0 ||
        ec_link_get32(request->payload) != model->weight_bytes) {
        return EC_LINK_BAD_LAYOUT;
    }
    drop_staged(link);
    link->input_bytes = 0; /* the staging place may be where the sample stood */
    link->has_output = 0;
    status = model_status(link, model->stage_begin(model->self), to);
    link->staged = status == EC_LINK_OK;
    link->staged_bytes = 0;
    link->staged_crc = 0;
    link->expected_crc = ec_link_get32(request->payload + 4);
    return status;
}

static ec_link_status do_weights_chunk(ec_link *link, const ec_link_frame *request,
                                       ec_link_writer *to) {
    const ec_link_model *model = link->model;
    const uint8_t *from = request->payload + 4;
    uint32_t offset = ec_link_get32(request->payload);
    uint32_t bytes = request->length - 4u;
    ec_link_status status;
    if (!link->staged) {
        return EC_LINK_NOT_STAGED;
    }
    if (offset != link->staged_bytes || bytes > model->weight_bytes - offset) {
        return EC_LINK_BAD_OFFSET;
    }
    status = model_status(link, model->stage_write(model->self, offset, from, bytes), to);
    if (status != EC_LINK_OK) {
        drop_staged(link);
        return status;
    }
    link->staged_crc = ec_crc32(link->staged_crc, from, bytes);
    link->staged_bytes += bytes;
    return EC_LINK_OK;
}

static ec_link_status do_weights_commit(ec_link *link, const ec_link_frame *request,
                                        ec_link_writer *to) {
    const ec_link_model *model = link->model;
    ec_link_status status;
    (void)request;
    if (!link->staged) {
        return EC_LINK_NOT_STAGED;
    }
    if (link->staged_bytes != model->weight_bytes) {
        return EC_LINK_INCOMPLETE;
    }
    if (link->staged_crc != link->expected_crc) {
        drop_staged(link);
        return EC_LINK_BAD_CRC;
    }
    status = model_status(link, model->stage_commit(model->self), to);
    if (status != EC_LINK_OK) {
        drop_staged(link);
        return status;
    }
    link->staged = 0;
    put32(to, model->steps(model->self));
    return EC_LINK_OK;
}

static ec_link_status do_weights_abort(ec_link *link, const ec_link_frame *request,
                                       ec_link_writer *to) {
    (void)request;
    (void)to;
    drop_staged(link);
    return EC_LINK_OK;
}

static ec_link_status do_replay_keep(ec_link *link, const ec_link_frame *request,
                                     ec_link_writer *to) {
    const ec_link_model *model = link->model;
    uint32_t slot = ec_link_get32(request->payload);
    uint32_t at = 0;
    uint8_t *kept;
    ec_link_status status;
    if (link->replay_capacity == 0u) {
        return EC_LINK_UNSUPPORTED;
    }
    if (slot >= link->replay_capacity || slot > link->replay_count) {
        return EC_LINK_BAD_OFFSET;
    }
    status = labelled_input(link, EC_LINK_TRAIN, request, 4);
    if (status != EC_LINK_OK) {
        return status;
    }
    kept = link->replay + slot * (model->label_bytes + model->input_bytes);
    memcpy(kept, request->payload + 4, model->label_bytes);
    kept += model->label_bytes;
    while (at < model->input_bytes) {
        uint32_t rest = 0;
        const uint8_t *from = model->input(model->self, EC_LINK_TRAIN, at, &rest);
        memcpy(kept + at, from, rest);
        at += rest;
    }
    if (slot == link->replay_count) {
        link->replay_count++;
    }
    put32(to, link->replay_count);
    return EC_LINK_OK;
}

static ec_link_status do_replay_steps(ec_link *link, const ec_link_frame *request,
                                      ec_link_writer *to) {
    uint32_t steps = ec_link_get32(request->payload);
    (void)to;
    if (link->replay_capacity == 0u && steps != 0u) {
        return EC_LINK_UNSUPPORTED;
    }
    if (steps > 255u) {
        return EC_LINK_BAD_ARGUMENT;
    }
    link->replay_steps = steps;
    return EC_LINK_OK;
}

/* Payloads are at least, or where `exact`, exactly as long as said. */
typedef struct {
    handler run;
    uint8_t type;
    uint8_t length;
    uint8_t exact;
    uint8_t while_staged;
} request_kind;

static const request_kind kinds[] = {
    {do_stats, EC_LINK_STATS, 0, 1, 1},
    {do_rate, EC_LINK_RATE, 4, 1, 0},
    {do_input, EC_LINK_INPUT, 5, 0, 0},
    {do_infer, EC_LINK_INFER, 0, 0, 0},
    {do_output, EC_LINK_OUTPUT, 6, 1, 0},
    {do_train, EC_LINK_TRAIN, 0, 0, 0},
    {do_evaluate, EC_LINK_EVALUATE, 0, 0, 0},
    {do_save, EC_LINK_SAVE, 0, 1, 0},
    {do_load, EC_LINK_LOAD, 0, 1, 0},
    {do_reset, EC_LINK_RESET, 0, 1, 0},
    {do_weights_read, EC_LINK_WEIGHTS_READ, 6, 1, 1},
    {do_weights_begin, EC_LINK_WEIGHTS_BEGIN, BEGIN_BYTES, 1, 1},
    {do_weights_chunk, EC_LINK_WEIGHTS_CHUNK, 4, 0, 1},
    {do_weights_commit, EC_LINK_WEIGHTS_COMMIT, 0, 1, 1},
    {do_weights_abort, EC_LINK_WEIGHTS_ABORT, 0, 1, 1},
    {do_replay_keep, EC_LINK_REPLAY_KEEP, 4, 0, 0},
    {do_replay_steps, EC_LINK_REPLAY_STEPS, 4, 1, 0},
};

static ec_link_status run(ec_link *link, const ec_link_frame *request, ec_link_writer *to) {
    uint32_t i;
    for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const request_kind *kind = &kinds[i];
        if (kind->type != request->type) {
            continue;
        }
        if (request->length < kind->length || (kind->exact && request->length > kind->length)) {
            return EC_LINK_BAD_LENGTH;
        }
        if (link->staged && !kind->while_staged) {
            return EC_LINK_STAGED;
        }
        return kind->run(link, request, to);
    }
    return EC_LINK_BAD_TYPE;
}

/* Answers from the answer buffer, and remembers for which request. */
static void keep_and_send(ec_link *link, const ec_link_frame *request, ec_link_status status,
                          const uint8_t *end) {
    ec_link_frame frame;
    uint32_t bytes = (uint32_t)(end - link->answer) - EC_LINK_HEADER_BYTES;
    frame.type = (uint8_t)(request->type | EC_LINK_ANSWER);
    frame.status = (uint8_t)status;
    frame.length = (uint16_t)bytes;
    frame.sequence = request->sequence;
    frame.session = link->session;
    link->answer_bytes = ec_link_seal(link->answer, &frame);
    link->sequence = request->sequence;
    link->request_crc = request->crc;
    link->refused += status != EC_LINK_OK ? 1u : 0u;
    ec_link_emit(link->send, link->context, link->answer, link->answer_bytes);
}

/* Refuses without forgetting the last answer: its request may yet be repeated. */
static void refuse(ec_link *link, const ec_link_frame *request, ec_link_status status,
                   uint32_t detail) {
    uint8_t bytes[EC_LINK_FRAME_BYTES + REFUSAL_BYTES];
    ec_link_frame frame;
    frame.type = (uint8_t)(request->type | EC_LINK_ANSWER);
    frame.status = (uint8_t)status;
    frame.length = REFUSAL_BYTES;
    frame.sequence = request->sequence;
    frame.session = request->session;
    (void)ec_link_put32(bytes + EC_LINK_HEADER_BYTES, detail);
    link->refused++;
    ec_link_emit(link->send, link->context, bytes, ec_link_seal(bytes, &frame));
}

/* A number that differs, but for one chance in 2^32, from those of other sessions. */
static uint32_t new_session(ec_link *link, uint32_t nonce) {
    uint8_t parts[12];
    uint32_t session;
    link->hellos++;
    (void)ec_link_put32(ec_link_put32(ec_link_put32(parts, link->seed), link->hellos), nonce);
    session = ec_crc32(0, parts, sizeof parts);
    return session != 0u ? session : 1u;
}

static void answer_hello(ec_link *link, const ec_link_frame *request) {
    ec_link_writer to = link->answer + EC_LINK_HEADER_BYTES;
    uint32_t nonce;
    if (request->length < 2u || ec_link_get16(request->payload) != EC_LINK_VERSION) {
        refuse(link, request, request->length < 2u ? EC_LINK_BAD_LENGTH : EC_LINK_BAD_VERSION,
               EC_LINK_VERSION);
        return;
    }
    if (request->length != 6u) {
        refuse(link, request, EC_LINK_BAD_LENGTH, EC_LINK_VERSION);
        return;
    }
    nonce = ec_link_get32(request->payload + 2);
    if (link->session != 0u && nonce == link->nonce) {
        if (request->sequence == link->sequence && request->crc == link->request_crc) {
            link->repeated++;
            ec_link_emit(link->send, link->context, link->answer, link->answer_bytes);
        }
        return; /* the hello of a session that has gone on: nobody waits for its answer */
    }
    drop_staged(link);
    link->input_bytes = 0;
    link->has_output = 0;
    link->replay_steps = 0;
    link->session = new_session(link, nonce);
    link->nonce = nonce;
    write_hello(link, &to);
    keep_and_send(link, request, EC_LINK_OK, to);
}

void ec_link_answer(ec_link *link, const ec_link_frame *request) {
    ec_link_writer to = link->answer + EC_LINK_HEADER_BYTES;
    ec_link_status status;
    if (request->type & EC_LINK_ANSWER) {
        return; /* an echo of the line */
    }
    if (request->type == EC_LINK_HELLO) {
        answer_hello(link, request);
        return;
    }
    if (link->session == 0u || request->session != link->session) {
        refuse(link, request, EC_LINK_BAD_SESSION, link->session != 0u);
        return;
    }
    if (request->sequence == link->sequence && request->crc == link->request_crc) {
        link->repeated++;
        ec_link_emit(link->send, link->context, link->answer, link->answer_bytes);
        return;
    }
    if (request->sequence != link->sequence + 1u) {
        refuse(link, request, EC_LINK_BAD_SEQUENCE, link->sequence + 1u);
        return;
    }
    status = run(link, request, &to);
    keep_and_send(link, request, status, to);
}

const ec_link_frame *ec_link_receive(ec_link *link, uint8_t byte) {
    return ec_link_take(&link->in, byte);
}

ec_status ec_link_init(ec_link *link, const ec_link_model *model, const ec_link_memory *memory,
                       ec_link_send send, void *context, uint32_t seed) {
    uint32_t most = EC_LINK_PAYLOAD_MAX + EC_LINK_FRAME_BYTES;
    uint32_t bytes;
    if (link == NULL || model == NULL || memory == NULL || send == NULL ||
        memory->receive == NULL || memory->answer == NULL) {
        return EC_NULL_POINTER;
    }
    if (memory->buffer_bytes < EC_LINK_PAYLOAD_MIN + EC_LINK_FRAME_BYTES) {
        return EC_TOO_SMALL;
    }
    if (model->input_bytes == 0u || (model->classes != 0u && model->label_bytes % 4u != 0u)) {
        return EC_BAD_ARGUMENT;
    }
    bytes = memory->buffer_bytes < most ? memory->buffer_bytes : most;
    memset(link, 0, sizeof *link);
    ec_link_receiver_init(&link->in, memory->receive, bytes);
    link->model = model;
    link->send = send;
    link->context = context;
    link->answer = memory->answer;
    link->payload_max = bytes - EC_LINK_FRAME_BYTES;
    link->seed = seed;
    if (memory->replay != NULL) {
        link->replay = memory->replay;
        link->replay_capacity = memory->replay_bytes / (model->label_bytes + model->input_bytes);
    }
    return EC_OK;
}
