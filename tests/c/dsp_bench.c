/* Instructions of the DSP kernels per multiply-accumulate on the layers of the MLPerf Tiny
 * networks, by the CMSDK timer under -icount shift=0 (40 instructions a tick). A line: network,
 * kernel, shape, repeats, instructions, MACs. */
#include "dsp_test.h"
#include "ec_dsp_kernels.h"
#include "ec_kernels.h"

#include <string.h>

static int8_t x[1 << 20], y[1 << 20];
static uint32_t w[1 << 18];
static uint32_t scratch[1 << 16];

typedef struct layer {
    char kind; /* p pointwise, c conv2d, d depthwise 3x3, g any depthwise, l linear */
    int32_t repeats;
    int32_t in_h, in_w, in_c, out_c, kernel_h, kernel_w, stride, pad_top, pad_left, out_h, out_w;
} layer;

static const layer KWS[] = {
    {'c', 1, 49, 10, 1, 64, 10, 4, 2, 4, 1, 25, 5},
    {'d', 4, 25, 5, 64, 64, 3, 3, 1, 1, 1, 25, 5},
    {'p', 4, 25, 5, 64, 64, 1, 1, 1, 0, 0, 25, 5},
};
static const layer VWW[] = {
    {'c', 1, 96, 96, 3, 8, 3, 3, 2, 0, 0, 48, 48},
    {'d', 1, 48, 48, 8, 8, 3, 3, 1, 1, 1, 48, 48},
    {'p', 1, 48, 48, 8, 16, 1, 1, 1, 0, 0, 48, 48},
    {'d', 1, 48, 48, 16, 16, 3, 3, 2, 0, 0, 24, 24},
    {'p', 1, 24, 24, 16, 32, 1, 1, 1, 0, 0, 24, 24},
    {'d', 1, 24, 24, 32, 32, 3, 3, 1, 1, 1, 24, 24},
    {'p', 1, 24, 24, 32, 32, 1, 1, 1, 0, 0, 24, 24},
    {'d', 1, 24, 24, 32, 32, 3, 3, 2, 0, 0, 12, 12},
    {'p', 1, 12, 12, 32, 64, 1, 1, 1, 0, 0, 12, 12},
    {'d', 1, 12, 12, 64, 64, 3, 3, 1, 1, 1, 12, 12},
    {'p', 1, 12, 12, 64, 64, 1, 1, 1, 0, 0, 12, 12},
    {'d', 1, 12, 12, 64, 64, 3, 3, 2, 0, 0, 6, 6},
    {'p', 1, 6, 6, 64, 128, 1, 1, 1, 0, 0, 6, 6},
    {'d', 5, 6, 6, 128, 128, 3, 3, 1, 1, 1, 6, 6},
    {'p', 5, 6, 6, 128, 128, 1, 1, 1, 0, 0, 6, 6},
    {'d', 1, 6, 6, 128, 128, 3, 3, 2, 0, 0, 3, 3},
    {'p', 1, 3, 3, 128, 256, 1, 1, 1, 0, 0, 3, 3},
    {'d', 1, 3, 3, 256, 256, 3, 3, 1, 1, 1, 3, 3},
    {'p', 1, 3, 3, 256, 256, 1, 1, 1, 0, 0, 3, 3},
};
static const layer IC[] = {
    {'c', 1, 32, 32, 3, 16, 3, 3, 1, 1, 1, 32, 32},
    {'c', 2, 32, 32, 16, 16, 3, 3, 1, 1, 1, 32, 32},
    {'c', 1, 32, 32, 16, 32, 3, 3, 2, 0, 0, 16, 16},
    {'c', 1, 16, 16, 32, 32, 3, 3, 1, 1, 1, 16, 16},
    {'p', 1, 32, 32, 16, 32, 1, 1, 2, 0, 0, 16, 16},
    {'c', 1, 16, 16, 32, 64, 3, 3, 2, 0, 0, 8, 8},
    {'c', 1, 8, 8, 64, 64, 3, 3, 1, 1, 1, 8, 8},
    {'p', 1, 16, 16, 32, 64, 1, 1, 2, 0, 0, 8, 8},
};

/* linear: in_c -> out_c */
static const layer AD[] = {
    {'l', 1, 1, 1, 640, 128, 1, 1, 1, 0, 0, 1, 1}, {'l', 6, 1, 1, 128, 128, 1, 1, 1, 0, 0, 1, 1},
    {'l', 1, 1, 1, 128, 8, 1, 1, 1, 0, 0, 1, 1},   {'l', 1, 1, 1, 8, 128, 1, 1, 1, 0, 0, 1, 1},
    {'l', 1, 1, 1, 128, 640, 1, 1, 1, 0, 0, 1, 1},
};
/* depthwise of inverted bottlenecks */
static const layer LARGE[] = {
    {'g', 1, 20, 20, 48, 48, 5, 5, 1, 2, 2, 20, 20},
    {'g', 1, 20, 20, 48, 48, 5, 5, 2, 1, 1, 10, 10},
    {'g', 1, 10, 10, 96, 96, 7, 7, 1, 3, 3, 10, 10},
    {'g', 1, 20, 20, 48, 48, 7, 7, 2, 2, 2, 10, 10},
};

