// What the tasks of a set do beside the shared path: thin products, with whatever comes before or after them fused.
#pragma once

#include <cmath>
#include <cstring>

#include "interface.hpp"
#include "parallel.hpp"
#include "tiles.hpp"

namespace {

constexpr int kTokensAtOnce = 48;  // one thread's portion: rows of weights are fetched once for so many tokens

// A of one task: as [rank][width] (few rows: dot products) or as [width][rank] (many: sums of columns).
struct Down {
    const float* a;
    int rank, width;
    bool by_columns;
};

// Floats that one token's sums take while its input comes in pieces: vectors whose lanes are still to be added up, or
// padded columns. With few dot products (Down::by_columns is false only for rank <= kMaxDots) both are at most kMaxSums.
constexpr int kMaxSums = kMaxRank > kMaxDots * kLanes ? kMaxRank : kMaxDots * kLanes;

inline long sums_per_token(const Down& down) {
    return down.by_columns ? round_up(down.rank) : static_cast<long>(down.rank) * kLanes;
}

// Adds the products of R rows (k long, stride ldx) with columns first .. first + k of A.
template <int R>
inline void add_products(const Down& down, int first, const float* x, long ldx, int k, float* sums) {
    const long ld = sums_per_token(down);
    if (down.by_columns) {
        for_columns(down.rank, [&](int column, auto columns, int last) {
            constexpr int C = decltype(columns)::value;
            vf part[R][C];
            each<R, C>(last, [&](int r, int c, int) { part[r][c] = load(sums + r * ld + column + c * kLanes); });
            tile<R, C>(x, ldx, down.a + static_cast<long>(first) * down.rank + column, down.rank, k, last, part);
            each<R, C>(last, [&](int r, int c, int) { store(sums + r * ld + column + c * kLanes, part[r][c]); });
        });
        return;
    }
    for_columns(down.rank * kLanes, [&](int lane, auto columns, int) {
        constexpr int C = decltype(columns)::value;
        const float* a = down.a + static_cast<long>(lane / kLanes) * down.width + first;
        vf part[R][C];
        each<R, C>(kLanes, [&](int r, int c, int) { part[r][c] = load(sums + r * ld + lane + c * kLanes); });
        auto add = [&](int i, int valid) {
            vf row[C];
            each<1, C>(valid, [&](int, int c, int) { row[c] = load_up_to(a + c * down.width + i, valid); });
            // Up to `valid` only: what lies behind may be no number, and that times zero is none either.
            each<R, C>(valid, [&](int r, int c, int) { part[r][c] += load_up_to(x + r * ldx + i, valid) * row[c]; });
        };
        int i = 0;
        for (; i + kLanes <= k; i += kLanes) add(i, kLanes);
        if (i < k) add(i, k - i);
        each<R, C>(kLanes, [&](int r, int c, int) { store(sums + r * ld + lane + c * kLanes, part[r][c]); });
    });
}

inline void finish(const Down& down, int rows, const float* sums, float* out) {
    const long ld = sums_per_token(down);
    for (int r = 0; r < rows; ++r)
        for (int q = 0; q < down.rank; ++q)
            out[r * down.rank + q] = down.by_columns ? sums[r * ld + q] : sum_of_lanes(load(sums + r * ld + q * kLanes));
}

// h = GELU(frozen + u b) for R tokens and `count` hidden units (b: [rank][ldb]); what is behind them becomes zero.
template <int R>
inline void hidden(const float* frozen, const float* u, int rank, const float* b, long ldb, int count, float* h,
                   int ldh) {
    for_columns(count, [&](int column, auto columns, int last) {
        constexpr int C = decltype(columns)::value;
        vf sums[R][C];
        each<R, C>(last, [&](int r, int c, int valid) {
            sums[r][c] = load_up_to(frozen + r * ldb + column + c * kLanes, valid);
        });
        tile<R, C>(u, rank, b + column, ldb, rank, last, sums);
        each<R, C>(last, [&](int r, int c, int) { store(h + r * ldh + column + c * kLanes, gelu(sums[r][c])); });
    });
}

// Layer norm of R tokens (strides ldx and ldo), side by side because sums over lanes are waited for; see `normalise`.
template <int R>
inline void normalise_some(const float* x, long ldx, const float* weight, const float* bias, float eps, int width,
                           float* out, long ldo) {
    vf sums[R], squares[R];
    float mean[R], inverse[R];
    UNROLL
    for (int r = 0; r < R; ++r) sums[r] = squares[r] = vf{};
    for (int i = 0; i < width; i += kLanes) {
        UNROLL
        for (int r = 0; r < R; ++r) sums[r] += load_up_to(x + r * ldx + i, width - i);
    }
    UNROLL
    for (int r = 0; r < R; ++r) mean[r] = sum_of_lanes(sums[r]) / static_cast<float>(width);
    for (int i = 0; i < width; i += kLanes) {
        UNROLL
        for (int r = 0; r < R; ++r) {
            vf centred = load_up_to(x + r * ldx + i, width - i) - mean[r];
            if (width - i < kLanes) centred = lane_numbers() < width - i ? centred : vf{};
            squares[r] += centred * centred;
        }
    }
    UNROLL
    for (int r = 0; r < R; ++r) inverse[r] = 1.0f / std::sqrt(sum_of_lanes(squares[r]) / static_cast<float>(width) + eps);
    for (int r = 0; r < R; ++r)
        for (int i = 0; i < width; i += kLanes) {
            const int valid = width - i;
            const vf scaled = (load_up_to(x + r * ldx + i, valid) - mean[r]) * inverse[r];
            store(out + r * ldo + i, scaled * load_up_to(weight + i, valid) + load_up_to(bias + i, valid));
        }
}

// Layer norm of tokens; what is behind each up to a whole vector becomes zero, before the next is written. In place only
// where rows are whole vectors long.
inline void normalise(const float* x, long ldx, int rows, const float* weight, const float* bias, float eps, int width,
                      float* out, long ldo) {
    for_rows(rows, [&](int row, auto count) {
        normalise_some<decltype(count)::value>(x + row * ldx, ldx, weight, bias, eps, width, out + row * ldo, ldo);
    });
}

}  // namespace

