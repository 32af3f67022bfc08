/*
 * ec_cuda.h: the host side of a model on a CUDA GPU: what the generated tables look like and the functions that run
 * them. Plain C on the driver API, which is opened at run time: a program with this library starts without a GPU and
 * then says so.
 *
 * A `ec_cuda_loaded` is a model on one device: kernels and weights. Any number of instances share it; each has its own
 * arena (activations and state) and one captured graph an entry. After ec_cuda_create nothing allocates and nothing
 * synchronises with the device: ec_cuda_invoke launches one graph in the caller's stream.
 */
#ifndef EC_CUDA_H
#define EC_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What every function returns; ec_cuda_error says why in words. */
typedef enum {
    EC_CUDA_OK = 0,
    EC_CUDA_NO_DRIVER = 1,    /* libcuda.so.1 is not there, or has no usable device driver behind it */
    EC_CUDA_OLD_DRIVER = 2,   /* older than CUDA 12.2 */
    EC_CUDA_NO_DEVICE = 3,    /* no GPU of this number */
    EC_CUDA_WRONG_CHIP = 4,   /* the kernels are for another compute capability */
    EC_CUDA_BAD_WEIGHTS = 5,  /* the weights file is missing, damaged or of another model */
    EC_CUDA_NO_MEMORY = 6,    /* device or host memory is used up */
    EC_CUDA_BAD_ARGUMENT = 7, /* NULL, an entry or port that does not exist, a wrong size */
    EC_CUDA_BAD_POINTER = 8,  /* not aligned, or not memory that this GPU can reach */
    EC_CUDA_FAILED = 9        /* the driver reports an error */
} ec_cuda_status;

enum { EC_CUDA_ALIGN = 16 }; /* bytes, of every pointer that is bound to a port */

/* Where an argument of a kernel lies: `at` bytes into the arena or the weights. `port`: 1 + the index of the port
 * (inputs first, then outputs) whose memory it is, from byte `inside` of it on; 0 for all others. */
typedef struct {
    uint8_t weights; /* 1: in the weights, 0: in the arena */
    uint16_t port;
    uint64_t at;
    uint64_t inside;
} ec_cuda_arg;

/* One kernel launch. Arguments: the params by value where there are any, then `args`. */
typedef struct {
    uint32_t function;
    uint32_t blocks[3];
    uint32_t threads;
    uint32_t shared_bytes;
    const void *params;
    const ec_cuda_arg *args;
    uint32_t arg_count;
    uint32_t item; /* of the Plan: several launches may serve one */
    const char *layer;
} ec_cuda_launch;

/* A copy at the end of an entry: the state's new content, or an output that no kernel writes. */
typedef struct {
    ec_cuda_arg to;
    ec_cuda_arg from;
    uint64_t bytes;
} ec_cuda_copy;

/* An input or output. `copied`: its memory holds more than this port, so a bound pointer gets a copy. */
typedef struct {
    const char *label;
    const char *dtype;
    const int64_t *shape;
    uint32_t rank;
    uint32_t copied;
    uint64_t at;
    uint64_t bytes;
} ec_cuda_port;

typedef struct {
    const char *name;
    const ec_cuda_launch *launches;
    uint32_t launch_count;
    const ec_cuda_copy *copies;
    uint32_t copy_count;
    const ec_cuda_port *ports; /* inputs, then outputs */
    uint32_t input_count;
    uint32_t output_count;
} ec_cuda_entry;

/* A compiled kernel: its name and the cubin that holds it. */
typedef struct {
    const char *name;
    const unsigned char *image;
    uint32_t shared_bytes; /* most dynamic shared memory that any launch asks for */
} ec_cuda_function;

/* State in the arena whose initial content stands in the weights. `reset`: ec_cuda_reset restores it. */
typedef struct {
    uint64_t at;
    uint64_t initial;
    uint64_t bytes;
    uint32_t reset;
} ec_cuda_state;

