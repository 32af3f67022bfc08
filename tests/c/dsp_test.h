/* What the bare-metal DSP tests share. */
#ifndef DSP_TEST_H
#define DSP_TEST_H

#include <stdint.h>

int test_main(void);
void test_reset(void);
void test_print(const char *text);
void test_print_int(const char *before, int32_t value, const char *after);
void test_exit(int code);
void test_timer_start(void);
uint32_t test_timer_instructions(void);

#endif
