// From a photo's bytes to the model's square with antialiasing: as torch's bicubic interpolation of bytes, in whole numbers,
// so the order of sums does not count. Some rows at a time, each once: what it takes is the square's, not the photo's.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "parallel.hpp"
#include "vec.hpp"

namespace {

constexpr double kSmooth = -0.5;  // torch's coefficient of the antialiased kernel
constexpr long kTapsAtOnce = 4;
constexpr long kPixel = kPixelBytes;
constexpr long kSpread = 4;  // times that a pair of weights stands side by side

// Which input positions an output position covers, and their weights as 16-bit fixed-point numbers.
class Footprints {
   public:
    bool make(long in, long out);
    bool spread_out(long out);

    int first(long i) const { return first_[i]; }
    int count(long i) const { return count_[i]; }
    const int16_t* weights(long i) const { return weights_.get() + i * taps_; }  // zeros behind the last
    const int16_t* spread(long i) const { return spread_.get() + i * taps_ * kSpread; }  // pairs, once for each colour
    int precision() const { return precision_; }
    int half() const { return 1 << (precision_ - 1); }

   private:
    static double cubic(double x) {
        x = std::fabs(x);
        if (x < 1.0) return ((kSmooth + 2.0) * x - (kSmooth + 3.0)) * x * x + 1.0;
        if (x < 2.0) return ((kSmooth * x - 5.0 * kSmooth) * x + 8.0 * kSmooth) * x - 4.0 * kSmooth;
        return 0.0;
    }

    std::unique_ptr<int[]> first_, count_;
    std::unique_ptr<int16_t[]> weights_, spread_;
    long taps_ = 0;
    int precision_ = 0;
};

// As torch's `_compute_indices_min_size_weights_aa` and the choice of the precision that follows it. False: no memory.
bool Footprints::make(long in, long out) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double support = scale >= 1.0 ? 2.0 * scale : 2.0, inverse = scale >= 1.0 ? 1.0 / scale : 1.0;
    const long most = static_cast<long>(std::ceil(static_cast<float>(support))) * 2 + 1;
    taps_ = (most + kTapsAtOnce - 1) / kTapsAtOnce * kTapsAtOnce;
    const size_t size = static_cast<size_t>(out * taps_);
    first_.reset(new (std::nothrow) int[static_cast<size_t>(out)]);
    count_.reset(new (std::nothrow) int[static_cast<size_t>(out)]);
    weights_.reset(new (std::nothrow) int16_t[size]);
    std::unique_ptr<double[]> exact(new (std::nothrow) double[size]);
    if (!first_ || !count_ || !weights_ || !exact) return false;
    double largest = 0.0;
    for (long i = 0; i < out; ++i) {
        const double center = scale * (static_cast<double>(i) + 0.5);
        const long low = static_cast<long>(center - support + 0.5), high = static_cast<long>(center + support + 0.5);
        const long begin = low > 0 ? low : 0;
        long n = (high < in ? high : in) - begin;
        n = n < 0 ? 0 : n > most ? most : n;
        double total = 0.0, *own = exact.get() + i * taps_;
        for (long j = 0; j < n; ++j)
            total += own[j] = cubic((static_cast<double>(j + begin) - center + 0.5) * inverse);
        for (long j = 0; j < n && total != 0.0; ++j) own[j] /= total;
        for (long j = 0; j < n; ++j) largest = own[j] > largest ? own[j] : largest;
        for (long j = n; j < taps_; ++j) own[j] = 0.0;
        first_[i] = static_cast<int>(begin), count_[i] = static_cast<int>(n);
    }
    for (precision_ = 0; precision_ < 22; ++precision_)
        if (static_cast<int>(0.5 + largest * (1 << (precision_ + 1))) >= 1 << 15) break;
    for (size_t i = 0; i < size; ++i) {
        const double fixed = exact[i] * (1 << precision_);
        weights_[i] = static_cast<int16_t>(fixed < 0 ? static_cast<int>(fixed - 0.5) : static_cast<int>(fixed + 0.5));
    }
    return true;
}

// The weights as `shrink_row` takes them. False: no memory.
inline bool Footprints::spread_out(long out) {
    spread_.reset(new (std::nothrow) int16_t[static_cast<size_t>(out * taps_ * kSpread)]);
    if (!spread_) return false;
    for (long pair = 0; pair < out * taps_ / 2; ++pair)
        for (long copy = 0; copy < kSpread; ++copy)
            memcpy(spread_.get() + (pair * kSpread + copy) * 2, weights_.get() + pair * 2, 2 * sizeof(int16_t));
    return true;
}

