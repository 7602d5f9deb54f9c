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

// Transmittance of a tile's pixels, and which of them still take part.
struct TileLight {
    Float8 transmittance[kTile];
    Int8 live[kTile];
    unsigned live_rows;

    // Pixels outside the image never take part.
    void start(int columns, int rows) {
        live_rows = (1u << rows) - 1u;
        const Int8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
        for (int r = 0; r < kTile; ++r) {
            transmittance[r] = splat(1.0f);
            live[r] = lane < splat_int(r < rows ? columns : 0);
        }
    }

    // Passes one Gaussian's light through row r. `before` receives the transmittance in front of
    // it; the result is alpha, 0 where the Gaussian adds nothing.
    inline Float8 pass(int r, Float8 power, Float8& before) {
        Float8 alpha = minimum(exp2_fast(power), splat(static_cast<float>(POSE_ALPHA_MAX)));
        alpha = keep(alpha, (power >= splat(kLog2AlphaMin)) & live[r]);
        before = transmittance[r];
        Float8 after = before * (splat(1.0f) - alpha);
        const Int8 stop = after < splat(static_cast<float>(POSE_TRANSMITTANCE_MIN));
        if (__builtin_expect(lane_bits(stop) != 0, 0)) {  // at most once per pixel
            live[r] = live[r] & ~stop;
            alpha = keep(alpha, ~stop);
            after = before * (splat(1.0f) - alpha);
            if (lane_bits(live[r]) == 0) live_rows &= ~(1u << r);
        }
        transmittance[r] = after;
        return alpha;
    }
};

// Visitor: begin(gaussian), row(r, power), end(power polynomial), skip(slot).
//
// The polynomials of a few Gaussians are made ahead of their rows: making one is a long chain of
// dependent steps whose end decides a branch, and so the processor can overlap the chains.
template <class Visitor>
static inline void walk_tile(const Frame& frame, int tile, TileLight& light, Visitor& visitor) {
    constexpr uint32_t kAhead = 24;
    TilePower ahead[kAhead];
    const double centre_x = (tile % frame.tiles_x) * kTile + 0.5 * kTile;
    const double centre_y = (tile / frame.tiles_x) * kTile + 0.5 * kTile;
    const Float8 x = lane_offsets();
    const uint32_t end = frame.tile_begin[tile + 1];
    uint32_t e = frame.tile_begin[tile];
    while (e < end && light.live_rows != 0) {
        const uint32_t count = end - e < kAhead ? end - e : kAhead;
        for (uint32_t j = 0; j < count; ++j) {
            ahead[j].entry = frame.entries[e + j];
            const uint32_t i = ahead[j].entry.gaussian;
            __builtin_prefetch(frame.colours.data() + size_t(i) * frame.num_channels);
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
            for (int r = __builtin_ctz(rows); r <= last; ++r)
                visitor.row(r, splat(p.r0[r]) + x * (splat(p.r1[r]) + x * splat(p.k3)));
            visitor.end(p);
        }
    }
    for (; e < end; ++e) visitor.skip(frame.entries[e].slot);
}

}  // namespace pose_rasterizer
