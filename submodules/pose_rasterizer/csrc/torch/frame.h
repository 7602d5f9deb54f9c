// One forward pass, and the backward passes that follow it: memory, parameter block, entry points.
#pragma once
#include <torch/csrc/autograd/custom_function.h>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>

#include "../cuda/args.h"
#include "registry.h"

namespace pose_rasterizer {

using at::Tensor;
using torch::autograd::variable_list;

// What isn't a tensor.
struct Call {
    Library library;
    DeviceFacts device;
    int64_t height, width, num_coeffs, sh_degree;
    int64_t limit, stream;
    float near;
};

inline const char* run(int64_t address, const PoseCudaArgs& args) {
    return reinterpret_cast<const char* (*)(const PoseCudaArgs*)>(address)(&args);
}

inline void check(const char* message) {
    TORCH_CHECK(message == nullptr, "the CUDA rasterizer failed: ", message);
}

template <class T = float> T* data(const Tensor& tensor) {
    return tensor.defined() ? static_cast<T*>(tensor.data_ptr()) : nullptr;
}

// Consecutive pieces of one allocation.
class Pieces {
  public:
    explicit Pieces(const Tensor& memory) : at_(static_cast<char*>(memory.data_ptr())) {}
    template <class T> T* take(int64_t bytes) {
        char* piece = at_;
        at_ += bytes;
        return reinterpret_cast<T*>(piece);
    }

