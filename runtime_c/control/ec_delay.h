/* How many periods the policy takes: a quantile of its latest latencies, rounded up.
 *
 * delay = ceil((quantile(latencies) + guard) / period). It rises at once and falls by one after
 * `calm` answers in a row that would have allowed less. The first `warm_up` answers do not count,
 * and a latency is forgotten after `window`.
 */
#ifndef EC_DELAY_H
#define EC_DELAY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EC_DELAY_MAX_WINDOW 128

typedef struct {
    uint32_t window;  /* 1 to EC_DELAY_MAX_WINDOW latencies */
    uint32_t warm_up; /* answers that do not count */
    uint32_t calm;    /* answers before the delay falls */
    double share;     /* of the quantile, above 0, at most 1 */
    int64_t guard_ns;
    uint32_t first; /* periods, until the first answer that counts */
} ec_delay_config;

typedef struct {
    int64_t latency[EC_DELAY_MAX_WINDOW];
    uint32_t count, next, skipped, calm;
    uint32_t delay;
} ec_delay;

void ec_delay_init(ec_delay *delay, const ec_delay_config *config);

/* An answer came `latency_ns` after its observation. */
void ec_delay_add(ec_delay *delay, const ec_delay_config *config, int64_t latency_ns,
                  int64_t period_ns);

#ifdef __cplusplus
}
#endif

#endif
