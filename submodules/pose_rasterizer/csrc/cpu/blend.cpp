// Blends the tiles' pixels front to back, and the adjoint of it.
//
// One thread owns a tile at a time, a step is a Gaussian on kBlendRows rows of it. Pixel state (transmittance, sums) lies in the L1 cache, a
// Gaussian's own values in registers. The adjoint walks front to back again: it needs no list of
// past alphas, only the sum of what lies behind, which the finished image gives (see
// docs/pose_gradient.md). Its sums per (Gaussian, tile) go to a slot of their own and are added in
// a fixed order afterwards, so the result doesn't depend on the threads.
#include <vector>

#include "channels.h"
#include "pool.h"
#include "tile.h"

namespace pose_rasterizer {
namespace {

constexpr int64_t kTilesPerBlock = 4;
constexpr int R = kBlendRows, kSteps = kTile / R;
typedef Rows<R>::Float Float;
constexpr float kRowY[kTile] = {-3.5f, -2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.5f};

template <int C> struct ForwardVisitor {
    TileLightOf<R>& light;
    const Frame& frame;
    const Channels<C> channels;
    Float* sums;  // [step, C + 1]: colours, depth
    const float* colour = nullptr;
    float z = 0;

    void prefetch(uint32_t) {}
    void begin(uint32_t i) {
        colour = frame.colours.data() + size_t(i) * channels.count;
        z = frame.splats[i].z;
    }
    void row(int r, Float power) {
        Float before;
        const Float alpha = light.pass(r, power, before);
        const Float weight = alpha * before;
        Float* s = sums + r / R * (channels.count + 1);
        for (int c = 0; c < channels.count; ++c) s[c] += weight * Rows<R>::splat(colour[c]);
        s[channels.count] += weight * Rows<R>::splat(z);
    }
    void end(const TilePower&) {}
    void skip(uint32_t) {}
};

struct TileBox {
    int x0, y0, columns, rows;
    TileBox(const Frame& f, int tile)
        : x0(tile % f.tiles_x * kTile), y0(tile / f.tiles_x * kTile),
          columns(f.camera.width - x0 < kTile ? f.camera.width - x0 : kTile),
          rows(f.camera.height - y0 < kTile ? f.camera.height - y0 : kTile) {}
};

static inline void store_row(float* to, Float8 v, int columns) {
    if (columns == kLanes) std::memcpy(to, &v, sizeof(v));
    else for (int i = 0; i < columns; ++i) to[i] = v[i];
}
static inline Float8 load_row(const float* from, int columns) {
    Float8 v = splat(0.0f);
    if (columns == kLanes) std::memcpy(&v, from, sizeof(v));
    else for (int i = 0; i < columns; ++i) v[i] = from[i];
    return v;
}

template <int C>
void forward_tile(const PoseScene& scene, const Frame& frame, const PoseImages& out, int tile,
                  Float* sums) {
    const TileBox box(frame, tile);
    const Channels<C> channels(scene.num_channels);
    const int size = channels.count + 1;
    for (int i = 0; i < kSteps * size; ++i) sums[i] = Rows<R>::splat(0.0f);
    TileLightOf<R> light;
    light.start(box.columns, box.rows);
    ForwardVisitor<C> visitor{light, frame, channels, sums};
    walk_tile(frame, tile, light, visitor);

    const size_t pixels = size_t(scene.width) * scene.height;
    for (int r = 0; r < box.rows; ++r) {
        const size_t at = size_t(box.y0 + r) * scene.width + box.x0;
        const Float8 left = Rows<R>::row(light.transmittance[r / R], r % R);
        const Float8 alpha = splat(1.0f) - left;
        const Float* s = sums + r / R * size;
        for (int c = 0; c < channels.count; ++c)
            store_row(out.image + c * pixels + at,
                      Rows<R>::row(s[c], r % R) + left * splat(scene.background[c]), box.columns);
        store_row(out.alpha + at, alpha, box.columns);
        const Float8 depth = Rows<R>::row(s[channels.count], r % R) / alpha;
        store_row(out.depth + at, keep(depth, alpha > splat(0.0f)), box.columns);
    }
}

// Adjoint. For a pixel, q_i = dL/dw_i = g . c_i + g_z z_i + q_0 is what a unit of Gaussian i's
// weight is worth; dL/dalpha_i = T_i q_i - behind_i / (1 - alpha_i), behind_i = sum_{j>i} w_j q_j.
template <int C, bool kColour, bool kDepth> struct BackwardVisitor {
    TileLightOf<R>& light;
    Frame& frame;
    const Channels<C> channels;
    const Float* g;       // [step, C + 2]: dL/dimage, then g_z, then q_0
    Float* behind;        // [step]
    Float* v_colour;      // [C] sums of w g
    const uint32_t tile;  // y << 16 | x
    const float* colour = nullptr;
    float z = 0;
    Float v_power{}, v_power_y{}, v_power_yy{}, v_z{};

    void prefetch(uint32_t) {}
    void begin(uint32_t i) {
        colour = frame.colours.data() + size_t(i) * channels.count;
        z = frame.splats[i].z;
        v_power = v_power_y = v_power_yy = v_z = Rows<R>::splat(0.0f);
        if (kColour)
            for (int c = 0; c < channels.count; ++c) v_colour[c] = Rows<R>::splat(0.0f);
    }
    void row(int r, Float power) {
        Float before;
        const Float alpha = light.pass(r, power, before);
        const Float weight = alpha * before;
        const Float* gr = g + r / R * (channels.count + 2);
        Float q = gr[channels.count + 1];
        for (int c = 0; c < channels.count; ++c) {
            q += gr[c] * Rows<R>::splat(colour[c]);
            if (kColour) v_colour[c] += weight * gr[c];
        }
        if (kDepth) {
            q += gr[channels.count] * Rows<R>::splat(z);
            v_z += weight * gr[channels.count];
        }
        const Float rest = behind[r / R] - weight * q;
        behind[r / R] = rest;
        const Float v_alpha = before * q - rest / (Rows<R>::splat(1.0f) - alpha);
        // clamped: no gradient
        const auto free = below(alpha, Rows<R>::splat(static_cast<float>(POSE_ALPHA_MAX)));
        const Float v = keep(v_alpha * alpha, free);
        const Float y = by_row<R>(kRowY + r), vy = v * y;
        v_power += v;
        v_power_y += vy;
        v_power_yy += vy * y;
    }
    void end(const TilePower& p) {
        const Float8 x = lane_offsets();
        const Float8 v = Rows<R>::sum(v_power), vy = Rows<R>::sum(v_power_y);
        const Float8 parts[kLanes] = {v, x * v, vy, x * x * v, x * vy, Rows<R>::sum(v_power_yy),
                                      Rows<R>::sum(v_z), splat(0.0f)};
        const Float8 sums = sum_lanes_of_8(parts);
        float* record = frame.records.data() + size_t(p.entry.slot) * frame.record_size();
        frame.record_tile[p.entry.slot] = tile;
        std::memcpy(record, &sums, sizeof(sums));  // its last 0 where the first colour goes
        if (!kColour) return;
        int c = 0;
        for (; c + 4 < channels.count; c += kLanes) {
            Float8 some[kLanes];
            const int n = channels.count - c < kLanes ? channels.count - c : kLanes;
            for (int i = 0; i < kLanes; ++i) some[i] = i < n ? Rows<R>::sum(v_colour[c + i]) : splat(0.0f);
            store_row(record + kSumColour + c, sum_lanes_of_8(some), n);
        }
        if (c >= channels.count) return;
        Float8 some[4];
        const int n = channels.count - c;
        for (int i = 0; i < 4; ++i) some[i] = i < n ? Rows<R>::sum(v_colour[c + i]) : splat(0.0f);
        const Float4 few = sum_lanes_of_4(some);
        for (int i = 0; i < n; ++i) record[kSumColour + c + i] = few[i];
    }
    void skip(uint32_t slot) {
        frame.record_tile[slot] = kNoRecord;
    }
};

// Fills g, behind for a row and adds T g to the background's sums.
template <int C>
void load_row_gradients(const PoseScene& scene, const PoseImages& images,
                        const PoseGradients& grads, const Channels<C>& channels, size_t at,
                        int columns, Float8* g, Float8& behind, Float8* v_background) {
    const size_t pixels = size_t(scene.width) * scene.height;
    const Float8 zero = splat(0.0f);
    const Float8 alpha = load_row(images.alpha + at, columns), left = splat(1.0f) - alpha;
    const Int8 hit = alpha > zero;
    const Float8 v_alpha = grads.v_alpha != nullptr ? load_row(grads.v_alpha + at, columns) : zero;
    Float8 q0 = v_alpha, total = zero;
    for (int c = 0; c < channels.count; ++c) {
        g[c] = grads.v_image != nullptr ? load_row(grads.v_image + c * pixels + at, columns) : zero;
        const Float8 behind_all = left * splat(scene.background[c]);
        total += g[c] * (load_row(images.image + c * pixels + at, columns) - behind_all);
        q0 -= g[c] * splat(scene.background[c]);
        v_background[c] += left * g[c];  // g is 0 outside the image
    }
    g[channels.count] = zero;
    if (grads.v_depth != nullptr) {
        const Float8 depth = load_row(images.depth + at, columns);
        const Float8 g_z = keep(load_row(grads.v_depth + at, columns) / alpha, hit);
        g[channels.count] = g_z;
        q0 -= g_z * depth;
        total += g_z * depth * alpha;
    }
    g[channels.count + 1] = q0;
    behind = total + q0 * alpha;
}

// Fetches the pixels of the tile to the right in advance: a tile's rows lie in too many places for
// the processor to guess.
template <int C>
void prefetch_next(const PoseScene& scene, const PoseImages& images, const PoseGradients& grads,
                   const Channels<C>& channels, const TileBox& box) {
    const size_t pixels = size_t(scene.width) * scene.height;
    if (grads.v_image == nullptr || box.x0 + kTile >= scene.width) return;
    for (int r = 0; r < box.rows; ++r) {
        const size_t at = size_t(box.y0 + r) * scene.width + box.x0 + kTile;
        __builtin_prefetch(images.alpha + at);
        for (int c = 0; c < channels.count; ++c) {
            __builtin_prefetch(images.image + c * pixels + at);
            __builtin_prefetch(grads.v_image + c * pixels + at);
        }
    }
}

// `scratch`: room for backward_scratch(C) values.
static inline int backward_scratch(int channels) { return kSteps * (channels + 2) + channels; }

template <int C, bool kColour, bool kDepth>
void backward_tile(const PoseScene& scene, Frame& frame, const PoseImages& images,
                   const PoseGradients& grads, int tile, Float* scratch, Float8* rows,
                   float* v_background) {
    const TileBox box(frame, tile);
    const Channels<C> channels(scene.num_channels);
    const int size = channels.count + 2;
    Float* g = scratch;                          // [step, C + 2]
    Float* v_colour = scratch + kSteps * size;   // [C]
    Float8* v_back = rows + R * size;            // [C]
    Float behind[kSteps];
    for (int c = 0; c < channels.count; ++c) v_back[c] = splat(0.0f);
    for (int r = 0; r < kTile; r += R) {
        Float8 behind_rows[R], both[R];
        for (int k = 0; k < R; ++k) {
            behind_rows[k] = splat(0.0f);
            if (r + k < box.rows)
                load_row_gradients<C>(scene, images, grads, channels,
                                      size_t(box.y0 + r + k) * scene.width + box.x0, box.columns,
                                      rows + k * size, behind_rows[k], v_back);
            else
                for (int c = 0; c < size; ++c) rows[k * size + c] = splat(0.0f);
        }
        for (int c = 0; c < size; ++c) {
            for (int k = 0; k < R; ++k) both[k] = rows[k * size + c];
            g[r / R * size + c] = Rows<R>::of(both);
        }
        behind[r / R] = Rows<R>::of(behind_rows);
    }
    for (int c = 0; c < channels.count; ++c) v_background[c] = sum_lanes(v_back[c]);
    prefetch_next<C>(scene, images, grads, channels, box);
    TileLightOf<R> light;
    light.start(box.columns, box.rows);
    Float local[C > 0 ? C : 1];
    BackwardVisitor<C, kColour, kDepth> visitor{light, frame, channels, g, behind,
                                                C > 0 ? local : v_colour,
                                                uint32_t(box.y0 / kTile) << 16 | uint32_t(box.x0 / kTile)};
    walk_tile(frame, tile, light, visitor);
}

template <int C>
void forward_all(Channels<C>, const PoseScene& scene, const Frame& frame, const PoseImages& out) {
    const int64_t tiles = int64_t(frame.tiles_x) * frame.tiles_y;
    parallel_ranges(frame.num_threads, tiles, kTilesPerBlock,
                    [&](int64_t begin, int64_t end, int64_t) {
        Float local[C > 0 ? kSteps * (C + 1) : 1];
        std::vector<Float> heap(C > 0 ? 0 : kSteps * (scene.num_channels + 1));
        for (int64_t t = begin; t < end; ++t)
            forward_tile<C>(scene, frame, out, int(t), C > 0 ? local : heap.data());
    });
}

template <int C, bool kColour, bool kDepth>
void backward_all(const PoseScene& scene, Frame& frame, const PoseImages& images,
                  const PoseGradients& grads) {
    const int64_t tiles = int64_t(frame.tiles_x) * frame.tiles_y;
    const int channels = scene.num_channels;
    std::vector<float> v_background(size_t(tiles) * channels);
    parallel_ranges(frame.num_threads, tiles, kTilesPerBlock,
                    [&](int64_t begin, int64_t end, int64_t) {
        std::vector<Float> scratch(backward_scratch(channels));
        std::vector<Float8> rows(R * (channels + 2) + channels);
        for (int64_t t = begin; t < end; ++t) {
            // a tile that nothing reaches matters to the background alone
            const bool empty = frame.tile_begin[t] == frame.tile_begin[t + 1];
            if (empty && grads.v_background == nullptr) continue;
            backward_tile<C, kColour, kDepth>(scene, frame, images, grads, int(t), scratch.data(),
                                              rows.data(), v_background.data() + t * channels);
        }
    });
    if (grads.v_background == nullptr) return;
    for (int c = 0; c < channels; ++c) {
        double sum = 0;
        for (int64_t t = 0; t < tiles; ++t) sum += v_background[t * channels + c];
        grads.v_background[c] = static_cast<float>(sum);
    }
}

template <int C>
void backward_some(Channels<C>, const PoseScene& scene, Frame& frame, const PoseImages& images,
                   const PoseGradients& grads, bool want_colours) {
    const bool depth = grads.v_depth != nullptr;
    if (want_colours && depth) backward_all<C, true, true>(scene, frame, images, grads);
    else if (want_colours) backward_all<C, true, false>(scene, frame, images, grads);
    else if (depth) backward_all<C, false, true>(scene, frame, images, grads);
    else backward_all<C, false, false>(scene, frame, images, grads);
}

}  // namespace

void blend_forward(const PoseScene& scene, const Frame& frame, const PoseImages& out) {
    with_channels(scene.num_channels,
                  [&](auto channels) { forward_all(channels, scene, frame, out); });
}

void blend_backward(const PoseScene& scene, Frame& frame, const PoseImages& images,
                    const PoseGradients& grads, bool want_colours) {
    frame.record_tile.resize(frame.slot_begin.back());
    frame.records.resize(size_t(frame.slot_begin.back()) * frame.record_size());
    with_channels(scene.num_channels, [&](auto channels) {
        backward_some(channels, scene, frame, images, grads, want_colours);
    });
}

}  // namespace pose_rasterizer
