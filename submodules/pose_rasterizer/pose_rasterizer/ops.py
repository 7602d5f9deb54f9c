"""The operator: input checks, choice of the back end, autograd."""

import functools
import math
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from pose_rasterizer import cpu, cuda, reference
from pose_rasterizer.cpu import Settings
from pose_rasterizer.errors import BuildError

BACKENDS = ("reference", "cpu", "cuda")
MAX_SH_DEGREE = 3


class Rasterization(NamedTuple):
    """What `rasterize` returns; without the leading B where viewmat had none.

    image: [B, C, H, W]. alpha: [B, 1, H, W], 0..1. depth: [B, 1, H, W], mean camera z of what the
    pixel shows (world units), 0 where alpha is 0. radii: [B, N] int32, px, 0 = not visible.
    """

    image: Tensor
    alpha: Tensor
    depth: Tensor
    radii: Tensor


class _Native(torch.autograd.Function):
    """Autograd around a compiled back end (a module with `forward` and `backward`)."""

    @staticmethod
    def forward(ctx, backend, settings, *inputs):
        keep = any(ctx.needs_input_grad)
        outputs, frames = backend.forward(inputs, settings, keep)
        if keep:
            ctx.backend, ctx.settings, ctx.frames = backend, settings, frames
            ctx.save_for_backward(*inputs, *outputs)
        ctx.mark_non_differentiable(outputs[3])
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, v_image, v_alpha, v_depth, _v_radii):
        saved = ctx.saved_tensors
        inputs, outputs = saved[:-4], saved[-4:]
        grads = (v_image, v_alpha, v_depth)
        if all(g is None for g in grads):
            return (None,) * (2 + len(inputs))
        wanted = ctx.needs_input_grad[2:]
        return (
            None,
            None,
            *ctx.backend.backward(inputs, outputs, ctx.frames, ctx.settings, grads, wanted),
        )


