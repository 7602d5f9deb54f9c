// The adjoint of blending: from the gradients of the images to sums per splat.
//
// Walks front to back again, as on the CPU: what lies behind a splat is the finished image less
// what has passed. A warp collects 16 splats that reached its pixels, one (v, w) per pixel in
// shared memory; then each lane takes one splat and half of the warp's pixels and adds up, so that
// a splat costs 12 instructions of reduction where shuffles would cost 90. v = dL/d(log alpha),
// w = weight in the image. Deterministic mode adds to 64-bit fixed point: sums of integers don't
// depend on their order.
#pragma once
#include "forward.cuh"

namespace pose_rasterizer {

constexpr int kGroup = 16;              // splats per reduction
constexpr int kPairRow = 33;            // float2 per splat: 32 pixels and padding for the banks
constexpr int kDirectCapacity = 2048;   // keys, for tiles without a list

// Blocks on a multiprocessor, by measurement: more registers pay with more colours.
template <int C> constexpr int kBackwardBlocks = C <= 4 ? 4 : 3;

// Floats of a pixel's gradient in shared memory: colours and, with depth, z.
template <int C, bool kDepth> constexpr int kLightFloats = (C + (kDepth ? 1 : 0) + 3) / 4 * 4;

template <int C, bool kDepth> constexpr int kBackwardBytes =
    kTileThreads * kSplatVectors<C> * 16 + kTileThreads * kLightFloats<C, kDepth> * 4 +
    kWarps * kGroup * kPairRow * 8 + kWarps * kStageIds * 4 + kTileThreads * 4 + kTileThreads;

// The power of two that deterministic sums are multiplied by, from the maxima of `find_bounds`:
// no sum can leave 63 bits. Not finite gradients: NaN, which then reaches every output.
__device__ __forceinline__ float fixed_scale(const PoseCudaArgs& a) {
    const uint32_t* m = a.bounds;
    const float plain = __uint_as_float(m[0]), image = __uint_as_float(m[1]),
                depth = __uint_as_float(m[2]), colour = __uint_as_float(m[3]),
                z = __uint_as_float(m[4]), extent = __uint_as_float(m[5]);
    const float q = plain + image * colour + depth * z;
    const float most = fmaxf(2.0f * q * fmaxf(extent, 1.0f), fmaxf(image, depth));
    if (!(most < 1e37f)) return __uint_as_float(0x7fc00000u);
    int exponent;
    frexpf(fmaxf(most, 1e-30f), &exponent);
    int pixels = 0;
    while ((int64_t(1) << pixels) < int64_t(a.width) * a.height) ++pixels;
    return ldexpf(1.0f, 61 - exponent - pixels);
}

// Light that reaches a pixel's gradient: g per colour (and z), q0, and what is still behind.
template <int C, bool kDepth> struct PixelLight {
    float g[C], gz = 0.0f, q0 = 0.0f, behind = 0.0f;

    __device__ __forceinline__ void load(const PoseCudaArgs& a, const Pixel& pixel) {
        const int64_t pixels = int64_t(a.width) * a.height;
        const int64_t at = pixel.camera * pixels + pixel.at;
        const float alpha = a.alpha[at], left = 1.0f - alpha;
        q0 = a.v_alpha != nullptr ? a.v_alpha[at] : 0.0f;
        float total = 0.0f;
#pragma unroll
        for (int c = 0; c < C; ++c) {
            const int64_t k = (int64_t(pixel.camera) * C + c) * pixels + pixel.at;
            g[c] = a.v_image != nullptr ? a.v_image[k] : 0.0f;
            total += g[c] * (a.image[k] - left * background_of(a, pixel.camera, c));
            q0 -= g[c] * background_of(a, pixel.camera, c);
        }
        if (kDepth && alpha > 0.0f) {
            const float depth = a.depth[at];
            gz = a.v_depth[at] / alpha;
            q0 -= gz * depth;
            total += gz * depth * alpha;
        }
        behind = total + q0 * alpha;
    }

    // What a unit of the splat's weight is worth.
    __device__ __forceinline__ float worth(const float4* splat, float z) const {
        float q = kDepth ? q0 + gz * z : q0;
#pragma unroll
        for (int c = 0; c < C; ++c) q += g[c] * record_colour<C>(splat, c);
        return q;
    }

    // Passes a splat; v = dL/d(log alpha), nothing where alpha is clamped.
    __device__ __forceinline__ float2 pass(float alpha, float q, float& transmittance, bool& live) {
        const float weight = pass_light(alpha, transmittance, live), gain = weight * q;
        behind -= gain;
        const float v = gain - alpha * behind * fast_reciprocal(1.0f - alpha);
        return make_float2(alpha < kAlphaMax ? v : 0.0f, weight);
    }
};

// Sums of one splat over half of a warp's pixels.
template <int C, bool kDepth> struct SplatSums {
    static constexpr int kLights = C + (kDepth ? 1 : 0);
    float v = 0, v1 = 0, v2 = 0, v11 = 0, v12 = 0, v22 = 0;
    float light[kLights] = {};

    // Rows 2 half, 2 half + 1 of the warp's pixels, whose first centre is (x, y).
    __device__ __forceinline__ void add_rows(const float2* pairs, const float* lights, float4 p,
                                             float4 q, float x, float y, int half) {
        constexpr int L = kLightFloats<C, kDepth>;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int row = 2 * half + r;
            const float dx = x - p.x, dy = y + row - p.y;
            const float start = p.z * dx + p.w * dy, y2 = q.x * dy;
            float s = 0.0f, s1 = 0.0f;
#pragma unroll
            for (int k = 0; k < 8; ++k) {
                const float2 pair = pairs[8 * row + k];
                const float y1 = start + p.z * float(k);
                const float t = pair.x * y1;
                s += pair.x, s1 += t, v11 += t * y1;
                const float4* g = reinterpret_cast<const float4*>(lights + (8 * row + k) * L);
#pragma unroll
                for (int c = 0; c < kLights; ++c) {
                    const float4 part = g[c / 4];
                    light[c] += pair.y * (c % 4 == 0 ? part.x : c % 4 == 1 ? part.y
                                          : c % 4 == 2 ? part.z : part.w);
                }
            }
            v += s, v1 += s1, v2 += y2 * s, v12 += y2 * s1, v22 += y2 * y2 * s;
        }
    }

