/*
 * ec_sample.cu: op sample, the next token of each row of logits [N, size] of type T (float, __half, __nv_bfloat16).
 *
 * settings int32[4] = (temperature * 65536, top_k, top_p * 65536, seed), counter int32[1], both read here; y int32[N].
 * Temperature 0: the first index of the largest logit. Else argmax of logit / temperature + g over the kept tokens,
 * g = -log(-log((word + 0.5) / 2^32)) with word 0 of Philox-4x32-10 for (index, counter, row, 0) under (seed, 0). Kept:
 * fewer than top_k logits are larger, and the larger ones hold less than the share top_p of the softmax of those.
 *
 * Logits in vectors of V, size a multiple of V. Grid: splits = size / (EC_SAMPLE_THREADS * V), rounded up, and N; a
 * thread holds one vector. Every block finds the largest logit of its part (or, where nothing is filtered, the largest
 * sum); where something is, it also adds up its weights exp((logit - largest) / temperature) and lists its most likely
 * tokens down to a distance at which EC_SAMPLE_HELD / splits of them fit. The last block of a row joins the lists down to
 * the nearest of those distances. Where both limits fall inside of what is listed, it chooses among that; else it reads
 * the whole row. Counts and weights by distance from the largest, in EC_SAMPLE_BUCKETS buckets, tell the bucket in which
 * a limit falls; there it goes logit by logit. Weights are added as integers of 2^-40, so that their order plays no part.
 *
 * Scratch: N * (splits * 32 + EC_SAMPLE_HELD * 8) bytes. Counters: N.
 * H200, 2026-11-21, fp16 logits of 128256: with top-k 50 121 us by one block over the row, 18.8 with lists;
 * greedy 4.1.
 */
#include "ec_ranked.cuh"
#include "ec_reduce.cuh"
#include "ec_sample_params.h"

#define EC_SAMPLE_THREADS 1024
#define EC_SAMPLE_BUCKETS 1024
#define EC_SAMPLE_LISTED 1024 /* logits of one bucket that are compared with each other */
#define EC_SAMPLE_HELD 3072   /* tokens that the lists of all blocks hold */
#define EC_SAMPLE_DISTANCES 8
#define EC_SAMPLE_PER_UNIT 64.0f /* buckets for a distance of 1 in logit / temperature */
#define EC_SAMPLE_ONE 1099511627776.0f /* 2^40 */

