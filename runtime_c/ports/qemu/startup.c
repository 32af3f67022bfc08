/*
 * startup.c: vector table, reset and fault reports for any Cortex-M under QEMU (Armv6-M to
 * Armv8.1-M).
 *
 * The generated linker script gives the symbols. The stack stands at the start of its RAM, so
 * that an overflow leaves the RAM and faults instead of overwriting data. Arenas are not
 * cleared.
 *
 * -DEC_TRAP_UNALIGNED=1 makes Armv7-M trap every unaligned access, as Armv6-M does
 * (CCR.UNALIGN_TRP, DDI 0403E B3.2.8): code for a Cortex-M0 then runs on a larger machine and is
 * held to the M0's rule.
 */
#include "ec_port.h"
#include "semihost.h"
#include "timer.h"

extern uint32_t ec_stack_bottom[], ec_stack_top[];
extern uint32_t ec_data_load[], ec_data_start[], ec_data_end[], ec_bss_start[], ec_bss_end[];

#define CCR (*(volatile uint32_t *)0xE000ED14u)
#define CFSR (*(volatile uint32_t *)0xE000ED28u)
#define HFSR (*(volatile uint32_t *)0xE000ED2Cu)
#define MMFAR (*(volatile uint32_t *)0xE000ED34u)
#define BFAR (*(volatile uint32_t *)0xE000ED38u)
#define CPACR (*(volatile uint32_t *)0xE000ED88u)

#define MPU_CTRL (*(volatile uint32_t *)0xE000ED94u)
#define MPU_RBAR (*(volatile uint32_t *)0xE000ED9Cu)
#define MPU_RASR (*(volatile uint32_t *)0xE000EDA0u)

#define CCR_UNALIGN_TRP (1u << 3)
#define CPACR_CP10_CP11 (0xFu << 20)
#define MPU_NO_ACCESS_8M ((22u << 1) | 1u)
#define MPU_READ_ONLY_4M ((5u << 24) | (21u << 1) | 1u)
#define MPU_ENABLE_WITH_DEFAULT_MAP 5u

/*
 * Code for Armv6-M runs on a Cortex-M3 where unaligned accesses are to trap: that one has the
 * larger registers.
 */
#define ARMV7_REGISTERS (__ARM_ARCH >= 7 || EC_TRAP_UNALIGNED)
#define ARMV7_MPU (__ARM_ARCH == 7 || EC_TRAP_UNALIGNED)

#define FRAME_BYTES 32u
#define FRAME_LR 5
#define FRAME_PC 6

void ec_reset(void);
void ec_fault_entry(void);
void ec_fault(const uint32_t *frame);

static void print_field(const char *name, uint32_t value) {
    char text[11] = "0x";
    int i;
    for (i = 0; i < 8; i++) {
        text[2 + i] = "0123456789abcdef"[(value >> (28 - 4 * i)) & 15u];
    }
    text[10] = '\0';
    ec_semihost_write0(name);
    ec_semihost_write0(text);
}

/*
 * One line that edgec/device.py decodes: fault pc= lr= sp= cfsr= hfsr= mmfar= bfar= (0 where
 * Armv6-M has none).
 */
void ec_fault(const uint32_t *frame) {
    uint32_t sp = (uint32_t)(uintptr_t)frame;
    int inside = sp >= (uint32_t)(uintptr_t)ec_stack_bottom &&
                 sp <= (uint32_t)(uintptr_t)ec_stack_top - FRAME_BYTES;
    print_field("fault pc=", inside ? frame[FRAME_PC] : 0u);
    print_field(" lr=", inside ? frame[FRAME_LR] : 0u);
    print_field(" sp=", sp);
#if ARMV7_REGISTERS
    print_field(" cfsr=", CFSR);
    print_field(" hfsr=", HFSR);
    print_field(" mmfar=", MMFAR);
    print_field(" bfar=", BFAR);
#endif
    print_field(" stack=", (uint32_t)(uintptr_t)ec_stack_bottom);
    ec_semihost_write0("\n");
    ec_semihost_exit(EC_EXIT_FAULT);
}

/* The stack may be what is broken: take its pointer, then start again at the top. */
__attribute__((naked)) void ec_fault_entry(void) {
    __asm volatile(
        "mrs r0, msp\n"
        "ldr r1, =ec_stack_top\n"
        "msr msp, r1\n"
        "ldr r1, =ec_fault\n"
        "bx r1\n"
        ".ltorg\n");
}

typedef void (*vector)(void);

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack_top;
    vector handlers[15];
} vectors = {
    ec_stack_top,
    {
        ec_reset,
        ec_fault_entry, /* NMI */
        ec_fault_entry, /* HardFault */
        ec_fault_entry, /* MemManage */
        ec_fault_entry, /* BusFault */
        ec_fault_entry, /* UsageFault */
        ec_fault_entry, /* SecureFault */
        ec_fault_entry,
        ec_fault_entry,
        ec_fault_entry,
        ec_fault_entry, /* SVCall */
        ec_fault_entry, /* DebugMonitor */
        ec_fault_entry,
        ec_fault_entry,     /* PendSV */
        ec_timer_interrupt, /* SysTick */
    },
};

/*
 * Makes a stack overflow fault (the MPS2 machines ignore accesses to addresses where nothing
 * is), and on Armv7-M writes through NULL too.
 */
static void guard_memory(void) {
#if ARMV7_MPU
    MPU_RBAR = ((uint32_t)(uintptr_t)ec_stack_bottom - 0x800000u) | 0x10u; /* VALID, region 0 */
    MPU_RASR = MPU_NO_ACCESS_8M;
    MPU_RBAR = 0x11u; /* address 0, VALID, region 1 */
    MPU_RASR = MPU_READ_ONLY_4M;
    MPU_CTRL = MPU_ENABLE_WITH_DEFAULT_MAP;
    __asm volatile("dsb\n isb" ::: "memory");
#elif __ARM_ARCH >= 8
    __asm volatile("msr msplim, %0" : : "r"(ec_stack_bottom));
#endif
}

void ec_reset(void) {
    uint32_t *to;
    const uint32_t *from = ec_data_load;
    for (to = ec_data_start; to != ec_data_end; to++) {
        *to = *from++;
    }
    for (to = ec_bss_start; to != ec_bss_end; to++) {
        *to = 0u;
    }
#if defined(__ARM_FP)
    CPACR |= CPACR_CP10_CP11;
    __asm volatile("dsb\n isb" ::: "memory");
#endif
#if EC_TRAP_UNALIGNED
    CCR |= CCR_UNALIGN_TRP;
    __asm volatile("dsb\n isb" ::: "memory");
#endif
    guard_memory();
    ec_timer_init();
    ec_semihost_exit(ec_main());
}
