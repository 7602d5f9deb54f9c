// The walk over one tile, front to back: each warp picks the splats that reach its 8x4 pixels from
// the tile's list, 32 at a time, and waits for no other warp. Forward, backward and later passes
// (forward-mode Jacobians) use the same walk with another visit.
//
// A block owns a 16x16 tile, a thread one pixel: warp w has columns 8 (w % 2).. and rows
// 4 (w / 2).., lane l the pixel (l % 8, l / 8) of it.
#pragma once
#include "order.cuh"

namespace pose_rasterizer {

constexpr float kAlphaMax = float(POSE_ALPHA_MAX);
constexpr float kTransmittanceMin = float(POSE_TRANSMITTANCE_MIN);

struct Pixel {
    int camera, tile;   // tile: among all cameras'
    int tx, ty;
    int column, row;    // px
    int64_t at;         // row-major index within the camera's image
    bool inside;

    __device__ Pixel(const PoseCudaArgs& a, const TileGrid& g) {
        tile = a.order != nullptr ? int(a.order[blockIdx.x]) : int(blockIdx.x);
        camera = tile / g.count();
        const int local = tile % g.count();
        tx = local % g.tiles_x, ty = local / g.tiles_x;
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        column = tx * kTile + 8 * (warp % 2) + lane % 8;
        row = ty * kTile + 4 * (warp / 2) + lane / 8;
        inside = column < g.width && row < g.height;
        at = int64_t(row) * g.width + column;
    }
};

// Exponent (powers of two) of a splat at a pixel. Forward and backward must agree to the bit.
__device__ __forceinline__ float splat_power(float4 p, float4 q, float x, float y) {
    const float dx = __fadd_rn(x, -p.x), dy = __fadd_rn(y, -p.y);
    const float y1 = __fmaf_rn(p.z, dx, __fmul_rn(p.w, dy)), y2 = __fmul_rn(q.x, dy);
    return __fmaf_rn(-y1, y1, __fmaf_rn(-y2, y2, q.y));
}

// alpha of a splat at a pixel, 0 below 1/255.
__device__ __forceinline__ float splat_alpha(float4 p, float4 q, float x, float y) {
    const float power = splat_power(p, q, x, y);
    return power < kLog2AlphaMin ? 0.0f : fminf(fast_exp2(power), kAlphaMax);
}

// Takes a splat's light from a pixel's transmittance; returns its weight. A pixel that would fall
// below the least transmittance stops instead; then alpha becomes 0.
__device__ __forceinline__ float pass_light(float& alpha, float& transmittance, bool& live) {
    const float next = transmittance * (1.0f - alpha);
    live = live && !(next < kTransmittanceMin);
    if (!live) alpha = 0.0f;
    const float weight = alpha * transmittance;
    if (live) transmittance = next;
    return weight;
}

__device__ __forceinline__ float background_of(const PoseCudaArgs& a, int camera, int c) {
    return a.backgrounds == nullptr ? 0.0f : a.backgrounds[camera * POSE_CHANNELS + c];
}

// Colour c of the record q, rest (see args.h).
template <int C> __device__ __forceinline__ float record_colour(const float4* splat, int c) {
    const float4 v = splat[(7 + c) / 4];
    const int k = (7 + c) % 4;
    return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w;
}

// Bit w: the splat reaches the pixels of the tile's warp w.
template <int C>
__device__ __forceinline__ uint8_t warp_mask(const PoseCudaArgs& a, const Pixel& pixel,
                                             uint32_t id) {
    const float4* from = reinterpret_cast<const float4*>(a.splats) +
                         (int64_t(pixel.camera) * a.num_gaussians + id) * kSplatVectors<C>;
    const float4 p = __ldg(from), q = __ldg(from + 1);
    const Region region = make_region(Ellipse{p.x, p.y, p.z, p.w, q.x, q.y});
    return uint8_t(block_mask(region, pixel.tx * kTile, pixel.ty * kTile, a.width));
}

// A warp's own shared memory: splats that reach its pixels, and which are next.
template <int C> struct WarpStage {
    float4* splats;  // [32, kSplatVectors]
    uint32_t* ids;   // [kStageIds]
};
constexpr int kStageIds = 64;

// Calls visit(i, j, two) for the list's splats that reach this warp's pixels, in order, two at a
// time so that their arithmetic overlaps (j counts only if `two`; four were no faster), until no
// lane is live. i and j are places in the stage. Warps don't wait for each other. `masks` null: they
// are in `ids`.
template <int C, class Visit>
__device__ __forceinline__ void walk_list(const PoseCudaArgs& a, int camera, const uint32_t* ids,
                                          const uint8_t* masks, int n, const WarpStage<C>& stage,
                                          const bool& live, Visit visit) {
    constexpr int V = kSplatVectors<C>;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float4* splats =
        reinterpret_cast<const float4*>(a.splats) + int64_t(camera) * a.num_gaussians * V;
    unsigned next_mask = 0;
    uint32_t next_id = 0;
    const auto fetch = [&](int k) {
        next_id = k < n ? ids[k] : 0;
        if (masks != nullptr) next_mask = k < n ? masks[k] : 0;
        else next_mask = next_id >> kIdBits, next_id &= (1u << kIdBits) - 1;
    };
    fetch(lane);
    int waiting = 0;  // of stage.ids
    for (int group = 0; group < n; group += 32) {
        const bool mine = (next_mask >> warp & 1) != 0;
        const uint32_t id = next_id;
        fetch(group + 32 + lane);
        const unsigned hits = __ballot_sync(kFullWarp, mine);
        if (mine) stage.ids[waiting + __popc(hits & ((1u << lane) - 1))] = id;
        waiting += __popc(hits);
        const bool last = group + 32 >= n;
        while (waiting >= 32 || (last && waiting > 0)) {
            __syncwarp();
            const int count = waiting < 32 ? waiting : 32;
            if (lane < count) {
                const float4* from = splats + int64_t(stage.ids[lane]) * V;
#pragma unroll
                for (int v = 0; v < V; ++v) stage.splats[lane * V + v] = __ldg(from + v);
            }
            __syncwarp();
            for (int i = 0; i < count; i += 2) {
                const bool two = i + 1 < count;
                visit(i, two ? i + 1 : i, two);
            }
            if (!__any_sync(kFullWarp, live)) return;
            waiting -= count;
            const uint32_t rest = lane < waiting ? stage.ids[32 + lane] : 0;
            __syncwarp();
            if (lane < waiting) stage.ids[lane] = rest;
        }
    }
}

}  // namespace pose_rasterizer
