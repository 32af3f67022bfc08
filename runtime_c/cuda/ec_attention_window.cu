/*
 * ec_attention_window.cu: attention within the windows of a map (Swin), partition and cyclic shift as addresses.
 *
 *   y[pixel i of window w, a D + :] = sum_j softmax_j(scale q_i . k_j + bias[a,i,j] + hidden [regions differ]) v_j
 *
 * q, k, v: maps [n][rows][columns][channels] of T (one packed projection, say), heads at channels first + a * head;
 * heads 16-byte aligned, depth a multiple of 8. Pixel i of window (wy, wx) is row wy * window_rows + i /
 * window_columns + shift_rows modulo rows, the column likewise. bias: T [heads][L][bias_pitch] with L = window_rows *
 * window_columns, bias_pitch a multiple of 8 and padded with zeros. A pixel's region says which of its neighbours the
 * roll brought from the opposite edge. y: [n][rows][columns][heads depth] in the map's own order.
 * Grid: (L / ROWS, heads, windows of all samples). Shared memory: q and stages as in ec_attention.cuh, then ROWS rows
 * of bias (asked for before the previous kernel ends), then a byte a key. Equals edgec.ops.window_attention within
 * rounding.
 *
 * Measured, NVIDIA H200, CUDA 13.0, 2026-11-21, fp16, us a launch in a graph (PyTorch's attention alone on windows that
 * are cut apart already, with the bias as mask, in a graph of the same run): Swin-T's stages at 224 x 224, shifted by 3
 *     56 x 56, 3 heads   4.3  (17.6)       14 x 14, 12 heads   2.9  (10.4)
 *     28 x 28, 6 heads   3.2  (10.6)       7 x 7, 24 heads     2.3  (10.2)
 */
#include "ec_attention.cuh"
#include "ec_attention_window.cuh"

/* Bias and hidden pairs; both stand in shared memory. */
template <typename T, int MI> struct ec_window_mask {
    static constexpr bool SCALED = true;
    const T *bias; /* rows of this block */
    const unsigned char *regions;
    int row0, pitch;
    bool cut; /* some pixels' regions differ */
    float hidden;
    const T *at[2 * MI];
    int own[2 * MI];
    __device__ __forceinline__ void row(int i, int head, int token)
    {
        at[i] = bias + (token - row0) * pitch;
        own[i] = token;
    }
    __device__ __forceinline__ float apply(int i, float score, int key) const
    {
        if (pitch > 0) {
            score = fmaf(ec_float(at[i][key]), EC_LOG2E, score);
        }
        return cut && regions[key] != regions[own[i]] ? score + hidden : score;
    }
};

template <typename TILE>
__device__ __forceinline__ void ec_window_run(const ec_window_attention_params &p, const void *q, const void *k,
                                              const void *v, const void *bias, void *y)
{
    typedef typename TILE::T T;
    extern __shared__ __align__(128) unsigned char ec_shared[];
    const int across = p.columns / p.window_columns, down = p.rows / p.window_rows;
    const int size = p.window_rows * p.window_columns, head = blockIdx.y, row0 = blockIdx.x * TILE::ROWS;
    const int sample = blockIdx.z / (across * down), at = blockIdx.z % (across * down);
    const ec_window window = ec_window_of(p, at);
    const int stages = size <= TILE::KEYS ? 1 : TILE::STAGES;
    T *const shared = reinterpret_cast<T *>(ec_shared);
    constexpr int SUMS = 2 * (TILE::WN * TILE::ROWS * (TILE::O_PITCH + 2)); /* as elements of T */
    T *const bias_here = shared + max(TILE::Q_SIZE + stages * TILE::STAGE_SIZE, SUMS);
    unsigned char *const regions = reinterpret_cast<unsigned char *>(bias_here + TILE::ROWS * p.bias_pitch);
    const bool cut = p.hidden != 0.0f && ((p.shift_rows > 0 && at / across == down - 1) ||
                                          (p.shift_columns > 0 && at % across == across - 1));
    if (p.bias_pitch > 0) {
        const T *const from = static_cast<const T *>(bias) + ((int64_t)head * size + row0) * p.bias_pitch;
        const int chunks = p.bias_pitch / 8 * min(TILE::ROWS, size - row0);
        for (int i = threadIdx.x; i < chunks; i += TILE::THREADS) {
            ec_copy_async16(bias_here + i * 8, from + i * 8, true);
        }
    }
    if (cut) {
        for (int i = threadIdx.x; i < size; i += TILE::THREADS) {
            regions[i] = (unsigned char)window.region(i);
        }
    }
    ec_wait_previous();
    ec_launch_next();
    const int64_t pixels = (int64_t)p.rows * p.columns;
    const ec_window_rows<T> q_from = {
        static_cast<const T *>(q) + sample * pixels * p.q_channels + p.q_first + head * p.q_head, window, p.q_channels};
    const ec_shown_keys shown = {size, 0, false, 0};
    const ec_query_rows query = {row0, size, 1, head};
    ec_attention_stream<TILE, ec_window_rows<T>, ec_window_rows<T>> stream = {
        {static_cast<const T *>(k) + sample * pixels * p.k_channels + p.k_first + head * p.k_head, window,
         p.k_channels},
        {static_cast<const T *>(v) + sample * pixels * p.v_channels + p.v_first + head * p.v_head, window,
         p.v_channels},
        0, 0, 0, p.depth, p.depth, nullptr};
    const ec_window_mask<T, TILE::MI> mask = {bias_here, regions, row0, p.bias_pitch, cut, p.hidden, {}, {}};
    ec_attention_rows<TILE> rows;
    ec_attention_core<TILE>(rows, q_from, stream, mask, shown, query, p.scale, shared);
    T *const to = static_cast<T *>(y) + sample * pixels * p.heads * p.depth + head * p.depth;
    ec_attention_join<TILE>(rows, reinterpret_cast<float *>(ec_shared), size - row0,
                            [&](int row, int channel, float(&sum)[8], float top, float total) {
                                const int r = row0 + row;
                                if (channel < p.depth) {
                                    ec_normalise(sum, total);
                                    ec_store<T, 8>(to + (int64_t)window.pixel(r) * p.heads * p.depth + channel, sum);
                                }
                            });
}

template <typename T, int D, int BN, int WM, int WN, int STAGES, int MI>
__device__ __forceinline__ void ec_attention_window_body(const ec_window_attention_params &p, const void *q,
                                                         const void *k, const void *v, void *y)
{
    ec_window_run<ec_attention_tile<T, D, D, BN, WM, WN, STAGES, MI>>(p, q, k, v, nullptr, y);
}

template <typename T, int D, int BN, int WM, int WN, int STAGES, int MI>
__device__ __forceinline__ void ec_attention_window_bias_body(const ec_window_attention_params &p, const void *q,
                                                              const void *k, const void *v, const void *bias, void *y)
{
    ec_window_run<ec_attention_tile<T, D, D, BN, WM, WN, STAGES, MI>>(p, q, k, v, bias, y);
}
