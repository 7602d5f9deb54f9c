// The photometric loss of a fit, (1 - w) mean |x - y| + w (1 - mean SSIM), and its gradient; the
// equations: csrc/cpu/photometric.cpp.
//
// Two kernels, since a pixel's gradient needs the statistics of the windows that hold it. A block owns
// a square of pixels of one channel, a thread one pixel; the square and its border of 5 px lie in
// shared memory, filtered along rows first, then across. Sums go to a part per block; the second kernel's
// first block adds them in a fixed order, so that two runs give equal bits.
#pragma once
#include "../cuda/platform.cuh"
#include "args.h"

namespace pose_rasterizer {

constexpr int kLossTile = 16, kLossThreads = kLossTile * kLossTile;
constexpr int kLossSide = kLossTile + 2 * kWindowRadius;
constexpr float kSsimC1 = 0.01f * 0.01f, kSsimC2 = 0.03f * 0.03f;

struct LossBlock {
    int x0, y0, channel;
    int64_t plane;
    __device__ __forceinline__ explicit LossBlock(const PoseFitLoss& a) {
        const int across = (a.width + kLossTile - 1) / kLossTile;
        x0 = int(blockIdx.x) % across * kLossTile, y0 = int(blockIdx.x) / across * kLossTile;
        channel = int(blockIdx.y);
        plane = int64_t(channel) * a.height * a.width;
    }
};

__device__ __forceinline__ float target_at(const PoseFitLoss& a, int64_t i) {
    if (a.target_bytes != 0) return float(static_cast<const uint8_t*>(a.target)[i]) / 255.0f;
    return static_cast<const float*>(a.target)[i];
}

// Sums of three values over the block, written by its first thread.
__device__ __forceinline__ void write_part(double* part, float a, float b, float c) {
    __shared__ float warps[3][kLossThreads / 32];
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    a = warp_sum(a), b = warp_sum(b), c = warp_sum(c);
    if (lane == 0) warps[0][warp] = a, warps[1][warp] = b, warps[2][warp] = c;
    __syncthreads();
    if (threadIdx.x >= 3) return;
    double sum = 0;
    for (int k = 0; k < kLossThreads / 32; ++k) sum += double(warps[threadIdx.x][k]);
    part[threadIdx.x] = sum;
}

// Value of a pixel of the block's square and border.
template <class Read>
__device__ __forceinline__ float bordered(const PoseFitLoss& a, const LossBlock& block, int i,
                                          const Read& read) {
    const int x = block.x0 + i % kLossSide - kWindowRadius;
    const int y = block.y0 + i / kLossSide - kWindowRadius;
    if (x < 0 || y < 0 || x >= a.width || y >= a.height) return 0.0f;
    return read(block.plane + int64_t(y) * a.width + x);
}

// Statistics of each window, S and its derivatives by the mean and the moments of x (3 maps).
__global__ void __launch_bounds__(kLossThreads) loss_statistics(const PoseFitLoss a) {
    __shared__ float x[kLossSide * kLossSide], y[kLossSide * kLossSide];
    __shared__ float rows[4][kLossSide * kLossTile];
    const LossBlock block(a);
    const int t = int(threadIdx.x), px = t % kLossTile, py = t / kLossTile;
    for (int i = t; i < kLossSide * kLossSide; i += kLossThreads) {
        x[i] = bordered(a, block, i, [&](int64_t k) { return a.image[k]; });
        y[i] = bordered(a, block, i, [&](int64_t k) { return target_at(a, k); });
    }
    __syncthreads();
    const bool with_ssim = a.ssim_weight != 0.0f;
    if (with_ssim) {
        for (int i = t; i < kLossSide * kLossTile; i += kLossThreads) {
            const int at = i / kLossTile * kLossSide + i % kLossTile;
            float m = 0.0f, n = 0.0f, squares = 0.0f, product = 0.0f;
            for (int k = 0; k < kWindowTaps; ++k) {
                const float w = a.window[k], u = x[at + k], v = y[at + k];
                m += w * u, n += w * v, squares += w * (u * u + v * v), product += w * (u * v);
            }
            rows[0][i] = m, rows[1][i] = n, rows[2][i] = squares, rows[3][i] = product;
        }
        __syncthreads();
    }
    const bool inside = block.x0 + px < a.width && block.y0 + py < a.height;
    float s = 0.0f, l1 = 0.0f, square = 0.0f;
    if (inside) {
        const int centre = (py + kWindowRadius) * kLossSide + px + kWindowRadius;
        const float difference = x[centre] - y[centre];
        l1 = fabsf(difference), square = difference * difference;
    }
    if (inside && with_ssim) {
        float m = 0.0f, n = 0.0f, squares = 0.0f, product = 0.0f;
        for (int k = 0; k < kWindowTaps; ++k) {
            const int at = (py + k) * kLossTile + px;
            const float w = a.window[k];
            m += w * rows[0][at], n += w * rows[1][at];
            squares += w * rows[2][at], product += w * rows[3][at];
        }
        const float mn = m * n, mm_nn = m * m + n * n;
        const float p = 2.0f * mn + kSsimC1, q = 2.0f * (product - mn) + kSsimC2;
        const float d = mm_nn + kSsimC1, e = squares - mm_nn + kSsimC2;
        const float over_de = 1.0f / (d * e), over_d = e * over_de, over_e = d * over_de;
        s = p * q * over_de;
        const int64_t pixels = int64_t(a.height) * a.width;
        const int64_t stride = a.channels * pixels;
        const int64_t at = block.plane + int64_t(block.y0 + py) * a.width + block.x0 + px;
        a.maps[at] = 2.0f * n * (q - p) * over_de - 2.0f * m * s * (over_d - over_e);
        a.maps[stride + at] = -s * over_e;
        a.maps[2 * stride + at] = 2.0f * p * over_de;
    }
    const int part = block.channel * (a.num_parts / a.channels) + int(blockIdx.x);
    write_part(a.parts + 3 * int64_t(part), l1, s, square);
}

// The means of all blocks' sums, by one block.
__device__ __forceinline__ void loss_means(const PoseFitLoss& a) {
    __shared__ double sums[3][kLossThreads];
    const int t = int(threadIdx.x);
    double own[3] = {0, 0, 0};
    for (int i = t; i < a.num_parts; i += kLossThreads)
        for (int k = 0; k < 3; ++k) own[k] += a.parts[3 * int64_t(i) + k];
    for (int k = 0; k < 3; ++k) sums[k][t] = own[k];
    for (int half = kLossThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (t < half)
            for (int k = 0; k < 3; ++k) sums[k][t] += sums[k][t + half];
    }
    if (t != 0) return;
    const double count = double(a.channels) * a.height * a.width, w = a.ssim_weight;
    const double l1 = sums[0][0] / count, ssim = sums[1][0] / count;
    a.means[0] = (1.0 - w) * l1 + (w != 0 ? w * (1.0 - ssim) : 0.0);
    a.means[1] = l1, a.means[2] = ssim, a.means[3] = sums[2][0] / count;
}

// The gradient: derivatives gathered from the windows that hold the pixel.
__global__ void __launch_bounds__(kLossThreads) loss_gradient(const PoseFitLoss a) {
    __shared__ float maps[3][kLossSide * kLossSide];
    __shared__ float rows[3][kLossSide * kLossTile];
    const LossBlock block(a);
    const int t = int(threadIdx.x), px = t % kLossTile, py = t / kLossTile;
    const int64_t pixels = int64_t(a.height) * a.width, stride = a.channels * pixels;
    const bool with_ssim = a.ssim_weight != 0.0f;
    if (with_ssim) {
        for (int i = t; i < kLossSide * kLossSide; i += kLossThreads)
            for (int map = 0; map < 3; ++map)
                maps[map][i] = bordered(a, block, i,
                                        [&](int64_t k) { return a.maps[map * stride + k]; });
        __syncthreads();
        for (int i = t; i < kLossSide * kLossTile; i += kLossThreads) {
            const int at = i / kLossTile * kLossSide + i % kLossTile;
            float sums[3] = {0.0f, 0.0f, 0.0f};
            for (int k = 0; k < kWindowTaps; ++k)
                for (int map = 0; map < 3; ++map) sums[map] += a.window[k] * maps[map][at + k];
            for (int map = 0; map < 3; ++map) rows[map][i] = sums[map];
        }
        __syncthreads();
    }
    if (block.x0 + px < a.width && block.y0 + py < a.height) {
        const int64_t pixel = int64_t(block.y0 + py) * a.width + block.x0 + px;
        const int64_t at = block.plane + pixel;
        const float x = a.image[at], y = target_at(a, at), count = float(stride);
        float v = (1.0f - a.ssim_weight) / count * float((x > y) - (x < y));
        if (with_ssim) {
            float sums[3] = {0.0f, 0.0f, 0.0f};
            for (int k = 0; k < kWindowTaps; ++k)
                for (int map = 0; map < 3; ++map)
                    sums[map] += a.window[k] * rows[map][(py + k) * kLossTile + px];
            v -= a.ssim_weight / count * (sums[0] + 2.0f * x * sums[1] + y * sums[2]);
        }
        a.v_image[at] = a.scale * v;
        if (block.channel == 0 && a.alpha_sign != nullptr) {
            const int sign = a.alpha_sign[pixel];
            a.v_alpha[pixel] = a.only_outside != 0 && sign < 0 ? 0.0f : a.alpha_scale * float(sign);
        }
    }
    if (blockIdx.x == 0 && blockIdx.y == 0) loss_means(a);
}

}  // namespace pose_rasterizer
