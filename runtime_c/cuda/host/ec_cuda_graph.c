/*
 * ec_cuda_graph.c: instances of a model: captures its entries as graphs, points their ports at the caller's memory and
 * launches them. See ec_cuda.h.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ec_cuda_parts.h"

enum { MOST_ARGS = 40 };

static CUdeviceptr address_of(const ec_cuda_instance *self, uint32_t entry,
                              const ec_cuda_arg *arg) {
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

CUresult ec_cuda_launch_one(const ec_cuda_instance *self, uint32_t entry,
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
    const ec_cuda_captured *c = &self->entries[entry];
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

static void drop_graph(const ec_cuda_instance *self, ec_cuda_captured *c) {
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
    ec_cuda_captured *c = &self->entries[entry];
    drop_graph(self, c);
    CUresult result = cu->capture_begin(self->stream, EC_CU_CAPTURE_THREAD_LOCAL);
    if (result != 0) {
        return ec_cuda_checked(cu, result, "capturing a graph");
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
        result = ec_cuda_launch_one(self, entry, &e->launches[i], self->stream);
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
    return ec_cuda_checked(cu, result, what);
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
        return ec_cuda_fail(EC_CUDA_NO_MEMORY, "host memory is used up");
    }
    ec_cuda_status status = ec_cuda_checked(
        cu, cu->stream_create(&self->stream, EC_CU_STREAM_NON_BLOCKING), "creating a stream");
    if (status == EC_CUDA_OK) {
        status = ec_cuda_allocate(cu, &self->arena, model->arena_bytes, "an instance's arena");
    }
    if (status == EC_CUDA_OK) {
        status =
            ec_cuda_checked(cu, initial_state(self, 1, self->stream), "setting the initial state");
    }
    for (uint32_t i = 0; i < model->entry_count && status == EC_CUDA_OK; i++) {
        const ec_cuda_entry *e = &model->entries[i];
        self->entries[i].nodes = calloc(e->launch_count + 1u, sizeof(CUgraphNode));
        self->entries[i].bound =
            calloc((size_t)e->input_count + e->output_count + 1u, sizeof(CUdeviceptr));
        if (self->entries[i].nodes == NULL || self->entries[i].bound == NULL) {
            return ec_cuda_fail(EC_CUDA_NO_MEMORY, "host memory is used up");
        }
        status = capture(self, i);
    }
    if (status == EC_CUDA_OK) {
        status = ec_cuda_checked(cu, cu->stream_wait(self->stream), "preparing an instance");
    }
    return status;
}

ec_cuda_status ec_cuda_create(ec_cuda_loaded *loaded, ec_cuda_instance **out) {
    if (loaded == NULL || out == NULL) {
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "a pointer is NULL");
    }
    *out = NULL;
    ec_cuda_instance *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ec_cuda_fail(EC_CUDA_NO_MEMORY, "host memory is used up");
    }
    self->loaded = loaded;
    ec_cuda_status status = ec_cuda_enter(loaded);
    if (status == EC_CUDA_OK) {
        status = prepare(self);
        ec_cuda_leave(loaded);
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
        ec_cuda_leave(self->loaded);
    }
    free(self);
}

static const ec_cuda_port *port_of(const ec_cuda_instance *self, uint32_t entry, uint32_t port) {
    if (self == NULL || entry >= self->loaded->model->entry_count) {
        return NULL;
    }
    const ec_cuda_entry *e = &self->loaded->model->entries[entry];
    return port < e->input_count + e->output_count ? &e->ports[port] : NULL;
}

static ec_cuda_status no_port(uint32_t entry, uint32_t port) {
    return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "there is no port %u of entry %u", port, entry);
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
        const ec_cuda_captured *c = &self->entries[entry];
        const CUresult result = cu->graph_set_kernel(c->exec, c->nodes[i], &node);
        if (result != 0) {
            return ec_cuda_checked(cu, result, "changing a graph's pointers");
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

/* Whether the model's GPU reads and writes this memory: its own, managed, or of the host and mapped. */
static ec_cuda_status reachable(const ec_cuda_instance *self, const ec_cuda_port *p,
                                CUdeviceptr address) {
    const ec_cuda_driver *cu = self->loaded->cu;
    unsigned kind = 0, managed = 0;
    int device = self->loaded->device;
    if (address == 0) {
        return EC_CUDA_OK;
    }
    if (cu->pointer_attribute(&kind, EC_CU_POINTER_MEMORY_TYPE, address) != 0 ||
        cu->pointer_attribute(&managed, EC_CU_POINTER_MANAGED, address) != 0 ||
        cu->pointer_attribute(&device, EC_CU_POINTER_DEVICE, address) != 0) {
        return ec_cuda_fail(EC_CUDA_BAD_POINTER,
                            "the memory for port %s is none that the GPU can reach", p->label);
    }
    if (kind == EC_CU_MEMORY_OF_DEVICE && managed == 0 && device != self->loaded->device) {
        return ec_cuda_fail(EC_CUDA_BAD_POINTER,
                            "the memory for port %s lies on GPU %d, the model on GPU %d", p->label,
                            device, self->loaded->device);
    }
    return EC_CUDA_OK;
}

