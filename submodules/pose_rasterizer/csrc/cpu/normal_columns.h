// The columns of every visible Gaussian: derivatives of image and colours by the pose's numbers.
#pragma once
#include "../common/covariance.h"
#include "../common/pose_jvp.h"
#include "channels.h"
#include "frame.h"
#include "pool.h"

namespace pose_rasterizer {

constexpr int kColumns = POSE_COLUMNS;
constexpr int64_t kGaussiansPerColumnBlock = 256;
constexpr int64_t kGaussiansAhead = 16;  // whose coefficients are fetched in advance

// dmean and dcovariance of the columns, one column per lane (two are unused).
struct alignas(64) LaneColumns {
    Float8 mean_x, mean_y, xx, xy, yy;
};

struct Columns {
    std::vector<LaneColumns> splats;  // [N], of culled Gaussians unset
    std::vector<float> colours;       // [N, 3, C] by rho
};

// Eight channels at once, for the templates of sh.h.
struct ChannelLanes {
    Float8 v;
    ChannelLanes() = default;
    ChannelLanes(Float8 from) : v(from) {}
    ChannelLanes(double same) : v(splat(static_cast<float>(same))) {}
    ChannelLanes operator-() const { return -v; }
    ChannelLanes& operator+=(ChannelLanes b) { return v += b.v, *this; }
};
inline ChannelLanes operator+(ChannelLanes a, ChannelLanes b) { return a.v + b.v; }
inline ChannelLanes operator-(ChannelLanes a, ChannelLanes b) { return a.v - b.v; }
inline ChannelLanes operator*(ChannelLanes a, ChannelLanes b) { return a.v * b.v; }

typedef double Double4 __attribute__((vector_size(32)));
typedef Vec3<Double4> LaneVec3;

// a . b with the same a in every lane.
static inline Double4 lane_dot(Vec3<double> a, const LaneVec3& b) {
    return a.x * b.x + a.y * b.y + a.z * b.z;
}

// `splat_column` (pose_jvp.h) of four motions at once, one per lane, into the lanes from `first`.
inline void lane_columns(const SplatColumns<double>& s, const LaneVec3& dt, const LaneVec3& phi,
                         int first, LaneColumns& out) {
    const EwaRows<double>& e = s.ewa;
    const Double4 shrink = -e.inv_z * dt.z;
    const double in_x = e.inside_x ? e.inv_z : 0.0, in_y = e.inside_y ? e.inv_z : 0.0;
    const Double4 dux = in_x * (dt.x - s.ux * dt.z), duy = in_y * (dt.y - s.uy * dt.z);
    const Double4 dj00 = e.j00 * shrink, dj11 = e.j11 * shrink;
    // dJ_k + J_k x phi
    const LaneVec3 d0 = {dj00 - e.j02 * phi.y, e.j02 * phi.x - e.j00 * phi.z,
                         e.j00 * phi.y - dj00 * s.ux - e.j00 * dux};
    const LaneVec3 d1 = {e.j11 * phi.z - e.j12 * phi.y, dj11 + e.j12 * phi.x,
                         -e.j11 * phi.x - dj11 * s.uy - e.j11 * duy};
    const auto store = [first](Float8& to, Double4 v) {
        const Float4 some = __builtin_convertvector(v, Float4);
        std::memcpy(reinterpret_cast<float*>(&to) + first, &some, sizeof(some));
    };
    store(out.mean_x, e.j00 * (dt.x + s.point.x * shrink));
    store(out.mean_y, e.j11 * (dt.y + s.point.y * shrink));
    store(out.xx, 2.0 * lane_dot(s.w0, d0));
    store(out.xy, lane_dot(s.w1, d0) + lane_dot(s.w0, d1));
    store(out.yy, 2.0 * lane_dot(s.w1, d1));
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
    // The motions of pose_column: rho_x, rho_y, rho_z, phi_x and phi_y, phi_z; the rest is unused.
    const Double4 none = {0, 0, 0, 0};
    const LaneVec3 dt = {Double4{1, 0, 0, 0}, Double4{0, 1, 0, -t.z}, Double4{0, 0, 1, t.y}};
    const LaneVec3 phi = {Double4{0, 0, 0, 1}, none, none};
    const LaneVec3 dt_turned = {Double4{t.z, -t.y}, Double4{0, t.x}, Double4{-t.x, 0}};
    const LaneVec3 phi_turned = {none, Double4{1, 0}, Double4{0, 1}};
    lane_columns(shared, dt, phi, 0, out);
    lane_columns(shared, dt_turned, phi_turned, 4, out);
}

// Derivatives of Gaussian i's colours by rho, [3, C].
template <int C>
inline void colour_columns_of(Channels<C> channels, const PoseScene& scene, const Frame& frame,
                              int64_t i, float* out) {
    const int count = channels.count, used = sh_num_coeffs(scene.sh_degree);
    const float* m = scene.means + 3 * i;
    double inv_length;
    const Vec3<double> to_gaussian =
        view_direction(Vec3<double>{m[0], m[1], m[2]}, frame.camera.centre, inv_length);
    const Vec3<ChannelLanes> d = {to_gaussian.x, to_gaussian.y, to_gaussian.z};
    const float* f = scene.features + i * scene.num_coeffs * count;
    const float* colour = frame.colours.data() + i * count;
    for (int c = 0; c < count; c += kLanes) {
        const int some = count - c < kLanes ? count - c : kLanes;
        ChannelLanes coefficients[16];
        for (int k = 1; k < used; ++k) coefficients[k] = first_lanes(f + k * count + c, some);
        const Vec3<ChannelLanes> v = view_direction_vjp(
            d, ChannelLanes(inv_length), sh_basis_vjp(scene.sh_degree, d, coefficients));
        // clamped colours don't change
        const Int8 shown = first_lanes(colour + c, some) > splat(0.0f);
        for (int j = 0; j < 3; ++j) {  // as colour_columns
            const Vec3<double>& axis = frame.camera.rotation.row[j];
            const Float8 by_rho =
                keep(dot(Vec3<ChannelLanes>{axis.x, axis.y, axis.z}, v).v, shown);
            std::memcpy(out + j * count + c, &by_rho, some * sizeof(float));
        }
    }
}

template <int C>
inline void make_columns(Channels<C> channels, const PoseScene& scene, const Frame& frame,
                         const int32_t* radii, bool direction, Columns& columns) {
    columns.splats.resize(scene.num_gaussians);
    if (direction) columns.colours.resize(size_t(scene.num_gaussians) * channels.count * 3);
    parallel_ranges(frame.num_threads, scene.num_gaussians, kGaussiansPerColumnBlock,
                    [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i) {
            if (direction && i + kGaussiansAhead < scene.num_gaussians) {
                const float* f = scene.features +
                                 (i + kGaussiansAhead) * scene.num_coeffs * channels.count;
                for (int at = 0; at < scene.num_coeffs * channels.count; at += 16)
                    __builtin_prefetch(f + at);
            }
            if (radii[i] == 0) continue;
            splat_columns_of(scene, frame, i, columns.splats[i]);
            if (direction)
                colour_columns_of(channels, scene, frame, i,
                                  columns.colours.data() + size_t(i) * channels.count * 3);
        }
    });
}

}  // namespace pose_rasterizer
