/* Each instruction wrapper of ec_dsp.h and its C body on COUNT drawn operands, in one firmware. COUNT
 * and SEED come from the build. */
#define WRAPPERS native
#include "dsp_wrappers.h"

#ifndef EC_DSP_ARM_H
#error "these must be the instructions"
#endif

#include "dsp_draw.h"
#include "dsp_test.h"

/* Any word; extreme bytes; extreme halfwords; a small number; an extreme one. */
static uint32_t operand(void)
{
    static const uint32_t extremes[8] = {0x00u, 0x01u, 0x7eu, 0x7fu, 0x80u, 0x81u, 0xfeu, 0xffu};
    uint32_t word = 0;
    switch (between(0, 4)) {
    case 0:
        return draw();
    case 1:
        for (int32_t at = 0; at < 32; at += 8) {
            word |= extremes[between(0, 7)] << at;
        }
        return word;
    case 2:
        for (int32_t at = 0; at < 32; at += 16) {
            word |= (0x8000u + (uint32_t)between(-2, 1) + (between(0, 1) ? 0x8000u : 0u)) % 0x10000u
                    << at;
        }
        return word;
    case 3:
        return (uint32_t)between(-300, 300);
    default:
        return 0x80000000u + (uint32_t)between(-2, 1);
    }
}

int test_main(void)
{
    int failures = 0;
    for (int32_t i = 0; i < COUNT && failures < 8; i++) {
        uint32_t a = operand();
        uint32_t b = operand();
        uint32_t c = operand();
        for (int32_t w = 0; w < COUNT_OF_WRAPPERS; w++) {
            uint32_t want = native[w].run(a, b, c);
            uint32_t got = portable[w].run(a, b, c);
            if (want != got) {
                test_print(native[w].name);
                test_print_int(" of ", (int32_t)a, "");
                test_print_int(" ", (int32_t)b, "");
                test_print_int(" ", (int32_t)c, "");
                test_print_int(" want ", (int32_t)want, "");
                test_print_int(" got ", (int32_t)got, "\n");
                failures++;
            }
        }
    }
    return failures ? 1 : 0;
}
