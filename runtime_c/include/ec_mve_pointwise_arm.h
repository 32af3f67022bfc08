/* The inner loops of ec_mve_pointwise.h with MVE; only that header includes this. */
#ifndef EC_MVE_POINTWISE_ARM_H
#define EC_MVE_POINTWISE_ARM_H

/* Sums of one pixel with four rows: 64 products in 10 instructions. */
static inline int32x4_t ec_mve_dot_rows(const int8_t *x, const int8_t *panel, int32_t inputs,
                                        int32_t a0, int32_t a1, int32_t a2, int32_t a3)
{
    int32x4_t acc;
    __asm__ volatile("wlstp.8 lr, %[inputs], 1f\n"
                     "2:\n"
                     "vldrb.8 q0, [%[x]], #16\n"
                     "vldrb.8 q1, [%[w]], #16\n"
                     "vmladava.s8 %[a0], q0, q1\n"
                     "vldrb.8 q2, [%[w]], #16\n"
                     "vmladava.s8 %[a1], q0, q2\n"
                     "vldrb.8 q1, [%[w]], #16\n"
                     "vmladava.s8 %[a2], q0, q1\n"
                     "vldrb.8 q2, [%[w]], #16\n"
                     "vmladava.s8 %[a3], q0, q2\n"
                     "letp lr, 2b\n"
                     "1:\n"
                     "vmov %e[acc], %[a0], %[a1]\n"
                     "vmov %f[acc], %[a2], %[a3]\n"
                     : [x] "+r"(x), [w] "+r"(panel), [a0] "+Te"(a0), [a1] "+Te"(a1),
                       [a2] "+Te"(a2), [a3] "+Te"(a3), [acc] "=w"(acc)
                     : [inputs] "r"(inputs)
                     : "lr", "q0", "q1", "q2", "memory");
    return acc;
}

static inline void ec_mve_add_rows(int32_t *sums, const int8_t *x, const int8_t *panel,
                                   int32_t inputs, int32_t start)
{
    int32x4_t acc = ec_mve_dot_rows(x, panel, inputs, start, start, start, start);
    vstrwq_s32(sums, vaddq_s32(vldrwq_s32(sums), acc));
}

/* The bits of `bits` where both are equal, added up. */
static inline uint32_t ec_mve_equal_bits(int32x4_t a, int32x4_t b, uint32x4_t bits)
{
    uint32_t found;
    __asm__ volatile("vpt.i32 eq, %q[a], %q[b]\n"
                     "vaddvt.u32 %[found], %q[bits]\n"
                     : [found] "=Te"(found)
                     : [a] "w"(a), [b] "w"(b), [bits] "w"(bits));
    return found;
}

static inline void ec_mve_pixels(const ec_mve_four *to, const ec_mve_run *run, const int8_t *panel)
{
    static const uint32_t powers[4] = {1, 2, 4, 8};
    const int32_t *start = to->start;
    const int8_t *x = run->x;
    int32_t at = run->at;
    if (to->plain == 0) {
        for (int32_t n = run->pixels; n > 0; n--, x += run->step, at += run->y_step) {
            int32_t acc[EC_MVE_ROWS];
            vstrwq_s32(acc, ec_mve_dot_rows(x, panel, run->inputs, start[0], start[1], start[2],
                                            start[3]));
            ec_mve_put_any(to, acc, run->y, run->mask, at);
        }
        return;
    }
    const int32x4_t bias = vldrwq_s32(to->bias);
    const int32x4_t multiplier = vldrwq_s32(to->multiplier);
    const int32x4_t down = vldrwq_s32(to->down);
    const int32x4_t low = vdupq_n_s32(to->act_min);
    const int32x4_t high = vdupq_n_s32(to->act_max);
    const uint32x4_t bits = vldrwq_u32(powers);
    uint8_t *mask = run->mask;
    for (int32_t n = run->pixels; n > 0; n--, x += run->step, at += run->y_step) {
        int32x4_t acc =
            ec_mve_dot_rows(x, panel, run->inputs, start[0], start[1], start[2], start[3]);
        acc = vrshlq_s32(vmulhq_s32(vqaddq_s32(acc, bias), multiplier), down);
        acc = vaddq_n_s32(acc, to->zero_out);
        int32x4_t clamped = vminq_s32(vmaxq_s32(acc, low), high);
        vstrbq_s32(run->y + at, clamped);
        if (mask != NULL) {
            ec_mve_mark(mask, at, ec_mve_equal_bits(acc, clamped, bits));
        }
    }
}

static inline void ec_mve_copy_row(int8_t *to, const int8_t *row, int32_t inputs)
{
    for (; inputs > 0; inputs -= 16, row += 16, to += 16 * EC_MVE_ROWS) {
        vstrbq_s8(to, vldrbq_z_s8(row, vctp8q((uint32_t)inputs)));
    }
}

static inline void ec_mve_copy(int8_t *to, const int8_t *from, int32_t count)
{
    __asm__ volatile("wlstp.8 lr, %[count], 1f\n"
                     "2:\n"
                     "vldrb.8 q0, [%[from]], #16\n"
                     "vstrb.8 q0, [%[to]], #16\n"
                     "letp lr, 2b\n"
                     "1:\n"
                     : [from] "+r"(from), [to] "+r"(to)
                     : [count] "r"(count)
                     : "lr", "q0", "memory");
}

static inline void ec_mve_fill(int8_t *to, int32_t value, int32_t count)
{
    const int8x16_t all = vdupq_n_s8((int8_t)value);
    __asm__ volatile("wlstp.8 lr, %[count], 1f\n"
                     "2:\n"
                     "vstrb.8 %q[all], [%[to]], #16\n"
                     "letp lr, 2b\n"
                     "1:\n"
                     : [to] "+r"(to)
                     : [count] "r"(count), [all] "w"(all)
                     : "lr", "memory");
}

static inline void ec_mve_sum_rows(int32_t *sums, const int8_t *panel, int32_t inputs)
{
    int32_t s0 = 0;
    int32_t s1 = 0;
    int32_t s2 = 0;
    int32_t s3 = 0;
    for (; inputs > 0; inputs -= 16, panel += 64) {
        s0 = vaddvaq_s8(s0, vldrbq_s8(panel));
        s1 = vaddvaq_s8(s1, vldrbq_s8(panel + 16));
        s2 = vaddvaq_s8(s2, vldrbq_s8(panel + 32));
        s3 = vaddvaq_s8(s3, vldrbq_s8(panel + 48));
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

#endif
