// Sorts each tile's list and blends its pixels front to back.
//
// Shared memory holds the keys while they are sorted, then the ids and the warps' stages. Barriers: in
// the sort, and around the masks of each part of the list. A tile stops when all of its pixels have;
// only the parts it looked at are written back for backward.
#pragma once
#include "walk.cuh"

namespace pose_rasterizer {

constexpr int kSortCapacity = 4096;             // keys in shared memory
constexpr int kSelected = kSortCapacity / 2;    // splats per round of a longer list
constexpr int kPart = 1024;                     // splats between two looks at who is live
constexpr int kWarps = kTileThreads / 32;

// The tile's next splats beyond key `after`, sorted into `keys`; returns how many.
template <int C>
__device__ __forceinline__ int next_chunk(const PoseCudaArgs& a, const Pixel& pixel,
                                          const TileGrid& grid, uint32_t begin, int64_t count,
                                          uint64_t after, uint64_t* keys, int* size) {
    if (begin == kNoList) {
        const int64_t first = pixel.camera * a.num_gaussians;
        const SceneSource<C> source = {
            reinterpret_cast<const float4*>(a.splats) + first * kSplatVectors<C>, a.radii + first,
            a.num_gaussians, grid, pixel.tx, pixel.ty};
        return select_next<kSortCapacity, kSelected>(source, after, keys, size);
    }
    const ListSource source = {a.keys + begin, count};
    if (count > kSortCapacity)
        return select_next<kSortCapacity, kSelected>(source, after, keys, size);
    for (int64_t k = threadIdx.x; k < count; k += kTileThreads) keys[k] = source.key(k);
    sort_keys(keys, int(count));
    return int(count);
}

// keys[0..n) -> their Gaussians, in the lower half of the same memory.
__device__ __forceinline__ void keep_ids(uint64_t* keys, int n) {
    constexpr int kPerThread = kSortCapacity / kTileThreads;
    uint32_t own[kPerThread];
#pragma unroll
    for (int k = 0; k < kPerThread; ++k) {
        const int at = k * kTileThreads + threadIdx.x;
        own[k] = at < n ? uint32_t(keys[at]) : 0;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kPerThread; ++k)
        reinterpret_cast<uint32_t*>(keys)[k * kTileThreads + threadIdx.x] = own[k];
    __syncthreads();
}

template <int C> struct PixelSums {
    float transmittance = 1.0f, alpha_sum = 0.0f, z = 0.0f;
    float colour[C] = {};

    __device__ __forceinline__ void add(const float4* splat, float z_splat, float alpha,
                                        bool& live) {
        const float weight = pass_light(alpha, transmittance, live);
        alpha_sum += weight;
        z += weight * z_splat;
#pragma unroll
        for (int c = 0; c < C; ++c) colour[c] += weight * record_colour<C>(splat, c);
    }

    __device__ __forceinline__ void store(const PoseCudaArgs& a, const Pixel& pixel) const {
        const int64_t pixels = int64_t(a.width) * a.height;
        const int64_t at = pixel.camera * pixels + pixel.at;
#pragma unroll
        for (int c = 0; c < C; ++c)
            a.image[(int64_t(pixel.camera) * C + c) * pixels + pixel.at] =
                colour[c] + transmittance * background_of(a, pixel.camera, c);
        // the larger of alpha and 1 - alpha would lose the last digits of the smaller, and with them
        // the gradient of depth = z / alpha or of the background
        const float alpha = transmittance < 0.5f ? 1.0f - transmittance : alpha_sum;
        a.alpha[at] = alpha;
        a.depth[at] = alpha > 0.0f ? z / alpha : 0.0f;
    }
};

template <int C> __global__ __launch_bounds__(kTileThreads, 4) void forward_tiles(PoseCudaArgs a) {
    constexpr int V = kSplatVectors<C>;
    static_assert(kTileThreads * V * 16 <= kSortCapacity * 4, "stages must fit beside the ids");
    __shared__ __align__(16) uint64_t keys[kSortCapacity];
    __shared__ uint32_t queues[kWarps * kStageIds];
    __shared__ uint8_t masks[kPart];
    __shared__ int size;
    const TileGrid grid(a);
    const Pixel pixel(a, grid);
    const uint32_t begin = a.begins[pixel.tile];
    const int64_t count = a.counters[int64_t(pixel.tile) * kCounterWords];
    const uint32_t* ids = reinterpret_cast<const uint32_t*>(keys);
    const int warp = threadIdx.x / 32;
    const WarpStage<C> stage = {reinterpret_cast<float4*>(keys + kSortCapacity / 2) + warp * 32 * V,
                                queues + warp * kStageIds};
    const float x = pixel.column + 0.5f, y = pixel.row + 0.5f;
    PixelSums<C> sums;
    bool live = pixel.inside;
    uint64_t after = 0;
    uint32_t used = 0;
    for (int64_t left = count; left > 0;) {
        const int n = next_chunk<C>(a, pixel, grid, begin, count, after, keys, &size);
        if (n == 0) break;
        after = keys[n - 1], left -= n;
        __syncthreads();
        keep_ids(keys, n);
        for (int base = 0; base < n; base += kPart) {
            if (__syncthreads_count(live) == 0) {
                left = 0;
                break;
            }
            const int m = n - base < kPart ? n - base : kPart;
            for (int k = threadIdx.x; k < m; k += kTileThreads) {
                const uint32_t id = ids[base + k];
                const uint8_t mask = masks[k] = warp_mask<C>(a, pixel, id);
                if (!a.keep || begin == kNoList) continue;
                a.ids[begin + used + k] = a.masks == nullptr ? id | uint32_t(mask) << kIdBits : id;
                if (a.masks != nullptr) a.masks[begin + used + k] = mask;
            }
            used += m;
            __syncthreads();
            walk_list<C>(a, pixel.camera, ids + base, masks, m, stage, live,
                         [&](int i, int j, bool two) {
                const float4 *s = stage.splats + i * V, *t = stage.splats + j * V;
                const float4 sq = s[1], tq = t[1];
                const float alpha = splat_alpha(s[0], sq, x, y);
                const float other = two ? splat_alpha(t[0], tq, x, y) : 0.0f;
                sums.add(s, sq.z, alpha, live);
                sums.add(t, tq.z, other, live);
            });
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) a.used[pixel.tile] = used;
    if (pixel.inside) sums.store(a, pixel);
}

}  // namespace pose_rasterizer
