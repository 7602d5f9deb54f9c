// Normal equations of pose and light for one camera: J^T W J, J^T W r and the cost in one pass.
//
// Each pixel blends, beside its colours, their six derivatives by the pose step, front to back:
//   dw = dT alpha + T dalpha,  dT <- dT - dw,  dF_c <- dF_c + dw colour_c + w dcolour_c
// with dalpha = alpha dpower. Within a tile dpower of a column is a quadratic polynomial of the
// pixel's offset, as power itself (tile.h). A tile's derivatives lie in the L1 cache and are folded
// into the sums before the next tile; the blocks' sums are added in a fixed order, so the result
// doesn't depend on the threads. Derivation: docs/method_refinement.md.
#include "../common/export.h"
#include "../common/normal_schema.h"
#include "channels.h"
#include "normal_columns.h"
#include "normal_tile.h"
#include "pool.h"
#include "tile.h"

namespace pose_rasterizer {
namespace {

constexpr int kPairs = kColumns * (kColumns + 1) / 2;
constexpr int64_t kTilesPerBlock = 4;

// Places of the sums: pose pairs, pose gradient, cost, then per channel what meets the light.
constexpr int kGradient = kPairs;
constexpr int kCost = kGradient + kColumns;
constexpr int kLight = kCost + 1;
// Per channel: pose x gain (6), pose x offset (6), gg, go, oo, gradient of gain and of offset.
constexpr int kLightSums = 2 * kColumns + 5;
constexpr int num_sums(int channels) { return kLight + kLightSums * channels; }

// State of a row: derivatives of the transmittance (6), colours (C), their derivatives (C, 6).
inline int row_size(int channels) { return kColumns + channels * (1 + kColumns); }

template <int C, bool kDirection> struct JacobianVisitor {
    TileLight& light;
    const Frame& frame;
    const Columns& columns;
    const Channels<C> channels;
    const double centre_x, centre_y;
    Float8* state;  // [row, row_size]
    const float* colour = nullptr;
    const float* colour_by_rho = nullptr;
    Float8 k0{}, k1{}, k2{}, k4{}, k5{};     // polynomial of dpower, a column per lane
    alignas(32) float k3[kLanes] = {};

    void begin(uint32_t i) {
        colour = frame.colours.data() + size_t(i) * channels.count;
        if (kDirection) colour_by_rho = columns.colours.data() + size_t(i) * channels.count * 3;
        // dpower = e . dmean + e^T dcov e / 2 with e = Q (pixel - mean), linear in the offset
        const Splat& s = frame.splats[i];
        const double dx = centre_x - s.x, dy = centre_y - s.y;
        const Float8 ex = splat(static_cast<float>(s.qxx * dx + s.qxy * dy));
        const Float8 ey = splat(static_cast<float>(s.qxy * dx + s.qyy * dy));
        const Float8 a = splat(static_cast<float>(s.qxx)), b = splat(static_cast<float>(s.qxy)),
                     c = splat(static_cast<float>(s.qyy)), half = splat(0.5f);
        const LaneColumns& d = columns.splats[i];
        const Float8 hx = d.xx * ex + d.xy * ey, hy = d.xy * ex + d.yy * ey;  // dcov e
        const Float8 u = d.mean_x + hx, v = d.mean_y + hy;
        k0 = ex * (d.mean_x + half * hx) + ey * (d.mean_y + half * hy);
        k1 = a * u + b * v;
        k2 = b * u + c * v;
        const Float8 xa = d.xx * a + d.xy * b, ya = d.xy * a + d.yy * b;  // dcov Q
        const Float8 xb = d.xx * b + d.xy * c, yb = d.xy * b + d.yy * c;
        const Float8 quadratic = half * (a * xa + b * ya);
        k4 = b * xa + c * ya;
        k5 = half * (b * xb + c * yb);
        std::memcpy(k3, &quadratic, sizeof(quadratic));
    }

    void row(int r, Float8 power) {
        Float8 before;
        const Float8 alpha = light.pass(r, power, before);
        if (lane_bits(alpha > splat(0.0f)) == 0) return;
        const Float8 weight = alpha * before;
        const Float8 moves = keep(weight, alpha < splat(static_cast<float>(POSE_ALPHA_MAX)));
        const Float8 x = lane_offsets(), y = splat(lane_offsets()[r]);
        alignas(32) float r0[kLanes], r1[kLanes];
        const Float8 row0 = k0 + y * (k2 + y * k5), row1 = k1 + y * k4;
        std::memcpy(r0, &row0, sizeof(row0));
        std::memcpy(r1, &row1, sizeof(row1));
        Float8* at = state + r * row_size(channels.count);
        Float8 dw[kColumns];
        for (int j = 0; j < kColumns; ++j) {
            const Float8 dpower = splat(r0[j]) + x * (splat(r1[j]) + x * splat(k3[j]));
            dw[j] = at[j] * alpha + moves * dpower;
            at[j] -= dw[j];
        }
        Float8* f = at + kColumns;
        Float8* df = f + channels.count;
        for (int c = 0; c < channels.count; ++c, df += kColumns) {
            const Float8 value = splat(colour[c]);
            f[c] += weight * value;
            if (kDirection) {
                for (int j = 0; j < 3; ++j)
                    df[j] += dw[j] * value + weight * splat(colour_by_rho[3 * c + j]);
            } else {
                for (int j = 0; j < 3; ++j) df[j] += dw[j] * value;
            }
            for (int j = 3; j < kColumns; ++j) df[j] += dw[j] * value;
        }
    }
    void end(const TilePower&) {}
    void skip(uint32_t) {}
};

static inline Float8 load_lanes(const float* from, int columns) {
    Float8 v = splat(0.0f);
    if (columns == kLanes) std::memcpy(&v, from, sizeof(v));
    else for (int i = 0; i < columns; ++i) v[i] = from[i];
    return v;
}
static inline void store_lanes(float* to, Float8 v, int columns) {
    if (columns == kLanes) std::memcpy(to, &v, sizeof(v));
    else for (int i = 0; i < columns; ++i) to[i] = v[i];
}

// Geman-McClure: rho = r^2 / 2 / (1 + r^2 / s^2); the weight of the normal equations is rho'/r.
static inline Float8 add_robust(Float8 r, Float8 weight, float inv_scale2, Float8& cost) {
    const Float8 square = r * r;
    const Float8 damp = splat(1.0f) / (splat(1.0f) + square * splat(inv_scale2));
    cost += splat(0.5f) * weight * square * damp;
    return weight * damp * damp;
}

static inline void add_pose(const Float8* j, Float8 w, Float8 r, Float8* sums) {
    int at = 0;
    for (int a = 0; a < kColumns; ++a) {
        const Float8 wj = w * j[a];
        for (int b = a; b < kColumns; ++b) sums[at++] += wj * j[b];
        sums[kGradient + a] += wj * r;
    }
}

static inline void add_light(const Float8* j, Float8 w, Float8 r, Float8 f, Float8 a, Float8* s) {
    const Float8 wf = w * f, wa = w * a;
    for (int k = 0; k < kColumns; ++k) {
        s[k] += wf * j[k];
        s[kColumns + k] += wa * j[k];
    }
    s += 2 * kColumns;
    s[0] += wf * f, s[1] += wf * a, s[2] += wa * a;
    s[3] += wf * r, s[4] += wa * r;
}

struct Problem {
    const PoseScene& scene;
    const PoseResiduals& residuals;
    const PoseNormalEquations& out;
    std::vector<float> inv_scale2;  // [C]
};

// Folds one row of a tile into the sums, [num_sums] vectors of eight pixels.
template <int C>
void add_row(const Problem& p, const Channels<C>& channels, size_t at, int columns,
             const Float8* state, Float8 left, Float8* sums) {
    const PoseResiduals& in = p.residuals;
    const size_t pixels = size_t(p.scene.width) * p.scene.height;
    const Float8 alpha = splat(1.0f) - left;
    const Float8 *d_left = state, *f = state + kColumns, *df = f + channels.count;
    Float8 j[kColumns];
    for (int c = 0; c < channels.count; ++c, df += kColumns) {
        const float gain = in.gain[c], offset = in.offset[c], back = in.backdrop[c];
        const Float8 value = f[c];
        const Float8 r = splat(gain) * value + splat(offset) * alpha + splat(back) * left -
                         load_lanes(in.target + c * pixels + at, columns);
        const Float8 w = add_robust(r, load_lanes(in.weight + c * pixels + at, columns),
                                    p.inv_scale2[c], sums[kCost]);
        for (int k = 0; k < kColumns; ++k)
            j[k] = splat(gain) * df[k] + splat(back - offset) * d_left[k];
        add_pose(j, w, r, sums);
        add_light(j, w, r, value, alpha, sums + kLight + c * kLightSums);
        store_lanes(p.out.image + c * pixels + at, value, columns);
    }
    store_lanes(p.out.alpha + at, alpha, columns);
    if (in.silhouette_target == nullptr) return;
    const Float8 r = alpha - load_lanes(in.silhouette_target + at, columns);
    const Float8 w =
        add_robust(r, load_lanes(in.silhouette_weight + at, columns), 0.0f, sums[kCost]);
    for (int k = 0; k < kColumns; ++k) j[k] = -d_left[k];
    add_pose(j, w, r, sums);
}

// A window's weights, target and image row by row, normalised. False: nothing to compare.
struct Window {
    Float8 m[kTile], q[kTile], w[kTile];
    WindowMoments moments;

