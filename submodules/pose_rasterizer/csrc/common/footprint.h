// Where a Gaussian is visible: alpha >= 1/255 inside the ellipse d^T Q d <= 2 ln(255 o).
// Exact and opacity-aware; ours, after the bounds sqrt(2 ln(255 o)) known from the literature.
#pragma once
#include <cmath>

#include "linear.h"

namespace pose_rasterizer {

#define POSE_ALPHA_MIN (1.0 / 255.0)     // 3DGS: contributions below are skipped
#define POSE_ALPHA_MAX 0.99              // 3DGS: alpha is clamped here (no gradient above)
#define POSE_TRANSMITTANCE_MIN 1e-4      // 3DGS: a pixel stops before falling below

// Inverse of the image covariance. False where it isn't positive definite (or not finite).
template <class T> POSE_HD bool make_conic(Sym2<T> cov, Sym2<T>& conic) {
    const T det = cov.xx * cov.yy - cov.xy * cov.xy;
    if (!(det > T(0)) || !(cov.xx > T(0))) return false;
    const T inv = T(1) / det;
    conic = {cov.yy * inv, -cov.xy * inv, cov.xx * inv};
    return inv < T(1e30);
}

// Adjoint of the inverse: v_cov = -Q v_Q Q. (The CPU back end sums 1/2 (Qd)(Qd)^T per pixel
// instead, which is the same thing and better conditioned.)
template <class T> POSE_HD Sym2<T> make_conic_vjp(Sym2<T> q, Sym2<T> v) {
    const T a = v.xx * q.xx + v.xy * q.xy, b = v.xx * q.xy + v.xy * q.yy;
    const T c = v.xy * q.xx + v.yy * q.xy, d = v.xy * q.xy + v.yy * q.yy;
    return {-(q.xx * a + q.xy * c), -(q.xx * b + q.xy * d), -(q.xy * b + q.yy * d)};
}

// Squared extent 2 ln(255 o) of the visible ellipse; not positive where nothing is visible.
template <class T> POSE_HD T extent_squared(T opacity) {
    using std::log;
    return opacity > T(POSE_ALPHA_MIN) ? T(2) * log(opacity / T(POSE_ALPHA_MIN)) : T(0);
}

// Length of the longer half axis of the visible ellipse, px.
template <class T> POSE_HD T long_half_axis(Sym2<T> cov, T extent2) {
    using std::sqrt;
    const T mid = T(0.5) * (cov.xx + cov.yy), diff = T(0.5) * (cov.xx - cov.yy);
    return sqrt(extent2 * (mid + sqrt(diff * diff + cov.xy * cov.xy)));
}

// The ellipse as tile_span needs it: half sizes of its box and where its right end lies.
template <class T> struct Footprint {
    T half_x, half_y;   // px
    T dy_right;         // y of the rightmost point, from the centre, px; the leftmost is at -dy_right
};

template <class T> POSE_HD Footprint<T> make_footprint(Sym2<T> cov, T extent2) {
    using std::sqrt;
    const T sx = sqrt(cov.xx), r = sqrt(extent2);
    return {r * sx, r * sqrt(cov.yy), r * cov.xy / sx};
}

// Range [x0, x1] (px from the centre) of the ellipse within rows y0..y1 (px from the centre).
// False where they don't meet. The right border is concave in y, the left one convex, so the
// extremes lie at the clamped positions of the ellipse's own ends.
template <class T>
POSE_HD bool tile_span(const Footprint<T>& f, Sym2<T> q, T extent2, T y0, T y1, T& x0, T& x1) {
    using std::sqrt;
    if (!(y1 >= -f.half_y) || !(y0 <= f.half_y)) return false;
    const T low = y0 > -f.half_y ? y0 : -f.half_y, high = y1 < f.half_y ? y1 : f.half_y;
    const T inv = T(1) / q.xx;
    const T det = q.xx * q.yy - q.xy * q.xy;
    const T yr = clamp(f.dy_right, low, high), yl = clamp(-f.dy_right, low, high);
    const T dr = q.xx * extent2 - det * yr * yr, dl = q.xx * extent2 - det * yl * yl;
    x1 = (-q.xy * yr + sqrt(dr > T(0) ? dr : T(0))) * inv;
    x0 = (-q.xy * yl - sqrt(dl > T(0) ? dl : T(0))) * inv;
    return true;
}

}  // namespace pose_rasterizer