/* Word 0 of Philox-4x32-10. */
__device__ __forceinline__ uint32_t ec_philox(uint32_t index, uint32_t counter, uint32_t row, uint32_t seed)
{
    uint32_t c0 = index, c1 = counter, c2 = row, c3 = 0, k0 = seed, k1 = 0;
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t high0 = __umulhi(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
        const uint32_t high1 = __umulhi(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c0;
}

/* -log(-log((word + 0.5) / 2^32)), exact to float32 rounding at both ends. */
__device__ __forceinline__ float ec_gumbel(uint32_t word)
{
    const float rest = ((float)~word + 0.5f) * 2.3283064365386963e-10f;
    const float e = word >> 31 ? -log1pf(-rest) : -logf(((float)word + 0.5f) * 2.3283064365386963e-10f);
    return -logf(e);
}

struct ec_sampling {
    float inverse, largest; /* 1 / temperature; the largest logit */
    uint32_t seed, counter, row;

    __device__ __forceinline__ unsigned long long drawn(float logit, int index) const
    {
        return ec_ranked<float>(logit * inverse + ec_gumbel(ec_philox((uint32_t)index, counter, row, seed)), index);
    }
    __device__ __forceinline__ int bucket(float logit) const
    {
        return (int)fminf((largest - logit) * inverse * EC_SAMPLE_PER_UNIT, (float)(EC_SAMPLE_BUCKETS - 1));
    }
    __device__ __forceinline__ unsigned long long weight(float logit) const
    {
        return (unsigned long long)(expf((logit - largest) * inverse) * EC_SAMPLE_ONE);
    }
};

/* All logits of a row, each(f) calling f(logit, index). */
template <typename T, int V> struct ec_row_source {
    const T *row;
    int size;

    template <typename F> __device__ __forceinline__ void each(const F &f) const
    {
#pragma unroll 4
        for (int i = (int)threadIdx.x * V; i < size; i += EC_SAMPLE_THREADS * V) {
            float v[V];
            ec_load<T, V>(v, row + i);
#pragma unroll
            for (int k = 0; k < V; k++) {
                f(v[k], i + k);
            }
        }
    }
};

/* The tokens of a list of ranked logits. */
struct ec_list_source {
    const unsigned long long *list;
    int size;

    template <typename F> __device__ __forceinline__ void each(const F &f) const
    {
        for (int i = (int)threadIdx.x; i < size; i += EC_SAMPLE_THREADS) {
            f(ec_of_order((uint32_t)(list[i] >> 32)), ec_ranked_index(list[i]));
        }
    }
};

/* What lies above a logit: how many larger ones, and their weights. */
struct ec_above {
    uint32_t count;
    unsigned long long weight;
};

struct ec_sample_shared {
    unsigned long long weights[EC_SAMPLE_BUCKETS];
    uint32_t counts[EC_SAMPLE_BUCKETS];
    uint32_t listed[EC_SAMPLE_LISTED];
    unsigned long long list[EC_SAMPLE_HELD];
    unsigned long long sums[EC_SAMPLE_THREADS / 32];
    unsigned long long within;
    ec_above above;
    int bucket;
    uint32_t found, threshold;
};

/* What lies above this thread's bucket, and all buckets in `total`. For every thread. */
__device__ __forceinline__ ec_above ec_above_bucket(ec_sample_shared &s, ec_above &total)
{
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    __shared__ uint32_t counts[EC_SAMPLE_THREADS / 32];
    const ec_above own = {s.counts[threadIdx.x], s.weights[threadIdx.x]};
    unsigned long long weight = own.weight;
    uint32_t count = own.count;
#pragma unroll
    for (int step = 1; step < 32; step <<= 1) {
        const unsigned long long w = __shfl_up_sync(0xffffffffu, weight, step);
        const uint32_t c = __shfl_up_sync(0xffffffffu, count, step);
        weight += lane >= step ? w : 0;
        count += lane >= step ? c : 0;
    }
    __syncthreads();
    if (lane == 31) {
        s.sums[warp] = weight;
        counts[warp] = count;
    }
    __syncthreads();
    ec_above before = {count - own.count, weight - own.weight};
    total = {0, 0};
#pragma unroll 8
    for (int w = 0; w < EC_SAMPLE_THREADS / 32; w++) {
        before.weight += w < warp ? s.sums[w] : 0;
        before.count += w < warp ? counts[w] : 0;
        total.weight += s.sums[w];
        total.count += counts[w];
    }
    return before;
}

/* The smallest order of a logit such that what lies above it satisfies `fits` (which holds down to some logit and no
 * further). `first`: what lies above this thread's bucket. */
template <typename Source, typename Fits>
__device__ __forceinline__ uint32_t ec_limit(ec_sample_shared &s, const ec_sampling &sampling, const Source &source,
                                             ec_above first, const Fits &fits)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        s.found = 0;
        s.threshold = 0xffffffffu;
        s.bucket = 0;
    }
    __syncthreads();
    const ec_above next = {first.count + s.counts[threadIdx.x], first.weight + s.weights[threadIdx.x]};
    if (fits(first) && (!fits(next) || threadIdx.x == EC_SAMPLE_BUCKETS - 1)) {
        s.bucket = (int)threadIdx.x;
        s.above = first;
    }
    __syncthreads();
    const int bucket = s.bucket;
    const ec_above above = s.above;
    source.each([&](float logit, int index) {
        if (sampling.bucket(logit) == bucket) {
            const uint32_t place = atomicAdd(&s.found, 1u);
            if (place < EC_SAMPLE_LISTED) {
                s.listed[place] = ec_order(logit);
            }
        }
    });
    __syncthreads();
    if (s.found <= EC_SAMPLE_LISTED) {
        if (threadIdx.x < s.found) {
            const uint32_t own = s.listed[threadIdx.x];
            ec_above here = above;
            for (uint32_t k = 0; k < s.found; k++) {
                const uint32_t other = s.listed[k];
                here.count += other > own;
                here.weight += other > own ? sampling.weight(ec_of_order(other)) : 0;
            }
            if (fits(here)) {
                atomicMin(&s.threshold, own);
            }
        }
        __syncthreads();
        return s.threshold;
    }
    /* too many to list: halve the range of orders, a pass over the row each */
    uint32_t low = 0, high = 0xffffffffu;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        __syncthreads();
        if (threadIdx.x == 0) {
            s.above = above;
        }
        __syncthreads();
        ec_above here = {0, 0};
        source.each([&](float logit, int index) {
            if (sampling.bucket(logit) == bucket && ec_order(logit) > middle) {
                here.count++;
                here.weight += sampling.weight(logit);
            }
        });
        if (here.count > 0) {
            atomicAdd(&s.above.count, here.count);
            atomicAdd(&s.above.weight, here.weight);
        }
        __syncthreads();
        const bool fit = fits(s.above);
        low = fit ? low : middle + 1;
        high = fit ? middle : high;
    }
    return low;
}

