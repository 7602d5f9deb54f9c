"""What a round of second-order steps compares, and its normal equations (ours).

A round works at one resolution, in one of two ways to take light away. "global": gain and offset of
every channel are unknowns beside the pose, and shading counts: it reaches far. "tile": every 8x8
tile is a window whose own light is divided out: exact under any light, it reaches a few pixels.
Equations: docs/method_refinement.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.constants import constant
from gaussian_renderer.pose_system import pose_system
from piad.models import ModelPair
from piad.relight import MAD_TO_SIGMA
from piad.target import Target, fit_light, object_box, relit, seen_backdrop

MIN_SIDE_PX = 24  # no level is smaller
ROBUST_FLOOR = 0.02  # standard deviation of a channel at least, image units: the models' own error
LIGHT_PRIOR = 1e-3  # of a pixel's weight, per pixel: keeps gain 1 and offset 0 on flat objects
CONTRAST_FLOOR = 0.02  # image units: windows that vary less count less
OBJECT_ALPHA = 0.5
AROUND_OBJECT = 0.15  # global: share of the side by which the object is widened on a rich backdrop
AROUND_PX = 2  # tile: the same, px
TILE_PX = 8  # side of a window
CUT_PX = 16  # around the silhouette; where nothing else is seen, the cost is a constant


@dataclass(frozen=True)
class Round:
    """Steps at one resolution with fixed weights.

    scale: of the full resolution. calls: systems made at most. light: "global" or "tile".
    robust: Geman-McClure scale; global: in standard deviations of the object's residual; tile: of a
    window's normalised difference, sqrt(2 - 2 correlation).
    silhouette: global: residual of alpha that counts like a colour's standard deviation; tile:
    weight of its windows beside those of colour and reflectance together.
    relax: factor of the first step; later ones measure theirs.
    stop_px: a step that moves the image by less, px at full resolution, is the last, taken unseen.
    """

    scale: float
    calls: int
    light: str
    robust: float
    silhouette: float
    relax: float = 1.0
    stop_px: float = 0.1


@dataclass
class State:
    """Of N hypotheses: pose: world_to_camera [N, 4, 4]; gain, offset: [N, 6], of global light."""

    pose: np.ndarray
    gain: np.ndarray
    offset: np.ndarray

    def take(self, index: np.ndarray) -> State:
        """Those at `index` (numbers or a mask)."""
        return State(self.pose[index], self.gain[index], self.offset[index])

    def put(self, index: np.ndarray, other: State) -> None:
        """Replaces those at `index`."""
        self.pose[index], self.gain[index] = other.pose, other.gain
        self.offset[index] = other.offset


@dataclass
class System:
    """What a call at N states gives.

    cost: [N]; hessian: [N, P, P]; gradient: [N, P]; P = 18 with global light (twist, gains,
    offsets), else 6.
    """

    cost: np.ndarray
    hessian: np.ndarray
    gradient: np.ndarray

    def take(self, index: np.ndarray) -> System:
        """Those at `index` (numbers or a mask)."""
        return System(self.cost[index], self.hessian[index], self.gradient[index])

    def put(self, index: np.ndarray, other: System) -> None:
        """Replaces those at `index`."""
        self.cost[index], self.hessian[index] = other.cost, other.hessian
        self.gradient[index] = other.gradient


@dataclass
class Level:
    """A round's fixed data of N hypotheses: all that the cost depends on beside pose and light.

    Channels are in units of `sigma`, so that one robust scale serves all.
    """

    image: Tensor  # [N, 6, h, w], the queries
    weight: Tensor  # [N, 6, h, w]
    backdrop: Tensor  # [N, 6]
    sigma: np.ndarray  # [N, 6], image units
    prior: np.ndarray  # [N, 6], weight of the light's prior
    robust_scale: float
    silhouette: Tensor | None  # [N, 1, h, w]
    silhouette_weight: Tensor | None
    intrinsics: Intrinsics
    light: str
    direction_term: bool
    blank: Tensor | None = None  # tile: cost of renderings that show nothing, [N]

    def take(self, kept: np.ndarray) -> Level:
        """Those where the mask [N] is true."""
        if kept.all():
            return self
        there = torch.from_numpy(np.flatnonzero(kept)).to(self.image.device)
        images = (self.image, self.weight, self.backdrop, self.silhouette, self.silhouette_weight)
        image, weight, backdrop, silhouette, silhouette_weight = (
            None if x is None else x.index_select(0, there) for x in images
        )
        return replace(
            self,
            image=image,
            weight=weight,
            backdrop=backdrop,
            sigma=self.sigma[kept],
            prior=self.prior[kept],
            silhouette=silhouette,
            silhouette_weight=silhouette_weight,
        )


def on_device(numbers: np.ndarray, like: Tensor) -> Tensor:
    """Numbers of the host as a tensor of the device and type of `like`."""
    return torch.from_numpy(numbers.astype(np.float32)).to(like)


def at_scale(full: Target, scale: float) -> Target:
    """Stacked queries at a share of their resolution, area averages."""
    height, width = full.image.shape[-2:]
    least = min(1.0, MIN_SIDE_PX / min(height, width))
    size = tuple(max(1, round(n * max(scale, least))) for n in (height, width))
    shape = full.silhouette
    intrinsics = full.intrinsics.resized(size[1], size[0])
    image, shape = (None if x is None else area_average(x, size) for x in (full.image, shape))
    return Target(image, full.backdrop, intrinsics, shape)


def shares(reflectance_weight: float, like: Tensor) -> Tensor:
    """Share of each of the six channels, [6]; they add up to 1."""
    return constant(((1 - reflectance_weight) / 3,) * 3 + (reflectance_weight / 3,) * 3, like)


def make_level(
    target: Target, state: State, models: ModelPair, reflectance_weight: float, this: Round
) -> Level:
    """Fixed data of a round that begins at `state`, whose light is fitted anew.

    Args:
        target: the hypotheses' queries at the round's resolution, stacked, [N, ...].
    """
    share = shares(reflectance_weight, target.image)[:, None, None]
    if this.light == "tile":
        return _tile_level(target, state, models, share, this)
    image = target.image
    with torch.no_grad():
        rendering = models.render(on_device(state.pose, image), target.intrinsics)
    gain, offset = fit_light(rendering, image)
    backdrop = seen_backdrop(target, gain, offset, models.background)
    modelled = relit(rendering, gain, offset, backdrop)
    alpha = rendering.cover
    sigma = _robust_scales(modelled - image, alpha > OBJECT_ALPHA)
    weight = (6 * share).expand_as(image)
    if target.backdrop is None:
        reach = 2 * round(AROUND_OBJECT * max(image.shape[-2:])) // 2 * 2 + 1
        weight = weight * F.max_pool2d(alpha, reach, 1, reach // 2)
    packed = torch.stack([gain, offset, sigma, weight.sum((2, 3))]).cpu().double().numpy()
    state.gain, state.offset, on_host, total = packed
    return Level(
        image=image / sigma[..., None, None],
        weight=weight.contiguous(),
        backdrop=(backdrop / sigma).contiguous(),
        sigma=on_host,
        prior=LIGHT_PRIOR * total / on_host**2,
        robust_scale=this.robust,
        **_outline(target, this, 6 / this.silhouette**2 if this.silhouette > 0 else 0.0),
        intrinsics=target.intrinsics,
        light="global",
        direction_term=this.scale == 1.0,
    )


def _outline(target: Target, this: Round, weight: float) -> dict:
    """The silhouettes and their pixels' weight, where they are looked at."""
    shape = target.silhouette if this.silhouette > 0 else None
    weights = None if shape is None else torch.full_like(shape, weight)
    return {"silhouette": shape, "silhouette_weight": weights}