  private:
    char* at_;
};

// means, quats, scales, opacities, features, viewmats, intrinsics, backgrounds, offsets; the last
// two may be undefined.
enum Input { kMeans, kQuats, kScales, kOpacities, kFeatures, kViewmats, kIntrinsics, kBackgrounds,
             kOffsets, kInputs };
// What forward leaves for backward. `memory` is undefined once a backward pass has freed it.
struct Frame : torch::CustomClassHolder {
    explicit Frame(const Call& call) : call(call) {}
    const Call call;
    PoseCudaArgs args{};
    Tensor memory;
    void* sums = nullptr;        // in `memory`, with the tickets: cleared by forward, for the first
    uint32_t* tickets = nullptr;  // backward pass only
    float* parts = nullptr;      // in `memory`: room for `num_parts` blocks' parts of the pose's gradient
    int64_t num_parts = 0;
};

inline void point_to(PoseCudaArgs& args, const variable_list& inputs, const variable_list& outputs) {
    args.means = data(inputs[kMeans]), args.quats = data(inputs[kQuats]);
    args.scales = data(inputs[kScales]), args.opacities = data(inputs[kOpacities]);
    args.features = data(inputs[kFeatures]), args.viewmats = data(inputs[kViewmats]);
    args.intrinsics = data(inputs[kIntrinsics]), args.backgrounds = data(inputs[kBackgrounds]);
    args.offsets = data(inputs[kOffsets]);
    args.image = data(outputs[0]), args.alpha = data(outputs[1]), args.depth = data(outputs[2]);
    args.radii = data<int32_t>(outputs[3]);
}

// Whether one camera's sums fit into the rows of v_features, which are written only after they are
// read.
inline bool sums_fit_inside(const Call& call, const Tensor& features, int64_t n, int64_t cameras) {
    const int64_t row = n > 0 ? features.numel() / n : 0;
    return cameras == 1 && row % 8 == 0 && row >= call.library.row_floats;
}

// A tensor of its own (no view) in the memory of `base`, which it keeps alive.
inline Tensor piece_of(const Tensor& base, int64_t first, at::IntArrayRef sizes, at::ScalarType type) {
    Tensor piece = at::detail::make_tensor<c10::TensorImpl>(
        c10::Storage(base.storage()), base.key_set(), c10::scalarTypeToTypeMeta(type));
    piece.unsafeGetTensorImpl()->set_sizes_contiguous(sizes);
    piece.unsafeGetTensorImpl()->set_storage_offset(first);
    return piece;
}

// image, alpha, depth, radii: two allocations, since callers keep the image longest.
inline variable_list make_outputs(const Call& call, const Tensor& like, int64_t n, int64_t channels,
                                  int64_t cameras, bool single) {
    const int64_t pixels = cameras * call.height * call.width;
    const auto image = [&](int64_t planes, auto make) {
        return single ? make({planes, call.height, call.width})
                      : make({cameras, planes, call.height, call.width});
    };
    using Sizes = std::initializer_list<int64_t>;
    const auto floats = like.options().requires_grad(false);
    const Tensor rest = at::empty({2 * pixels + cameras * n}, floats);
    const auto plane = [&](int64_t first) {
        return image(1, [&](Sizes sizes) { return piece_of(rest, first, sizes, at::kFloat); });
    };
    return {image(channels, [&](Sizes sizes) { return at::empty(sizes, floats); }), plane(0),
            plane(pixels),
            single ? piece_of(rest, 2 * pixels, {n}, at::kInt)
                   : piece_of(rest, 2 * pixels, {cameras, n}, at::kInt)};
}

// Blocks of splats_adjoint that add up a camera's pose. Blocks of one camera loop.
inline int64_t adjoint_blocks(const Call& call, int64_t n, int64_t cameras, bool any_gaussian) {
    const int64_t blocks = (n + call.library.splats_per_part - 1) / call.library.splats_per_part;
    return cameras == 1 || !any_gaussian ? std::min(blocks, call.device.max_adjoint_blocks) : blocks;
}

// Renders all cameras; fills the frame, returns image, alpha, depth, radii.
// keep: backward will follow. clear_sums: and finds its sums cleared.
inline variable_list render(Frame& frame, const variable_list& inputs, bool keep, bool clear_sums) {
    const Call& call = frame.call;
    const Tensor &means = inputs[kMeans], &viewmats = inputs[kViewmats];
    const int64_t n = means.size(0), channels = inputs[kFeatures].size(-1);
    const bool single = viewmats.dim() == 2;  // one camera without a leading dimension
    const int64_t cameras = single ? 1 : viewmats.size(0);
    const int64_t tiles = cameras * ((call.height + kTile - 1) / kTile) *
                          ((call.width + kTile - 1) / kTile);
    const auto floats = means.options().requires_grad(false);
    const variable_list outputs = make_outputs(call, means, n, channels, cameras, single);
    const Room room = Registry::the().room(means.is_cuda() ? means.get_device() : -1,
                                           {cameras, call.height, call.width}, cameras * n,
                                           call.limit);

    const int64_t records = cameras * n * call.library.record_floats;
    const int64_t ordered = n > 0 && tiles <= kMaxOrdered ? tiles : 0;
    const int64_t masks = n > int64_t(1) << kIdBits ? room.entries : 0;
    const int64_t sums = clear_sums ? cameras * n * call.library.sum_floats : 0;
    frame.num_parts = clear_sums ? cameras * adjoint_blocks(call, n, cameras, false) : 0;
    frame.memory = at::empty({records + sums + frame.num_parts * call.library.pose_floats +
                              (clear_sums ? cameras : 0) + 2 * tiles + ordered + room.entries +
                              (masks + 3) / 4}, floats);
    const Tensor scratch = at::empty({2 * room.entries + kCounterWords * (1 + tiles)}, floats);
    PoseCudaArgs& args = frame.args;
    args = {};
    point_to(args, inputs, outputs);
    Pieces kept(frame.memory), rest(scratch);
    args.splats = kept.take<float>(4 * records);
    frame.sums = clear_sums ? kept.take<void>(4 * sums) : nullptr;
    frame.parts = kept.take<float>(4 * frame.num_parts * call.library.pose_floats);
    frame.tickets = kept.take<uint32_t>(clear_sums ? 4 * cameras : 0);
    args.begins = kept.take<uint32_t>(4 * tiles);
    args.used = kept.take<uint32_t>(4 * tiles);
    args.order = ordered > 0 ? kept.take<uint32_t>(4 * ordered) : nullptr;
    args.ids = kept.take<uint32_t>(4 * room.entries);
    args.masks = masks > 0 ? kept.take<uint8_t>(masks) : nullptr;
    args.total = rest.take<uint64_t>(4 * kCounterWords);
    args.counters = rest.take<uint32_t>(4 * kCounterWords * tiles);
    args.keys = rest.take<uint64_t>(8 * room.entries);
    args.host_total = room.reported;
    args.stream = reinterpret_cast<void*>(call.stream);
    args.num_gaussians = n, args.capacity = room.entries;
    args.num_cameras = int32_t(cameras), args.num_coeffs = int32_t(call.num_coeffs);
    args.sh_degree = int32_t(call.sh_degree);
    args.width = int32_t(call.width), args.height = int32_t(call.height);
    args.keep = keep, args.device = means.is_cuda() ? means.get_device() : 0;
    args.multiprocessors = int32_t(call.device.multiprocessors);
    args.near = call.near;
    if (clear_sums) args.sums = frame.sums, args.tickets = frame.tickets;
    check(run(call.library.forward, args));
    return outputs;
}

// Gradients of the inputs; undefined where not wanted.
inline variable_list gradients(Frame& frame, const variable_list& inputs, const variable_list& outputs,
                        const Tensor* grads, const std::array<bool, kInputs>& wanted) {
    const Call& call = frame.call;
    PoseCudaArgs& args = frame.args;
    const bool deterministic = at::globalContext().deterministicAlgorithms();
    const Tensor &features = inputs[kFeatures], &v_image = grads[0];
    const int64_t n = args.num_gaussians, cameras = args.num_cameras;
    variable_list like(kInputs);
    if (wanted[kBackgrounds]) {
        like[kBackgrounds] = v_image.defined()
                                 ? (v_image * (1 - outputs[1])).sum({-2, -1})
                                       .view_as(inputs[kBackgrounds])
                                 : at::zeros_like(inputs[kBackgrounds]);
    }
    if (n == 0) {
        for (size_t k = 0; k < kInputs; ++k)
            if (wanted[k] && !like[k].defined()) like[k] = at::zeros_like(inputs[k]);
        return like;
    }
    const bool inside =
        wanted[kFeatures] && !deterministic && sums_fit_inside(call, features, n, cameras);
    const bool ready = frame.sums != nullptr && !inside && !deterministic;
    const Library& library = call.library;
    const int64_t sums =
        inside || ready ? 0 : cameras * n * library.sum_floats * (deterministic ? 2 : 1);
    bool any_gaussian = false;
    for (size_t k = kMeans; k <= kFeatures; ++k) any_gaussian |= wanted[k];
    const int64_t blocks = adjoint_blocks(call, n, cameras, any_gaussian);
    const int64_t parts = wanted[kViewmats] ? cameras * blocks : 0;
    const bool roomy = parts <= frame.num_parts;
    const int64_t tickets = (cameras + 3) / 4 * 4;  // what follows stays aligned to 16 bytes
    const int64_t cleared = ready ? 0 : sums + tickets + 8;
    Tensor scratch;
    args.pose_parts = frame.parts;
    if (!ready || !roomy) {
        scratch = at::empty({cleared + (roomy ? 0 : parts * library.pose_floats)},
                            inputs[kMeans].options().requires_grad(false));
        Pieces pieces(scratch);
        if (!ready) {  // else they are where forward put them
            args.sums = pieces.take<void>(4 * sums);
            args.tickets = pieces.take<uint32_t>(4 * tickets);
            args.bounds = pieces.take<uint32_t>(32);
        }
        if (!roomy) args.pose_parts = pieces.take<float>(4 * parts * library.pose_floats);
    }
    if (ready) args.sums = frame.sums, args.tickets = frame.tickets;
    frame.sums = nullptr;
    args.sum_stride = inside ? features.numel() / n : library.sum_floats;
    args.adjoint_blocks = int32_t(blocks);
    const auto make = [&](Input k) {
        if (wanted[k]) like[k] = at::empty_like(inputs[k]);
        return data(like[k]);
    };
    args.v_features = make(kFeatures);
    if (inside) args.sums = args.v_features;
    point_to(args, inputs, outputs);  // saved tensors may come back in other memory
    args.v_image = data(grads[0]), args.v_alpha = data(grads[1]), args.v_depth = data(grads[2]);
    args.deterministic = deterministic;
    check(reinterpret_cast<const char* (*)(const PoseCudaArgs*, void*, int64_t)>(
        call.library.backward_tiles)(&args, scratch.defined() ? scratch.data_ptr() : nullptr,
                                     4 * cleared));
    // Room for the gradients; the stream is done with it first. Nothing of it is needed any more: forward
    // put neither sums nor parts there, since it saw that features want a gradient.
    if (inside) frame.memory.reset();
    args.v_means = make(kMeans), args.v_quats = make(kQuats), args.v_scales = make(kScales);
    args.v_opacities = make(kOpacities), args.v_viewmats = make(kViewmats);
    args.v_offsets = make(kOffsets);
    check(run(library.backward_splats, args));
    return like;
}

}  // namespace pose_rasterizer
