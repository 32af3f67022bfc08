/* head */
#include "model.h"

#include "cuda/ec_gemm_params.h"
#include "cuda/ec_reduce_params.h"

extern const unsigned char ec_cubin_ec_conv_57b646cf[];
extern const unsigned char ec_cubin_ec_conv_patch_f0ac5e66[];
extern const unsigned char ec_cubin_ec_linear_0b087470[];
extern const unsigned char ec_cubin_ec_reduce_columns_969ab7e4[];

static const ec_cuda_function functions[] = {
    {"ec_conv_57b646cf", ec_cubin_ec_conv_57b646cf, 49152u},
    {"ec_conv_patch_f0ac5e66", ec_cubin_ec_conv_patch_f0ac5e66, 40960u},
    {"ec_linear_0b087470", ec_cubin_ec_linear_0b087470, 49152u},
    {"ec_reduce_columns_969ab7e4", ec_cubin_ec_reduce_columns_969ab7e4, 0u},
    {0, 0, 0}};

static const ec_conv_patch_params p_infer_relu = {.n = 16, .k = 27, .pitch_b = 32, .h = 16, .w = 16,
    .c = 3, .p = 8, .q = 8, .taps_w = 3, .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1,
    .dilation_h = 1, .dilation_w = 1, .patch_h = 17, .patch_w = 51, .tiles_h = 1, .tiles_w = 1,
    .act_min = 0.0f, .act_max = 3.40282347e+38f};
static const ec_cuda_arg a_invoke_0[] = {{0, 1, 2304u, 0u}, {1, 0, 0u, 0}, {1, 0, 1024u, 0}, {0, 0,
    256u, 0u}};
static const ec_conv_params p_infer_relu_1 = {.m = 64, .n = 16, .k = 144, .splits = 1,
    .pitch_b = 144, .h = 8, .w = 8, .c = 16, .p = 8, .q = 8, .taps_w = 3, .stride_h = 1,
    .stride_w = 1, .pad_h = 1, .pad_w = 1, .dilation_h = 1, .dilation_w = 1, .up_h = 1, .up_w = 1,
    .act_min = -3.40282347e+38f, .act_max = 3.40282347e+38f};
static const ec_cuda_arg a_invoke_1[] = {{0, 0, 256u, 0u}, {1, 0, 1280u, 0}, {0, 0, 256u, 0u}, {1,
    0, 5888u, 0}, {0, 0, 2304u, 0u}, {0, 0, 4352u, 0u}, {0, 0, 0u, 0u}};
static const ec_reduce_columns_params p_infer_reduce_mean = {.count = 64, .inner = 16, .splits = 1,
    .scale = 0.015625f};
static const ec_cuda_arg a_invoke_2[] = {{0, 0, 2304u, 0u}, {0, 0, 256u, 0u}};
static const ec_gemm_params p_infer_linear = {.m = 1, .n = 10, .k = 16, .splits = 1, .pitch_a = 16,
    .pitch_b = 16, .act_min = -3.40282347e+38f, .act_max = 3.40282347e+38f};
static const ec_cuda_arg a_invoke_3[] = {{0, 0, 256u, 0u}, {1, 0, 6144u, 0}, {1, 0, 6656u, 0}, {0,
    2, 512u, 0u}, {0, 0, 768u, 0u}, {0, 0, 0u, 0u}};

static const ec_cuda_launch launches_invoke[] = {
    /* 0: stem, conv2d 16x16x3 -> 8x8x16, 27,648 MACs */
    {1u, {1u, 1u, 1u}, 256u, 40960u, &p_infer_relu,
     a_invoke_0, 4u, 0u, "stem"},
    /* 1: block, conv2d + add 8x8x16 -> 8x8x16, 147,456 MACs */
    {0u, {4u, 1u, 1u}, 128u, 49152u, &p_infer_relu_1,
     a_invoke_1, 7u, 1u, "block"},
    /* 2: reduce_mean 8x8x16 -> 16 */
    {3u, {1u, 1u, 1u}, 128u, 0u, &p_infer_reduce_mean,
     a_invoke_2, 2u, 2u, ""},
    /* 3: head, linear 16 -> 10, 160 MACs */
    {2u, {1u, 1u, 1u}, 128u, 49152u, &p_infer_linear,
     a_invoke_3, 6u, 3u, "head"},
    {0, {0, 0, 0}, 0, 0, 0, 0, 0, 0, 0}};

