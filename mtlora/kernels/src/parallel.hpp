// Loops over the threads of the OpenMP pool that torch already has: a second pool would fight the first for the cores.
#pragma once

#include <atomic>

#include "denormals.hpp"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// GOMP_parallel of whichever OpenMP library is loaded; null: everything runs in the calling thread.
using Parallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
Parallel pool = nullptr;

// Calls f(begin, end) for parts of 0..n, at most `grain` long, on up to `threads` threads; denormals are zero in f.
template <class F>
void parallel_for(long n, long grain, int threads, F f) {
    if (grain < 1) grain = 1;
    if (pool == nullptr || threads < 2 || n <= grain) {
        const DenormalsAreZero zero;
        for (long begin = 0; begin < n; begin += grain) f(begin, begin + grain < n ? begin + grain : n);
        return;
    }
    struct Work {
        F& f;
        long n, grain;
        std::atomic<long> next;
    } work{f, n, grain, {0}};
    auto share = [](void* data) {
        const DenormalsAreZero zero;
        Work& work = *static_cast<Work*>(data);
        for (;;) {
            long begin = work.next.fetch_add(work.grain, std::memory_order_relaxed);
            if (begin >= work.n) return;
            work.f(begin, begin + work.grain < work.n ? begin + work.grain : work.n);
        }
    };
    pool(share, &work, static_cast<unsigned>(threads), 0);
}

}  // namespace
