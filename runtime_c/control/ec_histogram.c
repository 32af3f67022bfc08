#include "ec_histogram.h"

static uint32_t bucket_of(uint64_t value) {
    if (value < 64u) {
        return (uint32_t)value;
    }
    uint32_t octave = 0;
    while (value >= 128u) { /* 64 <= value < 128 at the end: the upper seven bits */
        value >>= 1;
        octave++;
    }
    uint32_t bucket = 64u * (octave + 1u) + (uint32_t)value - 64u;
    return bucket < EC_HISTOGRAM_BUCKETS ? bucket : EC_HISTOGRAM_BUCKETS - 1u;
}

/* The middle of a bucket. */
static uint64_t value_of(uint32_t bucket) {
    if (bucket < 64u) {
        return bucket;
    }
    uint32_t octave = bucket / 64u - 1u;
    uint64_t first = (uint64_t)(64u + bucket % 64u) << octave;
    return first + (((uint64_t)1 << octave) >> 1);
}

void ec_histogram_add(ec_histogram *histogram, int64_t value) {
    uint64_t number = value > 0 ? (uint64_t)value : 0u;
    if (histogram->count == 0u || number < histogram->least) {
        histogram->least = number;
    }
    if (number > histogram->most) {
        histogram->most = number;
    }
    histogram->count++;
    histogram->sum += number;
    histogram->bucket[bucket_of(number)]++;
}

uint64_t ec_histogram_quantile(const ec_histogram *histogram, double share) {
    if (histogram->count == 0u) {
        return 0u;
    }
    double wanted = share * (double)histogram->count;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < EC_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->bucket[i];
        if (seen > 0u && (double)seen >= wanted) {
            uint64_t value = value_of(i);
            value = value < histogram->least ? histogram->least : value;
            return value > histogram->most ? histogram->most : value;
        }
    }
    return histogram->most;
}

void ec_histogram_merge(ec_histogram *histogram, const ec_histogram *other) {
    if (other->count == 0u) {
        return;
    }
    if (histogram->count == 0u || other->least < histogram->least) {
        histogram->least = other->least;
    }
    histogram->most = other->most > histogram->most ? other->most : histogram->most;
    histogram->count += other->count;
    histogram->sum += other->sum;
    for (uint32_t i = 0; i < EC_HISTOGRAM_BUCKETS; i++) {
        histogram->bucket[i] += other->bucket[i];
    }
}
