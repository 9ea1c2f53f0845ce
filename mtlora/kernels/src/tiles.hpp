// Tiles: as many sums as fit the registers, kTileRows rows of kTileColumns vectors. What matrix products are made of.
#pragma once

#include <type_traits>

#include "vec.hpp"

namespace {

// Calls f with std::integral_constant<int, n>, n in 1..Largest.
template <int Largest, class F>
inline void with_constant(int n, F&& f) {
    if constexpr (Largest > 1) {
        if (n < Largest) return with_constant<Largest - 1>(n, f);
    }
    f(std::integral_constant<int, Largest>{});
}

// Calls f(r, c, valid columns of vector c) for the R x C registers of a tile; of the last vectors `last` are valid.
template <int R, int C, class F>
INLINE void each(int last, F&& f) {
    UNROLL
    for (int r = 0; r < R; ++r) {
        UNROLL
        for (int c = 0; c < C; ++c) f(r, c, c + 1 < C ? kLanes : last);
    }
}

// sums[r][c] += product of R rows of a (row stride lda, k long) and C vectors of columns of b (row stride ldb, k rows).
// Of the last vector only `last` columns are read.
template <int R, int C>
INLINE void tile(const float* a, long lda, const float* b, long ldb, long k, int last, vf (&sums)[R][C]) {
    auto run = [&](auto whole) __attribute__((always_inline)) {
        for (long i = 0; i < k; ++i) {
            vf column[C];
            UNROLL
            for (int c = 0; c < C; ++c) {
                const float* p = b + i * ldb + c * kLanes;
                column[c] = whole || c + 1 < C ? load(p) : load_part(p, last);
            }
            UNROLL
            for (int r = 0; r < R; ++r) {
                vf x = splat(a[r * lda + i]);
                UNROLL
                for (int c = 0; c < C; ++c) sums[r][c] += x * column[c];
            }
        }
    };
    if (last >= kLanes) run(std::true_type{});
    else run(std::false_type{});
}

// Calls f(first column, constant number of vectors, columns valid in the last vector) for all of `columns`.
template <class F>
inline void for_columns(int columns, F&& f) {
    for (int at = 0; at < columns; at += kTileColumns * kLanes) {
        int left = columns - at, vectors = round_up(left) / kLanes;
        if (vectors > kTileColumns) {
            f(at, std::integral_constant<int, kTileColumns>{}, kLanes);
        } else {
            int last = left - (vectors - 1) * kLanes;
            with_constant<kTileColumns>(vectors, [&](auto constant) { f(at, constant, last); });
        }
    }
}

// Calls f(first row, constant number of rows) for all of `rows`, in blocks as even as possible: 49 as 4 x 6 and 5 x 5.
template <class F>
inline void for_rows(int rows, F&& f) {
    const int blocks = (rows + kTileRows - 1) / kTileRows;
    for (int b = 0; b < blocks; ++b) {
        int row = b * rows / blocks, count = (b + 1) * rows / blocks - row;
        with_constant<kTileRows>(count, [&](auto constant) { f(row, constant); });
    }
}

#if defined(__GNUC__) && !defined(__clang__)
template <int S>
INLINE void transpose_steps(vf (&x)[kLanes]) {
    vi low = lane_numbers(), high = low;
    UNROLL
    for (int i = 0; i < kLanes; ++i) {
        low[i] = i & S ? kLanes + (i ^ S) : i;
        high[i] = i & S ? kLanes + i : i ^ S;
    }
    UNROLL
    for (int i = 0; i < kLanes; ++i) {
        if (i & S) continue;
        vf a = x[i], b = x[i | S];
        x[i] = __builtin_shuffle(a, b, low);
        x[i | S] = __builtin_shuffle(a, b, high);
    }
    if constexpr (2 * S < kLanes) transpose_steps<2 * S>(x);
}
#else
template <int S>
inline void transpose_steps(vf (&x)[kLanes]) {
    vf y[kLanes];
    for (int i = 0; i < kLanes; ++i)
        for (int j = 0; j < kLanes; ++j) y[j][i] = x[i][j];
    for (int i = 0; i < kLanes; ++i) x[i] = y[i];
}
#endif

// One square of `transpose`, of which height x width is there.
inline void transpose_square(const float* in, long ldi, int height, int width, float* out, long ldo) {
    vf square[kLanes];
    if (height == kLanes && width == kLanes) {
        UNROLL
        for (int i = 0; i < kLanes; ++i) square[i] = load(in + i * ldi);
        transpose_steps<1>(square);
        UNROLL
        for (int i = 0; i < kLanes; ++i) store(out + i * ldo, square[i]);
        return;
    }
    for (int c = 0; c < width; ++c) {
        vf column = {in[c]};
        for (int i = 1; i < height; ++i) column[i] = in[i * ldi + c];
        store(out + c * ldo, column);
    }
}

// out[c][r] = in[r][c]: rows x columns become columns rows of round_up(rows) floats (stride ldo), padded with zeros.
inline void transpose(const float* in, long ldi, int rows, int columns, float* out, long ldo) {
    for (int r = 0; r < rows; r += kLanes)
        for (int c = 0; c < columns; c += kLanes)
            transpose_square(in + r * ldi + c, ldi, rows - r < kLanes ? rows - r : kLanes,
                             columns - c < kLanes ? columns - c : kLanes, out + c * ldo + r, ldo);
}

}  // namespace
