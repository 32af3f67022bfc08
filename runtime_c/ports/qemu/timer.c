/*
 * timer.c: counts instructions under `qemu -icount shift=0`, where each instruction takes 1 ns
 * of virtual time.
 *
 * A timer of 16 to 32 MHz ticks once in 31.25 to 62.5 instructions. To be finer than a tick,
 * start waits for an edge, and stop reads the timer and then counts the rounds of a loop of
 * known length up to the next edge:
 *
 *     instructions = ticks * EC_QUARTERS / 4 - rounds * LOOP - overhead
 *
 * EC_QUARTERS is 4 * instructions per tick (an integer on every machine here). The overhead is
 * what start followed at once by stop gives, the mean of 16, taken at init. Resolution: one
 * round (LOOP) at each end. Measured in docs/instruction-counting.md.
 *
 * Timers: CMSDK APB timer (Arm DDI 0479, 3.2), SysTick (DDI 0403E B3.3; 24 bits, wraps are
 * counted by its interrupt), nRF51 TIMER0 (nRF51 Series Reference Manual v3.0, 18).
 */
#include "timer.h"
#include "ec_port.h"

#define REG(address) (*(volatile uint32_t *)(address))
#define CALIBRATIONS 16u

#if EC_TIMER_CMSDK
#define VALUE_ADDRESS (EC_TIMER_BASE + 4u)
#define LOOP 4
#elif EC_TIMER_SYSTICK
#define VALUE_ADDRESS 0xE000E018u
#define LOOP 4
#elif EC_TIMER_NRF51
#define CAPTURE_ADDRESS (EC_TIMER_BASE + 0x40u)
#define VALUE_ADDRESS (EC_TIMER_BASE + 0x540u)
#define LOOP 5
#else
#error "define one of EC_TIMER_CMSDK, EC_TIMER_SYSTICK, EC_TIMER_NRF51"
#endif

static uint64_t start_ticks;
static int32_t overhead;
static volatile uint32_t wraps;

void ec_timer_interrupt(void) {
    wraps++;
}

/* Rounds of a loop of LOOP instructions until the timer's register differs from `value`. */
static uint32_t rounds_to_edge(uint32_t value) {
    uint32_t rounds = 0;
    uint32_t now;
#if EC_TIMER_NRF51
    __asm volatile(
        ".syntax unified\n"
        "1: str %[one], [%[capture]]\n"
        "ldr %[now], [%[reg]]\n"
        "adds %[rounds], %[rounds], #1\n"
        "cmp %[now], %[value]\n"
        "beq 1b\n"
        : [rounds] "+l"(rounds), [now] "=&l"(now)
        : [reg] "l"(VALUE_ADDRESS), [capture] "l"(CAPTURE_ADDRESS), [one] "l"(1u),
          [value] "l"(value)
        : "cc", "memory");
#else
    __asm volatile(
        ".syntax unified\n"
        "1: ldr %[now], [%[reg]]\n"
        "adds %[rounds], %[rounds], #1\n"
        "cmp %[now], %[value]\n"
        "beq 1b\n"
        : [rounds] "+l"(rounds), [now] "=&l"(now)
        : [reg] "l"(VALUE_ADDRESS), [value] "l"(value)
        : "cc", "memory");
#endif
    return rounds;
}

static uint32_t read_value(void) {
#if EC_TIMER_NRF51
    REG(CAPTURE_ADDRESS) = 1u;
#endif
    return REG(VALUE_ADDRESS);
}

/*
 * Time in ticks, from any origin, when the register showed `value` and `wraps` stood at
 * `wrapped`.
 */
static uint64_t ticks_of(uint32_t value, uint32_t wrapped) {
#if EC_TIMER_SYSTICK
    return ((uint64_t)wrapped << 24) + (0x1000000u - value);
#elif EC_TIMER_CMSDK
    (void)wrapped;
    return (uint32_t)~value;
#else
    (void)wrapped;
    return value;
#endif
}

/* Timers of 32 bits may wrap once in between; those ticks are then 2^32 too few. */
static uint64_t elapsed(uint64_t from, uint64_t to) {
#if EC_TIMER_SYSTICK
    return to - from;
#else
    return (uint32_t)(to - from);
#endif
}

__attribute__((noinline)) void ec_port_count_start(void) {
    (void)rounds_to_edge(read_value());
    start_ticks = ticks_of(read_value(), wraps);
}

__attribute__((noinline)) uint64_t ec_port_count_stop(void) {
    uint32_t wrapped_before = wraps;
    uint32_t value = read_value();
    uint32_t wrapped = wraps;
    uint32_t rounds = rounds_to_edge(value);
    uint64_t ticks;
    int64_t instructions;
    if (wrapped != wrapped_before && value < 0x800000u) {
        /* The value was read before the wrap that has been counted since. */
        wrapped = wrapped_before;
    }
    ticks = elapsed(start_ticks, ticks_of(value, wrapped)) + 1u;
    instructions = (int64_t)(ticks * EC_QUARTERS / 4u) - (int64_t)rounds * LOOP - overhead;
    return instructions > 0 ? (uint64_t)instructions : 0u;
}

int ec_port_measures(void) {
    return 1;
}

void ec_timer_init(void) {
    uint32_t sum = 0;
    uint32_t i;
#if EC_TIMER_CMSDK
    REG(EC_TIMER_BASE + 12u) = 0u;          /* INTSTATUS */
    REG(EC_TIMER_BASE + 8u) = 0xFFFFFFFFu;  /* RELOAD */
    REG(EC_TIMER_BASE + 4u) = 0xFFFFFFFFu;  /* VALUE */
    REG(EC_TIMER_BASE) = 1u;                /* CTRL: enable, no interrupt */
#elif EC_TIMER_SYSTICK
    REG(0xE000E014u) = 0xFFFFFFu; /* RVR */
    REG(0xE000E018u) = 0u;        /* CVR: any write clears */
    REG(0xE000E010u) = 7u;        /* CSR: processor clock, interrupt, enable */
#else
    REG(EC_TIMER_BASE + 0x508u) = 3u; /* BITMODE: 32 bits */
    REG(EC_TIMER_BASE + 0x510u) = 0u; /* PRESCALER: 16 MHz */
    REG(EC_TIMER_BASE + 0x00Cu) = 1u; /* CLEAR */
    REG(EC_TIMER_BASE) = 1u;          /* START */
#endif
    for (i = 0; i < CALIBRATIONS; i++) {
        ec_port_count_start();
        sum += (uint32_t)ec_port_count_stop();
    }
    overhead = (int32_t)((sum + CALIBRATIONS / 2u) / CALIBRATIONS);
}
