/* ec_flash_file.c: ec_flash.h on a file: pread, pwrite, fsync. */
#define _POSIX_C_SOURCE 200809L

#include "ec_flash_file.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int file_read(void *context, uint32_t address, void *data, uint32_t bytes)
{
    const ec_flash_file *file = context;
    uint8_t *out = data;
    uint32_t done = 0;
    while (done < bytes) {
        ssize_t got = pread(file->descriptor, out + done, bytes - done, (off_t)address + done);
        if (got > 0) {
            done += (uint32_t)got;
        } else if (got == 0 || errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

static int file_program(void *context, uint32_t address, const void *data, uint32_t bytes)
{
    const ec_flash_file *file = context;
    const uint8_t *in = data;
    uint32_t done = 0;
    while (done < bytes) {
        ssize_t put = pwrite(file->descriptor, in + done, bytes - done, (off_t)address + done);
        if (put > 0) {
            done += (uint32_t)put;
        } else if (put == 0 || errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

static int file_erase(void *context, uint32_t sector, uint32_t address, uint32_t bytes)
{
    const ec_flash_file *file = context;
    uint8_t erased[512];
    (void)sector;
    memset(erased, file->geometry->erased, sizeof erased);
    for (uint32_t done = 0; done < bytes;) {
        uint32_t part = bytes - done < sizeof erased ? bytes - done : (uint32_t)sizeof erased;
        if (file_program(context, address + done, erased, part) != 0) {
            return -1;
        }
        done += part;
    }
    return 0;
}

static int file_sync(void *context)
{
    const ec_flash_file *file = context;
    return fsync(file->descriptor);
}

ec_flash ec_flash_in_file(ec_flash_file *file)
{
    ec_flash flash = {file->geometry, file, file_read, file_program, file_erase, file_sync};
    return flash;
}
