// Normal equations of pose and light: J^T W J, J^T W r and the cost, after a forward pass.
//
// splat_columns: a thread owns a Gaussian of one camera and writes its derivatives by the six numbers
// of the pose step. normal_tiles: a thread owns a pixel and blends, front to back through the lists
// that forward_tiles left, the six derivatives of transmittance and colours
//   dw = dT alpha + w d exponent,  dT <- dT - dw,  dF_c <- dF_c + dw colour_c + w dcolour_c
// (w = T alpha) in registers; warps don't wait for each other. Then each pixel's residuals become
// products, a warp adds them by shuffles (reduce_lanes), the block its 8 warps in order, and the tile's
// sums go to memory. sum_systems adds the tiles in double. Every order is fixed, so two runs are equal.
// No Jacobian is stored. Equations: docs/method_refinement.md; the same steps: csrc/cpu/normal.cpp.
#pragma once
#include "../common/factor_jvp.h"
#include "forward.cuh"

namespace pose_rasterizer {

constexpr int kPoseColumns = POSE_COLUMNS;
constexpr int kPairs = kPoseColumns * (kPoseColumns + 1) / 2;
constexpr int kGradientAt = kPairs, kCostAt = kPairs + kPoseColumns;
static_assert(kCostAt + 1 == kPoseSums && 2 * kPoseColumns + 5 == kLightSums, "places of the sums");
constexpr int kNormalBatch = 16;        // splats whose columns a warp stages at a time
constexpr int kListCapacity = 1024;     // keys, for tiles without a list
constexpr int kSystemThreads = 512;
constexpr float kLn2 = 0.6931471805599453f;

// Derivative of colour c by rho: of its SH sum by the direction, then of the direction.
template <int C>
__device__ __forceinline__ Vec3<float> colour_column(const PoseCudaArgs& a,
                                                     const CameraModel<float>& camera, int64_t i,
                                                     int c, Vec3<float> direction,
                                                     float inv_length) {
    const float* f = a.features + i * a.num_coeffs * C + c;
    const int used = sh_num_coeffs(a.sh_degree);
    float row[16];
#pragma unroll
    for (int k = 0; k < 16; ++k) row[k] = k < used ? __ldg(f + k * C) : 0.0f;
    return colour_columns(camera, direction, inv_length,
                          sh_basis_vjp(a.sh_degree, direction, row));
}

template <int C, bool kDirection>
__device__ __forceinline__ void write_columns(const PoseCudaArgs& a,
                                              const CameraModel<float>& camera, int64_t splat,
                                              int64_t i, float4* to) {
    constexpr int kVectors = kColumnVectors<C, kDirection>;
    const float *m = a.means + 3 * i, *q = a.quats + 4 * i, *s = a.scales + 3 * i;
    const float4* record = reinterpret_cast<const float4*>(a.splats) + splat * kSplatVectors<C>;
    const float4 p = record[0];
    const float unscale = 1.0f / kRootScale;
    const ConicRoot<float> root = {unscale * p.z, unscale * p.w, unscale * record[1].x};
    const Vec3<float> mean = {m[0], m[1], m[2]}, scales = {s[0], s[1], s[2]};
    const Vec3<float> t = to_camera(camera, mean);
    float norm;
    const Mat3<float> rotation =
        quat_to_rotation(quat_normalise(Quat<float>{q[0], q[1], q[2], q[3]}, norm));
    const EwaRows<float> rows = ewa_rows(camera, t);
    const FactorColumns<float> shared = make_factor_columns(
        camera, t, rows, rotation, scales, image_factor(rows, rotation, scales), root);
    float out[4 * kVectors] = {};
#pragma unroll
    for (int j = 0; j < kPoseColumns; ++j) {
        // for y = kRootScale u, which is what pixels compute; 1 / kRootScale^2 = 2 ln 2
        const ExponentColumn<float> column = pose_column(shared, j);
        out[5 * j] = unscale * column.m1, out[5 * j + 1] = unscale * column.m2;
        out[5 * j + 2] = 2.0f * kLn2 * column.s11, out[5 * j + 3] = 2.0f * kLn2 * column.s12;
        out[5 * j + 4] = 2.0f * kLn2 * column.s22;
    }
    if (kDirection) {
        float inv_length;
        const Vec3<float> d = view_direction(mean, camera.centre, inv_length);
#pragma unroll
        for (int c = 0; c < C; ++c) {
            if (!(record_colour<C>(record, c) > 0.0f)) continue;  // clamped colours don't change
            const Vec3<float> v = colour_column<C>(a, camera, i, c, d, inv_length);
            out[30 + 3 * c] = v.x, out[30 + 3 * c + 1] = v.y, out[30 + 3 * c + 2] = v.z;
        }
    }
#pragma unroll
    for (int k = 0; k < kVectors; ++k)
        to[k] = make_float4(out[4 * k], out[4 * k + 1], out[4 * k + 2], out[4 * k + 3]);
}

template <int C, bool kDirection>
__global__ __launch_bounds__(kSplatThreads) void splat_columns(PoseCudaNormal n) {
    __shared__ CameraModel<float> camera;
    const PoseCudaArgs& a = n.render;
    const int b = blockIdx.y;
    if (threadIdx.x == 0)
        camera = make_camera<float>(a.viewmats + 16 * b, a.intrinsics + 9 * b, a.width, a.height,
                                    a.near);
    __syncthreads();
    const int64_t i = int64_t(blockIdx.x) * kSplatThreads + threadIdx.x;
    const int64_t at = b * a.num_gaussians + i;
    if (i >= a.num_gaussians || a.radii[at] <= 0) return;
    constexpr int kVectors = kColumnVectors<C, kDirection>;
    write_columns<C, kDirection>(a, camera, at, i,
                                 reinterpret_cast<float4*>(n.columns) + at * kVectors);
}

// Number k of consecutive float4; k is known when compiling.
__device__ __forceinline__ float number(const float4* v, int k) {
    const float4 q = v[k / 4];
    return k % 4 == 0 ? q.x : k % 4 == 1 ? q.y : k % 4 == 2 ? q.z : q.w;
}

// A pixel's derivatives by the pose.
template <int C, bool kDirection> struct PixelColumns {
    float transmittance = 1.0f;
    float left[kPoseColumns] = {};        // of the transmittance
    float colour[C][kPoseColumns] = {};

    __device__ __forceinline__ void add(const float4* splat, const float4* columns, float x,
                                        float y, float alpha, bool& live) {
        const float moves_alpha = alpha < kAlphaMax ? 1.0f : 0.0f;  // before a stop makes it 0
        const float weight = pass_light(alpha, transmittance, live);
        const float moves = moves_alpha * weight;
        const float4 p = splat[0];
        const float dx = x - p.x, dy = y - p.y;
        const float y1 = p.z * dx + p.w * dy, y2 = splat[1].x * dy;
        const float y11 = y1 * y1, y12 = y1 * y2, y22 = y2 * y2;
        float dw[kPoseColumns];
#pragma unroll
        for (int j = 0; j < kPoseColumns; ++j) {
            const float power = number(columns, 5 * j) * y1 + number(columns, 5 * j + 1) * y2 +
                                number(columns, 5 * j + 2) * y11 +
                                number(columns, 5 * j + 3) * y12 + number(columns, 5 * j + 4) * y22;
            dw[j] = left[j] * alpha + moves * power;
            left[j] -= dw[j];
        }
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const float value = record_colour<C>(splat, c);
#pragma unroll
            for (int j = 0; j < kPoseColumns; ++j) {
                colour[c][j] += dw[j] * value;
                if (kDirection && j < 3) colour[c][j] += weight * number(columns, 30 + 3 * c + j);
            }
        }
    }
};

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
template <int kVectors>
__device__ __forceinline__ void stage_columns(const float4* from, const uint32_t* ids, int first,
                                              float4* to) {
    __syncwarp();  // the last ones have been used
#pragma unroll 4
    for (int k = threadIdx.x % 32; k < kNormalBatch * kVectors; k += 32)
        to[k] = __ldg(from + int64_t(ids[first + k / kVectors]) * kVectors + k % kVectors);
    __syncwarp();
}

