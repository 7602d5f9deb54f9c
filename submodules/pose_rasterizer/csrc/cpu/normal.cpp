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
#include "normal_tile.h"
#include "normal_visitor.h"
#include "pool.h"

namespace pose_rasterizer {
namespace {

constexpr int kPairs = kColumns * (kColumns + 1) / 2;
constexpr int64_t kTilesPerBlock = 4;
constexpr int kTilesAhead = 8;  // whose pixels are fetched in advance

// Places of the sums: pose pairs, pose gradient, cost, then per channel what meets the light.
constexpr int kGradient = kPairs;
constexpr int kCost = kGradient + kColumns;
constexpr int kLight = kCost + 1;
// Per channel: pose x gain (6), pose x offset (6), gg, go, oo, gradient of gain and of offset.
constexpr int kLightSums = 2 * kColumns + 5;
constexpr int num_sums(int channels) { return kLight + kLightSums * channels; }

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

// Folds one row of a step into the sums, [num_sums] vectors of eight pixels.
template <int C>
void add_row(const Problem& p, const Channels<C>& channels, size_t at, int columns,
             const Float* state, int row, Float8 left, Float8* sums) {
    const PoseResiduals& in = p.residuals;
    const size_t pixels = size_t(p.scene.width) * p.scene.height;
    const Float8 alpha = splat(1.0f) - left;
    const Float *d_left = state, *f = state + kColumns, *df = f + channels.count;
    Float8 j[kColumns];
    for (int c = 0; c < channels.count; ++c, df += kColumns) {
        const float gain = in.gain[c], offset = in.offset[c], back = in.backdrop[c];
        const Float8 value = Rows<R>::row(f[c], row);
        const Float8 r = splat(gain) * value + splat(offset) * alpha + splat(back) * left -
                         load_lanes(in.target + c * pixels + at, columns);
        const Float8 w = add_robust(r, load_lanes(in.weight + c * pixels + at, columns),
                                    p.inv_scale2[c], sums[kCost]);
        for (int k = 0; k < kColumns; ++k)
            j[k] = splat(gain) * Rows<R>::row(df[k], row) +
                   splat(back - offset) * Rows<R>::row(d_left[k], row);
        add_pose(j, w, r, sums);
        add_light(j, w, r, value, alpha, sums + kLight + c * kLightSums);
        store_lanes(p.out.image + c * pixels + at, value, columns);
    }
    store_lanes(p.out.alpha + at, alpha, columns);
    if (in.silhouette_target == nullptr) return;
    const Float8 r = alpha - load_lanes(in.silhouette_target + at, columns);
    const Float8 w =
        add_robust(r, load_lanes(in.silhouette_weight + at, columns), 0.0f, sums[kCost]);
    for (int k = 0; k < kColumns; ++k) j[k] = -Rows<R>::row(d_left[k], row);
    add_pose(j, w, r, sums);
}

// R rows of an image from `at`; what lies outside the tile is 0.
static inline Float load_step(const float* from, size_t at, int stride, int columns, int rows) {
    Float8 lines[R];
    if (columns == kLanes && rows >= R) {  // apart, so that the lines stay in registers
        for (int k = 0; k < R; ++k) lines[k] = lanes(from + at + size_t(k) * stride);
        return Rows<R>::of(lines);
    }
    for (int k = 0; k < R; ++k)
        lines[k] = k < rows ? load_lanes(from + at + size_t(k) * stride, columns) : splat(0.0f);
    return Rows<R>::of(lines);
}
static inline void store_step(float* to, Float v, size_t at, int stride, int columns, int rows) {
    for (int k = 0; k < R && k < rows; ++k)
        store_lanes(to + at + size_t(k) * stride, Rows<R>::row(v, k), columns);
}

// A window's weights, target and image, normalised; R rows a step.
struct Window {
    Float m[kSteps], q[kSteps], w[kSteps];
    WindowMoments moments;
};

// Folds a tile into the sums as a window per channel; `total` as the sums, without light.
template <int C>
void add_windows(const Problem& p, const Channels<C>& channels, size_t first, int columns, int rows,
                 const Float* state, const Float* left, bool empty, double* total) {
    const PoseResiduals& in = p.residuals;
    const int stride = p.scene.width, size = step_size(channels.count);
    const int steps = (rows + R - 1) / R;
    const size_t pixels = size_t(stride) * p.scene.height;
    Window window;
    for (int c = 0; c <= channels.count; ++c) {
        const bool shape = c == channels.count;
        if (shape && in.silhouette_target == nullptr) break;
        const float back = shape ? 0.0f : in.backdrop[c];
        const float* target = shape ? in.silhouette_target : in.target + c * pixels;
        const float* weight = shape ? in.silhouette_weight : in.weight + c * pixels;
        for (int k = 0; k < steps; ++k) {
            const size_t at = first + size_t(k) * R * stride;
            const int own = rows - k * R;
            const Float* s = state + k * size;
            window.m[k] = shape ? Rows<R>::splat(1.0f) - left[k]
                                : s[kColumns + c] + Rows<R>::splat(back) * left[k];
            window.q[k] = load_step(target, at, stride, columns, own);
            window.w[k] = load_step(weight, at, stride, columns, own);
            if (!shape)
                store_step(p.out.image + c * pixels, s[kColumns + c], at, stride, columns, own);
        }
        const float scale = shape ? in.silhouette_scale : in.robust_scale[c];
        if (!normalise_window<R>(window.m, window.q, window.w, steps, in.contrast_floor, scale,
                                 window.moments))
            continue;
        total[kCost] += window.moments.cost;
        if (empty) continue;
        const Float* by_pose = state + kColumns + channels.count + c * kColumns;
        const auto derivatives = [&](int k, Float* j) {
            const Float *d_left = state + k * size, *df = by_pose + k * size;
            for (int i = 0; i < kColumns; ++i)
                j[i] = shape ? -d_left[i] : df[i] + Rows<R>::splat(back) * d_left[i];
        };
        add_window<R, kColumns>(window.m, window.q, window.w, steps, window.moments, derivatives,
                                total, total + kGradient);
    }
    for (int k = 0; k < steps; ++k)
        store_step(p.out.alpha, Rows<R>::splat(1.0f) - left[k], first + size_t(k) * R * stride,
                   stride, columns, rows - k * R);
}

// Fetches the pixels of a tile to come: they lie in too many places for the processor to guess.
template <int C>
void prefetch_windows(const Problem& p, const Channels<C>& channels, const Frame& frame, int tile) {
    const PoseResiduals& in = p.residuals;
    const size_t pixels = size_t(p.scene.width) * p.scene.height;
    const int x0 = tile % frame.tiles_x * kTile, y0 = tile / frame.tiles_x * kTile;
    for (int y = y0; y < y0 + kTile && y < p.scene.height; ++y) {
        const size_t at = size_t(y) * p.scene.width + x0;
        for (int c = 0; c < channels.count; ++c) {
            __builtin_prefetch(in.target + c * pixels + at);
            __builtin_prefetch(in.weight + c * pixels + at);
        }
        if (in.silhouette_target == nullptr) continue;
        __builtin_prefetch(in.silhouette_target + at);
        __builtin_prefetch(in.silhouette_weight + at);
    }
}

template <int C, bool kDirection>
void add_tile(const Problem& p, const Frame& frame, const Columns& columns, int tile,
              Float* state, Float8* sums, double* total) {
    const Channels<C> channels(p.scene.num_channels);
    const int x0 = tile % frame.tiles_x * kTile, y0 = tile / frame.tiles_x * kTile;
    const int width = p.scene.width - x0 < kTile ? p.scene.width - x0 : kTile;
    const int height = p.scene.height - y0 < kTile ? p.scene.height - y0 : kTile;
    const int size = step_size(channels.count), count = num_sums(channels.count);
    const size_t first = size_t(y0) * p.scene.width + x0;
    const bool windows = p.residuals.window_light != 0;
    if (windows) prefetch_windows<C>(p, channels, frame, tile + kTilesAhead);
    for (int i = 0; i < kSteps * size; ++i) state[i] = Rows<R>::splat(0.0f);
    TileLightOf<R> light;
    light.start(width, height);
    JacobianVisitor<C, kDirection> visitor{light, frame, columns, channels, x0 + 0.5 * kTile,
                                           y0 + 0.5 * kTile, state};
    walk_tile(frame, tile, light, visitor);
    if (windows) {
        const bool empty = frame.tile_begin[tile] == frame.tile_begin[tile + 1];
        add_windows<C>(p, channels, first, width, height, state, light.transmittance, empty, total);
        return;
    }
    for (int i = 0; i < count; ++i) sums[i] = splat(0.0f);
    for (int r = 0; r < height; ++r)
        add_row<C>(p, channels, first + size_t(r) * p.scene.width, width, state + r / R * size,
                   r % R, Rows<R>::row(light.transmittance[r / R], r % R), sums);
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
        Float local[C > 0 ? kSteps * (kColumns + C * (1 + kColumns)) : 1];
        Float8 local_sums[C > 0 ? num_sums(C) : 1];
        std::vector<Float> heap(C > 0 ? 0 : kSteps * step_size(p.scene.num_channels));
        std::vector<Float8> heap_sums(C > 0 ? 0 : count);
        for (int64_t t = begin; t < end; ++t)
            add_tile<C, kDirection>(p, frame, columns, int(t), C > 0 ? local : heap.data(),
                                    C > 0 ? local_sums : heap_sums.data(),
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
    Problem problem{scene, residuals, out, {}};
    for (int c = 0; c < scene.num_channels; ++c) {
        const float s = residuals.robust_scale[c];
        problem.inv_scale2.push_back(s > 0.0f ? 1.0f / (s * s) : 0.0f);
    }
    std::vector<double> sums(num_sums(scene.num_channels), 0.0);
    const Columns& shared = columns;  // the threads see this one
    with_channels(scene.num_channels, [&](auto channels) {
        make_columns(channels, scene, frame, out.radii, direction, columns);
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
