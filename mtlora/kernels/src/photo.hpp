// From a photo's bytes to the model's square without antialiasing: as torch's bicubic interpolation. One thread.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <new>

#include "interface.hpp"
#include "vec.hpp"

namespace {

// The four input positions around an output position (those outside are the edge's), and their weights.
struct Taps {
    int at[kCubicTaps];
    float weight[kCubicTaps];

    Taps() = default;
    Taps(long position, long in, long out) {
        const float scale = static_cast<float>(in) / static_cast<float>(out);
        const float real = scale * (static_cast<float>(position) + 0.5f) - 0.5f;
        const float floor = std::floor(real), t = real - floor;
        for (int k = 0; k < kCubicTaps; ++k) {
            const long wanted = static_cast<long>(floor) + k - 1;
            at[k] = static_cast<int>(wanted < 0 ? 0 : wanted < in ? wanted : in - 1);
        }
        const float ahead = 1.0f - t;
        weight[0] = far(t + 1.0f), weight[1] = near(t), weight[2] = near(ahead), weight[3] = far(ahead + 1.0f);
    }

    static float near(float x) { return ((kCubic + 2.0f) * x - (kCubic + 3.0f)) * x * x + 1.0f; }
    static float far(float x) { return ((kCubic * x - 5.0f * kCubic) * x + 8.0f * kCubic) * x - 4.0f * kCubic; }
};

typedef float color __attribute__((vector_size(16), aligned(4), may_alias));  // red, green, blue, and what follows

inline void mix_photo_rows(const uint8_t* photo, long bytes, const Taps& rows, float* __restrict mixed) {
    const uint8_t* from[kCubicTaps];
    vf weight[kCubicTaps];
    for (int k = 0; k < kCubicTaps; ++k) from[k] = photo + rows.at[k] * bytes, weight[k] = splat(rows.weight[k]);
    long i = 0;
    for (; i + kLanes <= bytes; i += kLanes) {
        vf sum{};
        UNROLL
        for (int k = 0; k < kCubicTaps; ++k) sum += weight[k] * __builtin_convertvector(load_bytes(from[k] + i), vf);
        store(mixed + i, sum);
    }
    for (; i < bytes; ++i) {
        float sum = 0.0f;
        for (int k = 0; k < kCubicTaps; ++k) sum += rows.weight[k] * static_cast<float>(from[k][i]);
        mixed[i] = sum;
    }
}

#if defined(__AVX512F__)
// Four floats from each of four places.
INLINE __m512 load_fours(const float* a, const float* b, const float* c, const float* d) {
    const __m512 first = _mm512_insertf32x4(_mm512_castps128_ps512(_mm_loadu_ps(a)), _mm_loadu_ps(b), 1);
    return _mm512_insertf32x4(_mm512_insertf32x4(first, _mm_loadu_ps(c), 2), _mm_loadu_ps(d), 3);
}

template <int K>
INLINE __m512 add_tap(__m512 sum, const float* mixed, const Taps* columns, __m512 weights) {
    const __m512 colors = load_fours(mixed + columns[0].at[K], mixed + columns[1].at[K], mixed + columns[2].at[K],
                                     mixed + columns[3].at[K]);
    return _mm512_fmadd_ps(colors, _mm512_permute_ps(weights, K * 0x55), sum);  // the K-th of each four
}

// Four pixels' colours at once, each in its quarter of a register.
INLINE __m512 mix_four(const float* mixed, const Taps* columns) {
    const __m512 weights = load_fours(columns[0].weight, columns[1].weight, columns[2].weight, columns[3].weight);
    __m512 sum = add_tap<0>(_mm512_setzero_ps(), mixed, columns, weights);
    sum = add_tap<1>(sum, mixed, columns, weights);
    sum = add_tap<2>(sum, mixed, columns, weights);
    return add_tap<3>(sum, mixed, columns, weights);
}

// One colour of sixteen pixels that are in four registers.
INLINE vf pick_color(const __m512 (&fours)[4], int which) {
    const __m512i every = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    const __m512i from = _mm512_add_epi32(every, _mm512_set1_epi32(which));
    const __m512 low = _mm512_permutex2var_ps(fours[0], from, fours[1]),
                 high = _mm512_permutex2var_ps(fours[2], from, fours[3]);
    return reinterpret_cast<vf>(_mm512_shuffle_f32x4(low, high, 0x44));
}
#endif

// One row of the square; `mixed` goes on for a float.
inline void mix_photo_columns(const float* mixed, const Taps* columns, long side, const MtloraLevels& levels, float* out,
                              long plane) {
    long x = 0;
#if defined(__AVX512F__)
    for (; x + kLanes <= side; x += kLanes) {
        __m512 fours[4];
        UNROLL
        for (int i = 0; i < 4; ++i) fours[i] = mix_four(mixed, columns + x + 4 * i);
        UNROLL
        for (int c = 0; c < 3; ++c)
            store(out + c * plane + x, pick_color(fours, c) * levels.scale[c] + levels.shift[c]);
    }
#endif
    for (; x < side; ++x) {
        const Taps& taps = columns[x];
        color sum{};
        UNROLL
        for (int k = 0; k < kCubicTaps; ++k) sum += *reinterpret_cast<const color*>(mixed + taps.at[k]) * taps.weight[k];
        for (int c = 0; c < 3; ++c) out[c * plane + x] = sum[c] * levels.scale[c] + levels.shift[c];
    }
}

}  // namespace

// See `images.resampling`: rows begin..end of the square without antialiasing. photo [rows, w, step], step 3 or 4, are the
// rows from `top` on of one that has h; out [3, side, side]; levels: three scales and three shifts. Returns 1 where there
// was no memory.
EXPORT int mtlora_resize_cubic(const uint8_t* photo, float* out, const MtloraLevels* levels, long h, long w, long step,
                               long side, long top, long begin, long end) {
    std::unique_ptr<Taps[]> columns(new (std::nothrow) Taps[static_cast<size_t>(side)]);
    std::unique_ptr<float[]> mixed(new (std::nothrow) float[static_cast<size_t>(step * w + 1)]);
    if (!columns || !mixed) return 1;
    for (long x = 0; x < side; ++x) {
        columns[x] = Taps(x, w, side);
        for (int& at : columns[x].at) at *= static_cast<int>(step);
    }
    mixed[step * w] = 0.0f;
    for (long y = begin; y < end; ++y) {
        Taps rows(y, h, side);
        for (int& at : rows.at) at -= static_cast<int>(top);
        mix_photo_rows(photo, step * w, rows, mixed.get());
        mix_photo_columns(mixed.get(), columns.get(), side, *levels, out + y * side, side * side);
    }
    return 0;
}