    // Adds both halves' sums to memory; lanes 0..15 and 16..31 take every other vector.
    __device__ __forceinline__ void write(const PoseCudaArgs& a, int64_t splat, bool mine, int half,
                                          float scale) const {
        float parts[kSumFloats<C>] = {v, v1, v2, v11, v12, v22};
#pragma unroll
        for (int c = 0; c < kLights; ++c) parts[6 + c] = light[c];
#pragma unroll
        for (int k = 0; k < 6 + kLights; ++k)
            parts[k] += __shfl_xor_sync(kFullWarp, parts[k], kGroup);
        if (!mine) return;
        if (a.deterministic) {
            auto* to = static_cast<unsigned long long*>(a.sums) + splat * a.sum_stride;
#pragma unroll
            for (int k = 0; k < 6 + kLights; ++k)
                if (k % 2 == half)
                    atomicAdd(to + k, (unsigned long long)__float2ll_rn(parts[k] * scale));
            return;
        }
        float* to = static_cast<float*>(a.sums) + splat * a.sum_stride;
#pragma unroll
        for (int k = 0; k < kSumFloats<C> / 4; ++k)
            if (k % 2 == half && 4 * k < 6 + kLights)
                atomic_add4(to + 4 * k, make_float4(parts[4 * k], parts[4 * k + 1],
                                                    parts[4 * k + 2], parts[4 * k + 3]));
    }
};

// What a warp collects before it reduces.
template <int C, bool kDepth> struct WarpGroup {
    float2* pairs;          // [kGroup, kPairRow] of this warp
    const float* lights;    // [32, kLightFloats] of this warp
    float x, y;             // centre of the warp's first pixel
    int count = 0;
    // the splat that this lane will reduce: its record outlives the stage it came from
    float4 p = {};
    float4 q = {};
    uint32_t id = 0;

    __device__ __forceinline__ void push(const WarpStage<C>& stage, int i, float2 pair) {
        const int lane = threadIdx.x % 32;
        pairs[count * kPairRow + lane] = pair;
        if (lane % kGroup == count) {
            const float4* splat = stage.splats + i * kSplatVectors<C>;
            p = splat[0], q.x = splat[1].x, id = stage.ids[i];
        }
        ++count;
    }

    __device__ __forceinline__ void flush(const PoseCudaArgs& a, int64_t first_splat, float scale) {
        if (count == 0) return;
        __syncwarp();
        const int lane = threadIdx.x % 32, half = lane / kGroup;
        const bool mine = lane % kGroup < count;
        SplatSums<C, kDepth> sums;
        if (mine)
            sums.add_rows(pairs + lane % kGroup * kPairRow, lights, p, q, x, y, half);
        sums.write(a, first_splat + (mine ? id : 0), mine, half, scale);
        __syncwarp();
        count = 0;
    }
};

