// The columns of every visible Gaussian: derivatives of its image and colours by the pose's numbers.
#pragma once
#include "../common/covariance.h"
#include "../common/pose_jvp.h"
#include "frame.h"
#include "pool.h"

namespace pose_rasterizer {

constexpr int kColumns = POSE_COLUMNS;
constexpr int64_t kGaussiansPerColumnBlock = 256;

// dmean and dcovariance of the columns, one column per lane (two are unused).
struct alignas(64) LaneColumns {
    Float8 mean_x, mean_y, xx, xy, yy;
};

struct Columns {
    std::vector<LaneColumns> splats;  // [N], of culled Gaussians unset
    std::vector<float> colours;       // [N, C, 3] by rho
};

// Derivative of channel c's SH sum by the direction, from the basis' own gradients.
inline Vec3<float> sh_direction_gradient(const Vec3<float>* basis, const float* f, int used,
                                         int stride) {
    Vec3<float> g = {0, 0, 0};
    for (int k = 1; k < used; ++k) g = g + f[k * stride] * basis[k];
    return g;
}

inline void sh_basis_gradients(int degree, Vec3<float> d, Vec3<float>* out) {
    const int used = sh_num_coeffs(degree);
    for (int k = 1; k < used; ++k) {
        float one[16] = {};
        one[k] = 1.0f;
        out[k] = sh_basis_vjp(degree, d, one);
    }
}

inline void splat_columns_of(const PoseScene& scene, const Frame& frame, int64_t i,
                             LaneColumns& out) {
    const float *m = scene.means + 3 * i, *q = scene.quats + 4 * i, *s = scene.scales + 3 * i;
    const CameraModel<double>& camera = frame.camera;
    const Vec3<double> t = to_camera(camera, Vec3<double>{m[0], m[1], m[2]});
    double norm;
    const Mat3<double> rotation =
        quat_to_rotation(quat_normalise(Quat<double>{q[0], q[1], q[2], q[3]}, norm));
    const SplatColumns<double> shared = make_splat_columns(
        camera, t, world_covariance(rotation, Vec3<double>{s[0], s[1], s[2]}));
    out.mean_x = out.mean_y = out.xx = out.xy = out.yy = splat(0.0f);
    for (int j = 0; j < kColumns; ++j) {
        const SplatColumn<double> column = pose_column(shared, j);
        out.mean_x[j] = static_cast<float>(column.mean_x);
        out.mean_y[j] = static_cast<float>(column.mean_y);
        out.xx[j] = static_cast<float>(column.xx);
        out.xy[j] = static_cast<float>(column.xy);
        out.yy[j] = static_cast<float>(column.yy);
    }
}

inline void colour_columns_of(const PoseScene& scene, const Frame& frame, int64_t i, float* out) {
    const int channels = scene.num_channels, used = sh_num_coeffs(scene.sh_degree);
    const float* m = scene.means + 3 * i;
    double length;
    const Vec3<double> d =
        view_direction(Vec3<double>{m[0], m[1], m[2]}, frame.camera.centre, length);
    Vec3<float> basis[16];
    sh_basis_gradients(scene.sh_degree,
                       Vec3<float>{static_cast<float>(d.x), static_cast<float>(d.y),
                                   static_cast<float>(d.z)},
                       basis);
    const float* f = scene.features + i * scene.num_coeffs * channels;
    const float* colour = frame.colours.data() + i * channels;
    for (int c = 0; c < channels; ++c, out += 3) {
        const Vec3<float> g = sh_direction_gradient(basis, f + c, used, channels);
        const Vec3<double> v =
            colour_columns(frame.camera, d, length, Vec3<double>{g.x, g.y, g.z});
        const bool shown = colour[c] > 0.0f;  // clamped colours don't change
        out[0] = shown ? static_cast<float>(v.x) : 0.0f;
        out[1] = shown ? static_cast<float>(v.y) : 0.0f;
        out[2] = shown ? static_cast<float>(v.z) : 0.0f;
    }
}

inline void make_columns(const PoseScene& scene, const Frame& frame, const int32_t* radii,
                         bool direction, Columns& columns) {
    columns.splats.resize(scene.num_gaussians);
    if (direction) columns.colours.resize(size_t(scene.num_gaussians) * scene.num_channels * 3);
    parallel_ranges(frame.num_threads, scene.num_gaussians, kGaussiansPerColumnBlock,
                    [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i) {
            if (radii[i] == 0) continue;
            splat_columns_of(scene, frame, i, columns.splats[i]);
            if (direction)
                colour_columns_of(scene, frame, i,
                                  columns.colours.data() + size_t(i) * scene.num_channels * 3);
        }
    });
}

}  // namespace pose_rasterizer
