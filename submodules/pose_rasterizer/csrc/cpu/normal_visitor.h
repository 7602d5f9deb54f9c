// Blends a tile's colours and their six derivatives by the pose step (normal.cpp says how).
#pragma once
#include "channels.h"
#include "normal_columns.h"
#include "tile.h"

namespace pose_rasterizer {
namespace {

constexpr int R = kBlendRows, kSteps = kTile / R;
typedef Rows<R>::Float Float;
constexpr float kRowY[kTile] = {-3.5f, -2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.5f};

// State of a step: derivatives of the transmittance (6), colours (C), their derivatives (C, 6).
inline int step_size(int channels) { return kColumns + channels * (1 + kColumns); }

// A step is a Gaussian on R rows of a tile.
template <int C, bool kDirection> struct JacobianVisitor {
    TileLightOf<R>& light;
    const Frame& frame;
    const Columns& columns;
    const Channels<C> channels;
    const double centre_x, centre_y;
    Float* state;  // [step, step_size]
    const float* colour = nullptr;
    const float* colour_by_rho = nullptr;
    // Polynomial of dpower: k0 + k1 x + k2 y + k3 x^2 + k4 x y + k5 y^2, of each column.
    struct Polynomial {
        alignas(32) float k0[kLanes], k1[kLanes], k2[kLanes], k3[kLanes], k4[kLanes], k5[kLanes];
    } polynomial = {};

    void prefetch(uint32_t i) const {
        const char* splat_columns = reinterpret_cast<const char*>(&columns.splats[i]);
        for (size_t at = 0; at < sizeof(LaneColumns); at += 64)
            __builtin_prefetch(splat_columns + at);
        if (!kDirection) return;
        const float* by_rho = columns.colours.data() + size_t(i) * channels.count * 3;
        __builtin_prefetch(by_rho);
        __builtin_prefetch(by_rho + channels.count * 3 - 1);
    }
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
        const Float8 xa = d.xx * a + d.xy * b, ya = d.xy * a + d.yy * b;  // dcov Q
        const Float8 xb = d.xx * b + d.xy * c, yb = d.xy * b + d.yy * c;
        const Float8 k[6] = {ex * (d.mean_x + half * hx) + ey * (d.mean_y + half * hy),
                             a * u + b * v,
                             b * u + c * v,
                             half * (a * xa + b * ya),
                             b * xa + c * ya,
                             half * (b * xb + c * yb)};
        std::memcpy(&polynomial, k, sizeof(k));
    }

    // Derivatives of the power by the six columns, in the step from row r.
    inline void fill_dpower(int r, Float* out) {
        const Polynomial& k = polynomial;
        const Float x = repeated<R>(lane_offsets());
        if (R == 1) {  // the row's own polynomials, a column per lane
            const Float8 y = splat(kRowY[r]);
            alignas(32) float r0[kLanes], r1[kLanes];
            const Float8 row0 = lanes(k.k0) + y * (lanes(k.k2) + y * lanes(k.k5)),
                         row1 = lanes(k.k1) + y * lanes(k.k4);
            std::memcpy(r0, &row0, sizeof(row0));
            std::memcpy(r1, &row1, sizeof(row1));
            for (int j = 0; j < kColumns; ++j)
                out[j] = Rows<R>::splat(r0[j]) +
                         x * (Rows<R>::splat(r1[j]) + x * Rows<R>::splat(k.k3[j]));
            return;
        }
        // Read where it is used: kept in 36 registers it would be spilled for every Gaussian.
        asm volatile("" : "+m"(polynomial));
        const Float y = by_row<R>(kRowY + r);
        for (int j = 0; j < kColumns; ++j) {
            const Float along_x = Rows<R>::splat(k.k1[j]) + x * Rows<R>::splat(k.k3[j]) +
                                  y * Rows<R>::splat(k.k4[j]);
            const Float along_y = Rows<R>::splat(k.k2[j]) + y * Rows<R>::splat(k.k5[j]);
            out[j] = Rows<R>::splat(k.k0[j]) + x * along_x + y * along_y;
        }
    }

    void row(int r, Float power) {
        Float before;
        const Float alpha = light.pass(r, power, before);
        if (lane_bits(below(Rows<R>::splat(0.0f), alpha)) == 0) return;
        const Float weight = alpha * before;
        const Float moves =
            keep(weight, below(alpha, Rows<R>::splat(static_cast<float>(POSE_ALPHA_MAX))));
        Float* at = state + r / R * step_size(channels.count);
        Float dw[kColumns];
        fill_dpower(r, dw);
        for (int j = 0; j < kColumns; ++j) {
            dw[j] = at[j] * alpha + moves * dw[j];
            at[j] -= dw[j];
        }
        Float* f = at + kColumns;
        Float* df = f + channels.count;
        for (int c = 0; c < channels.count; ++c, df += kColumns) {
            const Float value = Rows<R>::splat(colour[c]);
            f[c] += weight * value;
            if (kDirection) {
                const float* by_rho = colour_by_rho + c;
                for (int j = 0; j < 3; ++j)
                    df[j] += dw[j] * value +
                             weight * Rows<R>::splat(by_rho[j * channels.count]);
            } else {
                for (int j = 0; j < 3; ++j) df[j] += dw[j] * value;
            }
            for (int j = 3; j < kColumns; ++j) df[j] += dw[j] * value;
        }
    }
    void end(const TilePower&) {}
    void skip(uint32_t) {}
};

}  // namespace
}  // namespace pose_rasterizer
