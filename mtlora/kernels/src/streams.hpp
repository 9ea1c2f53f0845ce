// From the tasks' streams to their maps: gathering the tokens that are merged, layer norm and projection in one.
#pragma once

#include <atomic>
#include <cstring>

#include "interface.hpp"
#include "parallel.hpp"
#include "products.hpp"
#include "scratch.hpp"
#include "tasks.hpp"

namespace {

constexpr int kMergedAtOnce = 24;  // merged tokens of one portion: of 4 x 384 channels 150 KB
thread_local Scratch merge_scratch;

}  // namespace

// See `ops.merged_projection`: streams [tasks, tokens, width], instead [tokens, width] where written [tasks, tokens] is
// zero (both may be null), gather [4 * merged], weight and bias [4 * width], projection [tasks, 4 * width, channels], out
// [tasks, merged, channels]. Returns 0, or 1 where memory ran out.
EXPORT int mtlora_merged_projection(const float* streams, const float* instead, const uint8_t* written, const int64_t* gather,
                                    const float* weight, const float* bias, float eps, const float* projection, float* out,
                                    long tasks, long tokens, long width, long merged, long channels, int threads) {
    const long all = 4 * width, padded = round_up(static_cast<int>(all));
    const long portions = (merged + kMergedAtOnce - 1) / kMergedAtOnce;  // of a task
    std::atomic<int> failed{0};
    parallel_for(tasks * portions, 1, threads, [&](long portion, long) {
        float* rows = merge_scratch.reserve(static_cast<size_t>(kMergedAtOnce * padded));
        if (rows == nullptr) {
            failed = 1;
            return;
        }
        const long task = portion / portions, first = portion % portions * kMergedAtOnce;
        const int count = static_cast<int>(merged - first < kMergedAtOnce ? merged - first : kMergedAtOnce);
        const float* own = streams + task * tokens * width;
        const uint8_t* own_written = written == nullptr ? nullptr : written + task * tokens;
        for (int r = 0; r < count; ++r) {
            float* row = rows + r * padded;
            for (int i = 0; i < 4; ++i) {
                const int64_t token = gather[4 * (first + r) + i];
                const float* from = own_written == nullptr || own_written[token] ? own : instead;
                memcpy(row + i * width, from + token * width, static_cast<size_t>(width) * sizeof(float));
            }
        }
        normalise(rows, padded, count, weight, bias, eps, static_cast<int>(all), rows, padded);
        float* own_out = out + (task * merged + first) * channels;
        multiply_rows(rows, padded, count, projection + task * all * channels, all, channels,
                      [](int, int, int) { return vf{}; },
                      [&](int row, int column, vf sums, int valid) { store_up_to(own_out + row * channels + column, sums, valid); });
    });
    return failed;
}
