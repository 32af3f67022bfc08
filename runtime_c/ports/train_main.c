/*
 * train_main.c: a firmware that learns: the model (edgec.h, ec_learner.h) behind the link
 * (ec_link.h), its weights in the store (ec_store.h).
 *
 * At the start the weights saved last are loaded; where there are none, or they belong to another
 * network, it has those that it was built with. Weights from the host go straight into the free
 * place of the store: they cost no RAM, and pushed weights are saved weights.
 */
#include "ec_learner.h"
#include "ec_link_port.h"
#include "ec_store.h"
#include "model_train.h"

#if !defined(EC_TRAIN_HOSTED)
#include "ec_port.h"
#endif

#include <string.h>

#define STORE_STATUS 128 /* what functions here return beside an ec_status: this and the store's */

static uint8_t receive_buffer[EC_LINK_BUFFER_BYTES];
static uint8_t answer_buffer[EC_LINK_BUFFER_BYTES];
#if EC_REPLAY_SAMPLES > 0
static uint8_t replay_buffer[EC_REPLAY_SAMPLES * (EC_TRAIN_INPUT_BYTES + EC_TRAIN_LABEL_BYTES)];
#endif
static ec_store store;
static ec_store_layout layout;
static ec_link link_;

static ec_status store_status(ec_store_status status) {
    return status == EC_STORE_OK ? EC_OK : (ec_status)(STORE_STATUS + (int)status);
}

static const char *status_text(ec_status status) {
    if ((int)status >= STORE_STATUS) {
        return ec_store_status_text((ec_store_status)((int)status - STORE_STATUS));
    }
    return ec_status_text(status);
}

/* Byte `offset` of the ports one after the other, that numbered `left_out` apart. */
static uint8_t *port_byte(const ec_port_desc *ports, uint32_t count, uint32_t left_out,
                          uint32_t offset, uint32_t *bytes) {
    uint32_t i;
    for (i = 0; i < count; i++) {
        if (i != left_out) {
            if (offset < ports[i].bytes) {
                *bytes = ports[i].bytes - offset;
                return (uint8_t *)ports[i].pointer(ec_model.instance) + offset;
            }
            offset -= ports[i].bytes;
        }
    }
    *bytes = 0;
    return NULL;
}

static uint8_t *input(void *self, ec_link_type use, uint32_t offset, uint32_t *bytes) {
    const ec_entry_desc *entry = &ec_model.entries[ec_learner.infer];
    uint32_t label = EC_LEARNER_NO_PORT;
    (void)self;
    if (use == EC_LINK_TRAIN) {
        entry = &ec_model.entries[ec_learner.train_step];
        label = ec_learner.train_step_label;
    } else if (use == EC_LINK_EVALUATE) {
        entry = &ec_model.entries[ec_learner.evaluate];
        label = ec_learner.evaluate_label;
    }
    return port_byte(entry->inputs, entry->input_count, label, offset, bytes);
}

static const uint8_t *output(void *self, uint32_t offset, uint32_t *bytes) {
    const ec_entry_desc *entry = &ec_model.entries[ec_learner.infer];
    (void)self;
    return port_byte(entry->outputs, entry->output_count, EC_LEARNER_NO_PORT, offset, bytes);
}

static ec_status infer(void *self) {
    (void)self;
    return ec_model.entries[ec_learner.infer].invoke(ec_model.instance);
}

static ec_status train_step(void *self, const uint8_t *label, ec_link_result *result) {
    (void)self;
    return ec_learner_train_step(label, &result->loss, &result->correct);
}

static ec_status evaluate(void *self, const uint8_t *label, ec_link_result *result) {
    (void)self;
    return ec_learner_evaluate(label, &result->loss, &result->correct);
}

static ec_status set_rate(void *self, float rate) {
    (void)self;
    return ec_learner_set_rate(rate);
}

static float get_rate(void *self) {
    (void)self;
    return ec_learner_rate();
}

static uint32_t steps(void *self) {
    (void)self;
    return ec_learner_steps();
}

