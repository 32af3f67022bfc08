/*
 * ec_sample.cu: op sample, the next token of each row of logits [N, size] of type T (float, __half, __nv_bfloat16).
 *
 * settings int32[4] = (temperature * 65536, top_k, top_p * 65536, seed), counter int32[1], both read here; y int32[N].
 * Temperature 0: the first index of the largest logit. Else argmax of logit / temperature + g over the kept tokens,
 * g = -log(-log((word + 0.5) / 2^32)) with word 0 of Philox-4x32-10 for (index, counter, row, 0) under (seed, 0). Kept:
 * fewer than top_k logits are larger, and the larger ones hold less than the share top_p of the softmax of those.
 *
 * Logits in vectors of V, size a multiple of V. Grid: splits, N, blocks of EC_SAMPLE_THREADS. All blocks of a row look
 * for its largest logit (or, where nothing is filtered, for the largest sum); the last of them does the rest: counts and
 * weights of the logits by their distance from the largest, in EC_SAMPLE_BUCKETS buckets; the bucket in which a limit
 * falls, logit by logit; the largest sum among the kept. Weights are added as integers of 2^-40, so that their order
 * plays no part. Scratch: N * splits * 8 bytes. Counters: N.
 */
#include "ec_ranked.cuh"
#include "ec_reduce.cuh"
#include "ec_sample_params.h"

#define EC_SAMPLE_THREADS 1024
#define EC_SAMPLE_BUCKETS 2048
#define EC_SAMPLE_LISTED 1024
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

/* f(logit, index) for the logits of a row that the `blocks` blocks of this thread's kind share. */
template <typename T, int V, typename F>
__device__ __forceinline__ void ec_each_logit(const T *row, int size, int block, int blocks, const F &f)
{
#pragma unroll 4
    for (int i = (block * EC_SAMPLE_THREADS + (int)threadIdx.x) * V; i < size; i += blocks * EC_SAMPLE_THREADS * V) {
        float v[V];
        ec_load<T, V>(v, row + i);
#pragma unroll
        for (int k = 0; k < V; k++) {
            f(v[k], i + k);
        }
    }
}

/* What lies above a logit: how many larger ones, and their weights. */
struct ec_above {
    uint32_t count;
    unsigned long long weight;
};

struct ec_sample_shared {
    unsigned long long weights[EC_SAMPLE_BUCKETS];
    uint32_t counts[EC_SAMPLE_BUCKETS];
    uint32_t listed[EC_SAMPLE_LISTED];
    unsigned long long sums[EC_SAMPLE_THREADS / 32];
    ec_above above;
    int bucket;
    uint32_t found, threshold;
};

/* Each thread's bucket pair 2t, 2t + 1: what lies above the pair. Sets `total`. For every thread. */
__device__ __forceinline__ ec_above ec_above_pair(ec_sample_shared &s, ec_above &total)
{
    const int first = 2 * (int)threadIdx.x, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    __shared__ uint32_t counts[EC_SAMPLE_THREADS / 32];
    unsigned long long weight = s.weights[first] + s.weights[first + 1];
    uint32_t count = s.counts[first] + s.counts[first + 1];
    const ec_above own = {count, weight};
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
    for (int w = 0; w < EC_SAMPLE_THREADS / 32; w++) {
        before.weight += w < warp ? s.sums[w] : 0;
        before.count += w < warp ? counts[w] : 0;
        total.weight += s.sums[w];
        total.count += counts[w];
    }
    return before;
}

/* The smallest order of a logit such that what lies above it satisfies `fits` (which holds down to some logit and no
 * further), and in s.above what lies above that. `first`: of this thread's pair of buckets. */
