/*
 * main.c: runs any model through its descriptor (edgec.h), on the host and in firmware alike.
 *
 * Command line:  STATE FILL STEP...
 *   STATE  keep   init once; state lives on between samples
 *          reset  init before every sample
 *   FILL   0..255: every byte of the arenas before each init. Outputs do not depend on it.
 *   STEP   ENTRY:SAMPLES, e.g. 0:360. Steps run in order on one instance.
 *
 * in.bin holds, for each sample of each step, the raw inputs of its entry in order; out.bin
 * receives the raw outputs likewise. stats.json receives
 *   {"instructions":[one number a sample],"stack_bytes":n,"status":0}
 * with null for stack_bytes, and no instructions, where the port does not measure. Built with
 * EC_PROFILE_ITEMS, profile.bin receives records of three little-endian uint32 (item,
 * instructions, their high word); the sample's own count is then what follows the last hook.
 *
 * Nothing is buffered: inputs are read into and outputs written from the model's own memory, so
 * that a board with 16 KB of RAM runs any number of samples.
 */
#include "edgec.h"
#include "ec_port.h"

#include <string.h>

#define COMMAND_BYTES 96u

#if defined(EC_PROFILE_ITEMS)
static int profile_file = -1;
static int profile_failed;

void ec_profile(uint32_t item) {
    uint64_t instructions = ec_port_count_stop();
    uint32_t record[3];
    record[0] = item;
    record[1] = (uint32_t)instructions;
    record[2] = (uint32_t)(instructions >> 32);
    if (ec_port_write(profile_file, record, (uint32_t)sizeof record) != 0) {
        profile_failed = 1;
    }
    ec_port_count_start();
}
#endif

/*
 * Decimal number at *text, which moves behind it. -1 where there is no digit or the number
 * exceeds 2^31 - 1.
 */
static int32_t parse_number(const char **text) {
    uint32_t value = 0;
    const char *at = *text;
    if (*at < '0' || *at > '9') {
        return -1;
    }
    while (*at >= '0' && *at <= '9') {
        uint32_t digit = (uint32_t)(*at - '0');
        if (value > (UINT32_C(0x7fffffff) - digit) / 10u) {
            return -1;
        }
        value = value * 10u + digit;
        at++;
    }
    *text = at;
    return (int32_t)value;
}

static int write_text(int file, const char *text) {
    return ec_port_write(file, text, (uint32_t)strlen(text));
}

static int write_number(int file, uint64_t value) {
    char digits[20];
    uint32_t at = (uint32_t)sizeof digits;
    do {
        at--;
        digits[at] = (char)('0' + (int)(value % 10u));
        value /= 10u;
    } while (value != 0u);
    return ec_port_write(file, digits + at, (uint32_t)sizeof digits - at);
}

static ec_status start_model(int32_t fill) {
    uint32_t i;
    for (i = 0; i < ec_model.arena_count; i++) {
        memset(ec_model.arenas[i].start, (int)fill, ec_model.arenas[i].bytes);
    }
    return ec_model.init(ec_model.instance);
}

typedef struct {
    int in;
    int out;
    int stats;
    int reset;
    int32_t fill;
    uint32_t done; /* samples so far */
} run_state;

static int transfer(const ec_port_desc *ports, uint32_t count, int file, int writes) {
    uint32_t i;
    for (i = 0; i < count; i++) {
        void *data = ports[i].pointer(ec_model.instance);
        int failed = writes ? ec_port_write(file, data, ports[i].bytes)
                            : ec_port_read(file, data, ports[i].bytes);
        if (failed) {
            ec_port_print(writes ? "out.bin cannot be written"
                                 : "in.bin ends before the last sample");
            return EC_EXIT_FILE;
        }
    }
    return 0;
}

static int run_sample(const ec_entry_desc *entry, run_state *run) {
    ec_status status = EC_OK;
    uint64_t instructions;
    int code;
    if (run->reset && run->done != 0u) {
        status = start_model(run->fill);
        if (status != EC_OK) {
            return EC_EXIT_STATUS + (int)status;
        }
    }
    code = transfer(entry->inputs, entry->input_count, run->in, 0);
    if (code != 0) {
        return code;
    }
    ec_port_count_start();
    status = entry->invoke(ec_model.instance);
    instructions = ec_port_count_stop();
    if (status != EC_OK) {
        return EC_EXIT_STATUS + (int)status;
    }
    if (ec_port_measures()) {
        if ((run->done != 0u && write_text(run->stats, ",") != 0) ||
            write_number(run->stats, instructions) != 0) {
            return EC_EXIT_FILE;
        }
    }
    run->done++;
    return transfer(entry->outputs, entry->output_count, run->out, 1);
}