template <int C, bool kDirection>
__global__ __launch_bounds__(kTileThreads, 2) void normal_tiles(PoseCudaNormal n) {
    constexpr int V = kSplatVectors<C>, E = kColumnVectors<C, kDirection>;
    static_assert(kListCapacity * 8 <= kWarps * kNormalBatch * E * 16, "keys must fit");
    static_assert(kWarps * kNormalSums<C> * 4 <= kTileThreads * V * 16, "sums must fit");
    __shared__ float4 splats[kTileThreads * V];
    __shared__ float4 extras[kWarps * kNormalBatch * E];
    __shared__ uint32_t queues[kWarps * kStageIds];
    __shared__ uint32_t own_ids[kTileThreads];  // of tiles without a list
    __shared__ uint8_t own_masks[kTileThreads];
    __shared__ int size;
    uint64_t* keys = reinterpret_cast<uint64_t*>(extras);  // only while no warp walks
    float* sums = reinterpret_cast<float*>(splats);        // [warps, kNormalSums], after the walk

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
    fold_pixel<C, kDirection>(n, pixel, columns, sums + warp * kNormalSums<C>);
    __syncthreads();
    for (int k = threadIdx.x; k < kNormalSums<C>; k += kTileThreads) {
        float sum = 0.0f;
        for (int w = 0; w < kWarps; ++w) sum += sums[w * kNormalSums<C> + k];
        n.parts[int64_t(pixel.tile) * kNormalSums<C> + k] = sum;
    }
}

