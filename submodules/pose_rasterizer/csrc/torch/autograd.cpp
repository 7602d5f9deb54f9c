// Autograd around the CUDA back end without Python on the way, for torch.ops.pose_rasterizer.render.
//
// The same steps as pose_rasterizer/cuda.py, which serves where this file can't be built: there a
// step of 100 000 Gaussians at 400x400 spends more time in Python than on the device, above all in
// backward, which autograd runs on a thread of its own.
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "../cuda/args.h"

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<Tensor>;

constexpr int64_t kTile = pose_rasterizer::kTile;
constexpr int64_t kCounterWords = pose_rasterizer::kCounterWords;

// What isn't a tensor, in the order of `numbers`: entry points and layout of the library
// (pose_cuda_layout), then the call's settings.
struct Call {
    int64_t forward, backward_tiles, backward_splats;  // addresses
    int64_t record_floats, sum_floats, pose_floats, splats_per_part, row_floats;
    int64_t height, width, num_coeffs, sh_degree;
    int64_t capacity, host_total, stream, max_adjoint_blocks, multiprocessors;
};
constexpr size_t kNumbers = sizeof(Call) / sizeof(int64_t);

const char* run(int64_t address, const PoseCudaArgs& args) {
    return reinterpret_cast<const char* (*)(const PoseCudaArgs*)>(address)(&args);
}

void check(const char* message) {
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
    Frame(const Call& call, double near) : call(call), near(float(near)) {}
    const Call call;
    const float near;
    PoseCudaArgs args{};
    Tensor memory;
    Tensor sums;  // with the tickets: cleared by forward, for the first backward pass only
};

