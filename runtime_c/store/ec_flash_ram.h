/* ec_flash_ram.h: flash in memory, for tests and for hosts. */
#ifndef EC_FLASH_RAM_H
#define EC_FLASH_RAM_H

#include "ec_flash.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const ec_flash_geometry *geometry;
    uint8_t *memory; /* all sectors; any content, the store erases before it writes */
} ec_flash_ram;

/* `ram` is used for as long as the driver is. */
ec_flash ec_flash_in_ram(ec_flash_ram *ram);

#ifdef __cplusplus
}
#endif

#endif
