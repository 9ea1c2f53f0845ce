// Products of 8-bit integers: weights with a scale for each output, inputs with one for each token, found on the way.
#pragma once

#include <cstring>

#include "interface.hpp"
#include "tiles.hpp"

namespace {

// Weights take 7 bits: sums of two products with unsigned bytes then fit the 16 bits that AVX2 adds them in, and every
// CPU computes the same integers.
constexpr int kDot = 4;       // bytes of a token and of a weight that one instruction multiplies and adds up
constexpr float kLargest = 127.0f;
constexpr float kLeast = 1e-30f;  // instead of the largest value of a token of zeros

constexpr long round_to_dots(long n) { return (n + kDot - 1) / kDot * kDot; }

// sums + products of four unsigned bytes of x with four signed ones of w, in every lane.
INLINE vi dots(vi sums, vi x, vi w) {
#if defined(__AVX512VNNI__)
    return reinterpret_cast<vi>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sums), reinterpret_cast<__m512i>(x),
                                                    reinterpret_cast<__m512i>(w)));
#elif defined(__AVX512BW__)
    const __m512i pairs = _mm512_maddubs_epi16(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w));
    return sums + reinterpret_cast<vi>(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
#elif defined(__AVX2__)
    const __m256i pairs = _mm256_maddubs_epi16(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w));
    return sums + reinterpret_cast<vi>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
    UNROLL
    for (int i = 0; i < kDot; ++i) sums += (x >> 8 * i & 255) * (w << (24 - 8 * i) >> 24);
    return sums;
#endif
}

// One token to bytes around kByteZero; what is behind it up to whole dots becomes kByteZero. Returns its scale.
inline float to_bytes(const float* x, int width, uint8_t* out) {
    typedef uint8_t bytes __attribute__((vector_size(kLanes)));
    const float to_integer = 12582912.0f;  // 1.5 * 2^23, see `exponential`
    vf most{};
    for (int i = 0; i < width; i += kLanes) most = larger(most, absolute(load_up_to(x + i, width - i)));
    const float largest = largest_lane(most), most_or_least = largest > kLeast ? largest : kLeast;
    const float inverse = kLargest / most_or_least;
    for (int i = 0; i < width; i += kLanes) {
        const vf shifted = load_up_to(x + i, width - i) * inverse + (to_integer + static_cast<float>(kByteZero));
        const bytes packed = __builtin_convertvector(reinterpret_cast<vi>(shifted) & 255, bytes);
        memcpy(out + i, &packed, kLanes);
    }
    return most_or_least / kLargest;
}

// Tokens as bytes: values [rows][stride], scales [rows].
struct Bytes {
    uint8_t* values;
    float* scales;
    long stride;
};

// A packed matrix: panels of columns as `mtlora_pack`, in each [in / kDot][columns, padded][kDot].
struct Integers {
    const int8_t* weight;
    const float* scale;     // [out]
    const int32_t* offset;  // [out], -kByteZero * sum of the column: what the zero of the bytes adds, taken off
    const float* bias;      // [out]
};

// y = scale * (x W) + bias, then GELU if asked for. y: [rows][out].
inline void multiply_integers(const Bytes& x, int rows, const Integers& m, long in, long out, bool activate, float* y) {
    constexpr long kColumns = kTileColumns * kLanes;
    const long groups = round_to_dots(in) / kDot;
    for (long column = 0; column < out; column += kColumns) {
        const int width = static_cast<int>(out - column < kColumns ? out - column : kColumns);
        const long padded = round_up(width);
        const int8_t* panel = m.weight + column * groups * kDot;
        with_constant<kTileColumns>(static_cast<int>(padded) / kLanes, [&](auto vectors) {
            constexpr int C = decltype(vectors)::value;
            const int last = width - (C - 1) * kLanes;
            for_rows(rows, [&](int row, auto count) {
                constexpr int R = decltype(count)::value;
                vi sums[R][C];
                each<R, C>(last, [&](int r, int c, int valid) {
                    sums[r][c] = reinterpret_cast<vi>(
                        load_up_to(reinterpret_cast<const float*>(m.offset + column + c * kLanes), valid));
                });
                const uint8_t* tokens = x.values + row * x.stride;
                for (long k = 0; k < groups; ++k) {
                    vi weights[C];
                    UNROLL
                    for (int c = 0; c < C; ++c)
                        weights[c] = reinterpret_cast<vi>(
                            load(reinterpret_cast<const float*>(panel + (k * padded + c * kLanes) * kDot)));
                    UNROLL
                    for (int r = 0; r < R; ++r) {
                        int32_t four;
                        memcpy(&four, tokens + r * x.stride + k * kDot, sizeof four);
                        const vi token = four - vi{};
                        UNROLL
                        for (int c = 0; c < C; ++c) sums[r][c] = dots(sums[r][c], token, weights[c]);
                    }
                }
                each<R, C>(last, [&](int r, int c, int valid) {
                    const long at = column + c * kLanes;
                    const vf scale = load_up_to(m.scale + at, valid) * x.scales[row + r];
                    const vf sum = __builtin_convertvector(sums[r][c], vf) * scale + load_up_to(m.bias + at, valid);
                    store_up_to(y + (row + r) * out + at, activate ? gelu(sum) : sum, valid);
                });
            });
        });
    }
}

}  // namespace

// Bytes of a packed matrix of integers.
EXPORT long mtlora_packed_bytes(long in, long out) {
    constexpr long kColumns = kTileColumns * kLanes;
    return round_to_dots(in) * (out / kColumns * kColumns + round_up(static_cast<int>(out % kColumns)));
}

// weight [out][in], -63..63, to the layout of `Integers`; padding becomes zero.
EXPORT void mtlora_pack_integers(const int8_t* weight, int8_t* packed, long in, long out) {
    constexpr long kColumns = kTileColumns * kLanes;
    memset(packed, 0, static_cast<size_t>(mtlora_packed_bytes(in, out)));
    for (long column = 0; column < out; column += kColumns) {
        const long width = out - column < kColumns ? out - column : kColumns, padded = round_up(static_cast<int>(width));
        int8_t* panel = packed + column * round_to_dots(in);
        for (long c = 0; c < width; ++c)
            for (long k = 0; k < in; ++k)
                panel[((k / kDot) * padded + c) * kDot + k % kDot] = weight[(column + c) * in + k];
    }
}
