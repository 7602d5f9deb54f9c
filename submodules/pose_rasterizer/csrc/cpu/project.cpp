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
constexpr uint64_t kMaxEntries = 0x7fffffff;
constexpr int kMaxParts = 16;  // parts of the depth order that count and fill side by side

constexpr double kLog255 = 5.541263545158426;

static inline int tile_of(double px, int tiles) {
    return static_cast<int>(clamp(std::floor(px / kTile), 0.0, double(tiles - 1)));
}

// Where a block's Gaussians lie in the image, culled or not.
struct Projected {
    double x[kGaussiansPerBlock], y[kGaussiansPerBlock], z[kGaussiansPerBlock];  // px, px, world units
    double xx[kGaussiansPerBlock], xy[kGaussiansPerBlock], yy[kGaussiansPerBlock];  // covariance, px^2
};

// Without branches and with unaliased pointers: the compiler makes vectors of several Gaussians.
void project_block(const CameraModel<double> camera, const float* __restrict means,
                   const float* __restrict quats, const float* __restrict scales, int64_t count,
                   Projected& __restrict out) {
    for (int64_t k = 0; k < count; ++k) {
        const float *m = means + 3 * k, *q = quats + 4 * k, *s = scales + 3 * k;
        const Vec3<double> t = to_camera(camera, Vec3<double>{m[0], m[1], m[2]});
        double norm;
        const Mat3<double> rotation =
            quat_to_rotation(quat_normalise(Quat<double>{q[0], q[1], q[2], q[3]}, norm));
        const Sym3<double> sigma = world_covariance(rotation, Vec3<double>{s[0], s[1], s[2]});
        const Sym2<double> cov = image_covariance(ewa_rows(camera, t), sigma);
        const Vec2<double> mean = project_point(camera, t);
        out.x[k] = mean.x, out.y[k] = mean.y, out.z[k] = t.z;
        out.xx[k] = cov.xx, out.xy[k] = cov.xy, out.yy[k] = cov.yy;
    }
}

