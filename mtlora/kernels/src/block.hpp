// A whole Swin block for a few windows at a time, so that nothing between its layers leaves a core's cache.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "attention.hpp"
#include "int8.hpp"
#include "interface.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "tasks.hpp"

namespace {

constexpr int kBlockTokens = 98;  // tokens of one portion, at most (but at least one window)

thread_local Scratch scratch;

// One thread's share of the work: some windows, buffers of [rows][width] or as named.
struct Portion {
    const MtloraBlock& block;
    int rows;
    long tokens, width, hidden;
    const int32_t* tasks;  // wanted, among the set's; -1: no stream is made
    long count;            // of tasks; 0: a block without streams
    long places[kBlockTokens < kMaxTokens ? kMaxTokens : kBlockTokens];  // of each row in x
    float* x;                                      // rows that lie apart in x, side by side
    float *normed, *attended, *base, *wide, *low;  // wide: [rows][3 width or hidden]; low: [rows][largest rank]
    float *u, *u2;                                 // [count][rows][rank]
    float* scales;                                 // [rows], of `bytes`
    uint8_t* bytes;                                // [rows][largest input]
};

// y += B A x, then GELU if asked for.
inline void add_pair(const Portion& p, const MtloraLinear& l, const float* x, bool activate, float* y) {
    multiply(x, l.inputs, p.rows, l.down, l.inputs, l.rank, nullptr, Start::kZero, false, p.low, l.rank);
    multiply(p.low, l.rank, p.rows, l.up, l.rank, l.outputs, nullptr, Start::kSum, activate, y, l.outputs);
}

// y = W x + bias.
inline void product(const Portion& p, const MtloraLinear& l, const float* x, bool activate, float* y) {
    if (l.integers != nullptr) {
        const Bytes bytes{p.bytes, p.scales, round_up(static_cast<int>(l.inputs))};
        for (int r = 0; r < p.rows; ++r)
            p.scales[r] = to_bytes(x + r * l.inputs, static_cast<int>(l.inputs), p.bytes + r * bytes.stride);
        multiply_integers(bytes, p.rows, Integers{l.integers, l.scale, l.offset, l.bias}, l.inputs, l.outputs, activate, y);
        return;
    }
    multiply(x, l.inputs, p.rows, l.weight, l.inputs, l.outputs, l.bias, Start::kBias, activate, y, l.outputs);
}

// y = W x + bias + B A x, then GELU if asked for.
inline void apply(const Portion& p, const MtloraLinear& l, const float* x, bool activate, float* y) {
    product(p, l, x, activate && l.rank == 0, y);
    if (l.rank) add_pair(p, l, x, activate, y);
}

// Calls f(first element, valid) for the vectors of all rows of `width` floats.
template <class F>
inline void each_vector(long rows, long width, F&& f) {
    for (long r = 0; r < rows; ++r)
        for (long i = 0; i < width; i += kLanes) f(r * width + i, static_cast<int>(width - i < kLanes ? width - i : kLanes));
}

inline void add(const float* x, long rows, long width, float* y) {
    each_vector(rows, width, [&](long at, int n) { store_up_to(y + at, load_up_to(y + at, n) + load_up_to(x + at, n), n); });
}

inline void normalise_rows(const Portion& p, const float* x, const float* weight, const float* bias) {
    normalise(x, p.width, p.rows, weight, bias, p.block.eps, static_cast<int>(p.width), p.normed, p.width);
}

inline void attend_windows(const Portion& p, const float* x, const int32_t* kinds) {
    const MtloraBlock& b = p.block;
    normalise_rows(p, x, b.norm1_weight, b.norm1_bias);
    apply(p, b.qkv, p.normed, false, p.wide);
    const long head_dim = p.width / b.heads, stride = 3 * p.width;
    const Shape shape{p.width, static_cast<int>(p.tokens), static_cast<int>(head_dim), 1.0f / std::sqrt(static_cast<float>(head_dim))};
    for (long w = 0; w * p.tokens < p.rows; ++w)
        for (long head = 0; head < b.heads; ++head) {
            const float* q = p.wide + w * p.tokens * stride + head * head_dim;
            const float* bias = b.position + (kinds[w] * b.heads + head) * p.tokens * p.tokens;
            const Head own{q, q + p.width, q + 2 * p.width, bias, p.attended + w * p.tokens * p.width + head * head_dim};
            attend(own, own, shape);
        }
}

// Everything behind attention in a block without streams; x is overwritten.
inline void finish_plain(const Portion& p, float* x) {
    const MtloraBlock& b = p.block;
    apply(p, b.proj, p.attended, false, p.base);
    add(p.base, p.rows, p.width, x);
    normalise_rows(p, x, b.norm2_weight, b.norm2_bias);
    apply(p, b.fc1, p.normed, true, p.wide);
    apply(p, b.fc2, p.wide, false, p.base);
    add(p.base, p.rows, p.width, x);
}

inline Down down_of(const MtloraPairs& pairs, long task) {
    return Down{pairs.a + task * pairs.rank * pairs.inputs, static_cast<int>(pairs.rank), static_cast<int>(pairs.inputs), pairs.by_columns != 0};
}

// Calls f(row, constant number of rows, sums to use) for all rows.
template <class F>
inline void with_sums(int rows, const Down& down, float* out, F&& f) {
    const long ld = sums_per_token(down);
    for_rows(rows, [&](int row, auto count) {
        constexpr int R = decltype(count)::value;
        alignas(64) float sums[R * kMaxSums];
        memset(sums, 0, static_cast<size_t>(R * ld) * sizeof(float));
        f(row, count, sums);
        finish(down, R, sums, out + static_cast<long>(row) * down.rank);
    });
}

// u = A x of every task on tokens they share: x [rows][in].
inline void down_shared(const Portion& p, const MtloraPairs& pairs, const float* x, float* u) {
    for (long t = 0; t < p.count; ++t) {
        if (p.tasks[t] < 0) continue;
        const Down down = down_of(pairs, p.tasks[t]);
        with_sums(p.rows, down, u + t * p.rows * pairs.rank, [&](int row, auto count, float* sums) {
            add_products<decltype(count)::value>(down, 0, x + row * pairs.inputs, pairs.inputs, static_cast<int>(pairs.inputs), sums);
        });
    }
}

// R rows of base + B u (u: [rows][rank]) to out (stride ldo); of one task.
template <int R>
inline void add_low(const MtloraPairs& pairs, long task, const float* u, const float* base, float* out, long ldo) {
    const float* b = pairs.b + task * pairs.rank * pairs.outputs;
    for_columns(static_cast<int>(pairs.outputs), [&](int column, auto columns, int last) {
        constexpr int C = decltype(columns)::value;
        vf sums[R][C];
        each<R, C>(last, [&](int r, int c, int n) { sums[r][c] = load_up_to(base + r * pairs.outputs + column + c * kLanes, n); });
        tile<R, C>(u, pairs.rank, b + column, pairs.outputs, pairs.rank, last, sums);
        each<R, C>(last, [&](int r, int c, int n) { store_up_to(out + r * ldo + column + c * kLanes, sums[r][c], n); });
    });
}

// u2 = A2 LayerNorm(base + B u) of every task.
inline void down_normed(const Portion& p, const float* u, float* u2) {
    const MtloraBlock& b = p.block;
    const long padded = round_up(static_cast<int>(p.width));
    for (long t = 0; t < p.count; ++t) {
        if (p.tasks[t] < 0) continue;
        const Down down = down_of(b.fc1_tasks, p.tasks[t]);
        with_sums(p.rows, down, u2 + t * p.rows * down.rank, [&](int row, auto count, float* sums) {
            constexpr int R = decltype(count)::value;
            alignas(64) float z[R * kMaxWidth];
            const MtloraPairs& pairs = b.proj_tasks;
            add_low<R>(pairs, p.tasks[t], u + (t * p.rows + row) * pairs.rank, p.base + row * p.width, z, padded);
            normalise_some<R>(z, padded, b.norm2_weight, b.norm2_bias, b.eps, static_cast<int>(p.width), z, padded);
            add_products<R>(down, 0, z, padded, static_cast<int>(p.width), sums);
        });
    }
}

// out = A2 GELU(wide + B1 u) of every task, hidden units in pieces. out may be u: a row is read before it is written.
inline void down_hidden(const Portion& p, const float* u, float* out) {
    constexpr int kPiece = 256;
    const MtloraPairs &up = p.block.fc1_tasks, &pairs = p.block.fc2_tasks;
    const long piece = up.rank <= 8 ? kPiece : kTileColumns * kLanes;
    for (long t = 0; t < p.count; ++t) {
        if (p.tasks[t] < 0) continue;
        const Down down = down_of(pairs, p.tasks[t]);
        const long ld = sums_per_token(down);
        alignas(64) float sums[kTokensAtOnce * kMaxSums];
        for (int first_row = 0; first_row < p.rows; first_row += kTokensAtOnce) {
            const int rows = p.rows - first_row < kTokensAtOnce ? p.rows - first_row : kTokensAtOnce;
            memset(sums, 0, static_cast<size_t>(rows * ld) * sizeof(float));
            for (long first = 0; first < p.hidden; first += piece) {
                const int units = static_cast<int>(p.hidden - first < piece ? p.hidden - first : piece);
                for_rows(rows, [&](int row, auto count) {
                    constexpr int R = decltype(count)::value;
                    alignas(64) float h[R * kPiece];
                    const long at = first_row + row;
                    hidden<R>(p.wide + at * p.hidden + first, u + (t * p.rows + at) * up.rank, static_cast<int>(up.rank),
                              up.b + p.tasks[t] * up.rank * p.hidden + first, p.hidden, units, h, kPiece);
                    add_products<R>(down, static_cast<int>(first), h, kPiece, units, sums + row * ld);
                });
            }
            finish(down, rows, sums, out + (t * p.rows + first_row) * down.rank);
        }
    }
}

// streams[t] (stride between tasks: `apart`) = base + Bp u + B2 u2; a linear without task pairs adds nothing.
inline void write_streams(const Portion& p, const float* u, const float* u2, float* streams, long apart) {
    const MtloraPairs &first = p.block.proj_tasks, &second = p.block.fc2_tasks;
    for (long t = 0; t < p.count; ++t) {
        if (p.tasks[t] < 0) continue;
        const float *b = first.b + p.tasks[t] * first.rank * p.width, *b2 = second.b + p.tasks[t] * second.rank * p.width;
        for_rows(p.rows, [&](int row, auto count) {
            constexpr int R = decltype(count)::value;
            const float* base = p.base + row * p.width;
            float* out = streams + t * apart;
            for_columns(static_cast<int>(p.width), [&](int column, auto columns, int last) {
                constexpr int C = decltype(columns)::value;
                vf sums[R][C];
                each<R, C>(last, [&](int r, int c, int n) { sums[r][c] = load_up_to(base + r * p.width + column + c * kLanes, n); });
                if (first.rank) tile<R, C>(u + (t * p.rows + row) * first.rank, first.rank, b + column, p.width, first.rank, last, sums);
                if (second.rank) tile<R, C>(u2 + (t * p.rows + row) * second.rank, second.rank, b2 + column, p.width, second.rank, last, sums);
                each<R, C>(last, [&](int r, int c, int n) { store_up_to(out + p.places[row + r] * p.width + column + c * kLanes, sums[r][c], n); });
            });
        });
    }
}

// Everything behind attention in a block with streams. Shared path: x, overwritten. p.base holds what all streams share.
inline void finish_tasks(const Portion& p, float* x, float* streams, long apart) {
    const MtloraBlock& b = p.block;
    const bool residual = b.proj_tasks.rank > 0, after = b.base_has_pair != 0;
    float *u_proj = p.u, *u = p.u2;

    product(p, b.proj, p.attended, false, p.base);
    const bool pair = b.proj.rank > 0, pair_in_base = pair && (after || !residual);
    if (pair_in_base) add_pair(p, b.proj, p.attended, false, p.base);
    if (residual) down_shared(p, b.proj_tasks, p.attended, u_proj);
    add(x, p.rows, p.width, p.base);
    memcpy(x, p.base, static_cast<size_t>(p.rows * p.width) * sizeof(float));
    if (pair && !pair_in_base) add_pair(p, b.proj, p.attended, false, x);

    normalise_rows(p, x, b.norm2_weight, b.norm2_bias);
    product(p, b.fc1, p.normed, false, p.wide);
    const bool own_hidden = b.fc1_tasks.rank > 0 && b.fc2_tasks.rank > 0;
    const bool late_pair = b.fc1.rank > 0 && own_hidden && !after;
    if (b.fc1.rank && !late_pair) add_pair(p, b.fc1, p.normed, false, p.wide);
    if (own_hidden) {
        residual ? down_normed(p, u_proj, u) : down_shared(p, b.fc1_tasks, p.normed, u);
        down_hidden(p, u, u);
    }
    if (late_pair) add_pair(p, b.fc1, p.normed, true, p.wide);
    else each_vector(p.rows, p.hidden, [&](long at, int n) { store_up_to(p.wide + at, gelu(load_up_to(p.wide + at, n)), n); });

    if (b.fc2_tasks.rank && !own_hidden) down_shared(p, b.fc2_tasks, p.wide, u);
    product(p, b.fc2, p.wide, false, p.normed);
    const bool base_pair = b.fc2.rank > 0 && (after || b.fc2_tasks.rank == 0);
    if (base_pair) add_pair(p, b.fc2, p.wide, false, p.normed);
    add(p.normed, p.rows, p.width, x);
    if (b.fc2.rank && !base_pair) add_pair(p, b.fc2, p.wide, false, x);
    if (residual) add(p.normed, p.rows, p.width, p.base);
    else memcpy(p.base, p.normed, static_cast<size_t>(p.rows * p.width) * sizeof(float));
    write_streams(p, u_proj, u, streams, apart);
}

inline void copy_row(const float* from, long width, float* to) { memcpy(to, from, static_cast<size_t>(width) * sizeof(float)); }

// Finds the places of windows begin..end of those that are computed, and which biases they have; whether they lie side by side.
inline bool locate(Portion& p, const MtloraRegion& region, long begin, long end, int32_t* kinds) {
    bool together = true;
    for (long i = begin; i < end; ++i) {
        const long window = region.open == nullptr ? i : region.open[i], own = window % region.period;
        long* places = p.places + (i - begin) * p.tokens;
        kinds[i - begin] = region.which[own];
        for (long r = 0; r < p.tokens; ++r)
            places[r] = region.order == nullptr ? window * p.tokens + r
                                                : (window - own) * p.tokens + region.order[own * p.tokens + r];
        together &= region.order == nullptr && places[0] == p.places[0] + (i - begin) * p.tokens;
    }
    return together;
}

// Windows in portions of nearly one size, the larger first, as many portions for each thread: an odd one would be waited for.
struct Cut {
    long windows, portions;
    Cut(long all, long at_once, long threads) : windows(all), portions((all + at_once - 1) / at_once) {
        portions = std::min(all, (portions + threads - 1) / threads * threads);
    }
    long begin(long portion) const { return portion * (windows / portions) + std::min(portion, windows % portions); }
};

inline void run_portion(const Portion& p, const int32_t* kinds, float* x, float* streams, long apart) {
    attend_windows(p, x, kinds);
    p.count ? finish_tasks(p, x, streams, apart) : finish_plain(p, x);
}

}  // namespace

