/*
 * ec_cuda.c: loads a model's kernels and weights, captures its entries as graphs and launches them. See ec_cuda.h.
 *
 * A failing call leaves nothing behind: each set-up function frees what it made. The text of the last failure is kept
 * by thread.
 */
#include "ec_cuda.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ec_cuda_driver.h"

enum { MOST_ARGS = 40, OLDEST_DRIVER = 12020 };

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
} captured;

struct ec_cuda_instance {
    ec_cuda_loaded *loaded;
    CUdeviceptr arena;
    CUstream stream; /* for set-up */
    captured *entries;
};

static __thread char error_text[320];

const char *ec_cuda_error(void) {
    return error_text;
}

__attribute__((format(printf, 2, 3))) static ec_cuda_status fail(ec_cuda_status status,
                                                                 const char *format, ...) {
    va_list values;
    va_start(values, format);
    (void)vsnprintf(error_text, sizeof error_text, format, values);
    va_end(values);
    return status;
}

/* The status of a driver's result; `what` was being done. */
static ec_cuda_status checked(const ec_cuda_driver *cu, CUresult result, const char *what) {
    if (result == 0) {
        return EC_CUDA_OK;
    }
    const char *text = NULL;
    (void)cu->error_text(result, &text);
    const ec_cuda_status status =
        result == EC_CU_OUT_OF_MEMORY ? EC_CUDA_NO_MEMORY : EC_CUDA_FAILED;
    return fail(status, "%s: %s (CUDA error %d)", what, text != NULL ? text : "unknown", result);
}

uint64_t ec_cuda_checksum(const void *data, uint64_t bytes) {
    const uint8_t *from = data;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < bytes / 8; i++) {
        uint64_t word;
        memcpy(&word, from + 8 * i, sizeof word);
        sum += word * (2 * i + 1);
    }
    return sum;
}

/* ---- loading ---- */

static ec_cuda_status find_device(ec_cuda_loaded *self, int ordinal) {
    const char *missing = NULL;
    self->cu = ec_cuda_driver_open(&missing);
    if (self->cu == NULL) {
        return fail(EC_CUDA_NO_DRIVER, "the CUDA driver cannot be opened: %s is missing", missing);
    }
    const ec_cuda_driver *cu = self->cu;
    int version = 0, count = 0, major = 0, minor = 0;
    const CUresult result = cu->init(0);
    if (result == EC_CU_NO_DEVICE) {
        return fail(EC_CUDA_NO_DEVICE, "this computer has no CUDA GPU that the driver can use");
    }
    if (result != 0) {
        (void)checked(cu, result, "the CUDA driver does not start");
        return EC_CUDA_NO_DRIVER;
    }
    if (cu->driver_version(&version) != 0 || version < OLDEST_DRIVER) {
        return fail(EC_CUDA_OLD_DRIVER, "the driver is for CUDA %d.%d, at least 12.2 is needed",
                    version / 1000, version % 1000 / 10);
    }
    if (cu->device_count(&count) != 0 || ordinal < 0 || ordinal >= count) {
        return fail(EC_CUDA_NO_DEVICE, "there is no GPU %d: this computer has %d", ordinal, count);
    }
    char name[100] = "";
    if (cu->device(&self->device, ordinal) != 0 ||
        cu->device_attribute(&major, EC_CU_ATTRIBUTE_MAJOR, self->device) != 0 ||
        cu->device_attribute(&minor, EC_CU_ATTRIBUTE_MINOR, self->device) != 0 ||
        cu->device_name(name, (int)sizeof name, self->device) != 0) {
        return fail(EC_CUDA_NO_DEVICE, "GPU %d cannot be asked for its properties", ordinal);
    }
    const int need = (int)self->model->compute;
    if (major != need / 10 || minor < need % 10) {
        return fail(EC_CUDA_WRONG_CHIP,
                    "the kernels are for compute capability %d.%d, GPU %d (%s) has %d.%d", need / 10,
                    need % 10, ordinal, name, major, minor);
    }
    self->programmatic = major >= 9 && cu->capture_info_edges != NULL;
    return EC_CUDA_OK;
}

