// The C interface of the CUDA back end. Everything is queued on the caller's stream; nothing waits
// for the device. Compiled once per number of channels (POSE_CHANNELS).
#include <atomic>

#include "../common/export.h"
#include "adjoint.cuh"
#include "device_guard.cuh"
#include "normal.cuh"

namespace {

using namespace pose_rasterizer;
constexpr int C = POSE_CHANNELS;

unsigned blocks_for(int64_t items, int threads) {
    return unsigned((items + threads - 1) / threads);
}

template <bool kDepth> cudaError_t launch_backward_tiles(const PoseCudaArgs& a, cudaStream_t s) {
    auto kernel = backward_tiles<C, kDepth>;
    constexpr int bytes = kBackwardBytes<C, kDepth>;
    static std::atomic<uint64_t> prepared{0};  // bit: device
    const uint64_t bit = a.device < 64 ? uint64_t(1) << a.device : 0;
    if (bytes > 48 * 1024 && (prepared & bit) == 0) {
        const cudaError_t status = cudaFuncSetAttribute(
            kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
        if (status != cudaSuccess) return status;
        prepared |= bit;
    }
    const unsigned tiles = unsigned(a.num_cameras) * TileGrid(a).count();
    POSE_LAUNCH(kernel, dim3(tiles), dim3(kTileThreads), bytes, s, a);
    return cudaGetLastError();
}

template <bool kDirection, bool kWindowLight>
cudaError_t launch_normal(const PoseCudaNormal& n, cudaStream_t s) {
    const PoseCudaArgs& a = n.render;
    if (a.num_gaussians > 0) {
        auto columns = splat_columns<C, kDirection>;
        const dim3 splats(blocks_for(a.num_gaussians, kSplatThreads), a.num_cameras);
        POSE_LAUNCH(columns, splats, dim3(kSplatThreads), 0, s, n);
    }
    auto pixels = normal_tiles<C, kDirection, kWindowLight>;
    const unsigned tiles = unsigned(a.num_cameras) * TileGrid(a).count();
    POSE_LAUNCH(pixels, dim3(tiles), dim3(kTileThreads), 0, s, n);
    auto systems = sum_systems<C, kWindowLight>;
    const dim3 sums(blocks_for(kTileSums<C, kWindowLight>, 32), a.num_cameras);
    POSE_LAUNCH(systems, sums, dim3(kSystemThreads), 0, s, n);
    return cudaGetLastError();
}

}  // namespace

// Layout facts that the caller sizes its memory by: ABI, channels, floats per record, floats per
// sum, floats per pose part, Gaussians per pose part, size of the parameter block, floats that a row of
// v_features must have to hold the sums.
POSE_EXPORT void pose_cuda_layout(int64_t out[8]) {
    out[0] = 3, out[1] = C, out[2] = 4 * kSplatVectors<C>, out[3] = kSumFloats<C>;
    out[4] = kPoseFloats, out[5] = kAdjointThreads, out[6] = sizeof(PoseCudaArgs);
    out[7] = kRowFloats<C>;
}

// Null, or what went wrong. `counters` lies 32 bytes after `total`.
POSE_EXPORT const char* pose_cuda_forward(const PoseCudaArgs* args) {
    const PoseCudaArgs& a = *args;
    const DeviceGuard guard(a.device);
    if (guard.status() != cudaSuccess) return message(guard.status());
    const cudaStream_t s = static_cast<cudaStream_t>(a.stream);
    const int64_t tiles = int64_t(a.num_cameras) * TileGrid(a).count();
    const cudaError_t cleared =
        cudaMemsetAsync(a.total, 0, 32 + tiles * kCounterWords * sizeof(uint32_t), s);
    if (cleared != cudaSuccess) return message(cleared);
    const dim3 splats(blocks_for(a.num_gaussians, kSplatThreads), a.num_cameras);
    if (a.num_gaussians > 0)
        POSE_LAUNCH(project_splats<C>, splats, dim3(kSplatThreads), 0, s, a);
    POSE_LAUNCH(allocate_lists, dim3(blocks_for(tiles, kListThreads)), dim3(kListThreads), 0, s, a);
    const dim3 filling(splats.x + (a.order != nullptr ? 1 : 0), splats.y);
    if (a.num_gaussians > 0) POSE_LAUNCH(fill_lists<C>, filling, dim3(kSplatThreads), 0, s, a);
    POSE_LAUNCH(forward_tiles<C>, dim3(unsigned(tiles)), dim3(kTileThreads), 0, s, a);
    return message(cudaGetLastError());
}

// The pixels' part of backward. `scratch`: memory of `clear_bytes` that must be zero (sums unless in
// v_features, tickets, bounds); no bytes where forward has cleared the sums. Where the sums lie in v_features, the memory that forward left may be
// freed afterwards.
POSE_EXPORT const char* pose_cuda_backward_tiles(const PoseCudaArgs* args, void* scratch,
                                                 int64_t clear_bytes) {
    const PoseCudaArgs& a = *args;
    const DeviceGuard guard(a.device);
    if (guard.status() != cudaSuccess) return message(guard.status());
    const cudaStream_t s = static_cast<cudaStream_t>(a.stream);
    cudaError_t status = cudaSuccess;
    if (clear_bytes > 0) status = cudaMemsetAsync(scratch, 0, clear_bytes, s);
    if (status != cudaSuccess) return message(status);
    if (a.sums == a.v_features) {
        const int64_t vectors = a.num_gaussians * (kRowFloats<C> / 4);
        POSE_LAUNCH(clear_sums<C>, dim3(blocks_for(vectors, 256)), dim3(256), 0, s, a);
    }
    if (a.deterministic) POSE_LAUNCH(find_bounds<C>, dim3(264), dim3(256), 0, s, a);
    status = a.v_depth != nullptr ? launch_backward_tiles<true>(a, s)
                                  : launch_backward_tiles<false>(a, s);
    return message(status);
}

// The splats' part of backward, after the pixels'.
POSE_EXPORT const char* pose_cuda_backward_splats(const PoseCudaArgs* args) {
    const PoseCudaArgs& a = *args;
    const DeviceGuard guard(a.device);
    if (guard.status() != cudaSuccess) return message(guard.status());
    const cudaStream_t s = static_cast<cudaStream_t>(a.stream);
    const bool gaussians = a.v_means != nullptr || a.v_quats != nullptr || a.v_scales != nullptr ||
                           a.v_opacities != nullptr || a.v_features != nullptr;
    const dim3 grid(unsigned(a.adjoint_blocks), gaussians ? 1 : a.num_cameras);
    if (gaussians) {
        auto kernel = splats_adjoint<C, true>;
        POSE_LAUNCH(kernel, grid, dim3(kAdjointThreads), 0, s, a);
    } else {
        auto kernel = splats_adjoint<C, false>;
        POSE_LAUNCH(kernel, grid, dim3(kAdjointThreads), 0, s, a);
    }
    return message(cudaGetLastError());
}

// Floats per splat (`columns`) and per tile (`parts`) that the normal equations need, and the size of
// their parameter block.
POSE_EXPORT void pose_cuda_normal_layout(int32_t direction, int64_t out[3]) {
    out[0] = 4 * (direction != 0 ? kColumnVectors<C, true> : kColumnVectors<C, false>);
    out[1] = kNormalSums<C>, out[2] = sizeof(PoseCudaNormal);
}

// The cost and normal equations of every camera, after pose_cuda_forward with the same `render`.
POSE_EXPORT const char* pose_cuda_normal_equations(const PoseCudaNormal* normal) {
    const PoseCudaNormal& n = *normal;
    const DeviceGuard guard(n.render.device);
    if (guard.status() != cudaSuccess) return message(guard.status());
    const cudaStream_t s = static_cast<cudaStream_t>(n.render.stream);
    if (n.window_light != 0)
        return message(n.direction_term != 0 ? launch_normal<true, true>(n, s)
                                             : launch_normal<false, true>(n, s));
    return message(n.direction_term != 0 ? launch_normal<true, false>(n, s)
                                         : launch_normal<false, false>(n, s));
}
