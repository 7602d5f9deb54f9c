// The parameter block of the CUDA back end's entry points. Pointers are to device memory; tensors
// are float32 and contiguous unless a stride says otherwise.
// python: pose_rasterizer/cuda.py declares the same fields in the same order.
#pragma once
#include <cstdint>

namespace pose_rasterizer {

constexpr int kTile = 16;              // px, side of a tile: one block of threads
constexpr int kCounterWords = 8;        // a tile's count and cursor have a memory sector of their own
constexpr int kTileThreads = kTile * kTile;
constexpr int kIdBits = 24;             // of ids that have room for a mask
constexpr int kMaxOrdered = 4096;       // tiles; more keep the multiprocessors busy in any order
constexpr uint32_t kNoList = 0x80000000u;  // of a tile whose list didn't fit the memory given

// A splat's record: (x, y, l11, l21), (l22, log2 opacity, z, colour 0), then the other colours.
// l is the conic's root, scaled so that log2(alpha) = log2(opacity) - y1^2 - y2^2 with
// (y1, y2) = (l11 dx + l21 dy, l22 dy).
template <int C> constexpr int kSplatVectors = (7 + C + 3) / 4;
// Sums per splat that the pixels leave for the adjoint: v, v y1, v y2, v y1^2, v y1 y2, v y2^2,
// w dL/dcolour (C), w dL/dz; padded to whole float4.
template <int C> constexpr int kSumFloats = (6 + C + 1 + 3) / 4 * 4;
// Where sums lie in the rows of v_features, what the adjoint needs of a record follows them: l11, l21,
// l22, bits of the colours above 0. The records can be freed before the adjoint's outputs are made.
constexpr int kKeptFloats = 4;
template <int C>
constexpr int kRowFloats = (kSumFloats<C> + kKeptFloats + 7) / 8 * 8;  // whole sectors
constexpr int kPoseFloats = 16;  // rotation 9, translation 3, camera centre 3, padding
// Normal equations. Of a splat: 5 numbers per pose column (see factor_jvp.h), with the direction term
// 3 per colour; in whole float4. Sums of a tile: 21 pose pairs, pose gradient 6, cost, then 17 per colour.
template <int C, bool kDirection>
constexpr int kColumnVectors = (30 + (kDirection ? 3 * C : 0) + 3) / 4;
constexpr int kPoseSums = 28, kLightSums = 17;
template <int C> constexpr int kNormalSums = kPoseSums + kLightSums * C;

}  // namespace pose_rasterizer

extern "C" {

struct PoseCudaArgs {
    // the model, shared by all cameras
    const float* means;       // [N, 3]
    const float* quats;       // [N, 4] wxyz, any length
    const float* scales;      // [N, 3]
    const float* opacities;   // [N]
    const float* features;    // [N, K, C] SH coefficients, or [N, C] colours where num_coeffs is 0
    // the cameras
    const float* viewmats;    // [B, 4, 4] world_to_camera
    const float* intrinsics;  // [B, 3, 3]
    const float* backgrounds; // [B, C]
    const float* offsets;     // [B, N, 2] px, or null
    // outputs of forward, inputs of backward
    float* image;             // [B, C, H, W]
    float* alpha;             // [B, H, W]
    float* depth;             // [B, H, W]
    int32_t* radii;           // [B, N]
    // memory that forward leaves for backward
    float* splats;            // [B, N, 4 * kSplatVectors]
    uint32_t* begins;         // [B, tiles] start of a tile's list in `ids`, or kNoList
    uint32_t* used;           // [B, tiles] splats that the tile's pixels looked at
    uint32_t* ids;            // [capacity] Gaussians, front to back; above kIdBits the mask
    uint8_t* masks;           // [capacity] or null: then they are in `ids`. Bit w: reaches the pixels
                              // of the tile's warp w
    uint32_t* order;          // [B, tiles] the tiles in the order of their blocks, or null: as they are
    // scratch of forward
    uint64_t* total;          // [1] entries of all lists
    uint32_t* counters;       // [B, tiles, kCounterWords] count, cursor, padding
    uint64_t* keys;           // [capacity] depth and Gaussian
    int64_t* host_total;      // pinned host memory that receives *total, or null
    // backward: inputs
    const float* v_image;     // [B, C, H, W] or null
    const float* v_alpha;     // [B, H, W] or null
    const float* v_depth;     // [B, H, W] or null
    // backward: scratch
    void* sums;               // [B, N, sum_stride] float, or int64 in deterministic mode; forward zeroes
                              // [B, N, kSumFloats] and the tickets where it isn't null
    uint32_t* tickets;        // [B]
    uint32_t* bounds;         // [8] maxima that fix the deterministic mode's scale
    float* pose_parts;        // [B, blocks, kPoseFloats], 16-byte aligned
    // backward: outputs; null = not wanted
    float* v_means;
    float* v_quats;
    float* v_scales;
    float* v_opacities;
    float* v_features;
    float* v_viewmats;        // [B, 4, 4]
    float* v_offsets;         // [B, N, 2]
    void* stream;
    int64_t num_gaussians;
    int64_t capacity;         // entries of `keys` and `ids`; below 2^31
    int64_t sum_stride;       // numbers between splats' sums; they may lie in the rows of v_features
    int32_t num_cameras;
    int32_t num_coeffs;       // K
    int32_t sh_degree;        // degrees used
    int32_t width, height;
    int32_t keep;             // 1: backward will follow
    int32_t deterministic;
    int32_t device;
    int32_t adjoint_blocks;   // grid x of splats_adjoint
    int32_t multiprocessors;
    float near;
};

// Of pose_cuda_normal_equations. `render` as forward left it with keep = 1, without background.
struct PoseCudaNormal {
    PoseCudaArgs render;
    const float* target;             // [B, C, H, W]
    const float* weight;             // [B, C, H, W], >= 0
    const float* gain;               // [B, C]
    const float* offset;             // [B, C]
    const float* backdrop;           // [B, C]
    const float* robust_scale;       // [C], 0 = least squares
    const float* silhouette_target;  // [B, H, W], or null
    const float* silhouette_weight;  // [B, H, W], or null
    float* columns;                  // scratch: [B, N, 4 * kColumnVectors]
    float* parts;                    // scratch: [B, tiles, kNormalSums]
    double* cost;                    // [B]
    double* hessian;                 // [B, P, P], P = 6 + 2 C: twist, gains, offsets; or 6
    double* gradient;                // [B, P]
    int32_t direction_term;          // 0: colours are taken as independent of the position
    // 0: gain and offset per channel, in the system. 1: each 8x8 window's own light divided out; gain and
    // offset aren't read, robust_scale is of a window's normalised difference, P = 6.
    int32_t window_light;
    float contrast_floor;            // standard deviation that every window has at least
    float silhouette_scale;          // robust scale of the silhouette's windows, 0 = least squares
};

}  // extern "C"
