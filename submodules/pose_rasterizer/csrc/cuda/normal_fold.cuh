// From a pixel's derivatives to products of its residuals, added over the tile.
//
// fold_pixel: gain and offset of each channel are unknowns beside the pose. fold_windows: each 8x8
// window (two warps, one above the other) has a light of its own, which is divided out.
#pragma once
#include "normal_columns.cuh"

namespace pose_rasterizer {

// Places of the sums: pose pairs, pose gradient, cost; then per channel what meets its light.
constexpr int kPairs = kPoseColumns * (kPoseColumns + 1) / 2;
constexpr int kGradientAt = kPairs, kCostAt = kPairs + kPoseColumns;
static_assert(kCostAt + 1 == kPoseSums && 2 * kPoseColumns + 5 == kLightSums, "places of the sums");

// Row and column of the upper triangle's entry k.
__device__ __forceinline__ void pair_of(int k, int& row, int& column) {
    row = 0;
    while (k >= kPoseColumns - row) k -= kPoseColumns - row, ++row;
    column = row + k;
}

// Adds `values` over the warp: lane l gets the sum of value l % N. N - 1 shuffles, and one for each
// doubling from N to 32, where a sum at a time takes 5 N.
template <int N, int kHalf = N / 2>
__device__ __forceinline__ float reduce_lanes(float (&values)[N]) {
    if constexpr (kHalf > 0) {
        const bool upper = (threadIdx.x & kHalf) != 0;
#pragma unroll
        for (int k = 0; k < kHalf; ++k) {
            const float sent = upper ? values[k] : values[k + kHalf];
            const float kept = upper ? values[k + kHalf] : values[k];
            values[k] = kept + __shfl_xor_sync(kFullWarp, sent, kHalf);
        }
        return reduce_lanes<N, kHalf / 2>(values);
    } else {
#pragma unroll
        for (int offset = N; offset < 32; offset *= 2)
            values[0] += __shfl_xor_sync(kFullWarp, values[0], offset);
        return values[0];
    }
}

// Geman-McClure: rho = r^2 / 2 / (1 + r^2 / s^2). Adds to the cost, returns the weight rho' / r.
__device__ __forceinline__ float robust_weight(float r, float weight, float inv_scale2,
                                               float& cost) {
    const float square = r * r, damp = 1.0f / (1.0f + square * inv_scale2);
    cost += 0.5f * weight * square * damp;
    return weight * damp * damp;
}

__device__ __forceinline__ void add_pose(const float* jacobian, float w, float r, float* sums) {
    int at = 0;
#pragma unroll
    for (int k = 0; k < kPoseColumns; ++k) {
        const float wj = w * jacobian[k];
#pragma unroll
        for (int l = k; l < kPoseColumns; ++l) sums[at++] += wj * jacobian[l];
        sums[kGradientAt + k] += wj * r;
    }
}

// The pixel's residuals and their products, added over the warp into `row`, [kNormalSums].
template <int C, bool kDirection>
__device__ __forceinline__ void fold_pixel(const PoseCudaNormal& n, const Pixel& pixel,
                                           const PixelColumns<C, kDirection>& columns, float* row) {
    const PoseCudaArgs& a = n.render;
    const int64_t pixels = int64_t(a.width) * a.height;
    const int64_t at = pixel.camera * pixels + pixel.at;
    const int lane = threadIdx.x % 32;
    const float alpha = pixel.inside ? a.alpha[at] : 0.0f, left = columns.transmittance;
    float pose[32] = {}, jacobian[kPoseColumns];
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int channel = pixel.camera * C + c;
        const int64_t k = channel * pixels + pixel.at;
        const float gain = n.gain[channel], offset = n.offset[channel], back = n.backdrop[channel];
        const float scale = n.robust_scale[c];
        const float value = pixel.inside ? a.image[k] : 0.0f;
        const float target = pixel.inside ? n.target[k] : 0.0f;
        const float r = gain * value + offset * alpha + back * left - target;
        const float w = robust_weight(r, pixel.inside ? n.weight[k] : 0.0f,
                                      scale > 0.0f ? 1.0f / (scale * scale) : 0.0f, pose[kCostAt]);
        const float wf = w * value, wa = w * alpha;
        float light[16];
#pragma unroll
        for (int j = 0; j < kPoseColumns; ++j) {
            jacobian[j] = gain * columns.colour[c][j] + (back - offset) * columns.left[j];
            light[j] = wf * jacobian[j], light[kPoseColumns + j] = wa * jacobian[j];
        }
        add_pose(jacobian, w, r, pose);
        light[12] = wf * value, light[13] = wf * alpha, light[14] = wa * alpha, light[15] = wf * r;
        const float sum = reduce_lanes(light), last = warp_sum(wa * r);
        float* to = row + kPoseSums + c * kLightSums;
        if (lane < 16) to[lane] = sum;
        if (lane == 16) to[16] = last;
    }
    if (n.silhouette_target != nullptr) {
        const float r = pixel.inside ? alpha - n.silhouette_target[at] : 0.0f;
        const float w = robust_weight(r, pixel.inside ? n.silhouette_weight[at] : 0.0f, 0.0f,
                                      pose[kCostAt]);
#pragma unroll
        for (int j = 0; j < kPoseColumns; ++j) jacobian[j] = -columns.left[j];
        add_pose(jacobian, w, r, pose);
    }
    const float sum = reduce_lanes(pose);
    if (lane < kPoseSums) row[lane] = sum;
}

