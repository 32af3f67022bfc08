/* The inner loops of ec_dsp_gemm.h in assembly; only that header includes this.
 *
 * The functions are weak: several kernels may define them, one copy is linked.
 */
#ifndef EC_DSP_GEMM_ARM_H
#define EC_DSP_GEMM_ARM_H

#define EC_DSP_ASM __attribute__((naked, noinline, weak))

void ec_dsp_gemm_2x4(const ec_dsp_gemm *g, const uint32_t *w);
void ec_dsp_gemm_1x4(const ec_dsp_gemm *g, const uint32_t *w);
void ec_dsp_widen2(uint32_t *to, const int8_t *x0, const int8_t *x1, int32_t words);

/* Naked functions read their arguments from registers. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* One word of two K steps of four channels on two vectors: 16 products, 12 instructions. */
#define EC_DSP_STEP_2X4             \
    "ldmia r0!, {r2, r3}\n"         \
    "ldmia r1!, {r4, r5}\n"         \
    "smlad r6, r2, r4, r6\n"        \
    "smlad r7, r2, r5, r7\n"        \
    "sxtb16 r2, r2\n"               \
    "smlad r10, r3, r4, r10\n"      \
    "smlad r11, r3, r5, r11\n"      \
    "sxtb16 r3, r3\n"               \
    "smlad r8, r2, r4, r8\n"        \
    "smlad r9, r2, r5, r9\n"        \
    "smlad r12, r3, r4, r12\n"      \
    "smlad lr, r3, r5, lr\n"

/* The first step: bias[c0] in r6 and bias[c2] in r10 begin all sums. */
#define EC_DSP_FIRST_2X4            \
    "ldmia r0!, {r2, r3}\n"         \
    "ldmia r1!, {r4, r5}\n"         \
    "sxtb16 r8, r2\n"               \
    "sxtb16 r12, r3\n"              \
    "smlad r7, r2, r5, r6\n"        \
    "smlad r11, r3, r5, r10\n"      \
    "smlad r9, r8, r5, r6\n"        \
    "smlad lr, r12, r5, r10\n"      \
    "smlad r8, r8, r4, r6\n"        \
    "smlad r12, r12, r4, r10\n"     \
    "smlad r6, r2, r4, r6\n"        \
    "smlad r10, r3, r4, r10\n"

/* Requantises a and b by multiplier m and the n in the low byte of r1; zero2 in r5. */
#define EC_DSP_REQUANT_2(m, a, b)             \
    "lsl r4, r5, r1\n"                        \
    "smmla " a ", " a ", " m ", r4\n"         \
    "smmla " b ", " b ", " m ", r4\n"         \
    "asr " a ", " a ", r1\n"                  \
    "asr " b ", " b ", r1\n"                  \
    "ssat " a ", #8, " a ", asr #1\n"         \
    "ssat " b ", #8, " b ", asr #1\n"

/* y0[c], y1[c] for all channels of the groups in [w, w_end). Sums: r6 r7 of 256 c1 + c0, r8 r9 of
 * c0, r10 r11 of 256 c3 + c2, r12 lr of c2. The loop takes 8 of K in four steps; after the first
 * step it is entered at its second, or at its last for an odd number of fours. */
EC_DSP_ASM void ec_dsp_gemm_2x4(const ec_dsp_gemm *g, const uint32_t *w)
{
    __asm__(
        "push {r4-r11, lr}\n"
        "sub sp, sp, #28\n"
        "ldm r0, {r2-r7}\n"
        "stm sp, {r2-r7}\n"
        "mov r0, r1\n"
        "sub r2, r2, r3\n"      /* bytes of x: 16 for each four of K */
        "adr.w r4, 3f\n"
        "tst r2, #16\n"
        "it ne\n"
        "adrne.w r4, 4f\n"
        "orr r4, r4, #1\n"      /* Thumb */
        "str r4, [sp, #24]\n"
        "1:\n"
        "ldr r1, [sp, #4]\n"
        "ldmia r0!, {r6, r10}\n"
        EC_DSP_FIRST_2X4
        "ldr pc, [sp, #24]\n"
        "2:\n"
        EC_DSP_STEP_2X4
        "3:\n"
        EC_DSP_STEP_2X4
        EC_DSP_STEP_2X4
        "4:\n"
        EC_DSP_STEP_2X4
        "ldr r2, [sp, #0]\n"
        "cmp r1, r2\n"
        "bne 2b\n"
        "sub r6, r6, r8\n"
        "sub r7, r7, r9\n"
        "sub r10, r10, r12\n"
        "sub r11, r11, lr\n"
        "ldmia r0!, {r2, r3}\n"
        "add r6, r2, r6, asr #8\n"
        "add r7, r2, r7, asr #8\n"
        "add r10, r3, r10, asr #8\n"
        "add r11, r3, r11, asr #8\n"
        "ldr r5, [sp, #8]\n"
        "ldmia r0!, {r1, r2, r3}\n"
        EC_DSP_REQUANT_2("r2", "r8", "r9")
        "lsr r1, r1, #8\n"
        EC_DSP_REQUANT_2("r3", "r6", "r7")
        "ldmia r0!, {r2, r3}\n"
        "lsr r1, r1, #8\n"
        EC_DSP_REQUANT_2("r2", "r12", "lr")
        "lsr r1, r1, #8\n"
        EC_DSP_REQUANT_2("r3", "r10", "r11")
        "ldrd r2, r3, [sp, #12]\n"
        "bfi r8, r6, #8, #8\n"
        "bfi r9, r7, #8, #8\n"
        "bfi r8, r12, #16, #8\n"
        "bfi r9, lr, #16, #8\n"
        "bfi r8, r10, #24, #8\n"
        "bfi r9, r11, #24, #8\n"
        "str r8, [r2], #4\n"
        "str r9, [r3], #4\n"
        "ldr r1, [sp, #20]\n"
        "strd r2, r3, [sp, #12]\n"
        "cmp r0, r1\n"
        "bne 1b\n"
        "add sp, sp, #28\n"
        "pop {r4-r11, pc}\n");
}