/* The order from which on tokens are kept, where the source says it: `whole` is the weight of all logits (0: of the
 * source's), top_k 0 and top_p 1 leave out a limit. */
template <typename Source>
__device__ __forceinline__ bool ec_kept(ec_sample_shared &s, const ec_sampling &sampling, const Source &source,
                                        uint32_t top_k, float top_p, unsigned long long whole, uint32_t &threshold)
{
    s.counts[threadIdx.x] = 0;
    s.weights[threadIdx.x] = 0;
    __syncthreads();
    ec_above far = {0, 0}; /* most logits are in the last bucket: each thread adds up its own */
    source.each([&](float logit, int index) {
        const int b = sampling.bucket(logit);
        if (b == EC_SAMPLE_BUCKETS - 1) {
            far.count++;
            far.weight += sampling.weight(logit);
        } else {
            atomicAdd(&s.counts[b], 1u);
            atomicAdd(&s.weights[b], sampling.weight(logit));
        }
    });
    far.count = __reduce_add_sync(0xffffffffu, far.count);
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        far.weight += __shfl_xor_sync(0xffffffffu, far.weight, step);
    }
    if (threadIdx.x % 32u == 0) {
        atomicAdd(&s.counts[EC_SAMPLE_BUCKETS - 1], far.count);
        atomicAdd(&s.weights[EC_SAMPLE_BUCKETS - 1], far.weight);
    }
    __syncthreads();
    ec_above total;
    const ec_above first = ec_above_bucket(s, total);
    threshold = 0;
    whole = whole > 0 ? whole : total.weight;
    if (top_k > 0) {
        if (total.count < top_k) {
            return false;
        }
        threshold = ec_limit(s, sampling, source, first, [=](const ec_above &a) { return a.count < top_k; });
        __syncthreads();
        if (threadIdx.x == 0) {
            s.within = 0;
        }
        __syncthreads();
        unsigned long long own = 0;
        source.each([&](float logit, int index) {
            own += ec_order(logit) >= threshold ? sampling.weight(logit) : 0;
        });
        if (own > 0) {
            atomicAdd(&s.within, own);
        }
        __syncthreads();
        whole = s.within;
    }
    if (top_p < 1.0f) {
        const unsigned long long share = (unsigned long long)((double)top_p * (double)whole);
        if (total.weight < share) {
            return false;
        }
        const uint32_t other = ec_limit(s, sampling, source, first, [=](const ec_above &a) {
            return a.count == 0 || a.weight < share;
        });
        threshold = max(threshold, other);
    }
    return true;
}

