// Which tiles, and which 8x4 pixel blocks of a tile, a splat reaches: exact and opacity-aware.
//
// Works on the record's own numbers (the conic's root), which stays accurate for long thin splats.
// Rounding is spelled out (no contraction left to the compiler): counting and filling the tile
// lists happen in two kernels and must agree to the bit.
#pragma once
#include "args.h"
#include "platform.cuh"

namespace pose_rasterizer {

constexpr float kLog2AlphaMin = -7.994353436858858f;  // log2(1/255)
constexpr float kExtentSlack = 1e-4f;   // on the squared extent: admits a little more, never less
constexpr float kPixelSlack = 2e-3f;    // px, likewise
constexpr int kSerialTiles = 24;        // larger splats are shared by the warp's lanes

struct Ellipse { float x, y, l11, l21, l22, log2_opacity; };

// The region |(l11 dx + l21 dy, l22 dy)|^2 <= extent.
struct Region {
    float x, y, inv_l11, l21, l22, extent;
    float half_x, half_y;  // px
    float dy_right;        // y of the rightmost point from the centre; the leftmost is at -dy_right
};

__device__ __forceinline__ Region make_region(const Ellipse& e) {
    Region r;
    r.x = e.x, r.y = e.y, r.l21 = e.l21, r.l22 = e.l22;
    r.extent = __fadd_rn(e.log2_opacity, kExtentSlack - kLog2AlphaMin);
    const float root = fast_sqrt(fmaxf(r.extent, 0.0f)), inv_l22 = fast_reciprocal(e.l22);
    const float norm =
        fast_sqrt(__fadd_rn(__fmul_rn(e.l22, e.l22), __fmul_rn(e.l21, e.l21)));
    r.inv_l11 = fast_reciprocal(e.l11);
    r.half_y = __fmul_rn(root, inv_l22);
    r.half_x = __fmul_rn(__fmul_rn(root, __fmul_rn(norm, inv_l22)), r.inv_l11);
    r.dy_right = -__fmul_rn(__fmul_rn(e.l21, r.half_y), fast_reciprocal(norm));
    return r;
}

__device__ __forceinline__ float clamp_float(float v, float low, float high) {
    return fminf(fmaxf(v, low), high);
}

// Range [first, last] of the pixel columns, clipped to [0, width), that the region reaches within
// the `rows` pixel rows from `row` on. The right border is concave in y, the left one convex, so
// their extremes lie at the clamped positions of the region's own ends.
__device__ __forceinline__ bool pixel_span(const Region& r, int row, int rows, int width,
                                           int& first, int& last) {
    const float top = __fadd_rn(float(row) + (0.5f - kPixelSlack), -r.y);
    const float bottom = __fadd_rn(float(row + rows) + (kPixelSlack - 0.5f), -r.y);
    const float low = fmaxf(top, -r.half_y), high = fminf(bottom, r.half_y);
    if (!(low <= high)) return false;
    const float yr = clamp_float(r.dy_right, low, high), yl = clamp_float(-r.dy_right, low, high);
    const float ar = __fmul_rn(r.l22, yr), al = __fmul_rn(r.l22, yl);
    const float dr = fast_sqrt(fmaxf(__fadd_rn(r.extent, -__fmul_rn(ar, ar)), 0.0f));
    const float dl = fast_sqrt(fmaxf(__fadd_rn(r.extent, -__fmul_rn(al, al)), 0.0f));
    const float x1 = __fmul_rn(__fadd_rn(dr, -__fmul_rn(r.l21, yr)), r.inv_l11);
    const float x0 = -__fmul_rn(__fadd_rn(dl, __fmul_rn(r.l21, yl)), r.inv_l11);
    const float a = fmaxf(ceilf(__fadd_rn(__fadd_rn(r.x, x0), -0.5f - kPixelSlack)), 0.0f);
    const float b =
        fminf(floorf(__fadd_rn(__fadd_rn(r.x, x1), kPixelSlack - 0.5f)), float(width - 1));
    if (!(a <= b)) return false;
    first = int(a), last = int(b);
    return true;
}

struct TileGrid {
    int width, height, tiles_x, tiles_y;
    __host__ __device__ explicit TileGrid(const PoseCudaArgs& a)
        : width(a.width), height(a.height), tiles_x((a.width + kTile - 1) / kTile),
          tiles_y((a.height + kTile - 1) / kTile) {}
    __host__ __device__ int count() const { return tiles_x * tiles_y; }
};

struct TileBox { int x0, y0, columns, rows; };

// Tiles around the region: a box that holds every tile it reaches. Empty: 0 rows.
__device__ __forceinline__ TileBox tile_box(const Region& r, const TileGrid& g) {
    const float slack = 0.5f + kPixelSlack;
    const float x0 = fmaxf(floorf(r.x - r.half_x - slack), 0.0f);
    const float y0 = fmaxf(floorf(r.y - r.half_y - slack), 0.0f);
    const float x1 = fminf(ceilf(r.x + r.half_x + slack), float(g.width - 1));
    const float y1 = fminf(ceilf(r.y + r.half_y + slack), float(g.height - 1));
    if (!(x0 <= x1 && y0 <= y1)) return {0, 0, 0, 0};
    const int tx = int(x0) / kTile, ty = int(y0) / kTile;
    return {tx, ty, int(x1) / kTile - tx + 1, int(y1) / kTile - ty + 1};
}

__device__ __forceinline__ bool reaches_tile(const Region& r, const TileGrid& g, int tx, int ty) {
    int first, last;
    return pixel_span(r, ty * kTile, kTile, g.width, first, last) && first / kTile <= tx &&
           tx <= last / kTile;
}

// Calls visit(tile, count, key) for each run of tiles in a row that the lane's splat reaches. All lanes of
// the warp must arrive together: splats that cover many tiles are taken one by one by the whole warp.
template <class Visit>
__device__ __forceinline__ void visit_tiles(bool visible, const Ellipse& e, uint64_t key,
                                            const TileGrid& g, Visit visit) {
    TileBox box = {0, 0, 0, 0};
    Region r;
    if (visible) {
        r = make_region(e);
        box = tile_box(r, g);
    }
    const bool large = box.columns * box.rows > kSerialTiles;
    if (!large) {
        for (int ty = box.y0; ty < box.y0 + box.rows; ++ty) {
            int first, last;
            if (!pixel_span(r, ty * kTile, kTile, g.width, first, last)) continue;
            visit(ty * g.tiles_x + first / kTile, last / kTile - first / kTile + 1, key);
        }
    }
    unsigned rest = __ballot_sync(kFullWarp, large);
    const int lane = threadIdx.x % 32;
    while (rest != 0) {
        const int from = __ffs(rest) - 1;
        rest &= rest - 1;
        const Ellipse other = {__shfl_sync(kFullWarp, e.x, from),
                               __shfl_sync(kFullWarp, e.y, from),
                               __shfl_sync(kFullWarp, e.l11, from),
                               __shfl_sync(kFullWarp, e.l21, from),
                               __shfl_sync(kFullWarp, e.l22, from),
                               __shfl_sync(kFullWarp, e.log2_opacity, from)};
        const uint64_t other_key = __shfl_sync(kFullWarp, (unsigned long long)key, from);
        const Region region = make_region(other);
        const TileBox b = tile_box(region, g);
        for (int k = lane; k < b.columns * b.rows; k += 32) {
            const int tx = b.x0 + k % b.columns, ty = b.y0 + k / b.columns;
            if (reaches_tile(region, g, tx, ty)) visit(ty * g.tiles_x + tx, 1, other_key);
        }
    }
}

// Bit w: the splat reaches block w of the tile at pixel (x0, y0); block w covers columns
// 8 (w % 2).. and rows 4 (w / 2)..
__device__ __forceinline__ unsigned block_mask(const Region& r, int x0, int y0, int width) {
    unsigned mask = 0;
    for (int row = 0; row < kTile / 4; ++row) {
        int first, last;
        if (!pixel_span(r, y0 + 4 * row, 4, width, first, last)) continue;
        if (first < x0 + 8 && last >= x0) mask |= 1u << (2 * row);
        if (first < x0 + 16 && last >= x0 + 8) mask |= 2u << (2 * row);
    }
    return mask;
}

}  // namespace pose_rasterizer
