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

    template <int R> void reduce(const typename Rows<R>::Float* sums) {
        for (int i = 0; i < kPadded; i += kLanes) {
            Float8 some[kLanes];
            for (int k = 0; k < kLanes; ++k)
                some[k] = i + k < kCount ? Rows<R>::sum(sums[i + k]) : splat(0.0f);
            const Float8 v = sum_lanes_of_8(some);
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

template <int R>
static inline float weighted(const typename Rows<R>::Float* a, const typename Rows<R>::Float* w,
                             int steps) {
    typename Rows<R>::Float sum = Rows<R>::splat(0.0f);
    for (int k = 0; k < steps; ++k) sum += w[k] * a[k];
    return sum_lanes(Rows<R>::sum(sum));
}

template <int R>
static inline float weighted(const typename Rows<R>::Float* a, const typename Rows<R>::Float* b,
                             const typename Rows<R>::Float* w, int steps) {
    typename Rows<R>::Float sum = Rows<R>::splat(0.0f);
    for (int k = 0; k < steps; ++k) sum += w[k] * a[k] * b[k];
    return sum_lanes(Rows<R>::sum(sum));
}

// Moments of m, q under weights w, R rows a step; m and q come back as mh and qh. False: no weight.
template <int R>
static inline bool normalise_window(typename Rows<R>::Float* m, typename Rows<R>::Float* q,
                                    const typename Rows<R>::Float* w, int steps, float floor,
                                    float scale, WindowMoments& out) {
    typename Rows<R>::Float sum = Rows<R>::splat(0.0f);
    for (int k = 0; k < steps; ++k) sum += w[k];
    out.total = sum_lanes(Rows<R>::sum(sum));
    if (!(out.total > 0.0f)) return false;
    const float inv = 1.0f / out.total;
    out.mean_m = weighted<R>(m, w, steps) * inv, out.mean_q = weighted<R>(q, w, steps) * inv;
    for (int k = 0; k < steps; ++k) {
        m[k] -= Rows<R>::splat(out.mean_m);
        q[k] -= Rows<R>::splat(out.mean_q);
    }
    out.inv_m = 1.0f / std::sqrt(weighted<R>(m, m, w, steps) * inv + floor * floor);
    out.inv_q = 1.0f / std::sqrt(weighted<R>(q, q, w, steps) * inv + floor * floor);
    for (int k = 0; k < steps; ++k) {
        m[k] *= Rows<R>::splat(out.inv_m);
        q[k] *= Rows<R>::splat(out.inv_q);
    }
    out.shown = weighted<R>(m, m, w, steps), out.product = weighted<R>(m, q, w, steps);
    const float energy = out.shown - 2.0f * out.product + weighted<R>(q, q, w, steps);
    const float inv_scale2 = scale > 0.0f ? 1.0f / (scale * scale) : 0.0f;
    const float damp = 1.0f / (1.0f + energy * inv * inv_scale2);
    out.cost = 0.5f * energy * damp;
    out.robust = damp * damp;
    return true;
}

// Adds one window to the system: pairs [21] (upper triangle, row by row) and gradient [6].
// columns(k, j) fills j[kColumns] with the derivatives of m in step k, of R rows.
template <int R, int kColumns, class MakeColumns>
void add_window(const typename Rows<R>::Float* mh, const typename Rows<R>::Float* qh,
                const typename Rows<R>::Float* w, int steps, const WindowMoments& at,
                const MakeColumns& columns, double* pairs, double* gradient) {
    using Sums = WindowSums<kColumns>;
    typedef typename Rows<R>::Float Float;
    Float lanes[Sums::kCount];
    for (Float& v : lanes) v = Rows<R>::splat(0.0f);
    Float j[kColumns];
    for (int k = 0; k < steps; ++k) {
        columns(k, j);
        const Float shown = mh[k], residual = mh[k] - qh[k];
        Float* pair = lanes + Sums::kPairs;
        for (int a = 0; a < kColumns; ++a) {
            const Float wj = w[k] * j[a];
            lanes[Sums::kByMean + a] += wj;
            lanes[Sums::kByShown + a] += wj * shown;
            lanes[Sums::kByResidual + a] += wj * residual;
            for (int b = a; b < kColumns; ++b) *pair++ += wj * j[b];
        }
    }
    Sums sums;
    sums.template reduce<R>(lanes);
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
