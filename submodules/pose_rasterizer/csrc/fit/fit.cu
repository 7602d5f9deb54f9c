// The C interface of a fit's CUDA kernels: loss and optimiser, each queued on the caller's stream;
// nothing waits for the device.
#if !defined(POSE_CHANNELS)
#define POSE_CHANNELS 1  // any number: these kernels don't depend on it
#endif
#include "../common/export.h"
#include "../cuda/device_guard.cuh"
#include "adam.cuh"
#include "photometric.cuh"

using namespace pose_rasterizer;

// Sizes of the parameter blocks, pixels along a side of a loss block, most leaves of a step.
POSE_EXPORT void pose_fit_layout(int64_t out[4]) {
    out[0] = sizeof(PoseFitLoss), out[1] = sizeof(PoseFitAdam);
    out[2] = kLossTile, out[3] = kMaxLeaves;
}

// Null, or what went wrong.
POSE_EXPORT const char* pose_fit_loss(const PoseFitLoss* args) {
    const PoseFitLoss& a = *args;
    const DeviceGuard guard(a.device);
    if (guard.status() != cudaSuccess) return message(guard.status());
    const cudaStream_t s = static_cast<cudaStream_t>(a.stream);
    const dim3 grid(unsigned(a.num_parts / a.channels), unsigned(a.channels));
    POSE_LAUNCH(loss_statistics, grid, dim3(kLossThreads), 0, s, a);
    POSE_LAUNCH(loss_gradient, grid, dim3(kLossThreads), 0, s, a);
    return message(cudaGetLastError());
}

POSE_EXPORT const char* pose_fit_adam(const PoseFitAdam* args) {
    const PoseFitAdam& a = *args;
    const DeviceGuard guard(a.device);
    if (guard.status() != cudaSuccess) return message(guard.status());
    const cudaStream_t s = static_cast<cudaStream_t>(a.stream);
    int64_t most = 0;
    for (int k = 0; k < a.num_leaves; ++k)
        if (a.leaves[k].count > most) most = a.leaves[k].count;
    if (most == 0) return nullptr;
    const dim3 grid(unsigned((most + kAdamBlock - 1) / kAdamBlock), unsigned(a.num_leaves));
    POSE_LAUNCH(adam_leaves, grid, dim3(kAdamThreads), 0, s, a);
    return message(cudaGetLastError());
}
