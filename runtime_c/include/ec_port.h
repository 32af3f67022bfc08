/*
 * ec_port.h: what ports/main.c asks of the place where it runs. Each port (ports/host,
 * ports/qemu) implements all of it. Files are named relative to the working directory of the
 * process or of the debugger.
 */
#ifndef EC_PORT_H
#define EC_PORT_H

#include <stdint.h>

/*
 * Process exit codes of a port's main, besides 0. Statuses of the model exit as EC_EXIT_STATUS +
 * status.
 */
#define EC_EXIT_FILE 1    /* a file cannot be opened, is too short or cannot be written */
#define EC_EXIT_COMMAND 2 /* the command line does not follow the grammar in main.c */
#define EC_EXIT_STATUS 64
#define EC_EXIT_FAULT 120 /* the processor took a fault; its registers were printed */

/*
 * The words after the program's name, joined by single spaces, with a closing 0. 0, or -1 if
 * they do not fit.
 */
int ec_port_command_line(char *text, uint32_t text_bytes);

/* Handle >= 0, or -1. */
int ec_port_open_read(const char *path);
int ec_port_open_write(const char *path);

/* Exactly `bytes` bytes: 0, or -1 where there are fewer or the write failed. */
int ec_port_read(int handle, void *data, uint32_t bytes);
int ec_port_write(int handle, const void *data, uint32_t bytes);

/* 0, or -1 where what was written did not reach the file. */
int ec_port_close(int handle);

/* One line of text for a person. */
void ec_port_print(const char *text);

/*
 * 1 where the port counts instructions and measures the stack; 0 makes the four calls below do
 * nothing.
 */
int ec_port_measures(void);

/*
 * Instructions between start and stop, without those of the two calls
 * (docs/instruction-counting.md). stop takes the count at once and then looks for the timer's
 * next edge.
 */
void ec_port_count_start(void);
uint64_t ec_port_count_stop(void);

/*
 * Paint fills the free stack below the caller; bytes is how much of it was overwritten since
 * then.
 */
void ec_port_stack_paint(void);
uint32_t ec_port_stack_bytes(void);

/* ports/main.c: runs the model as the command line says. Returns the exit code. */
int ec_main(void);

#endif