def _expect(name: str, tensor, shape: str, sizes: tuple) -> None:
    """Raises unless `tensor` has the sizes (None = any)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor of shape {shape}, found {type(tensor).__name__}")
    found = tuple(tensor.shape)
    if len(found) != len(sizes) or any(
        s is not None and s != f for s, f in zip(sizes, found, strict=True)
    ):
        raise ValueError(f"{name} must have shape {shape}, found {list(found)}")


def _check_same(like: Tensor, tensors: dict) -> None:
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.device != like.device:
            raise ValueError(
                f"{name} is on {tensor.device} but means on {like.device}; move all inputs to one"
                " device"
            )
        if tensor.dtype != like.dtype:
            raise TypeError(
                f"{name} is {tensor.dtype} but means {like.dtype}; convert all inputs to one dtype"
            )


def _check_gaussians(means, quats, scales, opacities, sh, colours) -> tuple[int, int]:
    """Returns (number of channels, number of SH coefficients or 0)."""
    _expect("means", means, "[N, 3]", (None, 3))
    if not means.dtype.is_floating_point:
        raise TypeError(f"means must be floating point, found {means.dtype}")
    n = means.shape[0]
    _expect("quats", quats, f"[{n}, 4] (w, x, y, z), like means", (n, 4))
    _expect("scales", scales, f"[{n}, 3], like means", (n, 3))
    _expect("opacities", opacities, f"[{n}], like means", (n,))
    if (sh is None) == (colours is None):
        raise ValueError("give either sh or colours, and not both")
    if sh is None:
        _expect("colours", colours, f"[{n}, C], like means", (n, None))
        channels, coeffs = colours.shape[1], 0
    else:
        _expect("sh", sh, f"[{n}, K, C], like means", (n, None, None))
        channels, coeffs = sh.shape[2], sh.shape[1]
        degrees = range(MAX_SH_DEGREE + 1)
        if coeffs not in [(d + 1) ** 2 for d in degrees]:
            raise ValueError(f"sh must have 1, 4, 9 or 16 coefficients (axis 1), found {coeffs}")
    if channels < 1:
        raise ValueError("at least one colour channel is needed, found 0")
    return channels, coeffs


def _check_degree(sh_degree: int | None, coeffs: int) -> int:
    if coeffs == 0:
        return 0
    stored = math.isqrt(coeffs) - 1
    if sh_degree is None:
        return stored
    if not 0 <= sh_degree <= stored:
        raise ValueError(
            f"sh_degree must lie in 0..{stored} (sh has {coeffs} coefficients), found {sh_degree}"
        )
    return int(sh_degree)


def _check_size(size) -> tuple[int, int]:
    try:
        height, width = (int(v) for v in size)
    except (TypeError, ValueError):
        raise ValueError(f"size must be (height, width) in px, found {size!r}") from None
    if height < 1 or width < 1:
        raise ValueError(f"size must be at least 1x1 px, found (height, width) = {(height, width)}")
    return height, width


def _expect_cameras(name, tensor, sizes: tuple, batch: int, shape: str) -> None:
    """Raises unless `tensor` has the sizes, with or without a leading [B]."""
    if isinstance(tensor, Tensor) and tensor.dim() == len(sizes) + 1:
        _expect(name, tensor, f"{shape} or [{batch}, ...]", (batch, *sizes))
    else:
        _expect(name, tensor, f"{shape}, alone or one per camera", sizes)


def _with_cameras(tensor, rank: int, batch: int) -> Tensor | None:
    """[...] of that rank or [B, ...] -> [B, ...]."""
    if tensor is None or tensor.dim() > rank:
        return tensor
    tensor = tensor.unsqueeze(0)
    return tensor if batch == 1 else tensor.expand(batch, *tensor.shape[1:])


def _batched(name, tensor, sizes: tuple, batch: int, shape: str) -> Tensor:
    """[*sizes] or [B, *sizes] -> [B, *sizes], checked."""
    _expect_cameras(name, tensor, sizes, batch, shape)
    return _with_cameras(tensor, len(sizes), batch)


class Plan(NamedTuple):
    """What the checks found about a call."""

    single: bool
    batch: int
    channels: int
    settings: Settings


_plans: dict[tuple, Plan] = {}
MAX_PLANS = 256
NAMES = (
    "quats", "scales", "opacities", "sh", "colours", "viewmat", "intrinsics", "background",
    "means2d_offset",
)  # fmt: skip


def _plan(means, others: tuple, size, sh_degree, near: float) -> Plan:
    """The checked call. Calls of the same shapes, types and devices are checked once.

    Args:
        others: the operator's tensors after `means`, in the order of `NAMES`.
    """
    try:
        key = [(means.shape, means.dtype, means.device), size, sh_degree, near]
        for t in others:
            key.append(None if t is None else (t.shape, t.dtype, t.device))
        key = tuple(key)
        known = _plans.get(key)
        if known is not None:
            return known
    except (AttributeError, TypeError):  # not tensors, or a size that isn't a tuple
        key = None
    plan = _checked_plan(means, dict(zip(NAMES, others, strict=True)), size, sh_degree, near)
    if key is not None:
        if len(_plans) >= MAX_PLANS:
            _plans.clear()
        _plans[key] = plan
    return plan


def _checked_plan(means, named: dict, size, sh_degree, near: float) -> Plan:
    gaussians = [named[k] for k in ("quats", "scales", "opacities", "sh", "colours")]
    channels, coeffs = _check_gaussians(means, *gaussians)
    size = _check_size(size)
    degree = _check_degree(sh_degree, coeffs)
    viewmat, offset = named["viewmat"], named["means2d_offset"]
    single = isinstance(viewmat, Tensor) and viewmat.dim() == 2
    batch = 1 if single or not isinstance(viewmat, Tensor) else viewmat.shape[0]
    _expect_cameras("viewmat", viewmat, (4, 4), batch, "[4, 4] or [B, 4, 4]")
    _expect_cameras("intrinsics", named["intrinsics"], (3, 3), batch, "[3, 3]")
    if named["background"] is not None:
        _expect_cameras("background", named["background"], (channels,), batch, f"[{channels}]")
    if offset is not None:
        n = means.shape[0]
        _expect_cameras("means2d_offset", offset, (n, 2), batch, f"[{n}, 2]")
    _check_same(means, named)
    return Plan(single, batch, channels, Settings(size, coeffs, degree, near))


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _choose(backend: str | None, means: Tensor, channels: int):
    """The module of the back end, or None for the reference."""
    if backend is not None and backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)} or None, found {backend!r}")
    if backend == "reference":
        return None
    wanted = backend or means.device.type
    if wanted in ("cpu", "cuda") and means.device.type != wanted:
        raise ValueError(f"backend {wanted!r} needs tensors on that device, found {means.device}")
    if backend is None and means.dtype != torch.float32:
        return None
    if means.dtype != torch.float32:
        raise TypeError(
            f"backend {wanted!r} computes in float32, found {means.dtype}; use backend='reference'"
        )
    module = {"cpu": cpu, "cuda": cuda}.get(wanted)
    if module is None:
        _warn_once(f"no compiled rasterizer for {wanted!r}: running on the slow reference")
        return None
    try:
        module.library(channels)
    except BuildError as error:
        if backend is not None:
            raise
        _warn_once(f"{error}; running on the slow torch reference")
        return None
    return module


def _run_reference(inputs, settings: Settings) -> tuple:
    *gaussians, features, viewmats, intrinsics, backgrounds, offsets = inputs
    sh, colours = (features, None) if settings.num_coeffs else (None, features)
    cameras = [
        reference.rasterize_camera(
            *gaussians, sh, colours, viewmats[b], intrinsics[b], settings.size, backgrounds[b],
            None if offsets is None else offsets[b], settings.sh_degree, settings.near,
        )
        for b in range(viewmats.shape[0])
    ]  # fmt: skip
    return tuple(torch.stack(parts) for parts in zip(*cameras, strict=True))


def _rasterize_quickly(means, *rest):
    """`cuda.rasterize`; nothing for what isn't as it expects, about which the checks say more."""
    try:
        return cuda.rasterize(means, *rest)
    except (AttributeError, TypeError, ValueError):
        return None
    except RuntimeError as error:
        if "Expected a value of type" in str(error):
            return None
        raise


