/*
 * ec_linear_w4_stream.cu: the formula of ec_linear_w4.cu for up to sixteen rows of x on sm_90 and later, where weights
 * stream through rings in shared memory while x stays in registers.
 *
 * There is one block an SM. Its WK warps split its channels: each has S groups of x in registers, as operand B for NT
 * times eight rows, and its sums by group. Of each tile of 16 rows of weights it takes these S groups, DEPTH times
 * under way by bulk copies into a ring of its own, MORE times in the place that x has left, so that a block reads one
 * run of memory and no warp waits for another. The warps' sums of a set of SET tiles stand in shared memory where x
 * was; after one barrier a set some of the warps add them, in their order, while the others go on with the next set in
 * another place.
 *
 * PAIR: two neighbouring blocks, a cluster, fetch half of the rows of x each, for both. What leaves the L2 for x, again
 * for every SM, costs time of the weights. SPLIT: p.splits blocks or pairs share the channels of their tiles; of the
 * warps that have the same sums in all of them the last to arrive adds these, in the order of the splits. TURNS: with
 * few tiles of 16 rows, four warps, one of each scheduler, ask for x before the others, and multiply while these wait.
 *
 * Products and all other instructions take turns: an HMMA takes 6 cycles of a scheduler, each other one 1.3 more. So
 * the loop has as few as possible (ec_w4_joined), addresses that the compiler would make anew in each turn are kept in
 * registers, and what finishes a set is laid out when compiled: ROWS, WK, units of sums by their number.
 *
 * x [ROWS, in_c], y [ROWS, N]; packed weights, pairs, bias, GATED and NORM as in ec_linear_w4.cu. p.wm: tiles of a
 * block at most. p.split_groups, S WK: groups of a split. Shared memory, scratch, counters: StreamRows in
 * backends/w4_stream.py.
 *
 * Measured on an H200, 2026-11-22, symmetric groups of 128, weights from memory, one launch of a graph of many, in us
 * (benchmarks/cuda_linears.py); in brackets the sum of the kernels before: of few rows, ec_linear_w4.cu (8) and
 * ec_linear_w4_wgmma.cu (16):
 *   N x K            6144x4096  4096x4096  28672x4096  4096x14336          sum
 *   batch 1                4.1        3.4        14.4         8.9  30.8 (34.5)
 *   batch 2                4.4        3.7        14.7         9.0  31.9 (34.6)
 *   batch 4                4.6        4.0        15.1         9.1  32.9 (37.5)
 *   batch 8                4.9        4.2        15.8         9.3  34.1 (41.3)
 *   batch 16               6.1        5.4        17.6        11.7  40.8 (52.4)
 * Reading the weights at 4.8 TB/s takes 23.4; a ring that only reads, 25. Sums of batch 16 in tuning runs: x by loads
 * of every SM 58.8, by a cluster of two 46.3, stages in x's place 43.2, joins by warps 42.3, the end of a set laid out
 * when compiled 41.2. 16 rows of x arrive 2.5 us after the wait for the kernel before, 2.0 where no weights are under
 * way.
 * What did not help at 16 rows: x in two halves, so that the ring is twice as deep, since x then waits behind more
 * weights (48.5); half of the channels for each of a cluster, sums exchanged (47.8); eight rows multiplied while the
 * others arrive (46.7); barriers in shared memory instead of one of the block (44.3); all sums added at the end; the
 * instructions of warp groups, 13 cycles for 16 rows of weights and of x, where two HMMA take 12.
 *
 * A block has its SM alone, so that nothing of the next kernel runs before this one's end. The kernel before, whose
 * blocks took half an SM, was slower alone and in a chain of the four with NORM and GATED (34.6 us, this one 32.6 in a
 * tuning run), but attention could start beside it: a decode step of 1.51 ms instead of 1.56.
 */
#include "ec_cluster.cuh"
#include "ec_linear_w4_stream.cuh"

template <typename T, int GROUP, bool ASYM, int ROWS, int S, int WK, int DEPTH, int MORE, int SET, bool SPLIT,
          bool PAIR, bool GATED, bool NORM, typename Epilogue>
