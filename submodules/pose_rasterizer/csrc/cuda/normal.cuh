// Normal equations of pose and light: J^T W J, J^T W r and the cost, after a forward pass.
//
// splat_columns (normal_columns.cuh) makes every Gaussian's derivatives. normal_tiles: a thread owns a
// pixel and blends them through the lists that forward_tiles left, in registers; warps don't wait for each
// other. Then each pixel's residuals become products, a warp adds them by shuffles, the block its 8 warps
// in order (normal_fold.cuh), and the tile's sums go to memory. sum_systems adds the tiles in double. Every
// order is fixed, so two runs are equal. No Jacobian is stored. Equations: docs/method_refinement.md; the
// same steps: csrc/cpu/normal.cpp.
#pragma once
#include "normal_fold.cuh"

namespace pose_rasterizer {

constexpr int kNormalBatch = 16;        // splats whose columns a warp stages at a time
constexpr int kListCapacity = 1024;     // keys, for tiles without a list
constexpr int kSystemThreads = 512;

// For a tile without a list: the next `most` (at most kTileThreads) splats
// beyond key `after`, which moves on, with their masks. Returns how many. Called by the whole block.
template <int C, int kCapacity>
__device__ __forceinline__ int search_scene(const PoseCudaArgs& a, const Pixel& pixel,
                                            const TileGrid& grid, int most, uint64_t& after,
                                            uint64_t* keys, int* size, uint32_t* ids,
                                            uint8_t* masks) {
    const int64_t first = pixel.camera * a.num_gaussians;
    const SceneSource<C> source = {
        reinterpret_cast<const float4*>(a.splats) + first * kSplatVectors<C>, a.radii + first,
        a.num_gaussians, grid, pixel.tx, pixel.ty};
    const int n = select_next<kCapacity, kTileThreads>(source, after, keys, size);
    const int m = n < most ? n : most;
    if (m == 0) return 0;
    after = keys[m - 1];
    if (int(threadIdx.x) < m) {
        ids[threadIdx.x] = uint32_t(keys[threadIdx.x]);
        masks[threadIdx.x] = warp_mask<C>(a, pixel, ids[threadIdx.x]);
    }
    __syncthreads();
    return m;
}

// Brings the columns of the splats at places first.. of the warp's stage into its shared memory. Places
// that the walk hasn't filled hold ids of earlier splats, or 0: their columns are brought for nothing.
// All loads are on their way before the first is stored.
template <int kVectors>
__device__ __forceinline__ void stage_columns(const float4* from, const uint32_t* ids, int first,
                                              float4* to) {
    constexpr int kAll = kNormalBatch * kVectors, kEach = (kAll + 31) / 32;
    const int lane = threadIdx.x % 32;
    float4 own[kEach];
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
        const int k = 32 * j + lane;
        if (32 * (j + 1) <= kAll || k < kAll)
            own[j] = __ldg(from + int64_t(ids[first + k / kVectors]) * kVectors + k % kVectors);
    }
    __syncwarp();  // the last ones have been used
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
        const int k = 32 * j + lane;
        if (32 * (j + 1) <= kAll || k < kAll) to[k] = own[j];
    }
    __syncwarp();
}

