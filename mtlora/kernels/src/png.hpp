// Rows of a PNG: filtered by the Paeth predictor, and bytes packed as deflate (RFC 1951) by runs and Huffman codes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "interface.hpp"
#include "maps.hpp"
#include "parallel.hpp"
#include "vec.hpp"

namespace {

constexpr int kFilteredAtOnce = 2 * kLanes;  // bytes, which fill a register as 16-bit integers
constexpr int kUp = 2, kPaeth = 4;           // filter types, section 9.2 of the PNG specification
constexpr long kFewOf = 16;                  // rows differ in few bytes: in less than one of so many

inline long rows_of_band(long bytes) { return std::max(1L, kBandBytes / bytes); }

// Whichever of the bytes to the left (a), above (b) and above left (c) is nearest to a + b - c; of equals the first.
template <class T>
INLINE T nearest(T a, T b, T c) {
    const T towards_a = b - c, towards_b = a - c, towards_c = towards_a + towards_b;
    const T to_a = towards_a < 0 ? -towards_a : towards_a, to_b = towards_b < 0 ? -towards_b : towards_b,
            to_c = towards_c < 0 ? -towards_c : towards_c;
    const T other = to_b <= to_c ? b : c;
    return ((to_a <= to_b) & (to_a <= to_c)) ? a : other;
}

// Bytes from i to before end, whose neighbours to the left are there.
INLINE void filter_some(const uint8_t* row, const uint8_t* above, long i, long end, long step, uint8_t* out) {
    for (; i + kFilteredAtOnce <= end; i += kFilteredAtOnce) {
        const vshort left = load_bytes_as_shorts(row + i - step), up = load_bytes_as_shorts(above + i),
                     both = load_bytes_as_shorts(above + i - step);
        store_bytes(out + i, load_bytes_as_shorts(row + i) - nearest(left, up, both));
    }
    for (; i < end; ++i)
        out[i] = static_cast<uint8_t>(row[i] - nearest<int>(row[i - step], above[i], above[i - step]));
}

// The difference to the row above; how many bytes are not zero.
long subtract_above(const uint8_t* row, const uint8_t* above, long bytes, uint8_t* out) {
    constexpr long size = sizeof(vsmall), at_once = 255 * size;
    long i = 0, found = 0;
    while (i + size <= bytes) {
        vsmall some{};
        for (const long end = std::min(bytes, i + at_once); i + size <= end; i += size) {
            vsmall here, over;
            memcpy(&here, row + i, sizeof here), memcpy(&over, above + i, sizeof over);
            here -= over;
            memcpy(out + i, &here, sizeof here);
            some -= reinterpret_cast<vsmall>(here != 0);
        }
        uint8_t counts[size];
        memcpy(counts, &some, sizeof some);
        for (const uint8_t count : counts) found += count;
    }
    for (; i < bytes; ++i) out[i] = static_cast<uint8_t>(row[i] - above[i]), found += out[i] != 0;
    return found;
}

void filter_row(const uint8_t* row, const uint8_t* above, long bytes, long step, uint8_t* out) {
    long i = 0;
    for (; i < step; ++i) out[i] = static_cast<uint8_t>(row[i] - above[i]);
    filter_some(row, above, i, bytes, step, out);
}

// For what writes `Bits`: they stay in registers only where nothing else is called.
#define INLINED __attribute__((always_inline))

constexpr int kEnd = 256;                 // the symbol behind the last one of a block
constexpr int kSymbols = 286;             // bytes, the end, lengths of runs
constexpr int kLongestCode = 12;          // bits: four codes and what is left of a byte fit 64
constexpr int kShortestRun = 3, kLongestRun = 258;
constexpr long kSample = 1024, kSampleEvery = 8;  // bytes that are counted; one in so many samples

// Bits, the lowest first; little-endian, as all that have these kernels.
struct Bits {
    uint8_t* out;
    uint64_t waiting = 0;
    int count = 0;

    INLINE void put(uint64_t bits, int n) {
        waiting |= bits << count;
        count += n;
    }
    INLINE void flush() {  // writes 8 bytes, of which only whole ones count; fewer than 8 bits wait then
        memcpy(out, &waiting, sizeof waiting);
        out += count >> 3;
        waiting >>= count & ~7;
        count &= 7;
    }
};

// The symbol of a run's length, and the bits behind it (section 3.2.5).
struct Length {
    int symbol, extra, bits = 0;

