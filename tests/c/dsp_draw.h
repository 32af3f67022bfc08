/* Random numbers and guarded buffers of the firmwares that draw their shapes. SEED comes from the
 * build. */
#ifndef DSP_DRAW_H
#define DSP_DRAW_H

#include "dsp_test.h"

#include <stdint.h>
#include <string.h>

#define BYTES 65536
#define GUARD 16
#define POISON 0x5a

typedef struct guarded {
    uint8_t block[GUARD + BYTES + GUARD] __attribute__((aligned(16)));
    int32_t bytes;
} guarded;

static uint32_t state = SEED;

static inline uint32_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static inline int32_t between(int32_t low, int32_t high)
{
    uint32_t count = (uint32_t)high - (uint32_t)low + 1u;
    return (int32_t)((uint32_t)low + (draw() >> 8) % count);
}

/* Under the address sanitizer, reads and writes of the guards end the program. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
static inline void fence(const guarded *g)
{
    ASAN_POISON_MEMORY_REGION(g->block, GUARD);
    ASAN_POISON_MEMORY_REGION(g->block + GUARD + g->bytes, GUARD);
}
static inline void unfence(const guarded *g)
{
    ASAN_UNPOISON_MEMORY_REGION(g->block, sizeof g->block);
}
#else
static inline void fence(const guarded *g)
{
    (void)g;
}
static inline void unfence(const guarded *g)
{
    (void)g;
}
#endif

/* `bytes` bytes between guards, all poison. */
static inline void *reserve(guarded *g, int32_t bytes)
{
    unfence(g);
    g->bytes = bytes;
    memset(g->block, POISON, (size_t)(2 * GUARD + bytes));
    fence(g);
    return g->block + GUARD;
}

/* `bytes` random int8 between guards, or only the extremes. */
static inline int8_t *reserve_random(guarded *g, int32_t bytes)
{
    int8_t *x = reserve(g, bytes);
    int32_t extreme = between(0, 7) == 0;
    for (int32_t i = 0; i < bytes; i++) {
        x[i] = (int8_t)(extreme ? (draw() & 256 ? 127 : -128) : between(-128, 127));
    }
    return x;
}

static inline int intact(const guarded *g)
{
    int whole = 1;
    unfence(g);
    for (int32_t i = 0; i < GUARD; i++) {
        whole &= g->block[i] == POISON && g->block[GUARD + g->bytes + i] == POISON;
    }
    fence(g);
    return whole;
}

/* Sizes 1 .. TAIL drawn so far, by blocked dimension. */
#define TAIL 33
static uint8_t seen[16][TAIL + 1];

static inline void note(int32_t dimension, int32_t size)
{
    if (size <= TAIL) {
        seen[dimension][size] = 1;
    }
}

/* Prints and counts the sizes of dimensions 0 .. count - 1 that no shape had; below 5000 shapes not
 * every size can be expected. */
static inline int unseen(int32_t count)
{
    int missing = 0;
    if (COUNT < 5000) {
        return 0;
    }
    for (int32_t dimension = 0; dimension < count; dimension++) {
        for (int32_t size = 1; size <= TAIL; size++) {
            if (!seen[dimension][size]) {
                test_print_int("dimension ", dimension, "");
                test_print_int(" was never ", size, "\n");
                missing++;
            }
        }
    }
    return missing;
}

/* Prints what differs: the fields of the params, the first byte. */
static inline void report(const char *what, const int32_t *fields, size_t bytes, const int8_t *want,
                          const int8_t *got, int32_t count)
{
    test_print(what);
    for (size_t i = 0; i < bytes / 4; i++) {
        test_print_int(" ", fields[i], "");
    }
    for (int32_t i = 0; i < count; i++) {
        if (want[i] != got[i]) {
            test_print_int("\n  at ", i, "");
            test_print_int(" want ", want[i], "");
            test_print_int(" got ", got[i], "");
            break;
        }
    }
    test_print("\n");
}

#endif
