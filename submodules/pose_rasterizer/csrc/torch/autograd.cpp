// The operator without Python on the way: torch.ops.pose_rasterizer.rasterize.
//
// Checks a call, renders, and records the gradients with autograd. The same steps as
// pose_rasterizer/{ops,cuda}.py, which serve where this file can't be built and for what it refuses: there
// a step of 100 000 Gaussians at 400x400 spends more time in Python than on the device, above all in
// backward, which autograd runs on a thread of its own.
#include <torch/library.h>

#include <ATen/ops/empty.h>

#include <cstring>

#include "frame.h"

namespace {

using namespace pose_rasterizer;
using torch::autograd::AutogradContext;
using MaybeTensor = std::optional<Tensor>;
constexpr int64_t kAllDegrees = -1;

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
        const variable_list outputs = render(*frame, saved, true, !inside);
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
            if (!frame.memory.defined()) render(frame, inputs, true, false);
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

// A call's tensors as they are given, checked; `inputs` as in `Input`, contiguous.
struct Checked {
    Call call;
    variable_list inputs;
};

bool has_sizes(const Tensor& tensor, at::IntArrayRef sizes) { return tensor.sizes() == sizes; }

// [*sizes] or [B, *sizes] as the kernels take it: for one camera without B. False: neither.
bool take_cameras(const Tensor& tensor, at::IntArrayRef sizes, const Tensor& viewmat, Tensor& to) {
    const bool single = viewmat.dim() == 2;
    if (has_sizes(tensor, sizes)) {
        to = tensor;
        if (single) return true;
        std::vector<int64_t> all(sizes.begin(), sizes.end());
        all.insert(all.begin(), viewmat.size(0));
        to = tensor.unsqueeze(0).expand(all);
        return true;
    }
    if (single || tensor.dim() != int64_t(sizes.size()) + 1) return false;
    to = tensor;
    return tensor.size(0) == viewmat.size(0) && tensor.sizes().slice(1) == sizes;
}

// Whether features are colours [N, C] or coefficients [N, K, C] with K = 1, 4, 9, 16; finds the degree.
bool take_features(const Tensor& features, bool sh, int64_t n, int64_t wanted_degree, Call& call) {
    if (features.dim() != (sh ? 3 : 2) || features.size(0) != n) return false;
    call.num_coeffs = sh ? features.size(1) : 0, call.sh_degree = 0;
    if (!sh) return true;
    int64_t stored = 0;
    while ((stored + 1) * (stored + 1) < call.num_coeffs) ++stored;
    if ((stored + 1) * (stored + 1) != call.num_coeffs || stored > 3) return false;
    call.sh_degree = wanted_degree == kAllDegrees ? stored : wanted_degree;
    return call.sh_degree >= 0 && call.sh_degree <= stored;
}

// Fills `checked` and returns true for a call that needs nothing but the kernels. Otherwise Python does
// it: it says what is wrong, or knows a way.
bool check_call(const Tensor* gaussians, const Tensor& features, bool sh, const Tensor& viewmat,
                const Tensor& intrinsics, const Tensor& background, const Tensor& offset,
                int64_t sh_degree, Checked& checked) {
    Call& call = checked.call;
    const Tensor& means = gaussians[0];
    if (means.dim() != 2 || means.size(1) != 3) return false;
    const int64_t n = means.size(0), widths[4] = {3, 4, 3, 1};
    for (int k = 1; k < 4; ++k)
        if (!(k == 3 ? has_sizes(gaussians[k], {n}) : has_sizes(gaussians[k], {n, widths[k]})))
            return false;
    if (!take_features(features, sh, n, sh_degree, call)) return false;
    const int64_t channels = features.size(-1);
    Registry& known = Registry::the();
    if (!known.find_library(channels, call.library) ||
        !known.find_device(means.is_cuda() ? means.get_device() : -1, call.device))
        return false;
    if (call.height < 1 || call.width < 1) return false;
    const bool single = viewmat.dim() == 2;
    if (!single && viewmat.dim() != 3) return false;
    const int64_t cameras = single ? 1 : viewmat.size(0);
    if (viewmat.size(-2) != 4 || viewmat.size(-1) != 4 || cameras < 1) return false;
    const double tiles = double(cameras) * double((call.height + kTile - 1) / kTile) *
                         double((call.width + kTile - 1) / kTile);
    if (tiles >= 2147483648.0) return false;
    variable_list& inputs = checked.inputs;
    inputs.resize(kInputs);
    for (int k = 0; k < 4; ++k) inputs[k] = gaussians[k];
    inputs[kFeatures] = features, inputs[kViewmats] = viewmat;
    if (!take_cameras(intrinsics, {3, 3}, viewmat, inputs[kIntrinsics])) return false;
    if (background.defined() &&
        !take_cameras(background, {channels}, viewmat, inputs[kBackgrounds]))
        return false;
    if (offset.defined() && !take_cameras(offset, {n, 2}, viewmat, inputs[kOffsets])) return false;
    for (Tensor& tensor : inputs) {
        if (!tensor.defined()) continue;
        if (tensor.scalar_type() != at::kFloat || tensor.device() != means.device()) return false;
        if (!tensor.is_contiguous()) tensor = tensor.contiguous();
    }
    Tensor& rows = inputs[kFeatures];  // read 16 bytes at a time
    if (reinterpret_cast<uintptr_t>(rows.data_ptr()) % 16 != 0) rows = rows.clone();
    return true;
}

// image, alpha, depth, radii as `rasterize` of pose_rasterizer/ops.py returns them; nothing where Python
// must see to it. sh_degree -1: all. `limit`: most entries of the tile lists; `stream`: the current one.
std::vector<Tensor> rasterize(const Tensor& means, const Tensor& quats, const Tensor& scales,
                              const Tensor& opacities, const MaybeTensor& sh,
                              const MaybeTensor& colours, const Tensor& viewmat,
                              const Tensor& intrinsics, const MaybeTensor& background,
                              const MaybeTensor& offset, int64_t height, int64_t width,
                              int64_t sh_degree, double near, int64_t limit, int64_t stream) {
    if (sh.has_value() == colours.has_value()) return {};
    const bool gradients = at::GradMode::is_enabled();
    if (gradients && intrinsics.requires_grad()) return {};
    const Tensor gaussians[4] = {means, quats, scales, opacities}, none;
    Checked checked;
    Call& call = checked.call;
    call.height = height, call.width = width, call.limit = limit, call.stream = stream;
    call.near = float(near);
    if (!check_call(gaussians, sh.has_value() ? *sh : *colours, sh.has_value(), viewmat, intrinsics,
                    background.value_or(none), offset.value_or(none), sh_degree, checked))
        return {};
    const variable_list& in = checked.inputs;
    bool wanted = false;
    for (const Tensor& tensor : in) wanted |= tensor.defined() && tensor.requires_grad();
    auto frame = c10::make_intrusive<Frame>(call);
    if (!gradients || !wanted) return render(*frame, in, false, false);
    const auto maybe = [](const Tensor& t) { return t.defined() ? MaybeTensor(t) : MaybeTensor(); };
    return Render::apply(in[kMeans], in[kQuats], in[kScales], in[kOpacities], in[kFeatures],
                         in[kViewmats], in[kIntrinsics], maybe(in[kBackgrounds]),
                         maybe(in[kOffsets]), std::move(frame));
}

template <class T> T numbers_as(at::IntArrayRef numbers) {
    T block;
    TORCH_CHECK(numbers.size() * sizeof(int64_t) == sizeof(T), "expected ",
                sizeof(T) / sizeof(int64_t), " numbers, found ", numbers.size());
    std::memcpy(&block, numbers.data(), sizeof(T));
    return block;
}

void add_library(int64_t channels, at::IntArrayRef numbers) {
    TORCH_CHECK(channels >= 1 && channels <= kMaxChannels, "1 to 8 channels, found ", channels);
    Registry::the().add_library(channels, numbers_as<Library>(numbers));
}

void add_device(int64_t device, at::IntArrayRef numbers) {
    TORCH_CHECK(device >= -1 && device + 1 < kMaxDevices, "no device ", device);
    Registry::the().add_device(device, numbers_as<DeviceFacts>(numbers));
}

// As Capacities.choose of pose_rasterizer/cuda.py, for tests: (entries, address that gets the report).
std::vector<int64_t> room(int64_t device, int64_t cameras, int64_t height, int64_t width,
                          int64_t splats, int64_t limit) {
    const Room found = Registry::the().room(device, {cameras, height, width}, splats, limit);
    return {found.entries, reinterpret_cast<int64_t>(found.reported)};
}

}  // namespace

TORCH_LIBRARY(pose_rasterizer, library) {
    library.def(
        "rasterize(Tensor means, Tensor quats, Tensor scales, Tensor opacities, Tensor? sh, "
        "Tensor? colours, Tensor viewmat, Tensor intrinsics, Tensor? background, Tensor? offset, "
        "int height, int width, int sh_degree, float near, int limit, int stream) -> Tensor[]",
        &rasterize);
    library.def("add_library(int channels, int[] numbers) -> ()", &add_library);
    library.def("add_device(int device, int[] numbers) -> ()", &add_device);
    library.def("room(int device, int cameras, int height, int width, int splats, int limit) -> int[]",
                &room);
}
