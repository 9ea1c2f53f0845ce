// Memory of one thread, kept between calls.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace {

struct Scratch {
    float* reserve(size_t floats) {
        if (floats > size) {
            memory.reset(static_cast<float*>(aligned_alloc(64, (floats * sizeof(float) + 63) / 64 * 64)));
            size = memory ? floats : 0;
        }
        return memory.get();
    }
    struct Free {
        void operator()(float* p) const { free(p); }
    };
    std::unique_ptr<float, Free> memory;
    size_t size = 0;
};

}  // namespace
