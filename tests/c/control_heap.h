#ifndef CONTROL_HEAP_H
#define CONTROL_HEAP_H

#include <stddef.h>
#include <stdint.h>

/* Count the calling thread's heap calls from now on, or no longer. */
void heap_watch(uint32_t on);

/* Of all threads while they were watched. */
uint64_t heap_calls(void);

#endif
