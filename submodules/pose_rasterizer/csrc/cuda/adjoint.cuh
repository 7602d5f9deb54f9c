// From the sums per splat to the gradients of the inputs.
//
// A thread owns a Gaussian at a time. With gradients per Gaussian it loops over the cameras, so that
// each output is written by one thread in a fixed order; for the pose alone grid y is the camera. The
// pose's 15 numbers are added over the block by shuffles, then over blocks by the last block to
// finish, in double and in a fixed order.
#pragma once
#include "backward.cuh"

namespace pose_rasterizer {

constexpr int kAdjointThreads = 128;
constexpr float kTwoLn2 = 1.3862943611198906f;  // undoes the scale of the record's conic root

// Gradient of the camera: rotation rows, translation, camera position.
struct PoseSum {
    Mat3<float> rotation;
    Vec3<float> translation, centre;
};

// What a Gaussian receives from all cameras (features are added in memory).
struct GaussianSum {
    Vec3<float> mean, scales;
    Quat<float> quat;
    float opacity;
};

template <int C> struct SplatGradient {
    float v, v1, v2, v11, v12, v22;
    float colour[C];
    float z;

    __device__ __forceinline__ void load(const PoseCudaArgs& a, int64_t splat, float inverse) {
        constexpr int S = kSumFloats<C>;
        float parts[S];
        if (a.deterministic) {
            const long long* from = static_cast<const long long*>(a.sums) + splat * a.sum_stride;
#pragma unroll
            for (int k = 0; k < 7 + C; ++k) parts[k] = float(double(from[k]) * double(inverse));
        } else {
            const float4* from = static_cast<const float4*>(a.sums) + splat * (a.sum_stride / 4);
#pragma unroll
            for (int k = 0; k < S / 4; ++k) {
                const float4 p = from[k];
                parts[4 * k] = p.x, parts[4 * k + 1] = p.y, parts[4 * k + 2] = p.z;
                parts[4 * k + 3] = p.w;
            }
        }
        v = parts[0], v1 = parts[1], v2 = parts[2];
        v11 = parts[3], v12 = parts[4], v22 = parts[5];
#pragma unroll
        for (int c = 0; c < C; ++c) colour[c] = parts[6 + c];
        z = parts[6 + C];
    }
};

// v_features[k, c] = basis[k] v_colour[c]: overwrites, or adds for a later camera.
template <int C>
__device__ __forceinline__ void write_features(float* to, int num_coeffs, int used,
                                               const float* basis, const float* v, bool add) {
    if ((num_coeffs * C) % 4 == 0) {
        float4* rows = reinterpret_cast<float4*>(to);
#pragma unroll
        for (int q = 0; q < 4 * C; ++q) {
            if (q * 4 >= num_coeffs * C) break;
            float part[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                const int b = (4 * q + k) / C;
                part[k] = b < used ? basis[b] * v[(4 * q + k) % C] : 0.0f;
            }
            float4 out = make_float4(part[0], part[1], part[2], part[3]);
            if (add) {
                const float4 old = rows[q];
                out.x += old.x, out.y += old.y, out.z += old.z, out.w += old.w;
            }
            rows[q] = out;
        }
        return;
    }
#pragma unroll
    for (int b = 0; b < 16; ++b) {
        if (b >= num_coeffs) break;
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const float value = b < used ? basis[b] * v[c] : 0.0f;
            to[b * C + c] = value + (add ? to[b * C + c] : 0.0f);
        }
    }
}

// v_basis[k] = sum_c features[k, c] v_colour[c].
template <int C>
__device__ __forceinline__ void features_times(const float* f, int num_coeffs, int used,
                                               const float* v, float* v_basis) {
#pragma unroll
    for (int k = 0; k < 16; ++k) v_basis[k] = 0.0f;
    if ((num_coeffs * C) % 4 == 0) {
        const int needed = (used * C + 3) / 4;
#pragma unroll
        for (int q = 0; q < 4 * C; q += 4) {
            if (q >= needed) break;
            float4 row[4];
            load_row(reinterpret_cast<const float4*>(f), q, needed, row);
#pragma unroll
            for (int k = 0; k < 16; ++k) {
                const float4 w = row[k / 4];
                const float value = k % 4 == 0 ? w.x : k % 4 == 1 ? w.y : k % 4 == 2 ? w.z : w.w;
                v_basis[(4 * q + k) / C] += value * v[(4 * q + k) % C];
            }
        }
        return;
    }
#pragma unroll
    for (int k = 0; k < 16; ++k) {
        if (k >= used) break;
#pragma unroll
        for (int c = 0; c < C; ++c) v_basis[k] += __ldg(f + k * C + c) * v[c];
    }
}

