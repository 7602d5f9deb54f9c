// The number of colour channels: known at compile time for the common counts, else at run time.
#pragma once

namespace pose_rasterizer {

template <int C> struct Channels {
    explicit Channels(int) {}
    static constexpr int count = C;
};
template <> struct Channels<0> {
    explicit Channels(int runtime) : count(runtime) {}
    const int count;
};

// Calls f(Channels<C>) with the specialisation for `channels`.
template <class F> void with_channels(int channels, const F& f) {
    switch (channels) {
        case 1: return f(Channels<1>(1));
        case 3: return f(Channels<3>(3));
        case 4: return f(Channels<4>(4));
        case 6: return f(Channels<6>(6));
        default: return f(Channels<0>(channels));
    }
}

}  // namespace pose_rasterizer