// See `ops.gelu_`: x [rows, width], bias [width] or null.
EXPORT void mtlora_gelu(float* x, const float* bias, long rows, long width, int threads) {
    const long grain = width > 0 ? 1 + 16384 / width : 1;
    parallel_for(rows, grain, threads, [&](long begin, long end) {
        for (long row = begin; row < end; ++row)
            for (long i = 0; i < width; i += kLanes) {
                float* p = x + row * width + i;
                int left = static_cast<int>(width - i < kLanes ? width - i : kLanes);
                vf value = load_up_to(p, left);
                if (bias != nullptr) value += load_up_to(bias + i, left);
                store_up_to(p, gelu(value), left);
            }
    });
}

// See `ops.lowrank_add`: base and residual (may be null) [tokens, width], u [tasks, tokens, rank], b [tasks, rank, width],
// out [tasks, tokens, width].
EXPORT void mtlora_lowrank_add(const float* base, const float* residual, const float* u, const float* b, float* out,
                                   long tasks, long tokens, long width, long rank, int threads) {
    parallel_for(tokens, kTokensAtOnce, threads, [&](long begin, long end) {
        for (long t = 0; t < tasks; ++t)
            for_columns(static_cast<int>(width), [&](int column, auto columns, int last) {
                for_rows(static_cast<int>(end - begin), [&](int row, auto rows) {
                    constexpr int R = decltype(rows)::value, C = decltype(columns)::value;
                    const long first = (begin + row) * width + column;
                    vf sums[R][C];
                    each<R, C>(last, [&](int r, int c, int valid) {
                        const long at = first + r * width + c * kLanes;
                        sums[r][c] = load_up_to(base + at, valid);
                        if (residual != nullptr) sums[r][c] += load_up_to(residual + at, valid);
                    });
                    tile<R, C>(u + (t * tokens + begin + row) * rank, rank, b + t * rank * width + column, width, rank,
                               last, sums);
                    each<R, C>(last, [&](int r, int c, int valid) {
                        store_up_to(out + t * tokens * width + first + r * width + c * kLanes, sums[r][c], valid);
                    });
                });
            });
    });
}

