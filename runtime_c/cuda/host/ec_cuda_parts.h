/*
 * ec_cuda_parts.h: what the files of the host side share: what a model on a GPU and an instance of it consist of, how
 * failures are told, and the GPU's context. For these files alone; programs include ec_cuda.h.
 */
#ifndef EC_CUDA_PARTS_H
#define EC_CUDA_PARTS_H

#include "ec_cuda.h"
#include "ec_cuda_driver.h"

enum { EC_CUDA_TEXT = 320 }; /* bytes of a failure's text */

struct ec_cuda_loaded {
    const ec_cuda_model *model;
    const ec_cuda_driver *cu;
    CUdevice device;
    CUcontext context;
    int programmatic; /* kernels of a graph may overlap (compute capability 9.0 and later) */
    CUdeviceptr weights;
    CUmodule *modules;
    CUfunction *functions;
};

/* The captured graph of an entry. `bound[port]`: the caller's memory, 0 where the port is in the arena. */
typedef struct {
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode *nodes; /* of each launch */
    CUdeviceptr *bound;
} ec_cuda_captured;

struct ec_cuda_instance {
    ec_cuda_loaded *loaded;
    CUdeviceptr arena;
    CUstream stream; /* for set-up */
    ec_cuda_captured *entries;
};

/* Keep the text of a failure for ec_cuda_error, of this thread; `status` comes back. */
__attribute__((format(printf, 2, 3))) ec_cuda_status ec_cuda_fail(ec_cuda_status status,
                                                                  const char *format, ...);

/* The status of a driver's result; `what` was being done. */
ec_cuda_status ec_cuda_checked(const ec_cuda_driver *cu, CUresult result, const char *what);

/* Device memory. `what` it is for stands in the failure's text. */
ec_cuda_status ec_cuda_allocate(const ec_cuda_driver *cu, CUdeviceptr *out, uint64_t bytes,
                                const char *what);

/* Make the GPU's context current; ec_cuda_leave gives the caller's back. */
ec_cuda_status ec_cuda_enter(const ec_cuda_loaded *loaded);
void ec_cuda_leave(const ec_cuda_loaded *loaded);

/* Launch one kernel of an entry with the ports where they are now. */
CUresult ec_cuda_launch_one(const ec_cuda_instance *self, uint32_t entry,
                            const ec_cuda_launch *launch, CUstream stream);

#endif
