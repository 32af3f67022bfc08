/*
 * link_model.h: a network of one layer that learns, behind the link: y = W x + b in float32, loss
 * half the sum of (y - onehot(label))^2, SGD of one sample. Its sample comes in two inputs that
 * stand apart. Weights are kept in RAM four times: live, saved, on their way, factory (zeros).
 */
#ifndef LINK_MODEL_H
#define LINK_MODEL_H

#include "ec_link.h"

#ifndef FEATURES
#define FEATURES 64
#endif
#ifndef CLASSES
#define CLASSES 10
#endif
#define FIRST (FEATURES / 4) /* features of the first input */
#define REST (FEATURES - FIRST)

/* What is saved: all that training changes. */
typedef struct {
    float w[CLASSES][FEATURES];
    float b[CLASSES];
    float rate;
    uint32_t steps;
} link_weights;

typedef struct {
    float first[FIRST];
    uint32_t apart[3];
    float rest[REST];
    uint32_t apart_too[3];
    float y[CLASSES];
    link_weights live;
    link_weights saved;
    link_weights staged;
    uint32_t staged_bytes;
    uint32_t has_saved;
    uint32_t dead_flash; /* save and commit fail */
    uint32_t calls;      /* of train_step, also of those that changed nothing */
    uint32_t bad_labels; /* that the link let through */
} link_model;

/* Factory state, and the table for the link. */
void link_model_init(link_model *m);
ec_link_model link_model_table(link_model *m);

#endif