// Writes sum k of camera b to where it belongs in the full symmetric system.
template <int C>
__device__ __forceinline__ void place_sum(const PoseCudaNormal& n, int b, int k, double value) {
    constexpr int P = kPoseColumns + 2 * C;
    double *hessian = n.hessian + int64_t(b) * P * P, *gradient = n.gradient + int64_t(b) * P;
    const auto set = [&](int row, int column) {
        hessian[row * P + column] = hessian[column * P + row] = value;
    };
    if (k < kPairs) {
        int row = 0, rest = k;
        while (rest >= kPoseColumns - row) rest -= kPoseColumns - row, ++row;
        set(row, row + rest);
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
template <int C> __global__ __launch_bounds__(kSystemThreads) void sum_systems(PoseCudaNormal n) {
    constexpr int kRows = kSystemThreads / 32, P = kPoseColumns + 2 * C;
    __shared__ double rows[kRows][32];
    const int tiles = TileGrid(n.render).count(), b = blockIdx.y;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, k = 32 * blockIdx.x + lane;
    double sum = 0.0;
    if (k < kNormalSums<C>) {
        const float* from = n.parts + int64_t(b) * tiles * kNormalSums<C> + k;
#pragma unroll 8
        for (int t = warp; t < tiles; t += kRows) sum += double(from[int64_t(t) * kNormalSums<C>]);
    }
    rows[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && k < kNormalSums<C>) {
        sum = 0.0;
        for (int w = 0; w < kRows; ++w) sum += rows[w][lane];
        place_sum<C>(n, b, k, sum);
    }
    if (blockIdx.x != 0) return;
    for (int at = threadIdx.x; at < P * P; at += kSystemThreads) {  // light of two channels
        const int row = at / P - kPoseColumns, column = at % P - kPoseColumns;
        if (row >= 0 && column >= 0 && row % C != column % C)
            n.hessian[int64_t(b) * P * P + at] = 0.0;
    }
}

}  // namespace pose_rasterizer