static ec_cuda_status allocate(const ec_cuda_driver *cu, CUdeviceptr *out, uint64_t bytes,
                               const char *what) {
    const CUresult result = cu->allocate(out, bytes > 0 ? bytes : 1);
    if (result == EC_CU_OUT_OF_MEMORY) {
        size_t free_bytes = 0, all_bytes = 0;
        (void)cu->memory_info(&free_bytes, &all_bytes);
        return fail(EC_CUDA_NO_MEMORY,
                    "%s: %llu bytes of device memory are needed, %llu of %llu are free", what,
                    (unsigned long long)bytes, (unsigned long long)free_bytes,
                    (unsigned long long)all_bytes);
    }
    return checked(cu, result, what);
}

static ec_cuda_status load_functions(ec_cuda_loaded *self) {
    const ec_cuda_model *model = self->model;
    self->modules = calloc(model->function_count + 1u, sizeof *self->modules);
    self->functions = calloc(model->function_count + 1u, sizeof *self->functions);
    if (self->modules == NULL || self->functions == NULL) {
        return fail(EC_CUDA_NO_MEMORY, "host memory is used up");
    }
    for (uint32_t i = 0; i < model->function_count; i++) {
        const ec_cuda_function *f = &model->functions[i];
        CUresult result = self->cu->module_load(&self->modules[i], f->image);
        if (result == 0) {
            result = self->cu->module_function(&self->functions[i], self->modules[i], f->name);
        }
        if (result == 0 && f->shared_bytes > 0u) { /* with static memory it may exceed 48 KiB */
            result = self->cu->function_set(self->functions[i], EC_CU_FUNCTION_SHARED_BYTES,
                                            (int)f->shared_bytes);
        }
        if (result != 0) {
            return checked(self->cu, result, f->name);
        }
    }
    return EC_CUDA_OK;
}

static ec_cuda_status load_mapped(ec_cuda_loaded *self, const char *path, int file) {
    const uint64_t bytes = self->model->weights_bytes;
    struct stat info;
    if (fstat(file, &info) != 0 || (uint64_t)info.st_size != bytes) {
        return fail(EC_CUDA_BAD_WEIGHTS, "%s has not the %llu bytes of this model's weights", path,
                    (unsigned long long)bytes);
    }
    ec_cuda_status status = allocate(self->cu, &self->weights, bytes, "the weights");
    if (status != EC_CUDA_OK || bytes == 0) {
        return status;
    }
    void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
        return fail(EC_CUDA_BAD_WEIGHTS, "%s cannot be mapped", path);
    }
    (void)madvise(data, bytes, MADV_SEQUENTIAL);
    if (ec_cuda_checksum(data, bytes) != self->model->weights_sum) {
        status = fail(EC_CUDA_BAD_WEIGHTS, "%s is damaged or belongs to another model", path);
    } else {
        CUresult result = self->cu->to_device(self->weights, data, bytes, NULL);
        result = result != 0 ? result : self->cu->stream_wait(NULL);
        status = checked(self->cu, result, "copying the weights");
    }
    (void)munmap(data, bytes);
    return status;
}

static ec_cuda_status load_weights(ec_cuda_loaded *self, const char *path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return fail(EC_CUDA_BAD_WEIGHTS, "%s cannot be opened", path);
    }
    const ec_cuda_status status = load_mapped(self, path, file);
    (void)close(file);
    return status;
}

/* Makes the GPU's context current; `leave` gives the caller's back. */
static ec_cuda_status enter(const ec_cuda_loaded *loaded) {
    return checked(loaded->cu, loaded->cu->push(loaded->context), "entering the GPU's context");
}

static void leave(const ec_cuda_loaded *loaded) {
    CUcontext popped;
    (void)loaded->cu->pop(&popped);
}

static void release_all(ec_cuda_loaded *self) {
    for (uint32_t i = 0; self->modules != NULL && i < self->model->function_count; i++) {
        if (self->modules[i] != NULL) {
            (void)self->cu->module_unload(self->modules[i]);
        }
    }
    if (self->weights != 0) {
        (void)self->cu->free(self->weights);
    }
}

