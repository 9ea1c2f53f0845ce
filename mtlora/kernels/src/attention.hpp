// Attention inside windows: one window and head at a time, everything but q, k, v and the result in first-level cache.
#pragma once

#include "interface.hpp"
#include "parallel.hpp"
#include "tiles.hpp"

namespace {

constexpr float kNever = -1e30f;

// One window and head.
struct Head {
    const float *q, *k, *v;  // rows are 3 * width floats apart
    const float* bias;       // [tokens][tokens]
    float* out;              // rows are width floats apart
};

struct Shape {
    long width;
    int tokens, head_dim;
    float scale;
};

// scale * q k^T + bias for R rows of queries, columns behind the last token kNever; the rows' maxima by lane.
template <int R>
INLINE void scores(const Head& head, const Shape& shape, const float* keys, int row, float* s, int lds, vf (&most)[R]) {
    const long stride = 3 * shape.width;
    for_columns(shape.tokens, [&](int column, auto columns, int last) {
        constexpr int C = decltype(columns)::value;
        vf sums[R][C];
        each<R, C>(last, [&](int r, int c, int) { sums[r][c] = vf{}; });
        tile<R, C>(head.q + row * stride, stride, keys + column, lds, shape.head_dim, kLanes, sums);
        const float* bias = head.bias + static_cast<long>(row) * shape.tokens + column;
        each<R, C>(last, [&](int r, int c, int valid) {
            vf score = sums[r][c] * shape.scale + load_up_to(bias + r * shape.tokens + c * kLanes, valid);
            if (valid < kLanes) score = lane_numbers() < valid ? score : splat(kNever);
            most[r] = larger(most[r], score);
            store(s + r * lds + column + c * kLanes, score);
        });
    });
}

// R rows to exp(row - maximum), in place, and 1 / their sums. All rows side by side: one alone waits for itself.
template <int R>
INLINE void soften(float* s, int lds, const vf (&most)[R], float (&inverse)[R]) {
    vf maximum[R], sum[R];
    each<R, 1>(kLanes, [&](int r, int, int) {
        maximum[r] = splat(largest_lane(most[r]));
        sum[r] = vf{};
    });
    for (int i = 0; i < lds; i += kLanes)
        each<R, 1>(kLanes, [&](int r, int, int) {
            vf e = exponential(load(s + r * lds + i) - maximum[r]);
            store(s + r * lds + i, e);
            sum[r] += e;
        });
    each<R, 1>(kLanes, [&](int r, int, int) { inverse[r] = 1.0f / sum_of_lanes(sum[r]); });
}

template <int R>
inline void attend_rows(const Head& head, const Shape& shape, const float* keys, int row) {
    alignas(64) float s[R * kMaxTokens];
    const int lds = round_up(shape.tokens);
    vf most[R];
    float inverse[R];
    each<R, 1>(kLanes, [&](int r, int, int) { most[r] = splat(kNever); });
    scores<R>(head, shape, keys, row, s, lds, most);
    soften<R>(s, lds, most, inverse);
    for_columns(shape.head_dim, [&](int column, auto columns, int last) {
        constexpr int C = decltype(columns)::value;
        vf sums[R][C];
        each<R, C>(last, [&](int r, int c, int) { sums[r][c] = vf{}; });
        tile<R, C>(s, lds, head.v + column, 3 * shape.width, shape.tokens, last, sums);
        each<R, C>(last, [&](int r, int c, int valid) {
            store_up_to(head.out + (row + r) * shape.width + column + c * kLanes, sums[r][c] * inverse[r], valid);
        });
    });
}

// Asks for rows of the next head's queries, keys and values: their stride hides them from the hardware's prefetcher.
INLINE void prefetch(const Head& next, const Shape& shape, int row, int rows) {
    constexpr int kLine = 16;  // floats
    const long stride = 3 * shape.width;
    for (int r = row; r < row + rows; ++r)
        for (int c = 0; c < shape.head_dim; c += kLine) {
            const long at = r * stride + c;
            __builtin_prefetch(next.q + at, 0, 2);
            __builtin_prefetch(next.k + at, 0, 2);
            __builtin_prefetch(next.v + at, 0, 2);
        }
}

inline void attend(const Head& head, const Head& next, const Shape& shape) {
    alignas(64) float keys[kMaxHeadDim * kMaxTokens];
    transpose(head.k, 3 * shape.width, shape.tokens, shape.head_dim, keys, round_up(shape.tokens));
    for_rows(shape.tokens, [&](int row, auto rows) {
        constexpr int R = decltype(rows)::value;
        prefetch(next, shape, row, R);
        attend_rows<R>(head, shape, keys, row);
    });
}

}  // namespace

// See `ops.window_attention`: qkv [windows, tokens, 3 heads head_dim], bias [biases, heads, tokens, tokens], window w
// uses bias which[w % period]; out [windows, tokens, heads head_dim]. tokens <= kMaxTokens, head_dim <= kMaxHeadDim.
EXPORT void mtlora_window_attention(const float* qkv, const float* bias, const int32_t* which, float* out, long windows,
                                    long tokens, long heads, long head_dim, long period, float scale, int threads) {
    const Shape shape{heads * head_dim, static_cast<int>(tokens), static_cast<int>(head_dim), scale};
    auto at = [&](long i) {
        const long w = i / heads, head = i % heads, stride = 3 * shape.width;
        const float* q = qkv + w * tokens * stride + head * head_dim;
        return Head{q, q + shape.width, q + 2 * shape.width, bias + (which[w % period] * heads + head) * tokens * tokens,
                    out + w * tokens * shape.width + head * head_dim};
    };
    const long all = windows * heads;
    parallel_for(all, 1 + all / (16 * threads), threads, [&](long begin, long end) {
        for (long i = begin; i < end; ++i) attend(at(i), at(i + heads < all ? i + heads : i), shape);
    });
}
