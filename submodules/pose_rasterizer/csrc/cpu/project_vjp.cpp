// From the sums per (Gaussian, tile) to the gradients of the inputs. What nobody asked for is
// skipped: with only `v_viewmat` wanted, nothing is written per Gaussian.
#include "../common/covariance.h"
#include "../common/sh.h"
#include "channels.h"
#include "frame.h"
#include "pool.h"

namespace pose_rasterizer {
namespace {

constexpr int64_t kGaussiansPerBlock = 128;

struct PoseSum {
    Mat3<double> rotation{};
    Vec3<double> translation{}, centre{};
};

template <int N> static inline void write(float* to, const double (&v)[N], int64_t i, bool add) {
    if (to == nullptr) return;
    for (int k = 0; k < N; ++k) to[i * N + k] = static_cast<float>(v[k]) + (add ? to[i * N + k] : 0.0f);
}

// Sums over a Gaussian's pixels, dp = dL/d(log alpha): of dp, dp e, dp e e^T, w dL/d(depth).
struct SplatSums {
    double sum, ex, ey, exx, exy, eyy, z;
};

void clear(float* to, int64_t i, int64_t size) {
    if (to != nullptr) std::memset(to + i * size, 0, sizeof(float) * size);
}

void clear_culled(const PoseScene& scene, const PoseGradients& grads, int64_t i) {
    clear(grads.v_offset, i, 2);
    if (grads.accumulate != 0) return;
    clear(grads.v_means, i, 3);
    clear(grads.v_quats, i, 4);
    clear(grads.v_scales, i, 3);
    clear(grads.v_opacities, i, 1);
    clear(grads.v_features, i,
          int64_t(scene.num_channels) * (scene.num_coeffs > 0 ? scene.num_coeffs : 1));
}

// What the image leaves for the geometry of a block's Gaussians, and what becomes of it.
struct SumsBlock {
    double ex[kGaussiansPerBlock], ey[kGaussiansPerBlock];
    double exx[kGaussiansPerBlock], exy[kGaussiansPerBlock], eyy[kGaussiansPerBlock];
    double z[kGaussiansPerBlock];
    void put(int64_t k, const SplatSums& s) {
        ex[k] = s.ex, ey[k] = s.ey, exx[k] = s.exx, exy[k] = s.exy, eyy[k] = s.eyy, z[k] = s.z;
    }
};
struct GeometryBlock {
    double mean[3][kGaussiansPerBlock], quat[4][kGaussiansPerBlock], scale[3][kGaussiansPerBlock];
};

// Image mean, image covariance and depth to the Gaussians' geometry. Without branches and with
// unaliased pointers: the compiler makes vectors of several Gaussians. Of culled ones the result is
// meaningless.
void geometry_block(const CameraModel<double> camera, const float* __restrict means,
                    const float* __restrict quats, const float* __restrict scales, int64_t count,
                    const SumsBlock& __restrict in, GeometryBlock& __restrict out) {
    for (int64_t k = 0; k < count; ++k) {
        const float *m = means + 3 * k, *q = quats + 4 * k, *s = scales + 3 * k;
        const Vec3<double> t = to_camera(camera, Vec3<double>{m[0], m[1], m[2]});
        const Vec3<double> size = {s[0], s[1], s[2]};
        double norm;
        const Quat<double> unit = quat_normalise(Quat<double>{q[0], q[1], q[2], q[3]}, norm);
        const Mat3<double> rotation = quat_to_rotation(unit);
        const Sym3<double> sigma = world_covariance(rotation, size);
        const EwaRows<double> rows = ewa_rows(camera, t);
        const Sym2<double> v_cov = {0.5 * in.exx[k], 0.5 * in.exy[k], 0.5 * in.eyy[k]};
        Vec3<double> v_t = project_point_vjp(camera, t, Vec2<double>{in.ex[k], in.ey[k]});
        v_t.z += in.z[k];
        image_covariance_vjp_camera<double>(camera, rows, t, sigma, v_cov, v_t, nullptr);
        const Vec3<double> v_mean = mul_transposed(camera.rotation, v_t);
        Mat3<double> v_r;
        Vec3<double> v_s;
        world_covariance_vjp(rotation, size, image_covariance_vjp_world(rows, v_cov), v_r, v_s);
        const Quat<double> v_q = quat_normalise_vjp(unit, norm, quat_to_rotation_vjp(unit, v_r));
        out.mean[0][k] = v_mean.x, out.mean[1][k] = v_mean.y, out.mean[2][k] = v_mean.z;
        out.quat[0][k] = v_q.w, out.quat[1][k] = v_q.x, out.quat[2][k] = v_q.y;
        out.quat[3][k] = v_q.z;
        out.scale[0][k] = v_s.x, out.scale[1][k] = v_s.y, out.scale[2][k] = v_s.z;
    }
}

template <int C> class FrameVjp {
  public:
    FrameVjp(Channels<C> channels, const PoseScene& scene, const Frame& frame,
             const PoseGradients& grads)
        : channels_(channels), scene_(scene), frame_(frame), grads_(grads),
          geometry_(grads.v_quats != nullptr || grads.v_scales != nullptr),
          direction_((grads.v_means != nullptr || grads.v_viewmat != nullptr) &&
                     scene.num_coeffs > 1 && scene.sh_degree > 0),
          points_(geometry_ || grads.v_means != nullptr || grads.v_viewmat != nullptr) {}

    // Whether any pixel saw Gaussian i: of those behind a surface none did, and their gradient is 0.
    bool seen(int64_t i) const {
        for (uint32_t e = frame_.slot_begin[i]; e < frame_.slot_begin[i + 1]; ++e)
            if (frame_.record_tile[e] != kNoRecord) return true;
        return false;
    }

    // The Gaussians begin..end, at most a block; `v_colour` is scratch for C floats.
    void block(int64_t begin, int64_t end, const int32_t* radii, PoseSum& pose,
               float* v_colour) const {
        SumsBlock sums{};
        Vec3<double> v_means[kGaussiansPerBlock];
        bool any[kGaussiansPerBlock];
        const bool add = grads_.accumulate != 0;
        const bool at_once = points_ && grads_.v_viewmat == nullptr;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t k = i - begin;
            any[k] = radii[i] != 0 && seen(i);
            if (!any[k]) {
                clear_culled(scene_, grads_, i);
                continue;
            }
            const SplatSums s = add_records(i, v_colour);
            write(grads_.v_opacities, {s.sum / scene_.opacities[i]}, i, add);
            write(grads_.v_offset, {s.ex, s.ey}, i, false);  // a camera's own
            const float* m = scene_.means + 3 * i;
            const Vec3<double> mean = {m[0], m[1], m[2]};
            v_means[k] = {0, 0, 0};
            colours(i, mean, v_colour, v_means[k], pose);
            if (at_once) sums.put(k, s);
            else if (points_) point(i, mean, s, v_means[k], pose);
        }
        if (!at_once) {
            for (int64_t i = begin; i < end; ++i)
                if (any[i - begin]) write_mean(i, v_means[i - begin], add);
            return;
        }
        GeometryBlock found;
        geometry_block(frame_.camera, scene_.means + 3 * begin, scene_.quats + 4 * begin,
                       scene_.scales + 3 * begin, end - begin, sums, found);
        for (int64_t i = begin; i < end; ++i) {
            const int64_t k = i - begin;
            if (!any[k]) continue;
            write_mean(i, v_means[k] + Vec3<double>{found.mean[0][k], found.mean[1][k],
                                                    found.mean[2][k]}, add);
            write(grads_.v_quats, {found.quat[0][k], found.quat[1][k], found.quat[2][k],
                                   found.quat[3][k]}, i, add);
            write(grads_.v_scales, {found.scale[0][k], found.scale[1][k], found.scale[2][k]}, i,
                  add);
        }
    }

