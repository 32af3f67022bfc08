/* The inner loop of ec_dsp_grad_window.h in assembly; only that header includes this. */
#ifndef EC_DSP_GRAD_WINDOW_ARM_H
#define EC_DSP_GRAD_WINDOW_ARM_H

void ec_dsp_grad_window(const ec_dsp_grad_taps *run, const int8_t *h, const int8_t *w,
                        int32_t *sums);

/* Naked functions read their arguments from registers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* Four products, 15 instructions a tap. Sums: r4 to r7; r3: weights from channel to channel, r8
 * three times that; r9: step, r10: w_step. On the stack: run, h, w of the row, sums; above them
 * slot and rows left. */
__attribute__((naked, noinline, weak)) void ec_dsp_grad_window(const ec_dsp_grad_taps *run,
                                                               const int8_t *h, const int8_t *w,
                                                               int32_t *sums)
{
    __asm__(
        "push {r4-r11, lr}\n"
        "ldr r12, [r0, #4]\n"
        "ldr lr, [r0, #8]\n"
        "push {r0-r3, r12, lr}\n"
        "ldrd r9, r10, [r0, #20]\n"
        "ldr r3, [r0, #32]\n"
        "add r8, r3, r3, lsl #1\n"
        "mov r4, #0\n"
        "mov r5, #0\n"
        "mov r6, #0\n"
        "mov r7, #0\n"
        "1:\n"
        "ldrd r0, r1, [sp]\n"
        "ldr r12, [sp, #16]\n"
        "ldrd r11, lr, [r0, #12]\n"
        "mla r1, r12, lr, r1\n"
        "cmp r12, #0\n"
        "it eq\n"
        "ldreq r12, [r0]\n"
        "sub r12, r12, #1\n"
        "str r12, [sp, #16]\n"
        "ldr r2, [sp, #8]\n"
        "ldr lr, [r0, #28]\n"
        "add lr, r2, lr\n"
        "str lr, [sp, #8]\n"
        "2:\n"
        "ldr r12, [r1]\n"
        "ldrsb r0, [r2]\n"
        "sxtb16 lr, r12\n"
        "smlabb r4, lr, r0, r4\n"
        "ldrsb r0, [r2, r3, lsl #1]\n"
        "sxtb16 r12, r12, ror #8\n"
        "smlatb r6, lr, r0, r6\n"
        "ldrsb r0, [r2, r3]\n"
        "sub r1, r1, r9\n"
        "smlabb r5, r12, r0, r5\n"
        "ldrsb r0, [r2, r8]\n"
        "add r2, r2, r10\n"
        "smlatb r7, r12, r0, r7\n"
        "subs r11, r11, #1\n"
        "bne 2b\n"
        "ldr r12, [sp, #20]\n"
        "subs r12, r12, #1\n"
        "str r12, [sp, #20]\n"
        "bne 1b\n"
        "ldr r0, [sp, #12]\n"
        "stmia r0, {r4-r7}\n"
        "add sp, sp, #24\n"
        "pop {r4-r11, pc}\n");
}

#pragma GCC diagnostic pop

#endif
