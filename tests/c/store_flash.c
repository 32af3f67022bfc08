/* store_flash.c: the flash of store_flash.h. */
#include "store_flash.h"

#include <stdlib.h>
#include <string.h>

/* BLANK: erased whole. WHOLE: programmed. PART: its program was cut. STALE: its erase was cut. */
enum { BLANK, WHOLE, PART, STALE };

uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545F4914F6CDD1Dull >> 8;
}

static void *make(uint32_t bytes)
{
    void *memory = calloc(bytes, 1);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

void flash_model_make(flash_model *model, const ec_flash_geometry *geometry, uint64_t seed)
{
    memset(model, 0, sizeof *model);
    model->geometry = geometry;
    model->random = seed * 2u + 1u;
    for (uint32_t i = 0; i < geometry->run_count; i++) {
        model->bytes += geometry->runs[i].bytes * geometry->runs[i].count;
    }
    uint32_t units = model->bytes / geometry->unit_bytes;
    model->content = make(model->bytes);
    model->meant = make(model->bytes);
    model->state = make(units);
    model->reading = make(units);
    for (uint32_t i = 0; i < model->bytes; i++) {
        model->content[i] = (uint8_t)next_random(&model->random);
    }
    memset(model->state, STALE, units);
}

void flash_model_free(flash_model *model)
{
    free(model->content);
    free(model->meant);
    free(model->state);
    free(model->reading);
}

void flash_model_power(flash_model *model, uint32_t cut_at, cut_kind cut)
{
    model->operations = 0;
    model->cut_at = cut_at;
    model->cut = cut;
    model->off = false;
}

void flash_model_copy(flash_model *to, const flash_model *from)
{
    uint32_t units = from->bytes / from->geometry->unit_bytes;
    memcpy(to->content, from->content, from->bytes);
    memcpy(to->meant, from->meant, from->bytes);
    memcpy(to->state, from->state, units);
    memcpy(to->reading, from->reading, units);
}

static void offend(flash_model *model, const char *offence)
{
    if (model->offence == NULL) {
        model->offence = offence;
    }
}

/* False where the unit reads as an error. */
static bool read_unit(flash_model *model, uint32_t unit, uint8_t *data)
{
    uint32_t bytes = model->geometry->unit_bytes;
    const uint8_t *content = model->content + unit * bytes;
    const uint8_t *meant = model->meant + unit * bytes;
    uint8_t mask = next_random(&model->random) & 1u ? 0xFFu : 0u;
    for (uint32_t i = 0; i < bytes; i++) {
        if (model->reading[unit] != CUT_COIN) {
            mask = (uint8_t)next_random(&model->random);
        }
        data[i] = model->reading[unit] == CUT_NOISE ? mask
                                                    : (uint8_t)((content[i] & mask) | (meant[i] & ~mask));
    }
    return model->reading[unit] != CUT_UNREADABLE;
}

static int model_read(void *context, uint32_t address, void *data, uint32_t bytes)
{
    flash_model *model = context;
    uint32_t unit_bytes = model->geometry->unit_bytes;
    uint8_t *out = data;
    if (model->off) {
        return -1;
    }
    if (address > model->bytes || bytes > model->bytes - address) {
        offend(model, "a read beyond the flash");
        return -1;
    }
    memcpy(data, model->content + address, bytes);
    for (uint32_t unit = address / unit_bytes; unit * unit_bytes < address + bytes; unit++) {
        uint8_t read[32];
        if (model->reading[unit] == CUT_CLEAN) {
            continue;
        }
        if (!read_unit(model, unit, read)) {
            return -1;
        }
        for (uint32_t i = 0; i < unit_bytes; i++) {
            uint32_t at = unit * unit_bytes + i;
            if (at >= address && at < address + bytes) {
                out[at - address] = read[i];
            }
        }
    }
    return 0;
}

/* True where this operation loses the power. */
static bool cut_now(flash_model *model)
{
    model->operations++;
    model->off = model->operations == model->cut_at;
    return model->off;
}

static void tear_program(flash_model *model, uint32_t unit, const uint8_t *data)
{
    uint32_t bytes = model->geometry->unit_bytes;
    uint8_t *content = model->content + unit * bytes;
    if (model->cut == CUT_CLEAN || model->state[unit] == WHOLE) {
        return; /* programming the same bits again changes nothing on the way either */
    }
    for (uint32_t i = 0; i < bytes; i++) {
        uint8_t mask = (uint8_t)(next_random(&model->random) & next_random(&model->random));
        if (model->cut == CUT_TORN) {
            content[i] = (uint8_t)((content[i] & mask) | (data[i] & ~mask));
        } else if (model->cut == CUT_ROTTEN) {
            content[i] = data[i] ^ mask;
        }
    }
    memcpy(model->meant + unit * bytes, data, bytes);
    model->state[unit] = PART;
    model->reading[unit] = (uint8_t)(model->cut > CUT_ROTTEN ? model->cut : CUT_CLEAN);
}

static int model_program(void *context, uint32_t address, const void *data, uint32_t bytes)
{
    flash_model *model = context;
    uint32_t unit = address / model->geometry->unit_bytes;
    const uint8_t *in = data;
    if (model->off) {
        return -1;
    }
    if (bytes != model->geometry->unit_bytes || address % bytes != 0 || address >= model->bytes) {
        offend(model, "a program that is not one aligned unit");
        return -1;
    }
    bool mark = true;
    for (uint32_t i = 0; i < bytes; i++) {
        mark = mark && (in[i] ^ model->geometry->erased) == 0xFF;
    }
    if (model->state[unit] == STALE) {
        offend(model, "a program into a sector that was not erased whole");
    } else if (model->state[unit] != BLANK) {
        const uint8_t *first = (model->state[unit] == PART ? model->meant : model->content) + address;
        if (!mark || memcmp(first, data, bytes) != 0) {
            offend(model, "a unit programmed twice");
        }
    }
    if (cut_now(model)) {
        tear_program(model, unit, in);
        return -1;
    }
    model->programs++;
    memcpy(model->content + address, data, bytes);
    model->state[unit] = WHOLE;
    model->reading[unit] = CUT_CLEAN;
    return 0;
}

static void tear_erase(flash_model *model, uint32_t first, uint32_t units)
{
    uint32_t bytes = model->geometry->unit_bytes;
    uint32_t border = (uint32_t)(next_random(&model->random) % (units + 1u));
    bool first_part = (next_random(&model->random) & 1u) != 0u;
    for (uint32_t i = 0; i < units && model->cut != CUT_CLEAN; i++) {
        uint8_t *content = model->content + (first + i) * bytes;
        uint32_t fate = (uint32_t)(next_random(&model->random) % 3u);
        memset(model->meant + (first + i) * bytes, model->geometry->erased, bytes);
        model->state[first + i] = STALE;
        model->reading[first + i] = CUT_CLEAN;
        if (model->cut == CUT_TORN ? (i < border) == first_part : fate == 0) {
            memset(content, model->geometry->erased, bytes);
        } else if (model->cut == CUT_ROTTEN && fate == 1) {
            for (uint32_t k = 0; k < bytes; k++) {
                content[k] = (uint8_t)next_random(&model->random);
            }
        } else if (model->cut > CUT_ROTTEN && fate == 1) {
            model->reading[first + i] = (uint8_t)model->cut;
        }
    }
}

static int model_erase(void *context, uint32_t sector, uint32_t address, uint32_t bytes)
{
    flash_model *model = context;
    uint32_t unit_bytes = model->geometry->unit_bytes;
    uint32_t start = 0;
    uint32_t size = 0;
    if (model->off) {
        return -1;
    }
    for (uint32_t i = 0, past = 0; i < model->geometry->run_count && size == 0; i++) {
        const ec_flash_run *run = &model->geometry->runs[i];
        size = sector - past < run->count ? run->bytes : 0;
        start += (size != 0 ? sector - past : run->count) * run->bytes;
        past += run->count;
    }
    if (size == 0 || address != start || bytes != size) {
        offend(model, "an erase of no sector");
        return -1;
    }
    if (cut_now(model)) {
        tear_erase(model, address / unit_bytes, bytes / unit_bytes);
        return -1;
    }
    model->erases++;
    memset(model->content + address, model->geometry->erased, bytes);
    memset(model->state + address / unit_bytes, BLANK, bytes / unit_bytes);
    memset(model->reading + address / unit_bytes, CUT_CLEAN, bytes / unit_bytes);
    return 0;
}

static int model_sync(void *context)
{
    const flash_model *model = context;
    return model->off ? -1 : 0;
}

ec_flash flash_model_driver(flash_model *model)
{
    ec_flash flash = {model->geometry, model,       model_read,
                      model_program,   model_erase, model_sync};
    return flash;
}
