// Forward-mode derivatives of a splat's exponent by the six numbers of a pose step, factored.
//
// With the conic's root L (conic = L L^T) and u = L^T (pixel - mean) the exponent is -|u|^2 / 2, and
//   d exponent = u . L^T dmean + u^T (L^T dV) (L^T V)^T u,   covariance = V V^T + 0.3 I.
// L^T V has norm at most 1, so float suffices for long thin Gaussians too, as in factor.h; the
// columns of pose_jvp.h, which the CPU uses, are the same derivatives before the root. Ours.
#pragma once
#include "factor.h"
#include "pose_jvp.h"

namespace pose_rasterizer {

// d exponent = u1 m1 + u2 m2 + u1^2 s11 + u1 u2 s12 + u2^2 s22.
template <class T> struct ExponentColumn {
    T m1, m2, s11, s12, s22;
};

// What the columns of one Gaussian share.
template <class T> struct FactorColumns {
    EwaRows<T> ewa;
    Vec3<T> point;    // camera coordinates
    Mat3<T> axes;     // R_camera R S: the Gaussian's scaled axes in camera coordinates
    ConicRoot<T> root;
    Vec3<T> w0, w1;   // rows of L^T V
    T ux, uy;         // clamped x/z, y/z
};

template <class T>
POSE_HD FactorColumns<T> make_factor_columns(const CameraModel<T>& c, Vec3<T> point,
                                             const EwaRows<T>& ewa, const Mat3<T>& rotation,
                                             Vec3<T> scales, const ImageFactor<T>& factor,
                                             ConicRoot<T> root) {
    FactorColumns<T> f;
    f.ewa = ewa, f.point = point, f.root = root;
    for (int k = 0; k < 3; ++k) {
        const Vec3<T> row = mul_transposed(rotation, c.rotation.row[k]);
        f.axes.row[k] = {row.x * scales.x, row.y * scales.y, row.z * scales.z};
    }
    f.w0 = root.l11 * factor.v0 + root.l21 * factor.v1, f.w1 = root.l22 * factor.v1;
    f.ux = -ewa.j02 / ewa.j00, f.uy = -ewa.j12 / ewa.j11;
    return f;
}

// Column for the camera point's velocity dt and the camera's angular velocity phi (dR = [phi]x R):
// dV_k = (dJ_k + J_k [phi]x) R_camera R S, where J_k [phi]x as a row is J_k x phi.
template <class T>
POSE_HD ExponentColumn<T> factor_column(const FactorColumns<T>& f, Vec3<T> dt, Vec3<T> phi) {
    const EwaRows<T>& e = f.ewa;
    const T iz = e.inv_z;
    const T mean_x = e.j00 * (dt.x - f.point.x * iz * dt.z);
    const T mean_y = e.j11 * (dt.y - f.point.y * iz * dt.z);
    const T dux = e.inside_x ? (dt.x - f.ux * dt.z) * iz : T(0);
    const T duy = e.inside_y ? (dt.y - f.uy * dt.z) * iz : T(0);
    const T dj00 = -e.j00 * iz * dt.z, dj11 = -e.j11 * iz * dt.z;
    const Vec3<T> d0 = Vec3<T>{dj00, T(0), -dj00 * f.ux - e.j00 * dux} +
                       cross(Vec3<T>{e.j00, T(0), e.j02}, phi);
    const Vec3<T> d1 = Vec3<T>{T(0), dj11, -dj11 * f.uy - e.j11 * duy} +
                       cross(Vec3<T>{T(0), e.j11, e.j12}, phi);
    const Vec3<T> dv0 = mul_transposed(f.axes, d0), dv1 = mul_transposed(f.axes, d1);
    const Vec3<T> dw0 = f.root.l11 * dv0 + f.root.l21 * dv1, dw1 = f.root.l22 * dv1;
    return {f.root.l11 * mean_x + f.root.l21 * mean_y, f.root.l22 * mean_y, dot(dw0, f.w0),
            dot(dw0, f.w1) + dot(dw1, f.w0), dot(dw1, f.w1)};
}

// Column 0..5 of the pose step: rho, then phi.
template <class T> POSE_HD ExponentColumn<T> pose_column(const FactorColumns<T>& f, int column) {
    const Vec3<T> axis = {T(column % 3 == 0), T(column % 3 == 1), T(column % 3 == 2)};
    const Vec3<T> none = {T(0), T(0), T(0)};
    return column < 3 ? factor_column(f, axis, none) : factor_column(f, cross(axis, f.point), axis);
}

}  // namespace pose_rasterizer
