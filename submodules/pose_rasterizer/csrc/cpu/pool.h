// Work shared among threads. It is cut into blocks whose borders never depend on the number of
// threads, so results don't either.
#pragma once
#include <cstdint>
#include <functional>

namespace pose_rasterizer {

constexpr int kMaxThreads = 64;

// Calls body(block) for block = 0..num_blocks-1, each once, on up to num_threads threads (the
// caller is one of them). Blocks start in order. Not re-entrant: body must not call it. What a body
// throws reaches the caller once all threads have stopped.
void parallel_blocks(int num_threads, int64_t num_blocks, const std::function<void(int64_t)>& body);

// Calls body(begin, end, block) over 0..n-1 in blocks of `size`.
template <class Body>
void parallel_ranges(int num_threads, int64_t n, int64_t size, const Body& body) {
    parallel_blocks(num_threads, (n + size - 1) / size, [&](int64_t block) {
        const int64_t begin = block * size;
        body(begin, begin + size < n ? begin + size : n, block);
    });
}

}  // namespace pose_rasterizer

