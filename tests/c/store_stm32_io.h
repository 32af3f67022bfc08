/* store_stm32_io.h: ec_stm32_io.h for store_stm32.c, whose model sees each access. */
#ifndef EC_STM32_IO_H
#define EC_STM32_IO_H

#include <stdint.h>

uint32_t ec_io_read32(uintptr_t address);
void ec_io_write32(uintptr_t address, uint32_t value);
void ec_io_write16(uintptr_t address, uint16_t value);
void ec_io_write8(uintptr_t address, uint8_t value);
void ec_io_barrier(void);

#endif
