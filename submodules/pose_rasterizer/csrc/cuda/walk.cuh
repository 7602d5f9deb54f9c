// The walk over one tile: batches of splats in shared memory, front to back; each warp looks only
// at those that reach its 8x4 pixels. Forward, backward and later passes (forward-mode Jacobians)
// use the same walk with another visit.
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

    __device__ Pixel(const TileGrid& g) {
        camera = blockIdx.x / g.count(), tile = blockIdx.x;
        const int local = blockIdx.x % g.count();
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

// Copies this thread's splat into the batch and notes which warps' pixels it reaches.
template <int C>
__device__ __forceinline__ void load_splat(const PoseCudaArgs& a, const Pixel& pixel, uint32_t id,
                                           float4* batch, uint8_t* masks) {
    constexpr int V = kSplatVectors<C>;
    const float4* from = reinterpret_cast<const float4*>(a.splats) +
                         (int64_t(pixel.camera) * a.num_gaussians + id) * V;
    float4* to = batch + threadIdx.x * V;
    const float4 p = __ldg(from), q = __ldg(from + 1);
    to[0] = p, to[1] = q;
#pragma unroll
    for (int k = 2; k < V; ++k) to[k] = __ldg(from + k);
    const Region region = make_region(Ellipse{p.x, p.y, p.z, p.w, q.x, q.y});
    masks[threadIdx.x] =
        uint8_t(block_mask(region, pixel.tx * kTile, pixel.ty * kTile, a.width));
}

// Calls visit(i, j, two) for the batch's splats that reach this warp's pixels, two at a time so that
// their arithmetic overlaps (j counts only if `two`), until no lane is live. Four were no faster.
template <class Visit>
__device__ __forceinline__ void walk_batch(const uint8_t* masks, int n, const bool& live,
                                           Visit visit) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int group = 0; group < n; group += 32) {
        if (!__any_sync(kFullWarp, live)) return;
        const bool mine = group + lane < n && (masks[group + lane] >> warp & 1) != 0;
        unsigned hits = __ballot_sync(kFullWarp, mine);
        while (hits != 0) {
            const int i = group + __ffs(hits) - 1;
            hits &= hits - 1;
            const bool two = hits != 0;
            const int j = two ? group + __ffs(hits) - 1 : i;
            hits &= hits - 1;
            visit(i, j, two);
        }
    }
}

}  // namespace pose_rasterizer
