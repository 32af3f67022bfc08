/* A loop with a robot, a policy, faults and a recording, all in virtual time: what tests and the
 * soak run by the million periods.
 *
 * The robot does what ec_roll says, and noise. The policy's actions are random, within `excess`
 * times their ranges. The same configuration gives the same recording, on each run and computer.
 */
#ifndef EC_TRIAL_H
#define EC_TRIAL_H

#include "ec_faults.h"
#include "ec_record.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    uint64_t seed;
    int64_t latency_least_ns, latency_most_ns; /* of the policy */
    float excess, noise;
    uint32_t reset_after; /* periods of rest, then the loop is reset; 0: never */
    uint32_t stop_every;  /* so many periods it is asked to stop; 0: never */
} ec_trial_config;

typedef struct ec_trial ec_trial;

/* `ring_bytes`: of the recording (ec_record.h). 0: they are no power of two, or too few. */
size_t ec_trial_bytes(const ec_control_config *config, size_t ring_bytes);

/* All that is pointed to stays. `memory`: aligned to 64 bytes. */
ec_control_status ec_trial_init(const ec_control_config *config, const ec_trial_config *trial,
                                const ec_fault_script *script, size_t ring_bytes, void *memory,
                                size_t bytes, ec_trial **made);

/* Run so many periods; the caller drains the recording before its ring is full. */
void ec_trial_run(ec_trial *trial, uint64_t periods);

ec_loop *ec_trial_loop(ec_trial *trial);
ec_recorder *ec_trial_recorder(ec_trial *trial);
ec_faults *ec_trial_faults(ec_trial *trial);

/* The robot's state, [states]. */
float *ec_trial_state(ec_trial *trial);

#ifdef __cplusplus
}
#endif

#endif
