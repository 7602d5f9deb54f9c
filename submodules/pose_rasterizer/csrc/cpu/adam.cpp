// Adam over all leaves of a fit, on the CPU; threads own blocks of values.
#include <algorithm>
#include <vector>

#include "../common/export.h"
#include "../fit/adam.h"
#include "pool.h"

namespace {

using namespace pose_rasterizer;
constexpr int64_t kLanes = 16, kBlock = 1 << 14;

// Values begin..end, with the rates of the first of them onwards. All that the loop needs lies in
// local constants and unaliased pointers, so that the compiler makes vectors of it.
template <int32_t kActivation>
void step_range(const PoseFitAdam& a, const PoseFitLeaf& leaf, int64_t begin, int64_t end,
                const float* __restrict rates) {
    float* __restrict value = leaf.value + begin;
    float* __restrict first = leaf.first + begin;
    float* __restrict second = leaf.second + begin;
    const float* __restrict gradient = leaf.gradient + begin;
    const float* __restrict activated =
        kActivation == kIdentity ? gradient : leaf.activated + begin;
    const AdamRates r(a, leaf.root);
    const int64_t n = end - begin;
    for (int64_t i = 0; i < n; ++i) {
        const float v = through(kActivation, gradient[i], activated[i]);
        float m = first[i], s = second[i];
        value[i] = adam_step(value[i], v, m, s, r, rates[i]);
        first[i] = m, second[i] = s;
    }
}

}  // namespace

POSE_EXPORT void pose_cpu_adam(const PoseFitAdam* args, int32_t threads) {
    const PoseFitAdam& a = *args;
    for (int k = 0; k < a.num_leaves; ++k) {
        const PoseFitLeaf& leaf = a.leaves[k];
        const bool two = leaf.head < leaf.row;
        const int64_t row = two ? leaf.row : kLanes;
        const int64_t block = std::max<int64_t>(1, kBlock / row) * row;  // whole rows
        std::vector<float> rates(block, leaf.rate);
        if (two)
            for (int64_t i = 0; i < block; ++i)
                if (i % row >= leaf.head) rates[i] = leaf.rate_rest;
        parallel_ranges(threads, leaf.count, block, [&](int64_t begin, int64_t end, int64_t) {
            switch (leaf.activated == nullptr ? kIdentity : leaf.activation) {
                case kExp: return step_range<kExp>(a, leaf, begin, end, rates.data());
                case kSigmoid: return step_range<kSigmoid>(a, leaf, begin, end, rates.data());
                default: return step_range<kIdentity>(a, leaf, begin, end, rates.data());
            }
        });
    }
}