  private:
    void write_mean(int64_t i, Vec3<double> v, bool add) const {
        write(grads_.v_means, {v.x, v.y, v.z}, i, add);
    }

    // Adds the tiles' sums up about the Gaussian's mean, d = pixel - mean, and turns them into sums
    // over e = Q d.
    SplatSums add_records(int64_t i, float* v_colour) const {
        const int channels = channels_.count;
        for (int c = 0; c < channels; ++c) v_colour[c] = 0.0f;
        const Splat& splat = frame_.splats[i];
        double s0 = 0, sx = 0, sy = 0, sxx = 0, sxy = 0, syy = 0, sz = 0;
        for (uint32_t e = frame_.slot_begin[i]; e < frame_.slot_begin[i + 1]; ++e) {
            const uint32_t tile = frame_.record_tile[e];
            if (tile == kNoRecord) continue;
            const double dx = (int(tile & 0xffff) + 0.5) * kTile - splat.x;
            const double dy = (int(tile >> 16) + 0.5) * kTile - splat.y;
            const float* r = frame_.records.data() + size_t(e) * (kSumColour + channels);
            const double t0 = r[kSum], tx = r[kSumX] + t0 * dx, ty = r[kSumY] + t0 * dy;
            s0 += t0;
            sx += tx;
            sy += ty;
            sxx += r[kSumXX] + dx * (r[kSumX] + tx);
            sxy += r[kSumXY] + dy * r[kSumX] + dx * ty;
            syy += r[kSumYY] + dy * (r[kSumY] + ty);
            sz += r[kSumZ];
            for (int c = 0; c < channels; ++c) v_colour[c] += r[kSumColour + c];
        }
        const double a = splat.qxx, b = splat.qxy, c = splat.qyy;
        const double txx = a * sxx + b * sxy, txy = a * sxy + b * syy;
        const double tyx = b * sxx + c * sxy, tyy = b * sxy + c * syy;
        return {s0, a * sx + b * sy, b * sx + c * sy,
                txx * a + txy * b, txx * b + txy * c, tyx * b + tyy * c, sz};
    }

