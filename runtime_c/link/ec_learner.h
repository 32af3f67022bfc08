/*
 * ec_learner.h: what ports/train_main.c asks of the one network that it is built with. The
 * generated model_train.c answers with the functions of model.h and model_store.h on the instance
 * of ec_model; model_train.h holds the sizes.
 */
#ifndef EC_LEARNER_H
#define EC_LEARNER_H

#include "ec_link.h"
#include "ec_store.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EC_LEARNER_NO_PORT 0xFFFFFFFFu

/* Numbers of the entries in ec_model, and of the label among the inputs of the latter two. */
typedef struct {
    uint32_t infer;
    uint32_t train_step;
    uint32_t evaluate;
    uint32_t train_step_label;
    uint32_t evaluate_label;
} ec_learner_entries;

extern const ec_learner_entries ec_learner;

/* The sample stands behind the accessors already. *correct is 0 where labels are no classes. */
ec_status ec_learner_train_step(const void *label, float *loss, int32_t *correct);
ec_status ec_learner_evaluate(const void *label, float *loss, int32_t *correct);
ec_status ec_learner_set_rate(float rate);
float ec_learner_rate(void);
uint32_t ec_learner_steps(void);
ec_status ec_learner_reset(void);
ec_status ec_learner_saved_read(uint32_t offset, void *data, uint32_t bytes);
ec_store_status ec_learner_save(ec_store *store);
ec_store_status ec_learner_load(const ec_store *store);

#ifdef __cplusplus
}
#endif

#endif