ec_cuda_status ec_cuda_bind(ec_cuda_instance *self, uint32_t entry, uint32_t port, uint64_t address,
                            uint64_t bytes) {
    const ec_cuda_port *p = port_of(self, entry, port);
    if (p == NULL) {
        return no_port(entry, port);
    }
    if (address == self->entries[entry].bound[port]) {
        return EC_CUDA_OK;
    }
    if (address != 0 && bytes != p->bytes) {
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "port %s takes %llu bytes, not %llu", p->label,
                            (unsigned long long)p->bytes, (unsigned long long)bytes);
    }
    if (address % EC_CUDA_ALIGN != 0) {
        return ec_cuda_fail(EC_CUDA_BAD_POINTER,
                            "the memory for port %s is not aligned to %d bytes", p->label,
                            EC_CUDA_ALIGN);
    }
    ec_cuda_status status = ec_cuda_enter(self->loaded);
    if (status != EC_CUDA_OK) {
        return status;
    }
    status = reachable(self, p, address);
    if (status == EC_CUDA_OK) {
        const CUdeviceptr before = self->entries[entry].bound[port];
        status = place_port(self, entry, port, address);
        if (status != EC_CUDA_OK) { /* the graph as it was; what is said stays the first failure */
            char text[EC_CUDA_TEXT];
            (void)snprintf(text, sizeof text, "%s", ec_cuda_error());
            (void)place_port(self, entry, port, before);
            (void)ec_cuda_fail(status, "%s", text);
        }
    }
    ec_cuda_leave(self->loaded);
    return status;
}

ec_cuda_status ec_cuda_invoke(ec_cuda_instance *self, uint32_t entry, void *stream) {
    if (self == NULL || entry >= self->loaded->model->entry_count) {
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "there is no entry %u", entry);
    }
    const ec_cuda_status entered = ec_cuda_enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    const CUresult result = self->loaded->cu->graph_launch(self->entries[entry].exec, stream);
    ec_cuda_leave(self->loaded);
    return ec_cuda_checked(self->loaded->cu, result, "launching a graph");
}

ec_cuda_status ec_cuda_reset(ec_cuda_instance *self, void *stream) {
    if (self == NULL) {
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "the instance is NULL");
    }
    const ec_cuda_status entered = ec_cuda_enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    const CUresult result = initial_state(self, 0, stream);
    ec_cuda_leave(self->loaded);
    return ec_cuda_checked(self->loaded->cu, result, "resetting the state");
}

ec_cuda_status ec_cuda_write(ec_cuda_instance *self, uint32_t entry, uint32_t port,
                             const void *from, void *stream) {
    const ec_cuda_port *p = port_of(self, entry, port);
    if (p == NULL || from == NULL) {
        return no_port(entry, port);
    }
    const ec_cuda_status entered = ec_cuda_enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    const CUresult result = self->loaded->cu->to_device(ec_cuda_port_address(self, entry, port),
                                                        from, p->bytes, stream);
    ec_cuda_leave(self->loaded);
    return ec_cuda_checked(self->loaded->cu, result, "copying an input");
}

ec_cuda_status ec_cuda_read(ec_cuda_instance *self, uint32_t entry, uint32_t port, void *to,
                            void *stream) {
    const ec_cuda_port *p = port_of(self, entry, port);
    if (p == NULL || to == NULL) {
        return no_port(entry, port);
    }
    const ec_cuda_status entered = ec_cuda_enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    CUresult result =
        self->loaded->cu->to_host(to, ec_cuda_port_address(self, entry, port), p->bytes, stream);
    result = result != 0 ? result : self->loaded->cu->stream_wait(stream);
    ec_cuda_leave(self->loaded);
    return ec_cuda_checked(self->loaded->cu, result, "copying an output");
}

ec_cuda_status ec_cuda_wait(ec_cuda_instance *self, void *stream) {
    if (self == NULL) {
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "the instance is NULL");
    }
    const ec_cuda_status entered = ec_cuda_enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    const CUresult result = self->loaded->cu->stream_wait(stream);
    ec_cuda_leave(self->loaded);
    return ec_cuda_checked(self->loaded->cu, result, "waiting for the GPU");
}

ec_cuda_status ec_cuda_fill(ec_cuda_instance *self, uint8_t byte) {
    if (self == NULL) {
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "the instance is NULL");
    }
    const ec_cuda_model *model = self->loaded->model;
    uint64_t start = 0;
    for (uint32_t i = 0; i < model->state_count; i++) {
        const uint64_t end = model->states[i].at + model->states[i].bytes;
        start = end > start ? end : start; /* state stands first */
    }
    const ec_cuda_status entered = ec_cuda_enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    CUresult result = 0;
    if (model->arena_bytes > start) {
        result = self->loaded->cu->fill(self->arena + start, byte, model->arena_bytes - start,
                                        self->stream);
        result = result != 0 ? result : self->loaded->cu->stream_wait(self->stream);
    }
    ec_cuda_leave(self->loaded);
    return ec_cuda_checked(self->loaded->cu, result, "filling the arena");
}
