// From small maps to large ones, one row at a time: bilinear enlargement with whatever is done to each pixel after it.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>

#include "parallel.hpp"
#include "vec.hpp"

namespace {

constexpr int kRowsAtOnce = 16;

// Where an output position lies between input positions (pixel centres aligned, as torch's align_corners=False).
struct Between {
    int first, second;
    float weight;  // of the second

    Between(long position, long in, long out) {
        const float scale = static_cast<float>(in) / static_cast<float>(out);
        const float at = std::fmax((static_cast<float>(position) + 0.5f) * scale - 0.5f, 0.0f);
        first = static_cast<int>(at) < in - 1 ? static_cast<int>(at) : static_cast<int>(in) - 1;
        second = first < in - 1 ? first + 1 : first;
        weight = at - static_cast<float>(first) < 1.0f ? at - static_cast<float>(first) : 1.0f;
    }
};

// The positions of a vector of output columns.
struct Columns {
    vi first;      // relative to `base` where `near`
    vf weight;     // of the input column behind `first`
    int base;
    bool near;     // all columns needed are within a vector from `base` on

    Columns() = default;
    Columns(long position, long in, long out) {
        for (int i = 0; i < kLanes; ++i) {
            const Between between(position + i < out ? position + i : out - 1, in, out);
            first[i] = between.first;
            weight[i] = between.weight;
        }
        base = first[0];
        near = first[kLanes - 1] - base < kLanes;
        if (near) first = first - base;
    }
};

// row[columns.first], or with `shift` 1 its right neighbours; `row` goes on for kLanes + 1 floats behind its end.
INLINE vf pick(const float* row, const Columns& columns, int shift) {
#if defined(__AVX512F__)
    if (columns.near)
        return reinterpret_cast<vf>(_mm512_permutexvar_ps(reinterpret_cast<__m512i>(columns.first),
                                                          reinterpret_cast<__m512>(load(row + columns.base + shift))));
#elif defined(__AVX2__)
    if (columns.near)
        return reinterpret_cast<vf>(_mm256_permutevar8x32_ps(reinterpret_cast<__m256>(load(row + columns.base + shift)),
                                                             reinterpret_cast<__m256i>(columns.first)));
#endif
    const float* from = row + shift + (columns.near ? columns.base : 0);
    vf values;
    for (int i = 0; i < kLanes; ++i) values[i] = from[columns.first[i]];
    return values;
}

INLINE vf enlarged(const float* row, const Columns& columns) {
    const vf left = pick(row, columns, 0), right = pick(row, columns, 1);
    return left * (1.0f - columns.weight) + right * columns.weight;
}

// Two rows mixed; the result goes on with its last value (see `pick`).
inline void mix_pair(const float* upper, const float* lower, float weight, long w, float* out) {
    long x = 0;
    for (; x + kLanes <= w; x += kLanes) store(out + x, load(upper + x) * (1.0f - weight) + load(lower + x) * weight);
    for (; x < w; ++x) out[x] = upper[x] * (1.0f - weight) + lower[x] * weight;
    for (int i = 0; i <= kLanes; ++i) out[w + i] = out[w - 1];
}

// The rows of `count` planes [h, w] that output row y needs, mixed.
inline void mix_rows(const float* planes, long count, long h, long w, long y, long height, float* mixed) {
    const Between rows(y, h, height);
    for (long k = 0; k < count; ++k)
        mix_pair(planes + (k * h + rows.first) * w, planes + (k * h + rows.second) * w, rows.weight, w,
                 mixed + k * (w + kLanes + 1));
}

// 0..255, rounded half to even, as integers.
inline vi to_byte(vf x) {
    const float to_integer = 12582912.0f;  // 1.5 * 2^23, see `exponential`
    return reinterpret_cast<vi>(smaller(larger(x, vf{}), splat(255.0f)) + to_integer) & 255;
}

// 1 / sqrt(x) to 3e-7 relative: the processor's estimate, and one step of Newton's.
inline vf inverse_root(vf x) {
#if defined(__AVX512F__)
    const vf y = reinterpret_cast<vf>(_mm512_rsqrt14_ps(reinterpret_cast<__m512>(x)));
#elif defined(__AVX2__)
    const vf y = reinterpret_cast<vf>(_mm256_rsqrt_ps(reinterpret_cast<__m256>(x)));
#else
    for (int i = 0; i < kLanes; ++i) x[i] = 1.0f / std::sqrt(x[i]);
    return x;
#endif
#if defined(__AVX2__)
    return y * (1.5f - 0.5f * x * y * y);
#endif
}

inline void store_bytes(uint8_t* out, vi values, int n) {
    if (n == kLanes) return store_bytes(out, values);
    uint8_t packed[kLanes];
    store_bytes(packed, values);
    memcpy(out, packed, static_cast<size_t>(n));
}

// The lower three bytes of each, one after the other; little-endian, as all that have these kernels.
inline void store_colors(uint8_t* out, vi colors, int n) {
#if defined(__AVX2__)
    if (n == kLanes) {  // within every 16 bytes the colours move together, then all 32-bit pieces do
        const __m128i within = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
#if defined(__AVX512BW__)
        const __m512i pieces = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 0, 0, 0, 0);
        const __m512i moved = _mm512_shuffle_epi8(reinterpret_cast<__m512i>(colors), _mm512_broadcast_i32x4(within));
        _mm512_mask_storeu_epi32(out, 0xfff, _mm512_permutexvar_epi32(pieces, moved));
#else
        const __m256i pieces = _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 0, 0);
        const __m256i moved = _mm256_shuffle_epi8(reinterpret_cast<__m256i>(colors), _mm256_broadcastsi128_si256(within));
        const __m256i packed = _mm256_permutevar8x32_epi32(moved, pieces);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(out + 16), _mm256_extracti128_si256(packed, 1));
