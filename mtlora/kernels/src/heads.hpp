// A decoder that mixes maps of several scales: hidden activations of one row of pixels and a few channels at a time, so
// that they never leave the first-level cache.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "interface.hpp"
#include "maps.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "tasks.hpp"

namespace {

constexpr int kTokensMixed = 48;                    // coarse pixels of one portion
constexpr int kHeadRows = 2;                        // rows of the finest map of one portion
constexpr int kHeadPanel = 64;                      // hidden channels at a time
static_assert(kHeadPanel % (kTileColumns * kLanes) == 0, "panels are whole tiles");
thread_local Scratch head_scratch;

inline long head_panels(const MtloraMixHead& head) { return (head.hidden + kHeadPanel - 1) / kHeadPanel; }

inline long coarse_pixels(const MtloraMixHead& head, int scale) {
    return head.images * head.heights[scale] * head.widths[scale];
}

// Coarse maps mixed at their own size, one scale behind the other: [panels][images][height][width][kHeadPanel] each.
inline void mix_coarse(const MtloraMixHead& head, float* mixed, int threads) {
    for (int scale = 1; scale < 3; ++scale) {
        const long pixels = coarse_pixels(head, scale), channels = head.channels[scale];
        parallel_for(pixels, kTokensMixed, threads, [&](long begin, long end) {
            multiply_rows(head.maps[scale] + begin * channels, channels, static_cast<int>(end - begin), head.mix[scale], channels,
                          head.hidden, [](int, int, int) { return vf{}; },
                          [&](int row, int column, vf sums, int) {
                              const long at = (column / kHeadPanel * pixels + begin + row) * kHeadPanel + column % kHeadPanel;
                              store(mixed + at, sums);
                              if (column + kLanes < head.hidden) return;
                              for (int i = kLanes; (column + i) % kHeadPanel; i += kLanes) store(mixed + at + i, vf{});
                          });
        });
        mixed += head_panels(head) * pixels * kHeadPanel;
    }
}

// out = the mixture of two rows of `count` floats, whole vectors.
inline void blend(const float* upper, const float* lower, float weight, long count, float* out) {
    for (long i = 0; i < count; i += kLanes) store(out + i, load(upper + i) * (1.0f - weight) + load(lower + i) * weight);
}

// One thread's buffers.
struct HeadRoom {
    Between* across[2];  // for each pixel of a row the columns of a coarse map that it lies between
    float *lines[2], *hidden, *sums, *scores, *planes;  // [coarse width][kHeadPanel], [width][kHeadPanel], see `Down`, ...

    static long floats(const MtloraMixHead& head, const Down& down) {
        const long width = head.widths[0];
        return 2 * width * kBetween + (head.widths[1] + head.widths[2] + width) * kHeadPanel +
               width * (sums_per_token(down) + head.outputs) + round_up(static_cast<int>(width)) * head.outputs;
    }

    HeadRoom(const MtloraMixHead& head, const Down& down, float* memory) {
        const long width = head.widths[0];
        auto take = [&](long floats) { return (memory += floats) - floats; };
        for (int i = 0; i < 2; ++i) lines[i] = take(head.widths[i + 1] * kHeadPanel);
        hidden = take(width * kHeadPanel);
        sums = take(width * sums_per_token(down));
        scores = take(width * head.outputs);
        planes = take(round_up(static_cast<int>(width)) * head.outputs);
        for (int i = 0; i < 2; ++i) {
            across[i] = reinterpret_cast<Between*>(take(width * kBetween));
            for (long x = 0; x < width; ++x) new (across[i] + x) Between(x, head.widths[i + 1], width);
        }
    }