    explicit Length(int length) {
        const int rest = length - kShortestRun;
        if (length < kLongestRun && rest >= 8) bits = 29 - __builtin_clz(static_cast<unsigned>(rest));
        symbol = length == kLongestRun ? kSymbols - 1 : kEnd + 1 + 4 * bits + (rest >> bits);
        extra = rest & ((1 << bits) - 1);
    }
};

inline uint64_t eight_bytes(const uint8_t* p) {
    uint64_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    return bytes;
}

// Calls byte(value), eight(8 bytes) and run(length) for all of begin..end. A run repeats the byte before it; `first`
// says that there is none. Runs that begin within eight bytes are found behind them: shorter ones are not worth it.
template <class Byte, class Eight, class Run>
INLINE void tokens(const uint8_t* at, const uint8_t* end, bool first, Byte byte, Eight eight, Run run) {
    if (first && at < end) byte(*at++);
    while (end - at >= 8) {
        const uint64_t here = eight_bytes(at);
        if (here != eight_bytes(at - 1)) {
            eight(here);
            at += 8;
            continue;
        }
        const uint8_t* from = at;
        uint64_t differ = 0;
        do at += 8;
        while (end - at >= 8 && (differ = eight_bytes(at) ^ eight_bytes(at - 1)) == 0);
        if (differ) at += __builtin_ctzll(differ) / 8;
        else
            while (at < end && *at == at[-1]) ++at;
        long left = at - from;
        for (; left >= kShortestRun; left -= std::min<long>(left, kLongestRun))
            run(static_cast<int>(std::min<long>(left, kLongestRun)));
        for (; left > 0; --left) byte(at[-1]);
    }
    while (at < end) byte(*at++);
}

// Lengths of Huffman codes, none longer than kLongestCode. Every count is at least 1.
void code_lengths(const uint32_t (&counts)[kSymbols], uint8_t (&lengths)[kSymbols]) {
    constexpr int nodes = 2 * kSymbols - 1;
    int order[kSymbols], parent[nodes], depth[nodes], of_length[kLongestCode + 1] = {};
    uint64_t weight[nodes];
    for (int i = 0; i < kSymbols; ++i) order[i] = i;
    std::sort(order, order + kSymbols, [&](int a, int b) { return counts[a] < counts[b]; });
    for (int i = 0; i < kSymbols; ++i) weight[i] = counts[order[i]];
    // The two lightest become one: leaves and inner nodes are both in order already.
    for (int made = kSymbols, leaf = 0, inner = kSymbols; made < nodes; ++made) {
        weight[made] = 0;
        for (int child = 0; child < 2; ++child) {
            const bool take_leaf = leaf < kSymbols && (inner == made || weight[leaf] <= weight[inner]);
            const int taken = take_leaf ? leaf++ : inner++;
            weight[made] += weight[taken];
            parent[taken] = made;
        }
    }
    depth[nodes - 1] = 0;
    for (int i = nodes - 2; i >= 0; --i) {
        depth[i] = depth[parent[i]] + 1;
        if (i < kSymbols) ++of_length[std::min(depth[i], kLongestCode)];
    }
    // Where codes were cut there are too many for their lengths: others become longer until they fit.
    long room = 0;
    for (int n = 1; n <= kLongestCode; ++n) room += static_cast<long>(of_length[n]) << (kLongestCode - n);
    for (; room > 1L << kLongestCode; --room) {
        int n = kLongestCode - 1;
        while (!of_length[n]) --n;
        --of_length[kLongestCode], --of_length[n], of_length[n + 1] += 2;
    }
    for (int n = kLongestCode, i = 0; n > 0; --n)
        for (int k = 0; k < of_length[n]; ++k) lengths[order[i++]] = static_cast<uint8_t>(n);
}

struct Code {
    uint16_t bits, length;
};

inline uint16_t reversed(int code, int length) {
    int out = 0;
    for (int i = 0; i < length; ++i) out |= (code >> i & 1) << (length - 1 - i);
    return static_cast<uint16_t>(out);
}

// Codes of ascending length, and of one length in the order of their symbols (section 3.2.2).
void number_codes(const uint8_t (&lengths)[kSymbols], Code (&codes)[kSymbols]) {
    int next = 0;
    for (int n = 1; n <= kLongestCode; ++n, next <<= 1)
        for (int s = 0; s < kSymbols; ++s)
            if (lengths[s] == n) codes[s] = {reversed(next++, n), static_cast<uint16_t>(n)};
}

// Eight bytes where all are -1, 0, 1 or 2, as in filtered maps nine times of ten: four each as a number below 256.
struct Fours {
    uint64_t shifted;  // each byte and one

    INLINE explicit Fours(uint64_t bytes) : shifted(((bytes & 0x7f * kOnes) + kOnes) ^ (bytes & 0x80 * kOnes)) {}
    INLINE bool all() const { return (shifted & 0xfc * kOnes) == 0; }
    INLINE uint32_t first() const { return static_cast<uint32_t>(shifted) * kGather >> 24; }
    INLINE uint32_t second() const { return static_cast<uint32_t>(shifted >> 32) * kGather >> 24; }

