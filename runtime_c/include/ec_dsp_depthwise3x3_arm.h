/* The inner loops of ec_depthwise3x3_conv2d_s8_dsp.c in assembly; only that file includes this. */
#ifndef EC_DSP_DEPTHWISE3X3_ARM_H
#define EC_DSP_DEPTHWISE3X3_ARM_H

/* Arguments: r0 the first channel, r1 y, r2 8 * rotation - 40, r3 channels >= 1. For each channel:
 * r1 its plane, r2 its y, r3-r8 the weights. */
#define EC_DW3X3_BEGIN                  \
    "push {r1-r11, lr}\n"               \
    "add r0, r0, #40\n"                 \
    "0:\n"                              \
    "ldrd r2, r9, [sp, #0]\n"           \
    "ldrd r10, r1, [r0, #20]\n"         \
    "add r9, r9, r0\n"                  \
    "ldm r9, {r3-r8}\n"                 \
    "cmp r1, r10\n"                     \
    "beq 2f\n"                          \
    "1:\n"                              \
    "ldr r12, [r0, #12]\n"              \
    "ldmia r1!, {r9, r10, r11}\n"

/* The stores of two outputs; then the last single output; then the next channel. */
#define EC_DW3X3_END                    \
    "strb r12, [r2]\n"                  \
    "strb lr, [r2, r9]\n"               \
    "add r2, r2, r9, lsl #1\n"          \
    "cmp r1, r10\n"                     \
    "bne 1b\n"                          \
    "2:\n"                              \
    "ldr r9, [r0, #28]\n"               \
    "cmp r9, #0\n"                      \
    "beq 3f\n"                          \
    "ldr r12, [r0, #12]\n"              \
    "ldmia r1!, {r9, r10, r11}\n"       \
    EC_DW3X3_FIRST                      \
    "ldm r1, {r9, r10, r11}\n"          \
    EC_DW3X3_THIRD                      \
    "ldm r0, {r9, r10, r11}\n"          \
    "smmla r12, r12, r9, r11\n"         \
    "asr r12, r12, r10\n"               \
    "ssat r12, #8, r12, asr #1\n"       \
    "strb r12, [r2]\n"                  \
    "3:\n"                              \
    "ldr r9, [sp, #0]\n"                \
    "ldr r10, [sp, #8]\n"               \
    "add r9, r9, #1\n"                  \
    "subs r10, r10, #1\n"               \
    "str r9, [sp, #0]\n"                \
    "str r10, [sp, #8]\n"               \
    "add r0, r0, #72\n"                 \
    "bne 0b\n"                          \
    "add sp, sp, #12\n"                 \
    "pop {r4-r11, pc}\n"

/* Requantises r12 (and lr); leaves the step in r9 and the end in r10. */
#define EC_DW3X3_REQUANT_2              \
    "ldm r0, {r9, r10, r11}\n"          \
    "smmla r12, r12, r9, r11\n"         \
    "smmla lr, lr, r9, r11\n"           \
    "asr r12, r12, r10\n"               \
    "asr lr, lr, r10\n"                 \
    "ssat r12, #8, r12, asr #1\n"       \
    "ssat lr, #8, lr, asr #1\n"         \
    "ldrd r9, r10, [r0, #16]\n"

/* r12 += the column pair in r9-r11 times w0, w1; r12 += its first column times w2 */
#define EC_DW3X3_FIRST                  \
    "smlad r12, r9, r3, r12\n"          \
    "smlad r12, r10, r5, r12\n"         \
    "smlad r12, r11, r7, r12\n"
#define EC_DW3X3_THIRD                  \
    "smlabt r12, r9, r4, r12\n"         \
    "smlabt r12, r10, r6, r12\n"        \
    "smlabt r12, r11, r8, r12\n"

#define EC_DW3X3_ASM static __attribute__((naked, noinline))

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* A row at stride 1: two outputs from two column pairs, 18 products in 28 instructions. */
EC_DW3X3_ASM void ec_dw3x3_row_1(const ec_dw3x3_channel *channel, int8_t *y, int32_t rotation,
                                 int32_t channels)
{
    __asm__(
        EC_DW3X3_BEGIN
        "smlatb lr, r9, r3, r12\n"
        "smlatb lr, r10, r5, lr\n"
        "smlatb lr, r11, r7, lr\n"
        EC_DW3X3_FIRST
        "ldm r1, {r9, r10, r11}\n"
        "smlad lr, r9, r4, lr\n"
        "smlad lr, r10, r6, lr\n"
        "smlad lr, r11, r8, lr\n"
        EC_DW3X3_THIRD
        EC_DW3X3_REQUANT_2
        EC_DW3X3_END);
}

/* A row at stride 2: each output from its column pair and the first column of the next. */
EC_DW3X3_ASM void ec_dw3x3_row_2(const ec_dw3x3_channel *channel, int8_t *y, int32_t rotation,
                                 int32_t channels)
{
    __asm__(
        EC_DW3X3_BEGIN
        "mov lr, r12\n"
        EC_DW3X3_FIRST
        "ldmia r1!, {r9, r10, r11}\n"
        EC_DW3X3_THIRD
        "smlad lr, r9, r3, lr\n"
        "smlad lr, r10, r5, lr\n"
        "smlad lr, r11, r7, lr\n"
        "ldm r1, {r9, r10, r11}\n"
        "smlabt lr, r9, r4, lr\n"
        "smlabt lr, r10, r6, lr\n"
        "smlabt lr, r11, r8, lr\n"
        EC_DW3X3_REQUANT_2
        EC_DW3X3_END);
}

#pragma GCC diagnostic pop

#endif