#endif
        return;
    }
#endif
    uint8_t packed[3 * kLanes + 1];
    for (int i = 0; i < kLanes; ++i) {
        const int color = colors[i];
        memcpy(packed + 3 * i, &color, sizeof color);  // the fourth byte is overwritten by the next one
    }
    memcpy(out, packed, static_cast<size_t>(3 * n));
}

// The first of `target` positions whose nearest of `source` pixel centres is `index` or one behind it.
inline long first_of(long index, long source, long target) { return (2 * index * target + source - 1) / (2 * source); }

// Vectors enlarged, and one over their lengths, of which the smallest is 1e-12.
struct Vectors {
    vf a, b, c, scale;

    INLINE Vectors(const float* mixed, long ld, const Columns& columns)
        : a(enlarged(mixed, columns)), b(enlarged(mixed + ld, columns)), c(enlarged(mixed + 2 * ld, columns)) {
        scale = inverse_root(larger(a * a + b * b + c * c, splat(1e-24f)));
    }

    INLINE void store_as_colors(uint8_t* out, int valid) const {
        const vf half = scale * 127.5f;
        const vi red = to_byte(a * half + 127.5f), green = to_byte(b * half + 127.5f), blue = to_byte(c * half + 127.5f);
        store_colors(out, red | green << 8 | blue << 16, valid);
    }
};

// All columns of a row, vector by vector; null where there was no memory.
inline std::unique_ptr<Columns[]> columns_of(long in, long out) {
    const long vectors = (out + kLanes - 1) / kLanes;
    std::unique_ptr<Columns[]> columns(new (std::nothrow) Columns[static_cast<size_t>(vectors)]);
    if (columns)
        for (long v = 0; v < vectors; ++v) columns[v] = Columns(v * kLanes, in, out);
    return columns;
}

