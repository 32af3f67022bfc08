/*
 * ec_store.c: the journal of ec_store.h.
 *
 * A power cut tears the unit that is being programmed: from then on it may read blank, as written,
 * as anything else, and differently each time. A torn erase leaves any part of what was there. What
 * makes the journal safe all the same:
 *
 * - The fence is programmed before anything else of its slot. A slot whose fence reads blank has
 *   nothing torn behind it, and a slot whose fence does not is never used again.
 * - Slot 0 of an area is written only by the session that erased the area, the others only where
 *   the area holds the newest record. A torn erase is therefore always erased again.
 * - Marks are units with all bits programmed, in order. The level of a mark is the number of the
 *   last such unit; a torn one makes it uncertain by one. A record of commit level 2 counts; open
 *   raises that to 3 before it answers, so that no later reading is below 2.
 * - A whole record of commit level 0 or 1 was cut in its commit. open raises level 1 to 3, or else
 *   refuses the record: that is noted by two units, and a record that is refused at level 1 or 2
 *   of its note stays refused. The note stands in the slot of the record that would have been
 *   replaced, where the erase of the refused one cannot reach it.
 * - After a cut, the unit of a mark that may be torn is programmed again, and so is a torn fence
 *   that reads blank. Nothing else is ever programmed twice between erases, and these with all
 *   bits programmed both times, which every flash takes.
 */
#include "ec_store.h"

#include <stddef.h>
#include <string.h>

#include "ec_crc32.h"

#define MAGIC 0x00534345u /* "ECS", and the version in the last byte */
#define VERSION 1u
#define HEADER_BYTES 32u
#define CRC_BYTES 4u
#define COMMIT_UNITS 3u
#define NOTE_UNITS 2u
#define NOTES 3u    /* in each slot: of the first records refused after this one, and of its own */
#define OWN_NOTE 2u
#define NO_SLOT 0xFFFFFFFFu

typedef struct {
    uint32_t version;
    uint32_t graph_hash;
    uint32_t layout_hash; /* mixed with the size of a slot */
    uint32_t base;        /* sequence of the record that this one replaces */
    uint32_t note;        /* of the base's notes the one where a refusal is written; or OWN_NOTE */
    uint32_t crc;         /* of the header; that of the payload goes on from it */
    ec_store_record record;
} slot_header;

static void put_u32(uint8_t *out, uint32_t value)
{
    for (uint32_t i = 0; i < 4u; i++) {
        out[i] = (uint8_t)(value >> (8u * i));
    }
}

