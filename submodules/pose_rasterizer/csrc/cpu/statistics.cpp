// What a frame's blending has to do, and what one core can do: for the benchmark's arithmetic floor.
#include <chrono>

#include "../common/export.h"
#include "tile.h"

namespace {

using namespace pose_rasterizer;

struct CountVisitor {
    TileLight& light;
    int64_t* counts;
    void prefetch(uint32_t) {}
    void begin(uint32_t) { ++counts[1]; }
    void row(int r, Float8 power) {
        Float8 before;
        const Float8 alpha = light.pass(r, power, before);
        ++counts[2];
        counts[3] += __builtin_popcount(lane_bits(alpha > splat(0.0f)));
    }
    void end(const TilePower&) {}
    void skip(uint32_t) {}
};

}  // namespace

// counts[4]: (Gaussian, tile) entries, those blended, rows of 8 pixels blended, pixels that received
// light from them. `handle` as pose_cpu_forward returned it.
POSE_EXPORT void pose_cpu_statistics(void* handle, int64_t* counts) {
    const Frame& frame = *static_cast<Frame*>(handle);
    counts[0] = static_cast<int64_t>(frame.entries.size());
    counts[1] = counts[2] = counts[3] = 0;
    for (int tile = 0; tile < frame.tiles_x * frame.tiles_y; ++tile) {
        const int x = tile % frame.tiles_x * kTile, y = tile / frame.tiles_x * kTile;
        const int columns = frame.camera.width - x, rows = frame.camera.height - y;
        TileLight light;
        light.start(columns < kTile ? columns : kTile, rows < kTile ? rows : kTile);
        CountVisitor visitor{light, counts};
        walk_tile(frame, tile, light, visitor);
    }
}

// Gflop/s of one thread in multiply-adds on independent vectors, best of ten short trials.
POSE_EXPORT double pose_cpu_peak_gflops() {
    constexpr int kChains = 12, kSteps = 400000;
    double best = 0;
    for (int trial = 0; trial < 10; ++trial) {
        Float8 a[kChains];
        for (int i = 0; i < kChains; ++i) a[i] = splat(1.0f + i);
        Float8 m = splat(0.999f), c = splat(0.001f);
        const auto start = std::chrono::steady_clock::now();
        for (int k = 0; k < kSteps; ++k) {
            for (int i = 0; i < kChains; ++i) a[i] = a[i] * m + c;
            asm volatile("" : : : "memory");
        }
        const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
        Float8 sum = a[0];
        for (int i = 1; i < kChains; ++i) sum += a[i];
        volatile float sink = sum_lanes(sum);  // keeps the loop alive
        (void)sink;
        const double rate = 2.0 * kLanes * kChains * kSteps / spent.count() * 1e-9;
        if (rate > best) best = rate;
    }
    return best;
}
