/*
 * ec_stm32_io.h: how ec_flash_stm32.c reaches registers and flash. A test that models them defines
 * EC_STM32_IO_H and these functions itself.
 */
#ifndef EC_STM32_IO_H
#define EC_STM32_IO_H

#include <stdint.h>

static inline uint32_t ec_io_read32(uintptr_t address)
{
    return *(volatile const uint32_t *)address;
}

static inline void ec_io_write32(uintptr_t address, uint32_t value)
{
    *(volatile uint32_t *)address = value;
}

static inline void ec_io_write16(uintptr_t address, uint16_t value)
{
    *(volatile uint16_t *)address = value;
}

static inline void ec_io_write8(uintptr_t address, uint8_t value)
{
    *(volatile uint8_t *)address = value;
}

/* All accesses before it are done before any after it. */
static inline void ec_io_barrier(void)
{
#if defined(__arm__)
    __asm volatile("dsb" ::: "memory");
#endif
}

#endif
