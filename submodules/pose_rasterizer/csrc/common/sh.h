// Real spherical harmonics up to degree 3 in the order of 3DGS, and their derivative to the
// direction. Source: Sloan, "Stupid Spherical Harmonics Tricks" (2008), appendix A2.
#pragma once
#include <cmath>

#include "linear.h"

namespace pose_rasterizer {

#define POSE_SH_C0 0.28209479177387814
#define POSE_SH_C1 0.4886025119029199
#define POSE_SH_C20 1.0925484305920792
#define POSE_SH_C21 0.31539156525252005
#define POSE_SH_C22 0.5462742152960396
#define POSE_SH_C30 0.5900435899266435
#define POSE_SH_C31 2.890611442640554
#define POSE_SH_C32 0.4570457994644658
#define POSE_SH_C33 0.3731763325901154
#define POSE_SH_C34 1.445305721320277

POSE_HD int sh_num_coeffs(int degree) { return (degree + 1) * (degree + 1); }

// Basis values b[0..(degree+1)^2) at the unit direction d.
template <class T> POSE_HD void sh_basis(int degree, Vec3<T> d, T* b) {
    const T x = d.x, y = d.y, z = d.z;
    b[0] = T(POSE_SH_C0);
    if (degree < 1) return;
    b[1] = -T(POSE_SH_C1) * y, b[2] = T(POSE_SH_C1) * z, b[3] = -T(POSE_SH_C1) * x;
    if (degree < 2) return;
    const T xx = x * x, yy = y * y, zz = z * z;
    b[4] = T(POSE_SH_C20) * x * y, b[5] = -T(POSE_SH_C20) * y * z;
    b[6] = T(POSE_SH_C21) * (T(2) * zz - xx - yy);
    b[7] = -T(POSE_SH_C20) * x * z, b[8] = T(POSE_SH_C22) * (xx - yy);
    if (degree < 3) return;
    b[9] = -T(POSE_SH_C30) * y * (T(3) * xx - yy);
    b[10] = T(POSE_SH_C31) * x * y * z;
    b[11] = -T(POSE_SH_C32) * y * (T(4) * zz - xx - yy);
    b[12] = T(POSE_SH_C33) * z * (T(2) * zz - T(3) * xx - T(3) * yy);
    b[13] = -T(POSE_SH_C32) * x * (T(4) * zz - xx - yy);
    b[14] = T(POSE_SH_C34) * z * (xx - yy);
    b[15] = -T(POSE_SH_C30) * x * (xx - T(3) * yy);
}

// Gradient to the direction from the gradient `v` of the basis values.
template <class T> POSE_HD Vec3<T> sh_basis_vjp(int degree, Vec3<T> d, const T* v) {
    const T x = d.x, y = d.y, z = d.z;
    Vec3<T> g = {T(0), T(0), T(0)};
    if (degree < 1) return g;
    g = {-T(POSE_SH_C1) * v[3], -T(POSE_SH_C1) * v[1], T(POSE_SH_C1) * v[2]};
    if (degree < 2) return g;
    const T a = T(POSE_SH_C20), b = T(2) * T(POSE_SH_C21), c = T(2) * T(POSE_SH_C22);
    g.x += a * (y * v[4] - z * v[7]) - b * x * v[6] + c * x * v[8];
    g.y += a * (x * v[4] - z * v[5]) - b * y * v[6] - c * y * v[8];
    g.z += -a * (y * v[5] + x * v[7]) + T(2) * b * z * v[6];
    if (degree < 3) return g;
    const T xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
    const T e = T(POSE_SH_C30), f = T(POSE_SH_C31), h = T(POSE_SH_C32), k = T(POSE_SH_C33),
            m = T(POSE_SH_C34);
    g.x += -e * T(6) * xy * v[9] + f * yz * v[10] + h * T(2) * xy * v[11] - k * T(6) * xz * v[12] -
           h * (T(4) * zz - T(3) * xx - yy) * v[13] + m * T(2) * xz * v[14] -
           e * T(3) * (xx - yy) * v[15];
    g.y += -e * T(3) * (xx - yy) * v[9] + f * xz * v[10] -
           h * (T(4) * zz - xx - T(3) * yy) * v[11] - k * T(6) * yz * v[12] +
           h * T(2) * xy * v[13] - m * T(2) * yz * v[14] + e * T(6) * xy * v[15];
    g.z += f * xy * v[10] - h * T(8) * yz * v[11] + k * (T(6) * zz - T(3) * xx - T(3) * yy) * v[12] -
           h * T(8) * xz * v[13] + m * (xx - yy) * v[14];
    return g;
}

// Unit direction from the camera's position to a Gaussian; `inv_length` receives 1 / distance.
template <class T> POSE_HD Vec3<T> view_direction(Vec3<T> mean, Vec3<T> centre, T& inv_length) {
    using std::sqrt;
    const Vec3<T> r = mean - centre;
    inv_length = T(1) / sqrt(dot(r, r));
    return inv_length * r;
}

// Gradient to the mean; the camera position receives its negative.
template <class T> POSE_HD Vec3<T> view_direction_vjp(Vec3<T> d, T inv_length, Vec3<T> v) {
    return inv_length * (v - dot(d, v) * d);
}

}  // namespace pose_rasterizer