static void pools(void)
{
    const ec_pool2d_params max = {32, 32, 32, 16, 16, 2, 2, 2, 2, 0, 0, 1, 1, 0, 3, 32, 16};
    const ec_pool2d_params average = {25, 5, 64, 1, 1, 25, 5, 25, 5, 0, 0, 1, 1, 0, 3, 25, 1};
    ec_binary_s8_params sum;
    memset(&sum, 0, sizeof sum);
    sum.d0 = sum.d1 = sum.d2 = sum.d3 = sum.d4 = 1;
    sum.d5 = 512;
    sum.a5 = sum.b5 = 1;
    sum.shift = 20;
    sum.act_min = -128;
    sum.act_max = 127;
    sum.row_a = sum.row_b = sum.row_y = 512;
    sum.ring_0 = sum.ring_1 = sum.ring_y = 32;
    test_timer_start();
    ec_max_pool2d_s8_dsp(&max, 0, 16, x, y);
    test_print_int("max_pool 2x2 32x32x32: ", (int32_t)test_timer_instructions(),
                   " / 32768 inputs\n");
    test_timer_start();
    ec_avg_pool2d_s8_dsp(&average, 0, 1, x, y);
    test_print_int("avg_pool 25x5x64: ", (int32_t)test_timer_instructions(), " / 8000 inputs\n");
    test_timer_start();
    ec_add_rows_s8_dsp(&sum, 0, 32, x, x + 16384, y);
    test_print_int("add 32x32x16: ", (int32_t)test_timer_instructions(), " / 16384 outputs\n");
}

static void bench(const char *network, const layer *layers, uint32_t count)
{
    uint32_t all_macs = 0;
    uint32_t all = 0;
    for (uint32_t i = 0; i < count; i++) {
        const layer *l = layers + i;
        ec_conv2d_params p = {
            l->in_h,     l->in_w,     l->in_c,
            l->out_h,    l->out_w,    l->out_c,
            l->kernel_h, l->kernel_w, l->stride,
            l->stride,   l->pad_top,  l->pad_left,
            1,           1,           l->kind == 'd' || l->kind == 'g' ? l->in_c : 1,
            -128,        -128,        -128,
            127,         l->in_h,     l->out_h};
        uint32_t macs = (uint32_t)(l->out_h * l->out_w * l->out_c * l->kernel_h * l->kernel_w);
        macs *= (uint32_t)(l->kind == 'd' || l->kind == 'g' ? 1 : l->in_c);
        const ec_linear_params vector = {1, l->in_c, l->out_c, -128, -128, -128, 127};
        test_timer_start();
        if (l->kind == 'p') {
            ec_pointwise_conv2d_s8_dsp(&p, 0, l->out_h, x, w, y, scratch);
        } else if (l->kind == 'c') {
            ec_conv2d_s8_dsp(&p, 0, l->out_h, x, w, y, scratch);
        } else if (l->kind == 'l') {
            ec_linear_s8_dsp(&vector, x, w, y, scratch);
        } else if (l->kind == 'g') {
            ec_depthwise_conv2d_s8_dsp(&p, 0, l->out_h, x, w, y, scratch);
        } else {
            ec_depthwise3x3_conv2d_s8_dsp(&p, 0, l->out_h, x, w, y, scratch);
        }
        uint32_t instructions = test_timer_instructions();
        char kind[3] = {' ', l->kind, 0};
        test_print(network);
        test_print(kind);
        test_print_int(" ", l->in_h, "x");
        test_print_int("", l->in_w, "x");
        test_print_int("", l->in_c, " -> ");
        test_print_int("", l->out_h, "x");
        test_print_int("", l->out_w, "x");
        test_print_int("", l->out_c, "");
        test_print_int(" times ", l->repeats, "");
        test_print_int(": ", (int32_t)instructions, "");
        test_print_int(" / ", (int32_t)macs, "");
        test_print_int(" = ", (int32_t)((uint64_t)instructions * 1000u / macs), " per 1000 MACs\n");
        all += instructions * (uint32_t)l->repeats;
        all_macs += macs * (uint32_t)l->repeats;
    }
    test_print(network);
    test_print_int(" total ", (int32_t)all, "");
    test_print_int(" / ", (int32_t)all_macs, "");
    test_print_int(" = ", (int32_t)((uint64_t)all * 1000u / all_macs), " per 1000 MACs\n");
}

int test_main(void)
{
    bench("kws", KWS, sizeof KWS / sizeof *KWS);
    bench("vww", VWW, sizeof VWW / sizeof *VWW);
    bench("ic", IC, sizeof IC / sizeof *IC);
    bench("ad", AD, sizeof AD / sizeof *AD);
    bench("large", LARGE, sizeof LARGE / sizeof *LARGE);
    pools();
    return 0;
}