__device__ __forceinline__ void ec_linear_w4_stream_body(const ec_linear_w4_params &p, const void *x, const void *q,
                                                         const void *pairs, const void *bias, void *y, void *scratch,
                                                         void *counters, const Epilogue &epilogue)
{
    constexpr int NT = (ROWS + 7) / 8;
    typedef ec_w4_stream_x<T, GROUP, ROWS, S> X;
    typedef ec_w4_stream_units<ROWS> Units;
    constexpr int TILE = S * X::CHUNKS * 512, FIRST = DEPTH - 1; /* stages asked for before x */
    constexpr int STAGES = DEPTH + MORE, BARRIERS = STAGES + (PAIR ? NT : 0); /* of a warp */
    constexpr int PLACE = SET * NT * 128;              /* floats of a warp's sums of a set */
    constexpr int AFTER = MORE * TILE + 2 * PLACE * 4; /* bytes that take the place of a warp's x */
    constexpr int X_EACH = ROWS * X::PITCH > AFTER ? ROWS * X::PITCH : AFTER;
    constexpr bool TURNS = PAIR && NT == 2 && MORE == 0 && WK > EC_W4_STREAM_EARLY;
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ __align__(8) unsigned long long arrivals[WK * BARRIERS + 1];
    __shared__ uint4 nothing[WK];
    __shared__ float squares[NORM ? WK * NT * 8 : 1];
    const int warp = __shfl_sync(0xffffffffu, threadIdx.x >> 5, 0), lane = threadIdx.x & 31;
    const ec_w4_stream_share<GROUP, ASYM, PAIR, SPLIT, WK * DEPTH * TILE, WK * X_EACH> m(p, shared);
    const int tiles = m.tiles, mine = min(max(m.groups - warp * S, 0), S); /* groups of the warp */
    unsigned char *const ring = shared + warp * (DEPTH * TILE), *const held = m.x + warp * X_EACH;
    unsigned char *const more = held - DEPTH * TILE;
    const uint32_t arrived = ec_w4_kept(arrivals + warp * BARRIERS);
    const uint32_t ring_to = ec_w4_kept(ring), more_to = MORE > 0 ? ec_w4_kept(more) : 0;
    const uint32_t ring_at = ec_w4_kept(ring + lane * 16), more_at = MORE > 0 ? ec_w4_kept(more + lane * 16) : 0;
    const uint32_t x_arrived = arrived + STAGES * 8;
    const uint32_t pairs_arrived = (uint32_t)__cvta_generic_to_shared(arrivals + WK * BARRIERS);

    /* The next tile's groups of the warp, of `left` tiles. */
    const uint32_t tile_bytes = m.all_groups * (X::CHUNKS * 512), mine_bytes = mine * (X::CHUNKS * 512);
    const unsigned char *from =
        (const unsigned char *)q + (size_t)m.first * tile_bytes + (m.begin + warp * S) * (X::CHUNKS * 512);
    int left = tiles;
    auto ask = [&](int stage, bool elected) {
        if (elected) {
            ec_arrival_expect(arrived + stage * 8, mine_bytes);
            if (mine_bytes > 0) {
                ec_copy_bulk((MORE == 0 || stage < DEPTH ? ring_to : more_to) + stage * TILE, from, mine_bytes,
                             arrived + stage * 8);
            }
        }
        left--;
        from += tile_bytes;
    };
    auto ask_stages = [&](int begin, int end, bool elected) {
#pragma unroll 1
        for (int d = begin; d < end && left > 0; d++) {
            ask(d, elected);
        }
    };
    const bool elected = ec_elected();
    if (elected) {
#pragma unroll
        for (int d = 0; d < BARRIERS; d++) {
            ec_arrival_init(arrived + d * 8);
        }
        if (warp == 0) {
            ec_arrival_init(pairs_arrived);
        }
        ec_arrivals_ready();
        if (PAIR) {
            X::expect(x_arrived, mine);
        }
    }
    __syncwarp();
    if (PAIR) {
        ec_cluster_arrive();
    }
    ask_stages(0, FIRST, elected);
    if (warp == 0) {
        m.ask_pairs(p, pairs, pairs_arrived, elected, lane);
    }
    m.fill_pairs(p, warp * S + mine, warp * S + S, lane);
    ec_launch_next();
    m.template copy_biases<GATED>(p, (const float *)bias);
    if (PAIR) {
        X::fill(held, mine, lane);
        ec_cluster_wait(); /* the other block's barriers are ready */
    }
    if (lane == 0) {
        nothing[warp] = make_uint4(0, 0, 0, 0);
    }

    ec_wait_previous();
    const T *const x_from = (const T *)x + (m.begin + warp * S) * GROUP;
    if (TURNS && warp >= EC_W4_STREAM_EARLY) {
        ec_some_sync<32 * WK>(1);
    }
    if (PAIR) {
        X::ask_half(held, x_from, mine, p.in_c, x_arrived, m.rank, lane);
    } else {
        X::ask(held, x_from, mine, p.in_c, lane);
    }
    if (TURNS && warp < EC_W4_STREAM_EARLY) {
        ec_some_arrive<32 * WK>(1);
    }
    if (!TURNS) {
        ask_stages(FIRST, DEPTH, elected);
    }
    ec_copy_wait<0>();
    __syncwarp();
    X of_x;
#pragma unroll
    for (int t = 0; t < NT; t++) {
        if (PAIR) {
            ec_arrival_wait(x_arrived + t * 8, 0);
        }
        if (TURNS && t == 0) {
            ask_stages(FIRST, DEPTH, ec_elected());
        }
        of_x.load(t, held, nothing + warp, lane);
    }
    __syncwarp();
    ask_stages(DEPTH, STAGES, ec_elected());
    ec_arrival_wait(pairs_arrived, 0);
    const float inverse = 1.0f / (float)p.in_c;
    ec_w4_stream_writer<T, ROWS, GATED, NORM, Epilogue> writer = {p, (T *)y, m.bias, m.first, lane, 0.0f, epilogue};
    const ec_w4_stream_parts<ROWS, WK> parts(p, (float *)scratch, m.part, m.column, m.columns, m.first, warp, lane);
    const uint32_t pitch = p.split_groups;
    uint32_t scale = ec_w4_kept((uint32_t *)m.scale + warp * S * 8 + (lane >> 2));
    uint32_t zero = ASYM ? ec_w4_kept((uint16_t *)m.zero + warp * S * 8 + (lane >> 2)) : 0;
    const float *const sums_of = (const float *)(m.x + MORE * TILE) + lane * Units::WIDTH;
    const uint32_t sums_to = ec_w4_kept(sums_of + warp * (X_EACH / 4));
    int stage = 0, parity = 0, unit = warp; /* the warp's next unit of sums */
#pragma unroll 1
    for (int begin = 0; begin < tiles; begin += SET) {
        const int end = min(begin + SET, tiles), place = begin / SET % 2 * PLACE;
        uint32_t to = sums_to + place * 4;
#pragma unroll 1
        for (int tile = begin; tile < end; tile++) {
            float sums[NT][4] = {};
            ec_arrival_wait(arrived + stage * 8, parity);
            of_x.template multiply<ASYM>(sums, (MORE == 0 || stage < DEPTH ? ring_at : more_at) + stage * TILE, scale,
                                         zero);
            scale += pitch * 32;
            zero += pitch * 16;
            if (left > 0) {
                __syncwarp();
                ask(stage, ec_elected());
            }
            if (++stage == STAGES) {
                stage = 0;
                parity ^= 1;
            }
#pragma unroll
            for (int t = 0; t < NT; t++) {
                Units::put(to + t * 512, sums[t]);
            }
            to += NT * 512;
            if (NORM && tile == 0) { /* weights arrive meanwhile */
                of_x.square(squares + warp * NT * 8, lane);
            }
        }
        __syncthreads();
        if (NORM && begin == 0) {
            float square = 0.0f;
#pragma unroll
            for (int k = 0; k < WK; k++) {
                square += lane < NT * 8 ? squares[k * (NT * 8) + lane] : 0.0f;
            }
            if (SPLIT) {
                parts.keep_square(square);
            } else {
                writer.norm = rsqrtf(fmaf(square, inverse, p.norm_eps));
            }
        }
        const float *const set = sums_of + place - begin * (NT * 128);
#pragma unroll 1
        for (; unit < end * Units::OF_TILE; unit += WK) {
            if (Units::there(unit)) {
                float v[Units::WIDTH] = {};
#pragma unroll
                for (int k = 0; k < WK; k++) {
                    float w[Units::WIDTH];
                    ec_load<float, Units::WIDTH>(w, set + k * (X_EACH / 4) + unit * (32 * Units::WIDTH));
#pragma unroll
                    for (int e = 0; e < Units::WIDTH; e++) {
                        v[e] += w[e];
                    }
                }
                if (SPLIT) {
                    parts.keep(v, unit);
                } else {
                    writer.run(v, unit);
                }
            }
        }
    }
    if constexpr (SPLIT) {
        if (parts.last((uint32_t *)counters)) {
            if (NORM) {
                writer.norm = rsqrtf(fmaf(parts.square(), inverse, p.norm_eps));
            }
            parts.join(tiles, writer);
        }
    }
}
