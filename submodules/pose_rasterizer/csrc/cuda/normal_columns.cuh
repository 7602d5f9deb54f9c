// Derivatives by the six numbers of the pose step: of every splat, and of a pixel as it blends them.
//
// splat_columns: a thread owns a Gaussian of one camera and writes 5 numbers per pose column
// (factor_jvp.h), and 3 per colour where colours depend on the camera's position. PixelColumns blends
// them front to back:
//   dw = dT alpha + w d exponent,  dT <- dT - dw,  dF_c <- dF_c + dw colour_c + w dcolour_c
// with w = T alpha.
#pragma once
#include "../common/factor_jvp.h"
#include "forward.cuh"

namespace pose_rasterizer {

constexpr int kPoseColumns = POSE_COLUMNS;
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

}  // namespace pose_rasterizer
