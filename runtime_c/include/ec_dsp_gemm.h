/* The inner product that conv2d, pointwise and linear share on Armv7E-M: int16 vectors in scratch
 * times a weight stream in flash, four output channels at a time.
 *
 * Weight stream (layout "dsp_o4", uint32 words). Output channels go in groups of four, the last
 * padded with zeros; K is padded with zeros to a multiple of 4. For each group c0..c3:
 *
 *   bias[c0], bias[c2]
 *   for each 4 of K, twice, (a, b) = (k, k + 2), then (k + 1, k + 3):
 *       (256 w[c1,a] + w[c0,a]) | (256 w[c1,b] + w[c0,b]) << 16,  then the same of c3 and c2
 *   bias[c1], bias[c3], n[c0] | n[c1] << 8 | n[c2] << 16 | n[c3] << 24, m[c0], m[c1], m[c2], m[c3]
 *
 * A word holds two weights of each of two channels; 256 w1 + w0 lies in int16 because |w| <= 127.
 * SMLAD of the word sums 256 S1 + S0 and SMLAD of its SXTB16 sums S0; their difference is 256 S1
 * modulo 2^32, so S1 is exact while |S1| < 2^23, that is 128 * sum |w| < 2^23 for each channel (the
 * kernel record checks it; every K <= 516 holds it). One sign extension then serves four weights,
 * and none is needed for activations, which were widened once.
 *
 * Requantisation, shift s >= 33 and n = s - 33 <= 22:
 *   zero + floor((a m + 2^(s-1)) / 2^s) = ((hi32(a m) + ((2 zero + 1) << n)) >> n) >> 1
 * which is SMMLA, ASR, and SSAT #8 with ASR #1. A narrower clamp is one pass over the finished
 * bytes.
 *
 * The functions are weak: several kernels may define them, one copy is linked.
 */
#ifndef EC_DSP_GEMM_H
#define EC_DSP_GEMM_H

#include "ec_dsp.h"

#define EC_DSP_ASM __attribute__((naked, noinline, weak))

/* What the inner loops are told; the offsets are written into the assembly. */
typedef struct ec_dsp_gemm {
    const uint32_t *x_end; /* 0: behind the vector(s) */
    const uint32_t *x;     /* 4: two vectors interleaved by words, or one */
    int32_t zero2;         /* 8: 2 * zero_out + 1 */
    int8_t *y0;            /* 12: output of the first vector, any alignment */
    int8_t *y1;            /* 16: of the second; may equal y0 where both vectors do */
    const uint32_t *w_end; /* 20: behind the last group to compute */
} ec_dsp_gemm;

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

/* Words of K. */
static inline int32_t ec_dsp_words(int32_t k)
{
    return (k + 3) >> 2;
}

/* Two vectors of k bytes, widened and interleaved, zeros up to whole words. */
static inline void ec_dsp_widen_vectors(uint32_t *to, const int8_t *x0, const int8_t *x1, int32_t k)
{
    int32_t whole = k >> 2;
    if (whole > 0) {
        ec_dsp_widen2(to, x0, x1, whole);
    }
    if ((k & 3) != 0) {
        uint32_t last0 = ec_dsp_load_part(x0 + 4 * whole, k & 3);
        uint32_t last1 = ec_dsp_load_part(x1 + 4 * whole, k & 3);
        to += 4 * whole;
        to[0] = ec_dsp_even(last0);
        to[1] = ec_dsp_even(last1);
        to[2] = ec_dsp_odd(last0);
        to[3] = ec_dsp_odd(last1);
    }
}

/* All output channels of two vectors of `words` fours in x: y0 and y1 (equal where only one
 * counts). */
static inline void ec_dsp_outputs_2(const uint32_t *x, int32_t words, const uint32_t *w,
                                    int32_t zero_out, int32_t channels, int8_t *y0, int8_t *y1)
{
    int32_t group = 4 * words + 9;
    int32_t whole = channels >> 2;
    ec_dsp_gemm g = {x + 4 * words, x, 2 * zero_out + 1, y0, y1, w + whole * group};
    if (whole > 0) {
        ec_dsp_gemm_2x4(&g, w);
    }
    int32_t rest = channels & 3;
    if (rest > 0) {
        int8_t last[8];
        w += whole * group;
        g.y0 = last;
        g.y1 = last + 4;
        g.w_end = w + group;
        ec_dsp_gemm_2x4(&g, w);
        for (int32_t i = 0; i < rest; i++) {
            y0[4 * whole + i] = last[i];
            y1[4 * whole + i] = last[4 + i];
        }
    }
}

#endif
