// A pinhole camera (OpenCV axes) and the EWA projection of a Gaussian, with the adjoints.
// Sources: EWA splatting (Zwicker et al. 2001), eq. 24-31; 3D Gaussian Splatting, eq. 5.
#pragma once
#include "linear.h"

namespace pose_rasterizer {

// Low-pass filter added to the diagonal of the image covariance, px^2 (3DGS, sec. 4 and appendix).
#define POSE_BLUR_PX2 0.3
// The Jacobian is evaluated no further out than this share of the half field of view (3DGS).
#define POSE_FRUSTUM_MARGIN 0.3

template <class T> struct CameraModel {
    Mat3<T> rotation;     // world to camera
    Vec3<T> translation;  // world to camera
    Vec3<T> centre;       // camera position in the world: -R^T t
    T fx, fy, cx, cy;     // px
    T x_min, x_max;       // range of x/z at which the Jacobian is evaluated
    T y_min, y_max;
    T near;
    int width, height;
};

// viewmat: row-major [4, 4] world_to_camera; intrinsics: row-major [3, 3], no skew.
template <class T>
POSE_HD CameraModel<T> make_camera(const float* viewmat, const float* intrinsics, int width,
                                   int height, float near) {
    CameraModel<T> c;
    for (int i = 0; i < 3; ++i)
        c.rotation.row[i] = {T(viewmat[4 * i]), T(viewmat[4 * i + 1]), T(viewmat[4 * i + 2])};
    c.translation = {T(viewmat[3]), T(viewmat[7]), T(viewmat[11])};
    c.centre = T(-1) * mul_transposed(c.rotation, c.translation);
    c.fx = T(intrinsics[0]), c.fy = T(intrinsics[4]);
    c.cx = T(intrinsics[2]), c.cy = T(intrinsics[5]);
    const T margin_x = T(POSE_FRUSTUM_MARGIN) * T(width) / (T(2) * c.fx);
    const T margin_y = T(POSE_FRUSTUM_MARGIN) * T(height) / (T(2) * c.fy);
    c.x_min = -c.cx / c.fx - margin_x, c.x_max = (T(width) - c.cx) / c.fx + margin_x;
    c.y_min = -c.cy / c.fy - margin_y, c.y_max = (T(height) - c.cy) / c.fy + margin_y;
    c.near = T(near), c.width = width, c.height = height;
    return c;
}

// Camera coordinates of a world point.
template <class T> POSE_HD Vec3<T> to_camera(const CameraModel<T>& c, Vec3<T> p) {
    return mul(c.rotation, p) + c.translation;
}

// Pixel coordinates of a camera point (z > 0).
template <class T> POSE_HD Vec2<T> project_point(const CameraModel<T>& c, Vec3<T> t) {
    const T inv_z = T(1) / t.z;
    return {c.fx * t.x * inv_z + c.cx, c.fy * t.y * inv_z + c.cy};
}

template <class T>
POSE_HD Vec3<T> project_point_vjp(const CameraModel<T>& c, Vec3<T> t, Vec2<T> v) {
    const T inv_z = T(1) / t.z, a = c.fx * v.x * inv_z, b = c.fy * v.y * inv_z;
    return {a, b, -(a * t.x + b * t.y) * inv_z};
}

// Rows of U = J R: J is the Jacobian of project_point at (clamped x/z, clamped y/z, z).
template <class T> struct EwaRows {
    Vec3<T> u0, u1;
    T j00, j02, j11, j12;  // the entries of J that are not zero
    T inv_z;
    bool inside_x, inside_y;  // whether x/z, y/z were left as they are
};

template <class T> POSE_HD EwaRows<T> ewa_rows(const CameraModel<T>& c, Vec3<T> t) {
    EwaRows<T> e;
    e.inv_z = T(1) / t.z;
    const T x = t.x * e.inv_z, y = t.y * e.inv_z;
    const T ux = clamp(x, c.x_min, c.x_max), uy = clamp(y, c.y_min, c.y_max);
    e.inside_x = ux == x, e.inside_y = uy == y;
    e.j00 = c.fx * e.inv_z, e.j11 = c.fy * e.inv_z;
    e.j02 = -e.j00 * ux, e.j12 = -e.j11 * uy;
    e.u0 = e.j00 * c.rotation.row[0] + e.j02 * c.rotation.row[2];
    e.u1 = e.j11 * c.rotation.row[1] + e.j12 * c.rotation.row[2];
    return e;
}

// Image covariance U Sigma U^T + 0.3 I, px^2.
template <class T> POSE_HD Sym2<T> image_covariance(const EwaRows<T>& e, Sym3<T> sigma) {
    const Vec3<T> a = mul(sigma, e.u0), b = mul(sigma, e.u1);
    return {dot(a, e.u0) + T(POSE_BLUR_PX2), dot(a, e.u1), dot(b, e.u1) + T(POSE_BLUR_PX2)};
}

// Gradient to Sigma: U^T G U.
template <class T> POSE_HD Sym3<T> image_covariance_vjp_world(const EwaRows<T>& e, Sym2<T> g) {
    const Vec3<T> a = g.xx * e.u0 + g.xy * e.u1, b = g.xy * e.u0 + g.yy * e.u1;
    return {e.u0.x * a.x + e.u1.x * b.x, e.u0.x * a.y + e.u1.x * b.y, e.u0.x * a.z + e.u1.x * b.z,
            e.u0.y * a.y + e.u1.y * b.y, e.u0.y * a.z + e.u1.y * b.z, e.u0.z * a.z + e.u1.z * b.z};
}

// Gradient through U = J R, from those of its rows. Adds to the camera point's gradient `v_t` and,
// where `v_rotation` is not null, to the gradient of the camera's rotation.
template <class T>
POSE_HD void ewa_rows_vjp(const CameraModel<T>& c, const EwaRows<T>& e, Vec3<T> t, Vec3<T> v_u0,
                          Vec3<T> v_u1, Vec3<T>& v_t, Mat3<T>* v_rotation) {
    if (v_rotation != nullptr) {
        v_rotation->row[0] = v_rotation->row[0] + e.j00 * v_u0;
        v_rotation->row[1] = v_rotation->row[1] + e.j11 * v_u1;
        v_rotation->row[2] = v_rotation->row[2] + (e.j02 * v_u0 + e.j12 * v_u1);
    }
    const T v_j00 = dot(v_u0, c.rotation.row[0]), v_j02 = dot(v_u0, c.rotation.row[2]);
    const T v_j11 = dot(v_u1, c.rotation.row[1]), v_j12 = dot(v_u1, c.rotation.row[2]);
    // j00 = fx / z, j02 = -(fx / z) u with u = x / z inside the margin and constant outside it.
    T v_z = -e.inv_z * (e.j00 * v_j00 + e.j02 * v_j02 + e.j11 * v_j11 + e.j12 * v_j12);
    if (e.inside_x) {
        const T v_u = -e.j00 * v_j02 * e.inv_z;
        v_t.x += v_u;
        v_z -= v_u * t.x * e.inv_z;
    }
    if (e.inside_y) {
        const T v_u = -e.j11 * v_j12 * e.inv_z;
        v_t.y += v_u;
        v_z -= v_u * t.y * e.inv_z;
    }
    v_t.z += v_z;
}

// Gradient of the image covariance through U: v_U = 2 G U Sigma.
template <class T>
POSE_HD void image_covariance_vjp_camera(const CameraModel<T>& c, const EwaRows<T>& e, Vec3<T> t,
                                         Sym3<T> sigma, Sym2<T> g, Vec3<T>& v_t,
                                         Mat3<T>* v_rotation) {
    const Vec3<T> v_u0 = T(2) * mul(sigma, g.xx * e.u0 + g.xy * e.u1);
    const Vec3<T> v_u1 = T(2) * mul(sigma, g.xy * e.u0 + g.yy * e.u1);
    ewa_rows_vjp(c, e, t, v_u0, v_u1, v_t, v_rotation);
}

// Camera position -R^T t: turns its gradient `v_centre` into those of R and t (added).
template <class T>
POSE_HD void camera_centre_vjp(const CameraModel<T>& c, Vec3<T> v_centre, Mat3<T>& v_rotation,
                               Vec3<T>& v_translation) {
    v_rotation.row[0] = v_rotation.row[0] - c.translation.x * v_centre;
    v_rotation.row[1] = v_rotation.row[1] - c.translation.y * v_centre;
    v_rotation.row[2] = v_rotation.row[2] - c.translation.z * v_centre;
    v_translation = v_translation - mul(c.rotation, v_centre);
}

}  // namespace pose_rasterizer