ec_cuda_status ec_cuda_load(const ec_cuda_model *model, const char *weights, int ordinal,
                            ec_cuda_loaded **out) {
    if (weights == NULL || out == NULL) {
        return fail(EC_CUDA_BAD_ARGUMENT, "a pointer is NULL");
    }
    *out = NULL;
    ec_cuda_loaded *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return fail(EC_CUDA_NO_MEMORY, "host memory is used up");
    }
    self->model = model;
    ec_cuda_status status = find_device(self, ordinal);
    if (status == EC_CUDA_OK) {
        status = checked(self->cu, self->cu->retain(&self->context, self->device),
                         "the GPU's context does not open");
    }
    if (status == EC_CUDA_OK) {
        status = enter(self);
    }
    if (status == EC_CUDA_OK) {
        status = load_functions(self);
        if (status == EC_CUDA_OK) {
            status = load_weights(self, weights);
        }
        leave(self);
    }
    if (status != EC_CUDA_OK) {
        ec_cuda_unload(self);
        return status;
    }
    *out = self;
    return EC_CUDA_OK;
}

void ec_cuda_unload(ec_cuda_loaded *self) {
    if (self == NULL) {
        return;
    }
    if (self->context != NULL) {
        if (self->cu->push(self->context) == 0) { /* what is said stays the first failure */
            release_all(self);
            leave(self);
        }
        (void)self->cu->release(self->device);
    }
    free(self->modules);
    free(self->functions);
    free(self);
}

/* ---- graphs ---- */

static CUdeviceptr address_of(const ec_cuda_instance *self, uint32_t entry, const ec_cuda_arg *arg) {
    if (arg->port != 0 && self->entries[entry].bound[arg->port - 1] != 0) {
        const ec_cuda_port *port = &self->loaded->model->entries[entry].ports[arg->port - 1];
        if (!port->copied) {
            return self->entries[entry].bound[arg->port - 1] + arg->inside;
        }
    }
    return (arg->weights ? self->loaded->weights : self->arena) + arg->at;
}

/* The kernel's arguments as the driver takes them: `pointers` into `params` and `addresses`. */
static void fill_arguments(const ec_cuda_instance *self, uint32_t entry,
                           const ec_cuda_launch *launch, CUdeviceptr *addresses, void **pointers) {
    uint32_t n = 0;
    if (launch->params != NULL) {
        memcpy(&pointers[n++], &launch->params, sizeof(void *));
    }
    for (uint32_t i = 0; i < launch->arg_count; i++) {
        addresses[i] = address_of(self, entry, &launch->args[i]);
        pointers[n++] = &addresses[i];
    }
}

static CUresult launch_one(const ec_cuda_instance *self, uint32_t entry,
                           const ec_cuda_launch *launch, CUstream stream) {
    CUdeviceptr addresses[MOST_ARGS];
    void *pointers[MOST_ARGS + 1];
    fill_arguments(self, entry, launch, addresses, pointers);
    ec_cu_launch_attribute attribute;
    memset(&attribute, 0, sizeof attribute);
    attribute.id = EC_CU_LAUNCH_PROGRAMMATIC;
    attribute.value.number = 1;
    ec_cu_launch_config config;
    memset(&config, 0, sizeof config);
    memcpy(config.blocks, launch->blocks, sizeof config.blocks);
    config.threads[0] = launch->threads;
    config.threads[1] = config.threads[2] = 1;
    config.shared_bytes = launch->shared_bytes;
    config.stream = stream;
    config.attributes = &attribute;
    config.attribute_count = self->loaded->programmatic ? 1 : 0;
    const CUfunction function = self->loaded->functions[launch->function];
    return self->loaded->cu->launch(&config, function, pointers, NULL);
}

/* The node that the stream's capture added last. */
static CUresult last_node(const ec_cuda_instance *self, CUgraphNode *node) {
    const ec_cuda_driver *cu = self->loaded->cu;
    int capturing = 0;
    size_t count = 0;
    const CUgraphNode *nodes = NULL;
    const void *edges = NULL;
    const CUresult result =
        cu->capture_info_edges != NULL
            ? cu->capture_info_edges(self->stream, &capturing, NULL, NULL, &nodes, &edges, &count)
            : cu->capture_info(self->stream, &capturing, NULL, NULL, &nodes, &count);
    *node = result == 0 && count > 0 ? nodes[0] : NULL;
    return result;
}