/* Four of K of four channels on one vector: 16 products, 14 instructions. */
#define EC_DSP_STEP_1X4             \
    "ldmia r0!, {r2-r5}\n"          \
    "ldmia r1!, {r6, r7}\n"         \
    "smlad r8, r2, r6, r8\n"        \
    "smlad r10, r3, r6, r10\n"      \
    "sxtb16 r2, r2\n"               \
    "sxtb16 r3, r3\n"               \
    "smlad r9, r2, r6, r9\n"        \
    "smlad r11, r3, r6, r11\n"      \
    "smlad r8, r4, r7, r8\n"        \
    "smlad r10, r5, r7, r10\n"      \
    "sxtb16 r4, r4\n"               \
    "sxtb16 r5, r5\n"               \
    "smlad r9, r4, r7, r9\n"        \
    "smlad r11, r5, r7, r11\n"

#define EC_DSP_REQUANT_1(m, a)                \
    "lsl r4, r5, r1\n"                        \
    "smmla " a ", " a ", " m ", r4\n"         \
    "asr " a ", " a ", r1\n"                  \
    "ssat " a ", #8, " a ", asr #1\n"

/* y0[c] for all channels of the groups in [w, w_end). Sums: r8 of 256 c1 + c0, r9 of c0, r10 of
 * 256 c3 + c2, r11 of c2. r12 is x_end, lr y0. */
EC_DSP_ASM void ec_dsp_gemm_1x4(const ec_dsp_gemm *g, const uint32_t *w)
{
    __asm__(
        "push {r4-r11, lr}\n"
        "sub sp, sp, #20\n"
        "ldm r0, {r2-r7}\n"
        "mov r12, r2\n"
        "mov lr, r5\n"
        "str r3, [sp, #0]\n"
        "str r4, [sp, #4]\n"
        "str r7, [sp, #8]\n"
        "mov r0, r1\n"
        "sub r2, r2, r3\n"      /* bytes of x: 8 for each four of K */
        "adr r4, 2f\n"
        "tst r2, #8\n"
        "it ne\n"
        "adrne r4, 3f\n"
        "orr r4, r4, #1\n"      /* Thumb */
        "str r4, [sp, #12]\n"
        "1:\n"
        "ldr r1, [sp, #0]\n"
        "ldmia r0!, {r8, r10}\n"
        "mov r9, r8\n"
        "mov r11, r10\n"
        "ldr pc, [sp, #12]\n"
        ".p2align 2\n"
        "2:\n"
        EC_DSP_STEP_1X4
        ".p2align 2\n"
        "3:\n"
        EC_DSP_STEP_1X4
        "cmp r1, r12\n"
        "bne 2b\n"
        "sub r8, r8, r9\n"
        "sub r10, r10, r11\n"
        "ldmia r0!, {r2, r3}\n"
        "add r8, r2, r8, asr #8\n"
        "add r10, r3, r10, asr #8\n"
        "ldr r5, [sp, #4]\n"
        "ldmia r0!, {r1, r2, r3, r6, r7}\n"
        EC_DSP_REQUANT_1("r2", "r9")
        "lsr r1, r1, #8\n"
        EC_DSP_REQUANT_1("r3", "r8")
        "lsr r1, r1, #8\n"
        EC_DSP_REQUANT_1("r6", "r11")
        "lsr r1, r1, #8\n"
        EC_DSP_REQUANT_1("r7", "r10")
        "bfi r9, r8, #8, #8\n"
        "bfi r9, r11, #16, #8\n"
        "bfi r9, r10, #24, #8\n"
        "ldr r1, [sp, #8]\n"
        "str r9, [lr], #4\n"
        "cmp r0, r1\n"
        "bne 1b\n"
        "add sp, sp, #20\n"
        "pop {r4-r11, pc}\n");
}

/* to[4i..4i+3] = even bytes of x0, of x1, odd bytes of x0, of x1, for word i; words >= 1. */
EC_DSP_ASM void ec_dsp_widen2(uint32_t *to, const int8_t *x0, const int8_t *x1, int32_t words)
{
    __asm__(
        "push {r4-r7}\n"
        "1:\n"
        "ldr r6, [r1], #4\n"
        "ldr r7, [r2], #4\n"
        "sxtb16 r4, r6\n"
        "sxtb16 r5, r7\n"
        "sxtb16 r6, r6, ror #8\n"
        "sxtb16 r7, r7, ror #8\n"
        "subs r3, r3, #1\n"
        "stmia r0!, {r4-r7}\n"
        "bne 1b\n"
        "pop {r4-r7}\n"
        "bx lr\n");
}

#pragma GCC diagnostic pop

#endif