// Sums of a warp's pixels in one window. First: w J J^T (21), w J (6), w mh^2, w r^2, w mh r; from kSecond
// on: w J mh (6), w J r (6). mh is the normalised rendering, r its difference to the target's.
constexpr int kByMean = kPairs, kShown = 27, kEnergy = 28, kShownResidual = 29, kSecond = 32;
constexpr int kByShown = kSecond, kByResidual = kSecond + 6, kWindowSums = 48;
constexpr int kWindows = 4;  // of a tile: two warps each, rows of 8 pixels

// A window's sum is that of its two warps: `warp` and the one below.
struct WindowRows {
    float (*moments)[4];          // [warps]: weight, w m, w q; later w m^2, w q^2 of what is centred
    float (*sums)[kWindowSums];   // [warps]

    __device__ __forceinline__ float moment(int warp, int k) const {
        return moments[warp][k] + moments[warp + 2][k];
    }
    __device__ __forceinline__ double sum(int warp, int k) const {
        return double(sums[warp][k]) + double(sums[warp + 2][k]);
    }
};

// What a lane adds to the tile for one window and channel: sum k (kPoseSums of them).
__device__ __forceinline__ double window_sum(const WindowRows& rows, int warp, int k, float total,
                                             float inv_m, float scale) {
    const double inv = 1.0 / double(total), energy = rows.sum(warp, kEnergy);
    const double inv_scale2 = scale > 0.0f ? 1.0 / (double(scale) * double(scale)) : 0.0;
    const double damp = 1.0 / (1.0 + energy * inv * inv_scale2);
    if (k == kCostAt) return 0.5 * energy * damp;
    const double factor = damp * damp * double(inv_m);
    if (k >= kGradientAt) {
        const double pull = rows.sum(warp, kShownResidual) * inv;
        return factor * (rows.sum(warp, kByResidual + k - kGradientAt) -
                         pull * rows.sum(warp, kByShown + k - kGradientAt));
    }
    int a, b;
    pair_of(k, a, b);
    const double keep = 2.0 - rows.sum(warp, kShown) * inv;
    return factor * double(inv_m) *
           (rows.sum(warp, k) - inv * (rows.sum(warp, kByMean + a) * rows.sum(warp, kByMean + b) +
                                       keep * rows.sum(warp, kByShown + a) *
                                           rows.sum(warp, kByShown + b)));
}

