// Adam's step (Kingma & Ba 2015, algorithm 1) of one value, shared by host and device.
#pragma once
#include <cmath>

#include "args.h"

#if !defined(__CUDACC__) && !defined(POSE_EMULATE)
#define POSE_FIT_INLINE inline
#else
#define POSE_FIT_INLINE __host__ __device__ __forceinline__
#endif

namespace pose_rasterizer {

// The gradient by the raw value, from that by the activated one.
POSE_FIT_INLINE float through(int32_t activation, float gradient, float activated) {
    if (activation == kExp) return gradient * activated;
    if (activation == kSigmoid) return gradient * activated * (1.0f - activated);
    return gradient;
}

// What is the same for all values of a leaf.
struct AdamRates {
    float keep2, move1, move2, over_root, epsilon;
    POSE_FIT_INLINE AdamRates(const PoseFitAdam& a, float root)
        : keep2(a.beta2), move1(1.0f - a.beta1), move2(1.0f - a.beta2), over_root(1.0f / root),
          epsilon(a.epsilon) {}
};

// The value after the step. `rate` holds the first moment's correction, `over_root` the second's.
POSE_FIT_INLINE float adam_step(float value, float gradient, float& first, float& second,
                                const AdamRates& r, float rate) {
    first += r.move1 * (gradient - first);
    second = r.keep2 * second + r.move2 * gradient * gradient;
    return value - rate * first / (sqrtf(second) * r.over_root + r.epsilon);
}

}  // namespace pose_rasterizer