static CUresult capture_copies(const ec_cuda_instance *self, uint32_t entry) {
    const ec_cuda_driver *cu = self->loaded->cu;
    const ec_cuda_entry *e = &self->loaded->model->entries[entry];
    const captured *c = &self->entries[entry];
    CUresult result = 0;
    for (uint32_t i = 0; i < e->copy_count && result == 0; i++) {
        result = cu->on_device(address_of(self, entry, &e->copies[i].to),
                               address_of(self, entry, &e->copies[i].from), e->copies[i].bytes,
                               self->stream);
    }
    for (uint32_t p = e->input_count; p < e->input_count + e->output_count && result == 0; p++) {
        if (e->ports[p].copied && c->bound[p] != 0) {
            result = cu->on_device(c->bound[p], self->arena + e->ports[p].at, e->ports[p].bytes,
                                   self->stream);
        }
    }
    return result;
}

static void drop_graph(const ec_cuda_instance *self, captured *c) {
    if (c->exec != NULL) {
        (void)self->loaded->cu->graph_exec_destroy(c->exec);
    }
    if (c->graph != NULL) {
        (void)self->loaded->cu->graph_destroy(c->graph);
    }
    c->exec = NULL;
    c->graph = NULL;
}

static ec_cuda_status capture(ec_cuda_instance *self, uint32_t entry) {
    const ec_cuda_driver *cu = self->loaded->cu;
    const ec_cuda_entry *e = &self->loaded->model->entries[entry];
    captured *c = &self->entries[entry];
    drop_graph(self, c);
    CUresult result = cu->capture_begin(self->stream, EC_CU_CAPTURE_THREAD_LOCAL);
    if (result != 0) {
        return checked(cu, result, "capturing a graph");
    }
    for (uint32_t p = 0; p < e->input_count && result == 0; p++) {
        if (e->ports[p].copied && c->bound[p] != 0) {
            result = cu->on_device(self->arena + e->ports[p].at, c->bound[p], e->ports[p].bytes,
                                   self->stream);
        }
    }
    const char *what = "capturing a graph";
    for (uint32_t i = 0; i < e->launch_count && result == 0; i++) {
        what = self->loaded->model->functions[e->launches[i].function].name;
        result = launch_one(self, entry, &e->launches[i], self->stream);
        result = result != 0 ? result : last_node(self, &c->nodes[i]);
    }
    result = result != 0 ? result : capture_copies(self, entry);
    const CUresult ended = cu->capture_end(self->stream, &c->graph);
    result = result != 0 ? result : ended;
    result = result != 0 ? result : cu->graph_instantiate(&c->exec, c->graph, 0);
    result = result != 0 ? result : cu->graph_upload(c->exec, self->stream);
    if (result != 0) {
        drop_graph(self, c);
    }
    return checked(cu, result, what);
}

static CUresult initial_state(const ec_cuda_instance *self, int all, CUstream stream) {
    const ec_cuda_model *model = self->loaded->model;
    CUresult result = 0;
    for (uint32_t i = 0; i < model->state_count && result == 0; i++) {
        const ec_cuda_state *s = &model->states[i];
        if (all || s->reset) {
            result = self->loaded->cu->on_device(
                self->arena + s->at, self->loaded->weights + s->initial, s->bytes, stream);
        }
    }
    return result;
}

static ec_cuda_status prepare(ec_cuda_instance *self) {
    const ec_cuda_driver *cu = self->loaded->cu;
    const ec_cuda_model *model = self->loaded->model;
    self->entries = calloc(model->entry_count + 1u, sizeof *self->entries);
    if (self->entries == NULL) {
        return fail(EC_CUDA_NO_MEMORY, "host memory is used up");
    }
    ec_cuda_status status = checked(
        cu, cu->stream_create(&self->stream, EC_CU_STREAM_NON_BLOCKING), "creating a stream");
    if (status == EC_CUDA_OK) {
        status = allocate(cu, &self->arena, model->arena_bytes, "an instance's arena");
    }
    if (status == EC_CUDA_OK) {
        status = checked(cu, initial_state(self, 1, self->stream), "setting the initial state");
    }
    for (uint32_t i = 0; i < model->entry_count && status == EC_CUDA_OK; i++) {
        const ec_cuda_entry *e = &model->entries[i];
        self->entries[i].nodes = calloc(e->launch_count + 1u, sizeof(CUgraphNode));
        self->entries[i].bound =
            calloc((size_t)e->input_count + e->output_count + 1u, sizeof(CUdeviceptr));
        if (self->entries[i].nodes == NULL || self->entries[i].bound == NULL) {
            return fail(EC_CUDA_NO_MEMORY, "host memory is used up");
        }
        status = capture(self, i);
    }
    if (status == EC_CUDA_OK) {
        status = checked(cu, cu->stream_wait(self->stream), "preparing an instance");
    }
    return status;
}

