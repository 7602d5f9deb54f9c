"""What a round of second-order steps compares, and its normal equations (ours).

A round works at one resolution, in one of two ways to take light away. "global": gain and offset of
every channel are unknowns beside the pose, and shading counts: it reaches far. "tile": every 8x8
tile is a window whose own light is divided out: exact under any light, it reaches a few pixels.
Equations: docs/method_refinement.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.pose_system import pose_system
from piad.models import ModelPair, PairRendering
from piad.target import Target, fit_light, relit, seen_backdrop

MIN_SIDE_PX = 24  # no level is smaller
ROBUST_FLOOR = 0.02  # standard deviation of a channel at least, image units: the models' own error
LIGHT_PRIOR = 1e-3  # of a pixel's weight, per pixel: keeps gain 1 and offset 0 on flat objects
CONTRAST_FLOOR = 0.02  # image units: windows that vary less count less
OBJECT_ALPHA = 0.5
AROUND_OBJECT = 0.15  # global: share of the side by which the object is widened on a rich backdrop
AROUND_PX = 2  # tile: the same, px


@dataclass(frozen=True)
class Round:
    """Steps at one resolution with fixed weights.

    scale: of the full resolution. calls: systems made at most. light: "global" or "tile".
    robust: Geman-McClure scale; global: in standard deviations of the object's residual; tile: of a
    window's normalised difference, sqrt(2 - 2 correlation).
    silhouette: global: residual of alpha that counts like a colour's standard deviation; tile:
    weight of its windows beside those of colour and reflectance together.
    relax: factor of the first step; later ones measure theirs.
    """

    scale: float
    calls: int
    light: str
    robust: float
    silhouette: float
    relax: float = 1.0


@dataclass
class State:
    """pose: world_to_camera [4, 4], float64, on the CPU; gain, offset: [6], of global light."""

    pose: Tensor
    gain: Tensor
    offset: Tensor


@dataclass
class System:
    """What one call at a state gives: P = 18 with global light (twist, gains, offsets), else 6."""

    cost: float
    hessian: Tensor  # [P, P] float64, cpu
    gradient: Tensor  # [P]
    rendering: PairRendering


@dataclass
class Level:
    """A round's fixed data: everything that the cost depends on beside pose and light."""

    image: Tensor  # [6, h, w], the query
    weight: Tensor  # [6, h, w]
    backdrop: Tensor  # [6]
    robust_scale: Tensor  # [6]
    silhouette: Tensor | None  # [1, h, w]
    silhouette_weight: Tensor | None
    silhouette_scale: float
    intrinsics: Intrinsics
    light: str
    direction_term: bool


def at_scale(full: Target, scale: float) -> Target:
    """The query at a share of its resolution, area averages."""
    height, width = full.image.shape[-2:]
    least = min(1.0, MIN_SIDE_PX / min(height, width))
    size = tuple(max(1, round(n * max(scale, least))) for n in (height, width))

    def resized(x: Tensor) -> Tensor:
        return F.interpolate(x[None], size, mode="area")[0]

    shape = None if full.silhouette is None else resized(full.silhouette)
    intrinsics = full.intrinsics.resized(size[1], size[0])
    return Target(resized(full.image), full.backdrop, intrinsics, shape)


def shares(reflectance_weight: float, like: Tensor) -> Tensor:
    """Share of each of the six channels, [6]; they add up to 1."""
    return like.new_tensor([(1 - reflectance_weight) / 3] * 3 + [reflectance_weight / 3] * 3)