template <int C, bool kDepth>
__global__ __launch_bounds__(kTileThreads, kBackwardBlocks<C>) void backward_tiles(PoseCudaArgs a) {
    constexpr int V = kSplatVectors<C>, L = kLightFloats<C, kDepth>;
    POSE_DYNAMIC_SHARED(arena);
    __shared__ int size;
    float4* splats = arena;                                                 // [warps, 32, V]
    float* lights = reinterpret_cast<float*>(splats + kTileThreads * V);    // [threads, L]
    float2* pairs = reinterpret_cast<float2*>(lights + kTileThreads * L);   // [warps, group, row]
    uint32_t* queues = reinterpret_cast<uint32_t*>(pairs + kWarps * kGroup * kPairRow);
    uint32_t* own_ids = queues + kWarps * kStageIds;  // of tiles without a list
    uint8_t* own_masks = reinterpret_cast<uint8_t*>(own_ids + kTileThreads);
    uint64_t* keys = reinterpret_cast<uint64_t*>(pairs);  // only while no group is open
    static_assert(kDirectCapacity * 8 <= kWarps * kGroup * kPairRow * 8, "keys must fit");

    const TileGrid grid(a);
    const Pixel pixel(a, grid);
    const uint32_t begin = a.begins[pixel.tile], used = a.used[pixel.tile];
    if (used == 0) return;
    const int warp = threadIdx.x / 32;
    PixelLight<C, kDepth> light = {};
    if (pixel.inside) light.load(a, pixel);
#pragma unroll
    for (int c = 0; c < L; ++c)
        lights[threadIdx.x * L + c] = c < C ? light.g[c < C ? c : 0] : c == C ? light.gz : 0.0f;
    const float scale = a.deterministic ? fixed_scale(a) : 1.0f;
    const int64_t first_splat = pixel.camera * a.num_gaussians;
    WarpGroup<C, kDepth> group = {pairs + warp * kGroup * kPairRow, lights + warp * 32 * L,
                                  pixel.tx * kTile + 8 * (warp % 2) + 0.5f,
                                  pixel.ty * kTile + 4 * (warp / 2) + 0.5f};
    const WarpStage<C> stage = {splats + warp * 32 * V, queues + warp * kStageIds};
    const float x = pixel.column + 0.5f, y = pixel.row + 0.5f;
    float transmittance = 1.0f;
    bool live = pixel.inside;
    __syncwarp();  // the warp's lights are there
    uint64_t after = 0;
    int m;
    for (uint32_t base = 0; base < used; base += m) {
        const uint32_t* ids = a.ids + begin;
        const uint8_t* masks = a.masks == nullptr ? nullptr : a.masks + begin;
        m = int(used);
        if (begin == kNoList) {
            if (__syncthreads_count(live) == 0) break;
            const SceneSource<C> source = {
                reinterpret_cast<const float4*>(a.splats) + first_splat * V,
                a.radii + first_splat, a.num_gaussians, grid, pixel.tx, pixel.ty};
            m = used - base < kTileThreads ? int(used - base) : kTileThreads;
            const int n = select_next<kDirectCapacity, kTileThreads>(source, after, keys, &size);
            m = n < m ? n : m;
            if (m == 0) break;
            after = keys[m - 1];
            if (int(threadIdx.x) < m) {
                own_ids[threadIdx.x] = uint32_t(keys[threadIdx.x]);
                own_masks[threadIdx.x] = warp_mask<C>(a, pixel, own_ids[threadIdx.x]);
            }
            ids = own_ids, masks = own_masks;
            __syncthreads();
        }
        walk_list<C>(a, pixel.camera, ids, masks, m, stage, live, [&](int i, int j, bool two) {
            const float4 *s = stage.splats + i * V, *t = stage.splats + j * V;
            const float4 sq = s[1], tq = t[1];
            const float alpha = splat_alpha(s[0], sq, x, y);
            const float other = two ? splat_alpha(t[0], tq, x, y) : 0.0f;
            const float worth = light.worth(s, sq.z), other_worth = light.worth(t, tq.z);
            const float2 first = light.pass(alpha, worth, transmittance, live);
            const float2 second = light.pass(other, other_worth, transmittance, live);
            if (__any_sync(kFullWarp, first.y != 0.0f)) group.push(stage, i, first);
            if (__any_sync(kFullWarp, second.y != 0.0f)) group.push(stage, j, second);
            if (group.count > kGroup - 2) group.flush(a, first_splat, scale);
        });
        group.flush(a, first_splat, scale);
    }
}