typedef struct {
    const char *name;
    uint32_t compute; /* capability that the cubins are for, as 87 for 8.7 */
    uint64_t arena_bytes;
    uint64_t weights_bytes;
    uint64_t weights_sum; /* ec_cuda_checksum of weights.bin */
    const ec_cuda_function *functions;
    uint32_t function_count;
    const ec_cuda_entry *entries;
    uint32_t entry_count;
    const ec_cuda_state *states;
    uint32_t state_count;
    uint32_t shared_percent; /* of an SM's memory that every kernel has as shared memory; 0: the driver decides */
} ec_cuda_model;

typedef struct ec_cuda_loaded ec_cuda_loaded;
typedef struct ec_cuda_instance ec_cuda_instance;

/* Put kernels and the weights file on device `ordinal`. Nothing stays behind where it fails. */
ec_cuda_status ec_cuda_load(const ec_cuda_model *model, const char *weights, int ordinal,
                       ec_cuda_loaded **out);

/* Instances must be gone. NULL is allowed. */
void ec_cuda_unload(ec_cuda_loaded *loaded);

/* Allocate an arena, give the state its initial content, capture the graphs. */
ec_cuda_status ec_cuda_create(ec_cuda_loaded *loaded, ec_cuda_instance **out);

void ec_cuda_destroy(ec_cuda_instance *instance);

/* Device address of a port: what is bound to it, or its place in the arena. 0 for a port that does not exist. */
uint64_t ec_cuda_port_address(const ec_cuda_instance *instance, uint32_t entry, uint32_t port);

/* Let an entry read an input from, or write an output to, memory of the caller that the device can reach (its own,
 * managed, or mapped host memory), from now on; 0 returns the port to the arena. The graph's nodes are changed in
 * place. Not while a launched graph of this entry may still run. Kernels read whole aligned words of 4 bytes: up to 3
 * bytes behind an input of int8, which count for nothing. */
ec_cuda_status ec_cuda_bind(ec_cuda_instance *instance, uint32_t entry, uint32_t port, uint64_t address,
                       uint64_t bytes);

/* Launch an entry's graph in `stream` (a CUstream; NULL is the default stream). Returns at once. */
ec_cuda_status ec_cuda_invoke(ec_cuda_instance *instance, uint32_t entry, void *stream);

/* State with that persistence returns to its initial content, in `stream`. */
ec_cuda_status ec_cuda_reset(ec_cuda_instance *instance, void *stream);

/* Copies between host memory and a port of the instance, and a wait for the stream: for tools and tests. */
ec_cuda_status ec_cuda_write(ec_cuda_instance *instance, uint32_t entry, uint32_t port, const void *from,
                        void *stream);
ec_cuda_status ec_cuda_read(ec_cuda_instance *instance, uint32_t entry, uint32_t port, void *to,
                       void *stream);
ec_cuda_status ec_cuda_wait(ec_cuda_instance *instance, void *stream);

/* Host memory that the GPU reads and writes in place, for ec_cuda_bind: on a Jetson, whose CPU and GPU share their
 * memory, an input or output then needs no copy at all. `*device` is its address there. */
ec_cuda_status ec_cuda_host_allocate(ec_cuda_loaded *loaded, uint64_t bytes, void **host,
                                     uint64_t *device);
void ec_cuda_host_free(ec_cuda_loaded *loaded, void *host);

/* Fill the arena's activations (not the state) with a byte: tests poison it. */
ec_cuda_status ec_cuda_fill(ec_cuda_instance *instance, uint8_t byte);

/* Device milliseconds of `runs` launches of an entry's graph, one after the other, into `times`. */
ec_cuda_status ec_cuda_time(ec_cuda_instance *instance, uint32_t entry, uint32_t runs, float *times);

/* Device milliseconds of each launch of an entry on its own, `repeats` in a row, into `times[launch_count]`. */
ec_cuda_status ec_cuda_profile(ec_cuda_instance *instance, uint32_t entry, uint32_t repeats, float *times);

/* Bytes a second that copies on the device move, read and written bytes counted, for `bytes` at a time. */
ec_cuda_status ec_cuda_copy_rate(ec_cuda_loaded *loaded, uint64_t bytes, double *rate);

/* Why the last call of this thread failed, in words with numbers. Never NULL. */
const char *ec_cuda_error(void);

/* Sum over 64-bit little-endian words w[i] * (2 i + 1), modulo 2^64; `bytes` is a multiple of 8. */
uint64_t ec_cuda_checksum(const void *data, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
