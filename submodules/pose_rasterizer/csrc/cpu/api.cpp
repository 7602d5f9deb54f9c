// The C interface of the CPU back end.
#include <memory>
#include <mutex>

#include "../common/export.h"
#include "frame.h"

namespace {

using pose_rasterizer::Frame;

// Frames are handed out again, so that their memory needn't be faulted in for every image.
constexpr size_t kMaxSpare = 8;
std::mutex spare_mutex;
std::vector<std::unique_ptr<Frame>>& spare() {
    static auto* frames = new std::vector<std::unique_ptr<Frame>>;
    return *frames;
}

std::unique_ptr<Frame> take_frame() {
    std::lock_guard<std::mutex> lock(spare_mutex);
    if (spare().empty()) return std::make_unique<Frame>();
    std::unique_ptr<Frame> frame = std::move(spare().back());
    spare().pop_back();
    return frame;
}

void give_back(std::unique_ptr<Frame> frame) {
    std::lock_guard<std::mutex> lock(spare_mutex);
    if (spare().size() < kMaxSpare) spare().push_back(std::move(frame));
}

}  // namespace

POSE_EXPORT int32_t pose_cpu_abi() { return 1; }

// Renders one camera. Returns a frame for pose_cpu_backward and pose_cpu_release, or null where the
// view has too many tile entries or memory ran out.
POSE_EXPORT void* pose_cpu_forward(const PoseScene* scene, const PoseImages* out) {
    try {
        std::unique_ptr<Frame> frame = take_frame();
        if (!pose_rasterizer::build_frame(*scene, *frame, out->radii)) return nullptr;
        pose_rasterizer::blend_forward(*scene, *frame, *out);
        return frame.release();
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

// 0: done, 1: memory ran out.
POSE_EXPORT int32_t pose_cpu_backward(void* handle, const PoseScene* scene,
                                      const PoseImages* images, const PoseGradients* grads) {
    Frame& frame = *static_cast<Frame*>(handle);
    const bool directions = scene->num_coeffs > 1 && scene->sh_degree > 0 &&
                            (grads->v_means != nullptr || grads->v_viewmat != nullptr);
    try {
        pose_rasterizer::blend_backward(*scene, frame, *images, *grads,
                                        grads->v_features != nullptr || directions);
        pose_rasterizer::frame_vjp(*scene, frame, images->radii, *grads);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

POSE_EXPORT void pose_cpu_release(void* handle) {
    give_back(std::unique_ptr<Frame>(static_cast<Frame*>(handle)));
}
