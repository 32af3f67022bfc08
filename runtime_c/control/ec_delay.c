#include "ec_delay.h"

void ec_delay_init(ec_delay *delay, const ec_delay_config *config) {
    delay->count = 0;
    delay->next = 0;
    delay->skipped = 0;
    delay->calm = 0;
    delay->delay = config->first;
}

/* The smallest latency that at least `share` of the window does not exceed. */
static int64_t quantile(const ec_delay *delay, double share) {
    int64_t sorted[EC_DELAY_MAX_WINDOW];
    for (uint32_t i = 0; i < delay->count; i++) {
        uint32_t at = i;
        while (at > 0u && sorted[at - 1u] > delay->latency[i]) {
            sorted[at] = sorted[at - 1u];
            at--;
        }
        sorted[at] = delay->latency[i];
    }
    uint32_t rank = (uint32_t)(share * (double)delay->count);
    if ((double)rank < share * (double)delay->count) {
        rank++;
    }
    return sorted[rank > 0u ? rank - 1u : 0u];
}

void ec_delay_add(ec_delay *delay, const ec_delay_config *config, int64_t latency_ns,
                  int64_t period_ns) {
    if (delay->skipped < config->warm_up) {
        delay->skipped++;
        return;
    }
    latency_ns = latency_ns < INT64_MAX / 4 ? latency_ns : INT64_MAX / 4;
    delay->latency[delay->next] = latency_ns > 0 ? latency_ns : 0;
    delay->next = (delay->next + 1u) % config->window;
    if (delay->count < config->window) {
        delay->count++;
    }
    int64_t wanted =
        (quantile(delay, config->share) + config->guard_ns + period_ns - 1) / period_ns;
    uint32_t periods = wanted < 0 ? 0u : wanted > 1000000 ? 1000000u : (uint32_t)wanted;
    if (periods >= delay->delay) {
        delay->delay = periods;
        delay->calm = 0;
    } else if (++delay->calm >= config->calm) {
        delay->delay--;
        delay->calm = 0;
    }
}
