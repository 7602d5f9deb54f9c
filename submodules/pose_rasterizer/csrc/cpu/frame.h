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

// A visible Gaussian in the image, one cache line. Position and conic in double: power is a small
// difference of large terms for long thin Gaussians, and far from the image's origin.
struct alignas(64) Splat {
    double x, y;             // px
    double qxx, qxy, qyy;    // conic, px^-2
    float log2_opacity;
    float z;
};

// The rows of tiles that a Gaussian's box touches, and where their spans begin.
struct TileRows {
    uint32_t first_span;
    uint16_t y, count;
};

struct Entry {
    uint32_t gaussian;
    uint32_t slot;  // this Gaussian's k-th tile: slot_begin[gaussian] + k
};

// Tiles first..last that a Gaussian reaches in one row of tiles; none where first > last.
struct Span {
    uint16_t first, last;
};

// Positions of a record's sums over a tile's pixels; with p = log alpha, dp = dL/dp and (x, y) the
// pixel's offset from the tile's centre: sum dp, sum dp (x, y), sum dp (xx, xy, yy),
// sum w dL/d(depth), sum w dL/d(colour) (C).
enum Record { kSum = 0, kSumX, kSumY, kSumXX, kSumXY, kSumYY, kSumZ, kSumColour };
constexpr uint32_t kNoRecord = ~0u;  // the tile was full before

struct Frame {
    CameraModel<double> camera;
    int tiles_x = 0, tiles_y = 0;
    int num_threads = 1;
    int num_channels = 0;
    int64_t num_gaussians = 0;
    // By Gaussian in the caller's order; of culled ones (radius 0) only slot_begin is filled.
    std::vector<Splat> splats;
    std::vector<float> colours;        // [N, C]
    std::vector<uint32_t> slot_begin;  // [N + 1]
    // By tile
    std::vector<uint32_t> tile_begin;  // [tiles + 1]
    std::vector<Entry> entries;        // per tile, front to back
    std::vector<float> records;        // [slot, 7 + C] enum Record (backward)
    std::vector<uint32_t> record_tile; // [slot] y << 16 | x of the record's tile, or kNoRecord
    // Scratch; kept so that the next frame needn't fault its pages in again
    std::vector<uint64_t> keys, keys_other;  // visible Gaussians, front to back
    std::vector<TileRows> tile_rows;         // [N]
    std::vector<Span> spans;                 // of each Gaussian, row by row
    std::vector<uint32_t> histogram;

    int record_size() const { return kSumColour + num_channels; }
};

// project.cpp: projects, culls, sorts, evaluates colours and bins. False: too many tile entries.
bool build_frame(const PoseScene& scene, Frame& frame, int32_t* radii);
// project_vjp.cpp: from the records to the gradients of the inputs.
void frame_vjp(const PoseScene& scene, const Frame& frame, const int32_t* radii,
               const PoseGradients& grads);
// blend.cpp: the tiles' pixels, front to back.
void blend_forward(const PoseScene& scene, const Frame& frame, const PoseImages& out);
void blend_backward(const PoseScene& scene, Frame& frame, const PoseImages& images,
                    const PoseGradients& grads, bool want_colours);

}  // namespace pose_rasterizer
