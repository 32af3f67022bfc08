/* What commands do: the hold of each kind of axis, the limits of what is sent, and the robot's next
 * state. */
#ifndef EC_AXIS_H
#define EC_AXIS_H

#include <stdbool.h>

#include "ec_control.h"

/* The commands so far: the last one, its motion and the change of that. [axes] each. */
typedef struct {
    float *last, *motion, *change;
    bool started; /* something was sent */
} ec_command;

void ec_command_clear(const ec_control_config *config, ec_command *command);
void ec_command_copy(const ec_control_config *config, ec_command *to, const ec_command *from);

/* Before anything is sent: the targets are where the robot is. */
void ec_command_start(const ec_control_config *config, ec_command *command, const float *state);

/* Send `wanted` [axes] within all limits; NULL: hold. The number of axes that were limited. */
uint32_t ec_command_send(const ec_control_config *config, ec_command *command, const float *state,
                         const float *wanted, float *sent);

/* Send the period `step` of `steps` of a stop: motions fall in equal parts to 0. `from` [axes]: the
 * motions at its start. */
void ec_command_stop(const ec_control_config *config, ec_command *command, const float *state,
                     const float *from, uint32_t step, uint32_t steps, float *sent);

/* Whether the first command can be sent within the limits: no target's axis lies further outside of
 * what its actuator takes than it may move in a period. */
bool ec_command_reaches(const ec_control_config *config, const float *state);

/* Whether the command itself is an angle: a target of an axis that wraps. */
bool ec_axis_is_angle(const ec_axis *axis);

/* From one command to another; of angles the short way. */
float ec_command_way(const ec_axis *axis, float from, float to);

/* From one position to another; of an angle the short way. */
float ec_axis_way(const ec_axis *axis, float from, float to);

/* The state a period later, in place. */
void ec_roll(const ec_control_config *config, float *state, const float *action);

#endif
