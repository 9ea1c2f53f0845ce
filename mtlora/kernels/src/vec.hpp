// Vectors of the widest registers this file is compiled for, and the few functions of them that the kernels need.
// Written with the vector types of GCC and Clang, so that one source serves AVX-512, AVX2, SSE2 and NEON.
#pragma once

#include <cstdint>
#include <cstring>

#include "intrinsics.hpp"

#if defined(__AVX512F__)
#define MTLORA_LANES 16
#elif defined(__AVX2__)
#define MTLORA_LANES 8
#else
#define MTLORA_LANES 4
#endif

// Before loops over the registers of a tile, which must not become loops over memory.
#define UNROLL _Pragma("GCC unroll 16")
// For what handles such registers: a call would put them into memory.
#define INLINE inline __attribute__((always_inline))

namespace {

constexpr int kLanes = MTLORA_LANES;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kTileColumns = 4;  // 32 registers: 6 x 4 sums, 4 operands
#else
constexpr int kTileColumns = 2;  // 16 registers: 6 x 2 sums, 2 operands
#endif
constexpr int kTileRows = 6;

typedef float vf __attribute__((vector_size(kLanes * 4)));
typedef int32_t vi __attribute__((vector_size(kLanes * 4)));
typedef float vf_unaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

constexpr int round_up(int n) { return (n + kLanes - 1) / kLanes * kLanes; }

inline vf splat(float x) { return x - vf{}; }  // not +: that would have to mind the sign of zero
inline vf load(const float* p) { return *reinterpret_cast<const vf_unaligned*>(p); }
inline void store(float* p, vf x) { *reinterpret_cast<vf_unaligned*>(p) = x; }

inline vi lane_numbers() {
    vi lanes;
    for (int i = 0; i < kLanes; ++i) lanes[i] = i;
    return lanes;
}

// The first n lanes of memory (0 <= n <= kLanes), the others zero; never touches what lies behind.
inline vf load_part(const float* p, int n) {
#if defined(__AVX512F__)
    return reinterpret_cast<vf>(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), p));
#elif defined(__AVX2__)
    return reinterpret_cast<vf>(_mm256_maskload_ps(p, reinterpret_cast<__m256i>(lane_numbers() < n)));
#else
    vf x{};
    for (int i = 0; i < n; ++i) x[i] = p[i];
    return x;
#endif
}

inline void store_part(float* p, vf x, int n) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), reinterpret_cast<__m512>(x));
#elif defined(__AVX2__)
    _mm256_maskstore_ps(p, reinterpret_cast<__m256i>(lane_numbers() < n), reinterpret_cast<__m256>(x));
#else
    for (int i = 0; i < n; ++i) p[i] = x[i];
#endif
}

inline vf load_up_to(const float* p, int n) { return n >= kLanes ? load(p) : load_part(p, n); }
inline void store_up_to(float* p, vf x, int n) { n >= kLanes ? store(p, x) : store_part(p, x, n); }

#if defined(__AVX512F__)
inline vf larger(vf a, vf b) { return reinterpret_cast<vf>(_mm512_max_ps(a, b)); }
inline vf smaller(vf a, vf b) { return reinterpret_cast<vf>(_mm512_min_ps(a, b)); }
#else
inline vf larger(vf a, vf b) { return a > b ? a : b; }
inline vf smaller(vf a, vf b) { return a < b ? a : b; }
#endif
inline vf absolute(vf x) { return reinterpret_cast<vf>(reinterpret_cast<vi>(x) & 0x7fffffff); }

// Bytes as integers, and integers as their lowest bytes; compilers take them apart lane by lane where they are not told.
typedef uint8_t vbytes __attribute__((vector_size(kLanes)));
typedef uint8_t vsmall __attribute__((vector_size(kLanes * 4)));  // four times as many, a fourth as wide
typedef int16_t vshort __attribute__((vector_size(kLanes * 4)));  // twice as many, half as wide

