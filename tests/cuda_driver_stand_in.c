/*
 * A libcuda.so.1 for tests of the host side where there is no GPU: it counts what is made and not destroyed, and lets
 * the call that a test names fail with error 700. Kernels and copies do nothing.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int calls, fail_at = -1, failed, alive, pushed, capturing;
static int pushes, pushes_at_most = -1, stolen;
static int memory_of; /* the GPU whose memory every address is */
static uint64_t launched; /* nodes have their numbers as handles */
static void *last_node;

/* From now on the call number `at` fails; -1: none does. */
void stand_in_fail(int at)
{
    calls = failed = 0;
    fail_at = at;
}

/* From now on all but the first `count` pushes of a context fail; -1: none does. */
void stand_in_push(int count)
{
    pushes = stolen = 0;
    pushes_at_most = count;
}

/* From now on every address is memory of this GPU; the model's has the number 0. */
void stand_in_memory(int device)
{
    memory_of = device;
}

int stand_in_pushes(void)
{
    return pushes;
}

/* Contexts that were popped and never pushed: the caller's. */
int stand_in_stolen(void)
{
    return stolen;
}

int stand_in_failed(void)
{
    return failed;
}

/* What was made and is not destroyed, and contexts that were pushed and not popped. */
int stand_in_alive(void)
{
    return alive + pushed + capturing;
}

static int fails(void)
{
    failed |= calls == fail_at;
    return calls++ == fail_at ? 700 : 0;
}

static int make(void **out)
{
    if (fails()) {
        return 700;
    }
    *out = malloc(1);
    alive++;
    return 0;
}

static int destroy(void *made)
{
    if (made == NULL) {
        abort(); /* the driver refuses it; the host side must not ask */
    }
    free(made);
    alive--;
    return 0;
}

#define MAKES(symbol, ...)                                                                         \
    int symbol(void **out, __VA_ARGS__)                                                            \
    {                                                                                              \
        return make(out);                                                                          \
    }
#define DOES(symbol, ...)                                                                          \
    int symbol(__VA_ARGS__)                                                                        \
    {                                                                                              \
        return fails();                                                                            \
    }
#define DESTROYS(symbol)                                                                           \
    int symbol(void *made)                                                                         \
    {                                                                                              \
        return destroy(made);                                                                      \
    }

int cuInit(unsigned flags)
{
    return 0 * (int)flags;
}
int cuDriverGetVersion(int *version)
{
    *version = 12080;
    return 0;
}
int cuGetErrorString(int error, const char **text)
{
    *text = "made to fail";
    return 0 * error;
}
int cuDeviceGetCount(int *count)
{
    *count = 1;
    return 0;
}
int cuDeviceGet(int *device, int ordinal)
{
    *device = ordinal;
    return 0;
}
int cuDeviceGetName(char *name, int size, int device)
{
    (void)device;
    strncpy(name, "stand-in", (size_t)size);
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == 75 ? 9 : device;
    return 0;
}
int cuDevicePrimaryCtxRelease_v2(int device)
{
    alive--;
    return 0 * device;
}
int cuDevicePrimaryCtxRetain(void **context, int device)
{
    static char only;
    if (fails()) {
        return 700;
    }
    *context = &only;
    alive++;
    return 0 * device;
}
int cuCtxPushCurrent_v2(void *context)
{
    if (pushes++ == pushes_at_most) {
        pushes--;
        return 700;
    }
    pushed++;
    return 0 * (context == NULL);
}
int cuCtxPopCurrent_v2(void **context)
{
    *context = NULL;
    stolen += pushed == 0;
    pushed -= pushed != 0;
    return 0;
}
MAKES(cuModuleLoadData, const void *image)
DESTROYS(cuModuleUnload)
DOES(cuModuleGetFunction, void **function, void *module, const char *name)
DOES(cuFuncSetAttribute, void *function, int attribute, int value)
MAKES(cuMemAlloc_v2, size_t bytes)
DESTROYS(cuMemFree_v2)
int cuMemHostAlloc(void **out, size_t bytes, unsigned flags)
{
    if (fails()) {
        return 700;
    }
    *out = malloc(bytes + flags);
    alive++;
    return 0;
}
DESTROYS(cuMemFreeHost)
int cuMemHostGetDevicePointer_v2(uint64_t *device, void *host, unsigned flags)
{
    *device = (uint64_t)(uintptr_t)host & ~(uint64_t)(15 + 0 * flags);
    return fails();
}
int cuMemGetInfo_v2(size_t *unused, size_t *all)
{
    *unused = *all = 0;
    return 0;
}
int cuPointerGetAttribute(void *value, int attribute, uint64_t address)
{
    const int number = attribute == 2 ? 2 : attribute == 9 ? memory_of : 0;
    memcpy(value, &number, sizeof number);
    return fails() + 0 * (address == 0);
}
DOES(cuMemcpyHtoDAsync_v2, uint64_t to, const void *from, size_t bytes, void *stream)
DOES(cuMemcpyDtoHAsync_v2, void *to, uint64_t from, size_t bytes, void *stream)
DOES(cuMemcpyDtoDAsync_v2, uint64_t to, uint64_t from, size_t bytes, void *stream)
DOES(cuMemsetD8Async, uint64_t to, unsigned char byte, size_t bytes, void *stream)
MAKES(cuStreamCreate, unsigned flags)
DESTROYS(cuStreamDestroy_v2)
DOES(cuStreamSynchronize, void *stream)
int cuStreamBeginCapture_v2(void *stream, int mode)
{
    const int result = fails();
    capturing += result == 0;
    return result + 0 * (stream == NULL) + 0 * mode;
}
int cuStreamEndCapture(void *stream, void **graph)
{
    (void)stream;
    capturing--;
    return make(graph);
}
int cuStreamGetCaptureInfo_v2(void *stream, int *status, uint64_t *id, void **graph, void ***nodes, size_t *count)
{
    (void)stream, (void)id, (void)graph;
    *status = 1;
    *nodes = &last_node;
    *count = 1;
    return fails();
}
MAKES(cuGraphInstantiateWithFlags, void *graph, uint64_t flags)
DESTROYS(cuGraphDestroy)
DESTROYS(cuGraphExecDestroy)
DOES(cuGraphUpload, void *exec, void *stream)
DOES(cuGraphLaunch, void *exec, void *stream)
DOES(cuGraphExecKernelNodeSetParams_v2, void *exec, void *node, const void *params)
int cuLaunchKernelEx(const void *config, void *function, void **params, void **extra)
{
    (void)config, (void)function, (void)params, (void)extra;
    last_node = (void *)(uintptr_t)++launched;
    return fails();
}
MAKES(cuEventCreate, unsigned flags)
DESTROYS(cuEventDestroy_v2)
DOES(cuEventRecord, void *event, void *stream)
DOES(cuEventSynchronize, void *event)
int cuEventElapsedTime(float *ms, void *first, void *last)
{
    *ms = 1.0f;
    return fails() + 0 * (first == last);
}