// Colours to SH coefficients and, through the viewing direction, to the mean and the camera.
template <int C>
__device__ __forceinline__ void colour_vjp(const PoseCudaArgs& a, const CameraModel<float>& camera,
                                           int64_t i, Vec3<float> mean, uint32_t positive,
                                           SplatGradient<C>& g, bool add, Vec3<float>& v_mean,
                                           PoseSum& pose) {
    if (a.num_coeffs == 0) {
        if (a.v_features == nullptr) return;
        float* to = a.v_features + i * C;
#pragma unroll
        for (int c = 0; c < C; ++c) to[c] = g.colour[c] + (add ? to[c] : 0.0f);
        return;
    }
    const bool direction = a.num_coeffs > 1 && a.sh_degree > 0 &&
                           (a.v_means != nullptr || a.v_viewmats != nullptr);
    if (a.v_features == nullptr && !direction) return;
#pragma unroll
    for (int c = 0; c < C; ++c)
        if (!(positive >> c & 1u)) g.colour[c] = 0.0f;  // clamped at 0
    float inv_length;
    const Vec3<float> d = view_direction(mean, camera.centre, inv_length);
    const int used = sh_num_coeffs(a.sh_degree);
    const int64_t row = i * a.num_coeffs * C;
    float basis[16];
    if (a.v_features != nullptr) {
        sh_basis(a.sh_degree, d, basis);
        write_features<C>(a.v_features + row, a.num_coeffs, used, basis, g.colour, add);
    }
    if (!direction) return;
    features_times<C>(a.features + row, a.num_coeffs, used, g.colour, basis);
    const Vec3<float> v = view_direction_vjp(d, inv_length, sh_basis_vjp(a.sh_degree, d, basis));
    v_mean = v_mean + v;
    pose.centre = pose.centre - v;
}

// One camera's share of Gaussian i.
template <int C>
__device__ __forceinline__ void splat_vjp(const PoseCudaArgs& a, const CameraModel<float>& camera,
                                          int b, int64_t i, float inverse, bool add,
                                          GaussianSum& total, PoseSum& pose) {
    const int64_t splat = b * a.num_gaussians + i;
    SplatGradient<C> g;
    g.load(a, splat, inverse);
    ConicRoot<float> root;
    uint32_t positive;
    if (a.sums == a.v_features) {
        const float4 kept = (static_cast<const float4*>(a.sums) + splat * (a.sum_stride / 4))
            [kSumFloats<C> / 4];
        root = {kept.x, kept.y, kept.z};
        positive = __float_as_uint(kept.w);
    } else {
        const float4* record = reinterpret_cast<const float4*>(a.splats) + splat * kSplatVectors<C>;
        const float4 p = record[0];
        root = {p.z, p.w, record[1].x};
        positive = positive_colours<C>(record);
    }
    const float *m = a.means + 3 * i, *r = a.quats + 4 * i, *s = a.scales + 3 * i;
    const Vec3<float> mean = {m[0], m[1], m[2]}, scales = {s[0], s[1], s[2]};
    total.opacity += g.v / a.opacities[i];
    Vec3<float> v_mean = {0.0f, 0.0f, 0.0f};
    colour_vjp<C>(a, camera, i, mean, positive, g, add, v_mean, pose);

    const Vec2<float> v_xy = {kTwoLn2 * root.l11 * g.v1,
                              kTwoLn2 * (root.l21 * g.v1 + root.l22 * g.v2)};
    if (a.v_offsets != nullptr) {
        a.v_offsets[2 * splat] = v_xy.x, a.v_offsets[2 * splat + 1] = v_xy.y;
    }
    const Vec3<float> t = to_camera(camera, mean);
    const EwaRows<float> rows = ewa_rows(camera, t);
    float norm;
    const Quat<float> unit = quat_normalise(Quat<float>{r[0], r[1], r[2], r[3]}, norm);
    const Mat3<float> rotation = quat_to_rotation(unit);
    const ImageFactor<float> factor = image_factor(rows, rotation, scales);
    const float k = kTwoLn2 * kTwoLn2;
    const ImageFactor<float> v_factor =
        image_factor_vjp(factor, root,
                         Sym2<float>{k * g.v11, k * g.v12, k * g.v22});
    Vec3<float> v_u0, v_u1, v_t = project_point_vjp(camera, t, v_xy);
    v_t.z += g.z;
    factor_rows_vjp(rotation, scales, v_factor, v_u0, v_u1);
    ewa_rows_vjp(camera, rows, t, v_u0, v_u1, v_t, &pose.rotation);
    pose.rotation.row[0] = pose.rotation.row[0] + v_t.x * mean;
    pose.rotation.row[1] = pose.rotation.row[1] + v_t.y * mean;
    pose.rotation.row[2] = pose.rotation.row[2] + v_t.z * mean;
    pose.translation = pose.translation + v_t;
    total.mean = total.mean + (v_mean + mul_transposed(camera.rotation, v_t));
    if (a.v_quats == nullptr && a.v_scales == nullptr) return;
    Mat3<float> v_r;
    Vec3<float> v_s;
    factor_shape_vjp(rows, rotation, scales, v_factor, v_r, v_s);
    const Quat<float> v_q = quat_normalise_vjp(unit, norm, quat_to_rotation_vjp(unit, v_r));
    total.scales = total.scales + v_s;
    total.quat.w += v_q.w, total.quat.x += v_q.x, total.quat.y += v_q.y, total.quat.z += v_q.z;
}

