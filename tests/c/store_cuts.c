/*
 * store_cuts.c: cuts the power of a model flash at every program and erase of many saves.
 *
 *   store_cuts single FROM TO LENGTH   one cut, pages of FROM to TO bytes, payloads near LENGTH
 *   store_cuts double TIMES            a cut, and another one in what follows, on small layouts
 *   store_cuts many CUTS SEED          cut after cut at random, up to five before a save succeeds
 *
 * After each cut the store must find the weights of before or those being saved, bit for bit, the
 * same ones at every later boot, and must save again. Prints the number of cuts; the first failure
 * ends the program with status 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ec_store.h"
#include "store_flash.h"

#define LONGEST 8192u
#define GRAPH 0x1234u
#define ORDER 0x5678u

/* A flash with a store on it, and what the store should hold. */
typedef struct {
    ec_flash_run runs[1];
    ec_flash_geometry geometry;
    ec_store_layout layout;
    flash_model model;
    ec_flash flash;
    ec_store store;
    uint32_t current; /* number of the payload that was found or committed last; 0: none */
    uint32_t last;    /* highest number begun */
} bench;

static uint64_t cuts;
static uint32_t first_at; /* of two cuts the first one */
static uint32_t first_kind;
static const char *place = "";

static void fail(const bench *b, const char *why)
{
    printf("%s: %s\npage %u unit %u erased %02X payload %u; cut %u at operation %u, then %d at %u; "
           "current %u last %u\n",
           place, why, (unsigned)b->runs[0].bytes, (unsigned)b->geometry.unit_bytes,
           b->geometry.erased, (unsigned)b->layout.payload_bytes, (unsigned)first_kind, (unsigned)first_at, (int)b->model.cut,
           (unsigned)b->model.cut_at, (unsigned)b->current, (unsigned)b->last);
    exit(1);
}

static void require(const bench *b, bool fact, const char *why)
{
    if (b->model.offence != NULL) {
        fail(b, b->model.offence);
    }
    if (!fact) {
        fail(b, why);
    }
}

/* --- payloads: `number` decides every byte and the length --- */

static uint32_t payload_length(const bench *b, uint32_t number)
{
    uint32_t most = b->layout.payload_bytes;
    return most - number * 5u % (most / 4u + 1u);
}

static void payload_fill(uint8_t *data, uint32_t number, uint32_t length)
{
    uint64_t state = number * 0x9E3779B97F4A7C15ull + 1u;
    for (uint32_t i = 0; i < length; i++) {
        data[i] = (uint8_t)next_random(&state);
    }
    for (uint32_t i = 0; i < 4u; i++) {
        data[i] = (uint8_t)(number >> (8u * i));
    }
}

/* Number of the payload that the store holds, 0 for none; fails unless all of it is right. */
static uint32_t found_number(const bench *b)
{
    static uint8_t got[LONGEST];
    static uint8_t wanted[LONGEST];
    ec_store_record record;
    ec_store_status status = ec_store_find(&b->store, &record);
    if (status == EC_STORE_EMPTY) {
        return 0;
    }
    require(b, status == EC_STORE_OK, "find fails");
    require(b, record.length >= 4u && record.length <= b->layout.payload_bytes, "the length is wrong");
    uint32_t half = record.length / 3u;
    require(b, ec_store_read(&b->store, 0, got, half) == EC_STORE_OK, "read fails");
    require(b, ec_store_read(&b->store, half, got + half, record.length - half) == EC_STORE_OK,
            "read fails");
    uint32_t number = got[0] | (uint32_t)got[1] << 8 | (uint32_t)got[2] << 16 | (uint32_t)got[3] << 24;
    require(b, number >= 1u && number <= b->last, "a payload that was never saved");
    payload_fill(wanted, number, record.length);
    require(b, record.length == payload_length(b, number) && memcmp(got, wanted, record.length) == 0,
            "a mixture");
    return number;
}

/* --- a device --- */