void point_to(PoseCudaArgs& args, const variable_list& inputs, const variable_list& outputs) {
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
bool sums_fit_inside(const Call& call, const Tensor& features, int64_t n, int64_t cameras) {
    const int64_t row = n > 0 ? features.numel() / n : 0;
    return cameras == 1 && row % 8 == 0 && row >= call.row_floats;
}

// Renders all cameras; fills the frame, returns image, alpha, depth, radii.
variable_list render(Frame& frame, const variable_list& inputs, bool clear_sums) {
    const Call& call = frame.call;
    const Tensor &means = inputs[kMeans], &viewmats = inputs[kViewmats];
    const int64_t n = means.size(0), channels = inputs[kFeatures].size(-1);
    const bool single = viewmats.dim() == 2;  // one camera without a leading dimension
    const int64_t cameras = single ? 1 : viewmats.size(0);
    const int64_t tiles = cameras * ((call.height + kTile - 1) / kTile) *
                          ((call.width + kTile - 1) / kTile);
    const auto floats = means.options().requires_grad(false);
    const auto image = [&](int64_t planes) {
        return single ? at::empty({planes, call.height, call.width}, floats)
                      : at::empty({cameras, planes, call.height, call.width}, floats);
    };
    variable_list outputs = {image(channels), image(1), image(1)};
    const auto whole = floats.dtype(at::kInt);
    outputs.push_back(single ? at::empty({n}, whole) : at::empty({cameras, n}, whole));

    const int64_t records = cameras * n * call.record_floats;
    const int64_t ordered = n > 0 && tiles <= pose_rasterizer::kMaxOrdered ? tiles : 0;
    const int64_t masks = n > int64_t(1) << pose_rasterizer::kIdBits ? call.capacity : 0;
    frame.memory =
        at::empty({records + 2 * tiles + ordered + call.capacity + (masks + 3) / 4}, floats);
    const Tensor scratch = at::empty({2 * call.capacity + kCounterWords * (1 + tiles)}, floats);
    PoseCudaArgs& args = frame.args;
    args = {};
    point_to(args, inputs, outputs);
    Pieces kept(frame.memory), rest(scratch);
    args.splats = kept.take<float>(4 * records);
    args.begins = kept.take<uint32_t>(4 * tiles);
    args.used = kept.take<uint32_t>(4 * tiles);
    args.order = ordered > 0 ? kept.take<uint32_t>(4 * ordered) : nullptr;
    args.ids = kept.take<uint32_t>(4 * call.capacity);
    args.masks = masks > 0 ? kept.take<uint8_t>(masks) : nullptr;
    args.total = rest.take<uint64_t>(4 * kCounterWords);
    args.counters = rest.take<uint32_t>(4 * kCounterWords * tiles);
    args.keys = rest.take<uint64_t>(8 * call.capacity);
    args.host_total = reinterpret_cast<int64_t*>(call.host_total);
    args.stream = reinterpret_cast<void*>(call.stream);
    args.num_gaussians = n, args.capacity = call.capacity;
    args.num_cameras = int32_t(cameras), args.num_coeffs = int32_t(call.num_coeffs);
    args.sh_degree = int32_t(call.sh_degree);
    args.width = int32_t(call.width), args.height = int32_t(call.height);
    args.keep = 1, args.device = means.is_cuda() ? means.get_device() : 0;
    args.multiprocessors = int32_t(call.multiprocessors);
    args.near = frame.near;
    if (clear_sums && n > 0) {
        frame.sums = at::empty({cameras * n * call.sum_floats + cameras}, floats);
        Pieces pieces(frame.sums);
        args.sums = pieces.take<void>(4 * cameras * n * call.sum_floats);
        args.tickets = pieces.take<uint32_t>(4 * cameras);
    }
    check(run(call.forward, args));
    return outputs;
}

// Gradients of the inputs; undefined where not wanted.
variable_list gradients(Frame& frame, const variable_list& inputs, const variable_list& outputs,
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
    const bool ready = frame.sums.defined() && !inside && !deterministic;
    const Tensor cleared_sums = std::move(frame.sums);  // lives until the kernels are queued
    frame.sums = Tensor();
    const int64_t sums =
        inside || ready ? 0 : cameras * n * call.sum_floats * (deterministic ? 2 : 1);
    int64_t blocks = (n + call.splats_per_part - 1) / call.splats_per_part;
    bool any_gaussian = false;
    for (size_t k = kMeans; k <= kFeatures; ++k) any_gaussian |= wanted[k];
    if (cameras == 1 || !any_gaussian)  // blocks of one camera loop
        blocks = std::min(blocks, call.max_adjoint_blocks);
    const int64_t parts = wanted[kViewmats] ? cameras * blocks * call.pose_floats : 0;
    const int64_t cleared = ready ? 0 : sums + cameras + 8;
    const Tensor scratch =
        at::empty({cleared + parts}, inputs[kMeans].options().requires_grad(false));
    Pieces pieces(scratch);
    if (!ready) {  // else they are where forward put them
        args.sums = pieces.take<void>(4 * sums);
        args.tickets = pieces.take<uint32_t>(4 * cameras);
        args.bounds = pieces.take<uint32_t>(32);
    }
    args.pose_parts = pieces.take<float>(4 * parts);
    args.sum_stride = inside ? features.numel() / n : call.sum_floats;
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
        call.backward_tiles)(&args, scratch.data_ptr(), 4 * cleared));
    if (inside) frame.memory.reset();  // room for the gradients; the stream is done with it first
    args.v_means = make(kMeans), args.v_quats = make(kQuats), args.v_scales = make(kScales);
    args.v_opacities = make(kOpacities), args.v_viewmats = make(kViewmats);
    args.v_offsets = make(kOffsets);
    check(run(call.backward_splats, args));
    return like;
}

// Passes gradients on, and refuses to be differentiated.
struct Once : torch::autograd::Function<Once> {
    static Tensor forward(AutogradContext*, const Tensor& gradient, const Tensor&) {
        return gradient.view_as(gradient);
    }
    static variable_list backward(AutogradContext*, const variable_list&) {
        TORCH_CHECK(false, "the rasterizer's gradients can't be differentiated again; render with "
                           "backend='reference' for second derivatives");
    }
};