def _tile_level(target: Target, state: State, models: ModelPair, share: Tensor, this: Round):
    """`make_level` where each tile has its own light."""
    target = _around_object(target)
    weight = share.expand_as(target.image)
    if target.backdrop is None:  # what is behind the object is not the models'
        with torch.no_grad():
            seen = models.render(on_device(state.pose, target.image), target.intrinsics)
        weight = weight * F.max_pool2d(seen.cover, 2 * AROUND_PX + 1, 1, AROUND_PX)
    outline = _outline(target, this, this.silhouette)
    return Level(
        image=target.image,
        weight=weight.contiguous(),
        backdrop=models.background.expand(len(target.image), -1).contiguous(),
        sigma=np.ones_like(state.gain),
        prior=np.zeros_like(state.gain),
        robust_scale=this.robust,
        **outline,
        intrinsics=target.intrinsics,
        light="tile",
        direction_term=this.scale == 1.0,
        blank=None if this.scale == 1.0 else _blank_cost(target, weight, outline, this.robust),
    )


def _blank_cost(target: Target, weight: Tensor, outline: dict, scale: float) -> Tensor:
    """Cost [N] of renderings in whose windows nothing is seen."""
    images, weights = [target.image], [weight]
    if outline["silhouette"] is not None:
        images.append(outline["silhouette"])
        weights.append(outline["silhouette_weight"])
    image, weight = torch.cat(images, 1), torch.cat(weights, 1)
    total = F.avg_pool2d(weight, TILE_PX)
    first, second = (
        F.avg_pool2d(weight * x, TILE_PX) / total.clamp_min(1e-12) for x in (image, image.square())
    )
    variance = (second - first.square()).clamp_min(0)
    energy = variance / (variance + CONTRAST_FLOOR**2)
    cost = total * energy / (1 + energy / scale**2)
    return 0.5 * TILE_PX**2 * cost.sum((1, 2, 3))


def _around_object(target: Target) -> Target:
    """Queries cut to whole tiles around their silhouettes: empty windows elsewhere cost time alone.

    On a GPU the wait for the box would cost more.
    """
    if target.silhouette is None:
        return target
    rows, columns = object_box(target.silhouette > 0, TILE_PX, CUT_PX)[1:]
    if (rows.start, columns.start) == (None, None):
        return target
    image, shape = (x[..., rows, columns].contiguous() for x in (target.image, target.silhouette))
    height, width = image.shape[-2:]
    seen = target.intrinsics.cropped(columns.start, rows.start, width, height)
    return Target(image, target.backdrop, seen, shape)


