/* Draws convolutions (kind 0 pointwise, 1 any dense, 2 depthwise 3x3, 3 any depthwise) and compares
 * the DSP kernels with the portable one, in the same firmware. COUNT and SEED come from the build.
 * Every buffer has exactly the bytes that it needs between guard words; scratch and output start
 * poisoned; a third of the shapes run row by row through rings. It fails too where a size 1 .. 33 of
 * a blocked dimension (input channels, output channels, columns) was never drawn. */
#include "dsp_pack.h"
#include "dsp_test.h"
#include "dsp_draw.h"
#include "ec_dsp_kernels.h"
#include "ec_kernels.h"

#define MACS 40000

static guarded input, ring, expected, actual, scratch;
static int8_t w[BYTES];
static int32_t bias[256], multiplier[256];
static uint8_t shift[256];
static uint32_t packed[BYTES / 2];

static int32_t scratch_bytes(int kind, const ec_conv2d_params *p)
{
    int32_t run = p->kernel_w * p->in_c;
    int32_t k = p->kernel_h * run;
    switch (kind) {
    case 0:
        return 16 * ((p->in_c + 3) / 4);
    case 1:
        return 16 * ((k + 3) / 4) + 8 * p->kernel_h + (run & 3 ? 8 * ((k + 3) / 4) : 2 * run);
    case 3: {
        int32_t halves = (p->kernel_w + 1) / 2;
        int32_t pairs = (((p->out_w + 3) / 4 * 4 - 1) * p->stride_w + 2 * halves + 1) / 2;
        return 16 * p->kernel_h * pairs + 16 * (2 * p->kernel_h - 1) * halves;
    }
    default:
        return 288 + 48 * (p->stride_w == 2 ? p->out_w + 1 : (p->out_w + 1) / 2 + 1);
    }
}

static void run(int kind, const ec_conv2d_params *p, int32_t row0, int32_t row1, const int8_t *x,
                int8_t *y)
{
    void *room = reserve(&scratch, scratch_bytes(kind, p));
    switch (kind) {
    case 0:
        ec_pointwise_conv2d_s8_dsp(p, row0, row1, x, packed, y, room);
        break;
    case 1:
        ec_conv2d_s8_dsp(p, row0, row1, x, packed, y, room);
        break;
    case 3:
        ec_depthwise_conv2d_s8_dsp(p, row0, row1, x, packed, y, room);
        break;
    default:
        ec_depthwise3x3_conv2d_s8_dsp(p, row0, row1, x, packed, y, room);
        break;
    }
}

/* Row by row: the input ring holds only what a row reads, all else is poison; the output ring has
 * two rows. */
static void run_rows(int kind, const ec_conv2d_params *whole, const int8_t *x, int8_t *y)
{
    ec_conv2d_params p = *whole;
    int32_t line = p.in_w * p.in_c;
    int32_t span = p.dilation_h * (p.kernel_h - 1) + 1 + between(0, 1);
    p.ring_0 = span < p.in_h ? span : p.in_h;
    p.ring_y = p.out_h < 2 ? p.out_h : 2;
    int32_t out = p.out_w * p.out_c;
    for (int32_t row = 0; row < p.out_h; row++) {
        int8_t *held = reserve(&ring, p.ring_0 * line);
        int32_t top = row * p.stride_h - p.pad_top;
        for (int32_t r = top; r <= top + p.dilation_h * (p.kernel_h - 1); r++) {
            if (r >= 0 && r < p.in_h) {
                memcpy(held + (r % p.ring_0) * line, x + r * line, (size_t)line);
            }
        }
        int8_t two[2][4096];
        memset(two, POISON, sizeof two);
        run(kind, &p, row, row + 1, held, two[0]);
        memcpy(y + row * out, &two[0][0] + (row % p.ring_y) * out, (size_t)out);
    }
}