    // Colours to SH coefficients and, through the viewing direction, to the mean and the camera.
    void colours(int64_t i, Vec3<double> mean, float* __restrict v_colour, Vec3<double>& v_mean,
                 PoseSum& pose) const {
        const int channels = channels_.count, num_coeffs = scene_.num_coeffs;
        const bool add = grads_.accumulate != 0;
        if (num_coeffs == 0) {
            if (grads_.v_features == nullptr) return;
            float* v = grads_.v_features + i * channels;
            for (int c = 0; c < channels; ++c) v[c] = v_colour[c] + (add ? v[c] : 0.0f);
            return;
        }
        if (grads_.v_features == nullptr && !direction_) return;
        const float* colour = frame_.colours.data() + i * channels;
        for (int c = 0; c < channels; ++c)
            if (!(colour[c] > 0.0f)) v_colour[c] = 0.0f;  // clamped at 0
        double inv_length;
        const Vec3<double> d = view_direction(mean, frame_.camera.centre, inv_length);
        const Vec3<float> df = {static_cast<float>(d.x), static_cast<float>(d.y),
                                static_cast<float>(d.z)};
        const int used = sh_num_coeffs(scene_.sh_degree);
        float basis[16];
        if (grads_.v_features != nullptr) {
            sh_basis(scene_.sh_degree, df, basis);
            float* __restrict v = grads_.v_features + i * num_coeffs * channels;
            for (int b = 0; b < num_coeffs; ++b) {
                const float y = b < used ? basis[b] : 0.0f;
                for (int c = 0; c < channels; ++c)
                    v[b * channels + c] = y * v_colour[c] + (add ? v[b * channels + c] : 0.0f);
            }
        }
        if (!direction_) return;
        const float* f = scene_.features + i * num_coeffs * channels;
        basis[0] = 0.0f;
        for (int b = 1; b < used; ++b) {
            float sum = 0.0f;
            for (int c = 0; c < channels; ++c) sum += f[b * channels + c] * v_colour[c];
            basis[b] = sum;
        }
        const Vec3<float> v = sh_basis_vjp(scene_.sh_degree, df, basis);
        const Vec3<double> through = view_direction_vjp(d, inv_length, Vec3<double>{v.x, v.y, v.z});
        v_mean = v_mean + through;
        pose.centre = pose.centre - through;
    }

