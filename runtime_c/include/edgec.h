/*
 * edgec.h: what every generated model and every port shares: status codes, placement macros and
 * the descriptor through which the port's main (ports/main.c) runs a model that it knows nothing
 * about.
 *
 * Freestanding C99. The device allocates nothing: whoever uses a model gives the instance and
 * the arenas.
 *
 * The descriptor is for test firmware and for tools; an application calls edgec_<name>_init and
 * edgec_<name>_invoke directly and links neither the descriptor nor main.c.
 */
#ifndef EDGEC_H
#define EDGEC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What init and invoke return. ec_status_text says it in words. */
typedef enum {
    EC_OK = 0,
    EC_NULL_POINTER = 1, /* an instance, arena or port pointer is NULL */
    EC_MISALIGNED = 2,   /* an arena or instance is not aligned as the model asks */
    EC_TOO_SMALL = 3,    /* an arena has fewer bytes than the model needs */
    EC_NOT_READY = 4,    /* invoke on an instance that init has not prepared */
    EC_BAD_ARGUMENT = 5, /* a value outside of its range, e.g. a Bound above its maximum */
    EC_NOT_FINITE = 6    /* the loss of a training step is not finite: nothing was changed */
} ec_status;

/* Text of a status; "unknown status" for other values. Never NULL. (ports/status.c) */
const char *ec_status_text(ec_status status);

#if defined(__GNUC__)
#define EC_ALIGN(bytes) __attribute__((aligned(bytes)))
#else
#define EC_ALIGN(bytes)
#endif

/*
 * Placement. EC_ARENA(dtcm) puts an uninitialised array into the section .bss.arena.dtcm, which
 * the linker script assigns to the memory `dtcm` and start-up does not clear; EC_WEIGHTS puts a
 * constant into .weights. On formats other than ELF both leave the choice to the compiler.
 */
#if defined(__GNUC__) && defined(__ELF__)
#define EC_ARENA(memory) __attribute__((section(".bss.arena." #memory)))
#define EC_WEIGHTS __attribute__((section(".weights")))
#else
#define EC_ARENA(memory)
#define EC_WEIGHTS
#endif

/*
 * EC_PROFILE(item) stands after each item of an invoke function, `item` counting from 0 in the
 * order of the Plan's items. It does nothing unless the build defines EC_PROFILE_ITEMS; then the
 * port notes the instructions since the last EC_PROFILE (or since the invoke began) under
 * `item`. An item may be noted several times in one invoke; its counts are added.
 */
#if defined(EC_PROFILE_ITEMS)
void ec_profile(uint32_t item);
#define EC_PROFILE(item) ec_profile(item)
#else
#define EC_PROFILE(item) ((void)0)
#endif

/*
 * One input or output: `pointer(instance)` is where its `bytes` raw bytes stand, in the device's
 * own layout.
 */
typedef struct {
    const char *name;
    void *(*pointer)(void *instance);
    uint32_t bytes;
} ec_port_desc;

/*
 * One entry. Inputs are written before each invoke (their memory may be reused while it runs);
 * outputs are valid until the next call on the instance.
 */
typedef struct {
    const char *name;
    ec_status (*invoke)(void *instance);
    const ec_port_desc *inputs;
    const ec_port_desc *outputs;
    uint32_t input_count;
    uint32_t output_count;
} ec_entry_desc;

/* One arena: static memory that the descriptor's init hands to the model. */
typedef struct {
    const char *memory; /* name of the memory in the target's TOML */
    void *start;
    uint32_t bytes;
} ec_arena_desc;

/*
 * The model. `init(instance)` prepares the instance with the arenas named here and sets all
 * state to its initial content; it may be called again to start afresh. It may not assume
 * anything of the arenas' content.
 */
typedef struct {
    const char *name;
    ec_status (*init)(void *instance);
    void *instance;
    uint32_t instance_bytes;
    const ec_entry_desc *entries;
    const ec_arena_desc *arenas;
    uint32_t entry_count;
    uint32_t arena_count;
} ec_model_desc;

/* Defined by the generated model_desc.c. */
extern const ec_model_desc ec_model;

#ifdef __cplusplus
}
#endif

#endif
