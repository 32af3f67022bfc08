/*
 * model_desc.c: the tiny model's descriptor. Its entries: infer (y = x + 1, then the sum so
 * far); fail (returns a status); unaligned (loads a word at an odd address); overflow (uses more
 * stack than there is); loop (a loop of exactly 3 * n instructions, n = the first four input
 * bytes); deep (uses 512 bytes of stack); real (two floats: their product plus 1, rounded twice,
 * and the first one's square root).
 */
#include "model.h"

#include <math.h>
#include <string.h>

static EC_ARENA(ram) EC_ALIGN(16) uint8_t arena[EDGEC_TINY_ARENA_BYTES];
static edgec_tiny instance;

static ec_status init(void *self) {
    return edgec_tiny_init((edgec_tiny *)self, arena, (uint32_t)sizeof arena);
}

static ec_status infer(void *self) {
    return edgec_tiny_invoke((edgec_tiny *)self);
}

static ec_status fail(void *self) {
    (void)self;
    return EC_BAD_ARGUMENT;
}

static ec_status unaligned(void *self) {
    volatile uint32_t *word = (volatile uint32_t *)(uintptr_t)(((edgec_tiny *)self)->arena + 1);
    (void)*word;
    return EC_OK;
}

static ec_status deep(void *self) {
    volatile uint8_t frame[512];
    uint32_t i;
    (void)self;
    for (i = 0; i < sizeof frame; i++) {
        frame[i] = (uint8_t)i;
    }
    return EC_OK;
}

#if defined(__arm__)
__attribute__((naked)) static void overflow_for_ever(void) {
    __asm volatile("1: push {r0-r7}\n b 1b\n");
}

static ec_status overflow(void *self) {
    (void)self;
    overflow_for_ever();
    return EC_OK;
}

static void loop_of_three(uint32_t rounds) {
    __asm volatile(".syntax unified\n1: nop\n subs %0, %0, #1\n bne 1b\n" : "+l"(rounds) : : "cc");
}
#else
static ec_status overflow(void *self) {
    (void)self;
    return EC_OK;
}

static void loop_of_three(uint32_t rounds) {
    (void)rounds;
}
#endif

static ec_status loop(void *self) {
    uint32_t rounds;
    memcpy(&rounds, edgec_tiny_x((edgec_tiny *)self), sizeof rounds);
    loop_of_three(rounds);
    return EC_OK;
}

static ec_status real(void *self) {
    float in[2];
    float out[2];
    memcpy(in, edgec_tiny_x((edgec_tiny *)self), sizeof in);
    out[0] = in[0] * in[1] + 1.0f;
    out[1] = sqrtf(in[0]);
    memcpy(edgec_tiny_y((edgec_tiny *)self), out, sizeof out);
    return EC_OK;
}

static void *x(void *self) {
    return edgec_tiny_x((edgec_tiny *)self);
}

static void *y(void *self) {
    return edgec_tiny_y((edgec_tiny *)self);
}

static const ec_port_desc inputs[] = {{"x", x, EDGEC_TINY_ELEMENTS}};
static const ec_port_desc outputs[] = {{"y", y, EDGEC_TINY_ELEMENTS + 1u}};
static const ec_entry_desc entries[] = {
    {"infer", infer, inputs, outputs, 1, 1},       {"fail", fail, inputs, outputs, 1, 1},
    {"unaligned", unaligned, inputs, outputs, 1, 1}, {"overflow", overflow, inputs, outputs, 1, 1},
    {"loop", loop, inputs, outputs, 1, 1},         {"deep", deep, inputs, outputs, 1, 1},
    {"real", real, inputs, outputs, 1, 1},
};
static const ec_arena_desc arenas[] = {{"ram", arena, (uint32_t)sizeof arena}};

const ec_model_desc ec_model = {
    "tiny",
    init,
    &instance,
    (uint32_t)sizeof instance,
    entries,
    arenas,
    sizeof entries / sizeof entries[0],
    1,
};
