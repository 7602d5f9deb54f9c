// Normal equations of windowed correlation: a tile is a window, its light is divided out (ours).
//
// Per tile and channel, with weights w of its pixels, W = sum w, means and variances weighted by w:
//   mh = (m - mean m) / s_m,  s_m^2 = var m + floor^2;  qh likewise of the target
//   e = sum w (mh - qh)^2 / W,  cost = W e / 2 / (1 + e / scale^2)
// whatever gain and offset the window's light has. The derivative of mh by the pose is exact,
//   dmh = (J0 - mh a) / s_m,  J0 = J - mean J,  a = mean(mh J0),
// and so the sums over a tile's pixels that it needs are few: w J, w J mh, w J r, w J J^T with
// r = mh - qh. Derivation: docs/method_refinement.md.
#pragma once
#include <cmath>

#include "simd.h"
#include "tile.h"

namespace pose_rasterizer {

// Sums of one window that depend on the pose's columns: J (6), J mh (6), J r (6), J J^T (21).
template <int kColumns> struct WindowSums {
    static constexpr int kByMean = 0, kByShown = kColumns, kByResidual = 2 * kColumns,
                         kPairs = 3 * kColumns, kCount = kPairs + kColumns * (kColumns + 1) / 2,
                         kPadded = (kCount + kLanes - 1) / kLanes * kLanes;
    alignas(32) float value[kPadded];

    void reduce(const Float8* sums) {
        for (int i = 0; i < kPadded; i += kLanes) {
            const Float8 v = sum_lanes_of_8(sums + i);
            std::memcpy(value + i, &v, sizeof(v));
        }
    }
};

// What a window's values say without any derivative.
struct WindowMoments {
    float total;           // W
    float mean_m, mean_q;
    float inv_m, inv_q;    // 1 / s
    float shown, product;  // W mean(mh mh), W mean(mh qh)
    float cost, robust;    // robust: factor of H and g
};

static inline float weighted(const Float8* a, const Float8* w, int rows) {
    Float8 sum = splat(0.0f);
    for (int r = 0; r < rows; ++r) sum += w[r] * a[r];
    return sum_lanes(sum);
}

static inline float weighted(const Float8* a, const Float8* b, const Float8* w, int rows) {
    Float8 sum = splat(0.0f);
    for (int r = 0; r < rows; ++r) sum += w[r] * a[r] * b[r];
    return sum_lanes(sum);
}

// Moments of rows m, q under weights w; m and q come back as mh and qh. False: no weight.
static inline bool normalise_window(Float8* m, Float8* q, const Float8* w, int rows, float floor,
                                    float scale, WindowMoments& out) {
    Float8 sum = splat(0.0f);
    for (int r = 0; r < rows; ++r) sum += w[r];
    out.total = sum_lanes(sum);
    if (!(out.total > 0.0f)) return false;
    const float inv = 1.0f / out.total;
    out.mean_m = weighted(m, w, rows) * inv, out.mean_q = weighted(q, w, rows) * inv;
    for (int r = 0; r < rows; ++r) m[r] -= splat(out.mean_m), q[r] -= splat(out.mean_q);
    out.inv_m = 1.0f / std::sqrt(weighted(m, m, w, rows) * inv + floor * floor);
    out.inv_q = 1.0f / std::sqrt(weighted(q, q, w, rows) * inv + floor * floor);
    for (int r = 0; r < rows; ++r) m[r] *= splat(out.inv_m), q[r] *= splat(out.inv_q);
    out.shown = weighted(m, m, w, rows), out.product = weighted(m, q, w, rows);
    const float energy = out.shown - 2.0f * out.product + weighted(q, q, w, rows);
    const float inv_scale2 = scale > 0.0f ? 1.0f / (scale * scale) : 0.0f;
    const float damp = 1.0f / (1.0f + energy * inv * inv_scale2);
    out.cost = 0.5f * energy * damp;
    out.robust = damp * damp;
    return true;
}

// Adds one window to the system: pairs [21] (upper triangle, row by row) and gradient [6].
// columns(r, j) fills j[kColumns] with row r's derivatives of m.
template <int kColumns, class MakeColumns>
void add_window(const Float8* mh, const Float8* qh, const Float8* w, int rows,
                const WindowMoments& at, const MakeColumns& columns, double* pairs,
                double* gradient) {
    using Sums = WindowSums<kColumns>;
    Float8 lanes[Sums::kPadded];
    for (Float8& v : lanes) v = splat(0.0f);
    Float8 j[kColumns];
    for (int r = 0; r < rows; ++r) {
        columns(r, j);
        const Float8 shown = mh[r], residual = mh[r] - qh[r];
        Float8* pair = lanes + Sums::kPairs;
        for (int a = 0; a < kColumns; ++a) {
            const Float8 wj = w[r] * j[a];
            lanes[Sums::kByMean + a] += wj;
            lanes[Sums::kByShown + a] += wj * shown;
            lanes[Sums::kByResidual + a] += wj * residual;
            for (int b = a; b < kColumns; ++b) *pair++ += wj * j[b];
        }
    }
    Sums sums;
    sums.reduce(lanes);
    const double inv = 1.0 / at.total, scale = double(at.robust) * at.inv_m;
    const double keep = 2.0 - at.shown * inv, pull = (at.shown - at.product) * inv;
    const float* pair = sums.value + Sums::kPairs;
    int k = 0;
    for (int a = 0; a < kColumns; ++a) {
        const double mean_a = sums.value[Sums::kByMean + a];
        const double shown_a = sums.value[Sums::kByShown + a];  // mean mh = 0: J0 or J alike
        gradient[a] += scale * (sums.value[Sums::kByResidual + a] - pull * shown_a);
        for (int b = a; b < kColumns; ++b, ++k)
            pairs[k] += scale * at.inv_m *
                        (pair[k] - inv * (mean_a * sums.value[Sums::kByMean + b] +
                                          keep * shown_a * sums.value[Sums::kByShown + b]));
    }
}

}  // namespace pose_rasterizer
