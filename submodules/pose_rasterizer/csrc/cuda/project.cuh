// From Gaussians to tile lists: project and count, give each tile its place, fill.
//
// project_splats: a thread owns one Gaussian of one camera (grid y). It writes the splat's record
// and adds 1 to the count of each tile that it reaches. allocate_lists: a thread owns a tile; the
// lists' places come from one counter, so their order in memory is arbitrary, which is harmless.
// fill_lists: as project_splats; the order within a list is arbitrary too until the tile sorts it. Block 0
// of a small image has no splats: it orders the tiles.
#pragma once
#include "../common/camera.h"
#include "../common/factor.h"
#include "../common/footprint.h"
#include "../common/sh.h"
#include "footprint.cuh"

namespace pose_rasterizer {

constexpr int kSplatThreads = 128;
constexpr float kRootScale = 0.8493218002880191f;  // sqrt(log2(e) / 2): exponent in powers of two

// Depth and Gaussian in one number that sorts front to back; ties go by index.
__device__ __forceinline__ uint64_t depth_key(float z, uint32_t id) {
    return uint64_t(__float_as_uint(z)) << 32 | id;
}

// Projects Gaussian i into camera `c`. False where it can't be seen.
// The image position is computed in double: far from the image's origin float loses 1e-4 px.
__device__ __forceinline__ bool project_one(const PoseCudaArgs& a, const CameraModel<float>& c,
                                            int b, int64_t i, Ellipse& e, float& z,
                                            int32_t& radius) {
    const float* m = a.means + 3 * i;
    const double mx = m[0], my = m[1], mz = m[2];
    const Vec3<float>*r = c.rotation.row, &tr = c.translation;
    const double tz = r[2].x * mx + r[2].y * my + r[2].z * mz + tr.z;
    if (!(tz > double(a.near))) return false;
    const float opacity = a.opacities[i];
    const float extent2 = extent_squared(opacity);
    if (!(extent2 > 0.0f)) return false;
    const double tx = r[0].x * mx + r[0].y * my + r[0].z * mz + tr.x;
    const double ty = r[1].x * mx + r[1].y * my + r[1].z * mz + tr.y;
    const double inv_z = 1.0 / tz;
    e.x = float(c.fx * tx * inv_z + c.cx), e.y = float(c.fy * ty * inv_z + c.cy);
    if (a.offsets != nullptr) {
        const float* o = a.offsets + 2 * (b * a.num_gaussians + i);
        e.x = float(c.fx * tx * inv_z + c.cx + o[0]), e.y = float(c.fy * ty * inv_z + c.cy + o[1]);
    }
    const float *q = a.quats + 4 * i, *s = a.scales + 3 * i;
    float norm;
    const Mat3<float> rotation =
        quat_to_rotation(quat_normalise(Quat<float>{q[0], q[1], q[2], q[3]}, norm));
    const EwaRows<float> rows = ewa_rows(c, Vec3<float>{float(tx), float(ty), float(tz)});
    const ImageFactor<float> factor =
        image_factor(rows, rotation, Vec3<float>{s[0], s[1], s[2]});
    const Sym2<float> cov = factor_covariance(factor);
    ConicRoot<float> root;
    if (!make_conic_root(factor, cov, root)) return false;
    const float half_x = sqrtf(extent2 * cov.xx), half_y = sqrtf(extent2 * cov.yy);
    if (!(e.x + half_x > 0.0f && e.x - half_x < float(c.width) && e.y + half_y > 0.0f &&
          e.y - half_y < float(c.height)))
        return false;
    e.l11 = kRootScale * root.l11, e.l21 = kRootScale * root.l21, e.l22 = kRootScale * root.l22;
    e.log2_opacity = log2f(opacity);
    z = float(tz);
    radius = int32_t(ceilf(fminf(long_half_axis(cov, extent2), 1e9f)));
    return true;
}

// Four of a row's float4 from q on, of which the first `needed` count: one wait for all of them. (A load at
// a time, each behind a test whether it is needed, waited as often.)
__device__ __forceinline__ void load_row(const float4* row, int q, int needed, float4 (&to)[4]) {
#pragma unroll
    for (int k = 0; k < 4; ++k)
        to[k] = q + k < needed ? __ldg(row + q + k) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
}

// colour[c] = sum_k basis[k] features[k, c], read 16 bytes at a time where rows are aligned.
template <int C>
__device__ __forceinline__ void sum_features(const float* f, int num_coeffs, int used,
                                             const float* basis, float* colour) {
    if ((num_coeffs * C) % 4 == 0) {
        const int needed = (used * C + 3) / 4;
#pragma unroll
        for (int q = 0; q < 4 * C; q += 4) {  // 16 coefficients at most
            if (q >= needed) break;
            float4 row[4];
            load_row(reinterpret_cast<const float4*>(f), q, needed, row);
#pragma unroll
            for (int k = 0; k < 16; ++k) {
                const float4 w = row[k / 4];
                const float value = k % 4 == 0 ? w.x : k % 4 == 1 ? w.y : k % 4 == 2 ? w.z : w.w;
                if ((4 * q + k) / C < used) colour[(4 * q + k) % C] += basis[(4 * q + k) / C] * value;
            }
        }
        return;
    }
#pragma unroll
    for (int k = 0; k < 16; ++k) {
        if (k >= used) break;
#pragma unroll
        for (int c = 0; c < C; ++c) colour[c] += basis[k] * __ldg(f + k * C + c);
    }
}

template <int C>
__device__ __forceinline__ void colours_of(const PoseCudaArgs& a, const CameraModel<float>& camera,
                                           int64_t i, float* colour) {
    if (a.num_coeffs == 0) {
#pragma unroll
        for (int c = 0; c < C; ++c) colour[c] = a.features[i * C + c];
        return;
    }
    const float* m = a.means + 3 * i;
    float inv_length;
    const Vec3<float> d =
        view_direction(Vec3<float>{m[0], m[1], m[2]}, camera.centre, inv_length);
    float basis[16];
    sh_basis(a.sh_degree, d, basis);
#pragma unroll
    for (int c = 0; c < C; ++c) colour[c] = 0.5f;
    sum_features<C>(a.features + i * a.num_coeffs * C, a.num_coeffs, sh_num_coeffs(a.sh_degree),
                    basis, colour);
#pragma unroll
    for (int c = 0; c < C; ++c) colour[c] = fmaxf(colour[c], 0.0f);
}

// Zeroes what backward_tiles adds to, where it was given with forward: it saves backward a memset.
template <int C> __device__ __forceinline__ void clear_row(const PoseCudaArgs& a, int64_t splat) {
    float4* row = reinterpret_cast<float4*>(static_cast<float*>(a.sums) + splat * kSumFloats<C>);
#pragma unroll
    for (int k = 0; k < kSumFloats<C> / 4; ++k) row[k] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (splat % a.num_gaussians == 0) a.tickets[splat / a.num_gaussians] = 0;
}

template <int C> __global__ __launch_bounds__(kSplatThreads) void project_splats(PoseCudaArgs a) {
    __shared__ CameraModel<float> camera;
    const int b = blockIdx.y;
    if (threadIdx.x == 0)
        camera = make_camera<float>(a.viewmats + 16 * b, a.intrinsics + 9 * b,
                                    a.width, a.height, a.near);
    __syncthreads();
    const int64_t i = int64_t(blockIdx.x) * kSplatThreads + threadIdx.x;
    Ellipse e = {};
    float z = 0.0f;
    int32_t radius = 0;
    const bool visible = i < a.num_gaussians && project_one(a, camera, b, i, e, z, radius);
    const int64_t at = b * a.num_gaussians + i;
    if (i < a.num_gaussians) {
        a.radii[at] = visible ? radius : 0;
        if (a.sums != nullptr) clear_row<C>(a, at);
    }
    const TileGrid grid(a);
    uint32_t* counts = a.counters + int64_t(b) * grid.count() * kCounterWords;
    visit_tiles(visible, e, 0, grid, [&](int tile, int count, uint64_t) {
        for (int t = tile; t < tile + count; ++t)
            atomicAdd(counts + int64_t(t) * kCounterWords, 1u);
    });
    if (!visible) return;
    constexpr int V = kSplatVectors<C>;
    float record[4 * V] = {e.x, e.y, e.l11, e.l21, e.l22, e.log2_opacity, z};
    colours_of<C>(a, camera, i, record + 7);
    float4* to = reinterpret_cast<float4*>(a.splats) + at * V;
#pragma unroll
    for (int k = 0; k < V; ++k)
        to[k] = make_float4(record[4 * k], record[4 * k + 1], record[4 * k + 2], record[4 * k + 3]);
}

constexpr int kListThreads = 256;

__global__ __launch_bounds__(kListThreads) static void allocate_lists(PoseCudaArgs a) {
    const int64_t tiles = int64_t(a.num_cameras) * TileGrid(a).count();
    const int64_t tile = int64_t(blockIdx.x) * kListThreads + threadIdx.x;
    const int lane = threadIdx.x % 32;
    const uint32_t count = tile < tiles ? a.counters[tile * kCounterWords] : 0;
    unsigned long long sum = count;  // inclusive over the warp
    for (int offset = 1; offset < 32; offset <<= 1) {
        const unsigned long long other = __shfl_up_sync(kFullWarp, sum, offset);
        if (lane >= offset) sum += other;
    }
    unsigned long long base = 0;
    if (lane == 31 && sum > 0)
        base = atomicAdd(reinterpret_cast<unsigned long long*>(a.total), sum);
    base = __shfl_sync(kFullWarp, base, 31);
    if (tile >= tiles) return;
    const bool fits = base + sum <= (unsigned long long)a.capacity;
    const uint32_t begin = fits ? uint32_t(base + sum - count) : kNoList;
    a.begins[tile] = begin, a.counters[tile * kCounterWords + 1] = begin;
}

// Which tile each block of forward_tiles and backward_tiles takes. All blocks of a small image are on
// the multiprocessors at once, dealt out in turn: longest lists first, every other round backwards,
// gives each about the same work. By counting; lists of about the same length come in any order.
__device__ __forceinline__ void order_tiles(const PoseCudaArgs& a, int tiles) {
    constexpr int kBuckets = 256;  // length: its binary exponent and three more bits, falling
    __shared__ uint32_t places[kBuckets];
    __shared__ uint8_t buckets[kMaxOrdered];
    const auto bucket = [&](uint32_t count) {
        const int exponent = count == 0 ? 0 : 31 - __clz(count);
        const int next = exponent >= 3 ? count >> (exponent - 3) & 7 : count << (3 - exponent) & 7;
        return kBuckets - 1 - (8 * exponent + next);
    };
    for (int k = threadIdx.x; k < kBuckets; k += kSplatThreads) places[k] = 0;
    __syncthreads();
#pragma unroll 4
    for (int t = threadIdx.x; t < tiles; t += kSplatThreads) {
        const int k = bucket(__ldg(a.counters + int64_t(t) * kCounterWords));
        buckets[t] = uint8_t(k);
        atomicAdd(places + k, 1u);
    }
    __syncthreads();
    for (int step = 1; step < kBuckets; step <<= 1) {  // inclusive sums
        const int k = threadIdx.x, l = k + kSplatThreads;
        const uint32_t low = k >= step ? places[k - step] : 0, high = l >= step ? places[l - step] : 0;
        __syncthreads();
        places[k] += low, places[l] += high;
        __syncthreads();
    }
    const int round = a.multiprocessors;
    for (int t = threadIdx.x; t < tiles; t += kSplatThreads) {
        const int place = int(atomicAdd(places + buckets[t], 0xffffffffu)) - 1;  // one less
        const int first = place / round * round;
        const bool backwards = place / round % 2 != 0 && first + round <= tiles;
        a.order[backwards ? 2 * first + round - 1 - place : place] = uint32_t(t);
    }
}

template <int C> __global__ __launch_bounds__(kSplatThreads) void fill_lists(PoseCudaArgs a) {
    static_assert(kSplatThreads == 128, "order_tiles takes two buckets per thread");
    const int b = blockIdx.y;
    const bool ordered = a.order != nullptr;  // then block 0 has no splats
    if (ordered && blockIdx.x == 0) {
        if (b == 0) order_tiles(a, a.num_cameras * TileGrid(a).count());
        return;
    }
    const int64_t i = int64_t(blockIdx.x - (ordered ? 1 : 0)) * kSplatThreads + threadIdx.x;
    const int64_t at = b * a.num_gaussians + i;
    const bool visible = i < a.num_gaussians && a.radii[at] > 0;
    Ellipse e = {};
    uint64_t key = 0;
    if (visible) {
        const float4* from = reinterpret_cast<const float4*>(a.splats) + at * kSplatVectors<C>;
        const float4 p = from[0], q = from[1];
        e = {p.x, p.y, p.z, p.w, q.x, q.y};
        key = depth_key(q.z, uint32_t(i));
    }
    const TileGrid grid(a);
    uint32_t* cursors = a.counters + int64_t(b) * grid.count() * kCounterWords + 1;
    visit_tiles(visible, e, key, grid, [&](int tile, int count, uint64_t tile_key) {
        constexpr int kAtOnce = 4;  // places asked for before the first is waited for
        for (int t = 0; t < count; t += kAtOnce) {
            uint32_t places[kAtOnce];
#pragma unroll
            for (int k = 0; k < kAtOnce; ++k) {
                places[k] = kNoList;
                if (t + k < count)
                    places[k] = atomicAdd(cursors + int64_t(tile + t + k) * kCounterWords, 1u);
            }
#pragma unroll
            for (int k = 0; k < kAtOnce; ++k)
                if (places[k] < kNoList) a.keys[places[k]] = tile_key;
        }
    });
    // *total is final here; the host reads it whenever it arrives, to size later calls
    if (a.host_total != nullptr && i == 0 && b == 0)
        *a.host_total = int64_t(*a.total);
}

}  // namespace pose_rasterizer
