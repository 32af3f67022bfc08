/* The inner loop of ec_dsp_planes.h in assembly; only that header includes this. */
#ifndef EC_DSP_PLANES_ARM_H
#define EC_DSP_PLANES_ARM_H

#if EC_DSP_PLANE_STEP == 3
#define EC_DSP_PLANE_BYTES "12"
#else
#define EC_DSP_PLANE_BYTES "4"
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* One row of four channels: x at column 0, `step` bytes from pixel to pixel, `to` at the first pair
 * that is not all padding. 8 values in 15 instructions. */
static __attribute__((naked, noinline)) void
ec_dsp_planes_fill(const ec_dsp_planes *planes, const int8_t *x, int32_t step, uint32_t *to)
{
    __asm__(
        "push {r4-r11, lr}\n"
        "add r11, r0, #16\n"
        "mov r0, r1\n"
        "mov r1, r2\n"
        "mov r2, r3\n"
        "ldm r11, {r3, r7, r8, r9, lr}\n"
        "add r4, r2, r3\n"
        "add r5, r4, r3\n"
        "add r6, r5, r3\n"
        "cmp r8, #0\n"
        "beq 3f\n"
        "cmp r9, #0\n"
        "beq 1f\n"
        "mov r9, r7\n"
        "ldr r10, [r0]\n"
        "add r0, r0, r1\n"
        "b 2f\n"
        "1:\n"
        "ldr r9, [r0]\n"
        "ldr r10, [r0, r1]\n"
        "add r0, r0, r1, lsl #1\n"
        "2:\n"
        "pkhbt r11, r9, r10, lsl #16\n"
        "pkhtb r10, r10, r9, asr #16\n"
        "sxtb16 r9, r11\n"
        "sxtb16 r11, r11, ror #8\n"
        "sxtb16 r12, r10\n"
        "sxtb16 r10, r10, ror #8\n"
        "str r9, [r2], #" EC_DSP_PLANE_BYTES "\n"
        "str r11, [r4], #" EC_DSP_PLANE_BYTES "\n"
        "str r12, [r5], #" EC_DSP_PLANE_BYTES "\n"
        "str r10, [r6], #" EC_DSP_PLANE_BYTES "\n"
        "subs r8, r8, #1\n"
        "bne 1b\n"
        "3:\n"
        "cmp lr, #0\n"
        "beq 4f\n"
        "mov lr, #0\n"
        "mov r8, #1\n"
        "ldr r9, [r0]\n"
        "mov r10, r7\n"
        "b 2b\n"
        "4:\n"
        "pop {r4-r11, pc}\n");
}

#pragma GCC diagnostic pop

#endif
