/*
 * store_stm32.c: ec_flash_stm32.c on a model of the flash registers of STM32F4 and STM32F7, which
 * refuses what the reference manuals RM0090 and RM0385 forbid.
 *
 *   store_stm32 NAME   runs one check; prints what is wrong and exits with 1
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ec_flash_stm32.h"
#include "ec_store.h"
#include "store_stm32_io.h"

#define REGISTERS 0x40023C00u
#define CACHE 0xE000EF5Cu
#define CHECK(fact)                                              \
    do {                                                         \
        if (!(fact)) {                                           \
            printf("line %d: not so: %s\n", __LINE__, #fact);    \
            exit(1);                                             \
        }                                                        \
    } while (0)

/* The eight sectors of a STM32F746, smaller by 256. */
static const ec_flash_run runs[] = {{128, 4}, {512, 1}, {1024, 3}};
static const uint32_t starts[] = {0, 128, 256, 384, 512, 1024, 2048, 3072, 4096};
static const ec_store_layout layout = {6, 1, 2, 100, 1, 2};
static uint8_t memory[4096] __attribute__((aligned(32)));
static ec_flash_geometry geometry = {runs, 3, 4, 0xFF};
static ec_flash_stm32 chip;

static struct {
    uint32_t control;
    uint32_t status;
    uint32_t access; /* FLASH_ACR */
    uint32_t key;    /* the first key was written */
    uint32_t busy;   /* reads of SR until the work is done */
    uint32_t busy_reads;
    bool hangs;      /* the work is never done */
    bool key_burnt;  /* a wrong key: locked until reset */
    uint32_t fail;   /* error bits that the next work ends with */
    uint32_t programs;
    uint32_t erases;
    uint32_t lines;  /* cache lines invalidated */
    uint32_t resets; /* of the accelerator's data cache */
} flash;

static void power_on(uint32_t unit)
{
    memset(&flash, 0, sizeof flash);
    memset(memory, 0x77, sizeof memory);
    flash.control = 1u << 31;
    flash.busy_reads = 5;
    geometry.unit_bytes = unit;
    ec_flash_stm32 fresh = {&geometry, REGISTERS, (uintptr_t)memory, 0, 0, 100};
    chip = fresh;
}

static void begin_work(void)
{
    flash.busy = flash.busy_reads;
    flash.status |= 1u << 16;
}

uint32_t ec_io_read32(uintptr_t address)
{
    if (address == REGISTERS + 0x00u) {
        return flash.access;
    }
    if (address == REGISTERS + 0x10u) {
        return flash.control;
    }
    CHECK(address == REGISTERS + 0x0Cu);
    if ((flash.status & (1u << 16)) != 0 && !flash.hangs && flash.busy-- == 0) {
        flash.status &= ~(1u << 16);
        flash.status |= flash.fail;
        flash.control &= ~(1u << 16);
        flash.fail = 0;
    }
    return flash.status;
}

static void write_control(uint32_t value)
{
    if ((value & (1u << 31)) != 0) {
        flash.control |= 1u << 31;
        return;
    }
    CHECK((flash.control & (1u << 31)) == 0);
    CHECK((flash.status & (1u << 16)) == 0);
    CHECK((value & ~0x000103FFu) == 0); /* PG, SER, SNB, PSIZE, STRT */
    flash.control = value;
    if ((value & (1u << 16)) == 0) {
        return;
    }
    uint32_t sector = value >> 3 & 31u;
    CHECK((value & 3u) == 2u); /* SER, not PG */
    CHECK((flash.status & 0xF2u) == 0);
    sector -= chip.first_number;
    CHECK(sector < 8);
    if (flash.fail == 0) {
        memset(memory + starts[sector], 0xFF, starts[sector + 1] - starts[sector]);
    }
    flash.erases++;
    begin_work();
}

/* A write into the flash itself. */
static void program(uintptr_t address, uint32_t value, uint32_t bytes)
{
    uintptr_t at = address - (uintptr_t)memory;
    CHECK(at < sizeof memory && at % bytes == 0);
    CHECK((flash.status & (1u << 16)) == 0);
    CHECK((flash.control & 1u) != 0 && (flash.control & 2u) == 0);   /* else PGSERR */
    CHECK((flash.control >> 8 & 3u) == (bytes == 4 ? 2u : bytes / 2)); /* else PGPERR */
    CHECK((flash.status & 0xF2u) == 0);
    for (uint32_t i = 0; i < bytes && flash.fail == 0; i++) {
        memory[at + i] &= (uint8_t)(value >> (8 * i));
    }
    flash.programs++;
    begin_work();
}

void ec_io_write32(uintptr_t address, uint32_t value)
{
    if (address == REGISTERS + 0x04u) {
        bool right = value == (flash.key == 0 ? 0x45670123u : 0xCDEF89ABu);
        CHECK((flash.control & (1u << 31)) != 0 && right);
        flash.key = 1 - flash.key;
        if (flash.key == 0 && !flash.key_burnt) {
            flash.control &= ~(1u << 31);
        }
    } else if (address == REGISTERS + 0x0Cu) {
        CHECK((value & ~0xF3u) == 0);
        flash.status &= ~value;
    } else if (address == REGISTERS + 0x10u) {
        write_control(value);
    } else if (address == REGISTERS + 0x00u) {
        CHECK((value & (1u << 12)) == 0 || (flash.access & (1u << 10)) == 0);
        flash.resets += (value & (1u << 12)) != 0;
        flash.access = value;
    } else if (address == CACHE) {
        CHECK(value % 32 == 0);
        flash.lines++;
    } else {
        program(address, value, 4);
    }
}