// Calls pixels(mixed rows, their stride, columns, first column, valid columns, y) for every vector of output pixels in
// rows top..bottom, of which y 0 is the first. Returns 0, or 1 where there was no memory.
template <class F>
int for_pixels(const float* planes, long count, long h, long w, long height, long width, long top, long bottom,
               int threads, F pixels) {
    const long ld = w + kLanes + 1;
    const auto columns = columns_of(w, width);
    if (!columns) return 1;
    std::atomic<int> failed{0};
    parallel_for(bottom - top, kRowsAtOnce, threads, [&](long begin, long end) {
        std::unique_ptr<float[]> mixed(new (std::nothrow) float[static_cast<size_t>(count * ld)]);
        if (!mixed) {
            failed = 1;
            return;
        }
        for (long y = begin; y < end; ++y) {
            mix_rows(planes, count, h, w, top + y, height, mixed.get());
            for (long x = 0; x < width; x += kLanes)
                pixels(mixed.get(), ld, columns[x / kLanes], x, static_cast<int>(std::min<long>(width - x, kLanes)), y);
        }
    });
    return failed;
}

// Paints a picture of vectors, coarse [3, h, w], in rows from the top. What lies between, unit vectors [3, rows, columns], is
// never there as a whole: a row is made when it is needed.
class NormalRows {
  public:
    NormalRows(const float* coarse, long h, long w, long rows, long columns, long height, long width)
        : coarse_(coarse), h_(h), w_(w), rows_(rows), columns_(columns), height_(height), width_(width),
          small_(columns_of(w, columns)), large_(columns_of(columns, width)),
          memory_(new (std::nothrow) float[static_cast<size_t>(3 * coarse_ld() + 9 * ld())]) {}

    bool ready() const { return small_ && large_ && memory_; }

    // Rows top..bottom, which begin where the last call's ended or below.
    void paint(long top, long bottom, uint8_t* out) {
        float* const mixed = memory_.get() + 3 * coarse_ld();
        for (long y = top; y < bottom; ++y) {
            const Between between(y, rows_, height_);
            for (long row = std::max<long>(made_ + 1, between.first); row <= between.second; made_ = row++) make(row);
            for (int k = 0; k < 3; ++k)
                mix_pair(vectors(between.first) + k * ld(), vectors(between.second) + k * ld(), between.weight, columns_,
                         mixed + k * ld());
            for (long x = 0; x < width_; x += kLanes)
                Vectors(mixed, ld(), large_[x / kLanes])
                    .store_as_colors(out + ((y - top) * width_ + x) * 3,
                                     static_cast<int>(std::min<long>(width_ - x, kLanes)));
        }
    }

  private:
    long coarse_ld() const { return w_ + kLanes + 1; }
    long ld() const { return columns_ + 2 * kLanes; }
    float* vectors(long row) { return memory_.get() + 3 * coarse_ld() + (row & 1 ? 6 : 3) * ld(); }

    void make(long row) {
        float* const mixed = memory_.get();
        mix_rows(coarse_, 3, h_, w_, row, rows_, mixed);
        for (long x = 0; x < columns_; x += kLanes) {
            const Vectors v(mixed, coarse_ld(), small_[x / kLanes]);
            float* to = vectors(row) + x;
            store(to, v.a * v.scale), store(to + ld(), v.b * v.scale), store(to + 2 * ld(), v.c * v.scale);
        }
    }

    const float* coarse_;
    long h_, w_, rows_, columns_, height_, width_;
    std::unique_ptr<Columns[]> small_, large_;
    std::unique_ptr<float[]> memory_;
    long made_ = -1;  // the last of the rows of vectors that are there, one even and one odd
};

}  // namespace

// See `map_ops.upsample_argmax`: logits [classes, h, w], out [height, width]. Returns 1 where there was no memory.
EXPORT int mtlora_upsample_argmax(const float* logits, uint8_t* out, long classes, long h, long w, long height,
                                  long width, int threads) {
    return for_pixels(logits, classes, h, w, height, width, 0, height, threads,
                      [&](const float* mixed, long ld, const Columns& columns, long x, int valid, long y) {
                          vf best = enlarged(mixed, columns);
                          vi index{};
                          for (int k = 1; k < static_cast<int>(classes); ++k) {
                              const vf score = enlarged(mixed + k * ld, columns);
                              index = score > best ? vi{} + k : index;
                              best = larger(score, best);
                          }
                          store_bytes(out + y * width + x, index, valid);
                      });
}

