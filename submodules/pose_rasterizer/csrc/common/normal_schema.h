// Parameter blocks of the normal equations, the same for every back end.
// python: pose_rasterizer/normal_native.py declares the same fields in the same order.
#pragma once
#include <cstdint>

extern "C" {

// Residuals r_c = gain_c F_c + offset_c A + (1 - A) backdrop_c - target_c, and A - silhouette.
struct PoseResiduals {
    const float* target;             // [C, H, W]
    const float* weight;             // [C, H, W], >= 0
    const float* gain;               // [C]
    const float* offset;             // [C]
    const float* backdrop;           // [C]
    const float* robust_scale;       // [C], 0 = least squares
    const float* silhouette_target;  // [H, W], or null
    const float* silhouette_weight;  // [H, W], or null
    int32_t direction_term;          // 0: colours are taken as independent of the position
    // 0: gain and offset per channel, in the system. 1: each tile's own light divided out; gain and
    // offset aren't read, robust_scale is of a window's normalised difference, P = 6.
    int32_t window_light;
    float contrast_floor;            // standard deviation that every window has at least
    float silhouette_scale;          // robust scale of the silhouette's windows, 0 = least squares
};

struct PoseNormalEquations {
    double* cost;      // [1]
    double* hessian;   // [P, P], P = 6 + 2 C: twist, gains, offsets; or 6
    double* gradient;  // [P]
    float* image;      // [C, H, W], over black
    float* alpha;      // [H, W]
    int32_t* radii;    // [N]
};

}  // extern "C"
