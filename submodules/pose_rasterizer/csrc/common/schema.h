// The C interface's parameter blocks, the same for every back end. Tensors are float32, contiguous.
// python: pose_rasterizer/native.py declares the same fields in the same order.
#pragma once
#include <cstdint>

extern "C" {

struct PoseScene {
    const float* means;       // [N, 3]
    const float* quats;       // [N, 4] wxyz, any length
    const float* scales;      // [N, 3]
    const float* opacities;   // [N]
    const float* features;    // [N, K, C] SH coefficients, or [N, C] colours where num_coeffs is 0
    const float* viewmat;     // [4, 4] world_to_camera
    const float* intrinsics;  // [3, 3]
    const float* background;  // [C]
    const float* offset;      // [N, 2] px, or null
    int64_t num_gaussians;
    int32_t num_channels;
    int32_t num_coeffs;       // K
    int32_t sh_degree;        // degrees used
    int32_t width, height;
    float near;
    int32_t num_threads;      // CPU only
};

struct PoseImages {           // outputs of forward, inputs of backward
    float* image;             // [C, H, W]
    float* alpha;             // [H, W]
    float* depth;             // [H, W]
    int32_t* radii;           // [N]
};

struct PoseGradients {
    const float* v_image;     // [C, H, W], or null
    const float* v_alpha;     // [H, W], or null
    const float* v_depth;     // [H, W], or null
    float* v_means;           // from here on: outputs; null = not wanted
    float* v_quats;
    float* v_scales;
    float* v_opacities;
    float* v_features;        // like features
    float* v_viewmat;         // [4, 4]
    float* v_background;      // [C]
    float* v_offset;          // [N, 2]
    int32_t accumulate;       // 1: add to v_means..v_features, 0: overwrite them
};

}  // extern "C"