    // The same as `geometry_block` for one Gaussian, and the camera's gradient.
    void point(int64_t i, Vec3<double> mean, const SplatSums& s, Vec3<double>& v_mean,
               PoseSum& pose) const {
        const CameraModel<double>& camera = frame_.camera;
        const Vec3<double> t = to_camera(camera, mean);
        const float *q = scene_.quats + 4 * i, *sc = scene_.scales + 3 * i;
        const Vec3<double> scales = {sc[0], sc[1], sc[2]};
        double norm;
        const Quat<double> unit = quat_normalise(Quat<double>{q[0], q[1], q[2], q[3]}, norm);
        const Mat3<double> rotation = quat_to_rotation(unit);
        const Sym3<double> sigma = world_covariance(rotation, scales);
        const EwaRows<double> rows = ewa_rows(camera, t);
        const Sym2<double> v_cov = {0.5 * s.exx, 0.5 * s.exy, 0.5 * s.eyy};
        const bool add = grads_.accumulate != 0;
        if (grads_.v_means != nullptr || grads_.v_viewmat != nullptr) {
            Vec3<double> v_t = project_point_vjp(camera, t, Vec2<double>{s.ex, s.ey});
            v_t.z += s.z;
            Mat3<double>* v_rotation = grads_.v_viewmat != nullptr ? &pose.rotation : nullptr;
            image_covariance_vjp_camera(camera, rows, t, sigma, v_cov, v_t, v_rotation);
            v_mean = v_mean + mul_transposed(camera.rotation, v_t);
            if (grads_.v_viewmat != nullptr) {
                pose.rotation.row[0] = pose.rotation.row[0] + v_t.x * mean;
                pose.rotation.row[1] = pose.rotation.row[1] + v_t.y * mean;
                pose.rotation.row[2] = pose.rotation.row[2] + v_t.z * mean;
                pose.translation = pose.translation + v_t;
            }
        }
        if (!geometry_) return;
        Mat3<double> v_r;
        Vec3<double> v_s;
        world_covariance_vjp(rotation, scales, image_covariance_vjp_world(rows, v_cov), v_r, v_s);
        const Quat<double> v_q = quat_normalise_vjp(unit, norm, quat_to_rotation_vjp(unit, v_r));
        write(grads_.v_quats, {v_q.w, v_q.x, v_q.y, v_q.z}, i, add);
        write(grads_.v_scales, {v_s.x, v_s.y, v_s.z}, i, add);
    }

    const Channels<C> channels_;
    const PoseScene& scene_;
    const Frame& frame_;
    const PoseGradients& grads_;
    const bool geometry_, direction_, points_;
};

// In the caller's order, so that inputs and outputs stream through memory. One sum per block of
// Gaussians, added up in order afterwards.
template <int C>
void all_gaussians(Channels<C> channels, const PoseScene& scene, const Frame& frame,
                   const int32_t* radii, const PoseGradients& grads, std::vector<PoseSum>& sums) {
    const FrameVjp<C> vjp(channels, scene, frame, grads);
    parallel_ranges(frame.num_threads, frame.num_gaussians, kGaussiansPerBlock,
                    [&](int64_t begin, int64_t end, int64_t block) {
        std::vector<float> v_colour(channels.count);
        PoseSum pose;
        vjp.block(begin, end, radii, pose, v_colour.data());
        sums[block] = pose;
    });
}

}  // namespace

void frame_vjp(const PoseScene& scene, const Frame& frame, const int32_t* radii,
               const PoseGradients& grads) {
    std::vector<PoseSum> sums((frame.num_gaussians + kGaussiansPerBlock - 1) / kGaussiansPerBlock);
    with_channels(scene.num_channels, [&](auto channels) {
        all_gaussians(channels, scene, frame, radii, grads, sums);
    });
    if (grads.v_viewmat == nullptr) return;
    PoseSum total;
    for (const PoseSum& s : sums) {
        for (int r = 0; r < 3; ++r)
            total.rotation.row[r] = total.rotation.row[r] + s.rotation.row[r];
        total.translation = total.translation + s.translation;
        total.centre = total.centre + s.centre;
    }
    camera_centre_vjp(frame.camera, total.centre, total.rotation, total.translation);
    const double t[3] = {total.translation.x, total.translation.y, total.translation.z};
    for (int r = 0; r < 3; ++r) {
        const Vec3<double> v = total.rotation.row[r];
        const double row[4] = {v.x, v.y, v.z, t[r]};
        for (int c = 0; c < 4; ++c) grads.v_viewmat[4 * r + c] = static_cast<float>(row[c]);
    }
    for (int c = 0; c < 4; ++c) grads.v_viewmat[12 + c] = 0.0f;
}

}  // namespace pose_rasterizer
