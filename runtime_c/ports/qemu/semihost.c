/*
 * semihost.c: files, command line and exit by Arm semihosting (semihost.h), and the stack's high
 * water.
 *
 * Operation numbers and parameter blocks: "Semihosting for AArch32 and AArch64" version 3,
 * section 7.
 */
#include "semihost.h"
#include "ec_port.h"

#include <string.h>

#define SYS_OPEN 0x01u
#define SYS_CLOSE 0x02u
#define SYS_WRITE0 0x04u
#define SYS_WRITE 0x05u
#define SYS_READ 0x06u
#define SYS_GET_CMDLINE 0x15u
#define SYS_EXIT_EXTENDED 0x20u
#define ADP_STOPPED_APPLICATION_EXIT 0x20026u
#define MODE_READ_BINARY 1u
#define MODE_WRITE_BINARY 5u

#define STACK_PAINT 0xA5C3A5C3u

extern uint32_t ec_stack_bottom[];

static uint32_t *painted_end;

static uint32_t call(uint32_t operation, const void *block) {
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = block;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t address(const void *pointer) {
    return (uint32_t)(uintptr_t)pointer;
}

void ec_semihost_write0(const char *text) {
    (void)call(SYS_WRITE0, text);
}

void ec_semihost_exit(int code) {
    uint32_t block[2];
    block[0] = ADP_STOPPED_APPLICATION_EXIT;
    block[1] = (uint32_t)code;
    (void)call(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}

int ec_port_command_line(char *text, uint32_t text_bytes) {
    uint32_t block[2];
    char *first_space;
    block[0] = address(text);
    block[1] = text_bytes;
    if (call(SYS_GET_CMDLINE, block) != 0u) {
        return -1;
    }
    first_space = strchr(text, ' '); /* the first word names the program */
    if (first_space == NULL) {
        text[0] = '\0';
    } else {
        memmove(text, first_space + 1, strlen(first_space + 1) + 1u);
    }
    return 0;
}

static int open_file(const char *path, uint32_t mode) {
    uint32_t block[3];
    block[0] = address(path);
    block[1] = mode;
    block[2] = (uint32_t)strlen(path);
    return (int)call(SYS_OPEN, block);
}

int ec_port_open_read(const char *path) {
    return open_file(path, MODE_READ_BINARY);
}

int ec_port_open_write(const char *path) {
    return open_file(path, MODE_WRITE_BINARY);
}

/* SYS_READ and SYS_WRITE return the bytes that were NOT transferred. */
static int transfer(uint32_t operation, int handle, const void *data, uint32_t bytes) {
    uint32_t block[3];
    if (bytes == 0u) {
        return 0;
    }
    block[0] = (uint32_t)handle;
    block[1] = address(data);
    block[2] = bytes;
    return call(operation, block) == 0u ? 0 : -1;
}

int ec_port_read(int handle, void *data, uint32_t bytes) {
    return transfer(SYS_READ, handle, data, bytes);
}

int ec_port_write(int handle, const void *data, uint32_t bytes) {
    return transfer(SYS_WRITE, handle, data, bytes);
}

int ec_port_close(int handle) {
    uint32_t block[1];
    block[0] = (uint32_t)handle;
    return call(SYS_CLOSE, block) == 0u ? 0 : -1;
}

void ec_port_print(const char *text) {
    ec_semihost_write0(text);
    ec_semihost_write0("\n");
}

#define FRAME_MARGIN_BYTES 64u /* room for the paint call's own registers */

void ec_port_stack_paint(void) {
    uint32_t *word;
    uint32_t *end = (uint32_t *)__builtin_frame_address(0) - FRAME_MARGIN_BYTES / 4u;
    for (word = ec_stack_bottom; word < end; word++) {
        *word = STACK_PAINT;
    }
    painted_end = end;
}

uint32_t ec_port_stack_bytes(void) {
    const uint32_t *word = ec_stack_bottom;
    while (word < painted_end && *word == STACK_PAINT) {
        word++;
    }
    return address(painted_end) + FRAME_MARGIN_BYTES - address(word);
}