static uint32_t get_u32(const uint8_t *in)
{
    return in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

/* Serial numbers that wrap around: a comes after b. */
static bool newer(uint32_t a, uint32_t b)
{
    return a != b && a - b < 0x80000000u;
}

static uint32_t round_up(uint32_t bytes, uint32_t unit)
{
    return (bytes + unit - 1u) & ~(unit - 1u);
}

/* --- where things lie --- */

static uint32_t unit_bytes(const ec_store *store)
{
    return store->flash->geometry->unit_bytes;
}

/* Address where the sector begins; for the number of sectors, where the flash ends. */
static uint32_t sector_address(const ec_flash_geometry *geometry, uint32_t sector)
{
    uint32_t address = 0;
    for (uint32_t i = 0; i < geometry->run_count && sector > 0u; i++) {
        uint32_t count = geometry->runs[i].count;
        uint32_t taken = sector < count ? sector : count;
        address += taken * geometry->runs[i].bytes;
        sector -= taken;
    }
    return address;
}

static uint32_t area_address(const ec_store *store, uint32_t area)
{
    const ec_store_layout *layout = store->layout;
    return sector_address(store->flash->geometry,
                          layout->first_sector + area * layout->area_sectors);
}

static uint32_t area_slots(const ec_store *store, uint32_t area)
{
    return (area_address(store, area + 1u) - area_address(store, area)) / store->slot_bytes;
}

static uint32_t slot_address(const ec_store *store, uint32_t area, uint32_t slot)
{
    return area_address(store, area) + slot * store->slot_bytes;
}

static uint32_t payload_offset(const ec_store *store)
{
    return unit_bytes(store) + HEADER_BYTES;
}

static uint32_t crc_offset(const ec_store *store)
{
    return payload_offset(store) + round_up(store->layout->payload_bytes, unit_bytes(store));
}

static uint32_t commit_offset(const ec_store *store)
{
    return crc_offset(store) + round_up(CRC_BYTES, unit_bytes(store));
}

static uint32_t note_offset(const ec_store *store, uint32_t note)
{
    return commit_offset(store) + (COMMIT_UNITS + note * NOTE_UNITS) * unit_bytes(store);
}

/* --- the flash --- */

static bool read_bytes(const ec_store *store, uint32_t address, void *data, uint32_t bytes)
{
    return store->flash->read(store->flash->context, address, data, bytes) == 0;
}

/* False also where the flash cannot be read: something is there. */
static bool is_blank(const ec_store *store, uint32_t address, uint32_t bytes)
{
    uint8_t part[EC_STORE_UNIT_MAX];
    for (uint32_t done = 0; done < bytes;) {
        uint32_t count = bytes - done < sizeof part ? bytes - done : (uint32_t)sizeof part;
        if (!read_bytes(store, address + done, part, count)) {
            return false;
        }
        for (uint32_t i = 0; i < count; i++) {
            if (part[i] != store->flash->geometry->erased) {
                return false;
            }
        }
        done += count;
    }
    return true;
}

static ec_store_status program_unit(const ec_store *store, uint32_t address, const uint8_t *unit)
{
    const ec_flash *flash = store->flash;
    uint32_t bytes = unit_bytes(store);
    uint8_t back[EC_STORE_UNIT_MAX];
    if (flash->program(flash->context, address, unit, bytes) != 0) {
        return EC_STORE_PROGRAM_FAILED;
    }
    if (!read_bytes(store, address, back, bytes)) {
        return EC_STORE_READ_FAILED;
    }
    return memcmp(back, unit, bytes) == 0 ? EC_STORE_OK : EC_STORE_VERIFY_FAILED;
}

static ec_store_status synchronise(const ec_store *store)
{
    return store->flash->sync(store->flash->context) == 0 ? EC_STORE_OK : EC_STORE_SYNC_FAILED;
}

/* `bytes` bytes, 32 at most, and erased bytes to the end of the last unit. */
static ec_store_status program_padded(const ec_store *store, uint32_t address, const uint8_t *data,
                                      uint32_t bytes)
{
    uint8_t padded[EC_STORE_UNIT_MAX];
    ec_store_status status = EC_STORE_OK;
    memset(padded, store->flash->geometry->erased, sizeof padded);
    memcpy(padded, data, bytes);
    for (uint32_t i = 0; i < bytes && status == EC_STORE_OK; i += unit_bytes(store)) {
        status = program_unit(store, address + i, padded + i);
    }
    return status;
}

/* Units from `first` on with all bits programmed, each one durable before the next. */
static ec_store_status program_mark(const ec_store *store, uint32_t address, uint32_t first,
                                    uint32_t units)
{
    uint8_t mark[EC_STORE_UNIT_MAX];
    ec_store_status status = synchronise(store);
    memset(mark, (uint8_t)~store->flash->geometry->erased, sizeof mark);
    for (uint32_t i = first; i < units && status == EC_STORE_OK; i++) {
        status = program_unit(store, address + i * unit_bytes(store), mark);
        if (status == EC_STORE_OK) {
            status = synchronise(store);
        }
    }
    return status;
}

/* Number of the last unit with all bits programmed; what cannot be read has none. */
static uint32_t mark_level(const ec_store *store, uint32_t address, uint32_t units)
{
    uint8_t unit[EC_STORE_UNIT_MAX];
    uint32_t bytes = unit_bytes(store);
    for (; units > 0u; units--) {
        uint32_t programmed = 0;
        if (read_bytes(store, address + (units - 1u) * bytes, unit, bytes)) {
            while (programmed < bytes &&
                   (unit[programmed] ^ store->flash->geometry->erased) == 0xFF) {
                programmed++;
            }
        }
        if (programmed == bytes) {
            break;
        }
    }
    return units;
}

/* Completes a mark; programs the unit of its level once more, which may be torn. */
static ec_store_status raise_mark(const ec_store *store, uint32_t address, uint32_t units)
{
    uint32_t level = mark_level(store, address, units);
    return program_mark(store, address, level > 0u ? level - 1u : 0u, units);
}

/* --- records --- */

static uint32_t mixed_layout_hash(const ec_store *store)
{
    uint8_t bytes[4];
    put_u32(bytes, store->slot_bytes);
    return ec_crc32(store->layout->layout_hash, bytes, sizeof bytes);
}

/* The CRC of the payload starts with that of the header: blank bytes with a blank CRC are wrong. */
static ec_store_status write_header(ec_store *store)
{
    uint8_t bytes[HEADER_BYTES];
    put_u32(bytes, MAGIC | VERSION << 24);
    put_u32(bytes + 4, store->layout->graph_hash);
    put_u32(bytes + 8, mixed_layout_hash(store));
    put_u32(bytes + 12, store->sequence);
    put_u32(bytes + 16, store->newest.sequence);
    put_u32(bytes + 20, store->note);
    put_u32(bytes + 24, store->total);
    store->crc = ec_crc32(0, bytes, HEADER_BYTES - CRC_BYTES);
    put_u32(bytes + 28, store->crc);
    return program_padded(store, store->save_at + unit_bytes(store), bytes, HEADER_BYTES);
}

/* False where there is no whole header. */
static bool read_header(const ec_store *store, uint32_t slot_at, slot_header *header)
{
    uint8_t bytes[HEADER_BYTES];
    if (!read_bytes(store, slot_at + unit_bytes(store), bytes, HEADER_BYTES)) {
        return false;
    }
    header->crc = ec_crc32(0, bytes, HEADER_BYTES - CRC_BYTES);
    if ((get_u32(bytes) & 0x00FFFFFFu) != MAGIC || get_u32(bytes + 28) != header->crc) {
        return false;
    }
    header->version = bytes[3];
    header->graph_hash = get_u32(bytes + 4);
    header->layout_hash = get_u32(bytes + 8);
    header->record.sequence = get_u32(bytes + 12);
    header->base = get_u32(bytes + 16);
    header->note = get_u32(bytes + 20);
    header->record.length = get_u32(bytes + 24);
    return true;
}

/* OK for a header of this network and layout. */
static ec_store_status check_header(const ec_store *store, const slot_header *header)
{
    if (header->version != VERSION) {
        return EC_STORE_WRONG_VERSION;
    }
    if (header->graph_hash != store->layout->graph_hash) {
        return EC_STORE_WRONG_GRAPH;
    }
    if (header->layout_hash != mixed_layout_hash(store) ||
        header->record.length > store->layout->payload_bytes) {
        return EC_STORE_WRONG_LAYOUT;
    }
    return EC_STORE_OK;
}

static bool payload_is_whole(const ec_store *store, uint32_t slot_at, const slot_header *header)
{
    uint8_t part[EC_STORE_UNIT_MAX];
    uint32_t length = header->record.length;
    uint32_t crc = header->crc;
    for (uint32_t done = 0; done < length;) {
        uint32_t count = length - done < sizeof part ? length - done : (uint32_t)sizeof part;
        if (!read_bytes(store, slot_at + payload_offset(store) + done, part, count)) {
            return false;
        }
        crc = ec_crc32(crc, part, count);
        done += count;
    }
    return read_bytes(store, slot_at + crc_offset(store), part, CRC_BYTES) && get_u32(part) == crc;
}

static void set_newest(ec_store *store, uint32_t area, uint32_t slot_at, ec_store_record record)
{
    store->found = EC_STORE_OK;
    store->newest = record;
    store->newest_at = slot_at;
    store->kept_area = area;
}

/* Where the refusal of the record in a slot is noted. */
static uint32_t note_address(const ec_store *store, uint32_t slot_at, uint32_t base, uint32_t note)
{
    bool in_base = store->found == EC_STORE_OK && store->newest.sequence == base && note < OWN_NOTE;
    return in_base ? store->newest_at + note_offset(store, note)
                   : slot_at + note_offset(store, OWN_NOTE);
}

/* Whether a whole record of commit level 0 or 1 counts, from now on whatever its torn unit reads. */
static bool settle(const ec_store *store, uint32_t slot_at, const slot_header *header)
{
    uint32_t commit_at = slot_at + commit_offset(store);
    uint32_t note_at = note_address(store, slot_at, header->base, header->note);
    uint32_t noted = mark_level(store, note_at, NOTE_UNITS);
    uint32_t committed = mark_level(store, commit_at, COMMIT_UNITS);
    if (committed == 1u && noted == 0u) {
        (void)raise_mark(store, commit_at, COMMIT_UNITS);
        committed = mark_level(store, commit_at, COMMIT_UNITS);
    }
    if (committed >= 2u) {
        return true;
    }
    if (noted < NOTE_UNITS) {
        /* Where the note cannot be written, the next open asks again. */
        (void)raise_mark(store, note_at, NOTE_UNITS);
    }
    return false;
}

/* Takes a header into account; one of others counts only as long as none of ours is found. */
static void scan_header(ec_store *store, uint32_t area, uint32_t slot_at, const slot_header *header)
{
    uint32_t sequence = header->record.sequence;
    ec_store_status match = check_header(store, header);
    bool later = store->newest_at == NO_SLOT || newer(sequence, store->newest.sequence);
    if (store->latest_area == store->layout->areas || newer(sequence, store->sequence)) {
        store->sequence = sequence;
        store->latest_area = area;
    }
    if (match != EC_STORE_OK) {
        if (later && store->found != EC_STORE_OK) {
            set_newest(store, area, slot_at, header->record);
            store->found = match;
        }
        return;
    }
    if (!later && store->found == EC_STORE_OK) {
        return;
    }
    if (mark_level(store, slot_at + commit_offset(store), COMMIT_UNITS) >= 2u &&
        payload_is_whole(store, slot_at, header)) {
        set_newest(store, area, slot_at, header->record);
    }
}

/*
 * Settles the record begun last, where it is whole and newer than the newest of commit level 2.
 * Those begun before it were refused then.
 */
static void scan_undecided(ec_store *store, uint32_t area, uint32_t slot_at,
                           const slot_header *header)
{
    bool later = store->found != EC_STORE_OK ||
                 newer(header->record.sequence, store->newest.sequence);
    if (later && header->record.sequence == store->sequence &&
        check_header(store, header) == EC_STORE_OK &&
        payload_is_whole(store, slot_at, header) &&
        settle(store, slot_at, header)) {
        set_newest(store, area, slot_at, header->record);
    }
}

/* Every slot with a whole header, the last slots of an area first: mostly one payload is read. */
static void scan(ec_store *store, void (*visit)(ec_store *store, uint32_t area, uint32_t slot_at,
                                                const slot_header *header))
{
    slot_header header;
    for (uint32_t area = 0; area < store->layout->areas; area++) {
        for (uint32_t slot = area_slots(store, area); slot > 0u; slot--) {
            uint32_t slot_at = slot_address(store, area, slot - 1u);
            if (read_header(store, slot_at, &header)) {
                visit(store, area, slot_at, &header);
            }
        }
    }
}

static ec_store_status check_geometry(const ec_flash_geometry *geometry, uint32_t *sectors)
{
    uint32_t unit = geometry->unit_bytes;
    uint32_t bytes = 0;
    *sectors = 0;
    if (unit == 0u || unit > EC_STORE_UNIT_MAX || (unit & (unit - 1u)) != 0u) {
        return EC_STORE_BAD_GEOMETRY;
    }
    for (uint32_t i = 0; i < geometry->run_count; i++) {
        const ec_flash_run *run = &geometry->runs[i];
        if (run->bytes == 0u || run->bytes % unit != 0u || run->count == 0u ||
            run->count > (0xFFFFFFFFu - bytes) / run->bytes) {
            return EC_STORE_BAD_GEOMETRY;
        }
        bytes += run->bytes * run->count;
        *sectors += run->count;
    }
    return EC_STORE_OK;
}

static ec_store_status check_layout(ec_store *store, uint32_t sectors)
{
    const ec_store_layout *layout = store->layout;
    if (layout->areas < 2u || layout->area_sectors == 0u || layout->payload_bytes == 0u ||
        layout->first_sector >= sectors ||
        layout->areas > (sectors - layout->first_sector) / layout->area_sectors) {
        return EC_STORE_BAD_LAYOUT;
    }
    if (layout->payload_bytes > 0x80000000u) {
        return EC_STORE_AREA_TOO_SMALL;
    }
    store->slot_bytes = note_offset(store, NOTES);
    for (uint32_t area = 0; area < layout->areas; area++) {
        if (area_slots(store, area) == 0u) {
            store->slot_bytes = 0;
            return EC_STORE_AREA_TOO_SMALL;
        }
    }
    return EC_STORE_OK;
}

ec_store_status ec_store_open(ec_store *store, const ec_flash *flash, const ec_store_layout *layout)
{
    uint32_t sectors;
    if (store == NULL) {
        return EC_STORE_NULL_POINTER;
    }
    memset(store, 0, sizeof *store);
    if (flash == NULL || layout == NULL || flash->geometry == NULL ||
        flash->geometry->runs == NULL || flash->read == NULL || flash->program == NULL ||
        flash->erase == NULL || flash->sync == NULL) {
        return EC_STORE_NULL_POINTER;
    }
    store->flash = flash;
    store->layout = layout;
    store->found = EC_STORE_EMPTY;
    store->kept_area = store->latest_area = layout->areas;
    store->newest_at = NO_SLOT;
    ec_store_status status = check_geometry(flash->geometry, &sectors);
    if (status == EC_STORE_OK) {
        status = check_layout(store, sectors);
    }
    if (status != EC_STORE_OK) {
        return status;
    }
    scan(store, scan_header);
    scan(store, scan_undecided);
    uint32_t commit_at = store->newest_at + commit_offset(store);
    if (store->found == EC_STORE_OK && mark_level(store, commit_at, COMMIT_UNITS) < COMMIT_UNITS) {
        /* Where the third unit cannot be written, the second one is whole all the same. */
        (void)raise_mark(store, commit_at, COMMIT_UNITS);
    }
    if (store->found == EC_STORE_EMPTY) {
        /* A refused record is safe from a torn erase that would leave it without its note. */
        store->kept_area = store->latest_area;
    }
    store->area = store->kept_area < layout->areas ? store->kept_area : layout->areas - 1u;
    store->slot = store->found == EC_STORE_OK ? 0u : NO_SLOT;
    return EC_STORE_OK;
}

ec_store_status ec_store_find(const ec_store *store, ec_store_record *record)
{
    if (store->slot_bytes == 0u) {
        return EC_STORE_NOT_OPEN;
    }
    if (store->found == EC_STORE_OK) {
        *record = store->newest;
    }
    return store->found;
}

ec_store_status ec_store_read(const ec_store *store, uint32_t offset, void *data, uint32_t bytes)
{
    if (store->slot_bytes == 0u) {
        return EC_STORE_NOT_OPEN;
    }
    if (store->found != EC_STORE_OK) {
        return store->found;
    }
    if (offset > store->newest.length || bytes > store->newest.length - offset) {
        return EC_STORE_OUT_OF_RANGE;
    }
    return read_bytes(store, store->newest_at + payload_offset(store) + offset, data, bytes)
               ? EC_STORE_OK
               : EC_STORE_READ_FAILED;
}

/* Moves on to a slot of the area that is blank throughout; once found, it stays the free one. */
static bool find_free_slot(ec_store *store)
{
    uint32_t slots = area_slots(store, store->area);
    while (!store->slot_is_free && store->slot < slots) {
        store->slot_is_free = is_blank(store, slot_address(store, store->area, store->slot),
                                       store->slot_bytes);
        if (!store->slot_is_free) {
            store->slot++;
        }
    }
    return store->slot_is_free;
}

ec_store_status ec_store_erase_step(ec_store *store)
{
    const ec_flash *flash = store->flash;
    if (store->slot_bytes == 0u) {
        return EC_STORE_NOT_OPEN;
    }
    if (store->total != 0u) {
        return EC_STORE_BUSY;
    }
    if (find_free_slot(store)) {
        return EC_STORE_OK;
    }
    uint32_t area = (store->area + 1u) % store->layout->areas;
    if (area == store->kept_area) {
        area = (area + 1u) % store->layout->areas;
    }
    uint32_t sector = store->layout->first_sector + area * store->layout->area_sectors +
                      store->erased;
    uint32_t address = sector_address(flash->geometry, sector);
    uint32_t bytes = sector_address(flash->geometry, sector + 1u) - address;
    ec_store_status status = EC_STORE_OK;
    if (flash->erase(flash->context, sector, address, bytes) != 0) {
        status = EC_STORE_ERASE_FAILED;
    } else if (!is_blank(store, address, bytes)) {
        status = EC_STORE_NOT_ERASED;
    } else {
        status = synchronise(store);
    }
    store->erased++;
    if (status == EC_STORE_OK && store->erased < store->layout->area_sectors) {
        return EC_STORE_MORE;
    }
    /* A bad area counts as full, so that the next attempt takes another one where there is one. */
    store->erased = 0;
    store->area = area;
    store->slot = status == EC_STORE_OK ? 0u : NO_SLOT;
    return status;
}

ec_store_status ec_store_save_begin(ec_store *store, uint32_t total)
{
    if (store->slot_bytes == 0u) {
        return EC_STORE_NOT_OPEN;
    }
    if (store->total != 0u) {
        return EC_STORE_BUSY;
    }
    if (total == 0u || total > store->layout->payload_bytes) {
        return EC_STORE_BAD_LENGTH;
    }
    if (!find_free_slot(store)) {
        return EC_STORE_FULL;
    }
    store->save_at = slot_address(store, store->area, store->slot);
    store->slot++;
    store->slot_is_free = false;
    store->sequence++;
    store->note = OWN_NOTE;
    if (store->found == EC_STORE_OK) {
        store->note = (mark_level(store, store->newest_at + note_offset(store, 0),
                                  OWN_NOTE * NOTE_UNITS) + 1u) / NOTE_UNITS;
    }
    store->total = total;
    store->written = 0;
    ec_store_status status = program_mark(store, store->save_at, 0, 1);
    if (status == EC_STORE_OK) {
        status = write_header(store);
    }
    if (status != EC_STORE_OK) {
        store->total = 0;
    }
    return status;
}

ec_store_status ec_store_save_chunk(ec_store *store, const void *data, uint32_t bytes)
{
    const uint8_t *in = data;
    if (store->slot_bytes == 0u) {
        return EC_STORE_NOT_OPEN;
    }
    if (store->total == 0u) {
        return EC_STORE_NOT_BEGUN;
    }
    if (bytes > store->total - store->written) {
        return EC_STORE_LENGTH_MISMATCH;
    }
    uint32_t size = unit_bytes(store);
    uint32_t payload_at = store->save_at + payload_offset(store);
    store->crc = ec_crc32(store->crc, data, bytes);
    while (bytes > 0u) {
        uint32_t filled = store->written & (size - 1u);
        uint32_t count = size - filled < bytes ? size - filled : bytes;
        memcpy(store->unit + filled, in, count);
        in += count;
        bytes -= count;
        store->written += count;
        if (filled + count == size) {
            ec_store_status status =
                program_unit(store, payload_at + store->written - size, store->unit);
            if (status != EC_STORE_OK) {
                store->total = 0;
                return status;
            }
        }
    }
    return EC_STORE_OK;
}

/* The caller hears OK where every open will find the record, else no open will. */
static ec_store_status commit_record(const ec_store *store)
{
    uint32_t commit_at = store->save_at + commit_offset(store);
    ec_store_status status = raise_mark(store, commit_at, COMMIT_UNITS);
    if (status != EC_STORE_OK && status != EC_STORE_SYNC_FAILED &&
        mark_level(store, commit_at, COMMIT_UNITS) >= 2u) {
        status = EC_STORE_OK;
    }
    if (status != EC_STORE_OK) {
        uint32_t base = store->newest.sequence;
        (void)raise_mark(store, note_address(store, store->save_at, base, store->note), NOTE_UNITS);
    }
    return status;
}

/* The rest of the payload, its CRC and the commit mark. */
static ec_store_status finish_record(const ec_store *store)
{
    uint8_t crc[CRC_BYTES];
    uint32_t filled = store->written & (unit_bytes(store) - 1u);
    uint32_t rest_at = store->save_at + payload_offset(store) + store->written - filled;
    ec_store_status status = program_padded(store, rest_at, store->unit, filled);
    if (status == EC_STORE_OK) {
        put_u32(crc, store->crc);
        status = program_padded(store, store->save_at + crc_offset(store), crc, CRC_BYTES);
    }
    return status == EC_STORE_OK ? commit_record(store) : status;
}

ec_store_status ec_store_save_commit(ec_store *store)
{
    if (store->slot_bytes == 0u) {
        return EC_STORE_NOT_OPEN;
    }
    if (store->total == 0u) {
        return EC_STORE_NOT_BEGUN;
    }
    if (store->written != store->total) {
        return EC_STORE_LENGTH_MISMATCH;
    }
    ec_store_status status = finish_record(store);
    if (status == EC_STORE_OK) {
        ec_store_record record = {store->sequence, store->total};
        set_newest(store, store->area, store->save_at, record);
    }
    store->total = 0;
    return status;
}

void ec_store_abort(ec_store *store)
{
    store->total = 0;
}
