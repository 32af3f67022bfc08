/* ec_flash_ram.c: ec_flash.h on memory. */
#include "ec_flash_ram.h"

#include <string.h>

static int ram_read(void *context, uint32_t address, void *data, uint32_t bytes)
{
    const ec_flash_ram *ram = context;
    memcpy(data, ram->memory + address, bytes);
    return 0;
}

static int ram_program(void *context, uint32_t address, const void *data, uint32_t bytes)
{
    const ec_flash_ram *ram = context;
    memcpy(ram->memory + address, data, bytes);
    return 0;
}

static int ram_erase(void *context, uint32_t sector, uint32_t address, uint32_t bytes)
{
    const ec_flash_ram *ram = context;
    (void)sector;
    memset(ram->memory + address, ram->geometry->erased, bytes);
    return 0;
}

static int ram_sync(void *context)
{
    (void)context;
    return 0;
}

ec_flash ec_flash_in_ram(ec_flash_ram *ram)
{
    ec_flash flash = {ram->geometry, ram, ram_read, ram_program, ram_erase, ram_sync};
    return flash;
}
