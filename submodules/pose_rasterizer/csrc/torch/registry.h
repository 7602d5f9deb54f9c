// What calls need beside their tensors: the compiled libraries, the devices, and how much room the tile
// lists of a shape have needed (the rule of pose_rasterizer/cuda.py, Capacities).
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <mutex>

namespace pose_rasterizer {

constexpr int kMaxChannels = 8;
constexpr int kMaxDevices = 65;  // place 0: the CPU, where tests run the kernels

// Entry points (addresses) and layout (pose_cuda_layout) of the library for one number of channels.
struct Library {
    int64_t forward, backward_tiles, backward_splats;
    int64_t record_floats, sum_floats, pose_floats, splats_per_part, row_floats;
};

struct DeviceFacts {
    int64_t slots, num_slots;  // pinned memory that devices report into: address, int64 numbers
    int64_t multiprocessors, max_adjoint_blocks;
};

struct Room {
    int64_t entries;     // of the tile lists, to make room for
    int64_t* reported;   // receives the entries needed
};

class Registry {
  public:
    static Registry& the() {
        static Registry registry;
        return registry;
    }

    void add_library(int64_t channels, const Library& library) {
        const std::lock_guard<std::mutex> lock(mutex_);
        libraries_[size_t(channels)] = library;
    }
    void add_device(int64_t device, const DeviceFacts& facts) {
        const std::lock_guard<std::mutex> lock(mutex_);
        devices_[size_t(device + 1)] = facts;
        shapes_[size_t(device + 1)].clear();
    }
    // Whether one was added; copies it.
    bool find_library(int64_t channels, Library& to) {
        if (channels < 1 || channels > kMaxChannels) return false;
        const std::lock_guard<std::mutex> lock(mutex_);
        to = libraries_[size_t(channels)];
        return to.forward != 0;
    }
    bool find_device(int64_t index, DeviceFacts& to) {
        if (index + 1 < 0 || index + 1 >= kMaxDevices) return false;
        const std::lock_guard<std::mutex> lock(mutex_);
        to = devices_[size_t(index + 1)];
        return to.slots != 0;
    }

    // For a call that renders `splats` Gaussians, those of all cameras together.
    Room room(int64_t device, std::array<int64_t, 3> shape, int64_t splats, int64_t limit) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const DeviceFacts& facts = devices_[size_t(device + 1)];
        auto& shapes = shapes_[size_t(device + 1)];
        auto found = shapes.find(shape);
        if (found == shapes.end()) {
            if (int64_t(shapes.size()) == facts.num_slots) shapes.clear();
            auto* slot = reinterpret_cast<volatile int64_t*>(facts.slots) + shapes.size();
            *slot = 0;
            found = shapes.emplace(shape, Shape{slot, splats, 0.0}).first;
        }
        Shape& known = found->second;
        const int64_t seen = *known.slot;  // the device may write it at any time: a hint, no more
        if (seen > 0 && known.splats > 0)
            known.peak = std::max(double(seen) / double(known.splats), 0.98 * known.peak);
        known.splats = splats;
        int64_t wanted = known.peak > 0.0 ? int64_t(kHeadroom * known.peak * double(splats))
                                          : kFirstPerSplat * splats + kFirst;
        int bits = 0;
        for (int64_t v = wanted; v > 0; v >>= 1) ++bits;
        const int64_t step = std::max(int64_t(1) << 12, int64_t(1) << std::max(bits - 4, 0));
        wanted = (wanted / step + 1) * step;  // stable sizes suit the allocator
        return {std::min({wanted, limit, kMaxEntries}), const_cast<int64_t*>(known.slot)};
    }

  private:
    struct Shape {
        volatile int64_t* slot;
        int64_t splats;  // of the call that the slot reports on
        double peak;     // entries per splat
    };
    static constexpr int64_t kFirstPerSplat = 8, kFirst = int64_t(1) << 18;
    static constexpr int64_t kMaxEntries = (int64_t(1) << 31) - (int64_t(1) << 20);
    static constexpr double kHeadroom = 1.3;
    std::mutex mutex_;
    std::array<Library, kMaxChannels + 1> libraries_{};
    std::array<DeviceFacts, kMaxDevices> devices_{};
    std::array<std::map<std::array<int64_t, 3>, Shape>, kMaxDevices> shapes_;
};

}  // namespace pose_rasterizer
