// Adam over all leaves in one launch. A block owns kAdamBlock consecutive values of one leaf, a thread
// kAdamEach of them; nothing is shared.
#pragma once
#include "../cuda/platform.cuh"
#include "adam.h"

namespace pose_rasterizer {

constexpr int kAdamThreads = 256, kAdamEach = 4, kAdamBlock = kAdamThreads * kAdamEach;

__global__ void __launch_bounds__(kAdamThreads) adam_leaves(const PoseFitAdam a) {
    const PoseFitLeaf& leaf = a.leaves[blockIdx.y];
    const int64_t begin = int64_t(blockIdx.x) * kAdamBlock + threadIdx.x;
    const AdamRates rates(a, leaf.root);
    for (int k = 0; k < kAdamEach; ++k) {
        const int64_t i = begin + int64_t(k) * kAdamThreads;
        if (i >= leaf.count) return;
        float gradient = leaf.gradient[i], first = leaf.first[i], second = leaf.second[i];
        if (leaf.activated != nullptr)
            gradient = through(leaf.activation, gradient, leaf.activated[i]);
        const bool head = leaf.head >= leaf.row || int32_t(i % leaf.row) < leaf.head;
        const float rate = head ? leaf.rate : leaf.rate_rest;
        const float value = adam_step(leaf.value[i], gradient, first, second, rates, rate);
        leaf.value[i] = value, leaf.first[i] = first, leaf.second[i] = second;
    }
}

}  // namespace pose_rasterizer
