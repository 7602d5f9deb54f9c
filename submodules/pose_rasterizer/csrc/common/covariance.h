// Quaternion and scales to the world covariance of a Gaussian, and the adjoints.
// Source: 3D Gaussian Splatting (Kerbl et al. 2023), sec. 4: Sigma = R S S^T R^T.
#pragma once
#include <cmath>

#include "linear.h"

namespace pose_rasterizer {

// q / |q|; `norm` receives |q| (at least 1e-12, so that a zero quaternion stays finite).
template <class T> POSE_HD Quat<T> quat_normalise(Quat<T> q, T& norm) {
    using std::sqrt;
    norm = sqrt(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z);
    if (!(norm > T(1e-12))) norm = T(1e-12);
    const T inv = T(1) / norm;
    return {q.w * inv, q.x * inv, q.y * inv, q.z * inv};
}

// `q` is the normalised quaternion, `norm` the length it had.
template <class T> POSE_HD Quat<T> quat_normalise_vjp(Quat<T> q, T norm, Quat<T> v) {
    const T along = q.w * v.w + q.x * v.x + q.y * v.y + q.z * v.z;
    const T inv = T(1) / norm;
    return {(v.w - q.w * along) * inv, (v.x - q.x * along) * inv, (v.y - q.y * along) * inv,
            (v.z - q.z * along) * inv};
}

// Rotation matrix of a unit quaternion (w, x, y, z).
template <class T> POSE_HD Mat3<T> quat_to_rotation(Quat<T> q) {
    const T w = q.w, x = q.x, y = q.y, z = q.z, two = T(2), one = T(1);
    return {{{one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y)},
             {two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x)},
             {two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y)}}};
}

template <class T> POSE_HD Quat<T> quat_to_rotation_vjp(Quat<T> q, const Mat3<T>& v) {
    const T w = q.w, x = q.x, y = q.y, z = q.z, two = T(2);
    const Vec3<T>&a = v.row[0], &b = v.row[1], &c = v.row[2];
    return {two * (x * (c.y - b.z) + y * (a.z - c.x) + z * (b.x - a.y)),
            two * (w * (c.y - b.z) + y * (a.y + b.x) + z * (a.z + c.x) - two * x * (b.y + c.z)),
            two * (w * (a.z - c.x) + x * (a.y + b.x) + z * (b.z + c.y) - two * y * (a.x + c.z)),
            two * (w * (b.x - a.y) + x * (a.z + c.x) + y * (b.z + c.y) - two * z * (a.x + b.y))};
}

// Sigma = (R S)(R S)^T.
template <class T> POSE_HD Sym3<T> world_covariance(const Mat3<T>& r, Vec3<T> s) {
    const T a = s.x * s.x, b = s.y * s.y, c = s.z * s.z;
    const Vec3<T> r0 = r.row[0], r1 = r.row[1], r2 = r.row[2];
    const Vec3<T> w0 = {a * r0.x, b * r0.y, c * r0.z}, w1 = {a * r1.x, b * r1.y, c * r1.z},
                  w2 = {a * r2.x, b * r2.y, c * r2.z};
    return {dot(w0, r0), dot(w0, r1), dot(w0, r2), dot(w1, r1), dot(w1, r2), dot(w2, r2)};
}

// With G the gradient of Sigma: v_M = 2 G M for M = R S, so v_R = v_M S, v_s_j = sum_i v_M_ij R_ij.
template <class T>
POSE_HD void world_covariance_vjp(const Mat3<T>& r, Vec3<T> s, Sym3<T> g, Mat3<T>& v_r,
                                  Vec3<T>& v_s) {
    const Vec3<T> c0 = mul(g, Vec3<T>{r.row[0].x, r.row[1].x, r.row[2].x});
    const Vec3<T> c1 = mul(g, Vec3<T>{r.row[0].y, r.row[1].y, r.row[2].y});
    const Vec3<T> c2 = mul(g, Vec3<T>{r.row[0].z, r.row[1].z, r.row[2].z});
    v_s = {T(2) * s.x * (c0.x * r.row[0].x + c0.y * r.row[1].x + c0.z * r.row[2].x),
           T(2) * s.y * (c1.x * r.row[0].y + c1.y * r.row[1].y + c1.z * r.row[2].y),
           T(2) * s.z * (c2.x * r.row[0].z + c2.y * r.row[1].z + c2.z * r.row[2].z)};
    const T a = T(2) * s.x * s.x, b = T(2) * s.y * s.y, c = T(2) * s.z * s.z;
    v_r = {{{a * c0.x, b * c1.x, c * c2.x},
            {a * c0.y, b * c1.y, c * c2.y},
            {a * c0.z, b * c1.z, c * c2.z}}};
}

}  // namespace pose_rasterizer
