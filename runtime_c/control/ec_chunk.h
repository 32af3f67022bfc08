/* A policy's answer: checked, in the actuators' units, actions joined. */
#ifndef EC_CHUNK_H
#define EC_CHUNK_H

#include <stdbool.h>

#include "ec_control.h"

typedef struct {
    uint64_t sequence;
    int64_t taken;    /* the period in which it was taken up */
    uint32_t start;   /* with this action */
    uint32_t count;   /* actions, after joining */
    uint32_t execute; /* of which are to be played */
    bool joins;       /* the chunk before was played up to this one: it may fade out */
    float *action;    /* [horizon][axes] */
} ec_chunk;

/* Whether the loop may use the policy's numbers [horizon][axes]: finite, none beyond `absurd` times
 * its range. */
ec_control_status ec_chunk_check(const ec_control_config *config, const float *raw);

/* Fill `chunk` with the actions `raw`. `last` [axes]: the last command. With quantum q, q actions
 * become one: deltas and velocities are summed, of targets the last counts, of discrete commands
 * the last that changes anything. A sum beyond the actuator's range or a way beyond motion_max is
 * split into more actions. The number of splits. */
uint32_t ec_chunk_read(const ec_control_config *config, const float *raw, const float *last,
                       ec_chunk *chunk);

#endif
