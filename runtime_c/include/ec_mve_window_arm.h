/* The inner loops of ec_mve_window.h with MVE; only that header includes this. */
#ifndef EC_MVE_WINDOW_ARM_H
#define EC_MVE_WINDOW_ARM_H

/* Sums of the even channels, then of the odd ones; `zero` 0 is left out where it is a literal. */
static inline int32x4x2_t ec_mve_window_sums(const ec_mve_window *run, const int8_t *x,
                                             const int8_t *w, int32_t zero)
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
            if (zero != 0) {
                values = vsubq_n_s16(values, (int16_t)zero);
            }
            even = vaddq_s32(even, vmullbq_int_s16(values, weights));
            odd = vaddq_s32(odd, vmulltq_int_s16(values, weights));
            in += step;
            tap += w_step;
        }
        w += run->w_row;
    }
    int32x4x2_t sums = {{even, odd}};
    return sums;
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
static inline uint32_t ec_mve_window_put(const ec_mve_window *run, const ec_mve_eight *to,
                                         const int8_t *x, const int8_t *w, int8_t *y)
{
    static const uint16_t powers[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    int32x4x2_t sums = ec_mve_window_sums(run, x, w, run->zero);
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
    int16x8_t value = vqmovnbq_s32(vdupq_n_s16(0), even);
    value = vqaddq_n_s16(vqmovntq_s32(value, odd), (int16_t)to->zero_out);
    int16x8_t clamped = vmaxq_s16(value, vdupq_n_s16((int16_t)to->act_min));
    clamped = vminq_s16(clamped, vdupq_n_s16((int16_t)to->act_max));
    vstrbq_s16(y, clamped);
    return ec_mve_equal_halves(value, clamped, vldrhq_u16(powers));
}

static inline void ec_mve_window_scaled(const ec_mve_window *run, const int8_t *x, const int8_t *w,
                                        const int16_t *eff, int32_t *acc)
{
    int32x4x2_t sums = ec_mve_window_sums(run, x, w, 0);
    int16x8_t factors = vldrhq_s16(eff);
    sums.val[0] = vmulq_s32(sums.val[0], vmovlbq_s16(factors));
    sums.val[1] = vmulq_s32(sums.val[1], vmovltq_s16(factors));
    vst2q_s32(acc, sums);
}

#endif