static int run_steps(const char *steps, run_state *run) {
    while (*steps != '\0') {
        int32_t entry = parse_number(&steps);
        int32_t samples;
        if (entry < 0 || (uint32_t)entry >= ec_model.entry_count || *steps != ':') {
            return EC_EXIT_COMMAND;
        }
        steps++;
        samples = parse_number(&steps);
        if (samples < 0 || (*steps != ' ' && *steps != '\0')) {
            return EC_EXIT_COMMAND;
        }
        while (*steps == ' ') {
            steps++;
        }
        for (; samples > 0; samples--) {
            int code = run_sample(&ec_model.entries[entry], run);
            if (code != 0) {
                return code;
            }
        }
    }
    return 0;
}

/* STATE and FILL into *run. The steps' text, or NULL. */
static const char *parse_options(const char *text, run_state *run) {
    if (strncmp(text, "keep ", 5) == 0) {
        run->reset = 0;
        text += 5;
    } else if (strncmp(text, "reset ", 6) == 0) {
        run->reset = 1;
        text += 6;
    } else {
        return NULL;
    }
    run->fill = parse_number(&text);
    if (run->fill < 0 || run->fill > 255 || *text != ' ') {
        return NULL;
    }
    return text + 1;
}

static int run_all(const char *steps, run_state *run) {
    ec_status status = start_model(run->fill);
    int code;
    if (status != EC_OK) {
        code = EC_EXIT_STATUS + (int)status;
    } else {
        ec_port_stack_paint();
        code = run_steps(steps, run);
    }
    if (code >= EC_EXIT_STATUS) {
        ec_port_print(ec_status_text((ec_status)(code - EC_EXIT_STATUS)));
    }
    return code;
}

static int write_tail(const run_state *run, int code) {
    uint64_t status = code >= EC_EXIT_STATUS ? (uint64_t)(code - EC_EXIT_STATUS) : 0u;
    int failed = write_text(run->stats, "],\"stack_bytes\":");
    failed |= ec_port_measures() ? write_number(run->stats, ec_port_stack_bytes())
                                 : write_text(run->stats, "null");
    failed |= write_text(run->stats, ",\"status\":");
    failed |= write_number(run->stats, status);
    failed |= write_text(run->stats, "}\n");
    return failed;
}

int ec_main(void) {
    char command[COMMAND_BYTES];
    run_state run = {-1, -1, -1, 0, 0, 0};
    const char *steps;
    int code;
    if (ec_port_command_line(command, COMMAND_BYTES) != 0) {
        ec_port_print("the command line is longer than 95 characters");
        return EC_EXIT_COMMAND;
    }
    steps = parse_options(command, &run);
    if (steps == NULL) {
        ec_port_print("usage: (keep|reset) FILL ENTRY:SAMPLES...");
        return EC_EXIT_COMMAND;
    }
    run.in = ec_port_open_read("in.bin");
    run.out = ec_port_open_write("out.bin");
    run.stats = ec_port_open_write("stats.json");
    if (run.in < 0 || run.out < 0 || run.stats < 0 ||
        write_text(run.stats, "{\"instructions\":[") != 0) {
        ec_port_print("in.bin, out.bin or stats.json cannot be opened");
        return EC_EXIT_FILE;
    }
#if defined(EC_PROFILE_ITEMS)
    profile_file = ec_port_open_write("profile.bin");
    if (profile_file < 0) {
        return EC_EXIT_FILE;
    }
#endif
    code = run_all(steps, &run);
    if (write_tail(&run, code) != 0 && code == 0) {
        code = EC_EXIT_FILE;
    }
#if defined(EC_PROFILE_ITEMS)
    if ((ec_port_close(profile_file) != 0 || profile_failed) && code == 0) {
        code = EC_EXIT_FILE;
    }
#endif
    if ((ec_port_close(run.out) | ec_port_close(run.stats)) != 0 && code == 0) {
        code = EC_EXIT_FILE;
    }
    return code;
}