// One channel of the tile's windows. Called by the whole block; m, q, w and jacobian are the pixel's,
// w = 0 outside the image. Lanes 0..27 of warp v < 4 add window v's sums to `tile_sum`.
__device__ __forceinline__ void fold_window(const WindowRows& rows, float m, float q, float w,
                                            const float* jacobian, float floor, float scale,
                                            double& tile_sum) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, upper = warp & ~2;
    float few[4] = {w, w * m, w * q, 0.0f};
    float sum = reduce_lanes(few);
    if (lane < 4) rows.moments[warp][lane] = sum;
    __syncthreads();
    const float total = rows.moment(upper, 0), inv = total > 0.0f ? 1.0f / total : 0.0f;
    m -= rows.moment(upper, 1) * inv, q -= rows.moment(upper, 2) * inv;
    few[0] = w, few[1] = w * m * m, few[2] = w * q * q, few[3] = 0.0f;
    sum = reduce_lanes(few);
    __syncthreads();
    if (lane < 4) rows.moments[warp][lane] = sum;
    __syncthreads();
    const float inv_m = 1.0f / sqrtf(rows.moment(upper, 1) * inv + floor * floor);
    const float inv_q = 1.0f / sqrtf(rows.moment(upper, 2) * inv + floor * floor);
    const float shown = m * inv_m, r = shown - q * inv_q;
    float first[32] = {}, second[16] = {};
    int at = 0;
#pragma unroll
    for (int a = 0; a < kPoseColumns; ++a) {
        const float wj = w * jacobian[a];
#pragma unroll
        for (int b = a; b < kPoseColumns; ++b) first[at++] = wj * jacobian[b];
        first[kByMean + a] = wj, second[a] = wj * shown, second[kPoseColumns + a] = wj * r;
    }
    first[kShown] = w * shown * shown, first[kEnergy] = w * r * r;
    first[kShownResidual] = w * shown * r;
    sum = reduce_lanes(first);
    rows.sums[warp][lane] = sum;
    sum = reduce_lanes(second);
    if (lane < 16) rows.sums[warp][kSecond + lane] = sum;
    __syncthreads();
    const int own = warp % 2 + 4 * (warp / 2);  // upper warp of window `warp`
    if (warp < kWindows && lane < kPoseSums) {
        const float own_total = rows.moment(own, 0);
        const float own_inv = own_total > 0.0f ? 1.0f / own_total : 0.0f;
        const float own_inv_m = 1.0f / sqrtf(rows.moment(own, 1) * own_inv + floor * floor);
        if (own_total > 0.0f)
            tile_sum += window_sum(rows, own, lane, own_total, own_inv_m, scale);
    }
    __syncthreads();
}

// All channels of the tile's windows, the silhouette last. Leaves the tile's sums in row 0 of `totals`,
// [kWindows, kPoseSums], which like `rows` is shared memory. Called by the whole block.
template <int C, bool kDirection>
__device__ __forceinline__ void fold_windows(const PoseCudaNormal& n, const Pixel& pixel,
                                             const PixelColumns<C, kDirection>& columns,
                                             const WindowRows& rows, double (*totals)[kPoseSums]) {
    const PoseCudaArgs& a = n.render;
    const int64_t pixels = int64_t(a.width) * a.height;
    const int64_t at = pixel.camera * pixels + pixel.at;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float alpha = pixel.inside ? a.alpha[at] : 0.0f, left = columns.transmittance;
    double tile_sum = 0.0;
    float jacobian[kPoseColumns];
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int channel = pixel.camera * C + c;
        const int64_t k = channel * pixels + pixel.at;
        const float back = n.backdrop[channel];
        const float m = pixel.inside ? a.image[k] + back * left : 0.0f;
#pragma unroll
        for (int j = 0; j < kPoseColumns; ++j)
            jacobian[j] = columns.colour[c][j] + back * columns.left[j];
        fold_window(rows, m, pixel.inside ? n.target[k] : 0.0f, pixel.inside ? n.weight[k] : 0.0f,
                    jacobian, n.contrast_floor, n.robust_scale[c], tile_sum);
    }
    if (n.silhouette_target != nullptr) {
#pragma unroll
        for (int j = 0; j < kPoseColumns; ++j) jacobian[j] = -columns.left[j];
        fold_window(rows, alpha, pixel.inside ? n.silhouette_target[at] : 0.0f,
                    pixel.inside ? n.silhouette_weight[at] : 0.0f, jacobian, n.contrast_floor,
                    n.silhouette_scale, tile_sum);
    }
    if (warp < kWindows && lane < kPoseSums) totals[warp][lane] = tile_sum;
    __syncthreads();
    if (warp == 0 && lane < kPoseSums)
        totals[0][lane] = totals[0][lane] + totals[1][lane] + totals[2][lane] + totals[3][lane];
}

}  // namespace pose_rasterizer
