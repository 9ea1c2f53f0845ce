// Products of matrices of floats: with a matrix as it is, and with packed ones (README.md draws them). Those of 8-bit
// integers are in int8.hpp, the thin ones of tasks in tasks.hpp.
#pragma once

#include "interface.hpp"
#include "tiles.hpp"

namespace {

constexpr int kPanel = kTileColumns * kLanes;  // columns of a weight that one pass over the tokens multiplies with
constexpr int kDepth = 384;                    // rows of a panel between two visits of the sums in memory

// What a sum begins with.
enum class Start { kZero, kBias, kSum };

// y = x W (+ bias, or + y), then GELU if asked for. x: [rows][in], stride ldx; y: [rows][out], stride ldy.
inline void multiply(const float* x, long ldx, int rows, const float* packed, long in, long out, const float* bias,
                     Start start, bool activate, float* y, long ldy) {
    for (long column = 0; column < out; column += kPanel) {
        const int width = static_cast<int>(out - column < kPanel ? out - column : kPanel);
        const long padded = round_up(width);
        const float* panel = packed + column * in;
        for (long k = 0; k < in; k += kDepth) {
            const long depth = in - k < kDepth ? in - k : kDepth;
            const bool first = k == 0, last = k + depth == in;
            with_constant<kTileColumns>(static_cast<int>(padded) / kLanes, [&](auto vectors) {
                constexpr int C = decltype(vectors)::value;
                const int valid_last = width - (C - 1) * kLanes;
                for_rows(rows, [&](int row, auto count) {
                    constexpr int R = decltype(count)::value;
                    float* out_row = y + row * ldy + column;
                    vf sums[R][C];
                    each<R, C>(valid_last, [&](int r, int c, int valid) {
                        if (!first || start == Start::kSum) sums[r][c] = load_up_to(out_row + r * ldy + c * kLanes, valid);
                        else if (start == Start::kBias) sums[r][c] = load_up_to(bias + column + c * kLanes, valid);
                        else sums[r][c] = vf{};
                    });
                    tile<R, C>(x + row * ldx + k, ldx, panel + k * padded, padded, depth, kLanes, sums);
                    each<R, C>(valid_last, [&](int r, int c, int valid) {
                        store_up_to(out_row + r * ldy + c * kLanes, last && activate ? gelu(sums[r][c]) : sums[r][c], valid);
                    });
                });
            });
        }
    }
}

// y = begin + x W: x [rows][in] (stride ldx), W [in][out] in one piece. begin(row, column, valid) is what a vector of sums
// starts with, end(row, column, sums, valid) takes it.
template <class Begin, class End>
INLINE void multiply_rows(const float* x, long ldx, int rows, const float* weight, long in, long out, Begin&& begin, End&& end) {
    for_columns(static_cast<int>(out), [&](int column, auto vectors, int last) {
        constexpr int C = decltype(vectors)::value;
        for_rows(rows, [&](int row, auto count) {
            constexpr int R = decltype(count)::value;
            vf sums[R][C];
            each<R, C>(last, [&](int r, int c, int valid) { sums[r][c] = begin(row + r, column + c * kLanes, valid); });
            tile<R, C>(x + row * ldx, ldx, weight + column, out, in, last, sums);
            each<R, C>(last, [&](int r, int c, int valid) { end(row + r, column + c * kLanes, sums[r][c], valid); });
        });
    });
}

// The packed weight with a low-rank pair added: W + B A. packed, merged: [in][out] in panels; down: [in][stride];
// up: [rank][out] in panels. One pass over the weight, where adding and then packing would be four.
inline void merge(const float* packed, const float* down, long stride, const float* up, float* merged, long in, long out,
                  long rank) {
    for (long column = 0; column < out; column += kPanel) {
        const int width = static_cast<int>(out - column < kPanel ? out - column : kPanel);
        const long padded = round_up(width);
        const float *from = packed + column * in, *pair = up + column * rank;
        float* to = merged + column * in;
        with_constant<kTileColumns>(static_cast<int>(padded) / kLanes, [&](auto vectors) {
            constexpr int C = decltype(vectors)::value;
            for_rows(static_cast<int>(in), [&](int row, auto count) {
                constexpr int R = decltype(count)::value;
                vf sums[R][C];
                each<R, C>(kLanes, [&](int r, int c, int) { sums[r][c] = load(from + (row + r) * padded + c * kLanes); });
                tile<R, C>(down + row * stride, stride, pair, padded, rank, kLanes, sums);
                each<R, C>(kLanes, [&](int r, int c, int) { store(to + (row + r) * padded + c * kLanes, sums[r][c]); });
            });
        });
    }
}

}  // namespace

// Floats of a packed matrix.
EXPORT long mtlora_packed_floats(long in, long out) {
    return in * (out / kPanel * kPanel + round_up(static_cast<int>(out % kPanel)));
}

// weight [out][in] to panels of columns, each [in][columns, padded with zeros to whole vectors].
EXPORT void mtlora_pack(const float* weight, float* packed, long in, long out) {
    for (long column = 0; column < out; column += kPanel) {
        const int width = static_cast<int>(out - column < kPanel ? out - column : kPanel);
        transpose(weight + column * in, in, width, static_cast<int>(in), packed + column * in, round_up(width));
    }
}
