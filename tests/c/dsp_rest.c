/* Draws linear layers, poolings and sums and compares the DSP kernels with the portable ones, in
 * the same firmware. COUNT and SEED come from the build. Buffers stand between guard words; half of
 * the maps run row by row through rings of the rows that they need.
 * It fails too where a size 1 .. 33 of a blocked dimension was never drawn. */
#include "dsp_pack.h"
#include "dsp_test.h"
#include "dsp_draw.h"
#include "ec_dsp_kernels.h"
#include "ec_kernels.h"

static guarded input, second, ring_a, expected, actual, scratch;
static int8_t w[4096];
static int32_t bias[64], multiplier[64];
static uint8_t shift[64];
static uint32_t packed[4096];

static int all_intact(void)
{
    return intact(&actual) && intact(&scratch) && intact(&input);
}

static int linear(void)
{
    ec_linear_params p;
    p.rows = between(1, 5);
    p.in_c = between(1, 33);
    p.out_c = between(1, 33);
    p.zero_in = between(-128, 127);
    p.zero_out = between(-128, 127);
    p.act_min = between(0, 1) ? -128 : between(-128, 126);
    p.act_max = between(0, 1) ? 127 : between(p.act_min, 127);
    for (int32_t i = 0; i < p.out_c * p.in_c; i++) {
        w[i] = (int8_t)between(-127, 127);
    }
    for (int32_t o = 0; o < p.out_c; o++) {
        bias[o] = between(-20000, 20000);
        multiplier[o] = (int32_t)((1u << 30) + (draw() >> 2));
        shift[o] = (uint8_t)between(37, 41);
    }
    note(0, p.in_c);
    note(1, p.out_c);
    const weights c = {p.out_c, p.in_c, w, bias, multiplier, shift};
    (void)pack_o4(&c, packed);
    int32_t bytes = p.rows * p.out_c;
    int8_t *x = reserve_random(&input, p.rows * p.in_c);
    int8_t *want = reserve(&expected, bytes);
    int8_t *got = reserve(&actual, bytes);
    void *room = reserve(&scratch, (p.rows > 1 ? 16 : 8) * ((p.in_c + 3) / 4));
    ec_linear_s8(&p, x, w, bias, multiplier, shift, want);
    ec_linear_s8_dsp(&p, x, packed, got, room);
    if (memcmp(want, got, (size_t)bytes) == 0 && all_intact()) {
        return 0;
    }
    report("linear", &p.rows, sizeof p, want, got, bytes);
    return 1;
}

typedef void (*pool_kernel)(const ec_pool2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                            int8_t *y);

static int32_t pool_out(int32_t size, int32_t kernel, int32_t stride, int32_t before,
                        int32_t dilation)
{
    int32_t out = (size + 2 * before - dilation * (kernel - 1) - 1) / stride + 1;
    /* every window reaches into the map */
    while (out > 0 && (out - 1) * stride - before >= size) {
        out--;
    }
    return out;
}

