/* The inner loop of ec_mve_block.h with MVE; only that header includes this. */
#ifndef EC_MVE_BLOCK_ARM_H
#define EC_MVE_BLOCK_ARM_H

/* 48 products in 12 instructions. */
static inline void ec_mve_block(int32_t *first, int32_t *second, int32_t step, const int16_t *h,
                                const int8_t *panel, int32_t length)
{
    int32_t a0 = 0;
    int32_t a1 = 0;
    int32_t a2 = 0;
    int32_t a3 = 0;
    int32_t a4 = 0;
    int32_t a5 = 0;
    __asm__ volatile("wlstp.16 lr, %[length], 1f\n"
                     "2:\n"
                     "vldrb.s16 q0, [%[w]], #8\n"
                     "vldrh.16 q2, [%[h]], #16\n"
                     "vmladava.s16 %[a0], q0, q2\n"
                     "vldrb.s16 q1, [%[w]], #8\n"
                     "vmladava.s16 %[a1], q1, q2\n"
                     "vldrh.16 q3, [%[h]], #16\n"
                     "vmladava.s16 %[a2], q0, q3\n"
                     "vldrh.16 q2, [%[h]], #16\n"
                     "vmladava.s16 %[a3], q1, q3\n"
                     "vmladava.s16 %[a4], q0, q2\n"
                     "vmladava.s16 %[a5], q1, q2\n"
                     "letp lr, 2b\n"
                     "1:\n"
                     : [h] "+r"(h), [w] "+r"(panel), [a0] "+Te"(a0), [a1] "+Te"(a1),
                       [a2] "+Te"(a2), [a3] "+Te"(a3), [a4] "+Te"(a4), [a5] "+Te"(a5)
                     : [length] "r"(length)
                     : "lr", "q0", "q1", "q2", "q3", "memory");
    first[0] = a0;
    second[0] = a1;
    first[step] = a2;
    second[step] = a3;
    first[2 * step] = a4;
    second[2 * step] = a5;
}

#endif
