/* The inner loops of ec_depthwise_conv2d_s8_dsp.c in assembly; only that file includes this. */
#ifndef EC_DSP_DEPTHWISE_ARM_H
#define EC_DSP_DEPTHWISE_ARM_H

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define EC_DW_ASM static __attribute__((naked, noinline))

/* Four outputs at a time. r0 x, r1 w, r2 rows left, r3 bytes of a row, r4-r7 sums, r8-r11 weights,
 * r12 the channel, lr two columns. Frame: 0 outputs left, 4 step, 8 y, 12 x, 16 w, 20 rows. */
#define EC_DW_BEGIN                     \
    "push {r4-r11, lr}\n"               \
    "sub sp, sp, #28\n"                 \
    "mov r12, r1\n"                     \
    "ldm r0, {r4-r7}\n"                 \
    "strd r6, r7, [sp, #0]\n"           \
    "ldr r6, [r1, #16]\n"               \
    "strd r3, r6, [sp, #8]\n"           \
    "strd r2, r4, [sp, #16]\n"          \
    "mov r3, r5\n"                      \
    "1:\n"                              \
    "ldr r4, [r12, #12]\n"              \
    "ldr r0, [sp, #12]\n"               \
    "ldrd r1, r2, [sp, #16]\n"          \
    "mov r5, r4\n"                      \
    "mov r6, r4\n"                      \
    "mov r7, r4\n"                      \
    "2:\n"

#define EC_DW_REQUANT(acc)              \
    "smmla " acc ", " acc ", r8, r10\n" \
    "asr " acc ", " acc ", r9\n"        \
    "ssat " acc ", #8, " acc ", asr #1\n"

#define EC_DW_END(advance)              \
    "add r0, r0, r3\n"                  \
    "subs r2, r2, #1\n"                 \
    "bne 2b\n"                          \
    "ldm r12, {r8, r9, r10}\n"          \
    EC_DW_REQUANT("r4")                 \
    EC_DW_REQUANT("r5")                 \
    EC_DW_REQUANT("r6")                 \
    EC_DW_REQUANT("r7")                 \
    "ldm sp, {r0, r1, r2, r8}\n"        \
    "cmp r0, #4\n"                      \
    "blt 3f\n"                          \
    "strb r4, [r2]\n"                   \
    "strb r5, [r2, r1]\n"               \
    "add r2, r2, r1, lsl #1\n"          \
    "strb r6, [r2]\n"                   \
    "strb r7, [r2, r1]\n"               \
    "add r2, r2, r1, lsl #1\n"          \
    "add r8, r8, #" advance "\n"        \
    "subs r0, r0, #4\n"                 \
    "stm sp, {r0, r1, r2, r8}\n"        \
    "bne 1b\n"                          \
    "b 4f\n"                            \
    "3:\n"                              \
    "strb r4, [r2]\n"                   \
    "cmp r0, #2\n"                      \
    "blt 4f\n"                          \
    "strb r5, [r2, r1]\n"               \
    "beq 4f\n"                          \
    "strb r6, [r2, r1, lsl #1]\n"       \
    "4:\n"                              \
    "add sp, sp, #28\n"                 \
    "pop {r4-r11, pc}\n"

/* Weights of a row; columns c and c + 1; sum of output i and half h. */
#define EC_DW_W3 "ldmia r1!, {r8, r9, r10}\n"
#define EC_DW_W4 "ldmia r1!, {r8, r9, r10, r11}\n"
#define EC_DW_X(c) "ldr lr, [r0, #2 * " #c "]\n"
#define EC_DW_MAC(i, h) "smlad " EC_DW_A##i ", lr, " EC_DW_H##h ", " EC_DW_A##i "\n"
#define EC_DW_A0 "r4"
#define EC_DW_A1 "r5"
#define EC_DW_A2 "r6"
#define EC_DW_A3 "r7"
#define EC_DW_H0 "r8"
#define EC_DW_H1 "r9"
#define EC_DW_H2 "r10"
#define EC_DW_H3 "r11"

/* One kernel row: output i takes columns stride * i + 2 h with half h. */
#define EC_DW_ROW_3_1 \
    EC_DW_W3 \
    EC_DW_X(0) EC_DW_MAC(0, 0) \
    EC_DW_X(1) EC_DW_MAC(1, 0) \
    EC_DW_X(2) EC_DW_MAC(2, 0) EC_DW_MAC(0, 1) \
    EC_DW_X(3) EC_DW_MAC(3, 0) EC_DW_MAC(1, 1) \
    EC_DW_X(4) EC_DW_MAC(2, 1) EC_DW_MAC(0, 2) \
    EC_DW_X(5) EC_DW_MAC(3, 1) EC_DW_MAC(1, 2) \
    EC_DW_X(6) EC_DW_MAC(2, 2) \
    EC_DW_X(7) EC_DW_MAC(3, 2)