static int pool(pool_kernel portable, pool_kernel dsp, int average)
{
    ec_pool2d_params p;
    do {
        memset(&p, 0, sizeof p);
        int32_t large = average && between(0, 15) == 0; /* more taps than a halfword sum takes */
        p.in_h = between(1, large ? 20 : 9);
        p.in_w = between(1, large ? 300 : 20);
        p.channels = between(1, large ? 6 : 33);
        p.kernel_h = between(1, large ? p.in_h : 5);
        p.kernel_w = between(1, large ? p.in_w : 5);
        p.stride_h = between(1, 3);
        p.stride_w = between(1, 3);
        p.dilation_h = average ? 1 : between(1, 2);
        p.dilation_w = average ? 1 : between(1, 2);
        p.pad_top = p.dilation_h == 1 ? between(0, p.kernel_h - 1) : 0;
        p.pad_left = p.dilation_w == 1 ? between(0, p.kernel_w - 1) : 0;
        int32_t span_h = p.dilation_h * (p.kernel_h - 1);
        int32_t span_w = p.dilation_w * (p.kernel_w - 1);
        int fits = span_h < p.in_h + 2 * p.pad_top && span_w < p.in_w + 2 * p.pad_left;
        p.out_h = fits ? pool_out(p.in_h, p.kernel_h, p.stride_h, p.pad_top, p.dilation_h) : 0;
        p.out_w = fits ? pool_out(p.in_w, p.kernel_w, p.stride_w, p.pad_left, p.dilation_w) : 0;
    } while (p.out_h < 1 || p.out_w < 1 ||
             p.out_h * p.out_w * p.channels * p.kernel_h * p.kernel_w > 60000);
    p.divisor = average && between(0, 1) ? between(1, 2 * p.kernel_h * p.kernel_w) : 0;
    p.zero = between(-128, 127);
    p.ring_0 = p.in_h;
    p.ring_y = p.out_h;
    note(2 + average, p.channels);
    int32_t line = p.in_w * p.channels;
    int32_t out = p.out_w * p.channels;
    int8_t *x = reserve_random(&input, p.in_h * line);
    int8_t *want = reserve(&expected, p.out_h * out);
    int8_t *got = reserve(&actual, p.out_h * out);
    (void)reserve(&scratch, 0);
    portable(&p, 0, p.out_h, x, want);
    if (between(0, 1)) {
        dsp(&p, 0, p.out_h, x, got);
    } else {
        int32_t span = p.dilation_h * (p.kernel_h - 1) + 1;
        ec_pool2d_params one = p;
        one.ring_0 = span < p.in_h ? span : p.in_h;
        one.ring_y = 1;
        for (int32_t row = 0; row < p.out_h; row++) {
            int8_t *held = reserve(&ring_a, one.ring_0 * line);
            int32_t top = row * p.stride_h - p.pad_top;
            for (int32_t r = top < 0 ? 0 : top; r < top + span && r < p.in_h; r++) {
                memcpy(held + r % one.ring_0 * line, x + r * line, (size_t)line);
            }
            dsp(&one, row, row + 1, held, got + row * out);
        }
    }
    if (memcmp(want, got, (size_t)(p.out_h * out)) == 0 && all_intact()) {
        return 0;
    }
    report(average ? "avg_pool" : "max_pool", &p.in_h, sizeof p, want, got, p.out_h * out);
    return 1;
}

static int add(void)
{
    ec_binary_s8_params p;
    memset(&p, 0, sizeof p);
    int32_t height = between(1, 4);
    p.row_y = between(1, 70);
    p.row_a = p.row_y;
    p.row_b = p.row_y;
    p.d0 = p.d1 = p.d2 = p.d3 = p.d4 = 1;
    p.d5 = p.row_y;
    p.a5 = p.b5 = 1;
    p.zero_a = between(-128, 127);
    p.zero_b = between(-128, 127);
    p.zero_out = between(-128, 127);
    p.shift = between(1, 22);
    int32_t most = p.shift > 20 ? 1 << 21 : 1 << (p.shift + 1);
    p.multiplier_a = between(-most + 1, most - 1);
    p.multiplier_b = between(-most + 1, most - 1);
    p.offset = (1 << (p.shift - 1)) - p.zero_a * p.multiplier_a - p.zero_b * p.multiplier_b;
    p.act_min = between(0, 1) ? -128 : between(-128, 126);
    p.act_max = between(0, 1) ? 127 : between(p.act_min, 127);
    p.ring_0 = p.ring_1 = p.ring_y = height;
    int32_t bytes = height * p.row_y;
    note(4, p.row_y);
    int8_t *a = reserve_random(&input, bytes);
    int8_t *b = reserve_random(&second, bytes);
    int8_t *want = reserve(&expected, bytes);
    int8_t *got = reserve(&actual, bytes);
    (void)reserve(&scratch, 0);
    ec_add_rows_s8(&p, 0, height, a, b, want);
    int32_t in_place = between(0, 2);
    if (in_place == 1) {
        memcpy(got, a, (size_t)bytes);
        ec_add_rows_s8_dsp(&p, 0, height, got, b, got);
    } else if (in_place == 2) {
        p.ring_0 = p.ring_y = 1; /* one row of a and of y, all rows of b */
        for (int32_t row = 0; row < height; row++) {
            ec_add_rows_s8_dsp(&p, row, row + 1, a + row * p.row_y, b, got + row * p.row_y);
        }
    } else {
        ec_add_rows_s8_dsp(&p, 0, height, a, b, got);
    }
    if (memcmp(want, got, (size_t)bytes) == 0 && all_intact()) {
        return 0;
    }
    report("add", &p.d0, sizeof p, want, got, bytes);
    return 1;
}

int test_main(void)
{
    int failures = 0;
    for (int32_t i = 0; i < COUNT && failures < 8; i += 4) {
        failures += linear();
        failures += pool(ec_max_pool2d_s8, ec_max_pool2d_s8_dsp, 0);
        failures += pool(ec_avg_pool2d_s8, ec_avg_pool2d_s8_dsp, 1);
        failures += add();
    }
    failures += unseen(5);
    test_print_int("shapes ", COUNT, failures ? " differ\n" : " equal\n");
    return failures ? 1 : 0;
}