template <typename T, int V, typename Fits>
__device__ __forceinline__ uint32_t ec_limit(ec_sample_shared &s, const ec_sampling &sampling, const T *row, int size,
                                             ec_above first, const Fits &fits)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        s.found = 0;
        s.threshold = 0xffffffffu;
        s.bucket = 0;
    }
    __syncthreads();
    const int pair = 2 * (int)threadIdx.x;
    const ec_above second = {first.count + s.counts[pair], first.weight + s.weights[pair]};
    const ec_above third = {second.count + s.counts[pair + 1], second.weight + s.weights[pair + 1]};
    /* the last bucket that begins below the limit */
    if (fits(first) && (!fits(second) || !fits(third) || pair + 2 == EC_SAMPLE_BUCKETS)) {
        s.bucket = fits(second) ? pair + 1 : pair;
        s.above = fits(second) ? second : first;
    }
    __syncthreads();
    const int bucket = s.bucket;
    const ec_above above = s.above;
    ec_each_logit<T, V>(row, size, 0, 1, [&](float logit, int index) {
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
        ec_each_logit<T, V>(row, size, 0, 1, [&](float logit, int index) {
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

/* The order from which on tokens are kept. */
template <typename T, int V>
__device__ __forceinline__ uint32_t ec_kept(ec_sample_shared &s, const ec_sampling &sampling, const T *row, int size,
                                            uint32_t top_k, float top_p)
{
    for (int b = (int)threadIdx.x; b < EC_SAMPLE_BUCKETS; b += EC_SAMPLE_THREADS) {
        s.counts[b] = 0;
        s.weights[b] = 0;
    }
    __syncthreads();
    ec_each_logit<T, V>(row, size, 0, 1, [&](float logit, int index) {
        const int b = sampling.bucket(logit);
        atomicAdd(&s.counts[b], 1u);
        atomicAdd(&s.weights[b], sampling.weight(logit));
    });
    __syncthreads();
    ec_above total;
    const ec_above first = ec_above_pair(s, total);
    uint32_t threshold = 0;
    unsigned long long whole = total.weight;
    if (top_k > 0 && top_k < (uint32_t)size) {
        threshold = ec_limit<T, V>(s, sampling, row, size, first, [=](const ec_above &a) { return a.count < top_k; });
        __shared__ unsigned long long within;
        __syncthreads();
        if (threadIdx.x == 0) {
            within = 0;
        }
        __syncthreads();
        unsigned long long own = 0;
        ec_each_logit<T, V>(row, size, 0, 1, [&](float logit, int index) {
            own += ec_order(logit) >= threshold ? sampling.weight(logit) : 0;
        });
        if (own > 0) {
            atomicAdd(&within, own);
        }
        __syncthreads();
        whole = within;
    }
    if (top_p < 1.0f) {
        const unsigned long long share = (unsigned long long)((double)top_p * (double)whole);
        const uint32_t other = ec_limit<T, V>(s, sampling, row, size, first, [=](const ec_above &a) {
            return a.count == 0 || a.weight < share;
        });
        threshold = max(threshold, other);
    }
    return threshold;
}

template <typename T, int V>
__device__ __forceinline__ void ec_sample_body(const ec_sample_params &p, const void *logits, const void *settings,
                                               const void *counter, void *y, void *scratch, void *counters)
{
    __shared__ ec_sample_shared shared;
    const int32_t *set = (const int32_t *)settings;
    const T *row = (const T *)logits + (size_t)blockIdx.y * p.size;
    const bool greedy = set[0] <= 0;
    const bool filtered = !greedy && ((set[1] > 0 && set[1] < p.size) || set[2] < 65536);
    ec_sampling sampling = {65536.0f / (float)set[0], 0.0f, (uint32_t)set[3], (uint32_t)*(const int32_t *)counter,
                            blockIdx.y};
    unsigned long long best = 0;
    ec_each_logit<T, V>(row, p.size, (int)blockIdx.x, p.splits, [&](float logit, int index) {
        const unsigned long long here =
            greedy || filtered ? ec_ranked<float>(logit, index) : sampling.drawn(logit, index);
        best = here > best ? here : best;
    });
    best = ec_block_max(best);
    if (p.splits > 1) {
        unsigned long long *parts = (unsigned long long *)scratch + (size_t)blockIdx.y * p.splits;
        if (threadIdx.x == 0) {
            __stcg(parts + blockIdx.x, best);
        }
        if (!ec_last_block((int32_t *)counters + blockIdx.y, p.splits)) {
            return;
        }
        best = ec_block_max((int)threadIdx.x < p.splits ? __ldcg(parts + threadIdx.x) : 0ull);
    }
    if (filtered) {
        sampling.largest = ec_of_order((uint32_t)(best >> 32));
        const uint32_t kept =
            ec_kept<T, V>(shared, sampling, row, p.size, (uint32_t)max(set[1], 0), (float)set[2] / 65536.0f);
        best = 0;
        ec_each_logit<T, V>(row, p.size, 0, 1, [&](float logit, int index) {
            if (ec_order(logit) >= kept) {
                const unsigned long long here = sampling.drawn(logit, index);
                best = here > best ? here : best;
            }
        });
        best = ec_block_max(best);
    }
    if (threadIdx.x == 0) {
        ((int32_t *)y)[blockIdx.y] = ec_ranked_index(best);
    }
}