// Adds the block's poses and stores the result as this block's part.
__device__ __forceinline__ void store_pose_part(const PoseSum& pose, float* part) {
    __shared__ float rows[kAdjointThreads / 32][kPoseFloats];
    const float* values = &pose.rotation.row[0].x;
    const int warp = threadIdx.x / 32;
#pragma unroll
    for (int k = 0; k < 15; ++k) {
        const float sum = warp_sum(values[k]);
        if (threadIdx.x % 32 == 0) rows[warp][k] = sum;
    }
    __syncthreads();
    if (threadIdx.x < kPoseFloats) {
        float sum = 0.0f;
        for (int w = 0; w < kAdjointThreads / 32 && threadIdx.x < 15; ++w)
            sum += rows[w][threadIdx.x];
        part[threadIdx.x] = sum;  // the padding is 0
    }
    __syncthreads();
}

// The last block's work: adds the parts of one camera and writes its v_viewmat.
// (Takes pointers, not the arguments: a reference would put all of them in local memory.)
__device__ __forceinline__ void finish_pose(const float* parts, const CameraModel<float>& camera,
                                            int blocks, float* to) {
    constexpr int kQuads = kPoseFloats / 4, kLanes = kAdjointThreads / kQuads;
    __shared__ double rows[kAdjointThreads / 32][kPoseFloats];
    const int quad = threadIdx.x % kQuads, lane = threadIdx.x / kQuads;
    double sum[4] = {};
#pragma unroll 8
    for (int k = lane; k < blocks; k += kLanes) {
        const float4 part = __ldcg(reinterpret_cast<const float4*>(parts) + int64_t(k) * kQuads + quad);
        sum[0] += double(part.x), sum[1] += double(part.y);
        sum[2] += double(part.z), sum[3] += double(part.w);
    }
#pragma unroll
    for (int v = 0; v < 4; ++v) {
        for (int offset = kQuads; offset < 32; offset *= 2)
            sum[v] += __shfl_xor_sync(kFullWarp, sum[v], offset);
        if (threadIdx.x % 32 < kQuads) rows[threadIdx.x / 32][4 * quad + v] = sum[v];
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double s[15];
        for (int k = 0; k < 15; ++k) {
            s[k] = 0.0;
            for (int w = 0; w < kAdjointThreads / 32; ++w) s[k] += rows[w][k];
        }
        CameraModel<double> c;
        for (int k = 0; k < 3; ++k) {
            const Vec3<float> row = camera.rotation.row[k];
            c.rotation.row[k] = {row.x, row.y, row.z};
        }
        c.translation = {camera.translation.x, camera.translation.y, camera.translation.z};
        Mat3<double> v = {{{s[0], s[1], s[2]}, {s[3], s[4], s[5]}, {s[6], s[7], s[8]}}};
        Vec3<double> v_translation = {s[9], s[10], s[11]};
        camera_centre_vjp(c, Vec3<double>{s[12], s[13], s[14]}, v, v_translation);
        const double t[3] = {v_translation.x, v_translation.y, v_translation.z};
        for (int k = 0; k < 3; ++k) {
            to[4 * k] = float(v.row[k].x), to[4 * k + 1] = float(v.row[k].y);
            to[4 * k + 2] = float(v.row[k].z), to[4 * k + 3] = float(t[k]);
        }
        for (int k = 12; k < 16; ++k) to[k] = 0.0f;
    }
    __syncthreads();
}

