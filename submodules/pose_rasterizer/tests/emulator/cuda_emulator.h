// Runs the CUDA kernels on the CPU, so that their logic is tested where there is no GPU.
//
// Blocks run one after the other, a block's threads as fibers of one OS thread: shared memory is
// static memory, atomics are plain additions, and a barrier or warp operation yields until the
// others have arrived. Only what the kernels use is here.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct dim3 {
    unsigned x, y, z;
    explicit dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace emulator {

constexpr size_t kStack = 128 << 10;
constexpr int kMaxThreads = 1024;

struct Barrier {
    int live = 0, arrived = 0, count = 0, result = 0;
    unsigned generation = 0;
    void release() { result = count, count = 0, arrived = 0, ++generation; }
};

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;
    unsigned index = 0;
    bool finished = false;
};

struct Machine {
    Fiber fibers[kMaxThreads];
    ucontext_t scheduler;
    Fiber* current = nullptr;
    Barrier block, warps[kMaxThreads / 32];
    uint64_t values[kMaxThreads];
    dim3 thread, block_index, grid, block_size;
    std::vector<float4> dynamic_shared;
    std::function<void()> body;
};
inline Machine& machine() {
    static Machine* m = new Machine;
    return *m;
}

inline void yield() {
    Machine& m = machine();
    swapcontext(&m.current->context, &m.scheduler);
}

inline int wait(Barrier& b, int add) {
    const unsigned generation = b.generation;
    b.count += add;
    if (++b.arrived == b.live) b.release();
    while (b.generation == generation) yield();
    return b.result;
}

inline void leave(Barrier& b) {
    if (--b.live > 0 && b.arrived == b.live) b.release();
}

inline void enter() {
    Machine& m = machine();
    m.body();
    Fiber& self = *m.current;
    self.finished = true;
    leave(m.block);
    leave(m.warps[self.index / 32]);
    yield();
}

inline void run_block() {
    Machine& m = machine();
    const unsigned n = m.block_size.x;
    m.block = Barrier{};
    m.block.live = int(n);
    for (unsigned w = 0; w < n / 32; ++w) m.warps[w] = Barrier{}, m.warps[w].live = 32;
    for (unsigned t = 0; t < n; ++t) {
        Fiber& f = m.fibers[t];
        if (f.stack.empty()) f.stack.resize(kStack);
        f.index = t, f.finished = false;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
    }
    for (unsigned left = n; left > 0;) {
        for (unsigned t = 0; t < n; ++t) {
            Fiber& f = m.fibers[t];
            if (f.finished) continue;
            m.current = &f;
            m.thread = dim3(t);
            swapcontext(&m.scheduler, &f.context);
            if (f.finished) --left;
        }
    }
}

template <class Kernel, class Args>
void launch(Kernel kernel, dim3 grid, dim3 block, size_t shared, const Args& args) {
    Machine& m = machine();
    if (block.x % 32 != 0 || block.x > kMaxThreads) abort();
    m.grid = grid, m.block_size = block;
    m.dynamic_shared.assign(shared / sizeof(float4) + 1, float4{NAN, NAN, NAN, NAN});
    m.body = [&] { kernel(args); };
    for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) {
            m.block_index = dim3(x, y);
            run_block();
        }
}

inline Barrier& own_warp() { return machine().warps[machine().current->index / 32]; }

// Each lane gives a value and reads that of lane `from`.
inline uint64_t exchange(uint64_t value, int from) {
    Machine& m = machine();
    const unsigned self = m.current->index, base = self / 32 * 32;
    m.values[self] = value;
    wait(own_warp(), 0);
    const uint64_t result = m.values[base + from];
    wait(own_warp(), 0);
    return result;
}
template <class T> T exchange_as(T value, int from) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = exchange(bits, from);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}

}  // namespace emulator

#define threadIdx (emulator::machine().thread)
#define blockIdx (emulator::machine().block_index)
#define gridDim (emulator::machine().grid)
#define POSE_LAUNCH(kernel, grid, block, shared, stream, ...) \
    emulator::launch(kernel, grid, block, shared, __VA_ARGS__)
#define POSE_DYNAMIC_SHARED(name) float4* name = emulator::machine().dynamic_shared.data()

inline void __syncthreads() { emulator::wait(emulator::machine().block, 0); }
inline int __syncthreads_count(int p) { return emulator::wait(emulator::machine().block, p != 0); }
inline void __syncwarp() { emulator::wait(emulator::own_warp(), 0); }
inline void __threadfence() {}
inline int lane_of() { return int(emulator::machine().current->index % 32); }
template <class T> T __shfl_sync(unsigned, T v, int from) { return emulator::exchange_as(v, from); }
template <class T> T __shfl_xor_sync(unsigned, T v, int mask) {
    return emulator::exchange_as(v, lane_of() ^ mask);
}
template <class T> T __shfl_up_sync(unsigned, T v, int by) {
    return emulator::exchange_as(v, lane_of() >= by ? lane_of() - by : lane_of());
}
inline unsigned __ballot_sync(unsigned, int p) {
    emulator::Machine& m = emulator::machine();
    const unsigned self = m.current->index, base = self / 32 * 32;
    m.values[self] = p != 0;
    emulator::wait(emulator::own_warp(), 0);
    unsigned bits = 0;
    for (int k = 0; k < 32; ++k) bits |= unsigned(m.values[base + k]) << k;
    emulator::wait(emulator::own_warp(), 0);
    return bits;
}
inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __clz(unsigned v) { return v == 0 ? 32 : __builtin_clz(v); }
inline int __ffs(unsigned v) { return __builtin_ffs(int(v)); }

template <class T, class U> T atomicAdd(T* to, U v) {
    const T old = *to;
    *to = T(old + v);
    return old;
}
template <class T> T atomicMax(T* to, T v) {
    const T old = *to;
    *to = old > v ? old : v;
    return old;
}
template <class T> T __ldg(const T* p) {
    if (reinterpret_cast<uintptr_t>(p) % sizeof(T) != 0) abort();  // as the device would
    return *p;
}
template <class T> T __ldcg(const T* p) { return __ldg(p); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline long long __float2ll_rn(float v) { return llrintf(v); }
inline uint32_t __float_as_uint(float v) {
    uint32_t u;
    std::memcpy(&u, &v, 4);
    return u;
}
inline float __uint_as_float(uint32_t u) {
    float v;
    std::memcpy(&v, &u, 4);
    return v;
}

typedef int cudaError_t;
typedef void* cudaStream_t;
constexpr cudaError_t cudaSuccess = 0;
enum { cudaFuncAttributeMaxDynamicSharedMemorySize };
inline cudaError_t cudaGetDevice(int* d) { return *d = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "error"; }
template <class F> cudaError_t cudaFuncSetAttribute(F, int, int) { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* p, int v, size_t n, cudaStream_t) {
    return std::memset(p, v, n), cudaSuccess;
}