ec_cuda_status ec_cuda_create(ec_cuda_loaded *loaded, ec_cuda_instance **out) {
    if (loaded == NULL || out == NULL) {
        return fail(EC_CUDA_BAD_ARGUMENT, "a pointer is NULL");
    }
    *out = NULL;
    ec_cuda_instance *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return fail(EC_CUDA_NO_MEMORY, "host memory is used up");
    }
    self->loaded = loaded;
    ec_cuda_status status = enter(loaded);
    if (status == EC_CUDA_OK) {
        status = prepare(self);
        leave(loaded);
    }
    if (status != EC_CUDA_OK) {
        ec_cuda_destroy(self);
        return status;
    }
    *out = self;
    return EC_CUDA_OK;
}

void ec_cuda_destroy(ec_cuda_instance *self) {
    if (self == NULL) {
        return;
    }
    const ec_cuda_driver *cu = self->loaded->cu;
    const bool inside = cu->push(self->loaded->context) == 0;
    for (uint32_t i = 0; self->entries != NULL && i < self->loaded->model->entry_count; i++) {
        if (inside) {
            drop_graph(self, &self->entries[i]);
        }
        free(self->entries[i].nodes);
        free(self->entries[i].bound);
    }
    free(self->entries);
    if (inside && self->arena != 0) {
        (void)cu->free(self->arena);
    }
    if (inside && self->stream != NULL) {
        (void)cu->stream_destroy(self->stream);
    }
    if (inside) {
        leave(self->loaded);
    }
    free(self);
}

/* ---- use ---- */

static const ec_cuda_port *port_of(const ec_cuda_instance *self, uint32_t entry, uint32_t port) {
    if (self == NULL || entry >= self->loaded->model->entry_count) {
        return NULL;
    }
    const ec_cuda_entry *e = &self->loaded->model->entries[entry];
    return port < e->input_count + e->output_count ? &e->ports[port] : NULL;
}

static ec_cuda_status no_port(uint32_t entry, uint32_t port) {
    return fail(EC_CUDA_BAD_ARGUMENT, "there is no port %u of entry %u", port, entry);
}

uint64_t ec_cuda_port_address(const ec_cuda_instance *self, uint32_t entry, uint32_t port) {
    const ec_cuda_port *p = port_of(self, entry, port);
    if (p == NULL) {
        return 0;
    }
    const CUdeviceptr bound = self->entries[entry].bound[port];
    return bound != 0 ? bound : self->arena + p->at;
}

/* Change the nodes whose arguments lie in the port. */
static ec_cuda_status rebind(ec_cuda_instance *self, uint32_t entry, uint32_t port) {
    const ec_cuda_driver *cu = self->loaded->cu;
    const ec_cuda_entry *e = &self->loaded->model->entries[entry];
    for (uint32_t i = 0; i < e->launch_count; i++) {
        const ec_cuda_launch *launch = &e->launches[i];
        int touched = 0;
        for (uint32_t a = 0; a < launch->arg_count; a++) {
            touched |= launch->args[a].port == port + 1u;
        }
        if (!touched) {
            continue;
        }
        CUdeviceptr addresses[MOST_ARGS];
        void *pointers[MOST_ARGS + 1];
        fill_arguments(self, entry, launch, addresses, pointers);
        ec_cu_kernel_node node;
        memset(&node, 0, sizeof node);
        node.function = self->loaded->functions[launch->function];
        memcpy(node.blocks, launch->blocks, sizeof node.blocks);
        node.threads[0] = launch->threads;
        node.threads[1] = node.threads[2] = 1;
        node.shared_bytes = launch->shared_bytes;
        node.params = pointers;
        const captured *c = &self->entries[entry];
        const CUresult result = cu->graph_set_kernel(c->exec, c->nodes[i], &node);
        if (result != 0) {
            return checked(cu, result, "changing a graph's pointers");
        }
    }
    return EC_CUDA_OK;
}