/* The largest sum of logit / temperature and noise among the kept. */
template <typename Source>
__device__ __forceinline__ unsigned long long ec_drawn(const ec_sampling &sampling, const Source &source, uint32_t kept)
{
    unsigned long long best = 0;
    source.each([&](float logit, int index) {
        if (ec_order(logit) >= kept) {
            const unsigned long long here = sampling.drawn(logit, index);
            best = here > best ? here : best;
        }
    });
    return ec_block_max(best);
}

/* What a block leaves for the last one. */
struct ec_sample_part {
    unsigned long long best;
    unsigned long long weight; /* of its logits, relative to its largest */
    float lowest;              /* all its tokens from here on are listed */
    uint32_t listed;
    uint32_t pad[2];
};

/* Lists this block's most likely tokens and adds up its weights. v: the vector from element `first` on. */
template <int V>
__device__ __forceinline__ void ec_sample_list(ec_sample_shared &s, ec_sample_part &part, unsigned long long *list,
                                               uint32_t most, ec_sampling sampling, const float (&v)[V], int first,
                                               int size)
{
    const float distances[EC_SAMPLE_DISTANCES] = {0.0f, 1.0f, 2.0f, 3.5f, 5.0f, 7.0f, 9.5f, 15.0f};
    sampling.largest = ec_of_order((uint32_t)(part.best >> 32));
    if (threadIdx.x < EC_SAMPLE_DISTANCES) {
        s.counts[threadIdx.x] = 0;
    }
    if (threadIdx.x == 0) {
        s.within = 0;
        s.found = 0;
    }
    __syncthreads();
    unsigned long long weight = 0;
    uint32_t counts[EC_SAMPLE_DISTANCES] = {};
    if (first < size) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            const float u = (sampling.largest - v[k]) * sampling.inverse;
            weight += sampling.weight(v[k]);
#pragma unroll
            for (int d = 0; d < EC_SAMPLE_DISTANCES; d++) {
                counts[d] += u <= distances[d];
            }
        }
    }
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        weight += __shfl_xor_sync(0xffffffffu, weight, step);
    }
    if (threadIdx.x % 32u == 0) {
        atomicAdd(&s.within, weight);
    }
#pragma unroll
    for (int d = 0; d < EC_SAMPLE_DISTANCES; d++) {
        const uint32_t count = __reduce_add_sync(0xffffffffu, counts[d]);
        if (threadIdx.x % 32u == 0 && count > 0) {
            atomicAdd(&s.counts[d], count);
        }
    }
    __syncthreads();
    float distance = -1.0f;
#pragma unroll
    for (int d = 0; d < EC_SAMPLE_DISTANCES; d++) {
        distance = s.counts[d] <= most ? distances[d] : distance;
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        if (first < size && (sampling.largest - v[k]) * sampling.inverse <= distance) {
            __stcg(list + atomicAdd(&s.found, 1u), ec_ranked<float>(v[k], first + k));
        }
    }
    __syncthreads();
    part.weight = s.within;
    part.listed = s.found;
    /* a little above the distance, so that rounding leaves nothing out */
    part.lowest = distance < 0.0f ? INFINITY : sampling.largest - distance * 0.9999f / sampling.inverse;
}

/* Joins the lists of all blocks into s.list; false where they do not fit. Sets the largest logit and the weight of all. */
__device__ __forceinline__ bool ec_sample_join(ec_sample_shared &s, ec_sampling &sampling, const ec_sample_part *parts,
                                               const unsigned long long *lists, int splits, uint32_t most, int &count,
                                               unsigned long long &whole)
{
    const bool mine = (int)threadIdx.x < splits;
    const unsigned long long best = ec_block_max(mine ? __ldcg(&parts[threadIdx.x].best) : 0);
    sampling.largest = ec_of_order((uint32_t)(best >> 32));
    /* as unsigned numbers of the same order: the nearest of the lowest */
    const float lowest = mine ? __ldcg(&parts[threadIdx.x].lowest) : -INFINITY;
    const float from = ec_of_order((uint32_t)(ec_block_max((unsigned long long)ec_order(lowest) << 32) >> 32));
    if (threadIdx.x == 0) {
        s.found = 0;
        s.within = 0;
    }
    __syncthreads();
    if (mine) {
        const float own = ec_of_order((uint32_t)(__ldcg(&parts[threadIdx.x].best) >> 32));
        const double scale = (double)expf((own - sampling.largest) * sampling.inverse);
        atomicAdd(&s.within, (unsigned long long)(scale * (double)__ldcg(&parts[threadIdx.x].weight)));
    }
    for (int b = (int)threadIdx.x / 32; b < splits; b += EC_SAMPLE_THREADS / 32) {
        const uint32_t listed = __ldcg(&parts[b].listed);
        for (uint32_t i = threadIdx.x % 32u; i < listed; i += 32) {
            const unsigned long long ranked = __ldcg(lists + (size_t)b * most + i);
            if (ec_of_order((uint32_t)(ranked >> 32)) >= from) {
                s.list[atomicAdd(&s.found, 1u)] = ranked;
            }
        }
    }
    __syncthreads();
    count = (int)s.found;
    whole = s.within;
    return from < INFINITY;
}