#define EC_DW_ROW_3_2 \
    EC_DW_W3 \
    EC_DW_X(0) EC_DW_MAC(0, 0) \
    EC_DW_X(2) EC_DW_MAC(1, 0) EC_DW_MAC(0, 1) \
    EC_DW_X(4) EC_DW_MAC(2, 0) EC_DW_MAC(1, 1) EC_DW_MAC(0, 2) \
    EC_DW_X(6) EC_DW_MAC(3, 0) EC_DW_MAC(2, 1) EC_DW_MAC(1, 2) \
    EC_DW_X(8) EC_DW_MAC(3, 1) EC_DW_MAC(2, 2) \
    EC_DW_X(10) EC_DW_MAC(3, 2)

#define EC_DW_ROW_4_1 \
    EC_DW_W4 \
    EC_DW_X(0) EC_DW_MAC(0, 0) \
    EC_DW_X(1) EC_DW_MAC(1, 0) \
    EC_DW_X(2) EC_DW_MAC(2, 0) EC_DW_MAC(0, 1) \
    EC_DW_X(3) EC_DW_MAC(3, 0) EC_DW_MAC(1, 1) \
    EC_DW_X(4) EC_DW_MAC(2, 1) EC_DW_MAC(0, 2) \
    EC_DW_X(5) EC_DW_MAC(3, 1) EC_DW_MAC(1, 2) \
    EC_DW_X(6) EC_DW_MAC(2, 2) EC_DW_MAC(0, 3) \
    EC_DW_X(7) EC_DW_MAC(3, 2) EC_DW_MAC(1, 3) \
    EC_DW_X(8) EC_DW_MAC(2, 3) \
    EC_DW_X(9) EC_DW_MAC(3, 3)

#define EC_DW_ROW_4_2 \
    EC_DW_W4 \
    EC_DW_X(0) EC_DW_MAC(0, 0) \
    EC_DW_X(2) EC_DW_MAC(1, 0) EC_DW_MAC(0, 1) \
    EC_DW_X(4) EC_DW_MAC(2, 0) EC_DW_MAC(1, 1) EC_DW_MAC(0, 2) \
    EC_DW_X(6) EC_DW_MAC(3, 0) EC_DW_MAC(2, 1) EC_DW_MAC(1, 2) EC_DW_MAC(0, 3) \
    EC_DW_X(8) EC_DW_MAC(3, 1) EC_DW_MAC(2, 2) EC_DW_MAC(1, 3) \
    EC_DW_X(10) EC_DW_MAC(3, 2) EC_DW_MAC(2, 3) \
    EC_DW_X(12) EC_DW_MAC(3, 3)

EC_DW_ASM void ec_dw_outputs_3_1(const ec_dw_row *row, const ec_dw_channel *c,
                                 const uint32_t *w, int8_t *y)
{
    __asm__(EC_DW_BEGIN EC_DW_ROW_3_1 EC_DW_END("8"));
}

EC_DW_ASM void ec_dw_outputs_3_2(const ec_dw_row *row, const ec_dw_channel *c,
                                 const uint32_t *w, int8_t *y)
{
    __asm__(EC_DW_BEGIN EC_DW_ROW_3_2 EC_DW_END("16"));
}

EC_DW_ASM void ec_dw_outputs_4_1(const ec_dw_row *row, const ec_dw_channel *c,
                                 const uint32_t *w, int8_t *y)
{
    __asm__(EC_DW_BEGIN EC_DW_ROW_4_1 EC_DW_END("8"));
}

EC_DW_ASM void ec_dw_outputs_4_2(const ec_dw_row *row, const ec_dw_channel *c,
                                 const uint32_t *w, int8_t *y)
{
    __asm__(EC_DW_BEGIN EC_DW_ROW_4_2 EC_DW_END("16"));
}

#pragma GCC diagnostic pop

/* The loop for a kernel of this width and stride, NULL where it has none of its own. */
static inline ec_dw_outputs ec_dw_choose(int32_t halves, int32_t stride)
{
    if (halves == 3 && stride <= 2) {
        return stride == 1 ? ec_dw_outputs_3_1 : ec_dw_outputs_3_2;
    }
    if (halves == 4 && stride <= 2) {
        return stride == 1 ? ec_dw_outputs_4_1 : ec_dw_outputs_4_2;
    }
    return NULL;
}

#endif
