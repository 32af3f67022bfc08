/* The inner loops of ec_depthwise3x3_conv2d_s8_dsp.c in portable C99; only that file includes
 * this. */
#ifndef EC_DSP_DEPTHWISE3X3_C_H
#define EC_DSP_DEPTHWISE3X3_C_H

static inline int8_t ec_dw3x3_requant(const ec_dw3x3_channel *channel, int32_t acc)
{
    int32_t sum = ec_dsp_smmla(acc, channel->multiplier, channel->rounding);
    return (int8_t)ec_dsp_saturate(sum >> channel->n >> 1);
}

/* The output whose first column is the first of the pair at x, three rows of two weight words. */
static inline int8_t ec_dw3x3_first(const ec_dw3x3_channel *channel, const uint32_t *x,
                                    const uint32_t (*w)[2])
{
    int32_t acc = channel->bias;
    for (int32_t r = 0; r < 3; r++) {
        acc = ec_dsp_smlad(x[r], w[r][0], acc);
        acc = ec_dsp_smlabt(x[3 + r], w[r][1], acc);
    }
    return ec_dw3x3_requant(channel, acc);
}

/* The output whose first column is the second of the pair at x. */
static inline int8_t ec_dw3x3_second(const ec_dw3x3_channel *channel, const uint32_t *x,
                                     const uint32_t (*w)[2])
{
    int32_t acc = channel->bias;
    for (int32_t r = 0; r < 3; r++) {
        acc = ec_dsp_smlatb(x[r], w[r][0], acc);
        acc = ec_dsp_smlad(x[3 + r], w[r][1], acc);
    }
    return ec_dw3x3_requant(channel, acc);
}

/* A row; `offset` of the weights is 8 * rotation - 40, from `multiplier` on. */
static inline void ec_dw3x3_row(const ec_dw3x3_channel *channel, int8_t *y, int32_t offset,
                                int32_t channels, int32_t stride)
{
    for (; channels > 0; channels--, channel++, y++) {
        const uint32_t(*w)[2] = (const uint32_t(*)[2])(channel->w + (offset + 40) / 8);
        const uint32_t *x = ec_dsp_follow(channel, channel->x);
        const uint32_t *end = ec_dsp_follow(channel, channel->end);
        int8_t *out = y;
        for (; x != end; x += 3 * stride, out += 2 * channel->step) {
            out[0] = ec_dw3x3_first(channel, x, w);
            out[channel->step] =
                stride == 1 ? ec_dw3x3_second(channel, x, w) : ec_dw3x3_first(channel, x + 3, w);
        }
        if (channel->odd) {
            out[0] = ec_dw3x3_first(channel, x, w);
        }
    }
}

/* A row at stride 1 and at stride 2. */
static inline void ec_dw3x3_row_1(const ec_dw3x3_channel *channel, int8_t *y, int32_t offset,
                                  int32_t channels)
{
    ec_dw3x3_row(channel, y, offset, channels, 1);
}

static inline void ec_dw3x3_row_2(const ec_dw3x3_channel *channel, int8_t *y, int32_t offset,
                                  int32_t channels)
{
    ec_dw3x3_row(channel, y, offset, channels, 2);
}

#endif
