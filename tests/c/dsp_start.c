/* Start-up and semihosting of the bare-metal DSP tests on QEMU's boards, and the timer of its
 * mps2-an386 (Cortex-M4). */
#include "dsp_test.h"

#include <string.h>

#define CPACR (*(volatile uint32_t *)0xE000ED88u)
#define TIMER_CTRL (*(volatile uint32_t *)0x40000000u)
#define TIMER_VALUE (*(volatile uint32_t *)0x40000004u)
#define TIMER_RELOAD (*(volatile uint32_t *)0x40000008u)

extern uint32_t stack_top[], data_load[], data_start[], data_end[], bss_start[], bss_end[];

static uint32_t semihost(uint32_t operation, const void *block)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void test_print(const char *text)
{
    (void)semihost(4u, text);
}

void test_print_int(const char *before, int32_t value, const char *after)
{
    char text[12];
    char *at = text + 11;
    uint32_t rest = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    *at = 0;
    do {
        *--at = (char)('0' + rest % 10u);
        rest /= 10u;
    } while (rest != 0);
    if (value < 0) {
        *--at = '-';
    }
    test_print(before);
    test_print(at);
    test_print(after);
}

void test_exit(int code)
{
    uint32_t block[2] = {0x20026u, (uint32_t)code};
    (void)semihost(0x20u, block);
    for (;;) {
    }
}

/* The CMSDK timer counts down at 25 MHz; under -icount shift=0 a tick is 40 instructions. */
void test_timer_start(void)
{
    TIMER_CTRL = 0;
    TIMER_RELOAD = 0xffffffffu;
    TIMER_VALUE = 0xffffffffu;
    TIMER_CTRL = 1;
}

uint32_t test_timer_instructions(void)
{
    return (0xffffffffu - TIMER_VALUE) * 40u;
}

static void fault(void)
{
    test_print("fault\n");
    test_exit(120);
}

void test_reset(void)
{
    CPACR |= 0xfu << 20;
    __asm__ volatile("dsb\n isb" ::: "memory");
    memcpy(data_start, data_load, (size_t)((char *)data_end - (char *)data_start));
    memset(bss_start, 0, (size_t)((char *)bss_end - (char *)bss_start));
    test_exit(test_main());
}

typedef void (*vector)(void);

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    vector handlers[15];
} vectors = {stack_top,
             {test_reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault,
              fault, fault, fault, fault}};
