// Loops over the threads of the OpenMP pool that torch already has: a second pool would fight the first for the cores.
#pragma once

#include <atomic>

#include "denormals.hpp"
#include "interface.hpp"

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
        Work& shared = *static_cast<Work*>(data);
        for (;;) {
            const long begin = shared.next.fetch_add(shared.grain, std::memory_order_relaxed);
            if (begin >= shared.n) return;
            shared.f(begin, begin + shared.grain < shared.n ? begin + shared.grain : shared.n);
        }
    };
    pool(share, &work, static_cast<unsigned>(threads), 0);
}

}  // namespace
