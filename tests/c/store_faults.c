/*
 * store_faults.c: the store on flash that fails, on flash of others and in wrong calls.
 *
 *   store_faults NAME   runs one check; prints what is wrong and exits with 1
 */
#define _POSIX_C_SOURCE 200809L

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ec_crc32.h"
#include "ec_flash_file.h"
#include "ec_flash_ram.h"
#include "ec_store.h"

#define CHECK(fact)                                              \
    do {                                                         \
        if (!(fact)) {                                           \
            printf("line %d: not so: %s\n", __LINE__, #fact);    \
            exit(1);                                             \
        }                                                        \
    } while (0)

#define PAYLOAD 50u
#define UNIT 8u
#define AREA 512u

/* Flash in memory whose functions can be told to fail. */
typedef struct {
    ec_flash_ram ram;
    ec_flash below;
    uint8_t memory[2 * AREA];
    uint32_t programs; /* done so far */
    uint32_t erases;
    uint32_t syncs;
    uint32_t program_fails; /* the program of this number fails, counted from 1 */
    bool programs_dead;     /* and all after it */
    bool erase_fails;
    bool erase_lies;  /* says that it erased, and did not */
    bool sync_fails;
    bool read_fails;
    uint32_t stuck_at; /* this byte keeps its lowest bit set; 0: none */
} faulty;

static const ec_flash_run runs[] = {{256, 4}};
static const ec_flash_geometry geometry = {runs, 1, UNIT, 0xFF};
static const ec_store_layout layout = {0, 2, 2, PAYLOAD, 0x1111, 0x2222};

static int faulty_read(void *context, uint32_t address, void *data, uint32_t bytes)
{
    faulty *f = context;
    return f->read_fails ? -1 : f->below.read(&f->ram, address, data, bytes);
}

static int faulty_program(void *context, uint32_t address, const void *data, uint32_t bytes)
{
    faulty *f = context;
    f->programs++;
    if (f->program_fails != 0 && (f->programs == f->program_fails ||
                                  (f->programs_dead && f->programs > f->program_fails))) {
        return -1;
    }
    int result = f->below.program(&f->ram, address, data, bytes);
    if (f->stuck_at != 0) {
        f->memory[f->stuck_at] |= 1u;
    }
    return result;
}

static int faulty_erase(void *context, uint32_t sector, uint32_t address, uint32_t bytes)
{
    faulty *f = context;
    f->erases++;
    if (f->erase_fails) {
        return -1;
    }
    return f->erase_lies ? 0 : f->below.erase(&f->ram, sector, address, bytes);
}

static int faulty_sync(void *context)
{
    faulty *f = context;
    f->syncs++;
    return f->sync_fails ? -1 : 0;
}

static ec_flash faulty_make(faulty *f)
{
    ec_flash flash = {&geometry, f, faulty_read, faulty_program, faulty_erase, faulty_sync};
    memset(f, 0, sizeof *f);
    f->ram.geometry = &geometry;
    f->ram.memory = f->memory;
    f->below = ec_flash_in_ram(&f->ram);
    return flash;
}

static ec_store_status save(ec_store *store, uint8_t first, uint32_t length)
{
    uint8_t data[PAYLOAD];
    ec_store_status status = EC_STORE_MORE;
    for (uint32_t i = 0; i < length; i++) {
        data[i] = (uint8_t)(first + i);
    }
    while (status == EC_STORE_MORE) {
        status = ec_store_erase_step(store);
    }
    if (status == EC_STORE_OK) {
        status = ec_store_save_begin(store, length);
    }
    if (status == EC_STORE_OK) {
        status = ec_store_save_chunk(store, data, 3);
    }
    if (status == EC_STORE_OK) {
        status = ec_store_save_chunk(store, data + 3, length - 3);
    }
    return status == EC_STORE_OK ? ec_store_save_commit(store) : status;
}

static bool holds(const ec_store *store, uint8_t first, uint32_t length)
{
    uint8_t data[PAYLOAD];
    ec_store_record record;
    if (ec_store_find(store, &record) != EC_STORE_OK || record.length != length ||
        ec_store_read(store, 0, data, length) != EC_STORE_OK) {
        return false;
    }
    for (uint32_t i = 0; i < length; i++) {
        if (data[i] != (uint8_t)(first + i)) {
            return false;
        }
    }
    return true;
}

static void crc_is_ieee(void)
{
    CHECK(ec_crc32(0, "123456789", 9) == 0xCBF43926u);
    CHECK(ec_crc32(ec_crc32(0, "1234", 4), "56789", 5) == 0xCBF43926u);
    CHECK(ec_crc32(0, "", 0) == 0);
}

static void texts_are_distinct(void)
{
    for (int i = 0; i <= EC_STORE_SYNC_FAILED; i++) {
        CHECK(strcmp(ec_store_status_text((ec_store_status)i), "unknown status") != 0);
        for (int k = 0; k < i; k++) {
            CHECK(strcmp(ec_store_status_text((ec_store_status)i),
                         ec_store_status_text((ec_store_status)k)) != 0);
        }
    }
    CHECK(strcmp(ec_store_status_text((ec_store_status)(EC_STORE_SYNC_FAILED + 1)),
                 "unknown status") == 0);
}

static void file_outlives_the_process(void)
{
    char path[] = "/tmp/edgec-store-XXXXXX";
    ec_flash_file file = {&geometry, mkstemp(path)};
    ec_store store;
    ec_store_record record;
    CHECK(file.descriptor >= 0);
    ec_flash flash = ec_flash_in_file(&file);
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(ec_store_find(&store, &record) == EC_STORE_EMPTY);
    for (uint8_t i = 1; i < 20; i++) {
        CHECK(save(&store, i, PAYLOAD - i) == EC_STORE_OK);
        CHECK(close(file.descriptor) == 0);
        file.descriptor = open(path, O_RDWR);
        CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
        CHECK(holds(&store, i, PAYLOAD - i));
    }
    close(file.descriptor);
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(ec_store_find(&store, &record) == EC_STORE_EMPTY);
    CHECK(save(&store, 1, PAYLOAD) == EC_STORE_ERASE_FAILED);
    unlink(path);
}

/* Each program of a save fails, once or from then on: an error, the old weights, and a new save. */
static void failed_program_keeps_the_old_weights(void)
{
    for (uint32_t dead = 0; dead < 2; dead++) {
        for (uint32_t at = 1;; at++) {
            faulty f;
            ec_store store;
            ec_flash flash = faulty_make(&f);
            CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
            CHECK(save(&store, 1, PAYLOAD) == EC_STORE_OK);
            f.program_fails = f.programs + at;
            f.programs_dead = dead != 0;
            ec_store_status status = save(&store, 2, PAYLOAD);
            if (f.programs < f.program_fails) {
                CHECK(at > 10);
                break;
            }
            CHECK(status == EC_STORE_PROGRAM_FAILED || status == EC_STORE_OK);
            uint8_t kept = status == EC_STORE_OK ? 2 : 1;
            CHECK(holds(&store, kept, PAYLOAD));
            CHECK(status != EC_STORE_OK || f.programs >= 1 + 4 + 7 + 1 + 3);
            CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
            CHECK(holds(&store, kept, PAYLOAD));
            f.program_fails = 0;
            CHECK(save(&store, 3, PAYLOAD) == EC_STORE_OK);
            CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
            CHECK(holds(&store, 3, PAYLOAD));
        }
    }
}

/* Each byte in turn is stuck: a save that does not verify is an error, and the next one succeeds. */
static void stuck_bit_is_found_by_reading_back(void)
{
    uint32_t errors = 0;
    for (uint32_t at = 1; at < 2 * AREA; at++) {
        faulty f;
        ec_store store;
        ec_flash flash = faulty_make(&f);
        CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
        f.stuck_at = at;
        uint8_t kept = 0;
        for (uint8_t i = 1; i < 12; i++) {
            ec_store_status status = save(&store, i, PAYLOAD);
            CHECK(status == EC_STORE_OK || status == EC_STORE_VERIFY_FAILED);
            kept = status == EC_STORE_OK ? i : kept;
            if (status != EC_STORE_OK) {
                errors++;
                CHECK(kept == 0 || holds(&store, kept, PAYLOAD));
                CHECK(save(&store, i, PAYLOAD) == EC_STORE_OK);
                kept = i;
            }
            CHECK(holds(&store, kept, PAYLOAD));
            CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
            CHECK(holds(&store, kept, PAYLOAD));
        }
        CHECK(kept == 11);
    }
    CHECK(errors > 100);
}

static void failed_erase_keeps_the_old_weights(void)
{
    faulty f;
    ec_store store;
    ec_flash flash = faulty_make(&f);
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    f.erase_fails = true;
    CHECK(save(&store, 1, PAYLOAD) == EC_STORE_ERASE_FAILED);
    f.erase_fails = false;
    f.erase_lies = true;
    CHECK(save(&store, 1, PAYLOAD) == EC_STORE_NOT_ERASED);
    f.erase_lies = false;
    f.sync_fails = true;
    CHECK(save(&store, 1, PAYLOAD) == EC_STORE_SYNC_FAILED);
    f.sync_fails = false;
    uint8_t last = 0;
    uint32_t erases = f.erases;
    while (f.erases < erases + 3) {
        CHECK(save(&store, ++last, PAYLOAD) == EC_STORE_OK);
    }
    while (save(&store, (uint8_t)(last + 1), PAYLOAD) == EC_STORE_OK) {
        last++;
        f.erase_fails = true;
    }
    f.erase_fails = false;
    f.erase_lies = true;
    CHECK(save(&store, 99, PAYLOAD) == EC_STORE_NOT_ERASED);
    CHECK(holds(&store, last, PAYLOAD));
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(holds(&store, last, PAYLOAD));
    CHECK(save(&store, 99, PAYLOAD) == EC_STORE_NOT_ERASED);
    CHECK(holds(&store, last, PAYLOAD));
    f.erase_lies = false;
    CHECK(save(&store, 99, PAYLOAD) == EC_STORE_OK);
    CHECK(holds(&store, 99, PAYLOAD));
}

static void failed_sync_and_read_are_errors(void)
{
    faulty f;
    ec_store store;
    ec_flash flash = faulty_make(&f);
    uint8_t byte;
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(save(&store, 1, PAYLOAD) == EC_STORE_OK);
    f.sync_fails = true;
    CHECK(save(&store, 2, PAYLOAD) == EC_STORE_SYNC_FAILED);
    CHECK(holds(&store, 1, PAYLOAD));
    f.sync_fails = false;
    f.read_fails = true;
    CHECK(ec_store_read(&store, 0, &byte, 1) == EC_STORE_READ_FAILED);
    f.read_fails = false;
    CHECK(save(&store, 3, PAYLOAD) == EC_STORE_OK);
    CHECK(ec_store_erase_step(&store) == EC_STORE_OK);
    CHECK(ec_store_save_begin(&store, 8) == EC_STORE_OK);
    f.read_fails = true;
    CHECK(ec_store_save_chunk(&store, "12345678", 8) == EC_STORE_READ_FAILED);
    CHECK(ec_store_save_chunk(&store, "12345678", 8) == EC_STORE_NOT_BEGUN);
    f.read_fails = false;
    CHECK(holds(&store, 3, PAYLOAD));
}

static void full_flash_says_so(void)
{
    faulty f;
    ec_store store;
    ec_flash flash = faulty_make(&f);
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(ec_store_save_begin(&store, PAYLOAD) == EC_STORE_FULL);
    CHECK(f.erases == 0);
    CHECK(ec_store_erase_step(&store) == EC_STORE_MORE);
    CHECK(ec_store_save_begin(&store, PAYLOAD) == EC_STORE_FULL);
    CHECK(ec_store_erase_step(&store) == EC_STORE_OK);
    CHECK(f.erases == 2);
    CHECK(ec_store_save_begin(&store, PAYLOAD) == EC_STORE_OK);
}

/* Saves that are given up use up slots and areas, never the newest record. */
static void aborted_saves_never_cost_the_newest(void)
{
    for (uint32_t areas = 2; areas <= 4; areas += 2) {
        const ec_store_layout own = {0, 4 / areas, areas, 8, 0x1111, 0x2222};
        faulty f;
        ec_store store;
        ec_flash flash = faulty_make(&f);
        CHECK(ec_store_open(&store, &flash, &own) == EC_STORE_OK);
        CHECK(save(&store, 1, 8) == EC_STORE_OK);
        for (uint32_t i = 0; i < 50; i++) {
            ec_store_status status = EC_STORE_MORE;
            while (status == EC_STORE_MORE) {
                status = ec_store_erase_step(&store);
            }
            CHECK(status == EC_STORE_OK);
            CHECK(ec_store_save_begin(&store, 8) == EC_STORE_OK);
            CHECK(ec_store_save_chunk(&store, "12345678", i % 9) == EC_STORE_OK);
            ec_store_abort(&store);
            CHECK(holds(&store, 1, 8));
            if (i % 7 == 6) {
                CHECK(ec_store_open(&store, &flash, &own) == EC_STORE_OK);
                CHECK(holds(&store, 1, 8));
            }
        }
        CHECK(f.erases > 8);
    }
}

static void weights_of_others_are_refused(void)
{
    faulty f;
    ec_store store;
    ec_store_record record;
    uint8_t byte;
    uint8_t before[2 * AREA];
    ec_flash flash = faulty_make(&f);
    ec_store_layout other = layout;
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(save(&store, 1, PAYLOAD) == EC_STORE_OK);
    memcpy(before, f.memory, sizeof before);

    other.graph_hash++;
    CHECK(ec_store_open(&store, &flash, &other) == EC_STORE_OK);
    CHECK(ec_store_find(&store, &record) == EC_STORE_WRONG_GRAPH);
    CHECK(ec_store_read(&store, 0, &byte, 1) == EC_STORE_WRONG_GRAPH);
    other = layout;
    other.layout_hash++;
    CHECK(ec_store_open(&store, &flash, &other) == EC_STORE_OK);
    CHECK(ec_store_find(&store, &record) == EC_STORE_WRONG_LAYOUT);
    other = layout;
    other.payload_bytes += UNIT;
    CHECK(ec_store_open(&store, &flash, &other) == EC_STORE_OK);
    CHECK(ec_store_find(&store, &record) == EC_STORE_WRONG_LAYOUT);
    CHECK(memcmp(before, f.memory, sizeof before) == 0);

    /* The first save of the other network leaves them in their area. */
    CHECK(save(&store, 7, PAYLOAD) == EC_STORE_OK);
    CHECK(holds(&store, 7, PAYLOAD));
    CHECK(memcmp(before, f.memory, AREA) == 0);
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(holds(&store, 1, PAYLOAD));

    f.memory[UNIT + 3]++;
    uint32_t crc = ec_crc32(0, f.memory + UNIT, 28);
    for (uint32_t i = 0; i < 4; i++) {
        f.memory[UNIT + 28 + i] = (uint8_t)(crc >> (8 * i));
    }
    memset(f.memory + AREA, 0xFF, AREA);
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(ec_store_find(&store, &record) == EC_STORE_WRONG_VERSION);
}

/* Any one bit of the flash flips after the save: the newest weights or those before, nothing else. */
static void rotten_bits_are_found(void)
{
    faulty f;
    ec_store store;
    uint8_t whole[2 * AREA];
    uint32_t fell_back = 0;
    ec_flash flash = faulty_make(&f);
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(save(&store, 1, PAYLOAD) == EC_STORE_OK);
    CHECK(save(&store, 2, PAYLOAD) == EC_STORE_OK);
    memcpy(whole, f.memory, sizeof whole);
    for (uint32_t bit = 0; bit < 8 * AREA; bit++) {
        memcpy(f.memory, whole, sizeof whole);
        f.memory[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
        CHECK(holds(&store, 2, PAYLOAD) || holds(&store, 1, PAYLOAD));
        fell_back += holds(&store, 1, PAYLOAD);
        CHECK(save(&store, 3, PAYLOAD) == EC_STORE_OK);
        CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK && holds(&store, 3, PAYLOAD));
    }
    CHECK(fell_back == 8 * (32 + PAYLOAD + 4));
}

static void sequence_wraps_around(void)
{
    faulty f;
    ec_store store;
    ec_store_record record;
    ec_flash flash = faulty_make(&f);
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    store.sequence = 0xFFFFFFF0u;
    for (uint8_t i = 1; i < 40; i++) {
        CHECK(save(&store, i, PAYLOAD) == EC_STORE_OK);
        CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
        CHECK(holds(&store, i, PAYLOAD));
        CHECK(ec_store_find(&store, &record) == EC_STORE_OK && record.sequence == 0xFFFFFFF0u + i);
    }
}

static void wrong_calls_are_errors(void)
{
    faulty f;
    ec_store store;
    ec_store_record record;
    uint8_t data[PAYLOAD + 1] = {0};
    ec_flash flash = faulty_make(&f);
    memset(&store, 0, sizeof store);
    CHECK(ec_store_find(&store, &record) == EC_STORE_NOT_OPEN);
    CHECK(ec_store_read(&store, 0, data, 1) == EC_STORE_NOT_OPEN);
    CHECK(ec_store_erase_step(&store) == EC_STORE_NOT_OPEN);
    CHECK(ec_store_save_begin(&store, 1) == EC_STORE_NOT_OPEN);
    CHECK(ec_store_save_chunk(&store, data, 1) == EC_STORE_NOT_OPEN);
    CHECK(ec_store_save_commit(&store) == EC_STORE_NOT_OPEN);
    CHECK(ec_store_open(NULL, &flash, &layout) == EC_STORE_NULL_POINTER);
    CHECK(ec_store_open(&store, NULL, &layout) == EC_STORE_NULL_POINTER);
    CHECK(ec_store_open(&store, &flash, NULL) == EC_STORE_NULL_POINTER);
    flash.sync = NULL;
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_NULL_POINTER);
    flash.sync = faulty_sync;
    CHECK(ec_store_open(&store, &flash, &layout) == EC_STORE_OK);
    CHECK(ec_store_read(&store, 0, data, 1) == EC_STORE_EMPTY);
    CHECK(ec_store_save_chunk(&store, data, 1) == EC_STORE_NOT_BEGUN);
    CHECK(ec_store_save_commit(&store) == EC_STORE_NOT_BEGUN);
    CHECK(save(&store, 1, PAYLOAD) == EC_STORE_OK);
    CHECK(ec_store_save_begin(&store, 0) == EC_STORE_BAD_LENGTH);
    CHECK(ec_store_save_begin(&store, PAYLOAD + 1) == EC_STORE_BAD_LENGTH);
    CHECK(ec_store_save_begin(&store, PAYLOAD) == EC_STORE_OK);
    CHECK(ec_store_save_begin(&store, PAYLOAD) == EC_STORE_BUSY);
    CHECK(ec_store_erase_step(&store) == EC_STORE_BUSY);
    CHECK(ec_store_save_chunk(&store, data, PAYLOAD + 1) == EC_STORE_LENGTH_MISMATCH);
    CHECK(ec_store_save_chunk(&store, data, PAYLOAD - 1) == EC_STORE_OK);
    CHECK(ec_store_save_commit(&store) == EC_STORE_LENGTH_MISMATCH);
    CHECK(ec_store_save_chunk(&store, data, 2) == EC_STORE_LENGTH_MISMATCH);
    CHECK(holds(&store, 1, PAYLOAD));
    CHECK(ec_store_save_chunk(&store, data, 1) == EC_STORE_OK);
    CHECK(ec_store_save_commit(&store) == EC_STORE_OK);
    CHECK(ec_store_save_commit(&store) == EC_STORE_NOT_BEGUN);
    CHECK(ec_store_read(&store, 1, data, PAYLOAD) == EC_STORE_OUT_OF_RANGE);
    CHECK(ec_store_read(&store, PAYLOAD + 1, data, 0) == EC_STORE_OUT_OF_RANGE);
    CHECK(ec_store_read(&store, 2, data, 0xFFFFFFFFu) == EC_STORE_OUT_OF_RANGE);
    CHECK(ec_store_read(&store, PAYLOAD, data, 0) == EC_STORE_OK);
}