def _robust_scales(residual: Tensor, inside: Tensor) -> Tensor:
    """Standard deviation per channel [N, 6] over the object, from the median (image units)."""
    off = residual.abs().masked_fill(~inside, math.nan)
    sigma = MAD_TO_SIGMA * off.flatten(2).nanmedian(dim=2).values
    return sigma.nan_to_num(10 * ROBUST_FLOOR).clamp_min(ROBUST_FLOOR)


def _call(model, floats: tuple[Tensor, Tensor, Tensor], level: Level, channels: slice, parts: int):
    """Normal equations of one model's channels, packed [N, 1 + P + P^2] (cost, gradient, matrix).

    Args:
        floats: pose [N, 4, 4], gain and offset [N, 6] in the level's units, on the device.
        parts: so many models share the silhouette's weight.
    """
    pose, gain, offset = floats
    outline, light = {}, {}
    if level.silhouette is not None:
        outline["silhouette_target"] = level.silhouette
        weight = level.silhouette_weight
        outline["silhouette_weight"] = weight if parts == 1 else weight / parts
    if level.light == "tile":
        light["light"] = "tile"
        light["contrast_floor"] = CONTRAST_FLOOR
        light["silhouette_scale"] = level.robust_scale
    else:
        light["gain"], light["offset"] = gain[:, channels], offset[:, channels]
    out = pose_system(
        model,
        pose,
        level.intrinsics,
        target=level.image[:, channels],
        weight=level.weight[:, channels],
        backdrop=level.backdrop[:, channels],
        robust_scale=level.robust_scale,
        direction_term=level.direction_term,
        **outline,
        **light,
    )
    return torch.cat([out.cost[:, None], out.g, out.H.flatten(1)], 1).double()


def make_system(models: ModelPair, state: State, level: Level) -> System:
    """Both models in one system, the light's prior included; one call for a shared geometry.

    One copy to the device and one back: what a step waits for.
    """
    if models.joined is not None:
        parts = [(slice(0, 6), models.joined)]
    else:
        parts = [(slice(0, 3), models.colour), (slice(3, 6), models.reflectance)]
    count = len(state.pose)
    light = [state.gain / level.sigma, state.offset / level.sigma]
    packed = on_device(np.concatenate([state.pose.reshape(count, 16), *light], 1), level.image)
    floats = (packed[:, :16].reshape(count, 4, 4), packed[:, 16:22], packed[:, 22:])
    found = [_call(model, floats, level, channels, len(parts)) for channels, model in parts]
    ends = np.cumsum([part.shape[1] for part in found])[:-1]
    found = np.split((found[0] if len(parts) == 1 else torch.cat(found, 1)).cpu().numpy(), ends, 1)
    size = 6 if level.light == "tile" else 18
    if size == 6 and len(parts) == 1:
        system = System(*_unpacked(found[0], 6))
    else:
        system = _joined(found, [channels for channels, _ in parts], size)
    if level.light == "global":
        _to_image_units(system, level)
        _add_prior(system, state, level)
    return system


def _unpacked(packed: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cost [N], matrix [N, size, size] and gradient [N, size] of what `_call` packed."""
    return packed[:, 0], packed[:, 1 + size :].reshape(-1, size, size), packed[:, 1 : 1 + size]


def _joined(found: Sequence[np.ndarray], channels: list[slice], size: int) -> System:
    """One system of the models', whose unknowns are the pose and their own channels' light."""
    count = len(found[0])
    system = System(np.zeros(count), np.zeros((count, size, size)), np.zeros((count, size)))
    for packed, own in zip(found, channels, strict=True):
        index = np.arange(6)
        if size > 6:
            light = np.arange(own.start, own.stop)
            index = np.concatenate([index, 6 + light, 12 + light])
        cost, hessian, gradient = _unpacked(packed, len(index))
        system.cost += cost
        system.hessian[:, index[:, None], index] += hessian
        system.gradient[:, index] += gradient
    return system


def _to_image_units(system: System, level: Level) -> None:
    """From gains and offsets in units of sigma to those of the image."""
    unit = np.concatenate([np.ones_like(level.sigma), *(1 / level.sigma,) * 2], 1)
    system.hessian = unit[:, :, None] * system.hessian * unit[:, None]
    system.gradient = unit * system.gradient


def _add_prior(system: System, state: State, level: Level) -> None:
    """Pulls gains towards 1 and offsets towards 0."""
    prior = np.concatenate([level.prior, level.prior], 1)
    away = np.concatenate([state.gain - 1, state.offset], 1)
    system.hessian[:, range(6, 18), range(6, 18)] += prior
    system.gradient[:, 6:] += prior * away
    system.cost = system.cost + (0.5 * prior * away**2).sum(1)
