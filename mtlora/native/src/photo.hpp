// From a photo's bytes to the model's square, without antialiasing: as torch's bicubic interpolation.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <new>

#include "parallel.hpp"

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

inline void mix_photo_rows(const uint8_t* photo, long bytes, const Taps& rows, float* __restrict mixed) {
    const uint8_t *a = photo + rows.at[0] * bytes, *b = photo + rows.at[1] * bytes, *c = photo + rows.at[2] * bytes,
                  *d = photo + rows.at[3] * bytes;
    const float p = rows.weight[0], q = rows.weight[1], r = rows.weight[2], s = rows.weight[3];
    for (long i = 0; i < bytes; ++i)
        mixed[i] = p * static_cast<float>(a[i]) + q * static_cast<float>(b[i]) + r * static_cast<float>(c[i]) +
                   s * static_cast<float>(d[i]);
}

}  // namespace

// See `ops.resize_cubic`: photo [h, w, 3], out [3, side, side]. Returns 1 where there was no memory.
EXPORT int mtlora_resize_cubic(const uint8_t* photo, float* out, long h, long w, long side, int threads) {
    std::unique_ptr<Taps[]> columns(new (std::nothrow) Taps[static_cast<size_t>(side)]);
    if (!columns) return 1;
    for (long x = 0; x < side; ++x) {
        columns[x] = Taps(x, w, side);
        for (int& at : columns[x].at) at *= 3;
    }
    std::atomic<int> failed{0};
    parallel_for(side, 16, threads, [&](long begin, long end) {
        std::unique_ptr<float[]> mixed(new (std::nothrow) float[static_cast<size_t>(3 * w)]);
        if (!mixed) {
            failed = 1;
            return;
        }
        for (long y = begin; y < end; ++y) {
            mix_photo_rows(photo, 3 * w, Taps(y, h, side), mixed.get());
            for (long x = 0; x < side; ++x) {
                const Taps& taps = columns[x];
                for (int color = 0; color < 3; ++color) {
                    float sum = 0.0f;
                    for (int k = 0; k < kTaps; ++k) sum += taps.weight[k] * mixed[taps.at[k] + color];
                    out[(color * side + y) * side + x] = sum;
                }
            }
        }
    });
    return failed;
}
