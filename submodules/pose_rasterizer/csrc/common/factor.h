// The image covariance in factored form, V V^T + 0.3 I with V = J R_camera R S, and its adjoint.
//
// Float suffices here even for long thin Gaussians: the determinant is a sum of squares
// (Cauchy-Binet), and the adjoint multiplies by L^T V, whose norm is at most 1, before it
// multiplies by L; the textbook form subtracts numbers (long axis / short axis)^2 times as large.
// Ours; used by the CUDA back end.
#pragma once
#include <cmath>

#include "camera.h"
#include "covariance.h"

namespace pose_rasterizer {

// Rows of V, px.
template <class T> struct ImageFactor { Vec3<T> v0, v1; };


template <class T>
POSE_HD ImageFactor<T> image_factor(const EwaRows<T>& e, const Mat3<T>& rotation, Vec3<T> scales) {
    const Vec3<T> a = mul_transposed(rotation, e.u0), b = mul_transposed(rotation, e.u1);
    return {{a.x * scales.x, a.y * scales.y, a.z * scales.z},
            {b.x * scales.x, b.y * scales.y, b.z * scales.z}};
}

template <class T> POSE_HD Sym2<T> factor_covariance(const ImageFactor<T>& f) {
    return {dot(f.v0, f.v0) + T(POSE_BLUR_PX2), dot(f.v0, f.v1),
            dot(f.v1, f.v1) + T(POSE_BLUR_PX2)};
}

// L with conic = L L^T, lower triangular: the exponent is -1/2 |L^T d|^2.
template <class T> struct ConicRoot { T l11, l21, l22; };

// False where the covariance isn't finite.
template <class T>
POSE_HD bool make_conic_root(const ImageFactor<T>& f, Sym2<T> cov, ConicRoot<T>& root) {
    using std::sqrt;
    const Vec3<T> c = {f.v0.y * f.v1.z - f.v0.z * f.v1.y, f.v0.z * f.v1.x - f.v0.x * f.v1.z,
                       f.v0.x * f.v1.y - f.v0.y * f.v1.x};
    const T blur = T(POSE_BLUR_PX2);
    const T det = dot(c, c) + blur * (dot(f.v0, f.v0) + dot(f.v1, f.v1) + blur);
    if (!(det < T(1e37)) || !(cov.xx < T(1e37)) || !(cov.yy < T(1e37))) return false;
    root.l11 = sqrt(cov.yy / det);
    root.l21 = -root.l11 * (cov.xy / cov.yy);
    root.l22 = T(1) / sqrt(cov.yy);
    return true;
}

// Gradient to V from Y = sum v y y^T, where y = L^T d and v = dL/d(exponent): L Y (L^T V).
template <class T>
POSE_HD ImageFactor<T> image_factor_vjp(const ImageFactor<T>& f, ConicRoot<T> l, Sym2<T> y) {
    const Vec3<T> w0 = l.l11 * f.v0 + l.l21 * f.v1, w1 = l.l22 * f.v1;
    const Vec3<T> a0 = y.xx * w0 + y.xy * w1, a1 = y.xy * w0 + y.yy * w1;
    return {l.l11 * a0, l.l21 * a0 + l.l22 * a1};
}

// From the gradient of V = U (R S) to that of the rows u0, u1 of U.
template <class T>
POSE_HD void factor_rows_vjp(const Mat3<T>& rotation, Vec3<T> s, const ImageFactor<T>& v,
                             Vec3<T>& v_u0, Vec3<T>& v_u1) {
    v_u0 = mul(rotation, Vec3<T>{s.x * v.v0.x, s.y * v.v0.y, s.z * v.v0.z});
    v_u1 = mul(rotation, Vec3<T>{s.x * v.v1.x, s.y * v.v1.y, s.z * v.v1.z});
}

// From the gradient of V = U (R S) to those of R and of the scales: v_M = U^T v_V, M = R S.
template <class T>
POSE_HD void factor_shape_vjp(const EwaRows<T>& e, const Mat3<T>& r, Vec3<T> s,
                              const ImageFactor<T>& v, Mat3<T>& v_r, Vec3<T>& v_s) {
    const Vec3<T> m0 = e.u0.x * v.v0 + e.u1.x * v.v1, m1 = e.u0.y * v.v0 + e.u1.y * v.v1,
                  m2 = e.u0.z * v.v0 + e.u1.z * v.v1;
    v_s = {m0.x * r.row[0].x + m1.x * r.row[1].x + m2.x * r.row[2].x,
           m0.y * r.row[0].y + m1.y * r.row[1].y + m2.y * r.row[2].y,
           m0.z * r.row[0].z + m1.z * r.row[1].z + m2.z * r.row[2].z};
    v_r = {{{m0.x * s.x, m0.y * s.y, m0.z * s.z},
            {m1.x * s.x, m1.y * s.y, m1.z * s.z},
            {m2.x * s.x, m2.y * s.y, m2.z * s.z}}};
}

}  // namespace pose_rasterizer
