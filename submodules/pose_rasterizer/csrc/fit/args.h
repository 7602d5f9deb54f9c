// The parameter blocks of a fit's kernels. Pointers are to device memory unless said otherwise.
// python: pose_rasterizer/fit_cuda.py declares the same fields in the same order.
#pragma once
#include <cstdint>

namespace pose_rasterizer {

constexpr int kWindowRadius = 5, kWindowTaps = 2 * kWindowRadius + 1;  // SSIM's window
constexpr int kMaxLeaves = 8;

// How the rasterizer sees a leaf; the gradient given is by that value.
enum Activation : int32_t { kIdentity = 0, kExp = 1, kSigmoid = 2 };

}  // namespace pose_rasterizer

extern "C" {

struct PoseFitLoss {
    const float* image;          // [C, H, W]
    const void* target;          // [C, H, W], float or bytes (0..255)
    const int8_t* alpha_sign;    // [H, W] or null
    float* v_image;              // [C, H, W]
    float* v_alpha;              // [H, W], where alpha_sign is given
    float* maps;                 // scratch: [3, C, H, W]; unused where ssim_weight is 0
    double* parts;               // scratch: [blocks, 3]
    double* means;               // [4]: loss, mean |x - y|, mean SSIM, mean (x - y)^2
    void* stream;
    int32_t channels, height, width, num_parts;
    int32_t target_bytes;        // 1: target holds bytes
    int32_t only_outside;        // 1: negative alpha signs count as 0
    int32_t device;
    float ssim_weight;
    float scale;                 // of v_image
    float alpha_scale;           // v_alpha = alpha_scale * sign
    float window[pose_rasterizer::kWindowTaps];
};

struct PoseFitLeaf {
    float* value;                // [count], before the activation
    const float* gradient;       // [count], by the activated value
    float* first;                // Adam's moments, [count]
    float* second;
    const float* activated;      // [count], the activated value; null: identity
    int64_t count;
    int32_t activation;
    int32_t row, head;           // of each `row` values the first `head` have rate, the others rate_rest
    float rate, rate_rest;       // learning rate / (1 - beta1^t)
    float root;                  // sqrt(1 - beta2^t)
};

struct PoseFitAdam {
    PoseFitLeaf leaves[pose_rasterizer::kMaxLeaves];
    void* stream;
    int32_t num_leaves, device;
    float beta1, beta2, epsilon;
};

}  // extern "C"