// x: [images * period * tokens][width], in place; windows that are not computed stay as they are. With count > 0 tasks
// wanted also their streams, [count][period * tokens][width], of one image and ordered as x; of windows that are not
// computed and of tasks given as -1 nothing is written. Returns 0, or 1 where memory ran out.
EXPORT int mtlora_block(const MtloraBlock* block, const MtloraRegion* region, float* x, const int32_t* tasks, long count,
                         float* streams, int threads) {
    const MtloraBlock& b = *block;
    const long width = b.proj.outputs, hidden = b.fc1.outputs, windows = region->windows, tokens = region->tokens;
    long at_once = kBlockTokens / tokens;
    if (at_once * threads > windows) at_once = windows / threads;
    if (at_once < 1) at_once = 1;
    const long rows = at_once * tokens, wide = std::max<long>(3 * width, hidden);
    long low = 0, bytes = 0;
    for (const MtloraLinear* l : {&b.qkv, &b.proj, &b.fc1, &b.fc2}) {
        low = std::max<long>(low, l->rank);
        if (l->integers != nullptr) bytes = std::max<long>(bytes, round_up(static_cast<int>(l->inputs)));
    }
    const long u = count * b.proj_tasks.rank, u2 = count * std::max<long>(b.fc1_tasks.rank, b.fc2_tasks.rank);
    std::atomic<int> failed{0};
    const Cut cut(windows, at_once, std::max(threads, 1));
    parallel_for(cut.portions, 1, threads, [&](long portion, long) {
        const long begin = cut.begin(portion), end = cut.begin(portion + 1);
        const long floats = rows * (4 * width + wide + low + u + u2 + 1);
        float* memory = scratch.reserve(static_cast<size_t>(floats + rows * bytes / static_cast<long>(sizeof(float)) + 1));
        if (memory == nullptr) {
            failed = 1;
            return;
        }
        float* next = memory;
        auto piece = [&](long size) { return std::exchange(next, next + rows * size); };
        Portion p{b, static_cast<int>((end - begin) * tokens), tokens, width, hidden, tasks, count, {},
                  piece(width), piece(width), piece(width), piece(width), piece(wide), piece(low), piece(u), piece(u2), piece(1),
                  reinterpret_cast<uint8_t*>(memory + floats)};
        int32_t kinds[kBlockTokens];
        const long apart = region->period * tokens * width;
        if (locate(p, *region, begin, end, kinds)) {
            run_portion(p, kinds, x + p.places[0] * width, streams, apart);
            return;
        }
        for (int r = 0; r < p.rows; ++r) copy_row(x + p.places[r] * width, width, p.x + r * width);
        run_portion(p, kinds, p.x, streams, apart);
        for (int r = 0; r < p.rows; ++r) copy_row(p.x + r * width, width, x + p.places[r] * width);
    });
    return failed;
}
