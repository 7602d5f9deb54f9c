// Forward-mode derivatives of a projected Gaussian by the six numbers of a pose step.
//
// The step multiplies world_to_camera from the left by exp(rho, phi), so a camera point moves by
// dt = rho + phi x t and the camera's rotation by dR = [phi]x R. A column is the derivative by one
// number; columns 0..2 are rho, 3..5 phi. Ours; checked against forward-mode autograd.
#pragma once
#include "camera.h"
#include "sh.h"

namespace pose_rasterizer {

#define POSE_COLUMNS 6

// Derivatives of the image mean (px) and of the image covariance (px^2) per column.
template <class T> struct SplatColumn {
    T mean_x, mean_y;
    T xx, xy, yy;
};

template <class T> POSE_HD Vec3<T> cross(Vec3<T> a, Vec3<T> b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

// What the columns of one Gaussian share.
template <class T> struct SplatColumns {
    EwaRows<T> ewa;
    Vec3<T> point;   // camera coordinates
    Vec3<T> w0, w1;  // R Sigma u0, R Sigma u1
    T ux, uy;        // clamped x/z, y/z
    T fx, fy;
};

template <class T>
POSE_HD SplatColumns<T> make_splat_columns(const CameraModel<T>& c, Vec3<T> point, Sym3<T> sigma) {
    SplatColumns<T> s;
    s.ewa = ewa_rows(c, point);
    s.point = point;
    s.w0 = mul(c.rotation, mul(sigma, s.ewa.u0));
    s.w1 = mul(c.rotation, mul(sigma, s.ewa.u1));
    s.ux = -s.ewa.j02 / s.ewa.j00, s.uy = -s.ewa.j12 / s.ewa.j11;
    s.fx = c.fx, s.fy = c.fy;
    return s;
}

// Column for the camera point's velocity dt and the camera's angular velocity phi (dR = [phi]x R):
// d cov_kl = (dJ_k + J_k [phi]x) . w_l + (dJ_l + J_l [phi]x) . w_k.
template <class T>
POSE_HD SplatColumn<T> splat_column(const SplatColumns<T>& s, Vec3<T> dt, Vec3<T> phi) {
    const EwaRows<T>& e = s.ewa;
    const T iz = e.inv_z;
    SplatColumn<T> out;
    out.mean_x = e.j00 * (dt.x - s.point.x * iz * dt.z);
    out.mean_y = e.j11 * (dt.y - s.point.y * iz * dt.z);
    const T dux = e.inside_x ? (dt.x - s.ux * dt.z) * iz : T(0);
    const T duy = e.inside_y ? (dt.y - s.uy * dt.z) * iz : T(0);
    const T dj00 = -e.j00 * iz * dt.z, dj11 = -e.j11 * iz * dt.z;
    const Vec3<T> j0 = {e.j00, T(0), e.j02}, j1 = {T(0), e.j11, e.j12};
    // J_k [phi]x as a row is J_k x phi.
    const Vec3<T> d0 = Vec3<T>{dj00, T(0), -dj00 * s.ux - e.j00 * dux} + cross(j0, phi);
    const Vec3<T> d1 = Vec3<T>{T(0), dj11, -dj11 * s.uy - e.j11 * duy} + cross(j1, phi);
    out.xx = T(2) * dot(d0, s.w0);
    out.xy = dot(d0, s.w1) + dot(d1, s.w0);
    out.yy = T(2) * dot(d1, s.w1);
    return out;
}

// Column 0..5 of the pose step.
template <class T> POSE_HD SplatColumn<T> pose_column(const SplatColumns<T>& s, int column) {
    Vec3<T> axis = {T(column % 3 == 0), T(column % 3 == 1), T(column % 3 == 2)};
    const Vec3<T> none = {T(0), T(0), T(0)};
    return column < 3 ? splat_column(s, axis, none) : splat_column(s, cross(axis, s.point), axis);
}

// Derivative of an SH colour by rho, given its gradient to the direction. phi has none: turning the
// camera in place leaves its position, and so the direction, where it is. centre' = -R^T rho.
template <class T>
POSE_HD Vec3<T> colour_columns(const CameraModel<T>& c, Vec3<T> direction, T inv_length,
                               Vec3<T> v_direction) {
    return mul(c.rotation, view_direction_vjp(direction, inv_length, v_direction));
}

}  // namespace pose_rasterizer
