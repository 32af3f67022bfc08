/* The inner loops of ec_mve_window.h with MVE; only that header includes this. */
#ifndef EC_MVE_WINDOW_ARM_H
#define EC_MVE_WINDOW_ARM_H

static inline void ec_mve_widen(int16_t *to, const int8_t *x, int32_t step, int32_t count,
                                int32_t zero)
{
    for (; count > 0; count--, x += step, to += EC_MVE_EIGHT) {
        vstrhq_s16(to, vsubq_n_s16(vldrbq_s16(x), (int16_t)zero));
    }
}

/* Sums of the even channels, then of the odd ones. */
typedef int32x4x2_t ec_mve_sums;

#define EC_MVE_TAP                      \
    "vldrh.16 q0, [%[x]], #16\n"        \
    "vldrb.s16 q1, [%[w]], #8\n"        \
    "vmullb.s16 q2, q0, q1\n"           \
    "vmullt.s16 q3, q0, q1\n"           \
    "vadd.i32 %q[even], %q[even], q2\n" \
    "vadd.i32 %q[odd], %q[odd], q3\n"

/* Adds a row: 8 products in 6 instructions, the loop apart. */
static inline const int8_t *ec_mve_row(ec_mve_sums *sums, const int16_t *x, const int8_t *w,
                                       int32_t taps)
{
    int32x4_t even = sums->val[0];
    int32x4_t odd = sums->val[1];
    __asm__ volatile("dls lr, %[taps]\n"
                     "1:\n" EC_MVE_TAP "le lr, 1b\n"
                     : [x] "+r"(x), [w] "+r"(w), [even] "+w"(even), [odd] "+w"(odd)
                     : [taps] "r"(taps)
                     : "lr", "q0", "q1", "q2", "q3", "memory");
    sums->val[0] = even;
    sums->val[1] = odd;
    return w;
}

static inline const int8_t *ec_mve_row_of_3(ec_mve_sums *sums, const int16_t *x, const int8_t *w)
{
    int32x4_t even = sums->val[0];
    int32x4_t odd = sums->val[1];
    __asm__ volatile(EC_MVE_TAP EC_MVE_TAP EC_MVE_TAP
                     : [x] "+r"(x), [w] "+r"(w), [even] "+w"(even), [odd] "+w"(odd)
                     :
                     : "q0", "q1", "q2", "q3", "memory");
    sums->val[0] = even;
    sums->val[1] = odd;
    return w;
}

/* The bits of `bits` where both are equal, added up. */
static inline uint32_t ec_mve_equal_halves(int16x8_t a, int16x8_t b, uint16x8_t bits)
{
    uint32_t found;
    __asm__ volatile("vpt.i16 eq, %q[a], %q[b]\n"
                     "vaddvt.u16 %[found], %q[bits]\n"
                     : [found] "=Te"(found)
                     : [a] "w"(a), [b] "w"(b), [bits] "w"(bits));
    return found;
}

/* Values beyond int16 saturate there: they lie outside of the clamp either way. */
static inline uint32_t ec_mve_window_put(const int32_t *rows, int32_t count, int32_t taps,
                                         const ec_mve_eight *to, const int16_t *x, const int8_t *w,
                                         int8_t *y)
{
    static const uint16_t powers[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    ec_mve_sums sums = {{vdupq_n_s32(0), vdupq_n_s32(0)}};
    if (taps == 3) {
        for (; count > 0; count--) {
            w = ec_mve_row_of_3(&sums, x + *rows++, w);
        }
    } else {
        for (; count > 0; count--) {
            w = ec_mve_row(&sums, x + *rows++, w, taps);
        }
    }
    if (to->plain == 0) {
        int32_t acc[EC_MVE_EIGHT];
        vstrwq_s32(acc, sums.val[0]);
        vstrwq_s32(acc + 4, sums.val[1]);
        return ec_mve_eight_any(to, acc, y);
    }
    int32x4_t even = vqaddq_s32(sums.val[0], vldrwq_s32(to->bias));
    int32x4_t odd = vqaddq_s32(sums.val[1], vldrwq_s32(to->bias + 4));
    even = vmulhq_s32(even, vldrwq_s32(to->multiplier));
    odd = vmulhq_s32(odd, vldrwq_s32(to->multiplier + 4));
    even = vrshlq_s32(even, vldrwq_s32(to->down));
    odd = vrshlq_s32(odd, vldrwq_s32(to->down + 4));
    int16x8_t value = vqmovntq_s32(vqmovnbq_s32(vuninitializedq_s16(), even), odd);
    value = vqaddq_n_s16(value, (int16_t)to->zero_out);
    int16x8_t clamped = vmaxq_s16(value, vdupq_n_s16((int16_t)to->act_min));
    clamped = vminq_s16(clamped, vdupq_n_s16((int16_t)to->act_max));
    vstrbq_s16(y, clamped);
    return ec_mve_equal_halves(value, clamped, vldrhq_u16(powers));
}

static inline void ec_mve_window_scaled(const ec_mve_window *run, const int8_t *x, const int8_t *w,
                                        const int16_t *eff, int32_t *acc)
{
    int32x4_t even = vdupq_n_s32(0);
    int32x4_t odd = vdupq_n_s32(0);
    int32_t step = run->step;
    int32_t w_step = run->w_step;
    for (int32_t r = 0; r < run->count; r++) {
        const int8_t *in = x + run->rows[r];
        const int8_t *tap = w;
        for (int32_t s = run->taps; s > 0; s--) {
            int16x8_t values = vldrbq_s16(in);
            int16x8_t weights = vldrbq_s16(tap);
            even = vaddq_s32(even, vmullbq_int_s16(values, weights));
            odd = vaddq_s32(odd, vmulltq_int_s16(values, weights));
            in += step;
            tap += w_step;
        }
        w += run->w_row;
    }
    int16x8_t factors = vldrhq_s16(eff);
    ec_mve_sums sums = {{vmulq_s32(even, vmovlbq_s16(factors)),
                         vmulq_s32(odd, vmovltq_s16(factors))}};
    vst2q_s32(acc, sums);
}

#endif
