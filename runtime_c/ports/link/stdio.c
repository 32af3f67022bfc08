/*
 * stdio.c: the link over standard input and output, for a training program on a workstation. It
 * ends where its input does.
 */
#include "ec_link_port.h"

#include <stdio.h>
#include <time.h>

void ec_link_port_open(void) {
}

int32_t ec_link_port_read(void) {
    int byte = getchar();
    return byte == EOF ? -1 : byte;
}

void ec_link_port_write(void *context, const uint8_t *bytes, uint32_t count) {
    (void)context;
    (void)fwrite(bytes, 1, count, stdout);
    if (bytes[count - 1u] == 0u) { /* a frame's end */
        (void)fflush(stdout);
    }
}

uint32_t ec_link_port_seed(void) {
    return (uint32_t)time(NULL);
}