    static uint8_t byte(int index, int i) { return static_cast<uint8_t>((index >> 2 * i & 3) - 1); }

  private:
    static constexpr uint64_t kOnes = 0x0101010101010101u;
    static constexpr uint32_t kGather = 1u << 24 | 1u << 18 | 1u << 12 | 1u << 6;
};

// For every four such bytes their codes, above eight bits with the length of all.
void make_fours(const Code* codes, uint64_t (&fours)[256]) {
    for (int index = 0; index < 256; ++index) {
        uint64_t bits = 0;
        int length = 0;
        for (int i = 0; i < 4; ++i) {
            const Code code = codes[Fours::byte(index, i)];
            bits |= static_cast<uint64_t>(code.bits) << length;
            length += code.length;
        }
        fours[index] = bits << 8 | static_cast<uint64_t>(length);
    }
}

// The head of a block with codes of its own (section 3.2.7): lengths are told in four bits each, as they are.
void put_head(Bits& bits, const uint8_t (&lengths)[kSymbols], bool last) {
    bits.put(static_cast<uint64_t>(last) | 2 << 1 | (kSymbols - 257) << 3 | 1 << 8 | 15 << 13, 17);
    for (int i = 0; i < 19; ++i) {
        bits.put(i < 3 ? 0 : 4, 3);  // repetitions come first and are not used
        bits.flush();
    }
    for (int i = 0; i < kSymbols + 2; ++i) {  // two distances, of one bit each
        bits.put(reversed(i < kSymbols ? lengths[i] : 1, 4), 4);
        bits.flush();
    }
}

// Filters `rows` rows of `bytes` bytes, whose pixels take `step`: each behind its filter type. `above` is the row above.
void filter_rows(const uint8_t* pixels, const uint8_t* above, uint8_t* out, long rows, long bytes, long step) {
    for (long y = 0; y < rows; ++y, above = pixels, pixels += bytes, out += bytes + 1) {
        out[0] = kPaeth;
        if (memcmp(pixels, above, static_cast<size_t>(bytes)) == 0) {
            memset(out + 1, 0, static_cast<size_t>(bytes));
        } else if (step == 1 && subtract_above(pixels, above, bytes, out + 1) * kFewOf < bytes) {
            out[0] = kUp;
        } else {
            filter_row(pixels, above, bytes, step, out + 1);
        }
    }
}

// Packs n bytes as deflate blocks that end with a whole byte; returns how many they take, at most 3 n / 2 + kBlockRoomBytes.
long deflate(const uint8_t* data, uint8_t* out, long n, bool last) {
    uint32_t counts[kSymbols];
    std::fill(counts, counts + kSymbols, 1);
    for (long at = 0; at < n; at += kSample * kSampleEvery)
        tokens(
            data + at, data + std::min(n, at + kSample), at == 0, [&](uint8_t value) { ++counts[value]; },
            [&](uint64_t values) {
                UNROLL
                for (int i = 0; i < 8; ++i) ++counts[values >> 8 * i & 255];
            },
            [&](int length) { ++counts[Length(length).symbol]; });
    uint8_t lengths[kSymbols];
    Code codes[kSymbols];
    code_lengths(counts, lengths);
    number_codes(lengths, codes);
    uint64_t fours[256];
    make_fours(codes, fours);
    Bits bits{out};
    put_head(bits, lengths, last);
    const auto put = [&](int symbol) INLINED { bits.put(codes[symbol].bits, codes[symbol].length); };
    tokens(
        data, data + n, true,
        [&](uint8_t value) INLINED {
            put(value);
            bits.flush();
        },
        [&](uint64_t values) INLINED {
            const Fours four(values);
            if (!four.all()) {
                UNROLL
                for (int i = 0; i < 8; ++i) {
                    put(values >> 8 * i & 255);
                    if (i == 3) bits.flush();
                }
            } else {
                const uint64_t first = fours[four.first()], second = fours[four.second()];
                bits.put(first >> 8, first & 255);
                if (bits.count + static_cast<int>(second & 255) > 63) bits.flush();  // seldom
                bits.put(second >> 8, second & 255);
            }
            bits.flush();
        },
        [&](int run) INLINED {
            const Length length(run);
            put(length.symbol);
            bits.put(static_cast<uint64_t>(length.extra), length.bits + 1);  // and distance 1: a zero
            bits.flush();
        });
    put(kEnd);
    if (!last) bits.put(0, 3);  // an empty stored block ends with a whole byte
    bits.count = (bits.count + 7) & ~7;
    bits.flush();
    if (!last) {
        memcpy(bits.out, "\0\0\377\377", 4);
        bits.out += 4;
    }
    return bits.out - out;
}

// Adler-32 (RFC 1950, section 8.2).
struct Adler {
    static constexpr uint64_t kModulus = 65521;
    static constexpr long kAtOnce = 4096;  // bytes, whose sums fit 32 bits
    uint64_t low = 1, high = 0;