    bool load(const float* target, const float* weight, size_t at, int stride, int columns,
              int rows, float floor, float scale) {
        for (int r = 0; r < rows; ++r, at += stride) {
            q[r] = load_lanes(target + at, columns);
            w[r] = load_lanes(weight + at, columns);
        }
        return normalise_window(m, q, w, rows, floor, scale, moments);
    }
};

// Folds a tile into the sums as a window per channel; `total` as the sums, without light.
template <int C>
void add_windows(const Problem& p, const Channels<C>& channels, size_t at, int columns, int rows,
                 const Float8* state, const Float8* left, bool empty, double* total) {
    const PoseResiduals& in = p.residuals;
    const int stride = p.scene.width, size = row_size(channels.count);
    const size_t pixels = size_t(stride) * p.scene.height;
    Window window;
    for (int c = 0; c <= channels.count; ++c) {
        const bool shape = c == channels.count;
        if (shape && in.silhouette_target == nullptr) break;
        const float back = shape ? 0.0f : in.backdrop[c];
        float* shown = shape ? p.out.alpha : p.out.image + c * pixels;
        for (int r = 0; r < rows; ++r) {
            window.m[r] = shape ? splat(1.0f) - left[r]
                                : state[r * size + kColumns + c] + splat(back) * left[r];
            if (!shape)
                store_lanes(shown + at + size_t(r) * stride, state[r * size + kColumns + c],
                            columns);
        }
        const float* target = shape ? in.silhouette_target : in.target + c * pixels;
        const float* weight = shape ? in.silhouette_weight : in.weight + c * pixels;
        const float scale = shape ? in.silhouette_scale : in.robust_scale[c];
        if (!window.load(target, weight, at, stride, columns, rows, in.contrast_floor, scale))
            continue;
        total[kCost] += window.moments.cost;
        if (empty) continue;
        const Float8* first = state + kColumns + channels.count + c * kColumns;
        const auto derivatives = [&](int r, Float8* j) {
            const Float8 *d_left = state + r * size, *df = first + r * size;
            for (int k = 0; k < kColumns; ++k)
                j[k] = shape ? -d_left[k] : df[k] + splat(back) * d_left[k];
        };
        add_window<kColumns>(window.m, window.q, window.w, rows, window.moments, derivatives,
                             total, total + kGradient);
    }
    for (int r = 0; r < rows; ++r)
        store_lanes(p.out.alpha + at + size_t(r) * stride, splat(1.0f) - left[r], columns);
}

template <int C, bool kDirection>
void add_tile(const Problem& p, const Frame& frame, const Columns& columns, int tile,
              Float8* scratch, double* total) {
    const Channels<C> channels(p.scene.num_channels);
    const int x0 = tile % frame.tiles_x * kTile, y0 = tile / frame.tiles_x * kTile;
    const int width = p.scene.width - x0 < kTile ? p.scene.width - x0 : kTile;
    const int height = p.scene.height - y0 < kTile ? p.scene.height - y0 : kTile;
    const int size = row_size(channels.count), count = num_sums(channels.count);
    Float8 *state = scratch, *sums = scratch + kTile * size;
    for (int i = 0; i < kTile * size + count; ++i) scratch[i] = splat(0.0f);
    TileLight light;
    light.start(width, height);
    JacobianVisitor<C, kDirection> visitor{light, frame, columns, channels, x0 + 0.5 * kTile,
                                           y0 + 0.5 * kTile, state};
    walk_tile(frame, tile, light, visitor);
    if (p.residuals.window_light != 0) {
        const bool empty = frame.tile_begin[tile] == frame.tile_begin[tile + 1];
        add_windows<C>(p, channels, size_t(y0) * p.scene.width + x0, width, height, state,
                       light.transmittance, empty, total);
        return;
    }
    for (int r = 0; r < height; ++r)
        add_row<C>(p, channels, size_t(y0 + r) * p.scene.width + x0, width, state + r * size,
                   light.transmittance[r], sums);
    for (int i = 0; i < count; ++i) total[i] += sum_lanes(sums[i]);
}

template <int C, bool kDirection>
void add_all(const Problem& p, const Frame& frame, const Columns& columns, double* total) {
    const int64_t tiles = int64_t(frame.tiles_x) * frame.tiles_y;
    const int count = num_sums(p.scene.num_channels);
    const int64_t blocks = (tiles + kTilesPerBlock - 1) / kTilesPerBlock;
    std::vector<double> parts(size_t(blocks) * count, 0.0);
    parallel_ranges(frame.num_threads, tiles, kTilesPerBlock,
                    [&](int64_t begin, int64_t end, int64_t block) {
        constexpr int kLocal = C > 0 ? kTile * (kColumns + C * (1 + kColumns)) + num_sums(C) : 1;
        Float8 local[kLocal];
        std::vector<Float8> heap(C > 0 ? 0 : kTile * row_size(p.scene.num_channels) + count);
        Float8* scratch = C > 0 ? local : heap.data();
        for (int64_t t = begin; t < end; ++t)
            add_tile<C, kDirection>(p, frame, columns, int(t), scratch,
                                    parts.data() + block * count);
    });
    for (int64_t b = 0; b < blocks; ++b)
        for (int i = 0; i < count; ++i) total[i] += parts[b * count + i];
}

// From the sums to the full symmetric system.
void fill_system(const double* sums, int channels, bool with_light,
                 const PoseNormalEquations& out) {
    const int size = kColumns + (with_light ? 2 * channels : 0);
    for (int i = 0; i < size * size; ++i) out.hessian[i] = 0.0;
    const auto set = [&](int a, int b, double v) {
        out.hessian[a * size + b] = out.hessian[b * size + a] = v;
    };
    int at = 0;
    for (int a = 0; a < kColumns; ++a)
        for (int b = a; b < kColumns; ++b) set(a, b, sums[at++]);
    for (int a = 0; a < kColumns; ++a) out.gradient[a] = sums[kGradient + a];
    *out.cost = sums[kCost];
    if (!with_light) return;
    for (int c = 0; c < channels; ++c) {
        const double* s = sums + kLight + c * kLightSums;
        const int gain = kColumns + c, offset = gain + channels;
        for (int a = 0; a < kColumns; ++a) {
            set(a, gain, s[a]);
            set(a, offset, s[kColumns + a]);
        }
        s += 2 * kColumns;
        set(gain, gain, s[0]);
        set(gain, offset, s[1]);
        set(offset, offset, s[2]);
        out.gradient[gain] = s[3];
        out.gradient[offset] = s[4];
    }
}

template <int C>
void add_some(Channels<C>, bool direction, const Problem& p, const Frame& frame,
              const Columns& columns, double* total) {
    if (direction) add_all<C, true>(p, frame, columns, total);
    else add_all<C, false>(p, frame, columns, total);
}

void normal_equations(const PoseScene& scene, const Frame& frame, const PoseResiduals& residuals,
                      const PoseNormalEquations& out) {
    const bool direction =
        residuals.direction_term != 0 && scene.num_coeffs > 1 && scene.sh_degree > 0;
    static thread_local Columns columns;  // keeps its memory, like the frame
    make_columns(scene, frame, out.radii, direction, columns);
    Problem problem{scene, residuals, out, {}};
    for (int c = 0; c < scene.num_channels; ++c) {
        const float s = residuals.robust_scale[c];
        problem.inv_scale2.push_back(s > 0.0f ? 1.0f / (s * s) : 0.0f);
    }
    std::vector<double> sums(num_sums(scene.num_channels), 0.0);
    const Columns& shared = columns;  // the threads see this one
    with_channels(scene.num_channels, [&](auto channels) {
        add_some(channels, direction, problem, frame, shared, sums.data());
    });
    fill_system(sums.data(), scene.num_channels, residuals.window_light == 0, out);
}

}  // namespace
}  // namespace pose_rasterizer

// 0: done, 1: too many tile entries or out of memory.
POSE_EXPORT int32_t pose_cpu_normal_equations(
    const PoseScene* scene, const PoseResiduals* residuals, const PoseNormalEquations* out) {
    using namespace pose_rasterizer;
    try {
        static thread_local Frame frame;  // keeps its memory for the next step
        if (!build_frame(*scene, frame, out->radii)) return 1;
        normal_equations(*scene, frame, *residuals, *out);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
