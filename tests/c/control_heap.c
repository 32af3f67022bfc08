/* Counts the heap calls of a thread while it is watched, those of the C library too.
 *
 * Linked into a program, or preloaded (LD_PRELOAD), it stands before the C library's functions.
 */
#include "control_heap.h"

#include <stdatomic.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *old);

static _Atomic uint64_t calls;
static _Thread_local __attribute__((tls_model("initial-exec"))) uint32_t watched;

void heap_watch(uint32_t on) {
    watched = on;
}

uint64_t heap_calls(void) {
    return atomic_load(&calls);
}

static void note(void) {
    if (watched != 0u) {
        atomic_fetch_add(&calls, 1u);
    }
}

void *malloc(size_t bytes) {
    note();
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    note();
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes) {
    note();
    return __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
    note();
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    note();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **made, size_t alignment, size_t bytes) {
    note();
    *made = __libc_memalign(alignment, bytes);
    return *made == NULL ? 12 : 0;
}

void free(void *old) {
    note();
    __libc_free(old);
}
