// Small vectors and matrices shared by host and device.
//
// Symmetric matrices hold each off-diagonal entry once. A gradient `v_s` of a symmetric matrix is
// the full-matrix one, dL = sum_ij v_s_ij dS_ij: its off-diagonal entry stands for both (i,j) and
// (j,i), so it is half the derivative to the shared number.
#pragma once

#if defined(__CUDACC__)
#define POSE_HD __host__ __device__ __forceinline__
#else
#define POSE_HD inline
#endif

namespace pose_rasterizer {

template <class T> struct Vec2 { T x, y; };
template <class T> struct Vec3 { T x, y, z; };
template <class T> struct Quat { T w, x, y, z; };
template <class T> struct Sym2 { T xx, xy, yy; };
template <class T> struct Sym3 { T xx, xy, xz, yy, yz, zz; };
template <class T> struct Mat3 { Vec3<T> row[3]; };  // row-major

template <class T> POSE_HD Vec3<T> operator+(Vec3<T> a, Vec3<T> b) {
    return {a.x + b.x, a.y + b.y, a.z + b.z};
}
template <class T> POSE_HD Vec3<T> operator-(Vec3<T> a, Vec3<T> b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class T> POSE_HD Vec3<T> operator*(T s, Vec3<T> a) { return {s * a.x, s * a.y, s * a.z}; }
template <class T> POSE_HD T dot(Vec3<T> a, Vec3<T> b) { return a.x * b.x + a.y * b.y + a.z * b.z; }

// S v for a symmetric S.
template <class T> POSE_HD Vec3<T> mul(Sym3<T> s, Vec3<T> v) {
    return {s.xx * v.x + s.xy * v.y + s.xz * v.z, s.xy * v.x + s.yy * v.y + s.yz * v.z,
            s.xz * v.x + s.yz * v.y + s.zz * v.z};
}
// M v.
template <class T> POSE_HD Vec3<T> mul(const Mat3<T>& m, Vec3<T> v) {
    return {dot(m.row[0], v), dot(m.row[1], v), dot(m.row[2], v)};
}
// M^T v.
template <class T> POSE_HD Vec3<T> mul_transposed(const Mat3<T>& m, Vec3<T> v) {
    return v.x * m.row[0] + v.y * m.row[1] + v.z * m.row[2];
}
template <class T> POSE_HD T clamp(T value, T low, T high) {
    return value < low ? low : (value > high ? high : value);
}

}  // namespace pose_rasterizer