struct Render : torch::autograd::Function<Render> {
    static variable_list forward(AutogradContext* ctx, const Tensor& means, const Tensor& quats,
                                 const Tensor& scales, const Tensor& opacities,
                                 const Tensor& features, const Tensor& viewmats,
                                 const Tensor& intrinsics, const MaybeTensor& backgrounds,
                                 const MaybeTensor& offsets, c10::intrusive_ptr<Frame> frame) {
        const Tensor none;
        variable_list saved = {means,    quats,      scales,
                               opacities, features,   viewmats,
                               intrinsics, backgrounds.value_or(none), offsets.value_or(none)};
        const int64_t cameras = viewmats.dim() == 2 ? 1 : viewmats.size(0);
        const bool inside = features.requires_grad() &&
                            sums_fit_inside(frame->call, features, means.size(0), cameras);
        const variable_list outputs = render(*frame, saved, !inside);
        saved.insert(saved.end(), outputs.begin(), outputs.end());
        ctx->save_for_backward(std::move(saved));
        ctx->mark_non_differentiable({outputs[3]});
        ctx->set_materialize_grads(false);
        ctx->saved_data["frame"] = at::IValue::make_capsule(std::move(frame));
        return outputs;
    }

    static variable_list backward(AutogradContext* ctx, variable_list grads) {
        variable_list found(kInputs + 1);  // and the frame's place
        const bool any = grads[0].defined() || grads[1].defined() || grads[2].defined();
        if (!any) return found;
        const bool again = at::GradMode::is_enabled();  // create_graph
        const variable_list saved = ctx->get_saved_variables();
        variable_list inputs(saved.begin(), saved.begin() + kInputs);
        const variable_list outputs(saved.begin() + kInputs, saved.end());
        std::array<bool, kInputs> wanted{};
        for (size_t k = 0, edge = 0; k < kInputs; ++k)
            if (inputs[k].defined()) wanted[k] = ctx->needs_input_grad(edge++);
        auto& frame = static_cast<Frame&>(*ctx->saved_data["frame"].toCapsule());
        variable_list like;
        {
            const at::NoGradGuard no_grad;
            Tensor& features = inputs[kFeatures];  // rows are read 16 bytes at a time
            if (reinterpret_cast<uintptr_t>(features.data_ptr()) % 16 != 0)
                features = features.clone();
            const Tensor dense[3] = {contiguous(grads[0]), contiguous(grads[1]),
                                     contiguous(grads[2])};
            if (!frame.memory.defined()) render(frame, inputs, false);
            like = gradients(frame, inputs, outputs, dense, wanted);
        }
        for (size_t k = 0; k < kInputs; ++k) found[k] = like[k];
        if (!again) return found;
        for (const Tensor& grad : grads) {
            if (!grad.defined() || !grad.requires_grad()) continue;
            for (Tensor& v : found)
                if (v.defined()) v = Once::apply(v, grad);
            break;
        }
        return found;
    }

  private:
    static Tensor contiguous(const Tensor& t) { return t.defined() ? t.contiguous() : t; }
};

// Inputs float32, contiguous, on one device, as pose_rasterizer/cuda.py passes them.
std::tuple<Tensor, Tensor, Tensor, Tensor> render_with_gradients(
    const Tensor& means, const Tensor& quats, const Tensor& scales, const Tensor& opacities,
    const Tensor& features, const Tensor& viewmats, const Tensor& intrinsics,
    const MaybeTensor& backgrounds, const MaybeTensor& offsets, at::IntArrayRef numbers,
    double near) {
    TORCH_CHECK(numbers.size() == kNumbers, "numbers must hold ", kNumbers, ", found ",
                numbers.size());
    Call call;
    std::memcpy(&call, numbers.data(), sizeof(call));
    const variable_list out =
        Render::apply(means, quats, scales, opacities, features, viewmats, intrinsics, backgrounds,
                      offsets, c10::make_intrusive<Frame>(call, near));
    return {out[0], out[1], out[2], out[3]};
}

}  // namespace

TORCH_LIBRARY(pose_rasterizer, library) {
    library.def(
        "render(Tensor means, Tensor quats, Tensor scales, Tensor opacities, Tensor features, "
        "Tensor viewmats, Tensor intrinsics, Tensor? backgrounds, Tensor? offsets, int[] numbers, "
        "float near) -> (Tensor, Tensor, Tensor, Tensor)",
        &render_with_gradients);
}