void ec_io_write16(uintptr_t address, uint16_t value)
{
    program(address, value, 2);
}

void ec_io_write8(uintptr_t address, uint8_t value)
{
    program(address, value, 1);
}

void ec_io_barrier(void)
{
}

static ec_store_status save(ec_store *store, uint32_t number)
{
    uint8_t data[100];
    ec_store_status status = EC_STORE_MORE;
    memset(data, (int)number, sizeof data);
    while (status == EC_STORE_MORE) {
        status = ec_store_erase_step(store);
    }
    status = status == EC_STORE_OK ? ec_store_save_begin(store, 100) : status;
    status = status == EC_STORE_OK ? ec_store_save_chunk(store, data, 100) : status;
    return status == EC_STORE_OK ? ec_store_save_commit(store) : status;
}

static bool holds(const ec_store *store, uint32_t number)
{
    uint8_t data[100];
    ec_store_status status = ec_store_read(store, 0, data, 100);
    return status == EC_STORE_OK && data[0] == number && memcmp(data, data + 1, 99) == 0;
}

static void saves_and_loads_at_each_width(void)
{
    for (uint32_t unit = 1; unit <= 4; unit *= 2) {
        power_on(unit);
        ec_flash driver = ec_flash_on_stm32(&chip);
        ec_store store;
        CHECK(ec_store_open(&store, &driver, &layout) == EC_STORE_OK);
        for (uint32_t i = 1; i < 40; i++) {
            CHECK(save(&store, i) == EC_STORE_OK);
            CHECK((flash.control & (1u << 31)) != 0); /* locked again */
            CHECK(ec_store_open(&store, &driver, &layout) == EC_STORE_OK && holds(&store, i));
        }
        CHECK(flash.erases > 4);
        for (uint32_t i = 0; i < starts[6]; i++) {
            CHECK(memory[i] == 0x77);
        }
    }
}

static void error_flags_are_errors(void)
{
    static const uint32_t flags[] = {1u << 1, 1u << 4, 1u << 5, 1u << 6, 1u << 7};
    for (uint32_t i = 0; i < 5; i++) {
        power_on(4);
        ec_flash driver = ec_flash_on_stm32(&chip);
        ec_store store;
        CHECK(ec_store_open(&store, &driver, &layout) == EC_STORE_OK);
        flash.fail = flags[i];
        CHECK(save(&store, 1) == EC_STORE_ERASE_FAILED);
        CHECK(save(&store, 1) == EC_STORE_OK);
        flash.fail = flags[i];
        CHECK(save(&store, 2) == EC_STORE_PROGRAM_FAILED);
        CHECK(holds(&store, 1));
        CHECK(save(&store, 2) == EC_STORE_OK && holds(&store, 2));
    }
}

static void a_flash_that_hangs_or_stays_locked_is_an_error(void)
{
    power_on(4);
    ec_flash driver = ec_flash_on_stm32(&chip);
    ec_store store;
    CHECK(ec_store_open(&store, &driver, &layout) == EC_STORE_OK);
    CHECK(save(&store, 1) == EC_STORE_OK);
    flash.key_burnt = true;
    CHECK(save(&store, 2) == EC_STORE_PROGRAM_FAILED);
    flash.key_burnt = false;
    flash.hangs = true;
    CHECK(save(&store, 2) == EC_STORE_PROGRAM_FAILED);
    CHECK(holds(&store, 1));
    CHECK(driver.erase(&chip, 6, 2048, 1024) != 0);
    flash.hangs = false;
    CHECK(driver.erase(&chip, 32, 2048, 1024) != 0);
    CHECK(driver.program(&chip, 0, "12345678", 8) != 0);
}

static void second_bank_has_its_own_numbers(void)
{
    power_on(4);
    chip.first_number = 16;
    ec_flash driver = ec_flash_on_stm32(&chip);
    ec_store store;
    CHECK(ec_store_open(&store, &driver, &layout) == EC_STORE_OK);
    CHECK(save(&store, 1) == EC_STORE_OK && holds(&store, 1));
}

static void caches_forget(void)
{
    power_on(4);
    chip.invalidate = CACHE;
    ec_flash driver = ec_flash_on_stm32(&chip);
    CHECK(driver.erase(&chip, 6, 2048, 1024) == 0);
    CHECK(flash.lines == 1024 / 32 && flash.resets == 0);
    CHECK(driver.program(&chip, 2048 + 40, "abcd", 4) == 0);
    CHECK(flash.lines == 1024 / 32 + 1);
    flash.access = 1u << 10 | 5u;
    CHECK(driver.program(&chip, 2048 + 44, "abcd", 4) == 0);
    CHECK(flash.resets == 1 && flash.access == (1u << 10 | 5u));
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        void (*check)(void);
    } checks[] = {
        {"saves_and_loads_at_each_width", saves_and_loads_at_each_width},
        {"error_flags_are_errors", error_flags_are_errors},
        {"a_flash_that_hangs_or_stays_locked_is_an_error",
         a_flash_that_hangs_or_stays_locked_is_an_error},
        {"second_bank_has_its_own_numbers", second_bank_has_its_own_numbers},
        {"caches_forget", caches_forget},
    };
    for (uint32_t i = 0; count == 2 && i < sizeof checks / sizeof checks[0]; i++) {
        if (strcmp(words[1], checks[i].name) == 0) {
            checks[i].check();
            return 0;
        }
    }
    printf("no such check\n");
    return 2;
}