template <int C>
__device__ __forceinline__ void write_gaussian(const PoseCudaArgs& a, int64_t i,
                                               const GaussianSum& g, bool seen) {
    if (a.v_means != nullptr) {
        float* to = a.v_means + 3 * i;
        to[0] = g.mean.x, to[1] = g.mean.y, to[2] = g.mean.z;
    }
    if (a.v_quats != nullptr) {
        float* to = a.v_quats + 4 * i;
        to[0] = g.quat.w, to[1] = g.quat.x, to[2] = g.quat.y, to[3] = g.quat.z;
    }
    if (a.v_scales != nullptr) {
        float* to = a.v_scales + 3 * i;
        to[0] = g.scales.x, to[1] = g.scales.y, to[2] = g.scales.z;
    }
    if (a.v_opacities != nullptr) a.v_opacities[i] = g.opacity;
    if (a.v_features == nullptr || seen) return;
    const int size = (a.num_coeffs > 0 ? a.num_coeffs : 1) * C;
    float* to = a.v_features + i * size;
    for (int k = 0; k < size; ++k) to[k] = 0.0f;
}

__device__ __forceinline__ void load_camera(const PoseCudaArgs& a, int b,
                                            CameraModel<float>& camera) {
    __syncthreads();
    if (threadIdx.x == 0)
        camera = make_camera<float>(a.viewmats + 16 * b, a.intrinsics + 9 * b, a.width, a.height,
                                    a.near);
    __syncthreads();
}

// kGaussians: any gradient per Gaussian is wanted; else only the pose's. A block of one camera
// takes every gridDim.x-th group of Gaussians and adds its pose up once at the end.
template <int C, bool kGaussians>
__global__ __launch_bounds__(kAdjointThreads, kGaussians ? 3 : 6) void splats_adjoint(
    PoseCudaArgs a) {
    __shared__ CameraModel<float> camera;
    __shared__ bool last;
    const int first = kGaussians ? 0 : blockIdx.y, end = kGaussians ? a.num_cameras : first + 1;
    const bool many = end - first > 1, poses = a.v_viewmats != nullptr;
    const float inverse = a.deterministic ? 1.0f / fixed_scale(a) : 1.0f;
    const int64_t part = blockIdx.x, parts = gridDim.x;
    if (!many) load_camera(a, first, camera);
    PoseSum pose = {};
    for (int64_t group = part; group * kAdjointThreads < a.num_gaussians; group += parts) {
        const int64_t i = group * kAdjointThreads + threadIdx.x;
        GaussianSum total = {};
        bool seen = false;
        for (int b = first; b < end; ++b) {
            if (many) {
                load_camera(a, b, camera);
                pose = PoseSum{};
            }
            const int64_t at = b * a.num_gaussians + i;
            if (i < a.num_gaussians && a.radii[at] > 0) {
                splat_vjp<C>(a, camera, b, i, inverse, seen, total, pose);
                seen = true;
            } else if (i < a.num_gaussians && a.v_offsets != nullptr) {
                a.v_offsets[2 * at] = 0.0f, a.v_offsets[2 * at + 1] = 0.0f;
            }
            if (many && poses) store_pose_part(pose, a.pose_parts + (b * parts + part) * kPoseFloats);
        }
        if (kGaussians && i < a.num_gaussians) write_gaussian<C>(a, i, total, seen);
    }
    if (!poses) return;
    if (!many) store_pose_part(pose, a.pose_parts + (first * parts + part) * kPoseFloats);
    __threadfence();
    if (threadIdx.x == 0) last = atomicAdd(a.tickets + first, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    for (int b = first; b < end; ++b) {
        if (many) load_camera(a, b, camera);
        finish_pose(a.pose_parts + b * parts * kPoseFloats, camera, int(parts),
                    a.v_viewmats + 16 * b);
    }
}

}  // namespace pose_rasterizer