    void add(const uint8_t* p, long n) {
        for (; n > 0; p += kAtOnce, n -= kAtOnce) add_some(p, std::min(n, kAtOnce));
    }
    uint32_t value() const { return static_cast<uint32_t>(high << 16 | low); }

  private:
    void add_some(const uint8_t* p, long n) {
        vi sum{}, sums{};
        const long vectors = n / kLanes;
        for (long i = 0; i < vectors; ++i) sum += load_bytes(p + i * kLanes), sums += sum;
        high += static_cast<uint64_t>(vectors) * kLanes * low;
        for (int i = 0; i < kLanes; ++i) {
            high += static_cast<uint64_t>(sums[i]) * kLanes - static_cast<uint64_t>(sum[i]) * static_cast<uint64_t>(i);
            low += static_cast<uint64_t>(sum[i]);
        }
        for (long i = vectors * kLanes; i < n; ++i) low += p[i], high += low;
        low %= kModulus, high %= kModulus;
    }
};

// Packs rows top..bottom, of which rows(begin, end) gives a band, behind the row above it where there is one (`zeros` are
// above the first); a row's pixels take `step` bytes of its `bytes`. Returns how many bytes it wrote to out, which has
// room for twice as many as the filtered rows are and kBlockRoomBytes more, or -1 where there was no memory.
template <class Rows>
long pack_stripe(Rows rows, const uint8_t* zeros, long top, long bottom, long bytes, long step, bool last, uint8_t* out,
                 uint32_t* checksum) {
    const long at_once = std::min(rows_of_band(bytes), bottom - top);
    std::unique_ptr<uint8_t[]> filtered(new (std::nothrow) uint8_t[static_cast<size_t>(at_once * (bytes + 1))]);
    if (!filtered) return -1;
    uint8_t* to = out;
    Adler adler;
    for (long begin = top; begin < bottom; begin += at_once) {
        const long end = std::min(begin + at_once, bottom), size = (end - begin) * (bytes + 1);
        const uint8_t* band = rows(begin, end);
        filter_rows(band, begin ? band - bytes : zeros, filtered.get(), end - begin, bytes, step);
        adler.add(filtered.get(), size);
        to += deflate(filtered.get(), to, size, last && end == bottom);
    }
    *checksum = adler.value();
    return to - out;
}

}  // namespace

// Packs rows top..bottom of pixels [height, bytes], filtered, as deflate blocks that end with a whole byte; `step` bytes
// are a pixel. The blocks take at most 2 n + kBlockRoomBytes bytes, n = (bottom - top) (bytes + 1); returns how many, or -1 where
// there was no memory. checksum: Adler-32 of the filtered rows. last: whether the stream ends there.
EXPORT long mtlora_pack_rows(const uint8_t* pixels, uint8_t* out, uint32_t* checksum, long top, long bottom, long bytes,
                             long step, int last) {
    std::unique_ptr<uint8_t[]> zeros(new (std::nothrow) uint8_t[static_cast<size_t>(bytes)]());
    if (!zeros) return -1;
    const auto rows = [&](long begin, long) { return pixels + begin * bytes; };
    return pack_stripe(rows, zeros.get(), top, bottom, bytes, step, last != 0, out, checksum);
}

// The same of rows of a picture of vectors, coarse [3, h, w]; see `png.encode_normals`.
EXPORT long mtlora_pack_normals(const float* coarse, uint8_t* out, uint32_t* checksum, long h, long w, long rows,
                                long columns, long height, long width, long top, long bottom) {
    const DenormalsAreZero zero;
    const long bytes = 3 * width;
    NormalRows painter(coarse, h, w, rows, columns, height, width);
    std::unique_ptr<uint8_t[]> memory(new (std::nothrow) uint8_t[static_cast<size_t>((rows_of_band(bytes) + 1) * bytes)]());
    if (!painter.ready() || !memory) return -1;
    uint8_t* const band = memory.get() + bytes;  // behind the row above it, which is zero above the picture
    const uint8_t* lowest = memory.get();  // of the rows that were painted last
    if (top) painter.paint(top - 1, top, memory.get());
    const auto band_of = [&](long begin, long end) {
        memmove(memory.get(), lowest, static_cast<size_t>(bytes));
        painter.paint(begin, end, band);
        lowest = band + (end - begin - 1) * bytes;
        return band;
    };
    return pack_stripe(band_of, memory.get(), top, bottom, bytes, 3, bottom == height, out, checksum);
}