INLINE vi load_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
    return reinterpret_cast<vi>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__AVX2__)
    return reinterpret_cast<vi>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
    vbytes bytes;
    memcpy(&bytes, p, sizeof bytes);
    return __builtin_convertvector(bytes, vi);
#endif
}

INLINE void store_bytes(uint8_t* p, vi values) {
#if defined(__AVX512F__)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(values)));
#elif defined(__AVX2__)
    const __m256i low = _mm256_and_si256(reinterpret_cast<__m256i>(values), _mm256_set1_epi32(255));
    const __m256i words = _mm256_packus_epi32(low, low), quads = _mm256_packus_epi16(words, words);
    const int halves[2] = {_mm256_extract_epi32(quads, 0), _mm256_extract_epi32(quads, 4)};
    memcpy(p, halves, sizeof halves);
#else
    const vbytes packed = __builtin_convertvector(values, vbytes);
    memcpy(p, &packed, sizeof packed);
#endif
}

INLINE vshort load_bytes_as_shorts(const uint8_t* p) {
#if defined(__AVX512BW__)
    return reinterpret_cast<vshort>(_mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__AVX2__)
    return reinterpret_cast<vshort>(_mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#else
    vshort values{};
    for (int i = 0; i < 2 * kLanes; ++i) values[i] = p[i];
    return values;
#endif
}

INLINE void store_bytes(uint8_t* p, vshort values) {
#if defined(__AVX512BW__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi16_epi8(reinterpret_cast<__m512i>(values)));
#elif defined(__AVX2__)
    const __m256i low = _mm256_and_si256(reinterpret_cast<__m256i>(values), _mm256_set1_epi16(255));
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16(low, low), 0b1000);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
#else
    for (int i = 0; i < 2 * kLanes; ++i) p[i] = static_cast<uint8_t>(values[i]);
#endif
}

inline float sum_of_lanes(vf x) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps(reinterpret_cast<__m512>(x));
#else
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x[i] += x[i + half];
    return x[0];
#endif
}

inline float largest_lane(vf x) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps(reinterpret_cast<__m512>(x));
#else
    for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
    return x[0];
#endif
}

// exp(x) of x <= 0 to 3e-7 relative. What is below -60 counts as -60: nothing in a softmax, and far from denormal
// numbers, which would make the product after it twenty times as slow.
inline vf exponential(vf x) {
    x = larger(x, splat(-60.0f));
    const float to_integer = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    vf shifted = x * 1.44269504f + to_integer;
    vf r = x - (shifted - to_integer) * 0.693147182f;
    vf q = splat(0.0418903306f) + r * 0.00831250101f;  // minimax of (e^r - 1 - r) / r^2 on +-0.347: 1e-7
    q = q * r + 0.166671157f;
    q = q * r + 0.499992311f;
    q = q * r + 1.0f;
    q = q * r + 1.0f;
    return reinterpret_cast<vf>(reinterpret_cast<vi>(q) + (reinterpret_cast<vi>(shifted) << 23));
}

// GELU with the error function: max(x, 0) - y Q(y), y = |x|, Q the normal distribution's upper tail. Q is a polynomial,
// minimax of y Q on 0..5.25 with 4e-7 (behind that y Q is below 4e-7): no exponential, no division.
inline vf gelu(vf x) {
    vf y = smaller(absolute(x), splat(5.25f));
    vf s = y * (2.0f / 5.25f) - 1.0f;
    constexpr float c[] = {0.00433257129f, -0.0334016681f, 0.115061216f,   -0.225917011f,   0.257401705f,
                           -0.121406592f,  -0.0997993648f, 0.199450091f,   -0.0883814022f,  -0.0720509514f,
                           0.0859153718f,  -0.00201540114f, -0.0268157702f, 0.00535180978f, 0.00227554003f};
    vf q = splat(c[14]);
    UNROLL
    for (int i = 13; i >= 0; --i) q = q * s + c[i];
    return larger(x, vf{}) - y * q;
}

}  // namespace
