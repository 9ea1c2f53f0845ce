// Class maps whose edges follow the scores: decided at the photo's size, where a class map of the model's size says that
// there is something to decide. Between four neighbours of one class every mixture of their scores has that class too.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "maps.hpp"

namespace {

constexpr int kRowsOfOneLook = 128;

// Columns of an output row between two neighbours of the model's size.
struct Cell {
    int begin, end;
    int value;         // the class of all of them where there are no candidates
    int first, count;  // candidates
};

// A class that may be somewhere in a cell, and its scores in the corners.
struct Candidate {
    int index;
    float upper_left, upper_right, lower_left, lower_right;
};

// Scores [classes, h, w], enlarged to [rows, columns] and from there to [height, width], at the pixels that are asked for.
class Scores {
  public:
    Scores(const float* logits, long classes, long h, long w, long rows, long columns, long width)
        : classes_(classes), padded_((classes + kLanes - 1) / kLanes * kLanes), h_(h), w_(w), rows_(rows),
          columns_(columns), width_(width),
          values_(new (std::nothrow) float[static_cast<size_t>(h * w * padded_)]),
          weights_(new (std::nothrow) float[static_cast<size_t>(width + kLanes)]),
          ends_(new (std::nothrow) int[static_cast<size_t>(columns)]) {
        if (!ready()) return;
        std::fill(values_.get(), values_.get() + h * w * padded_, -3e38f);
        for (long k = 0; k < classes; ++k)
            for (long at = 0; at < h * w; ++at) values_[at * padded_ + k] = logits[k * h * w + at];
        std::fill(weights_.get() + width, weights_.get() + width + kLanes, 0.0f);
        long column = 0;
        for (long x = 0; x < width; ++x) {
            const Between between(x, columns, width);
            weights_[x] = between.weight;
            while (column < between.first) ends_[column++] = static_cast<int>(x);
        }
        while (column < columns) ends_[column++] = static_cast<int>(width);
    }

    bool ready() const { return values_ && weights_ && ends_; }
    long classes() const { return classes_; }
    long columns() const { return columns_; }
    long width() const { return width_; }
    const int* ends() const { return ends_.get(); }
    const float* weights() const { return weights_.get(); }

    // Of all classes at a pixel of the model's size, to to[padded classes].
    void at(long y, long x, float* to) const {
        const Between rows(y, h_, rows_), columns(x, w_, columns_);
        const float *upper = values_.get() + rows.first * w_ * padded_, *lower = values_.get() + rows.second * w_ * padded_;
        const long left = columns.first * padded_, right = columns.second * padded_;
        for (long k = 0; k < padded_; k += kLanes) {
            const vf one = load(upper + left + k) * (1.0f - rows.weight) + load(lower + left + k) * rows.weight;
            const vf other = load(upper + right + k) * (1.0f - rows.weight) + load(lower + right + k) * rows.weight;
            store(to + k, one * (1.0f - columns.weight) + other * columns.weight);
        }
    }

  private:
    long classes_, padded_, h_, w_, rows_, columns_, width_;
    std::unique_ptr<float[]> values_;   // [h, w, padded classes]
    std::unique_ptr<float[]> weights_;  // of each column: that of the model's at its right
    std::unique_ptr<int[]> ends_;       // of each column of the model's: the first behind those that have it at their left
};

// Output rows between two rows of the model's size: what is to be decided in them is the same for all of them.
class RowsBetween {
  public:
    RowsBetween(const Scores& scores, const uint8_t* decided)
        : scores_(scores), decided_(decided), cells_(new (std::nothrow) Cell[static_cast<size_t>(scores.columns())]),
          candidates_(new (std::nothrow) Candidate[static_cast<size_t>(scores.columns() * scores.classes())]) {}

    bool ready() const { return cells_ && candidates_; }

    // A row to out [width]; pixels of each class are added to counts.
    void decide(const Between& rows, uint8_t* out, int64_t* counts) {
        if (rows.first != upper_ || rows.second != lower_) look_at(rows.first, rows.second);
        for (int i = 0; i < cell_count_; ++i) {
            const Cell& cell = cells_[i];
            if (cell.count) {
                mix(cell, rows.weight, out, counts);
            } else {
                memset(out + cell.begin, cell.value, static_cast<size_t>(cell.end - cell.begin));
                counts[cell.value] += cell.end - cell.begin;
            }
        }
    }

