/* Stands between the control thread and a robot whose driver must not hold it up, such as one in
 * Python: sense and act of ec_threads.h exchange through slots, and the driver's own thread does
 * the work.
 *
 * The driver's thread posts an observation before the start; then, for each command that
 * ec_mailbox_wait gives it, it sends the command, waits until shortly before the next period, and
 * posts what it observes. In a period without a command it is told to observe all the same. The
 * control thread uses the newest observation, with the time at which it
 * was made: where the driver is late, that is an older one, and its age counts (age_max_ns). Where
 * it is a whole command late, the older of two is lost and counted: the newest is sent, and of
 * deltas a motion is missing.
 */
#ifndef EC_MAILBOX_H
#define EC_MAILBOX_H

#include "ec_threads.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ec_mailbox ec_mailbox;

size_t ec_mailbox_bytes(const ec_control_config *control, size_t payload_bytes);

/* In `memory`, aligned to 64 bytes and of ec_mailbox_bytes; NULL where it is not aligned. */
ec_mailbox *ec_mailbox_init(const ec_control_config *control, size_t payload_bytes, void *memory);

/* ec_callbacks, with `robot` the mailbox. */
int32_t ec_mailbox_sense(void *mailbox, ec_sensed *sensed);
int32_t ec_mailbox_act(void *mailbox, const ec_sent *sent);
void ec_mailbox_skip(void *mailbox, const ec_sent *sent);
void ec_mailbox_payload(void *mailbox, void *payload);

/* The driver's side: the newest command, its `action` [axes] copied; sent->action is NULL where
 * there is none in this period. False: the mailbox was closed. */
bool ec_mailbox_wait(ec_mailbox *mailbox, ec_sent *sent, float *action);

/* An observation: state [states], payload [payload_bytes]. */
void ec_mailbox_post(ec_mailbox *mailbox, const float *state, const void *payload,
                     int64_t observed_ns, uint64_t frame);

/* No more commands come: the driver's thread leaves ec_mailbox_wait. After the end of the run. */
void ec_mailbox_close(ec_mailbox *mailbox);

/* Commands that were replaced by a newer one before the driver took them. Of the driver's thread.
 */
uint64_t ec_mailbox_lost(const ec_mailbox *mailbox);

#ifdef __cplusplus
}
#endif

#endif
