// One camera's view of the Gaussians, sorted and binned: what forward leaves for backward.
#pragma once
#include <cstdint>
#include <vector>

#include "../common/camera.h"
#include "../common/footprint.h"
#include "../common/schema.h"
#include "simd.h"

namespace pose_rasterizer {

constexpr int kTile = 8;  // px; one SIMD vector is one row of a tile
constexpr double kLog2E = 1.4426950408889634;

// A visible Gaussian in the image. Position and conic in double: power is a small difference of
// large terms for long thin Gaussians, and far from the image's origin.
struct Splat {
    double x, y;               // px
    double qxx, qxy, qyy;      // conic, px^-2
    float log2_opacity;
    float z;
};

struct Entry {
    uint32_t splat;  // rank in depth order
    uint32_t slot;   // this splat's k-th tile: slot_begin[splat] + k
};

struct Frame {
    CameraModel<double> camera;
    int tiles_x = 0, tiles_y = 0;
    int num_threads = 1;
    int num_channels = 0;
    std::vector<int64_t> ids;          // Gaussian of each splat, front to back
    std::vector<int64_t> culled;       // Gaussians that aren't visible
    std::vector<Splat> splats;         // front to back
    std::vector<float> colours;        // [splat, C]
    std::vector<uint32_t> slot_begin;  // [splats + 1]
    std::vector<uint32_t> tile_begin;  // [tiles + 1]
    std::vector<Entry> entries;        // per tile, front to back
    std::vector<float> records;        // [slot, 7 + C] sums over a tile's pixels (backward)

    // scratch, kept so that the next frame needn't fault its pages in again
    std::vector<Splat> unsorted;
    std::vector<uint64_t> keys, keys_other;
    std::vector<uint32_t> histogram;

    int num_splats() const { return static_cast<int>(splats.size()); }
    int record_size() const { return 7 + num_channels; }
};

// Positions of a record's sums; with p = log alpha, e = Q (pixel - mean), dp = dL/dp:
// sum dp, sum dp e (2), sum dp e e^T (3), sum w dL/d(depth) , sum w dL/d(colour) (C).
enum Record { kSum = 0, kSumE = 1, kSumEE = 3, kSumZ = 6, kSumColour = 7 };

// project.cpp: projects, culls, sorts, evaluates colours and bins. False: too many tile entries.
bool build_frame(const PoseScene& scene, Frame& frame, int32_t* radii);
// project_vjp.cpp: from the records to the gradients of the inputs.
void frame_vjp(const PoseScene& scene, Frame& frame, const PoseGradients& grads);
// blend.cpp: the tiles' pixels, front to back.
void blend_forward(const PoseScene& scene, const Frame& frame, const PoseImages& out);
void blend_backward(const PoseScene& scene, Frame& frame, const PoseImages& images,
                    const PoseGradients& grads, bool want_colours);

}  // namespace pose_rasterizer
