/*
 * ec_flash.h: what the store asks of a flash memory: its geometry and four functions.
 *
 * Addresses count from the start of sector 0. Each function returns 0, or anything else where it
 * failed. Drivers: ec_flash_ram.h, ec_flash_file.h, ec_flash_stm32.h.
 */
#ifndef EC_FLASH_H
#define EC_FLASH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `count` sectors of `bytes` bytes; a sector is what one erase erases. */
typedef struct {
    uint32_t bytes;
    uint32_t count;
} ec_flash_run;

typedef struct {
    const ec_flash_run *runs; /* sectors in the order of their addresses */
    uint32_t run_count;
    uint32_t unit_bytes; /* write unit: 1, 2, 4, 8, 16 or 32; each sector holds whole units */
    uint8_t erased;      /* what an erased byte reads: 0xFF, or 0x00 on some STM32L */
} ec_flash_geometry;

typedef struct {
    const ec_flash_geometry *geometry;
    void *context; /* first argument of the functions */

    /*
     * Any address, any length. Flash with ECC reports what it cannot correct by its return value:
     * the store reads units that a power cut has torn, and that must not stop the processor.
     */
    int (*read)(void *context, uint32_t address, void *data, uint32_t bytes);

    /* One write unit at a multiple of its size; `data` need not be aligned. */
    int (*program)(void *context, uint32_t address, const void *data, uint32_t bytes);

    /* Sector number `sector`, whose bytes are address <= a < address + bytes. */
    int (*erase)(void *context, uint32_t sector, uint32_t address, uint32_t bytes);

    /* All programs and erases so far outlive a power cut after this returns. */
    int (*sync)(void *context);
} ec_flash;

#ifdef __cplusplus
}
#endif

#endif