// See `map_ops.unit_normals`: normals [3, h, w], out [3, height, width]. Returns 1 where there was no memory.
EXPORT int mtlora_unit_normals(const float* normals, float* out, long h, long w, long height, long width,
                               int threads) {
    return for_pixels(normals, 3, h, w, height, width, 0, height, threads,
                      [&](const float* mixed, long ld, const Columns& columns, long x, int valid, long y) __attribute__((always_inline)) {
                          const Vectors v(mixed, ld, columns);
                          float* at = out + y * width + x;
                          store_up_to(at, v.a * v.scale, valid);
                          store_up_to(at + height * width, v.b * v.scale, valid);
                          store_up_to(at + 2 * height * width, v.c * v.scale, valid);
                      });
}

// See `map_ops.quantise_normals`: normals [3, h, w], out [bottom - top, width, 3]. Returns 1 where there was no memory.
EXPORT int mtlora_quantise_normals(const float* normals, uint8_t* out, long h, long w, long height, long width,
                                   long top, long bottom, int threads) {
    return for_pixels(normals, 3, h, w, height, width, top, bottom, threads,
                      [&](const float* mixed, long ld, const Columns& columns, long x, int valid, long y) __attribute__((always_inline)) {
                          Vectors(mixed, ld, columns).store_as_colors(out + (y * width + x) * 3, valid);
                      });
}

// See `map_ops.enlarge_sigmoid`: logits [h, w], out [height, width]. Returns 1 where there was no memory.
EXPORT int mtlora_enlarge_sigmoid(const float* logits, float* out, long h, long w, long height, long width,
                                  int threads) {
    return for_pixels(logits, 1, h, w, height, width, 0, height, threads,
                      [&](const float* mixed, long, const Columns& columns, long x, int valid, long y) {
                          const vf score = enlarged(mixed, columns), small = exponential(-absolute(score)),
                                   share = 1.0f / (1.0f + small);
                          store_up_to(out + y * width + x, score < 0.0f ? small * share : share, valid);
                      });
}

// See `map_ops.saliency_to_gray`: probability [h, w], out [bottom - top, width]. Returns 1 where there was no memory.
EXPORT int mtlora_saliency_to_gray(const float* probability, uint8_t* out, long h, long w, long height, long width,
                                   long top, long bottom, int threads) {
    return for_pixels(probability, 1, h, w, height, width, top, bottom, threads,
                      [&](const float* mixed, long, const Columns& columns, long x, int valid, long y) {
                          store_bytes(out + y * width + x, to_byte(enlarged(mixed, columns) * 255.0f), valid);
                      });
}

// See `map_ops.enlarge_classes`: map [h, w], out [height, width], counts [256].
EXPORT void mtlora_enlarge_classes(const uint8_t* map, uint8_t* out, int64_t* counts, long h, long w, long height,
                                   long width) {
    std::fill(counts, counts + kMaxClasses + 1, 0);
    for (long r = 0; r < h; ++r, map += w) {
        const long top = first_of(r, h, height), rows = first_of(r + 1, h, height) - top;
        if (rows == 0) continue;
        uint8_t* to = out + top * width;
        for (long c = 0, begin = 0; c < w;) {
            const uint8_t value = map[c];
            while (c < w && map[c] == value) ++c;
            const long end = first_of(c, w, width);
            memset(to + begin, value, static_cast<size_t>(end - begin));
            counts[value] += (end - begin) * rows;
            begin = end;
        }
        for (long copy = 1; copy < rows; ++copy) memcpy(to + copy * width, to, static_cast<size_t>(width));
    }
}
