/* Counts of positive numbers in buckets of constant relative width: any percentile within 1 %,
 * nothing allocated.
 *
 * 64 buckets an octave: a number is told from its bucket's middle within 1/128. Numbers up to 64
 * are exact; those from 2^42 on count as the largest.
 */
#ifndef EC_HISTOGRAM_H
#define EC_HISTOGRAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EC_HISTOGRAM_OCTAVES 36
#define EC_HISTOGRAM_BUCKETS (64 * (EC_HISTOGRAM_OCTAVES + 1))

typedef struct {
    uint64_t count, sum;
    uint64_t least, most; /* of all numbers; 0 where there is none */
    uint32_t bucket[EC_HISTOGRAM_BUCKETS];
} ec_histogram;

/* Count `value`; below 0 counts as 0. */
void ec_histogram_add(ec_histogram *histogram, int64_t value);

/* The number below or at which `share` of all lie, 0 <= share <= 1; 0 where there is none. */
uint64_t ec_histogram_quantile(const ec_histogram *histogram, double share);

/* Add the counts of `other`. */
void ec_histogram_merge(ec_histogram *histogram, const ec_histogram *other);

#ifdef __cplusplus
}
#endif

#endif
