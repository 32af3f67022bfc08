/* The inner loops of ec_mve_update.h with MVE; only that header includes this. */
#ifndef EC_MVE_UPDATE_ARM_H
#define EC_MVE_UPDATE_ARM_H

/* Philox of four counters, one a lane (ec_philox.h). */
EC_MVE_APART void ec_mve_noise_draw(ec_mve_noise *noise)
{
    const uint32x4_t m0 = vdupq_n_u32(0xD2511F53u);
    const uint32x4_t m1 = vdupq_n_u32(0xCD9E8D57u);
    uint32x4x4_t c = {{vidupq_n_u32(noise->element >> 2, 1), vdupq_n_u32(noise->step),
                       vdupq_n_u32(noise->salt), vdupq_n_u32(0)}};
    uint32_t k0 = noise->seed;
    uint32_t k1 = 0;
    for (int32_t round = 0; round < 10; round++) {
        uint32x4_t high = veorq_u32(vmulhq_u32(c.val[2], m1), c.val[1]);
        c.val[1] = vmulq_u32(c.val[2], m1);
        c.val[2] = veorq_u32(vmulhq_u32(c.val[0], m0), c.val[3]);
        c.val[3] = vmulq_u32(c.val[0], m0);
        c.val[0] = veorq_u32(high, vdupq_n_u32(k0));
        c.val[2] = veorq_u32(c.val[2], vdupq_n_u32(k1));
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    vst4q_u32(noise->words, c);
}

/* Vectors of MVE take numbers below 2^-126 for 0 and say nothing of what is not finite. Neither
 * occurs: sums are whole and `scale` is normal or 0, u is 0 or at least 2^-24; where |u - step|
 * leaves 512, infinity included, the elements go one by one. */
static inline void ec_mve_update_some(const ec_mve_noise *noise, const uint32_t *words,
                                      const int8_t *w, const int32_t *sums, float scale,
                                      int32_t count, int8_t *y)
{
    float size = scale < 0.0f ? -scale : scale;
    if (!(size == 0.0f || (size >= 1.17549435e-38f && size <= 3.4028234e38f))) {
        ec_mve_update_any(noise, words, w, sums, scale, count, y);
        return;
    }
    for (; count > 0; count -= 4, words += 4, w += 4, sums += 4, y += 4) {
        mve_pred16_t some = vctp32q((uint32_t)count);
        float32x4_t u = vdupq_n_f32(0.5f);
        if (noise->nearest == 0) {
            uint32x4_t word = vshrq_n_u32(vldrwq_z_u32(words, some), 8);
            u = vmulq_n_f32(vcvtq_f32_u32(word), 5.9604644775390625e-8f);
        }
        float32x4_t step = vmulq_n_f32(vcvtq_f32_s32(vldrwq_z_s32(sums, some)), scale);
        float32x4_t moved = vsubq_f32(u, step);
        if (vcmpltq_m_n_f32(vabsq_f32(moved), 512.0f, some) != some) {
            ec_mve_update_any(noise, words, w, sums, scale, count < 4 ? count : 4, y);
            continue;
        }
        int32x4_t next = vaddq_s32(vldrbq_z_s32(w, some), vcvtmq_s32_f32(moved));
        next = vminq_s32(vmaxq_s32(next, vdupq_n_s32(-127)), vdupq_n_s32(127));
        vstrbq_p_s32(y, next, some);
    }
}

#endif