  private:
    static constexpr long kBetween = sizeof(Between) / sizeof(float);
};

// Some hidden channels of a row of pixels, from channel `first` on.
inline void hidden_panel(const MtloraMixHead& head, const float* fine, const float* mixed, long image, long y, long first,
                         const HeadRoom& room) {
    for (int i = 0; i < 2; ++i) {
        const long h = head.heights[i + 1], line = head.widths[i + 1] * kHeadPanel;
        const Between between(y, h, head.heights[0]);
        const float* own = mixed + first / kHeadPanel * coarse_pixels(head, i + 1) * kHeadPanel + image * h * line;
        blend(own + between.first * line, own + between.second * line, between.weight, line, room.lines[i]);
        mixed += head_panels(head) * coarse_pixels(head, i + 1) * kHeadPanel;
    }
    const int channels = static_cast<int>(std::min<long>(head.hidden - first, kHeadPanel));
    for_columns(channels, [&](int column, auto vectors, int last) {
        constexpr int C = decltype(vectors)::value;
        for_rows(static_cast<int>(head.widths[0]), [&](int x, auto count) {
            constexpr int R = decltype(count)::value;
            vf sums[R][C], bias[C];
            each<1, C>(last, [&](int, int c, int n) { bias[c] = load_up_to(head.bias + first + column + c * kLanes, n); });
            UNROLL
            for (int r = 0; r < R; ++r) {
                const Between &a = room.across[0][x + r], &b = room.across[1][x + r];
                const float *a1 = room.lines[0] + a.first * kHeadPanel + column, *a2 = room.lines[0] + a.second * kHeadPanel + column;
                const float *b1 = room.lines[1] + b.first * kHeadPanel + column, *b2 = room.lines[1] + b.second * kHeadPanel + column;
                UNROLL
                for (int c = 0; c < C; ++c)
                    sums[r][c] = bias[c] + load(a1 + c * kLanes) * (1.0f - a.weight) + load(a2 + c * kLanes) * a.weight +
                                 load(b1 + c * kLanes) * (1.0f - b.weight) + load(b2 + c * kLanes) * b.weight;
            }
            tile<R, C>(fine + x * head.channels[0], head.channels[0], head.mix[0] + first + column, head.hidden, head.channels[0],
                       last, sums);
            each<R, C>(last, [&](int r, int c, int) {  // larger: in this order what is not a number stays so
                store(room.hidden + (x + r) * kHeadPanel + column + c * kLanes, larger(vf{}, sums[r][c]));
            });
        });
    });
}

// Scores of one row of pixels, to the output's planes.
inline void head_row(const MtloraMixHead& head, const Down& down, const float* mixed, long image, long y, const HeadRoom& room,
                     float* out) {
    const long height = head.heights[0], width = head.widths[0], outputs = head.outputs, ld = sums_per_token(down);
    const float* fine = head.maps[0] + (image * height + y) * width * head.channels[0];
    memset(room.sums, 0, static_cast<size_t>(width * ld) * sizeof(float));
    for (long first = 0; first < head.hidden; first += kHeadPanel) {
        hidden_panel(head, fine, mixed, image, y, first, room);
        const int channels = static_cast<int>(std::min<long>(head.hidden - first, kHeadPanel));
        for_rows(static_cast<int>(width), [&](int x, auto count) {
            add_products<decltype(count)::value>(down, static_cast<int>(first), room.hidden + x * kHeadPanel, kHeadPanel, channels,
                                                 room.sums + x * ld);
        });
    }
    const int pixels = static_cast<int>(width), padded = round_up(pixels);
    finish(down, pixels, room.sums, room.scores);
    transpose(room.scores, outputs, pixels, static_cast<int>(outputs), room.planes, padded);
    for (long k = 0; k < outputs; ++k) {
        float* plane = out + ((image * outputs + k) * height + y) * width;
        for (long x = 0; x < width; ++x) plane[x] = room.planes[k * padded + x] + head.classify_bias[k];
    }
}

}  // namespace

// Floats of `mixed` below.
EXPORT long mtlora_mix_head_floats(const MtloraMixHead* head) {
    return head_panels(*head) * kHeadPanel * (coarse_pixels(*head, 1) + coarse_pixels(*head, 2));
}

// See `ops.mix_head`: out [images, outputs, height, width]; mixed is room for the coarse maps.
// Returns 0, or 1 where memory ran out.
EXPORT int mtlora_mix_head(const MtloraMixHead* head, float* mixed, float* out, int threads) {
    mix_coarse(*head, mixed, threads);
    const long height = head->heights[0];
    const Down down{head->classify, static_cast<int>(head->outputs), static_cast<int>(head->hidden), head->by_columns != 0};
    std::atomic<int> failed{0};
    parallel_for(head->images * height, kHeadRows, threads, [&](long begin, long end) {
        float* memory = head_scratch.reserve(static_cast<size_t>(HeadRoom::floats(*head, down)));
        if (memory == nullptr) {
            failed = 1;
            return;
        }
        const HeadRoom room(*head, down, memory);
        for (long row = begin; row < end; ++row) head_row(*head, down, mixed, row / height, row % height, room, out);
    });
    return failed;
}
