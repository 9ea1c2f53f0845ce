// From a photo's bytes to the model's square, without antialiasing: as torch's bicubic interpolation.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <new>

#include "parallel.hpp"
#include "vec.hpp"

namespace {

constexpr int kTaps = 4;
constexpr float kCubic = -0.75f;  // torch's coefficient

// The four input positions around an output position (those outside are the edge's), and their weights.
struct Taps {
    int at[kTaps];
    float weight[kTaps];

    Taps() = default;
    Taps(long position, long in, long out) {
        const float scale = static_cast<float>(in) / static_cast<float>(out);
        const float real = scale * (static_cast<float>(position) + 0.5f) - 0.5f;
        const float floor = std::floor(real), t = real - floor;
        for (int k = 0; k < kTaps; ++k) {
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
    const uint8_t* from[kTaps];
    vf weight[kTaps];
    for (int k = 0; k < kTaps; ++k) from[k] = photo + rows.at[k] * bytes, weight[k] = splat(rows.weight[k]);
    long i = 0;
    for (; i + kLanes <= bytes; i += kLanes) {
        vf sum{};
        UNROLL
        for (int k = 0; k < kTaps; ++k) sum += weight[k] * __builtin_convertvector(load_bytes(from[k] + i), vf);
        store(mixed + i, sum);
    }
    for (; i < bytes; ++i) {
        float sum = 0.0f;
        for (int k = 0; k < kTaps; ++k) sum += rows.weight[k] * static_cast<float>(from[k][i]);
        mixed[i] = sum;
    }
}

// One row of the square; `mixed` goes on for a float.
inline void mix_photo_columns(const float* mixed, const Taps* columns, long side, float* out, long plane) {
    for (long x = 0; x < side; x += kLanes) {
        float colors[3][kLanes] = {};
        const int count = side - x < kLanes ? static_cast<int>(side - x) : kLanes;
        for (int i = 0; i < count; ++i) {
            const Taps& taps = columns[x + i];
            color sum{};
            UNROLL
            for (int k = 0; k < kTaps; ++k) sum += *reinterpret_cast<const color*>(mixed + taps.at[k]) * taps.weight[k];
            colors[0][i] = sum[0], colors[1][i] = sum[1], colors[2][i] = sum[2];
        }
        for (int c = 0; c < 3; ++c) store_up_to(out + c * plane + x, load(colors[c]), count);
    }
}

}  // namespace

// See `ops.resize_cubic`: photo [h, w, step], step 3 or 4, out [3, side, side]. Returns 1 where there was no memory.
EXPORT int mtlora_resize_cubic(const uint8_t* photo, float* out, long h, long w, long step, long side, int threads) {
    std::unique_ptr<Taps[]> columns(new (std::nothrow) Taps[static_cast<size_t>(side)]);
    if (!columns) return 1;
    for (long x = 0; x < side; ++x) {
        columns[x] = Taps(x, w, side);
        for (int& at : columns[x].at) at *= static_cast<int>(step);
    }
    std::atomic<int> failed{0};
    parallel_for(side, 16, threads, [&](long begin, long end) {
        std::unique_ptr<float[]> mixed(new (std::nothrow) float[static_cast<size_t>(step * w + 1)]);
        if (!mixed) {
            failed = 1;
            return;
        }
        mixed[step * w] = 0.0f;
        for (long y = begin; y < end; ++y) {
            mix_photo_rows(photo, step * w, Taps(y, h, side), mixed.get());
            mix_photo_columns(mixed.get(), columns.get(), side, out + y * side, side * side);
        }
    });
    return failed;
}