static void draw_shape(int kind, ec_conv2d_params *p)
{
    do {
        memset(p, 0, sizeof *p);
        p->in_c = between(1, 33);
        p->out_c = kind >= 2 ? p->in_c : between(1, 33);
        p->groups = kind >= 2 ? p->in_c : 1;
        p->kernel_h = kind == 0 ? 1 : kind == 2 ? 3 : between(1, 7);
        p->kernel_w = kind == 0 ? 1 : kind == 2 ? 3 : between(1, 7);
        p->stride_h = between(1, p->kernel_h < 3 && kind == 3 ? p->kernel_h : 3);
        p->stride_w = between(1, kind == 2 ? 2 : 3);
        p->dilation_h = kind == 1 ? between(1, 2) : 1;
        p->dilation_w = kind == 1 ? between(1, 2) : 1;
        p->pad_top = kind == 0 ? 0 : between(0, p->kernel_h);
        p->pad_left = kind == 0 ? 0 : between(0, p->kernel_w);
        p->in_h = between(1, 8);
        p->in_w = between(1, 66);
        int32_t span_h = p->dilation_h * (p->kernel_h - 1) + 1;
        int32_t span_w = p->dilation_w * (p->kernel_w - 1) + 1;
        int32_t after_h = kind == 0 ? 0 : between(0, p->kernel_h);
        int32_t after_w = kind == 0 ? 0 : between(0, p->kernel_w);
        int32_t free_h = p->in_h + p->pad_top + after_h - span_h;
        int32_t free_w = p->in_w + p->pad_left + after_w - span_w;
        p->out_h = free_h < 0 ? 0 : free_h / p->stride_h + 1;
        p->out_w = free_w < 0 ? 0 : free_w / p->stride_w + 1;
    } while (p->out_h < 1 || p->out_w < 1 || p->out_w > 33 ||
             p->out_h * p->out_w * p->out_c * p->kernel_h * p->kernel_w * (p->in_c / p->groups) >
                 MACS);
    p->zero_in = between(-128, 127);
    p->zero_out = between(-128, 127);
    p->act_min = between(0, 1) ? -128 : between(-128, 126);
    p->act_max = between(0, 1) ? 127 : between(p->act_min, 127);
    p->ring_0 = p->in_h;
    p->ring_y = p->out_h;
}

static void draw_weights(weights *c, int32_t channels, int32_t k)
{
    int32_t spread = 13;
    for (int32_t i = k; i > 1; i >>= 2) {
        spread++;
    }
    int32_t full = between(0, 3) == 0;
    for (int32_t i = 0; i < channels * k; i++) {
        w[i] = (int8_t)(full ? (draw() & 256 ? 127 : -127) : between(-127, 127));
    }
    for (int32_t o = 0; o < channels; o++) {
        bias[o] = between(0, 7) ? between(-20000, 20000) : between(-(1 << 30), 1 << 30);
        multiplier[o] = between(0, 15) ? (int32_t)((1u << 30) + (draw() >> 2)) : 0;
        shift[o] = (uint8_t)(between(0, 7) ? 24 + spread + between(-1, 2) : between(33, 55));
    }
    *c = (weights){channels, k, w, bias, multiplier, shift};
}

static int one(int kind)
{
    ec_conv2d_params p;
    draw_shape(kind, &p);
    note(3 * kind, p.in_c);
    note(3 * kind + 1, p.out_c);
    note(3 * kind + 2, p.out_w);
    weights c;
    draw_weights(&c, p.out_c, p.kernel_h * p.kernel_w * (p.in_c / p.groups));
    memset(packed, POISON, sizeof packed);
    (void)(kind == 3   ? pack_dw(&c, packed)
           : kind == 2 ? pack_dw3x3(&c, packed)
                       : pack_o4(&c, packed));
    int8_t *x = reserve_random(&input, p.in_h * p.in_w * p.in_c);
    int32_t bytes = p.out_h * p.out_w * p.out_c;
    int8_t *want = reserve(&expected, bytes);
    int8_t *got = reserve(&actual, bytes);
    ec_conv2d_s8(&p, 0, p.out_h, x, w, bias, multiplier, shift, want);
    int rows = between(0, 2) == 0 && p.out_w * p.out_c <= 4096;
    if (rows) {
        run_rows(kind, &p, x, got);
    } else {
        run(kind, &p, 0, p.out_h, x, got);
    }
    if (memcmp(want, got, (size_t)bytes) == 0 && intact(&actual) && intact(&scratch) &&
        intact(&input)) {
        return 0;
    }
    test_print_int("kind ", kind, rows ? " row by row" : "");
    report(intact(&scratch) ? "" : " scratch overrun", &p.in_h, sizeof p, want, got, bytes);
    return 1;
}

int test_main(void)
{
    int failures = 0;
    for (int32_t i = 0; i < COUNT && failures < 8; i++) {
        failures += one(i % 4);
    }
    failures += unseen(12);
    test_print_int("shapes ", COUNT, failures ? " differ\n" : " equal\n");
    return failures ? 1 : 0;
}