static void bench_make(bench *b, uint32_t page, uint32_t unit, uint8_t erased, uint32_t payload,
                       uint32_t slots, uint32_t areas)
{
    uint32_t slot = 32u + 10u * unit + (payload + unit - 1u) / unit * unit + (unit < 4u ? 4u : unit);
    memset(b, 0, sizeof *b);
    b->layout.area_sectors = (slots * slot + page - 1u) / page;
    b->layout.areas = areas;
    b->layout.first_sector = page <= 4096u ? 1u : 0u;
    b->layout.payload_bytes = payload;
    b->layout.graph_hash = GRAPH;
    b->layout.layout_hash = ORDER;
    b->runs[0].bytes = page;
    b->runs[0].count = b->layout.first_sector + areas * b->layout.area_sectors;
    b->geometry.runs = b->runs;
    b->geometry.run_count = 1;
    b->geometry.unit_bytes = unit;
    b->geometry.erased = erased;
    flash_model_make(&b->model, &b->geometry, page * 64u + unit);
    b->flash = flash_model_driver(&b->model);
}

static ec_store_status boot(bench *b)
{
    return ec_store_open(&b->store, &b->flash, &b->layout);
}

/* Saves the payload `number`, in chunks that fit no unit. */
static ec_store_status save(bench *b, uint32_t number)
{
    static uint8_t data[LONGEST];
    uint32_t length = payload_length(b, number);
    uint32_t chunk = 1u + number * 13u % 60u;
    ec_store_status status = EC_STORE_MORE;
    payload_fill(data, number, length);
    b->last = number > b->last ? number : b->last;
    while (status == EC_STORE_MORE) {
        status = ec_store_erase_step(&b->store);
    }
    if (status == EC_STORE_OK) {
        status = ec_store_save_begin(&b->store, length);
    }
    for (uint32_t done = 0; done < length && status == EC_STORE_OK; done += chunk) {
        uint32_t count = length - done < chunk ? length - done : chunk;
        status = ec_store_save_chunk(&b->store, data + done, count);
    }
    return status == EC_STORE_OK ? ec_store_save_commit(&b->store) : status;
}

/* Power on, whatever happened; the answer of this boot must be that of the next one. */
static void boot_and_check(bench *b, uint32_t pending)
{
    flash_model_power(&b->model, 0, CUT_CLEAN);
    require(b, boot(b) == EC_STORE_OK, "open fails after a cut");
    uint32_t number = found_number(b);
    require(b, number == b->current || number == pending, "neither the old weights nor the new ones");
    b->current = number;
    require(b, boot(b) == EC_STORE_OK && found_number(b) == number, "two boots find different weights");
}

static void save_and_check(bench *b)
{
    uint32_t number = b->last + 1u;
    require(b, save(b, number) == EC_STORE_OK, "no save after a cut");
    b->current = number;
    require(b, found_number(b) == number, "the save is not found at once");
    require(b, boot(b) == EC_STORE_OK && found_number(b) == number, "the save is not found after a boot");
}

/* Saves without cuts until the area in use has one free slot left, after `rounds` erases. */
static void wear_in(bench *b, uint32_t rounds)
{
    flash_model_power(&b->model, 0, CUT_CLEAN);
    require(b, boot(b) == EC_STORE_OK && found_number(b) == 0, "random bytes are taken for weights");
    uint32_t slots = b->layout.area_sectors * b->runs[0].bytes / b->store.slot_bytes;
    for (uint32_t i = 1; i < rounds * slots; i++) {
        require(b, save(b, i) == EC_STORE_OK, "a save fails");
        b->current = i;
    }
}

/* What a bench was, to come back to: its store goes with it, the memory of its flash is its own. */
typedef struct {
    bench was;
    flash_model memory;
} snapshot;

static void snapshot_make(snapshot *s, const bench *b)
{
    flash_model_make(&s->memory, &b->geometry, 1);
}

