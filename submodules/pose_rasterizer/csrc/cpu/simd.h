// Eight floats at once through GCC/Clang vector extensions (AVX2, SSE or NEON underneath).
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace pose_rasterizer {

constexpr int kLanes = 8;
typedef float Float8 __attribute__((vector_size(32)));
typedef int32_t Int8 __attribute__((vector_size(32)));
typedef float Float4 __attribute__((vector_size(16)));

static inline Float8 splat(float v) { return Float8{v, v, v, v, v, v, v, v}; }
static inline Int8 splat_int(int32_t v) { return Int8{v, v, v, v, v, v, v, v}; }
static inline Float8 keep(Float8 v, Int8 mask) { return (Float8)((Int8)v & mask); }

static inline Float8 minimum(Float8 a, Float8 b) {
#if defined(__AVX__)
    return (Float8)_mm256_min_ps((__m256)a, (__m256)b);
#else
    const Int8 less = a < b;
    return (Float8)(((Int8)a & less) | ((Int8)b & ~less));
#endif
}

// One bit per lane of a mask (all ones or all zeros in each lane).
static inline unsigned lane_bits(Int8 mask) {
#if defined(__AVX__)
    return (unsigned)_mm256_movemask_ps((__m256)mask);
#else
    unsigned bits = 0;
    for (int i = 0; i < kLanes; ++i) bits |= (mask[i] != 0 ? 1u : 0u) << i;
    return bits;
#endif
}

static inline float sum_lanes(Float8 v) {
#if defined(__AVX__)
    const __m128 a = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
#else
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
#endif
}

// The sums of eight vectors at once: out[i] = sum of v[i] (a transposing tree of additions).
static inline Float8 sum_lanes_of_8(const Float8* v) {
#if defined(__AVX__)
    const __m256 a = _mm256_hadd_ps((__m256)v[0], (__m256)v[1]);
    const __m256 b = _mm256_hadd_ps((__m256)v[2], (__m256)v[3]);
    const __m256 c = _mm256_hadd_ps((__m256)v[4], (__m256)v[5]);
    const __m256 d = _mm256_hadd_ps((__m256)v[6], (__m256)v[7]);
    const __m256 ab = _mm256_hadd_ps(a, b), cd = _mm256_hadd_ps(c, d);
    const __m256 low = _mm256_permute2f128_ps(ab, cd, 0x20);
    const __m256 high = _mm256_permute2f128_ps(ab, cd, 0x31);
    return (Float8)_mm256_add_ps(low, high);
#else
    Float8 out;
    for (int i = 0; i < kLanes; ++i) out[i] = sum_lanes(v[i]);
    return out;
#endif
}

static inline Float4 sum_lanes_of_4(const Float8* v) {
#if defined(__AVX__)
    const __m256 a = _mm256_hadd_ps((__m256)v[0], (__m256)v[1]);
    const __m256 b = _mm256_hadd_ps((__m256)v[2], (__m256)v[3]);
    const __m256 ab = _mm256_hadd_ps(a, b);
    return (Float4)_mm_add_ps(_mm256_castps256_ps128(ab), _mm256_extractf128_ps(ab, 1));
#else
    return Float4{sum_lanes(v[0]), sum_lanes(v[1]), sum_lanes(v[2]), sum_lanes(v[3])};
#endif
}

constexpr float kExp2[6] = {1.000000072e+00f, 6.931469671e-01f, 2.402211972e-01f,
                            5.550713274e-02f, 9.675541334e-03f, 1.327647187e-03f};

// 2^p for -126 < p < 126, relative error below 2.5e-7 (degree 5, minimax on [-1/2, 1/2], ours).
// Outside that range the result is meaningless: mask it.
static inline Float8 exp2_fast(Float8 p) {
    const Float8 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const Float8 rounded = p + magic;
    const Float8 f = p - (rounded - magic);
    Float8 y = splat(kExp2[5]);
    y = y * f + splat(kExp2[4]);
    y = y * f + splat(kExp2[3]);
    y = y * f + splat(kExp2[2]);
    y = y * f + splat(kExp2[1]);
    y = y * f + splat(kExp2[0]);
    return (Float8)((Int8)y + ((Int8)rounded << 23));
}

}  // namespace pose_rasterizer
