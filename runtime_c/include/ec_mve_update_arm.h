/* The inner loops of ec_mve_update.h with MVE; only that header includes this. */
#ifndef EC_MVE_UPDATE_ARM_H
#define EC_MVE_UPDATE_ARM_H

/* Philox of four counters, one a lane (ec_philox.h): q0 to q3 are the words of the counters, q4 and
 * q5 the multipliers. 13 instructions a round. */
EC_MVE_APART void ec_mve_noise_draw(ec_mve_noise *noise)
{
    uint32_t k0 = noise->seed;
    uint32_t k1 = 0;
    uint32_t counter = noise->element >> 2;
    __asm__ volatile("vidup.u32 q0, %[counter], #1\n"
                     "vdup.32 q1, %[step]\n"
                     "vdup.32 q2, %[salt]\n"
                     "vmov.i32 q3, #0\n"
                     "vdup.32 q4, %[m0]\n"
                     "vdup.32 q5, %[m1]\n"
                     "mov lr, #10\n"
                     "dls lr, lr\n"
                     "1:\n"
                     "vmulh.u32 q6, q2, q5\n"
                     "vmulh.u32 q7, q0, q4\n"
                     "veor q6, q6, q1\n"
                     "veor q7, q7, q3\n"
                     "vmul.i32 q1, q2, q5\n"
                     "vmul.i32 q3, q0, q4\n"
                     "vdup.32 q0, %[k0]\n"
                     "vdup.32 q2, %[k1]\n"
                     "veor q0, q0, q6\n"
                     "veor q2, q2, q7\n"
                     "add %[k0], %[k0], %[w0]\n"
                     "add %[k1], %[k1], %[w1]\n"
                     "le lr, 1b\n"
                     "vst40.32 {q0, q1, q2, q3}, [%[to]]\n"
                     "vst41.32 {q0, q1, q2, q3}, [%[to]]\n"
                     "vst42.32 {q0, q1, q2, q3}, [%[to]]\n"
                     "vst43.32 {q0, q1, q2, q3}, [%[to]]\n"
                     : [counter] "+Te"(counter), [k0] "+r"(k0), [k1] "+r"(k1)
                     : [step] "r"(noise->step), [salt] "r"(noise->salt), [m0] "r"(0xD2511F53u),
                       [m1] "r"(0xCD9E8D57u), [w0] "r"(0x9E3779B9u), [w1] "r"(0xBB67AE85u),
                       [to] "r"(noise->words)
                     : "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "memory");
}

/* Noise of four elements. */
static inline float32x4_t ec_mve_noise_vector(const ec_mve_noise *noise, uint32x4_t words)
{
    if (noise->nearest != 0) {
        return vdupq_n_f32(0.5f);
    }
    return vmulq_n_f32(vcvtq_f32_u32(vshrq_n_u32(words, 8)), 5.9604644775390625e-8f);
}

/* Vectors of MVE take numbers below 2^-126 for 0 and say nothing of what is not finite. Neither
 * occurs: sums are whole and `scale` is normal or 0, u is 0 or at least 2^-24; where |u - step|
 * leaves 512, infinity included, the elements go one by one, and so do the last ones. */
static inline void ec_mve_update_some(const ec_mve_noise *noise, const uint32_t *words,
                                      const int8_t *w, const int32_t *sums, float scale,
                                      int32_t count, int8_t *y)
{
    float size = scale < 0.0f ? -scale : scale;
    if (!(size == 0.0f || (size >= 1.17549435e-38f && size <= 3.4028234e38f))) {
        ec_mve_update_any(noise, words, w, sums, scale, count, y);
        return;
    }
    for (; count >= 4; count -= 4, words += 4, w += 4, sums += 4, y += 4) {
        float32x4_t step = vmulq_n_f32(vcvtq_f32_s32(vldrwq_s32(sums)), scale);
        float32x4_t moved = vsubq_f32(ec_mve_noise_vector(noise, vldrwq_u32(words)), step);
        if (!(vmaxnmavq_f32(0.0f, moved) < 512.0f)) {
            ec_mve_update_any(noise, words, w, sums, scale, 4, y);
            continue;
        }
        int32x4_t next = vaddq_s32(vldrbq_s32(w), vcvtmq_s32_f32(moved));
        vstrbq_s32(y, vminq_s32(vmaxq_s32(next, vdupq_n_s32(-127)), vdupq_n_s32(127)));
    }
    if (count > 0) {
        ec_mve_update_any(noise, words, w, sums, scale, count, y);
    }
}

#endif
