// Projection, culling, depth order, colours and tile lists of one camera.
//
// The tile lists need no sort of their own: Gaussians are sorted by depth once and then appended to
// their tiles in that order (count, prefix sum, fill), so each list comes out front to back.
#include <algorithm>
#include <cmath>

#include "../common/covariance.h"
#include "../common/sh.h"
#include "frame.h"
#include "pool.h"

namespace pose_rasterizer {
namespace {

constexpr int64_t kGaussiansPerBlock = 256;
constexpr int kMaxParts = 16;  // parts of the depth order that count and fill side by side

// Projects Gaussian i. False where it can't be seen; otherwise fills the splat and its radius.
bool project(const PoseScene& scene, const CameraModel<double>& camera, int64_t i, Splat& splat,
             int32_t& radius) {
    const float* m = scene.means + 3 * i;
    const Vec3<double> t = to_camera(camera, Vec3<double>{m[0], m[1], m[2]});
    if (!(t.z > camera.near)) return false;
    const double extent2 = extent_squared<double>(scene.opacities[i]);
    if (!(extent2 > 0)) return false;
    const float *q = scene.quats + 4 * i, *s = scene.scales + 3 * i;
    double norm;
    const Mat3<double> rotation =
        quat_to_rotation(quat_normalise(Quat<double>{q[0], q[1], q[2], q[3]}, norm));
    const Sym3<double> sigma = world_covariance(rotation, Vec3<double>{s[0], s[1], s[2]});
    const Sym2<double> cov = image_covariance(ewa_rows(camera, t), sigma);
    Sym2<double> conic;
    if (!make_conic(cov, conic)) return false;
    Vec2<double> mean = project_point(camera, t);
    if (scene.offset != nullptr) mean.x += scene.offset[2 * i], mean.y += scene.offset[2 * i + 1];
    const double half_x = std::sqrt(extent2 * cov.xx), half_y = std::sqrt(extent2 * cov.yy);
    if (!(mean.x + half_x > 0 && mean.x - half_x < camera.width && mean.y + half_y > 0 &&
          mean.y - half_y < camera.height))
        return false;
    splat = {mean.x, mean.y, conic.xx, conic.xy, conic.yy,
             static_cast<float>(std::log2(static_cast<double>(scene.opacities[i]))),
             static_cast<float>(t.z)};
    radius = static_cast<int32_t>(std::ceil(std::min(long_half_axis(cov, extent2), 1e9)));
    return true;
}

// Stable radix sort of (float bits << 32 | index) by the float bits, which are positive.
void sort_by_depth(std::vector<uint64_t>& keys, std::vector<uint64_t>& other) {
    other.resize(keys.size());
    for (int shift = 32; shift < 64; shift += 11) {
        uint32_t count[2048] = {};
        for (uint64_t k : keys) ++count[(k >> shift) & 2047];
        uint32_t sum = 0;
        for (uint32_t& c : count) {
            const uint32_t n = c;
            c = sum;
            sum += n;
        }
        for (uint64_t k : keys) other[count[(k >> shift) & 2047]++] = k;
        keys.swap(other);
    }
}

void sort_visible(const PoseScene& scene, Frame& frame, const int32_t* radii) {
    frame.keys.clear();
    frame.culled.clear();
    for (int64_t i = 0; i < scene.num_gaussians; ++i) {
        if (radii[i] == 0) {
            frame.culled.push_back(i);
            continue;
        }
        uint32_t bits;
        std::memcpy(&bits, &frame.unsorted[i].z, sizeof(bits));
        frame.keys.push_back(uint64_t(bits) << 32 | uint32_t(i));
    }
    sort_by_depth(frame.keys, frame.keys_other);
    frame.ids.resize(frame.keys.size());
    frame.splats.resize(frame.keys.size());
}

// Colours of Gaussian i into out[C].
void colours_of(const PoseScene& scene, const CameraModel<double>& camera, int64_t i, float* out) {
    const int channels = scene.num_channels;
    if (scene.num_coeffs == 0) {
        std::memcpy(out, scene.features + i * channels, sizeof(float) * channels);
        return;
    }
    const float* m = scene.means + 3 * i;
    double inv_length;
    const Vec3<double> d =
        view_direction(Vec3<double>{m[0], m[1], m[2]}, camera.centre, inv_length);
    float basis[16];
    sh_basis(scene.sh_degree,
             Vec3<float>{static_cast<float>(d.x), static_cast<float>(d.y), static_cast<float>(d.z)},
             basis);
    const float* f = scene.features + i * scene.num_coeffs * channels;
    for (int c = 0; c < channels; ++c) out[c] = 0.5f;
    for (int k = 0; k < sh_num_coeffs(scene.sh_degree); ++k)
        for (int c = 0; c < channels; ++c) out[c] += basis[k] * f[k * channels + c];
    for (int c = 0; c < channels; ++c) out[c] = out[c] > 0.0f ? out[c] : 0.0f;
}

static inline int tile_of(double px, int tiles) {
    return static_cast<int>(clamp(std::floor(px / kTile), 0.0, double(tiles - 1)));
}

// Calls visit(tile_y, first tile_x, last tile_x) for each row of tiles that the splat reaches.
template <class Visit> void for_each_tile_row(const Frame& frame, const Splat& s, Visit visit) {
    constexpr double kSlack = 1e-3;  // px
    const double extent2 = 2 * std::log(255.0) + 2 * s.log2_opacity / kLog2E + 1e-4;
    const double det = s.qxx * s.qyy - s.qxy * s.qxy;
    const Sym2<double> conic = {s.qxx, s.qxy, s.qyy};
    const Footprint<double> foot =
        make_footprint(Sym2<double>{s.qyy / det, -s.qxy / det, s.qxx / det}, extent2);
    const int y_first = tile_of(s.y - foot.half_y - 0.5, frame.tiles_y);
    const int y_last = tile_of(s.y + foot.half_y - 0.5, frame.tiles_y);
    for (int ty = y_first; ty <= y_last; ++ty) {
        const double top = ty * kTile + 0.5 - s.y, bottom = top + kTile - 1;  // pixel centres
        double x0, x1;
        if (!tile_span(foot, conic, extent2, top - kSlack, bottom + kSlack, x0, x1)) continue;
        // pixel centres within [x0, x1]
        const double first = std::ceil(s.x + x0 - kSlack - 0.5), last = std::floor(s.x + x1 + kSlack - 0.5);
        if (last < first || last < 0 || first > frame.camera.width - 1) continue;
        visit(ty, tile_of(first, frame.tiles_x), tile_of(last, frame.tiles_x));
    }
}

// Lists each tile's splats front to back. False: more than 2^31 entries.
bool bin(const PoseScene& scene, Frame& frame) {
    const int64_t n = frame.num_splats(), tiles = int64_t(frame.tiles_x) * frame.tiles_y;
    int parts = std::max(1, std::min(frame.num_threads, kMaxParts));
    const int64_t size = std::max<int64_t>((n + parts - 1) / parts, 1);
    parts = static_cast<int>((n + size - 1) / size);
    frame.histogram.assign(size_t(parts) * tiles, 0);
    frame.slot_begin.resize(n + 1);
    parallel_ranges(frame.num_threads, n, size, [&](int64_t begin, int64_t end, int64_t part) {
        uint32_t* count = frame.histogram.data() + part * tiles;
        for (int64_t k = begin; k < end; ++k) {
            const int64_t i = static_cast<uint32_t>(frame.keys[k]);
            frame.ids[k] = i;
            frame.splats[k] = frame.unsorted[i];
            colours_of(scene, frame.camera, i, frame.colours.data() + k * frame.num_channels);
            uint32_t total = 0;
            for_each_tile_row(frame, frame.splats[k], [&](int ty, int x0, int x1) {
                uint32_t* row = count + int64_t(ty) * frame.tiles_x;
                for (int tx = x0; tx <= x1; ++tx) ++row[tx];
                total += x1 - x0 + 1;
            });
            frame.slot_begin[k + 1] = total;
        }
    });
    frame.slot_begin[0] = 0;
    uint64_t total = 0;
    for (int64_t k = 0; k < n; ++k) {
        total += frame.slot_begin[k + 1];
        frame.slot_begin[k + 1] = static_cast<uint32_t>(total);
    }
    if (total > 0x7fffffffu) return false;
    frame.entries.resize(total);
    frame.tile_begin.resize(tiles + 1);
    uint32_t at = 0;
    for (int64_t t = 0; t < tiles; ++t) {
        frame.tile_begin[t] = at;
        for (int p = 0; p < parts; ++p) {  // counts become places
            uint32_t& count = frame.histogram[p * tiles + t];
            const uint32_t c = count;
            count = at;
            at += c;
        }
    }
    frame.tile_begin[tiles] = at;
    parallel_ranges(frame.num_threads, n, size, [&](int64_t begin, int64_t end, int64_t part) {
        uint32_t* place = frame.histogram.data() + part * tiles;
        for (int64_t k = begin; k < end; ++k) {
            uint32_t slot = frame.slot_begin[k];
            for_each_tile_row(frame, frame.splats[k], [&](int ty, int x0, int x1) {
                uint32_t* row = place + int64_t(ty) * frame.tiles_x;
                for (int tx = x0; tx <= x1; ++tx)
                    frame.entries[row[tx]++] = {static_cast<uint32_t>(k), slot++};
            });
        }
    });
    return true;
}

}  // namespace

bool build_frame(const PoseScene& scene, Frame& frame, int32_t* radii) {
    frame.camera = make_camera<double>(scene.viewmat, scene.intrinsics, scene.width, scene.height,
                                       scene.near);
    frame.tiles_x = (scene.width + kTile - 1) / kTile;
    frame.tiles_y = (scene.height + kTile - 1) / kTile;
    frame.num_threads = scene.num_threads;
    frame.num_channels = scene.num_channels;
    frame.unsorted.resize(scene.num_gaussians);
    parallel_ranges(frame.num_threads, scene.num_gaussians, kGaussiansPerBlock,
                    [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i)
            if (!project(scene, frame.camera, i, frame.unsorted[i], radii[i])) radii[i] = 0;
    });
    sort_visible(scene, frame, radii);
    frame.colours.resize(frame.ids.size() * frame.num_channels);
    return bin(scene, frame);
}

}  // namespace pose_rasterizer
