/*
 * ec_cuda_load.c: finds the GPU and puts a model's kernels and weights on it; how failures are told. See ec_cuda.h.
 *
 * A failing call leaves nothing behind: each set-up function frees what it made. The text of the last failure is kept
 * by thread.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ec_cuda_parts.h"

enum { OLDEST_DRIVER = 12020 };

static __thread char error_text[EC_CUDA_TEXT];

const char *ec_cuda_error(void) {
    return error_text;
}

ec_cuda_status ec_cuda_fail(ec_cuda_status status, const char *format, ...) {
    va_list values;
    va_start(values, format);
    (void)vsnprintf(error_text, sizeof error_text, format, values);
    va_end(values);
    return status;
}

ec_cuda_status ec_cuda_checked(const ec_cuda_driver *cu, CUresult result, const char *what) {
    if (result == 0) {
        return EC_CUDA_OK;
    }
    const char *text = NULL;
    (void)cu->error_text(result, &text);
    const ec_cuda_status status =
        result == EC_CU_OUT_OF_MEMORY ? EC_CUDA_NO_MEMORY : EC_CUDA_FAILED;
    return ec_cuda_fail(status, "%s: %s (CUDA error %d)", what, text != NULL ? text : "unknown",
                        result);
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

static ec_cuda_status find_device(ec_cuda_loaded *self, int ordinal) {
    const char *missing = NULL;
    self->cu = ec_cuda_driver_open(&missing);
    if (self->cu == NULL) {
        return ec_cuda_fail(EC_CUDA_NO_DRIVER, "the CUDA driver cannot be opened: %s is missing",
                            missing);
    }
    const ec_cuda_driver *cu = self->cu;
    int version = 0, count = 0, major = 0, minor = 0;
    const CUresult result = cu->init(0);
    if (result == EC_CU_NO_DEVICE) {
        return ec_cuda_fail(EC_CUDA_NO_DEVICE,
                            "this computer has no CUDA GPU that the driver can use");
    }
    if (result != 0) {
        (void)ec_cuda_checked(cu, result, "the CUDA driver does not start");
        return EC_CUDA_NO_DRIVER;
    }
    if (cu->driver_version(&version) != 0 || version < OLDEST_DRIVER) {
        return ec_cuda_fail(EC_CUDA_OLD_DRIVER,
                            "the driver is for CUDA %d.%d, at least 12.2 is needed", version / 1000,
                            version % 1000 / 10);
    }
    if (cu->device_count(&count) != 0 || ordinal < 0 || ordinal >= count) {
        return ec_cuda_fail(EC_CUDA_NO_DEVICE, "there is no GPU %d: this computer has %d", ordinal,
                            count);
    }
    char name[100] = "";
    if (cu->device(&self->device, ordinal) != 0 ||
        cu->device_attribute(&major, EC_CU_ATTRIBUTE_MAJOR, self->device) != 0 ||
        cu->device_attribute(&minor, EC_CU_ATTRIBUTE_MINOR, self->device) != 0 ||
        cu->device_name(name, (int)sizeof name, self->device) != 0) {
        return ec_cuda_fail(EC_CUDA_NO_DEVICE, "GPU %d cannot be asked for its properties",
                            ordinal);
    }
    const int need = (int)self->model->compute;
    if (major != need / 10 || minor < need % 10) {
        return ec_cuda_fail(EC_CUDA_WRONG_CHIP,
                            "the kernels are for compute capability %d.%d, GPU %d (%s) has %d.%d",
                            need / 10, need % 10, ordinal, name, major, minor);
    }
    self->programmatic = major >= 9 && cu->capture_info_edges != NULL;
    return EC_CUDA_OK;
}

ec_cuda_status ec_cuda_allocate(const ec_cuda_driver *cu, CUdeviceptr *out, uint64_t bytes,
                                const char *what) {
    const CUresult result = cu->allocate(out, bytes > 0 ? bytes : 1);
    if (result == EC_CU_OUT_OF_MEMORY) {
        size_t free_bytes = 0, all_bytes = 0;
        (void)cu->memory_info(&free_bytes, &all_bytes);
        return ec_cuda_fail(EC_CUDA_NO_MEMORY,
                            "%s: %llu bytes of device memory are needed, %llu of %llu are free",
                            what, (unsigned long long)bytes, (unsigned long long)free_bytes,
                            (unsigned long long)all_bytes);
    }
    return ec_cuda_checked(cu, result, what);
}

static ec_cuda_status load_functions(ec_cuda_loaded *self) {
    const ec_cuda_model *model = self->model;
    self->modules = calloc(model->function_count + 1u, sizeof *self->modules);
    self->functions = calloc(model->function_count + 1u, sizeof *self->functions);
    if (self->modules == NULL || self->functions == NULL) {
        return ec_cuda_fail(EC_CUDA_NO_MEMORY, "host memory is used up");
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
        if (result == 0 && model->shared_percent > 0u) {
            result = self->cu->function_set(self->functions[i], EC_CU_FUNCTION_SHARED_PERCENT,
                                            (int)model->shared_percent);
        }
        if (result != 0) {
            return ec_cuda_checked(self->cu, result, f->name);
        }
    }
    return EC_CUDA_OK;
}

static ec_cuda_status load_mapped(ec_cuda_loaded *self, const char *path, int file) {
    const uint64_t bytes = self->model->weights_bytes;
    struct stat info;
    if (fstat(file, &info) != 0 || (uint64_t)info.st_size != bytes) {
        return ec_cuda_fail(EC_CUDA_BAD_WEIGHTS,
                            "%s has not the %llu bytes of this model's weights", path,
                            (unsigned long long)bytes);
    }
    ec_cuda_status status = ec_cuda_allocate(self->cu, &self->weights, bytes, "the weights");
    if (status != EC_CUDA_OK || bytes == 0) {
        return status;
    }
    void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) {
        return ec_cuda_fail(EC_CUDA_BAD_WEIGHTS, "%s cannot be mapped", path);
    }
    (void)madvise(data, bytes, MADV_SEQUENTIAL);
    if (ec_cuda_checksum(data, bytes) != self->model->weights_sum) {
        status =
            ec_cuda_fail(EC_CUDA_BAD_WEIGHTS, "%s is damaged or belongs to another model", path);
    } else {
        CUresult result = self->cu->to_device(self->weights, data, bytes, NULL);
        result = result != 0 ? result : self->cu->stream_wait(NULL);
        status = ec_cuda_checked(self->cu, result, "copying the weights");
    }
    (void)munmap(data, bytes);
    return status;
}

static ec_cuda_status load_weights(ec_cuda_loaded *self, const char *path) {
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return ec_cuda_fail(EC_CUDA_BAD_WEIGHTS, "%s cannot be opened", path);
    }
    const ec_cuda_status status = load_mapped(self, path, file);
    (void)close(file);
    return status;
}

ec_cuda_status ec_cuda_enter(const ec_cuda_loaded *loaded) {
    return ec_cuda_checked(loaded->cu, loaded->cu->push(loaded->context),
                           "entering the GPU's context");
}

void ec_cuda_leave(const ec_cuda_loaded *loaded) {
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
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "a pointer is NULL");
    }
    *out = NULL;
    ec_cuda_loaded *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return ec_cuda_fail(EC_CUDA_NO_MEMORY, "host memory is used up");
    }
    self->model = model;
    ec_cuda_status status = find_device(self, ordinal);
    if (status == EC_CUDA_OK) {
        status = ec_cuda_checked(self->cu, self->cu->retain(&self->context, self->device),
                                 "the GPU's context does not open");
    }
    if (status == EC_CUDA_OK) {
        status = ec_cuda_enter(self);
    }
    if (status == EC_CUDA_OK) {
        status = load_functions(self);
        if (status == EC_CUDA_OK) {
            status = load_weights(self, weights);
        }
        ec_cuda_leave(self);
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
            ec_cuda_leave(self);
        }
        (void)self->cu->release(self->device);
    }
    free(self->modules);
    free(self->functions);
    free(self);
}

ec_cuda_status ec_cuda_host_allocate(ec_cuda_loaded *loaded, uint64_t bytes, void **host,
                                     uint64_t *device) {
    if (loaded == NULL || host == NULL || device == NULL) {
        return ec_cuda_fail(EC_CUDA_BAD_ARGUMENT, "a pointer is NULL");
    }
    const ec_cuda_status entered = ec_cuda_enter(loaded);
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
    ec_cuda_leave(loaded);
    return ec_cuda_checked(loaded->cu, result, "allocating host memory");
}

void ec_cuda_host_free(ec_cuda_loaded *loaded, void *host) {
    if (loaded != NULL && host != NULL) {
        if (ec_cuda_enter(loaded) == EC_CUDA_OK) {
            (void)loaded->cu->host_free(host);
            ec_cuda_leave(loaded);
        }
    }
}
