/* What dsp_test.h promises, on a PC: the DSP tests run there with the C bodies of the instructions. */
#include "dsp_test.h"

#include <stdio.h>

void test_print(const char *text)
{
    (void)fputs(text, stdout);
}

void test_print_int(const char *before, int32_t value, const char *after)
{
    (void)printf("%s%d%s", before, (int)value, after);
}

int main(void)
{
    return test_main();
}
