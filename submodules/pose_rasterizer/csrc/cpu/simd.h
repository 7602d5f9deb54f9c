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

static inline Float8 lanes(const float* from) {
    Float8 v;
    std::memcpy(&v, from, sizeof(v));
    return v;
}
// The first `count` lanes, 0 in the others, which aren't read.
static inline Float8 first_lanes(const float* from, int count) {
#if defined(__AVX__)
    const Int8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return (Float8)_mm256_maskload_ps(from, (__m256i)(lane < splat_int(count)));
#else
    Float8 v = splat(0.0f);
    for (int i = 0; i < count; ++i) v[i] = from[i];
    return v;
#endif
}

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

static inline Int8 at_least(Float8 a, Float8 b) { return a >= b; }
static inline Int8 below(Float8 a, Float8 b) { return a < b; }

// R rows of a tile at once: one where a register holds eight floats, two where it holds sixteen.
template <int R> struct Rows;
template <> struct Rows<1> {
    typedef Float8 Float;
    typedef Int8 Int;   // integer arithmetic on the lanes
    typedef Int8 Mask;  // all ones or all zeros in each lane
    static inline Float splat(float v) { return pose_rasterizer::splat(v); }
    static inline Float of(const Float8* rows) { return rows[0]; }
    static inline Float8 row(Float v, int) { return v; }
    static inline Float8 sum(Float v) { return v; }
    // Lanes of the first `columns` columns in the first `rows` rows.
    static inline Mask first(int rows, int columns) {
        const Int8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
        return lane < splat_int(rows > 0 ? columns : 0);
    }
};

#if defined(__AVX512F__)
constexpr int kBlendRows = 2;
typedef float Float16 __attribute__((vector_size(64)));
typedef int32_t Int16 __attribute__((vector_size(64)));

static inline Float16 keep(Float16 v, __mmask16 mask) {
    return (Float16)_mm512_maskz_mov_ps(mask, (__m512)v);
}
static inline Float16 minimum(Float16 a, Float16 b) {
    return (Float16)_mm512_min_ps((__m512)a, (__m512)b);
}
static inline __mmask16 at_least(Float16 a, Float16 b) {
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ);
}
static inline __mmask16 below(Float16 a, Float16 b) {
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
}
static inline unsigned lane_bits(__mmask16 mask) { return mask; }

template <> struct Rows<2> {
    typedef Float16 Float;
    typedef Int16 Int;
    typedef __mmask16 Mask;
    static inline Float splat(float v) { return (Float)_mm512_set1_ps(v); }
    static inline Float of(const Float8* rows) {
        return (Float)_mm512_castpd_ps(_mm512_insertf64x4(
            _mm512_castps_pd(_mm512_castps256_ps512((__m256)rows[0])),
            _mm256_castps_pd((__m256)rows[1]), 1));
    }
    static inline Float8 row(Float v, int r) {
        const __m512d d = _mm512_castps_pd((__m512)v);
        return (Float8)_mm256_castpd_ps(r == 0 ? _mm512_castpd512_pd256(d)
                                               : _mm512_extractf64x4_pd(d, 1));
    }
    static inline Float8 sum(Float v) { return row(v, 0) + row(v, 1); }
    static inline Mask first(int rows, int columns) {
        const unsigned one = (1u << columns) - 1u;
        return static_cast<Mask>((rows > 0 ? one : 0u) | (rows > 1 ? one << kLanes : 0u));
    }
};
#else
constexpr int kBlendRows = 1;
#endif

// A value of each row, from an array by row.
template <int R> static inline typename Rows<R>::Float by_row(const float* values) {
    Float8 rows[R];
    for (int r = 0; r < R; ++r) rows[r] = splat(values[r]);
    return Rows<R>::of(rows);
}
// The same row R times.
template <int R> static inline typename Rows<R>::Float repeated(Float8 row) {
    Float8 rows[R];
    for (int r = 0; r < R; ++r) rows[r] = row;
    return Rows<R>::of(rows);
}

constexpr float kExp2[6] = {1.000000072e+00f, 6.931469671e-01f, 2.402211972e-01f,
                            5.550713274e-02f, 9.675541334e-03f, 1.327647187e-03f};

// 2^p for -126 < p < 126, relative error below 2.5e-7 (degree 5, minimax on [-1/2, 1/2], ours).
// Outside that range the result is meaningless: mask it.
template <int R> static inline typename Rows<R>::Float exp2_fast(typename Rows<R>::Float p) {
    typedef typename Rows<R>::Float Float;
    typedef typename Rows<R>::Int Int;
    const Float magic = Rows<R>::splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const Float rounded = p + magic;
    const Float f = p - (rounded - magic);
    Float y = Rows<R>::splat(kExp2[5]);
    for (int k = 4; k >= 0; --k) y = y * f + Rows<R>::splat(kExp2[k]);
    return (Float)((Int)y + ((Int)rounded << 23));
}

}  // namespace pose_rasterizer