// kWindowLight: each 8x8 window's own light is divided out, and the pose is all that is unknown.
template <int C, bool kDirection, bool kWindowLight>
__global__ __launch_bounds__(kTileThreads, 2) void normal_tiles(PoseCudaNormal n) {
    constexpr int V = kSplatVectors<C>, E = kColumnVectors<C, kDirection>;
    static_assert(kListCapacity * 8 <= kWarps * kNormalBatch * E * 16, "keys must fit");
    static_assert(kWarps * kNormalSums<C> * 4 <= kTileThreads * V * 16 &&
                  kWarps * kWindowSums * 4 <= kTileThreads * V * 16, "sums must fit");
    __shared__ float4 splats[kTileThreads * V];
    __shared__ float4 extras[kWarps * kNormalBatch * E];
    __shared__ uint32_t queues[kWarps * kStageIds];
    __shared__ uint32_t own_ids[kTileThreads];  // of tiles without a list
    __shared__ uint8_t own_masks[kTileThreads];
    __shared__ int size;
    uint64_t* keys = reinterpret_cast<uint64_t*>(extras);  // only while no warp walks
    float* sums = reinterpret_cast<float*>(splats);        // [warps, sums], after the walk

    const PoseCudaArgs& a = n.render;
    const TileGrid grid(a);
    const Pixel pixel(a, grid);
    const uint32_t begin = a.begins[pixel.tile], used = a.used[pixel.tile];
    const int warp = threadIdx.x / 32;
    const int64_t first_splat = pixel.camera * a.num_gaussians;
    const WarpStage<C> stage = {splats + warp * 32 * V, queues + warp * kStageIds};
    const float4* all_columns = reinterpret_cast<const float4*>(n.columns) + first_splat * E;
    float4* staged = extras + warp * kNormalBatch * E;
    stage.ids[threadIdx.x % 32] = 0, stage.ids[threadIdx.x % 32 + 32] = 0;
    __syncwarp();
    const float x = pixel.column + 0.5f, y = pixel.row + 0.5f;
    PixelColumns<C, kDirection> columns;
    bool live = pixel.inside;
    uint64_t after = 0;
    int m;
    for (uint32_t base = 0; base < used; base += m) {
        const uint32_t* ids = a.ids + begin;
        const uint8_t* masks = a.masks == nullptr ? nullptr : a.masks + begin;
        m = int(used);
        if (begin == kNoList) {
            if (__syncthreads_count(live) == 0) break;
            m = used - base < kTileThreads ? int(used - base) : kTileThreads;
            m = search_scene<C, kListCapacity>(a, pixel, grid, m, after, keys, &size, own_ids,
                                               own_masks);
            if (m == 0) break;
            ids = own_ids, masks = own_masks;
        }
        walk_list<C>(a, pixel.camera, ids, masks, m, stage, live, [&](int i, int j, bool two) {
            if (i % kNormalBatch == 0) stage_columns<E>(all_columns, stage.ids, i, staged);
            const float4 *s = stage.splats + i * V, *t = stage.splats + j * V;
            const float alpha = splat_alpha(s[0], s[1], x, y);
            const float other = two ? splat_alpha(t[0], t[1], x, y) : 0.0f;
            if (__any_sync(kFullWarp, alpha > 0.0f))
                columns.add(s, staged + i % kNormalBatch * E, x, y, alpha, live);
            if (__any_sync(kFullWarp, other > 0.0f))
                columns.add(t, staged + j % kNormalBatch * E, x, y, other, live);
        });
    }
    __syncthreads();
    if constexpr (kWindowLight) {
        auto* totals = reinterpret_cast<double(*)[kPoseSums]>(extras);  // after the walk too
        const WindowRows rows = {reinterpret_cast<float(*)[4]>(totals + kWindows),
                                 reinterpret_cast<float(*)[kWindowSums]>(sums)};
        fold_windows<C, kDirection>(n, pixel, columns, rows, totals);
        if (threadIdx.x < kPoseSums)
            n.parts[int64_t(pixel.tile) * kPoseSums + threadIdx.x] = float(totals[0][threadIdx.x]);
        return;
    }
    fold_pixel<C, kDirection>(n, pixel, columns, sums + warp * kNormalSums<C>);
    __syncthreads();
    for (int k = threadIdx.x; k < kNormalSums<C>; k += kTileThreads) {
        float sum = 0.0f;
        for (int w = 0; w < kWarps; ++w) sum += sums[w * kNormalSums<C> + k];
        n.parts[int64_t(pixel.tile) * kNormalSums<C> + k] = sum;
    }
}

// Unknowns, and sums of a tile.
template <int C, bool kWindowLight> constexpr int kUnknowns = kPoseColumns + (kWindowLight ? 0 : 2 * C);
template <int C, bool kWindowLight>
constexpr int kTileSums = kWindowLight ? kPoseSums : kNormalSums<C>;

// Writes sum k of camera b to where it belongs in the full symmetric system.
template <int C, bool kWindowLight>
__device__ __forceinline__ void place_sum(const PoseCudaNormal& n, int b, int k, double value) {
    constexpr int P = kUnknowns<C, kWindowLight>;
    double *hessian = n.hessian + int64_t(b) * P * P, *gradient = n.gradient + int64_t(b) * P;
    const auto set = [&](int row, int column) {
        hessian[row * P + column] = hessian[column * P + row] = value;
    };
    if (k < kPairs) {
        int row, column;
        pair_of(k, row, column);
        set(row, column);
    } else if (k < kCostAt) {
        gradient[k - kGradientAt] = value;
    } else if (k == kCostAt) {
        n.cost[b] = value;
    } else {
        const int c = (k - kPoseSums) / kLightSums, s = (k - kPoseSums) % kLightSums;
        const int gain = kPoseColumns + c, offset = gain + C;
        if (s < kPoseColumns) set(s, gain);
        else if (s < 2 * kPoseColumns) set(s - kPoseColumns, offset);
        else if (s == 12) set(gain, gain);
        else if (s == 13) set(gain, offset);
        else if (s == 14) set(offset, offset);
        else gradient[s == 15 ? gain : offset] = value;
    }
}

// Adds the tiles' sums. Grid y is the camera; a lane owns a sum, a warp every 16th tile.
template <int C, bool kWindowLight>
__global__ __launch_bounds__(kSystemThreads) void sum_systems(PoseCudaNormal n) {
    constexpr int kRows = kSystemThreads / 32, P = kUnknowns<C, kWindowLight>;
    constexpr int kSums = kTileSums<C, kWindowLight>;
    __shared__ double rows[kRows][32];
    const int tiles = TileGrid(n.render).count(), b = blockIdx.y;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, k = 32 * blockIdx.x + lane;
    double sum = 0.0;
    if (k < kSums) {
        const float* from = n.parts + int64_t(b) * tiles * kSums + k;
#pragma unroll 8
        for (int t = warp; t < tiles; t += kRows) sum += double(from[int64_t(t) * kSums]);
    }
    rows[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && k < kSums) {
        sum = 0.0;
        for (int w = 0; w < kRows; ++w) sum += rows[w][lane];
        place_sum<C, kWindowLight>(n, b, k, sum);
    }
    if constexpr (!kWindowLight) {
        if (blockIdx.x != 0) return;
        for (int at = threadIdx.x; at < P * P; at += kSystemThreads) {  // light of two channels
            const int row = at / P - kPoseColumns, column = at % P - kPoseColumns;
            if (row >= 0 && column >= 0 && row % C != column % C)
                n.hessian[int64_t(b) * P * P + at] = 0.0;
        }
    }
}

}  // namespace pose_rasterizer
