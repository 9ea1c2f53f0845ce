// Denormal numbers (of floats, what is below 1.2e-38) take a CPU a hundred times as long as others: here they are zero.
#pragma once

#include <cstdint>

#include "intrinsics.hpp"

namespace {

// While it lives, the calling thread reads denormal numbers as zero and computes zero where one would result. Every
// thread has a mode of its own, and those of the pool are not the kernels', so it is set for each share and restored.
class DenormalsAreZero {
   public:
    DenormalsAreZero() : before_(mode()) {
        if ((before_ & kZero) != kZero) set(before_ | kZero);
    }
    ~DenormalsAreZero() {
        if ((before_ & kZero) != kZero) set(before_);
    }
    DenormalsAreZero(const DenormalsAreZero&) = delete;
    DenormalsAreZero& operator=(const DenormalsAreZero&) = delete;

   private:
    // volatile, and they touch memory: no load or store of what is computed may move past them.
#if defined(__SSE2__)
    using Mode = uint32_t;
    static constexpr Mode kZero = 1u << 15 | 1u << 6;  // MXCSR: results (FTZ), operands (DAZ)
    static Mode mode() { return _mm_getcsr(); }
    static void set(Mode mode) { asm volatile("ldmxcsr %0" : : "m"(mode) : "memory"); }
#elif defined(__aarch64__)
    using Mode = uint64_t;
    static constexpr Mode kZero = 1u << 24;  // FPCR: both (FZ)
    static Mode mode() {
        Mode mode;
        asm volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void set(Mode mode) { asm volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#else
    using Mode = uint32_t;
    static constexpr Mode kZero = 0;  // unknown here: slow at worst
    static Mode mode() { return 0; }
    static void set(Mode) {}
#endif

    const Mode before_;
};

}  // namespace
