/* The inner loop of ec_dsp_trained.h in assembly; only that header includes this. */
#ifndef EC_DSP_TRAINED_ARM_H
#define EC_DSP_TRAINED_ARM_H

void ec_dsp_trained_dot(int32_t *acc, const int8_t *x, const uint32_t *w, const uint32_t *end,
                        uint32_t minus);

/* Naked functions read their arguments from registers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* 16 products, 15 instructions. Sums: r10 r11 r12 lr; minus in r0. */
__attribute__((naked, noinline, weak)) void ec_dsp_trained_dot(int32_t *acc, const int8_t *x,
                                                               const uint32_t *w,
                                                               const uint32_t *end, uint32_t minus)
{
    __asm__(
        "push {r0, r4-r11, lr}\n"
        "ldr r0, [sp, #40]\n"
        "mov r10, #0\n"
        "mov r11, #0\n"
        "mov r12, #0\n"
        "mov lr, #0\n"
        "cmp r2, r3\n"
        "beq 2f\n"
        "1:\n"
        "ldr r9, [r1], #4\n"
        "ldmia r2!, {r4-r7}\n"
        "sxtab16 r8, r0, r9\n"
        "smlad r10, r8, r4, r10\n"
        "smlad r11, r8, r5, r11\n"
        "smlad r12, r8, r6, r12\n"
        "smlad lr, r8, r7, lr\n"
        "ldmia r2!, {r4-r7}\n"
        "sxtab16 r9, r0, r9, ror #8\n"
        "smlad r10, r9, r4, r10\n"
        "smlad r11, r9, r5, r11\n"
        "smlad r12, r9, r6, r12\n"
        "smlad lr, r9, r7, lr\n"
        "cmp r2, r3\n"
        "bne 1b\n"
        "2:\n"
        "pop {r0}\n"
        "stmia r0, {r10, r11, r12, lr}\n"
        "pop {r4-r11, pc}\n");
}

#pragma GCC diagnostic pop

#endif