  private:
    void look_at(int upper, int lower) {
        upper_ = upper, lower_ = lower;
        cell_count_ = candidate_count_ = 0;
        const uint8_t *above = decided_ + upper * scores_.columns(),
                      *below = decided_ + lower * scores_.columns();
        const int* ends = scores_.ends();
        const int last = static_cast<int>(scores_.columns()) - 1;
        for (int left = 0, begin = 0; left <= last; begin = ends[left++]) {
            if (ends[left] == begin) continue;
            const int right = std::min(left + 1, last), value = above[left];
            const bool is_one = above[right] == value && below[left] == value && below[right] == value;
            if (is_one && cell_count_ && !cells_[cell_count_ - 1].count && cells_[cell_count_ - 1].value == value) {
                cells_[cell_count_ - 1].end = ends[left];
                continue;
            }
            cells_[cell_count_++] = Cell{begin, ends[left], value, candidate_count_, is_one ? 0 : choose(left, right)};
        }
    }

    // Who is nowhere above what one class has everywhere is no candidate.
    int choose(int left, int right) {
        alignas(64) float corners[4][kMaxClasses + 1 + kLanes];
        scores_.at(upper_, left, corners[0]), scores_.at(upper_, right, corners[1]);
        scores_.at(lower_, left, corners[2]), scores_.at(lower_, right, corners[3]);
        float least = -3e38f;
        const auto of = [&](long k, auto choice) {
            return choice(choice(corners[0][k], corners[1][k]), choice(corners[2][k], corners[3][k]));
        };
        const auto less = [](float a, float b) { return a < b ? a : b; };
        const auto more = [](float a, float b) { return a > b ? a : b; };
        for (long k = 0; k < scores_.classes(); ++k) least = more(least, of(k, less));
        const int before = candidate_count_;
        for (int k = 0; k < static_cast<int>(scores_.classes()); ++k)
            if (of(k, more) >= least)
                candidates_[candidate_count_++] = Candidate{k, corners[0][k], corners[1][k], corners[2][k], corners[3][k]};
        return candidate_count_ - before;
    }

    void mix(const Cell& cell, float weight, uint8_t* out, int64_t* counts) const {
        const Candidate* const begin = candidates_.get() + cell.first;
        const float rest = 1.0f - weight;
        for (long x = cell.begin; x < cell.end; x += kLanes) {
            const int valid = static_cast<int>(std::min<long>(cell.end - x, kLanes));
            const vf across = load(scores_.weights() + x), back = 1.0f - across;
            vf best{};
            vi index{};
            for (const Candidate* one = begin; one < begin + cell.count; ++one) {
                const vf score = back * (one->upper_left * rest + one->lower_left * weight) +
                                 across * (one->upper_right * rest + one->lower_right * weight);
                if (one == begin) {
                    best = score, index = vi{} + one->index;
                    continue;
                }
                index = score > best ? vi{} + one->index : index;
                best = larger(score, best);
            }
            // What is written behind the cell is written again by the next one.
            store_bytes(out + x, index, static_cast<int>(std::min<long>(scores_.width() - x, kLanes)));
            const vi inside = lane_numbers() < vi{} + valid;
            int others = 0;
            for (const Candidate* one = begin + 1; one < begin + cell.count; ++one) {
                const vi found = inside & (index == vi{} + one->index);
                int number = 0;
                for (int i = 0; i < kLanes; ++i) number -= found[i];
                counts[one->index] += number, others += number;
            }
            counts[begin->index] += valid - others;
        }
    }

    const Scores& scores_;
    const uint8_t* decided_;
    std::unique_ptr<Cell[]> cells_;
    std::unique_ptr<Candidate[]> candidates_;
    int upper_ = -1, lower_ = -1, cell_count_ = 0, candidate_count_ = 0;
};

}  // namespace

// See `map_ops.decide_classes`: logits [classes, h, w], decided [rows, columns], out [bottom - top, width]; to counts [256]
// is added. Returns 1 where there was no memory.
EXPORT int mtlora_decide_classes(const float* logits, const uint8_t* decided, uint8_t* out, int64_t* counts,
                                 long classes, long h, long w, long rows, long columns, long height, long width,
                                 long top, long bottom, int threads) {
    const Scores scores(logits, classes, h, w, rows, columns, width);
    if (!scores.ready()) return 1;
    std::atomic<int> failed{0};
    parallel_for(bottom - top, kRowsOfOneLook, threads, [&](long begin, long end) {
        RowsBetween between(scores, decided);
        if (!between.ready()) {
            failed = 1;
            return;
        }
        int64_t own[kMaxClasses + 1] = {};
        for (long y = begin; y < end; ++y) between.decide(Between(top + y, rows, height), out + y * width, own);
        for (int k = 0; k <= kMaxClasses; ++k)
            if (own[k]) __atomic_fetch_add(counts + k, own[k], __ATOMIC_RELAXED);
    });
    return failed;
}