template <typename T, int V>
__device__ __forceinline__ void ec_sample_body(const ec_sample_params &p, const void *logits, const void *settings,
                                               const void *counter, void *y, void *scratch, void *counters)
{
    __shared__ ec_sample_shared shared;
    const int32_t *set = (const int32_t *)settings;
    const T *row = (const T *)logits + (size_t)blockIdx.y * p.size;
    const bool greedy = set[0] <= 0;
    const uint32_t top_k = set[1] > 0 && set[1] < p.size ? (uint32_t)set[1] : 0;
    const float top_p = fminf((float)set[2] / 65536.0f, 1.0f);
    const bool filtered = !greedy && (top_k > 0 || top_p < 1.0f);
    ec_sampling sampling = {65536.0f / (float)set[0], 0.0f, (uint32_t)set[3], (uint32_t)*(const int32_t *)counter,
                            blockIdx.y};
    const int first = ((int)blockIdx.x * EC_SAMPLE_THREADS + (int)threadIdx.x) * V;
    float v[V];
    ec_sample_part part = {};
    if (first < p.size) {
        ec_load<T, V>(v, row + first);
#pragma unroll
        for (int k = 0; k < V; k++) {
            const unsigned long long here =
                greedy || filtered ? ec_ranked<float>(v[k], first + k) : sampling.drawn(v[k], first + k);
            part.best = here > part.best ? here : part.best;
        }
    }
    part.best = ec_block_max(part.best);
    const uint32_t most = EC_SAMPLE_HELD / p.splits;
    char *own = (char *)scratch + (size_t)blockIdx.y * (p.splits * sizeof(ec_sample_part) + EC_SAMPLE_HELD * 8);
    ec_sample_part *parts = (ec_sample_part *)own;
    unsigned long long *lists = (unsigned long long *)(parts + p.splits);
    if (filtered) {
        ec_sample_list<V>(shared, part, lists + (size_t)blockIdx.x * most, most, sampling, v, first, p.size);
    }
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = part;
    }
    if (!ec_last_block((int32_t *)counters + blockIdx.y, p.splits)) {
        return;
    }
    unsigned long long best = 0;
    if (filtered) {
        int count;
        uint32_t kept;
        unsigned long long whole;
        bool done = ec_sample_join(shared, sampling, parts, lists, p.splits, most, count, whole);
        if (done) {
            const ec_list_source list = {shared.list, count};
            done = ec_kept(shared, sampling, list, top_k, top_p, whole, kept);
            best = done ? ec_drawn(sampling, list, kept) : 0;
        }
        if (!done) {
            const ec_row_source<T, V> all = {row, p.size};
            ec_kept(shared, sampling, all, top_k, top_p, 0, kept);
            best = ec_drawn(sampling, all, kept);
        }
    } else {
        best = ec_block_max((int)threadIdx.x < p.splits ? __ldcg(&parts[threadIdx.x].best) : 0ull);
    }
    if (threadIdx.x == 0) {
        ((int32_t *)y)[blockIdx.y] = ec_ranked_index(best);
    }
}
