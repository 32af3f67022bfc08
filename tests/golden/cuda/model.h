/* head */
#ifndef EDGEC_NET_H
#define EDGEC_NET_H

#include "cuda/host/ec_cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Entries, and the ports of each: inputs first, then outputs. */
enum {
    EDGEC_NET_INVOKE = 0,
    EDGEC_NET_INPUT_X = 0, /* 16x16x3, 1536 bytes */
    EDGEC_NET_OUTPUT_OUTPUT = 1, /* 10, 20 bytes */
};

/* As the ec_cuda_ functions of ec_cuda.h, for this model. */
ec_cuda_status edgec_net_load(const char *weights, int ordinal, ec_cuda_loaded **out);
void edgec_net_unload(ec_cuda_loaded *loaded);
ec_cuda_status edgec_net_create(ec_cuda_loaded *loaded, ec_cuda_instance **out);
void edgec_net_destroy(ec_cuda_instance *m);
uint64_t edgec_net_port_address(const ec_cuda_instance *m, uint32_t entry, uint32_t port);
ec_cuda_status edgec_net_bind(ec_cuda_instance *m, uint32_t entry, uint32_t port, uint64_t address,
    uint64_t bytes);
ec_cuda_status edgec_net_invoke(ec_cuda_instance *m, uint32_t entry, void *stream);
ec_cuda_status edgec_net_reset(ec_cuda_instance *m, void *stream);
ec_cuda_status edgec_net_write(ec_cuda_instance *m, uint32_t entry, uint32_t port, const void *from,
    void *stream);
ec_cuda_status edgec_net_read(ec_cuda_instance *m, uint32_t entry, uint32_t port, void *to,
    void *stream);
ec_cuda_status edgec_net_wait(ec_cuda_instance *m, void *stream);
ec_cuda_status edgec_net_host_allocate(ec_cuda_loaded *loaded, uint64_t bytes, void **host,
    uint64_t *device);
void edgec_net_host_free(ec_cuda_loaded *loaded, void *host);
ec_cuda_status edgec_net_copy_rate(ec_cuda_loaded *loaded, uint64_t bytes, double *rate);
ec_cuda_status edgec_net_fill(ec_cuda_instance *m, uint8_t byte);
ec_cuda_status edgec_net_time(ec_cuda_instance *m, uint32_t entry, uint32_t runs, float *times);
ec_cuda_status edgec_net_profile(ec_cuda_instance *m, uint32_t entry, uint32_t repeats,
    float *times);
const char *edgec_net_error(void);

#ifdef __cplusplus
}
#endif

#endif