def make_level(
    target: Target, state: State, models: ModelPair, reflectance_weight: float, this: Round
) -> Level:
    """Fixed data of a round that begins at `state`, whose light is fitted anew.

    Args:
        target: the query at the round's resolution.
    """
    share = shares(reflectance_weight, target.image)
    if this.light == "tile":
        return _tile_level(target, state, models, share, this)
    with torch.no_grad():
        rendering = models.render(state.pose.to(target.image), target.intrinsics)
    alpha, image = rendering.alpha[:1], target.image
    state.gain, state.offset = fit_light(rendering, image)
    backdrop = seen_backdrop(target, state.gain, state.offset, models.background)
    modelled = relit(rendering, state.gain, state.offset, backdrop)
    sigma = _robust_scales(modelled - image, alpha > OBJECT_ALPHA)
    weight = (6 * share / sigma**2)[:, None, None].expand_as(image)
    if target.backdrop is None:
        reach = 2 * round(AROUND_OBJECT * max(image.shape[-2:])) // 2 * 2 + 1
        weight = weight * F.max_pool2d(alpha[None], reach, 1, reach // 2)[0]
    shape = target.silhouette if this.silhouette > 0 else None
    return Level(
        image=image.contiguous(),
        weight=weight.contiguous(),
        backdrop=backdrop,
        robust_scale=this.robust * sigma,
        silhouette=shape,
        silhouette_weight=None if shape is None else torch.full_like(shape, 6 / this.silhouette**2),
        silhouette_scale=0.0,
        intrinsics=target.intrinsics,
        light="global",
        direction_term=this.scale == 1.0,
    )


def _tile_level(target: Target, state: State, models: ModelPair, share: Tensor, this: Round):
    """`make_level` where each tile has its own light."""
    weight = share[:, None, None].expand_as(target.image)
    if target.backdrop is None:  # what is behind the object is not the models'
        with torch.no_grad():
            seen = models.render(state.pose.to(target.image), target.intrinsics)
        around = F.max_pool2d(seen.alpha[None, :1], 2 * AROUND_PX + 1, 1, AROUND_PX)[0]
        weight = weight * around
    shape = target.silhouette if this.silhouette > 0 else None
    return Level(
        image=target.image.contiguous(),
        weight=weight.contiguous(),
        backdrop=models.background,
        robust_scale=torch.full_like(share, this.robust),
        silhouette=shape,
        silhouette_weight=None if shape is None else torch.full_like(shape, this.silhouette),
        silhouette_scale=this.robust,
        intrinsics=target.intrinsics,
        light="tile",
        direction_term=this.scale == 1.0,
    )


def _robust_scales(residual: Tensor, inside: Tensor) -> Tensor:
    """Standard deviation per channel [6] over the object, from the median (image units)."""
    picked = residual[:, inside[0]]
    if picked.shape[1] == 0:
        return residual.new_full((residual.shape[0],), 10 * ROBUST_FLOOR)
    sigma = 1.4826 * picked.abs().median(dim=1).values
    return sigma.clamp_min(ROBUST_FLOOR)


def _call(model, state: State, level: Level, channels: slice, parts: int):
    """Normal equations of one model's channels; `parts` models share the silhouette's weight."""
    outline = {}
    if level.silhouette is not None:
        outline = {
            "silhouette_target": level.silhouette[None],
            "silhouette_weight": level.silhouette_weight[None] / parts,
        }
    if level.light == "tile":
        light = {
            "light": "tile",
            "contrast_floor": CONTRAST_FLOOR,
            "silhouette_scale": level.silhouette_scale,
        }
    else:
        light = {
            "gain": state.gain[None, channels].contiguous(),
            "offset": state.offset[None, channels].contiguous(),
        }
    return pose_system(
        model,
        state.pose[None],
        level.intrinsics,
        target=level.image[None, channels],
        weight=level.weight[None, channels],
        backdrop=level.backdrop[None, channels].contiguous(),
        robust_scale=level.robust_scale[channels],
        direction_term=level.direction_term,
        **outline,
        **light,
    )


def make_system(models: ModelPair, state: State, level: Level) -> System:
    """Both models in one system, the light's prior included; one call for a shared geometry."""
    if models.joined is not None:
        parts = [(slice(0, 6), models.joined)]
    else:
        parts = [(slice(0, 3), models.colour), (slice(3, 6), models.reflectance)]
    size = 6 if level.light == "tile" else 18
    hessian = torch.zeros(size, size, dtype=torch.float64)
    gradient = torch.zeros(size, dtype=torch.float64)
    cost, found = 0.0, []
    for channels, model in parts:
        out = _call(model, state, level, channels, len(parts))
        index = torch.arange(6)
        if level.light == "global":
            light = torch.arange(channels.start, channels.stop)
            index = torch.cat([index, 6 + light, 12 + light])
        hessian[index[:, None], index] += out.H[0].cpu().double()
        gradient[index] += out.g[0].cpu().double()
        cost += float(out.cost[0])
        found.append(out)
    if level.light == "global":
        cost += _add_prior(hessian, gradient, state, level)
    image = torch.cat([out.image[0] for out in found])
    alpha = torch.cat([out.alpha[0] for out in found])
    return System(cost, hessian, gradient, PairRendering(image, alpha.expand(2, -1, -1)))


def _add_prior(hessian: Tensor, gradient: Tensor, state: State, level: Level) -> float:
    """Pulls gains towards 1 and offsets towards 0; returns the prior's cost."""
    prior = LIGHT_PRIOR * level.weight.sum((1, 2)).double().cpu()  # [6]
    gain, offset = state.gain.double().cpu() - 1, state.offset.double().cpu()
    index = torch.arange(6, 12)
    hessian[index, index] += prior
    hessian[index + 6, index + 6] += prior
    gradient[6:12] += prior * gain
    gradient[12:] += prior * offset
    return float((0.5 * prior * (gain**2 + offset**2)).sum())
