/* head */
#include "ec_conv2d.cu"

struct ec_epilogue_5a6b42b6 {
    const void *e0;
    template <int V>
    __device__ __forceinline__ void apply(float (&v)[V], size_t index, int column) const
    {
        float a0[V];
        ec_load_run<__half, V>(a0, (const __half *)e0 + (index));
#pragma unroll
        for (int j = 0; j < V; j++) {
            const float t0 = v[j];
            const float a0_j = a0[sizeof(a0) == sizeof(float) ? 0 : j];
            const float t1 = t0 + a0_j;
            const float t2 = t1 < 0.0f ? 0.0f : (t1);
            v[j] = t2;
        }
    }
};

extern "C" __global__ void __launch_bounds__(128, 1)
ec_conv_57b646cf(
    const __grid_constant__ ec_conv_params p,
    const void *x0,
    const void *x1,
    const void *x2,
    const void *c0,
    void *y0,
    void *scratch,
    void *counters)
{
    ec_conv_body<ec_tile<__half, 16, 32, 1, 1, 4, 8>, EC_SPLIT_NONE, 8, true, true, false, ec_epilogue_5a6b42b6>(
        p, x0, x1, c0, y0, scratch, counters, ec_epilogue_5a6b42b6{x2});
}
