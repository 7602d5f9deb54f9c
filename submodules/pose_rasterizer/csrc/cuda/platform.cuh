// The toolchain under the kernels: CUDA, or the host emulator that the tests use without a GPU.
#pragma once
#include <cstdint>

#if defined(POSE_EMULATE)
#include "cuda_emulator.h"
#else
#include <cuda_runtime.h>
#define POSE_LAUNCH(kernel, grid, block, shared, stream, ...) \
    kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define POSE_DYNAMIC_SHARED(name) extern __shared__ float4 name[]
#endif

#if !defined(POSE_CHANNELS)
#error "compile with -DPOSE_CHANNELS=1..8: one library per number of colour channels"
#endif

namespace pose_rasterizer {

constexpr unsigned kFullWarp = 0xffffffffu;

// 2^x and 1/x by the special-function unit: relative error below 2^-21.
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(POSE_EMULATE)
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

__device__ __forceinline__ float fast_reciprocal(float x) {
#if defined(POSE_EMULATE)
    return 1.0f / x;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

__device__ __forceinline__ float fast_sqrt(float x) {
#if defined(POSE_EMULATE)
    return sqrtf(x);
#else
    float y;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// Adds four floats to 16-byte aligned global memory: one transaction from sm_90 on.
__device__ __forceinline__ void atomic_add4(float* to, float4 v) {
#if !defined(POSE_EMULATE) && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && \
    (__CUDACC_VER_MAJOR__ > 12 || (__CUDACC_VER_MAJOR__ == 12 && __CUDACC_VER_MINOR__ >= 2))
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(v.x), "f"(v.y),
                 "f"(v.z), "f"(v.w)
                 : "memory");
#else
    atomicAdd(to, v.x), atomicAdd(to + 1, v.y), atomicAdd(to + 2, v.z), atomicAdd(to + 3, v.w);
#endif
}

__device__ __forceinline__ float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(kFullWarp, v, offset);
    return v;
}

}  // namespace pose_rasterizer
