// Projection, culling, depth order, colours and tile lists of one camera.
//
// The tile lists need no sort of their own: Gaussians are sorted by depth once and then appended to
// their tiles in that order (count, prefix sum, fill), so each list comes out front to back.
#include <algorithm>
#include <cmath>

#include "../common/covariance.h"
#include "../common/sh.h"
#include "channels.h"
#include "frame.h"
#include "pool.h"

namespace pose_rasterizer {
namespace {

constexpr int64_t kGaussiansPerBlock = 256;
constexpr int kMaxParts = 16;  // parts of the depth order that count and fill side by side

constexpr double kLog255 = 5.541263545158426;

static inline int tile_of(double px, int tiles) {
    return static_cast<int>(clamp(std::floor(px / kTile), 0.0, double(tiles - 1)));
}

// Projects Gaussian i. False where it can't be seen; otherwise fills its splat and radius.
bool project(const PoseScene& scene, Frame& frame, int64_t i, int32_t& radius) {
    const CameraModel<double>& camera = frame.camera;
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
    frame.splats[i] = {mean.x, mean.y, conic.xx, conic.xy, conic.yy,
                       static_cast<float>((0.5 * extent2 - kLog255) * kLog2E),
                       static_cast<float>(t.z),
                       tile_of(mean.y - half_y - 0.5, frame.tiles_y),
                       tile_of(mean.y + half_y - 0.5, frame.tiles_y)};
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

void sort_visible(Frame& frame, const int32_t* radii) {
    frame.keys.clear();
    for (int64_t i = 0; i < frame.num_gaussians; ++i) {
        if (radii[i] == 0) continue;
        uint32_t bits;
        std::memcpy(&bits, &frame.splats[i].z, sizeof(bits));
        frame.keys.push_back(uint64_t(bits) << 32 | uint32_t(i));
    }
    sort_by_depth(frame.keys, frame.keys_other);
}

// Colours of Gaussian i into out[C].
template <int C>
void colours_of(Channels<C> channels, const PoseScene& scene, Vec3<double> centre, int64_t i,
                float* out) {
    if (scene.num_coeffs == 0) {
        std::memcpy(out, scene.features + i * channels.count, sizeof(float) * channels.count);
        return;
    }
    const float* m = scene.means + 3 * i;
    double inv_length;
    const Vec3<double> d = view_direction(Vec3<double>{m[0], m[1], m[2]}, centre, inv_length);
    float basis[16];
    sh_basis(scene.sh_degree,
             Vec3<float>{static_cast<float>(d.x), static_cast<float>(d.y), static_cast<float>(d.z)},
             basis);
    const float* f = scene.features + i * scene.num_coeffs * channels.count;
    const int used = sh_num_coeffs(scene.sh_degree);
    for (int c = 0; c < channels.count; ++c) {
        float sum = 0.5f;
        for (int k = 0; k < used; ++k) sum += basis[k] * f[k * channels.count + c];
        out[c] = sum > 0.0f ? sum : 0.0f;
    }
}

// Tiles that the visible ellipse reaches in row ty of the tiles.
Span tile_row_span(const Frame& frame, const Splat& s, const Footprint<double>& foot,
                   double extent2, int ty) {
    constexpr double kSlack = 1e-3;  // px
    const Span none = {1, 0};
    const double top = ty * kTile + 0.5 - s.y, bottom = top + kTile - 1;  // pixel centres
    double x0, x1;
    if (!tile_span(foot, Sym2<double>{s.qxx, s.qxy, s.qyy}, extent2, top - kSlack, bottom + kSlack,
                   x0, x1))
        return none;
    const double first = std::ceil(s.x + x0 - kSlack - 0.5);  // pixels whose centres lie within
    const double last = std::floor(s.x + x1 + kSlack - 0.5);
    if (last < first || last < 0 || first > frame.camera.width - 1) return none;
    return {static_cast<uint16_t>(tile_of(first, frame.tiles_x)),
            static_cast<uint16_t>(tile_of(last, frame.tiles_x))};
}

// Fills the Gaussian's spans; returns how many tiles it reaches and counts them.
uint32_t count_tiles(Frame& frame, int64_t i, uint32_t* count) {
    const Splat& s = frame.splats[i];
    const double extent2 = 2 * kLog255 + 2 * s.log2_opacity / kLog2E + 1e-4;
    const double inv_det = 1.0 / (s.qxx * s.qyy - s.qxy * s.qxy);
    const Footprint<double> foot = make_footprint(
        Sym2<double>{s.qyy * inv_det, -s.qxy * inv_det, s.qxx * inv_det}, extent2);
    Span* spans = frame.spans.data() + frame.span_begin[i];
    uint32_t total = 0;
    for (int ty = s.tile_y0; ty <= s.tile_y1; ++ty) {
        const Span span = tile_row_span(frame, s, foot, extent2, ty);
        *spans++ = span;
        uint32_t* row = count + int64_t(ty) * frame.tiles_x;
        for (int tx = span.first; tx <= span.last; ++tx) ++row[tx];
        total += span.last >= span.first ? span.last - span.first + 1 : 0;
    }
    return total;
}

// Turns counts into places: slots per Gaussian, entries per tile and part. Returns the total.
uint64_t place_tiles(Frame& frame, int64_t parts) {
    const int64_t tiles = int64_t(frame.tiles_x) * frame.tiles_y;
    uint64_t total = 0;
    for (uint32_t& begin : frame.slot_begin) {
        const uint32_t count = begin;
        begin = static_cast<uint32_t>(total);
        total += count;
    }
    frame.tile_begin.resize(tiles + 1);
    uint32_t at = 0;
    for (int64_t t = 0; t < tiles; ++t) {
        frame.tile_begin[t] = at;
        for (int64_t p = 0; p < parts; ++p) {
            uint32_t& count = frame.histogram[p * tiles + t];
            const uint32_t c = count;
            count = at;
            at += c;
        }
    }
    frame.tile_begin[tiles] = at;
    return total;
}

// Lists each tile's Gaussians front to back. False: more than 2^31 entries.
bool bin(Frame& frame) {
    const int64_t n = static_cast<int64_t>(frame.keys.size());
    const int64_t tiles = int64_t(frame.tiles_x) * frame.tiles_y;
    const int64_t wanted = std::max(1, std::min(frame.num_threads, kMaxParts));
    const int64_t size = std::max<int64_t>((n + wanted - 1) / wanted, 1);
    const int64_t parts = (n + size - 1) / size;
    uint64_t num_spans = 0;
    frame.span_begin.resize(frame.num_gaussians);
    for (uint64_t key : frame.keys) {
        const uint32_t i = static_cast<uint32_t>(key);
        frame.span_begin[i] = num_spans;
        num_spans += frame.splats[i].tile_y1 - frame.splats[i].tile_y0 + 1;
    }
    frame.spans.resize(num_spans);
    frame.histogram.assign(size_t(parts * tiles), 0);
    frame.slot_begin.assign(frame.num_gaussians + 1, 0);
    parallel_ranges(frame.num_threads, n, size, [&](int64_t begin, int64_t end, int64_t part) {
        for (int64_t k = begin; k < end; ++k) {
            const uint32_t i = static_cast<uint32_t>(frame.keys[k]);
            frame.slot_begin[i] = count_tiles(frame, i, frame.histogram.data() + part * tiles);
        }
    });
    const uint64_t total = place_tiles(frame, parts);
    if (total > 0x7fffffffu) return false;
    frame.entries.resize(total);
    parallel_ranges(frame.num_threads, n, size, [&](int64_t begin, int64_t end, int64_t part) {
        uint32_t* place = frame.histogram.data() + part * tiles;
        for (int64_t k = begin; k < end; ++k) {
            const uint32_t i = static_cast<uint32_t>(frame.keys[k]);
            uint32_t slot = frame.slot_begin[i];
            const Span* span = frame.spans.data() + frame.span_begin[i];
            const Splat& s = frame.splats[i];
            for (int ty = s.tile_y0; ty <= s.tile_y1; ++ty, ++span) {
                uint32_t* row = place + int64_t(ty) * frame.tiles_x;
                for (int tx = span->first; tx <= span->last; ++tx)
                    frame.entries[row[tx]++] = {i, slot++};
            }
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
    frame.num_gaussians = scene.num_gaussians;
    frame.splats.resize(scene.num_gaussians);
    frame.colours.resize(scene.num_gaussians * scene.num_channels);
    with_channels(scene.num_channels, [&](auto channels) {
        parallel_ranges(frame.num_threads, scene.num_gaussians, kGaussiansPerBlock,
                        [&](int64_t begin, int64_t end, int64_t) {
            for (int64_t i = begin; i < end; ++i) {
                if (project(scene, frame, i, radii[i]))
                    colours_of(channels, scene, frame.camera.centre, i,
                               frame.colours.data() + i * channels.count);
                else
                    radii[i] = 0;
            }
        });
    });
    sort_visible(frame, radii);
    return bin(frame);
}

}  // namespace pose_rasterizer
