/*
 * flash_ram.c: ec_link_port_flash on an emulated board, which has no flash that can be programmed:
 * sectors in RAM, forgotten when the emulator ends. They stand in the section .journal, so that
 * the linker script can place them where the board has its flash.
 */
#include "ec_flash_ram.h"
#include "ec_link_port.h"
#include "model_train.h"

static const ec_flash_run runs[] = {{EC_FLASH_SECTOR_BYTES, EC_FLASH_SECTORS}};
static const ec_flash_geometry geometry = {runs, 1, 4, 0xFF};
__attribute__((section(".journal"))) static uint8_t memory[EC_FLASH_SECTOR_BYTES * EC_FLASH_SECTORS];
static ec_flash_ram ram = {&geometry, memory};
static ec_flash flash;

const ec_flash *ec_link_port_flash(void) {
    flash = ec_flash_in_ram(&ram);
    return &flash;
}
