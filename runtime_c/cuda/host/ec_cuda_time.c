/*
 * ec_cuda_time.c: how long an entry, each of its launches and copies on the device take, by events. See ec_cuda.h.
 */
#include "ec_cuda_parts.h"

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
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "there is no entry %u", entry);
    }
    const ec_cuda_status entered = ec_cuda_enter(self->loaded);
    if (entered != EC_CUDA_OK) {
        return entered;
    }
    stop_watch watch;
    CUresult result = watch_open(&watch, self->loaded->cu);
    for (uint32_t i = 0; i < runs && result == 0; i++) {
        result = watch_graph(&watch, self->entries[entry].exec, self->stream, &times[i]);
    }
    watch_close(&watch);
    ec_cuda_leave(self->loaded);
    return ec_cuda_checked(self->loaded->cu, result, "timing a graph");
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
        result = ec_cuda_launch_one(self, entry, launch, self->stream);
    }
    const CUresult ended = cu->capture_end(self->stream, graph);
    result = result != 0 ? result : ended;
    return result != 0 ? result : cu->graph_instantiate(exec, *graph, 0);
}

ec_cuda_status ec_cuda_profile(ec_cuda_instance *self, uint32_t entry, uint32_t repeats,
                               float *times) {
    if (self == NULL || entry >= self->loaded->model->entry_count || times == NULL ||
        repeats == 0) {
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "there is no entry %u", entry);
    }
    const ec_cuda_driver *cu = self->loaded->cu;
    const ec_cuda_entry *e = &self->loaded->model->entries[entry];
    const ec_cuda_status entered = ec_cuda_enter(self->loaded);
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
    ec_cuda_leave(self->loaded);
    return ec_cuda_checked(cu, result, "profiling an entry");
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
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "a pointer is NULL, or nothing is copied");
    }
    const ec_cuda_driver *cu = loaded->cu;
    CUdeviceptr memory = 0;
    float best = 0.0f;
    ec_cuda_status status = ec_cuda_enter(loaded);
    if (status != EC_CUDA_OK) {
        return status;
    }
    status = ec_cuda_allocate(cu, &memory, 2 * bytes, "measuring the copy rate");
    if (status == EC_CUDA_OK) {
        status =
            ec_cuda_checked(cu, time_copies(cu, memory, memory + bytes, bytes, &best), "copying");
        (void)cu->free(memory);
    }
    ec_cuda_leave(loaded);
    *rate = best > 0.0f ? 2.0e3 * (double)bytes / (double)best : 0.0;
    return status;
}