static ec_status reset(void *self) {
    (void)self;
    return ec_learner_reset();
}

static ec_status weights_read(void *self, uint32_t offset, uint8_t *to, uint32_t bytes) {
    (void)self;
    return ec_learner_saved_read(offset, to, bytes);
}

static ec_status save(void *self) {
    (void)self;
    return store_status(ec_learner_save(&store));
}

/* As saved last, or the factory's where nothing was. */
static ec_status load(void *self) {
    ec_store_status status = ec_learner_load(&store);
    return status == EC_STORE_EMPTY ? reset(self) : store_status(status);
}

static ec_status stage_begin(void *self) {
    ec_store_status status = EC_STORE_MORE;
    (void)self;
    while (status == EC_STORE_MORE) {
        status = ec_store_erase_step(&store);
    }
    if (status == EC_STORE_OK) {
        status = ec_store_save_begin(&store, EC_TRAIN_WEIGHT_BYTES);
    }
    return store_status(status);
}

static ec_status stage_write(void *self, uint32_t offset, const uint8_t *from, uint32_t bytes) {
    (void)self;
    (void)offset; /* the link hands them over without gaps */
    return store_status(ec_store_save_chunk(&store, from, bytes));
}

static ec_status stage_commit(void *self) {
    ec_store_status status = ec_store_save_commit(&store);
    return status == EC_STORE_OK ? load(self) : store_status(status);
}

static void stage_abort(void *self) {
    (void)self;
    ec_store_abort(&store);
}

static const ec_link_model table = {
    EC_TRAIN_NAME,
    EC_TRAIN_GRAPH_HASH,
    EC_TRAIN_LAYOUT_HASH,
    EC_TRAIN_INPUT_BYTES,
    EC_TRAIN_LABEL_BYTES,
    EC_TRAIN_OUTPUT_BYTES,
    EC_TRAIN_WEIGHT_BYTES,
    EC_TRAIN_CLASSES,
    NULL,
    input,
    output,
    infer,
    train_step,
    evaluate,
    set_rate,
    get_rate,
    steps,
    save,
    load,
    reset,
    weights_read,
    stage_begin,
    stage_write,
    stage_commit,
    stage_abort,
    status_text,
};

static ec_status start(void) {
    ec_link_memory memory = {receive_buffer, answer_buffer, EC_LINK_BUFFER_BYTES, NULL, 0};
    const ec_flash *flash = ec_link_port_flash();
    ec_status status = ec_model.init(ec_model.instance);
    if (flash == NULL) {
        return EC_NULL_POINTER;
    }
    if (status != EC_OK) {
        return status;
    }
    layout.area_sectors = 1;
    layout.areas = EC_FLASH_SECTORS;
    layout.payload_bytes = EC_TRAIN_WEIGHT_BYTES;
    layout.graph_hash = EC_TRAIN_GRAPH_WORD;
    layout.layout_hash = EC_TRAIN_LAYOUT_WORD;
    status = store_status(ec_store_open(&store, flash, &layout));
    if (status != EC_OK) {
        return status;
    }
    (void)load(NULL); /* where it fails the weights of the firmware are in place */
#if EC_REPLAY_SAMPLES > 0
    memory.replay = replay_buffer;
    memory.replay_bytes = (uint32_t)sizeof replay_buffer;
#endif
    return ec_link_init(&link_, &table, &memory, ec_link_port_write, NULL, ec_link_port_seed());
}

static int serve(void) {
    ec_status status;
    int32_t byte;
    ec_link_port_open();
    status = start();
    if (status != EC_OK) {
        return 64 + ((int)status & 63);
    }
    while ((byte = ec_link_port_read()) >= 0) {
        const ec_link_frame *request = ec_link_receive(&link_, (uint8_t)byte);
        if (request != NULL) {
            ec_link_answer(&link_, request);
        }
    }
    return 0;
}

#if defined(EC_TRAIN_HOSTED)
int main(void) {
    return serve();
}
#else
int ec_main(void) {
    return serve();
}
#endif