static int has_copies(const ec_cuda_entry *e, uint32_t port) {
    int found = e->ports[port].copied != 0;
    for (uint32_t i = 0; i < e->copy_count; i++) {
        found |= e->copies[i].to.port == port + 1u || e->copies[i].from.port == port + 1u;
    }
    return found;
}

/* The entry's graph with the port at `address`. */
static ec_cuda_status place_port(ec_cuda_instance *self, uint32_t entry, uint32_t port,
                                 CUdeviceptr address) {
    self->entries[entry].bound[port] = address;
    return has_copies(&self->loaded->model->entries[entry], port) ? capture(self, entry)
                                                                  : rebind(self, entry, port);
}

ec_cuda_status ec_cuda_bind(ec_cuda_instance *self, uint32_t entry, uint32_t port, uint64_t address,
                            uint64_t bytes) {
    const ec_cuda_port *p = port_of(self, entry, port);
    if (p == NULL) {
        return no_port(entry, port);
    }
    const ec_cuda_driver *cu = self->loaded->cu;
    if (address == self->entries[entry].bound[port]) {
        return EC_CUDA_OK;
    }
    if (address != 0 && bytes != p->bytes) {
        return fail(EC_CUDA_BAD_ARGUMENT, "port %s takes %llu bytes, not %llu", p->label,
                    (unsigned long long)p->bytes, (unsigned long long)bytes);
    }
    if (address % EC_CUDA_ALIGN != 0) {
        return fail(EC_CUDA_BAD_POINTER, "the memory for port %s is not aligned to %d bytes",
                    p->label, EC_CUDA_ALIGN);
    }
    ec_cuda_status status = enter(self->loaded);
    if (status != EC_CUDA_OK) {
        return status;
    }
    unsigned kind = 0;
    if (address != 0 && cu->pointer_attribute(&kind, EC_CU_POINTER_MEMORY_TYPE, address) != 0) {
        status = fail(EC_CUDA_BAD_POINTER, "the memory for port %s is none that the GPU can reach",
                      p->label);
    } else {
        const CUdeviceptr before = self->entries[entry].bound[port];
        status = place_port(self, entry, port, address);
        if (status != EC_CUDA_OK) { /* the graph as it was; what is said stays the first failure */
            char text[sizeof error_text];
            memcpy(text, error_text, sizeof text);
            (void)place_port(self, entry, port, before);
            memcpy(error_text, text, sizeof text);
        }
    }
    leave(self->loaded);
    return status;
}

ec_cuda_status ec_cuda_invoke(ec_cuda_instance *self, uint32_t entry, void *stream) {
    if (self == NULL || entry >= self->loaded->model->entry_count) {
        return fail(EC_CUDA_BAD_ARGUMENT, "there is no entry %u", entry);
    }
    const ec_cuda_status entered = enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    const CUresult result = self->loaded->cu->graph_launch(self->entries[entry].exec, stream);
    leave(self->loaded);
    return checked(self->loaded->cu, result, "launching a graph");
}

ec_cuda_status ec_cuda_reset(ec_cuda_instance *self, void *stream) {
    if (self == NULL) {
        return fail(EC_CUDA_BAD_ARGUMENT, "the instance is NULL");
    }
    const ec_cuda_status entered = enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    const CUresult result = initial_state(self, 0, stream);
    leave(self->loaded);
    return checked(self->loaded->cu, result, "resetting the state");
}

ec_cuda_status ec_cuda_write(ec_cuda_instance *self, uint32_t entry, uint32_t port,
                             const void *from, void *stream) {
    const ec_cuda_port *p = port_of(self, entry, port);
    if (p == NULL || from == NULL) {
        return no_port(entry, port);
    }
    const ec_cuda_status entered = enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    const CUresult result = self->loaded->cu->to_device(ec_cuda_port_address(self, entry, port),
                                                        from, p->bytes, stream);
    leave(self->loaded);
    return checked(self->loaded->cu, result, "copying an input");
}

ec_cuda_status ec_cuda_read(ec_cuda_instance *self, uint32_t entry, uint32_t port, void *to,
                            void *stream) {
    const ec_cuda_port *p = port_of(self, entry, port);
    if (p == NULL || to == NULL) {
        return no_port(entry, port);
    }
    const ec_cuda_status entered = enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    CUresult result = self->loaded->cu->to_host(to, ec_cuda_port_address(self, entry, port),
                                                p->bytes, stream);
    result = result != 0 ? result : self->loaded->cu->stream_wait(stream);
    leave(self->loaded);
    return checked(self->loaded->cu, result, "copying an output");
}