inline uint8_t to_byte(int sum, int precision) {
    const int value = sum >> precision;
    return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

// One row to the square's width. Reads whole fours of pixels: up to 12 bytes behind the last.
inline void shrink_row(const uint8_t* row, const Footprints& columns, long side, uint8_t* out) {
#if defined(__AVX2__)
    // Pixels 0 and 1 in the lower half, 2 and 3 in the upper: colours side by side as 16-bit numbers.
    const __m256i colors_together = _mm256_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1,  //
                                                     8, -1, 12, -1, 9, -1, 13, -1, 10, -1, 14, -1, 11, -1, 15, -1);
    const __m128i shift = _mm_cvtsi32_si128(columns.precision());
    const __m128i half = _mm_set1_epi32(columns.half());
    for (long x = 0; x < side; ++x) {
        const uint8_t* from = row + columns.first(x) * kPixel;
        const int16_t* weights = columns.spread(x);
        const int count = columns.count(x);
        __m256i sums = _mm256_setzero_si256();
        for (long k = 0; k < count; k += kTapsAtOnce) {
            const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + k * kPixel));
            const __m256i colors = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(four), colors_together);
            const __m256i own = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights + k * kSpread));
            sums = _mm256_add_epi32(sums, _mm256_madd_epi16(colors, own));
        }
        const __m128i both = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
        const __m128i values = _mm_sra_epi32(_mm_add_epi32(both, half), shift);
        const __m128i words = _mm_packs_epi32(values, values);
        const int pixel = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
        memcpy(out + x * kPixel, &pixel, kPixel);
    }
#else
    for (long x = 0; x < side; ++x) {
        const uint8_t* from = row + columns.first(x) * kPixel;
        const int16_t* weights = columns.weights(x);
        const int count = columns.count(x);
        int sums[3] = {columns.half(), columns.half(), columns.half()};
        for (long k = 0; k < count; ++k)
            for (int c = 0; c < 3; ++c) sums[c] += from[k * kPixel + c] * weights[k];
        for (int c = 0; c < 3; ++c) out[x * kPixel + c] = to_byte(sums[c], columns.precision());
        out[x * kPixel + 3] = 0;
    }
#endif
}

// sums += weight * row, n bytes.
inline void add_row(const uint8_t* row, int weight, long n, int32_t* __restrict sums) {
    long i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        vi sum;
        memcpy(&sum, sums + i, sizeof sum);
        sum += load_bytes(row + i) * weight;
        memcpy(sums + i, &sum, sizeof sum);
    }
    for (; i < n; ++i) sums[i] += row[i] * weight;
}

// Sums as whole numbers of 0..255; n of them, which is a multiple of 4.
inline void bytes_of(const int32_t* sums, long n, const Footprints& lines, int32_t* values) {
    long i = 0;
    for (; i + kLanes <= n; i += kLanes) {
        vi sum;
        memcpy(&sum, sums + i, sizeof sum);
        sum = (sum + lines.half()) >> lines.precision();
        sum = sum < 0 ? 0 : sum;
        sum = sum > 255 ? 255 : sum;
        memcpy(values + i, &sum, sizeof sum);
    }
    for (; i < n; ++i) values[i] = to_byte(sums[i] + lines.half(), lines.precision());
}

// A row with four bytes a pixel, and room to read on behind it.
inline const uint8_t* widened(const uint8_t* row, long width, long step, uint8_t* room) {
    if (step == kPixel) {
        memcpy(room, row, static_cast<size_t>(width * kPixel));
    } else {
        for (long x = 0; x < width; ++x) memcpy(room + x * kPixel, row + x * step, 3);
    }
    return room;
}

}  // namespace

// See `images.resampling`: adds `count` rows of a photo from row `top` on, [count, width, step] with step 3 or 4, to
// sums [side, side, 4], which begin as zeros. Returns 1 where there was no memory.
EXPORT int mtlora_antialias_rows(const uint8_t* rows, int32_t* sums, long width, long height, long step, long side,
                                 long top, long count) {
    Footprints columns, lines;
    const size_t row_bytes = static_cast<size_t>(width * kPixel) + kPixel * kTapsAtOnce;
    std::unique_ptr<uint8_t[]> shrunk(new (std::nothrow) uint8_t[static_cast<size_t>(side * kPixel)]);
    std::unique_ptr<uint8_t[]> room(new (std::nothrow) uint8_t[row_bytes]());
    if (!shrunk || !room || !columns.make(width, side) || !columns.spread_out(side) || !lines.make(height, side))
        return 1;
    long begin = 0;
    for (long r = 0; r < count; ++r) {
        const long at = top + r;
        while (begin < side && lines.first(begin) + lines.count(begin) <= at) ++begin;
        if (begin == side || lines.first(begin) > at) continue;
        const uint8_t* row = rows + r * width * step;
        const bool inside = step == kPixel && r + 1 < count && width >= kTapsAtOnce;  // the next row may be read too
        shrink_row(inside ? row : widened(row, width, step, room.get()), columns, side, shrunk.get());
        for (long y = begin; y < side && lines.first(y) <= at; ++y)
            add_row(shrunk.get(), lines.weights(y)[at - lines.first(y)], side * kPixel, sums + y * side * kPixel);
    }
    return 0;
}

// The square of those sums: out [3, side, side], from table [3, 256]. Returns 1 where there was no memory.
EXPORT int mtlora_antialias_finish(const int32_t* sums, const float* table, float* out, long height, long side) {
    Footprints lines;
    const long n = side * kPixel;
    std::unique_ptr<int32_t[]> values(new (std::nothrow) int32_t[static_cast<size_t>(n + kLanes)]);
    if (!values || !lines.make(height, side)) return 1;
    const long plane = side * side;
    for (long y = 0; y < side; ++y, sums += n, out += side) {
        bytes_of(sums, n, lines, values.get());
        for (long x = 0; x < side; ++x) {
            const int32_t* value = values.get() + x * kPixel;
            out[x] = table[value[0]], out[plane + x] = table[256 + value[1]], out[2 * plane + x] = table[512 + value[2]];
        }
    }
    return 0;
}