// Gaussian i, which is number k of its block. False where it can't be seen; otherwise fills its splat,
// tile rows and radius.
bool place(const PoseScene& scene, Frame& frame, int64_t i, const Projected& block, int64_t k,
           int32_t& radius) {
    const CameraModel<double>& camera = frame.camera;
    if (!(block.z[k] > camera.near)) return false;
    const double extent2 = extent_squared<double>(scene.opacities[i]);
    if (!(extent2 > 0)) return false;
    const Sym2<double> cov = {block.xx[k], block.xy[k], block.yy[k]};
    Sym2<double> conic;
    if (!make_conic(cov, conic)) return false;
    Vec2<double> mean = {block.x[k], block.y[k]};
    if (scene.offset != nullptr) mean.x += scene.offset[2 * i], mean.y += scene.offset[2 * i + 1];
    const double half_x = std::sqrt(extent2 * cov.xx), half_y = std::sqrt(extent2 * cov.yy);
    if (!(mean.x + half_x > 0 && mean.x - half_x < camera.width && mean.y + half_y > 0 &&
          mean.y - half_y < camera.height))
        return false;
    frame.splats[i] = {mean.x, mean.y, conic.xx, conic.xy, conic.yy,
                       static_cast<float>((0.5 * extent2 - kLog255) * kLog2E),
                       static_cast<float>(block.z[k])};
    const int first = tile_of(mean.y - half_y - 0.5, frame.tiles_y);
    const int last = tile_of(mean.y + half_y - 0.5, frame.tiles_y);
    frame.tile_rows[i] = {0, static_cast<uint16_t>(first), static_cast<uint16_t>(last - first + 1)};
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
                float* __restrict out) {
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
    const float* __restrict f = scene.features + i * scene.num_coeffs * channels.count;
    const int used = sh_num_coeffs(scene.sh_degree);
    for (int c = 0; c < channels.count; ++c) out[c] = 0.5f;
    for (int k = 0; k < used; ++k)
        for (int c = 0; c < channels.count; ++c) out[c] += basis[k] * f[k * channels.count + c];
    for (int c = 0; c < channels.count; ++c) out[c] = out[c] > 0.0f ? out[c] : 0.0f;
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

// Fills the Gaussian's spans; returns how many tiles it reaches.
uint32_t fill_spans(Frame& frame, int64_t i) {
    const Splat& s = frame.splats[i];
    const TileRows rows = frame.tile_rows[i];
    const double extent2 = 2 * kLog255 + 2 * s.log2_opacity / kLog2E + 1e-4;
    const double inv_det = 1.0 / (s.qxx * s.qyy - s.qxy * s.qxy);
    const Footprint<double> foot = make_footprint(
        Sym2<double>{s.qyy * inv_det, -s.qxy * inv_det, s.qxx * inv_det}, extent2);
    uint32_t total = 0;
    for (int r = 0; r < rows.count; ++r) {
        const Span span = tile_row_span(frame, s, foot, extent2, rows.y + r);
        frame.spans[rows.first_span + r] = span;
        total += span.last >= span.first ? span.last - span.first + 1 : 0;
    }
    return total;
}

// Makes room for all spans and fills them. False: too many.
bool fill_all_spans(Frame& frame, const int32_t* radii) {
    uint64_t num_spans = 0;
    for (int64_t i = 0; i < frame.num_gaussians; ++i) {
        if (radii[i] == 0) continue;
        frame.tile_rows[i].first_span = static_cast<uint32_t>(num_spans);
        num_spans += frame.tile_rows[i].count;
    }
    if (num_spans > kMaxEntries) return false;
    frame.spans.resize(num_spans);
    frame.slot_begin.resize(frame.num_gaussians + 1);
    frame.slot_begin[frame.num_gaussians] = 0;
    parallel_ranges(frame.num_threads, frame.num_gaussians, kGaussiansPerBlock,
                    [&](int64_t begin, int64_t end, int64_t) {
        for (int64_t i = begin; i < end; ++i)
            frame.slot_begin[i] = radii[i] != 0 ? fill_spans(frame, i) : 0;
    });
    return true;
}

// Calls visit(gaussian, tile) for the tiles of the Gaussians begin..end in depth order.
template <class Visit>
void for_each_tile(const Frame& frame, int64_t begin, int64_t end, const Visit& visit) {
    for (int64_t k = begin; k < end; ++k) {
        const uint32_t i = static_cast<uint32_t>(frame.keys[k]);
        const TileRows rows = frame.tile_rows[i];
        const Span* span = frame.spans.data() + rows.first_span;
        for (int r = 0; r < rows.count; ++r, ++span) {
            const int64_t row = int64_t(rows.y + r) * frame.tiles_x;
            for (int tx = span->first; tx <= span->last; ++tx) visit(i, row + tx);
        }
    }
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
    frame.histogram.assign(size_t(parts * tiles), 0);
    parallel_ranges(frame.num_threads, n, size, [&](int64_t begin, int64_t end, int64_t part) {
        uint32_t* count = frame.histogram.data() + part * tiles;
        for_each_tile(frame, begin, end, [&](uint32_t, int64_t tile) { ++count[tile]; });
    });
    const uint64_t total = place_tiles(frame, parts);
    if (total > kMaxEntries) return false;
    frame.entries.resize(total);
    parallel_ranges(frame.num_threads, n, size, [&](int64_t begin, int64_t end, int64_t part) {
        uint32_t* place = frame.histogram.data() + part * tiles;
        uint32_t last = ~0u, slot = 0;
        for_each_tile(frame, begin, end, [&](uint32_t i, int64_t tile) {
            if (i != last) slot = frame.slot_begin[i];
            last = i;
            frame.entries[place[tile]++] = {i, slot++};
        });
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
    frame.tile_rows.resize(scene.num_gaussians);
    frame.colours.resize(scene.num_gaussians * scene.num_channels);
    with_channels(scene.num_channels, [&](auto channels) {
        parallel_ranges(frame.num_threads, scene.num_gaussians, kGaussiansPerBlock,
                        [&](int64_t begin, int64_t end, int64_t) {
            Projected block;
            project_block(frame.camera, scene.means + 3 * begin, scene.quats + 4 * begin,
                          scene.scales + 3 * begin, end - begin, block);
            for (int64_t i = begin; i < end; ++i) {
                if (place(scene, frame, i, block, i - begin, radii[i]))
                    colours_of(channels, scene, frame.camera.centre, i,
                               frame.colours.data() + i * channels.count);
                else
                    radii[i] = 0;
            }
        });
    });
    if (!fill_all_spans(frame, radii)) return false;
    sort_visible(frame, radii);
    return bin(frame);
}

}  // namespace pose_rasterizer
