/*
 * ec_flash_stm32.h: the flash of STM32F4 and STM32F7 (RM0090 section 3, RM0385 section 3).
 *
 *   static const ec_flash_run runs[] = {{32768, 4}, {131072, 1}, {262144, 3}};   (STM32F746)
 *   static const ec_flash_geometry geometry = {runs, 3, 4, 0xFF};
 *   static ec_flash_stm32 chip = {&geometry, 0x40023C00, 0x08000000, 0, 0, 500000000};
 *
 * Write units of 1, 2 and 4 bytes (PSIZE x8, x16, x32: 4 needs 2.7 V or more, 2 needs 2.1 V). A
 * chip of one bank that runs from this flash stands still while it programs (some 16 us a unit)
 * and erases (1 to 4 s for 256 KB), interrupts too.
 */
#ifndef EC_FLASH_STM32_H
#define EC_FLASH_STM32_H

#include "ec_flash.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    const ec_flash_geometry *geometry;
    uintptr_t registers; /* where FLASH_ACR stands: 0x40023C00 */
    uintptr_t memory;    /* where sector 0 of the geometry begins */
    /*
     * SCB->DCIMVAC, 0xE000EF5C, where the Cortex-M7's data cache is on and covers the flash; 0
     * elsewhere. The data cache of the STM32F4's accelerator is looked after in any case.
     */
    uintptr_t invalidate;
    uint32_t first_number; /* what SNB calls sector 0 of the geometry: 16 in a second bank */
    uint32_t busy_polls;   /* reads of FLASH_SR after which a flash that is busy has failed */
} ec_flash_stm32;

/* `chip` is used for as long as the driver is. */
ec_flash ec_flash_on_stm32(ec_flash_stm32 *chip);

#ifdef __cplusplus
}
#endif

#endif