static ec_store_status open_with(ec_flash_geometry g, ec_store_layout l)
{
    static faulty f;
    ec_store store;
    ec_flash flash = faulty_make(&f);
    flash.geometry = &g;
    return ec_store_open(&store, &flash, &l);
}

static void wrong_geometry_and_layout_are_errors(void)
{
    static const ec_flash_run odd[] = {{100, 4}};
    static const ec_flash_run none[] = {{256, 0}};
    static const ec_flash_run huge[] = {{0x40000000u, 3}, {0x40000000u, 2}};
    ec_flash_geometry g = geometry;
    ec_store_layout l = layout;
    static const uint32_t units[] = {0, 3, 24, 64};
    for (uint32_t i = 0; i < 4; i++) {
        g.unit_bytes = units[i];
        CHECK(open_with(g, l) == EC_STORE_BAD_GEOMETRY);
    }
    g = geometry;
    g.runs = odd;
    CHECK(open_with(g, l) == EC_STORE_BAD_GEOMETRY);
    g.runs = none;
    CHECK(open_with(g, l) == EC_STORE_BAD_GEOMETRY);
    g.runs = huge;
    g.run_count = 2;
    CHECK(open_with(g, l) == EC_STORE_BAD_GEOMETRY);
    g = geometry;
    l.areas = 1;
    CHECK(open_with(g, l) == EC_STORE_BAD_LAYOUT);
    l = layout;
    l.areas = 3;
    CHECK(open_with(g, l) == EC_STORE_BAD_LAYOUT);
    l = layout;
    l.first_sector = 1;
    CHECK(open_with(g, l) == EC_STORE_BAD_LAYOUT);
    l = layout;
    l.area_sectors = 0;
    CHECK(open_with(g, l) == EC_STORE_BAD_LAYOUT);
    l = layout;
    l.payload_bytes = 0;
    CHECK(open_with(g, l) == EC_STORE_BAD_LAYOUT);
    l.payload_bytes = AREA - UNIT - 32 - UNIT - 9 * UNIT;
    CHECK(open_with(g, l) == EC_STORE_OK);
    l.payload_bytes++;
    CHECK(open_with(g, l) == EC_STORE_AREA_TOO_SMALL);
    l.payload_bytes = 0xFFFFFFFFu;
    CHECK(open_with(g, l) == EC_STORE_AREA_TOO_SMALL);
}

