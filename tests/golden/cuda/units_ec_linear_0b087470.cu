/* head */
#include "ec_conv2d.cu"

extern "C" __global__ void __launch_bounds__(128, 1)
ec_linear_0b087470(
    const __grid_constant__ ec_gemm_params p,
    const void *x0,
    const void *x1,
    const void *c0,
    void *y0,
    void *scratch,
    void *counters)
{
    ec_linear_body<ec_tile<__half, 16, 32, 1, 1, 4, 8>, EC_SPLIT_NONE, 2, true, true, ec_no_epilogue>(
        p, x0, x1, c0, y0, scratch, counters, ec_no_epilogue{});
}