def rasterize(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    *,
    sh: Tensor | None = None,
    colours: Tensor | None = None,
    viewmat: Tensor,
    intrinsics: Tensor,
    size: tuple[int, int],
    background: Tensor | None = None,
    means2d_offset: Tensor | None = None,
    sh_degree: int | None = None,
    near: float = 0.01,
    backend: str | None = None,
) -> Rasterization:
    """Renders Gaussians; differentiable in every tensor but the intrinsics.

    Args:
        means: [N, 3] world. quats: [N, 4] w,x,y,z of any length. scales: [N, 3] > 0, world units.
        opacities: [N], 0..1.
        sh: [N, K, C], K = 1, 4, 9 or 16; colour = max(0, 0.5 + SH). Or `colours`: [N, C], as is.
        viewmat: [4, 4] or [B, 4, 4] world_to_camera, OpenCV axes (x right, y down, z forward).
        intrinsics: [3, 3] or [B, 3, 3], px, pixel centres at +0.5, no skew.
        size: (height, width) px.
        background: [C] or [B, C], default 0.
        means2d_offset: [N, 2] or [B, N, 2] px, added to the projected means; pass zeros with
            requires_grad to read the gradient of the image positions.
        sh_degree: degrees used, default all that `sh` holds.
        near: Gaussians whose camera z isn't above it are left out.
        backend: "reference", "cpu" or "cuda"; default by the tensors' device (float32), the
            reference for other dtypes.
    """
    others = (
        quats, scales, opacities, sh, colours, viewmat, intrinsics, background, means2d_offset
    )  # fmt: skip
    if backend is None or backend == "cuda":
        found = _rasterize_quickly(means, *others, size, sh_degree, float(near))
        if found:
            return Rasterization(*found)
    single, batch, channels, settings = _plan(means, others, size, sh_degree, float(near))
    module = _choose(backend, means, channels)
    if module is cuda and cuda.register(means, channels):
        found = _rasterize_quickly(means, *others, size, sh_degree, float(near))
        if found:
            return Rasterization(*found)
    if background is None and module is not cuda:
        background = means.new_zeros(channels)
    inputs = [means, quats, scales, opacities, sh if sh is not None else colours]
    if single and module is cuda:  # takes one camera as it is: fewer views, less for autograd to do
        inputs += [viewmat, intrinsics, background, means2d_offset]
        single = False
    else:
        inputs.append(viewmat.unsqueeze(0) if single else viewmat)
        for tensor, rank in ((intrinsics, 2), (background, 1), (means2d_offset, 2)):
            inputs.append(_with_cameras(tensor, rank, batch))
    if module is None:
        outputs = _run_reference(inputs, settings)
        return Rasterization(*(o[0] for o in outputs) if single else outputs)
    with_grad = torch.is_grad_enabled()
    if with_grad and intrinsics.requires_grad:
        raise ValueError(
            "the compiled back ends have no gradient for the intrinsics; detach them or use"
            " backend='reference'"
        )
    inputs = [None if t is None else t.contiguous() for t in inputs]
    if with_grad and any(t is not None and t.requires_grad for t in inputs):
        outputs = _Native.apply(module, settings, *inputs)
    else:
        outputs, _ = module.forward(inputs, settings, False)
    return Rasterization(*(o.squeeze(0) for o in outputs) if single else outputs)