static void snapshot_take(snapshot *s, const bench *b)
{
    s->was = *b;
    flash_model_copy(&s->memory, &b->model);
}

static void snapshot_restore(const snapshot *s, bench *b)
{
    uint64_t random = b->model.random;
    *b = s->was;
    b->model.random = random;
    flash_model_copy(&b->model, &s->memory);
}

/* --- one cut --- */

/* Cuts every operation of the next `saves` saves, in every way. */
static void cut_each(bench *b, uint32_t saves)
{
    snapshot before;
    snapshot_make(&before, b);
    for (uint32_t i = 0; i < saves; i++) {
        uint32_t number = b->last + 1u;
        snapshot_take(&before, b);
        for (uint32_t kind = 0; kind < CUT_KINDS; kind++) {
            for (uint32_t at = 1;; at++) {
                snapshot_restore(&before, b);
                flash_model_power(&b->model, at, (cut_kind)kind);
                ec_store_status status = save(b, number);
                if (!b->model.off) {
                    break;
                }
                cuts++;
                require(b, status != EC_STORE_OK || b->model.operations == at, "a save ignores errors");
                boot_and_check(b, number);
                save_and_check(b);
            }
        }
        snapshot_restore(&before, b);
        flash_model_power(&b->model, 0, CUT_CLEAN);
        save_and_check(b);
    }
    flash_model_free(&before.memory);
}

static void single(uint32_t from, uint32_t to, uint32_t length)
{
    place = "single";
    for (uint32_t page = from; page <= to; page *= 2u) {
        for (uint32_t unit = 1; unit <= 32u; unit *= 2u) {
            for (uint32_t rounds = 0; rounds <= 3u; rounds += 3u) {
                bench b;
                uint32_t payload = length + (page > 16384u ? page / 128u : 0u) + 3u;
                uint8_t erased = (uint8_t)(page * unit % 3u == 1u ? 0x00u : 0xFFu);
                bench_make(&b, page, unit, erased, payload, 2, rounds == 0 && page <= 4096u ? 3 : 2);
                wear_in(&b, rounds);
                cut_each(&b, 3);
                flash_model_free(&b.model);
            }
        }
    }
}

/* --- two cuts --- */

/* After a first cut: cuts every operation of the next boot and save, in every way. */
static void cut_again(bench *b, snapshot *between, uint32_t pending)
{
    uint32_t number = b->last + 1u;
    snapshot_take(between, b);
    for (uint32_t kind = 0; kind < CUT_KINDS; kind++) {
        for (uint32_t at = 1;; at++) {
            snapshot_restore(between, b);
            flash_model_power(&b->model, at, (cut_kind)kind);
            require(b, boot(b) == EC_STORE_OK, "open fails after a cut");
            if (b->model.off) {
                cuts++;
                boot_and_check(b, pending);
                save_and_check(b);
                continue;
            }
            uint32_t found = found_number(b);
            require(b, found == b->current || found == pending, "neither the old weights nor the new ones");
            b->current = found;
            (void)save(b, number);
            if (!b->model.off) {
                break;
            }
            cuts++;
            boot_and_check(b, number);
            save_and_check(b);
        }
    }
}

static void cut_twice(bench *b, uint32_t saves)
{
    snapshot before;
    snapshot between;
    snapshot_make(&before, b);
    snapshot_make(&between, b);
    for (uint32_t i = 0; i < saves; i++) {
        uint32_t number = b->last + 1u;
        snapshot_take(&before, b);
        for (uint32_t kind = 0; kind < CUT_KINDS; kind++) {
            for (uint32_t at = 1;; at++) {
                snapshot_restore(&before, b);
                flash_model_power(&b->model, at, (cut_kind)kind);
                (void)save(b, number);
                if (!b->model.off) {
                    break;
                }
                cuts++;
                first_at = at;
                first_kind = kind;
                cut_again(b, &between, number);
            }
        }
        snapshot_restore(&before, b);
        flash_model_power(&b->model, 0, CUT_CLEAN);
        save_and_check(b);
    }
    flash_model_free(&before.memory);
    flash_model_free(&between.memory);
}

