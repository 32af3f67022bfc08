/* The inner loops of ec_mve_grad.h with MVE; only that header includes this. */
#ifndef EC_MVE_GRAD_ARM_H
#define EC_MVE_GRAD_ARM_H

/* 16 elements; the bits of a mask are the predicate of a load of bytes. */
static inline int8x16_t ec_mve_masked_vector(const int8_t *q, const uint8_t *mask, int32_t at,
                                             int32_t count)
{
    return vldrbq_z_s8(q + at, (mve_pred16_t)ec_mve_bits(mask, at, count < 16 ? count : 16));
}

static inline void ec_mve_masked(int8_t *to, const int8_t *q, const uint8_t *mask, int32_t at,
                                 int32_t count)
{
    for (; count > 0; count -= 16, at += 16, to += 16) {
        vstrbq_s8(to, ec_mve_masked_vector(q, mask, at, count));
    }
}

static inline void ec_mve_scaled(int16_t *to, int32_t step, const int8_t *q, const uint8_t *mask,
                                 const int16_t *eff, int32_t at, int32_t count)
{
    int8_t bytes[16];
    for (; count > 8; count -= 16, at += 16, eff += 16, to += 2 * step) {
        vstrbq_s8(bytes, ec_mve_masked_vector(q, mask, at, count));
        vstrhq_s16(to, vmulq_s16(vldrbq_s16(bytes), vldrhq_s16(eff)));
        int16x8_t behind = vldrhq_z_s16(eff + 8, vctp16q((uint32_t)(count - 8)));
        vstrhq_s16(to + step, vmulq_s16(vldrbq_s16(bytes + 8), behind));
    }
    if (count > 0) {
        vstrbq_s8(bytes, ec_mve_masked_vector(q, mask, at, count));
        int16x8_t last = vldrhq_z_s16(eff, vctp16q((uint32_t)count));
        vstrhq_s16(to, vmulq_s16(vldrbq_s16(bytes), last));
    }
}

static inline void ec_mve_column(int8_t *to, int32_t apart, const int8_t *from, int32_t step,
                                 int32_t count)
{
    const uint16x8_t offsets = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)step);
    for (; count >= 8; count -= 8, from += 8 * step, to += apart) {
        vstrbq_s16(to, vldrbq_gather_offset_s16(from, offsets));
    }
    if (count > 0) {
        mve_pred16_t some = vctp16q((uint32_t)count);
        vstrbq_s16(to, vldrbq_gather_offset_z_s16(from, offsets, some));
    }
}

static inline int32_t ec_mve_sum(const int8_t *h, int32_t count)
{
    int32_t sum = 0;
    for (; count > 0; count -= 16, h += 16) {
        sum = vaddvaq_s8(sum, vldrbq_z_s8(h, vctp8q((uint32_t)count)));
    }
    return sum;
}

/* VMOVLB takes the even channels, VMOVLT the odd ones; what the last of 255 sums is lies in int16.
 */
static inline void ec_mve_bias_sums(int32_t *sums, const int8_t *q, const uint8_t *mask, int32_t c,
                                    int32_t count, int32_t channels, int32_t pixels)
{
    memset(sums, 0, EC_MVE_BYTES * sizeof *sums);
    for (int32_t at = c; pixels > 0; pixels -= 255) {
        int16x8x2_t halves = {{vdupq_n_s16(0), vdupq_n_s16(0)}};
        for (int32_t n = pixels < 255 ? pixels : 255; n > 0; n--, at += channels) {
            int8x16_t h = ec_mve_masked_vector(q, mask, at, count);
            halves.val[0] = vaddq_s16(halves.val[0], vmovlbq_s8(h));
            halves.val[1] = vaddq_s16(halves.val[1], vmovltq_s8(h));
        }
        int16_t some[EC_MVE_BYTES] __attribute__((aligned(4)));
        vst2q_s16(some, halves);
        for (int32_t k = 0; k < EC_MVE_BYTES; k++) {
            sums[k] += some[k];
        }
    }
}

/* Bytes [q, end) as (q + 1) >> 1 each. */
static inline void ec_mve_halve(int8_t *q, const int8_t *end)
{
    for (; end - q >= 16; q += 16) {
        vstrbq_s8(q, vrshrq_n_s8(vldrbq_s8(q), 1));
    }
    ec_halve(q, end);
}

/* VRSHL rounds as the shift of block floating point does: half up, before any overflow. */
static inline void ec_mve_put(ec_block_float *to, const int32_t *acc, int32_t count)
{
    uint32_t largest = 0;
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        largest = vmaxavq_s32(largest, vldrwq_s32(acc + i));
    }
    const mve_pred16_t some = vctp32q((uint32_t)(count - i));
    largest = vmaxavq_s32(largest, vldrwq_z_s32(acc + i, some));
    int32_t shift = to->shift;
    while ((largest + ((1u << shift) >> 1)) >> shift > 127u) {
        shift++;
        ec_mve_halve(to->first, to->next);
    }
    to->shift = shift;
    int8_t *q = to->next;
    to->next = q + count;
    const int32x4_t down = vdupq_n_s32(-shift);
    for (i = 0; i + 4 <= count; i += 4) {
        vstrbq_s32(q + i, vrshlq_s32(vldrwq_s32(acc + i), down));
    }
    vstrbq_p_s32(q + i, vrshlq_s32(vldrwq_z_s32(acc + i, some), down), some);
}

#endif