static const ec_cuda_copy copies_invoke[] = {
    {{0, 0, 0, 0}, {0, 0, 0, 0}, 0}};

static const int64_t s_invoke_0[] = {1, 16, 16, 3};
static const int64_t s_invoke_1[] = {1, 10};
static const ec_cuda_port ports_invoke[] = {
    {"x", "f16", s_invoke_0, 4u, 0u, 2304u, 1536u},
    {"output", "f16", s_invoke_1, 2u, 0u, 512u, 20u},
    {0, 0, 0, 0, 0, 0, 0}};

static const ec_cuda_entry entries[] = {
    {"infer", launches_invoke, 4u, copies_invoke,
     0u, ports_invoke, 1u, 1u},
};

static const ec_cuda_state states[] = {
    {0u, 6912u, 4u, 0},
    {0, 0, 0, 0}};

static const ec_cuda_model model = {
    "net", EC_CUDA_COMPUTE, 4608u, 7168u,
    4361911701826871472u, functions, 4u,
    entries, 1u, states, 1u, 0u};

#define EXPORTED __attribute__((visibility("default")))

EXPORTED ec_cuda_status edgec_net_load(const char *weights, int ordinal, ec_cuda_loaded **out) {
    return ec_cuda_load(&model, weights, ordinal, out);
}
EXPORTED void edgec_net_unload(ec_cuda_loaded *loaded) {
    ec_cuda_unload(loaded);
}
EXPORTED ec_cuda_status edgec_net_create(ec_cuda_loaded *loaded, ec_cuda_instance **out) {
    return ec_cuda_create(loaded, out);
}
EXPORTED void edgec_net_destroy(ec_cuda_instance *m) {
    ec_cuda_destroy(m);
}
EXPORTED uint64_t edgec_net_port_address(const ec_cuda_instance *m, uint32_t entry, uint32_t port) {
    return ec_cuda_port_address(m, entry, port);
}
EXPORTED ec_cuda_status edgec_net_bind(ec_cuda_instance *m, uint32_t entry, uint32_t port,
    uint64_t address, uint64_t bytes) {
    return ec_cuda_bind(m, entry, port, address, bytes);
}
EXPORTED ec_cuda_status edgec_net_invoke(ec_cuda_instance *m, uint32_t entry, void *stream) {
    return ec_cuda_invoke(m, entry, stream);
}
EXPORTED ec_cuda_status edgec_net_reset(ec_cuda_instance *m, void *stream) {
    return ec_cuda_reset(m, stream);
}
EXPORTED ec_cuda_status edgec_net_write(ec_cuda_instance *m, uint32_t entry, uint32_t port,
    const void *from, void *stream) {
    return ec_cuda_write(m, entry, port, from, stream);
}
EXPORTED ec_cuda_status edgec_net_read(ec_cuda_instance *m, uint32_t entry, uint32_t port, void *to,
    void *stream) {
    return ec_cuda_read(m, entry, port, to, stream);
}
EXPORTED ec_cuda_status edgec_net_wait(ec_cuda_instance *m, void *stream) {
    return ec_cuda_wait(m, stream);
}
EXPORTED ec_cuda_status edgec_net_host_allocate(ec_cuda_loaded *loaded, uint64_t bytes, void **host,
    uint64_t *device) {
    return ec_cuda_host_allocate(loaded, bytes, host, device);
}
EXPORTED void edgec_net_host_free(ec_cuda_loaded *loaded, void *host) {
    ec_cuda_host_free(loaded, host);
}
EXPORTED ec_cuda_status edgec_net_copy_rate(ec_cuda_loaded *loaded, uint64_t bytes, double *rate) {
    return ec_cuda_copy_rate(loaded, bytes, rate);
}
EXPORTED ec_cuda_status edgec_net_fill(ec_cuda_instance *m, uint8_t byte) {
    return ec_cuda_fill(m, byte);
}
EXPORTED ec_cuda_status edgec_net_time(ec_cuda_instance *m, uint32_t entry, uint32_t runs,
    float *times) {
    return ec_cuda_time(m, entry, runs, times);
}
EXPORTED ec_cuda_status edgec_net_profile(ec_cuda_instance *m, uint32_t entry, uint32_t repeats,
    float *times) {
    return ec_cuda_profile(m, entry, repeats, times);
}
EXPORTED const char *edgec_net_error(void) {
    return ec_cuda_error();
}
