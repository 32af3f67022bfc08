/* Philox-4x32-10 (Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011): the first
 * word for the counter (c0, c1, c2, 0) and the key (key, 0). Equals philox of
 * edgec/ops/token_choice.py.
 * ec_philox_words gives all four words, as random_words of edgec/ops/block_float.py.
 */
#ifndef EC_PHILOX_H
#define EC_PHILOX_H

#include <stdint.h>

static inline uint32_t ec_philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t key)
{
    uint32_t c3 = 0;
    uint32_t k1 = 0;
    for (int32_t round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c0 * 0xD2511F53u;
        uint64_t p1 = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ key;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        key += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c0;
}

static inline void ec_philox_words(uint32_t words[4], uint32_t c0, uint32_t c1, uint32_t c2,
                                   uint32_t key)
{
    uint32_t c3 = 0;
    uint32_t k1 = 0;
    for (int32_t round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c0 * 0xD2511F53u;
        uint64_t p1 = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ key;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        key += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    words[0] = c0;
    words[1] = c1;
    words[2] = c2;
    words[3] = c3;
}

#endif
