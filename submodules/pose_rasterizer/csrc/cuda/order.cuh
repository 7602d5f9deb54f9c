// Depth order within a tile: a bitonic sort in shared memory, and the selection of the next
// nearest splats for lists that are longer than shared memory holds.
#pragma once
#include "footprint.cuh"
#include "project.cuh"

namespace pose_rasterizer {

constexpr uint64_t kNoKey = ~uint64_t(0);

// Sorts keys[0..n) ascending; pads to a power of two with kNoKey (the buffer must hold that).
// Called by the whole block; ends with a barrier. Steps that stay within 64 keys belong to one
// warp, so only the wider ones need the block's barrier.
__device__ __noinline__ void sort_keys(uint64_t* keys, int n) {
    int padded = 64;
    while (padded < n) padded *= 2;
    for (int k = n + threadIdx.x; k < padded; k += kTileThreads) keys[k] = kNoKey;
    __syncthreads();
    for (int size = 2; size <= padded; size *= 2) {
        for (int step = size / 2; step > 0; step /= 2) {
            for (int t = threadIdx.x; t < padded / 2; t += kTileThreads) {
                const int low = 2 * t - (t & (step - 1)), high = low + step;
                const uint64_t x = keys[low], y = keys[high];
                if ((x > y) == ((low & size) == 0)) keys[low] = y, keys[high] = x;
            }
            if (step > 32 || (step == 1 && size >= 64)) __syncthreads();
            else __syncwarp();
        }
    }
    __syncthreads();
}

// A tile's list as fill_lists left it.
struct ListSource {
    const uint64_t* keys;
    int64_t count;
    __device__ uint64_t key(int64_t k) const { return keys[k]; }
};

// All splats of the camera: for tiles whose list found no room.
template <int C> struct SceneSource {
    const float4* splats;
    const int32_t* radii;
    int64_t count;
    TileGrid grid;
    int tx, ty;
    __device__ uint64_t key(int64_t k) const {
        if (radii[k] <= 0) return kNoKey;
        const float4 p = splats[k * kSplatVectors<C>], q = splats[k * kSplatVectors<C> + 1];
        const Region r = make_region(Ellipse{p.x, p.y, p.z, p.w, q.x, q.y});
        return reaches_tile(r, grid, tx, ty) ? depth_key(q.z, uint32_t(k)) : kNoKey;
    }
};

// Leaves in keys[0..n) the nearest kKeep splats of the source beyond key `after`, in order, and
// returns n. Whenever the buffer fills up it is sorted and cut, which lowers the bound for the rest.
template <int kCapacity, int kKeep, class Source>
__device__ __noinline__ int select_next(const Source& source, uint64_t after, uint64_t* keys,
                                        int* size) {
    constexpr int kPerThread = 2;
    static_assert(kKeep + kPerThread * kTileThreads <= kCapacity, "no room to collect");
    uint64_t bound = kNoKey;
    __syncthreads();
    if (threadIdx.x == 0) *size = 0;
    __syncthreads();
    for (int64_t base = 0; base < source.count; base += kPerThread * kTileThreads) {
        for (int part = 0; part < kPerThread; ++part) {
            const int64_t k = base + part * kTileThreads + threadIdx.x;
            const uint64_t key = k < source.count ? source.key(k) : kNoKey;
            if (key > after && key < bound) keys[atomicAdd(size, 1)] = key;
        }
        __syncthreads();
        const int n = *size;
        __syncthreads();
        if (n > kCapacity - kPerThread * kTileThreads) {
            sort_keys(keys, n);
            if (n > kKeep) bound = keys[kKeep];
            if (threadIdx.x == 0) *size = n > kKeep ? kKeep : n;
            __syncthreads();
        }
    }
    const int n = *size;
    sort_keys(keys, n);
    return n > kKeep ? kKeep : n;
}

}  // namespace pose_rasterizer
