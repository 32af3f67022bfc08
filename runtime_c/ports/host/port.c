/* port.c (host): ec_port.h on the C library of a workstation. Instructions are not counted. */
#include "ec_port.h"

#include <stdio.h>
#include <string.h>

#define FILES 8

static FILE *files[FILES];
static int argument_count;
static char **arguments;

static int open_file(const char *path, const char *mode) {
    int handle;
    for (handle = 0; handle < FILES; handle++) {
        if (files[handle] == NULL) {
            files[handle] = fopen(path, mode);
            return files[handle] != NULL ? handle : -1;
        }
    }
    return -1;
}

int ec_port_command_line(char *text, uint32_t text_bytes) {
    uint32_t used = 0;
    int i;
    for (i = 1; i < argument_count; i++) {
        size_t length = strlen(arguments[i]);
        if (used + length + 2u > text_bytes) {
            return -1;
        }
        if (used != 0u) {
            text[used++] = ' ';
        }
        memcpy(text + used, arguments[i], length);
        used += (uint32_t)length;
    }
    text[used] = '\0';
    return 0;
}

int ec_port_open_read(const char *path) {
    return open_file(path, "rb");
}

int ec_port_open_write(const char *path) {
    return open_file(path, "wb");
}

int ec_port_read(int handle, void *data, uint32_t bytes) {
    return fread(data, 1, bytes, files[handle]) == bytes ? 0 : -1;
}

int ec_port_write(int handle, const void *data, uint32_t bytes) {
    return fwrite(data, 1, bytes, files[handle]) == bytes ? 0 : -1;
}

int ec_port_close(int handle) {
    FILE *file = files[handle];
    files[handle] = NULL;
    return fclose(file) == 0 ? 0 : -1;
}

void ec_port_print(const char *text) {
    fprintf(stderr, "%s\n", text);
}

int ec_port_measures(void) {
    return 0;
}

void ec_port_count_start(void) {
}

uint64_t ec_port_count_stop(void) {
    return 0;
}

void ec_port_stack_paint(void) {
}

uint32_t ec_port_stack_bytes(void) {
    return 0;
}

int main(int argc, char **argv) {
    argument_count = argc;
    arguments = argv;
    return ec_main();
}