ec_cuda_status ec_cuda_wait(ec_cuda_instance *self, void *stream) {
    if (self == NULL) {
        return fail(EC_CUDA_BAD_ARGUMENT, "the instance is NULL");
    }
    const ec_cuda_status entered = enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    const CUresult result = self->loaded->cu->stream_wait(stream);
    leave(self->loaded);
    return checked(self->loaded->cu, result, "waiting for the GPU");
}

ec_cuda_status ec_cuda_host_allocate(ec_cuda_loaded *loaded, uint64_t bytes, void **host,
                                     uint64_t *device) {
    if (loaded == NULL || host == NULL || device == NULL) {
        return fail(EC_CUDA_BAD_ARGUMENT, "a pointer is NULL");
    }
    const ec_cuda_status entered = enter(loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    CUresult result = loaded->cu->host_allocate(host, bytes > 0 ? bytes : 1, EC_CU_HOST_MAPPED);
    if (result == 0) {
        result = loaded->cu->host_address(device, *host, 0);
        if (result != 0) {
            (void)loaded->cu->host_free(*host);
        }
    }
    leave(loaded);
    return checked(loaded->cu, result, "allocating host memory");
}

void ec_cuda_host_free(ec_cuda_loaded *loaded, void *host) {
    if (loaded != NULL && host != NULL) {
        if (enter(loaded) == EC_CUDA_OK) {
            (void)loaded->cu->host_free(host);
            leave(loaded);
        }
    }
}

ec_cuda_status ec_cuda_fill(ec_cuda_instance *self, uint8_t byte) {
    if (self == NULL) {
        return fail(EC_CUDA_BAD_ARGUMENT, "the instance is NULL");
    }
    const ec_cuda_model *model = self->loaded->model;
    uint64_t start = 0;
    for (uint32_t i = 0; i < model->state_count; i++) {
        const uint64_t end = model->states[i].at + model->states[i].bytes;
        start = end > start ? end : start; /* state stands first */
    }
    const ec_cuda_status entered = enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    CUresult result = 0;
    if (model->arena_bytes > start) {
        result = self->loaded->cu->fill(self->arena + start, byte, model->arena_bytes - start,
                                        self->stream);
        result = result != 0 ? result : self->loaded->cu->stream_wait(self->stream);
    }
    leave(self->loaded);
    return checked(self->loaded->cu, result, "filling the arena");
}

/* ---- measuring ---- */

typedef struct {
    const ec_cuda_driver *cu;
    CUevent first;
    CUevent last;
} stop_watch;

static CUresult watch_open(stop_watch *watch, const ec_cuda_driver *cu) {
    watch->cu = cu;
    watch->first = watch->last = NULL;
    CUresult result = cu->event_create(&watch->first, 0);
    return result != 0 ? result : cu->event_create(&watch->last, 0);
}

static void watch_close(stop_watch *watch) {
    if (watch->first != NULL) {
        (void)watch->cu->event_destroy(watch->first);
    }
    if (watch->last != NULL) {
        (void)watch->cu->event_destroy(watch->last);
    }
}

/* Milliseconds of one launch of `exec`. */
static CUresult watch_graph(stop_watch *watch, CUgraphExec exec, CUstream stream, float *ms) {
    CUresult result = watch->cu->event_record(watch->first, stream);
    result = result != 0 ? result : watch->cu->graph_launch(exec, stream);
    result = result != 0 ? result : watch->cu->event_record(watch->last, stream);
    result = result != 0 ? result : watch->cu->event_wait(watch->last);
    return result != 0 ? result : watch->cu->event_time(ms, watch->first, watch->last);
}

ec_cuda_status ec_cuda_time(ec_cuda_instance *self, uint32_t entry, uint32_t runs, float *times) {
    if (self == NULL || entry >= self->loaded->model->entry_count || times == NULL) {
        return fail(EC_CUDA_BAD_ARGUMENT, "there is no entry %u", entry);
    }
    const ec_cuda_status entered = enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    stop_watch watch;
    CUresult result = watch_open(&watch, self->loaded->cu);
    for (uint32_t i = 0; i < runs && result == 0; i++) {
        result = watch_graph(&watch, self->entries[entry].exec, self->stream, &times[i]);
    }
    watch_close(&watch);
    leave(self->loaded);
    return checked(self->loaded->cu, result, "timing a graph");
}

/* A graph of `repeats` launches of one kernel. */
static CUresult repeat(ec_cuda_instance *self, uint32_t entry, const ec_cuda_launch *launch,
                       uint32_t repeats, CUgraph *graph, CUgraphExec *exec) {
    const ec_cuda_driver *cu = self->loaded->cu;
    CUresult result = cu->capture_begin(self->stream, EC_CU_CAPTURE_THREAD_LOCAL);
    if (result != 0) {
        return result;
    }
    for (uint32_t i = 0; i < repeats && result == 0; i++) {
        result = launch_one(self, entry, launch, self->stream);
    }
    const CUresult ended = cu->capture_end(self->stream, graph);
    result = result != 0 ? result : ended;
    return result != 0 ? result : cu->graph_instantiate(exec, *graph, 0);
}

ec_cuda_status ec_cuda_profile(ec_cuda_instance *self, uint32_t entry, uint32_t repeats,
                               float *times) {
    if (self == NULL || entry >= self->loaded->model->entry_count || times == NULL || repeats == 0) {
        return fail(EC_CUDA_BAD_ARGUMENT, "there is no entry %u", entry);
    }
    const ec_cuda_driver *cu = self->loaded->cu;
    const ec_cuda_entry *e = &self->loaded->model->entries[entry];
    const ec_cuda_status entered = enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    stop_watch watch;
    CUresult result = watch_open(&watch, cu);
    for (uint32_t i = 0; i < e->launch_count && result == 0; i++) {
        CUgraph graph = NULL;
        CUgraphExec exec = NULL;
        result = repeat(self, entry, &e->launches[i], repeats, &graph, &exec);
        for (int warm = 0; warm < 3 && result == 0; warm++) { /* the last of three counts */
            result = watch_graph(&watch, exec, self->stream, &times[i]);
        }
        times[i] /= (float)repeats;
        if (exec != NULL) {
            (void)cu->graph_exec_destroy(exec);
        }
        if (graph != NULL) {
            (void)cu->graph_destroy(graph);
        }
    }
    watch_close(&watch);
    leave(self->loaded);
    return checked(cu, result, "profiling an entry");
}

/* The shortest of ten copies of `bytes` bytes. */
static CUresult time_copies(const ec_cuda_driver *cu, CUdeviceptr from, CUdeviceptr to,
                            uint64_t bytes, float *best) {
    stop_watch watch;
    CUresult result = watch_open(&watch, cu);
    for (int i = 0; i < 10 && result == 0; i++) {
        float ms = 0.0f;
        result = cu->event_record(watch.first, NULL);
        result = result != 0 ? result : cu->on_device(to, from, bytes, NULL);
        result = result != 0 ? result : cu->event_record(watch.last, NULL);
        result = result != 0 ? result : cu->event_wait(watch.last);
        result = result != 0 ? result : cu->event_time(&ms, watch.first, watch.last);
        *best = i == 0 || ms < *best ? ms : *best;
    }
    watch_close(&watch);
    return result;
}

ec_cuda_status ec_cuda_copy_rate(ec_cuda_loaded *loaded, uint64_t bytes, double *rate) {
    if (loaded == NULL || rate == NULL || bytes == 0) {
        return fail(EC_CUDA_BAD_ARGUMENT, "a pointer is NULL, or nothing is copied");
    }
    const ec_cuda_driver *cu = loaded->cu;
    CUdeviceptr memory = 0;
    float best = 0.0f;
    ec_cuda_status status = enter(loaded);
    if (status != EC_CUDA_OK) {
        return status;
    }
    status = allocate(cu, &memory, 2 * bytes, "measuring the copy rate");
    if (status == EC_CUDA_OK) {
        status = checked(cu, time_copies(cu, memory, memory + bytes, bytes, &best), "copying");
        (void)cu->free(memory);
    }
    leave(loaded);
    *rate = best > 0.0f ? 2.0e3 * (double)bytes / (double)best : 0.0;
    return status;
}
