/* ec_cuda_driver.c: opens libcuda.so.1 and looks its functions up. */
#include "ec_cuda_driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static ec_cuda_driver driver;
static const char *absent;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A function pointer from dlsym's object pointer, without a cast that C forbids. */
static int look_up(void *library, const char *symbol, void *member, size_t bytes) {
    void *found = dlsym(library, symbol);
    memcpy(member, &found, bytes);
    return found != NULL;
}

static void open_once(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        absent = "libcuda.so.1";
        return;
    }
#define EC_CU_LOOK_UP(member, symbol, arguments)                                                   \
    if (!look_up(library, symbol, &driver.member, sizeof driver.member)) {                         \
        absent = symbol;                                                                           \
        return;                                                                                    \
    }
    EC_CU_FUNCTIONS(EC_CU_LOOK_UP)
#undef EC_CU_LOOK_UP
    (void)look_up(library, "cuStreamGetCaptureInfo_v3", &driver.capture_info_edges,
                  sizeof driver.capture_info_edges);
}

const ec_cuda_driver *ec_cuda_driver_open(const char **missing) {
    (void)pthread_once(&once, open_once);
    *missing = absent;
    return absent == NULL ? &driver : NULL;
}
