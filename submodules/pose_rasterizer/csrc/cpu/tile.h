// The walk over one tile: Gaussians front to back, and for each the pixel rows that it reaches.
// Forward, backward and any later pass (forward-mode Jacobians) are visitors of the same walk.
//
// Within a tile log2(alpha) of a Gaussian is the polynomial k0 + k1 x + k2 y + k3 x^2 + k4 x y
// + k5 y^2 in the pixel's offset (x, y) from the tile's centre; per row it is r0 + x (r1 + x k3).
// The coefficients are made in double, so that float suffices for the eight pixels of a row.
#pragma once
#include "frame.h"

namespace pose_rasterizer {

static inline Float8 lane_offsets() {
    return Float8{-3.5f, -2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.5f};
}

constexpr float kLog2AlphaMin = -7.994353436858858f;  // log2(1/255)
// The row test may admit rows that the pixel test then rejects, never the reverse.
constexpr float kRowSlack = 1e-4f;

struct TilePower {
    alignas(32) float r0[kTile], r1[kTile];  // per row
    float k3;
    unsigned rows;   // bit r: some pixel of row r may reach alpha >= 1/255
    double ex, ey;   // Q (tile centre - mean)
    Entry entry;
};

static inline void tile_power(const Splat& s, double centre_x, double centre_y, TilePower& p) {
    const double dx = centre_x - s.x, dy = centre_y - s.y;
    p.ex = s.qxx * dx + s.qxy * dy;
    p.ey = s.qxy * dx + s.qyy * dy;
    const float k0 = static_cast<float>(s.log2_opacity - 0.5 * kLog2E * (dx * p.ex + dy * p.ey));
    const float k1 = static_cast<float>(-kLog2E * p.ex), k2 = static_cast<float>(-kLog2E * p.ey);
    const float k4 = static_cast<float>(-kLog2E * s.qxy);
    const float k5 = static_cast<float>(-0.5 * kLog2E * s.qyy);
    p.k3 = static_cast<float>(-0.5 * kLog2E * s.qxx);
    const Float8 y = lane_offsets();
    const Float8 r0 = splat(k0) + y * (splat(k2) + y * splat(k5));
    const Float8 r1 = splat(k1) + y * splat(k4);
    std::memcpy(p.r0, &r0, sizeof(r0));
    std::memcpy(p.r1, &r1, sizeof(r1));
    // highest value on the row: at the parabola's vertex, clamped to the pixels' range
    Float8 vertex = r1 * splat(-0.5f / p.k3);
    vertex = minimum(vertex, splat(3.5f));
    vertex = -minimum(-vertex, splat(3.5f));
    const Float8 highest = r0 + vertex * (r1 + vertex * splat(p.k3));
    p.rows = lane_bits(highest >= splat(kLog2AlphaMin - kRowSlack));
}

// Transmittance of a tile's pixels, and which of them still take part; R rows at a time.
template <int R> struct TileLightOf {
    typedef typename Rows<R>::Float Float;
    typedef typename Rows<R>::Mask Mask;
    Float transmittance[kTile / R];
    Mask live[kTile / R];
    unsigned live_rows;  // a bit per row; those of R rows go out together

    // Pixels outside the image never take part.
    void start(int columns, int rows) {
        live_rows = (1u << rows) - 1u;
        for (int r = 0; r < kTile; r += R) {
            transmittance[r / R] = Rows<R>::splat(1.0f);
            live[r / R] = Rows<R>::first(rows - r, columns);
        }
    }

    // Passes one Gaussian's light through the rows from r. `before` receives the transmittance in
    // front of it; the result is alpha, 0 where the Gaussian adds nothing.
    inline Float pass(int r, Float power, Float& before) {
        const int k = r / R;
        const Float one = Rows<R>::splat(1.0f);
        Float alpha = minimum(exp2_fast<R>(power),
                              Rows<R>::splat(static_cast<float>(POSE_ALPHA_MAX)));
        alpha = keep(alpha, at_least(power, Rows<R>::splat(kLog2AlphaMin)) & live[k]);
        before = transmittance[k];
        Float after = before * (one - alpha);
        const Mask stop =
            below(after, Rows<R>::splat(static_cast<float>(POSE_TRANSMITTANCE_MIN)));
        if (__builtin_expect(lane_bits(stop) != 0, 0)) {  // at most once per pixel
            live[k] = live[k] & ~stop;
            alpha = keep(alpha, ~stop);
            after = before * (one - alpha);
            if (lane_bits(live[k]) == 0) live_rows &= ~(((1u << R) - 1u) << r);
        }
        transmittance[k] = after;
        return alpha;
    }
};
using TileLight = TileLightOf<1>;

// Visitor: begin(gaussian), row(first of R rows, power), end(power polynomial), skip(slot);
// prefetch(gaussian) some time before any of them.
//
// The polynomials of a few Gaussians are made ahead of their rows: making one is a long chain of
// dependent steps whose end decides a branch, and so the processor can overlap the chains.
template <int R, class Visitor>
static inline void walk_tile(const Frame& frame, int tile, TileLightOf<R>& light,
                             Visitor& visitor) {
    constexpr uint32_t kAhead = 24;
    TilePower ahead[kAhead];
    const double centre_x = (tile % frame.tiles_x) * kTile + 0.5 * kTile;
    const double centre_y = (tile / frame.tiles_x) * kTile + 0.5 * kTile;
    const typename Rows<R>::Float x = repeated<R>(lane_offsets());
    const uint32_t end = frame.tile_begin[tile + 1];
    uint32_t e = frame.tile_begin[tile];
    while (e < end && light.live_rows != 0) {
        const uint32_t count = end - e < kAhead ? end - e : kAhead;
        for (uint32_t j = 0; j < count; ++j) {
            ahead[j].entry = frame.entries[e + j];
            const uint32_t i = ahead[j].entry.gaussian;
            __builtin_prefetch(frame.colours.data() + size_t(i) * frame.num_channels);
            visitor.prefetch(i);
            tile_power(frame.splats[i], centre_x, centre_y, ahead[j]);
        }
        e += count;
        for (uint32_t j = 0; j < kAhead && e + j < end; ++j)
            __builtin_prefetch(&frame.splats[frame.entries[e + j].gaussian]);
        for (uint32_t j = 0; j < count; ++j) {
            const TilePower& p = ahead[j];
            const unsigned rows = p.rows & light.live_rows;
            if (rows == 0) {
                visitor.skip(p.entry.slot);
                continue;
            }
            visitor.begin(p.entry.gaussian);
            // A convex set: its rows have no gaps (rows whose pixels have all stopped may lie
            // between the first and the last; nothing passes through them).
            const int last = 31 - __builtin_clz(rows);
            for (int r = __builtin_ctz(rows) / R * R; r <= last; r += R)
                visitor.row(r, by_row<R>(p.r0 + r) +
                                   x * (by_row<R>(p.r1 + r) + x * Rows<R>::splat(p.k3)));
            visitor.end(p);
        }
    }
    for (; e < end; ++e) visitor.skip(frame.entries[e].slot);
}

}  // namespace pose_rasterizer
