/*
 * ec_cuda_driver.h: the part of the CUDA driver API that the host side uses, as function pointers that
 * ec_cuda_driver_open fills from libcuda.so.1. Declared here, so that no CUDA header is needed to build the library.
 * Types and names: CUDA Driver API reference, versions 12.2 to 13.0; the suffixes are those of the exported symbols.
 */
#ifndef EC_CUDA_DRIVER_H
#define EC_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;

enum {
    EC_CU_OUT_OF_MEMORY = 2,
    EC_CU_NO_DEVICE = 100,
    EC_CU_ATTRIBUTE_MAJOR = 75,
    EC_CU_ATTRIBUTE_MINOR = 76,
    EC_CU_FUNCTION_SHARED_BYTES = 8,
    EC_CU_FUNCTION_SHARED_PERCENT = 9,
    EC_CU_POINTER_MEMORY_TYPE = 2,
    EC_CU_POINTER_MANAGED = 8,
    EC_CU_POINTER_DEVICE = 9,
    EC_CU_MEMORY_OF_DEVICE = 2,
    EC_CU_CAPTURE_THREAD_LOCAL = 1,
    EC_CU_STREAM_NON_BLOCKING = 1,
    EC_CU_LAUNCH_PROGRAMMATIC = 6,
    EC_CU_HOST_MAPPED = 2
};

typedef struct {
    int id;
    char pad[4];
    union {
        char bytes[64];
        int number;
    } value;
} ec_cu_launch_attribute;

typedef struct {
    unsigned blocks[3];
    unsigned threads[3];
    unsigned shared_bytes;
    CUstream stream;
    ec_cu_launch_attribute *attributes;
    unsigned attribute_count;
} ec_cu_launch_config;

typedef struct {
    CUfunction function;
    unsigned blocks[3];
    unsigned threads[3];
    unsigned shared_bytes;
    void **params;
    void **extra;
    void *kernel;
    CUcontext context;
} ec_cu_kernel_node;

/* X(return type is CUresult: member, exported symbol, arguments) */
#define EC_CU_FUNCTIONS(X)                                                                         \
    X(init, "cuInit", (unsigned))                                                                  \
    X(driver_version, "cuDriverGetVersion", (int *))                                               \
    X(error_text, "cuGetErrorString", (CUresult, const char **))                                   \
    X(device_count, "cuDeviceGetCount", (int *))                                                   \
    X(device, "cuDeviceGet", (CUdevice *, int))                                                    \
    X(device_name, "cuDeviceGetName", (char *, int, CUdevice))                                     \
    X(device_attribute, "cuDeviceGetAttribute", (int *, int, CUdevice))                            \
    X(retain, "cuDevicePrimaryCtxRetain", (CUcontext *, CUdevice))                                 \
    X(release, "cuDevicePrimaryCtxRelease_v2", (CUdevice))                                         \
    X(push, "cuCtxPushCurrent_v2", (CUcontext))                                                    \
    X(pop, "cuCtxPopCurrent_v2", (CUcontext *))                                                    \
    X(module_load, "cuModuleLoadData", (CUmodule *, const void *))                                 \
    X(module_unload, "cuModuleUnload", (CUmodule))                                                 \
    X(module_function, "cuModuleGetFunction", (CUfunction *, CUmodule, const char *))              \
    X(function_set, "cuFuncSetAttribute", (CUfunction, int, int))                                  \
    X(allocate, "cuMemAlloc_v2", (CUdeviceptr *, size_t))                                          \
    X(free, "cuMemFree_v2", (CUdeviceptr))                                                         \
    X(host_allocate, "cuMemHostAlloc", (void **, size_t, unsigned))                                \
    X(host_free, "cuMemFreeHost", (void *))                                                        \
    X(host_address, "cuMemHostGetDevicePointer_v2", (CUdeviceptr *, void *, unsigned))             \
    X(memory_info, "cuMemGetInfo_v2", (size_t *, size_t *))                                        \
    X(pointer_attribute, "cuPointerGetAttribute", (void *, int, CUdeviceptr))                      \
    X(to_device, "cuMemcpyHtoDAsync_v2", (CUdeviceptr, const void *, size_t, CUstream))            \
    X(to_host, "cuMemcpyDtoHAsync_v2", (void *, CUdeviceptr, size_t, CUstream))                    \
    X(on_device, "cuMemcpyDtoDAsync_v2", (CUdeviceptr, CUdeviceptr, size_t, CUstream))             \
    X(fill, "cuMemsetD8Async", (CUdeviceptr, unsigned char, size_t, CUstream))                     \
    X(stream_create, "cuStreamCreate", (CUstream *, unsigned))                                     \
    X(stream_destroy, "cuStreamDestroy_v2", (CUstream))                                            \
    X(stream_wait, "cuStreamSynchronize", (CUstream))                                              \
    X(capture_begin, "cuStreamBeginCapture_v2", (CUstream, int))                                   \
    X(capture_end, "cuStreamEndCapture", (CUstream, CUgraph *))                                    \
    X(capture_info, "cuStreamGetCaptureInfo_v2",                                                   \
      (CUstream, int *, uint64_t *, CUgraph *, const CUgraphNode **, size_t *))                    \
    X(graph_instantiate, "cuGraphInstantiateWithFlags", (CUgraphExec *, CUgraph, uint64_t))        \
    X(graph_destroy, "cuGraphDestroy", (CUgraph))                                                  \
    X(graph_exec_destroy, "cuGraphExecDestroy", (CUgraphExec))                                     \
    X(graph_upload, "cuGraphUpload", (CUgraphExec, CUstream))                                      \
    X(graph_launch, "cuGraphLaunch", (CUgraphExec, CUstream))                                      \
    X(graph_set_kernel, "cuGraphExecKernelNodeSetParams_v2",                                       \
      (CUgraphExec, CUgraphNode, const ec_cu_kernel_node *))                                       \
    X(launch, "cuLaunchKernelEx", (const ec_cu_launch_config *, CUfunction, void **, void **))     \
    X(event_create, "cuEventCreate", (CUevent *, unsigned))                                        \
    X(event_destroy, "cuEventDestroy_v2", (CUevent))                                               \
    X(event_record, "cuEventRecord", (CUevent, CUstream))                                          \
    X(event_wait, "cuEventSynchronize", (CUevent))                                                 \
    X(event_time, "cuEventElapsedTime", (float *, CUevent, CUevent))

typedef struct {
#define EC_CU_MEMBER(member, symbol, arguments) CUresult(*member) arguments;
    EC_CU_FUNCTIONS(EC_CU_MEMBER)
#undef EC_CU_MEMBER
    /* Since CUDA 12.3, NULL before: the capture's last node where edges carry data. */
    CUresult (*capture_info_edges)(CUstream, int *, uint64_t *, CUgraph *, const CUgraphNode **,
                                   const void **, size_t *);
} ec_cuda_driver;

/* The driver, opened once; NULL where libcuda.so.1 is absent or lacks a function, whose name `*missing` then is. */
const ec_cuda_driver *ec_cuda_driver_open(const char **missing);

#endif