/* Areas of unequal sectors hold unequal numbers of records. */
static void sectors_may_differ(void)
{
    static const ec_flash_run unequal[] = {{64, 3}, {128, 1}, {512, 1}, {192, 1}};
    const ec_flash_geometry g = {unequal, 4, 4, 0xFF};
    const ec_store_layout l = {2, 2, 2, 20, 1, 2};
    static uint8_t memory[3 * 64 + 128 + 512 + 192];
    ec_flash_ram ram = {&g, memory};
    ec_flash flash = ec_flash_in_ram(&ram);
    ec_store store;
    memset(memory, 0x5A, sizeof memory);
    CHECK(ec_store_open(&store, &flash, &l) == EC_STORE_OK);
    for (uint8_t i = 1; i < 60; i++) {
        CHECK(save(&store, i, 20) == EC_STORE_OK);
        CHECK(i % 3 != 0 || ec_store_open(&store, &flash, &l) == EC_STORE_OK);
        CHECK(holds(&store, i, 20));
    }
    for (uint32_t i = 0; i < 128; i++) {
        CHECK(memory[i] == 0x5A);
    }
}

/* What ec_store.h says of each call. */
static void work_of_a_call_is_bounded(void)
{
    for (uint32_t unit = 1; unit <= 32; unit *= 2) {
        const ec_flash_geometry g = {runs, 1, unit, 0xFF};
        const ec_store_layout l = {0, 2, 2, 7, 1, 2};
        uint8_t data[7] = {0};
        faulty f;
        ec_store store;
        ec_flash flash = faulty_make(&f);
        flash.geometry = &g;
        CHECK(ec_store_open(&store, &flash, &l) == EC_STORE_OK);
        CHECK(ec_store_erase_step(&store) == EC_STORE_MORE && f.erases == 1);
        CHECK(ec_store_erase_step(&store) == EC_STORE_OK && f.erases == 2);
        CHECK(f.programs == 0);
        CHECK(ec_store_save_begin(&store, 7) == EC_STORE_OK);
        CHECK(f.programs == 1 + 32 / unit);
        f.programs = 0;
        CHECK(ec_store_save_chunk(&store, data, 5) == EC_STORE_OK);
        CHECK(f.programs == 5 / unit);
        CHECK(ec_store_save_chunk(&store, data, 2) == EC_STORE_OK);
        CHECK(f.programs == 7 / unit);
        f.programs = 0;
        CHECK(ec_store_save_commit(&store) == EC_STORE_OK);
        CHECK(f.programs <= 4 + (4 + unit - 1) / unit);
        f.programs = 0;
        CHECK(ec_store_open(&store, &flash, &l) == EC_STORE_OK);
        CHECK(f.programs == 0);
    }
    CHECK(sizeof(((ec_store *)0)->unit) <= 64);
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        void (*check)(void);
    } checks[] = {
        {"crc_is_ieee", crc_is_ieee},
        {"texts_are_distinct", texts_are_distinct},
        {"file_outlives_the_process", file_outlives_the_process},
        {"failed_program_keeps_the_old_weights", failed_program_keeps_the_old_weights},
        {"stuck_bit_is_found_by_reading_back", stuck_bit_is_found_by_reading_back},
        {"failed_erase_keeps_the_old_weights", failed_erase_keeps_the_old_weights},
        {"failed_sync_and_read_are_errors", failed_sync_and_read_are_errors},
        {"full_flash_says_so", full_flash_says_so},
        {"aborted_saves_never_cost_the_newest", aborted_saves_never_cost_the_newest},
        {"weights_of_others_are_refused", weights_of_others_are_refused},
        {"rotten_bits_are_found", rotten_bits_are_found},
        {"sequence_wraps_around", sequence_wraps_around},
        {"wrong_calls_are_errors", wrong_calls_are_errors},
        {"wrong_geometry_and_layout_are_errors", wrong_geometry_and_layout_are_errors},
        {"sectors_may_differ", sectors_may_differ},
        {"work_of_a_call_is_bounded", work_of_a_call_is_bounded},
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
