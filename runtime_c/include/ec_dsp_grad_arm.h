/* The inner loops of ec_dsp_grad.h in assembly; only that header includes this. */
#ifndef EC_DSP_GRAD_ARM_H
#define EC_DSP_GRAD_ARM_H

void ec_dsp_grad_dot(int32_t *sums, const uint32_t *h, const uint32_t *w, const uint32_t *end);
void ec_dsp_grad_pack(uint32_t *to, const int8_t *w, int32_t step, int32_t pairs, uint32_t minus);

/* Naked functions read their arguments from registers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* One word of each of two vectors with one of each of four columns: 16 products, 11 instructions.
 */
#define EC_DSP_GRAD_STEP            \
    "ldmia r1!, {r12, lr}\n"        \
    "ldmia r2!, {r0, r3}\n"         \
    "smlad r4, r0, r12, r4\n"       \
    "smlad r8, r0, lr, r8\n"        \
    "smlad r5, r3, r12, r5\n"       \
    "smlad r9, r3, lr, r9\n"        \
    "ldmia r2!, {r0, r3}\n"         \
    "smlad r6, r0, r12, r6\n"       \
    "smlad r10, r0, lr, r10\n"      \
    "smlad r7, r3, r12, r7\n"       \
    "smlad r11, r3, lr, r11\n"

/* Sums of the first vector: r4 to r7, of the second: r8 to r11. */
__attribute__((naked, noinline, weak)) void ec_dsp_grad_dot(int32_t *sums, const uint32_t *h,
                                                            const uint32_t *w, const uint32_t *end)
{
    __asm__(
        "push {r0, r3-r11, lr}\n"
        "mov r4, #0\n"
        "mov r5, #0\n"
        "mov r6, #0\n"
        "mov r7, #0\n"
        "mov r8, #0\n"
        "mov r9, #0\n"
        "mov r10, #0\n"
        "mov r11, #0\n"
        "1:\n"
        EC_DSP_GRAD_STEP
        EC_DSP_GRAD_STEP
        "ldr r3, [sp, #4]\n"
        "cmp r2, r3\n"
        "bne 1b\n"
        "pop {r0, r3}\n"
        "stmia r0, {r4-r11}\n"
        "pop {r4-r11, pc}\n");
}

/* 8 elements, 14 instructions. */
__attribute__((naked, noinline, weak)) void ec_dsp_grad_pack(uint32_t *to, const int8_t *w,
                                                             int32_t step, int32_t pairs,
                                                             uint32_t minus)
{
    __asm__(
        "push {r4-r9, lr}\n"
        "ldr r12, [sp, #28]\n"
        "1:\n"
        "ldr r9, [r1, r2]\n"
        "ldr r8, [r1]\n"
        "add r1, r1, r2, lsl #1\n"
        "sxtab16 r5, r12, r9\n"
        "sxtab16 r4, r12, r8\n"
        "sxtab16 r9, r12, r9, ror #8\n"
        "sxtab16 r8, r12, r8, ror #8\n"
        "pkhtb r6, r5, r4, asr #16\n"
        "pkhtb r7, r9, r8, asr #16\n"
        "pkhbt r4, r4, r5, lsl #16\n"
        "pkhbt r5, r8, r9, lsl #16\n"
        "subs r3, r3, #1\n"
        "stmia r0!, {r4-r7}\n"
        "bne 1b\n"
        "pop {r4-r9, pc}\n");
}

#pragma GCC diagnostic pop

#endif