// Bits of the record's colours that are above 0: the others were clamped.
template <int C> __device__ __forceinline__ uint32_t positive_colours(const float4* record) {
    uint32_t bits = 0;
#pragma unroll
    for (int c = 0; c < C; ++c)
        if (record_colour<C>(record, c) > 0.0f) bits |= 1u << c;
    return bits;
}

// Prepares the rows of v_features that hold the sums: zeroes, and what the adjoint needs of the
// records; in whole memory sectors of 8 floats (a strided memset was measured 10 times slower).
template <int C> __global__ __launch_bounds__(256) void clear_sums(PoseCudaArgs a) {
    constexpr int kVectors = kRowFloats<C> / 4;
    const int64_t k = int64_t(blockIdx.x) * 256 + threadIdx.x;
    if (k >= a.num_gaussians * kVectors) return;
    float* row = static_cast<float*>(a.sums) + k / kVectors * a.sum_stride;
    float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const int64_t splat = k / kVectors;
    if (k % kVectors == kSumFloats<C> / 4 && a.radii[splat] > 0) {
        const float4* record = reinterpret_cast<const float4*>(a.splats) + splat * kSplatVectors<C>;
        const float4 p = record[0];
        value = make_float4(p.z, p.w, record[1].x, __uint_as_float(positive_colours<C>(record)));
    }
    reinterpret_cast<float4*>(row)[k % kVectors] = value;
}

// Maxima over pixels and splats that bound every sum of backward_tiles: |q0|, sum_c |g_c|, |g_z|,
// colours, z, and the largest squared extent. Non-negative floats order like their bits.
template <int C> __global__ __launch_bounds__(256) void find_bounds(PoseCudaArgs a) {
    const int64_t pixels = int64_t(a.width) * a.height, all = pixels * a.num_cameras;
    const int64_t splats = a.num_gaussians * a.num_cameras;
    const int64_t stride = int64_t(gridDim.x) * 256;
    float most[6] = {};
    auto raise = [&](int k, float v) { most[k] = v <= most[k] ? most[k] : v; };  // NaN wins
    for (int64_t k = int64_t(blockIdx.x) * 256 + threadIdx.x; k < all; k += stride) {
        const int64_t b = k / pixels;
        float plain = a.v_alpha != nullptr ? fabsf(a.v_alpha[k]) : 0.0f, sum = 0.0f;
        for (int c = 0; c < C && a.v_image != nullptr; ++c) {
            const float g = fabsf(a.v_image[(b * C + c) * pixels + k % pixels]);
            sum += g, plain += g * fabsf(background_of(a, int(b), c));
        }
        if (a.v_depth != nullptr && a.alpha[k] > 0.0f) {
            const float gz = fabsf(a.v_depth[k] / a.alpha[k]);
            raise(2, gz), plain += gz * a.depth[k];
        }
        raise(0, plain), raise(1, sum);
    }
    for (int64_t k = int64_t(blockIdx.x) * 256 + threadIdx.x; k < splats; k += stride) {
        if (a.radii[k] <= 0) continue;
        const float* record = a.splats + k * kSplatVectors<C> * 4;
        for (int c = 0; c < C; ++c) raise(3, fabsf(record[7 + c]));
        raise(4, record[6]), raise(5, record[5] - kLog2AlphaMin + kExtentSlack);
    }
    for (int k = 0; k < 6; ++k)
        if (!(most[k] <= 0.0f)) atomicMax(a.bounds + k, __float_as_uint(most[k]) & 0x7fffffffu);
}

}  // namespace pose_rasterizer
