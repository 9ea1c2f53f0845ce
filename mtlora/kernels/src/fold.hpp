// Folding a set's blocks: everything from the tensors of its file to what `mtlora_block` reads, in one call. Written as a
// list of moves that is made once for all sets of a shape (mtlora/inference/prepare/packing_plan.py), because a set has hundreds of
// small tensors, and an operator for each would take longer than all the arithmetic.
#pragma once

#include <algorithm>
#include <cstring>

#include "denormals.hpp"
#include "interface.hpp"
#include "products.hpp"
#include "scratch.hpp"

namespace {

// What moves read from.
struct Source {
    const void* const* tensors;
    const int32_t* types;
};

// Halves to floats by moving the bits to where floats have them, with the exponent mended in integers. The denormal ones
// among them are ordinary floats: made as 2^-14 and so much, from which the 2^-14 is taken. No float on the way is
// denormal, for that would count as zero.
inline void from_halves(const uint16_t* from, long n, float factor, float* to) {
    constexpr uint32_t kOne = 1u << 23, kMended = 112 * kOne;  // of the exponent
    constexpr float kSmallestNormal = 6.103515625e-05f;        // 2^-14
    for (long i = 0; i < n; ++i) {
        const uint32_t bits = static_cast<uint32_t>(from[i] & 0x7fff) << 13, sign = static_cast<uint32_t>(from[i] & 0x8000) << 16;
        const bool denormal = bits < kOne;
        uint32_t whole = bits + kMended + (denormal ? kOne : 0);
        float value;
        memcpy(&value, &whole, sizeof value);
        value -= denormal ? kSmallestNormal : 0.0f;
        memcpy(&whole, &value, sizeof whole);
        whole |= sign;
        memcpy(&value, &whole, sizeof value);
        to[i] = value * factor;
    }
}

inline void from_bfloats(const uint16_t* from, long n, float factor, float* to) {
    for (long i = 0; i < n; ++i) {
        const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        to[i] = value * factor;
    }
}

inline void convert(const Source& source, long tensor, long n, float factor, float* to) {
    const void* from = source.tensors[tensor];
    switch (source.types[tensor]) {
        case kFloat16: return from_halves(static_cast<const uint16_t*>(from), n, factor, to);
        case kBfloat16: return from_bfloats(static_cast<const uint16_t*>(from), n, factor, to);
        default: break;
    }
    const float* floats = static_cast<const float*>(from);
    for (long i = 0; i < n; ++i) to[i] = floats[i] * factor;
}

// [rows][columns] -> [columns][stride].
inline void transposed(const float* from, long rows, long columns, float* to, long stride) {
    if (rows % kLanes == 0) return transpose(from, columns, static_cast<int>(rows), static_cast<int>(columns), to, stride);
    for (long c = 0; c < columns; ++c)
        for (long r = 0; r < rows; ++r) to[c * stride + r] = from[r * columns + c];
}

// What a table [positions][heads] says of every two tokens of a window, plus the masks; `row` is [inputs].
inline void spread(const MtloraMove& m, const float* table, float* row, float* to) {
    for (long head = 0; head < m.columns; ++head) {
        for (long i = 0; i < m.inputs; ++i) row[i] = table[m.index[i] * m.columns + head];
        for (long kind = 0; kind < m.kinds; ++kind) {
            const float* mask = m.frozen + kind * m.inputs;
            float* out = to + (kind * m.columns + head) * m.inputs;
            for (long i = 0; i < m.inputs; ++i) out[i] = row[i] + mask[i];
        }
    }
}

// `floats` has room for all that a move converts: see `mtlora_fold`.
inline void carry_out(const MtloraMove& m, const Source& source, float* floats, float* result) {
    const long n = m.rows * m.columns;
    float *to = result + m.to, factor = m.factor;
    if (m.learned >= 0) {
        float learned;
        convert(source, m.learned, 1, 1.0f, &learned);
        factor *= learned;
    }
    if (m.kind == kZeros) {
        memset(to, 0, static_cast<size_t>(n) * sizeof(float));
        return;
    }
    if (m.kind == kCopy) return convert(source, m.tensor, n, factor, to);
    convert(source, m.tensor, n, factor, floats);
    if (m.kind == kPacked) return mtlora_pack(floats, to, m.columns, m.rows);
    if (m.kind == kPosition) return spread(m, floats, floats + n, to);
    if (m.kind == kTransposed) {
        if (m.inputs > m.rows) memset(to, 0, static_cast<size_t>(m.columns * m.inputs) * sizeof(float));
        return transposed(floats, m.rows, m.columns, to, m.inputs);
    }
    const long rank = m.columns, stride = round_up(static_cast<int>(rank)), in = m.inputs, out = m.rows;
    float *up = floats + n, *down = up + mtlora_packed_floats(rank, out), *a = down + in * stride;
    mtlora_pack(floats, up, rank, out);
    convert(source, m.other, rank * in, 1.0f, a);
    transpose(a, in, static_cast<int>(rank), static_cast<int>(in), down, stride);
    merge(m.frozen, down, stride, up, to, in, out, rank);
}

thread_local Scratch fold_scratch;

}  // namespace

// Carries out all moves; what is denormal becomes zero. types: of each tensor's numbers, see `NumberType`. Returns 0, or 1
// where memory ran out.
EXPORT int mtlora_fold(const MtloraMove* moves, long count, const void* const* tensors, const int32_t* types,
                       float* result) {
    const DenormalsAreZero zero;
    const Source source{tensors, types};
    long most = 0;
    for (long i = 0; i < count; ++i) {
        const MtloraMove& m = moves[i];
        long floats = m.rows * m.columns;
        if (m.kind == kMerged)
            floats += mtlora_packed_floats(m.columns, m.rows) + m.inputs * (m.columns + round_up(static_cast<int>(m.columns)));
        if (m.kind == kPosition) floats += m.inputs;
        most = std::max<long>(most, floats);
    }
    float* floats = fold_scratch.reserve(static_cast<size_t>(most + 1));
    if (floats == nullptr) return 1;
    for (long i = 0; i < count; ++i) carry_out(moves[i], source, floats, result);
    return 0;
}