static void twice(uint32_t times)
{
    static const struct {
        uint32_t page; /* 512 holds an area: its erase is one operation and leaves any part */
        uint32_t unit;
        uint32_t payload;
        uint32_t slots;
    } small[] = {{64, 32, 5, 1}, {64, 8, 9, 1}, {512, 32, 5, 1}, {64, 32, 40, 2}};
    place = "double";
    for (uint32_t i = 0; i < times * (sizeof small / sizeof small[0]); i++) {
        for (uint32_t rounds = 0; rounds <= 2u; rounds += 2u) {
            bench b;
            bench_make(&b, small[i % 4u].page, small[i % 4u].unit, 0xFF, small[i % 4u].payload, small[i % 4u].slots, 2);
            b.model.random += i;
            wear_in(&b, rounds);
            cut_twice(&b, 2);
            flash_model_free(&b.model);
        }
    }
}

/* --- cut after cut --- */

/*
 * Three cuts and more in a row can tear both marks of a record at once. What was found stays
 * found; what was not found may come back until the next save succeeds, and is whole then.
 */
static void boot_after_many(bench *b, uint32_t row)
{
    require(b, boot(b) == EC_STORE_OK, "open fails after a cut");
    if (b->model.off) {
        return;
    }
    uint32_t number = found_number(b);
    require(b, number >= b->current, "weights that were found are lost");
    require(b, row > 2u || number == b->current || number == b->last,
            "neither the old weights nor the new ones");
    b->current = number;
}

static void many(uint64_t wanted, uint64_t seed)
{
    uint64_t random = seed * 2u + 1u;
    place = "many";
    while (cuts < wanted) {
        bench b;
        uint32_t unit = 1u << next_random(&random) % 6u;
        uint32_t page = 64u << next_random(&random) % 6u;
        uint32_t payload = 6u + (uint32_t)(next_random(&random) % 60u);
        bench_make(&b, page, unit, (uint8_t)(next_random(&random) & 1u ? 0xFFu : 0u), payload,
                   1u + (uint32_t)(next_random(&random) % 3u), 2u + (uint32_t)(next_random(&random) % 2u));
        b.model.random += next_random(&random) & 0xFFFFFFu;
        wear_in(&b, 0);
        for (uint32_t i = 0; i < 200u; i++) {
            uint32_t rows = (uint32_t)(next_random(&random) % 6u);
            for (uint32_t row = 1; row <= rows; row++) {
                /* The marks are where a store can go wrong: half of the cuts come early. */
                uint32_t span = next_random(&random) & 1u ? 6u : 60u + payload / unit;
                flash_model_power(&b.model, 1u + (uint32_t)(next_random(&random) % span),
                                  (cut_kind)(next_random(&random) % CUT_KINDS));
                boot_after_many(&b, row);
                if (!b.model.off && save(&b, b.last + 1u) == EC_STORE_OK) {
                    b.current = b.last;
                }
                cuts += b.model.off;
            }
            flash_model_power(&b.model, 0, CUT_CLEAN);
            boot_after_many(&b, rows);
            save_and_check(&b);
        }
        flash_model_free(&b.model);
    }
}

int main(int count, char **words)
{
    if (count == 5 && strcmp(words[1], "single") == 0) {
        single((uint32_t)atoi(words[2]), (uint32_t)atoi(words[3]), (uint32_t)atoi(words[4]));
    } else if (count == 3 && strcmp(words[1], "double") == 0) {
        twice((uint32_t)atoi(words[2]));
    } else if (count == 4 && strcmp(words[1], "many") == 0) {
        many(strtoull(words[2], NULL, 10), strtoull(words[3], NULL, 10));
    } else {
        return 2;
    }
    printf("%llu cuts\n", (unsigned long long)cuts);
    return 0;
}
