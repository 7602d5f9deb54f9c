"""Normal equations of a camera pose and the light, in one pass over the Gaussians (ours)."""

from typing import NamedTuple

import torch
from torch import Tensor

from pose_rasterizer import cpu, cuda, normal_cuda, normal_native, normal_reference
from pose_rasterizer.cpu import Settings
from pose_rasterizer.ops import (
    _batched,
    _check_degree,
    _check_gaussians,
    _check_same,
    _check_size,
    _choose,
)


class Choices(NamedTuple):
    """How residuals are made; see `pose_normal_equations`."""

    direction_term: bool
    by_tile: bool
    contrast_floor: float
    silhouette_scale: float


class NormalEquations(NamedTuple):
    """What `pose_normal_equations` returns; P = 6 + 2 C: twist (rho, phi), gains, offsets; P = 6
    where each tile has its own light.

    cost: [B]. H: [B, P, P] = J^T W J. g: [B, P] = J^T W r, the cost's gradient. image: [B, C, H, W]
    over black. alpha: [B, 1, H, W]. The compiled back ends return cost, H and g in float64.
    """

    cost: Tensor
    H: Tensor
    g: Tensor
    image: Tensor
    alpha: Tensor


@torch.no_grad()
def pose_normal_equations(
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
    target: Tensor,
    weight: Tensor,
    gain: Tensor | None = None,
    offset: Tensor | None = None,
    backdrop: Tensor,
    robust_scale: Tensor | float = 0.0,
    silhouette_target: Tensor | None = None,
    silhouette_weight: Tensor | None = None,
    sh_degree: int | None = None,
    near: float = 0.01,
    direction_term: bool = True,
    light: str = "global",
    contrast_floor: float = 0.02,
    silhouette_scale: float = 0.0,
    backend: str | None = None,
) -> NormalEquations:
    """Cost, J^T W J and J^T W r of rendered minus target over pose and light.

    With F the colours over black and A alpha, the image is
    m_c = gain_c F_c + offset_c A + (1 - A) backdrop_c, and the cost
    sum weight rho(m - target) + sum silhouette_weight (A - silhouette_target)^2 / 2, with
    rho(r) = r^2 / 2 / (1 + r^2 / s^2) (Geman and McClure). W is weight rho'(r) / r, so g is the
    cost's exact gradient and H its Gauss-Newton matrix. The pose steps as exp(twist) @ viewmat.

    With light="tile" every 8x8 tile is a window of its own light. m_c = F_c + (1 - A) backdrop_c,
    and of each channel and tile, with moments weighted by w of its pixels and W = sum w,
    mh = (m - mean m) / sqrt(var m + contrast_floor^2), qh likewise of the target,
    e = sum w (mh - qh)^2 / W, cost = sum W e / 2 / (1 + e / s^2). The silhouette is one more such
    channel. Again g is exact and H Gauss-Newton's. Ours; docs/method_refinement.md of PIAD.

    Args:
        means .. colours, intrinsics, size, sh_degree, near: as in `rasterize`.
        viewmat: [B, 4, 4] world_to_camera, OpenCV axes.
        target, weight: [B, C, H, W], weight >= 0.
        gain, offset, backdrop: [B, C] (or [C] for all); with light="tile" only the backdrop.
        robust_scale: s, [C] or a number, image units (light="tile": of a normalised difference,
            at most 2); 0 = least squares.
        silhouette_target, silhouette_weight: [B, 1, H, W], both or neither.
        direction_term: whether SH colours depend on the camera's position (exact), or are held.
        light: "global" (gain and offset of a channel, solved for) or "tile".
        contrast_floor: image units; windows that vary less count less. light="tile" alone.
        silhouette_scale: s of the silhouette's windows; light="tile" alone.
        backend: as in `rasterize`. Tensors on a CUDA device with more than 8 channels are copied to
            the host, where the CPU back end does the work; the result comes back to the device.
    """
    channels, coeffs = _check_gaussians(means, quats, scales, opacities, sh, colours)
    size = _check_size(size)
    settings = Settings(size, coeffs, _check_degree(sh_degree, coeffs), float(near))
    batch = viewmat.shape[0]
    viewmats = _batched("viewmat", viewmat, (4, 4), batch, "[B, 4, 4]")
    if viewmat.dim() != 3:
        raise ValueError(f"viewmat must have shape [B, 4, 4], found {list(viewmat.shape)}")
    intrinsics = _batched("intrinsics", intrinsics, (3, 3), batch, "[3, 3]")
    if (silhouette_target is None) != (silhouette_weight is None):
        raise ValueError("give silhouette_target and silhouette_weight together, or neither")
    if light not in ("global", "tile"):
        raise ValueError(f'light must be "global" or "tile", found {light!r}')
    choices = Choices(direction_term, light == "tile", contrast_floor, silhouette_scale)
    if choices.by_tile and not contrast_floor > 0:
        raise ValueError(f"contrast_floor must be above 0, found {contrast_floor}")
    if choices.by_tile and gain is None and offset is None:  # they aren't read
        gain, offset = torch.ones_like(backdrop), torch.zeros_like(backdrop)
    if gain is None or offset is None:
        raise ValueError('give gain and offset, or light="tile" and neither')
    images = {"target": target, "weight": weight}
    lights = {"gain": gain, "offset": offset, "backdrop": backdrop}
    shapes = {"silhouette_target": silhouette_target, "silhouette_weight": silhouette_weight}
    named = {"quats": quats, "scales": scales, "opacities": opacities, "sh": sh, "colours": colours}
    named |= {"viewmat": viewmat, "intrinsics": intrinsics} | images | lights | shapes
    _check_same(means, named)
    for name, value in images.items():
        images[name] = _batched(name, value, (channels, *size), batch, f"[{channels}, H, W]")
    for name, value in lights.items():
        lights[name] = _batched(name, value, (channels,), batch, f"[{channels}]")
    for name, value in shapes.items():
        if value is not None:
            shapes[name] = _batched(name, value, (1, *size), batch, "[1, H, W]")
    if isinstance(robust_scale, Tensor):
        scale = robust_scale.to(means)
    else:
        scale = means.new_full((), float(robust_scale))  # filled there: nothing waits for a copy
    scale = _batched("robust_scale", scale.expand(channels), (channels,), 1, f"[{channels}]")[0]

    features = sh if sh is not None else colours
    residuals = [*images.values(), *lights.values(), scale, *shapes.values()]
    gaussians = [means, quats, scales, opacities, features]
    gaussians, residuals = (
        [None if t is None else t.contiguous() for t in group] for group in (gaussians, residuals)
    )
    chosen = _choose(backend, means, channels)
    on_device = means.device
    few = channels <= normal_cuda.MAX_CHANNELS
    if chosen is cuda and not few:  # no kernel: a copy to the host costs less than the reference
        gaussians, residuals, (viewmats, intrinsics) = (
            [None if t is None else t.cpu() for t in group]
            for group in (gaussians, residuals, (viewmats, intrinsics))
        )
        chosen = _choose(None, gaussians[0], channels)
    module = {cpu: normal_native, cuda: normal_cuda}.get(chosen, normal_reference)
    found = module.normal_equations(
        gaussians,
        viewmats.contiguous(),
        intrinsics.contiguous(),
        residuals,
        settings,
        choices,
    )
    return NormalEquations(*(t.to(on_device) for t in found))
