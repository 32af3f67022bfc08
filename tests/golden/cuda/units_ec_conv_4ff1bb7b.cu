/* head */
#include "ec_conv2d.cu"

extern "C" __global__ void __launch_bounds__(128, 1)
ec_conv_4ff1bb7b(
    const __grid_constant__ ec_conv_params p,
    const void *x0,
    const void *c0,
    const void *c1,
    void *y0,
    void *scratch,
    void *counters)
{
    ec_conv_body<ec_tile<__half, 16, 32, 1, 1, 4, 8>, EC_SPLIT_NONE, 8, false, false, ec_no_epilogue>(
        p, x0, c0, c1, y0, scratch, counters, ec_no_epilogue{});
}
