/* sample: the next token of each row of logits, portable C99.
 *
 *   temperature 0: the first index of the largest logit; else the first index of the largest
 *   logit / temperature - log(-log((word + 1 / 2) / 2^32)) over the kept tokens, word from
 *   ec_philox(index, counter, row, seed)
 *
 * Kept: fewer than top_k (0: any number) logits are larger, and the larger ones hold less than the
 * share top_p of the softmax over what top_k keeps. logits float[rows][size], finite; settings
 * int32[4] = temperature * 65536, top_k, top_p * 65536, seed; counter int32[1]; token int32[rows].
 * scratch: float[size] at a multiple of 4. The limits are found by bisection over the ordered bits
 * of floats, at most 32 passes each. Equals sample of edgec/ops/token_choice.py but for ties of
 * sums within rounding.
 */
#include <math.h>
#include <string.h>

#include "ec_decoder.h"
#include "ec_philox.h"

/* Floats in the order of unsigned integers. */
static uint32_t ec_sample_order(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

/* The least order t such that the logits above t are fewer than `count`, and
 * (weights given) weigh less than `mass`; of logits that are at least `floor`.
 */
static uint32_t ec_sample_limit(const float *logits, const float *weights, int32_t size,
                                uint32_t floor, int32_t count, double mass)
{
    uint32_t low = floor;
    uint32_t high = 0xFFFFFFFFu;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int32_t above = 0;
        double weight = 0.0;
        for (int32_t i = 0; i < size; i++) {
            if (ec_sample_order(logits[i]) > middle) {
                above++;
                weight += weights != NULL ? (double)weights[i] : 0.0;
            }
        }
        if (above < count && (weights == NULL || above == 0 || weight < mass)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static int32_t ec_sample_largest(const float *logits, int32_t size)
{
    int32_t best = 0;
    for (int32_t i = 1; i < size; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

static int32_t ec_sample_row(const float *logits, int32_t size, int32_t row,
                             const int32_t *settings, int32_t counter, float *weights)
{
    int32_t largest = ec_sample_largest(logits, size);
    if (settings[0] <= 0) {
        return largest;
    }
    double temperature = settings[0] / 65536.0;
    uint32_t limit = 0;
    if (settings[1] > 0) {
        limit = ec_sample_limit(logits, NULL, size, 0, settings[1], 0.0);
    }
    double total = 0.0;
    for (int32_t i = 0; i < size; i++) {
        double weight = exp(((double)logits[i] - (double)logits[largest]) / temperature);
        weights[i] = ec_sample_order(logits[i]) >= limit ? (float)weight : 0.0f;
        total += (double)weights[i];
    }
    if (settings[2] < 65536) {
        double mass = total * (settings[2] / 65536.0);
        limit = ec_sample_limit(logits, weights, size, limit, INT32_MAX, mass);
    }
    int32_t best = largest;
    double most = -INFINITY;
    for (int32_t i = 0; i < size; i++) {
        if (ec_sample_order(logits[i]) >= limit) {
            uint32_t word =
                ec_philox((uint32_t)i, (uint32_t)counter, (uint32_t)row, (uint32_t)settings[3]);
            double u = ((double)word + 0.5) / 4294967296.0;
            double score = (double)logits[i] / temperature - log(-log(u));
            if (score > most) {
                most = score;
                best = i;
            }
        }
    }
    return best;
}

void ec_sample_f32(const ec_sample_f32_params *p, const float *logits, const int32_t *settings,
                   const int32_t *counter, int32_t *token, void *scratch)
{
    float *weights = scratch;
    for (int32_t row = 0; row < p->rows; row++) {
        token[row] =
            ec_sample_row(logits + row * p->size, p->size, row, settings, counter[0], weights);
    }
}
