/*
 * ec_flash_stm32.c: ec_flash.h on the flash registers of STM32F4 and STM32F7.
 *
 * Each program or erase unlocks the control register, waits for the flash, clears old errors,
 * works, waits, looks at the errors and locks again (RM0385 3.3.5 to 3.3.7).
 */
#include "ec_flash_stm32.h"

#include <stdbool.h>
#include <string.h>

#include "ec_stm32_io.h"

#define ACR 0x00u
#define ACR_DATA_CACHE (1u << 10) /* STM32F4; reads 0 on STM32F7 */
#define ACR_DATA_CACHE_RESET (1u << 12)
#define KEYR 0x04u
#define KEY1 0x45670123u
#define KEY2 0xCDEF89ABu
#define SR 0x0Cu
#define SR_ERRORS 0xF2u /* OPERR, WRPERR, PGAERR, PGPERR, PGSERR or ERSERR */
#define SR_BUSY (1u << 16)
#define CR 0x10u
#define CR_PROGRAM (1u << 0)
#define CR_SECTOR_ERASE (1u << 1)
#define CR_SECTOR_SHIFT 3
#define CR_SIZE_SHIFT 8
#define CR_START (1u << 16)
#define CR_LOCK (1u << 31)
#define CACHE_LINE 32u

static bool wait_ready(const ec_flash_stm32 *chip)
{
    for (uint32_t i = 0; i < chip->busy_polls; i++) {
        if ((ec_io_read32(chip->registers + SR) & SR_BUSY) == 0u) {
            return true;
        }
    }
    return false;
}

/* Ready for a command, with no error of an earlier one. */
static bool unlock(const ec_flash_stm32 *chip)
{
    if (!wait_ready(chip)) {
        return false;
    }
    if ((ec_io_read32(chip->registers + CR) & CR_LOCK) != 0u) {
        ec_io_write32(chip->registers + KEYR, KEY1);
        ec_io_write32(chip->registers + KEYR, KEY2);
    }
    ec_io_write32(chip->registers + SR, SR_ERRORS);
    return (ec_io_read32(chip->registers + CR) & CR_LOCK) == 0u;
}

/* Waits for the command and locks. -1 where it failed. */
static int finish(const ec_flash_stm32 *chip)
{
    bool ready = wait_ready(chip);
    uint32_t errors = ec_io_read32(chip->registers + SR) & SR_ERRORS;
    ec_io_write32(chip->registers + CR, CR_LOCK);
    return ready && errors == 0u ? 0 : -1;
}

/* Caches forget what these bytes were. */
static void forget(const ec_flash_stm32 *chip, uint32_t address, uint32_t bytes)
{
    uint32_t control = ec_io_read32(chip->registers + ACR);
    if ((control & ACR_DATA_CACHE) != 0u) {
        /* The cache can be reset only while it is off. */
        ec_io_write32(chip->registers + ACR, control & ~ACR_DATA_CACHE);
        ec_io_write32(chip->registers + ACR, (control & ~ACR_DATA_CACHE) | ACR_DATA_CACHE_RESET);
        ec_io_write32(chip->registers + ACR, control & ~ACR_DATA_CACHE);
        ec_io_write32(chip->registers + ACR, control);
    }
    if (chip->invalidate != 0u) {
        uintptr_t line = (chip->memory + address) & ~(uintptr_t)(CACHE_LINE - 1u);
        ec_io_barrier();
        for (; line < chip->memory + address + bytes; line += CACHE_LINE) {
            ec_io_write32(chip->invalidate, (uint32_t)line);
        }
        ec_io_barrier();
    }
}

static uint32_t parallelism(const ec_flash_stm32 *chip)
{
    uint32_t unit = chip->geometry->unit_bytes;
    return (unit == 4u ? 2u : unit == 2u ? 1u : 0u) << CR_SIZE_SHIFT;
}

static int stm32_read(void *context, uint32_t address, void *data, uint32_t bytes)
{
    const ec_flash_stm32 *chip = context;
    memcpy(data, (const void *)(chip->memory + address), bytes);
    return 0;
}

static int stm32_program(void *context, uint32_t address, const void *data, uint32_t bytes)
{
    const ec_flash_stm32 *chip = context;
    uintptr_t at = chip->memory + address;
    const uint8_t *in = data;
    if ((bytes != 1u && bytes != 2u && bytes != 4u) || !unlock(chip)) {
        return -1;
    }
    ec_io_write32(chip->registers + CR, parallelism(chip) | CR_PROGRAM);
    if (bytes == 4u) {
        ec_io_write32(at, in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 |
                              (uint32_t)in[3] << 24);
    } else if (bytes == 2u) {
        ec_io_write16(at, (uint16_t)(in[0] | in[1] << 8));
    } else {
        ec_io_write8(at, in[0]);
    }
    ec_io_barrier();
    int result = finish(chip);
    forget(chip, address, bytes);
    return result;
}

static int stm32_erase(void *context, uint32_t sector, uint32_t address, uint32_t bytes)
{
    const ec_flash_stm32 *chip = context;
    uint32_t number = chip->first_number + sector;
    uint32_t control = parallelism(chip) | CR_SECTOR_ERASE | number << CR_SECTOR_SHIFT;
    if (number > 31u || !unlock(chip)) {
        return -1;
    }
    ec_io_write32(chip->registers + CR, control);
    ec_io_write32(chip->registers + CR, control | CR_START);
    ec_io_barrier();
    int result = finish(chip);
    forget(chip, address, bytes);
    return result;
}

/* A program that finish has waited for is in the flash. */
static int stm32_sync(void *context)
{
    (void)context;
    return 0;
}

ec_flash ec_flash_on_stm32(ec_flash_stm32 *chip)
{
    ec_flash flash = {chip->geometry, chip, stm32_read, stm32_program, stm32_erase, stm32_sync};
    return flash;
}