// See `ops.task_mlp`: frozen [tokens, width], u [tasks, tokens, rank], b1 [tasks, rank, width], a2 [tasks, rank2, width]
// (by_columns: [tasks, width, rank2]), out [tasks, tokens, rank2]. rank2 <= kMaxRank, or <= kMaxDots.
EXPORT void mtlora_task_mlp(const float* frozen, const float* u, const float* b1, const float* a2, float* out,
                                long tasks, long tokens, long width, long rank, long rank2, int by_columns,
                                int threads) {
    constexpr int kPiece = 256;
    const long piece = rank <= 8 ? kPiece : kTileColumns * kLanes;  // so that the weights of a piece stay in L1
    parallel_for(tokens, kTokensAtOnce, threads, [&](long begin, long end) {
        alignas(64) float sums[kTokensAtOnce * kMaxSums];
        for (long t = 0; t < tasks; ++t) {
            Down down{a2 + t * rank2 * width, static_cast<int>(rank2), static_cast<int>(width), by_columns != 0};
            const long ld = sums_per_token(down);
            memset(sums, 0, static_cast<size_t>((end - begin) * ld) * sizeof(float));
            for (long first = 0; first < width; first += piece) {
                const int count = static_cast<int>(width - first < piece ? width - first : piece);
                for_rows(static_cast<int>(end - begin), [&](int row, auto rows) {
                    constexpr int R = decltype(rows)::value;
                    alignas(64) float h[R * kPiece];
                    hidden<R>(frozen + (begin + row) * width + first, u + (t * tokens + begin + row) * rank,
                              static_cast<int>(rank), b1 + t * rank * width + first, width, count, h, kPiece);
                    add_products<R>(down, static_cast<int>(first), h, kPiece, count, sums + row * ld);
                });
            }
            finish(down, static_cast<int>(end - begin), sums, out + (t * tokens + begin) * rank2);
        }
    });
}

// See `ops.layer_norm_tasks`: x [tasks, tokens, width], a [tasks, rank, width] (by_columns: [tasks, width, rank]),
// out [tasks, tokens, rank]. rank <= kMaxRank (or <= kMaxDots), width <= kMaxWidth.
EXPORT void mtlora_layer_norm_tasks(const float* x, const float* weight, const float* bias, float eps,
                                        const float* a, float* out, long tasks, long tokens, long width, long rank,
                                        int by_columns, int threads) {
    parallel_for(tasks * tokens, kTokensAtOnce, threads, [&](long begin, long end) {
        alignas(64) float normed[kTileRows * kMaxWidth], sums[kTileRows * kMaxSums];
        while (begin < end) {
            const long t = begin / tokens, stop = (t + 1) * tokens < end ? (t + 1) * tokens : end;
            Down down{a + t * rank * width, static_cast<int>(rank), static_cast<int>(width), by_columns != 0};
            const long ld = sums_per_token(down), padded = round_up(static_cast<int>(width));
            for_rows(static_cast<int>(stop - begin), [&](int row, auto rows) {
                constexpr int R = decltype(rows)::value;
                normalise_some<R>(x + (begin + row) * width, width, weight, bias, eps, static_cast<int>(width), normed, padded);
                memset(sums, 0, static_cast<size_t>(R * ld) * sizeof(float));
                add_products<R>(down, 0, normed, padded, static_cast<int>(width), sums);
                finish(down, R, sums, out + (begin + row) * rank);
            });
            begin = stop;
        }
    });
}
