"""A pose found anew from one rendering: its patches are sought around their places (ours).

Gauss-Newton moves a pose by what an image's derivatives reach, a few pixels. Here every patch of a
rendering is correlated with the query at all shifts up to a reach; where a pose would carry the
patches (depth is known) is then looked up in those tables, for thousands of poses without another
rendering. Equations and what was measured: docs/method_refinement.md.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.constants import constant
from piad.models import ModelPair
from piad.target import Target
from retrieval.replay import replayed

PATCH_PX = 8  # a power of 2; they don't overlap: twice as many cost half more and find no more
CONTRAST_FLOOR = 0.02  # image units: patches that vary less count less
LEAST_ALPHA = 0.25  # mean alpha of a patch on the object
LUMA = (0.299, 0.587, 0.114)
SILHOUETTE_WEIGHT = 0.5  # beside colour and reflectance, which are 1 together
CANDIDATES = 300  # poses looked up in a generation
GENERATIONS = 6
ELITE = 30  # the best of a generation, from which the next is drawn
LEAST_SPREAD = 1e-4
WIDER = 16  # patches by which tables grow on a GPU
HAT = ((0, 0, 0, 0, 0, -1, 0, 1, 0), (0, 0, 1, 0, 0, 0, -1, 0, 0), (0, -1, 0, 1, 0, 0, 0, 0, 0))


@dataclass(frozen=True)
class WarpSearch:
    """One search.

    scale: of the full resolution. reach: px there, by which a patch may have moved. shift: standard
    deviation of the first generation's shifts, shares of the distance; turn_deg: of its turns.
    """

    scale: float
    reach: int
    shift: float
    turn_deg: float


def described(image: Tensor, alpha: Tensor | None) -> Tensor:
    """Luma of colour and of reflectance [N, 6, h, w], and alpha [N, 1, h, w]: [N, 2 or 3, h, w]."""
    luma = image.unflatten(1, (2, 3)) * constant(LUMA, image)[:, None, None]
    return luma.sum(2) if alpha is None else torch.cat([luma.sum(2), alpha], 1)


def _seen(models: ModelPair, poses: Tensor, intrinsics: Intrinsics, size: tuple[int, int]):
    """Images over the models' background [N, 6, h, w], alpha and depth [N, 1, h, w], averaged down.

    Args:
        poses: [N, 4, 4].
    """
    with torch.no_grad():
        view = models.render(poses.to(models.background), intrinsics)
    alpha = view.cover
    stacked = torch.cat([view.image, alpha, alpha * view.depth], 1)
    small = area_average(stacked, size)
    image, alpha, depth = small[:, :6], small[:, 6:7], small[:, 7:]
    shown = image + (1 - alpha) * models.background[:, None, None]
    return shown, alpha, depth / alpha.clamp_min(1e-6)


def _patches(images: Tensor) -> Tensor:
    """[N, C, h, w] -> [N, C, pixels of a patch, patches], which don't overlap."""
    rows, columns = (n // PATCH_PX for n in images.shape[-2:])
    whole = images[..., : rows * PATCH_PX, : columns * PATCH_PX]
    parts = whole.unflatten(3, (columns, PATCH_PX)).unflatten(2, (rows, PATCH_PX))
    return parts.permute(0, 1, 3, 5, 2, 4).flatten(4).flatten(2, 3)


def correlation_tables(
    shown: Tensor, query: Tensor, alpha: Tensor, depth: Tensor, weights: Tensor, reach: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised correlation of every patch on the object with the query, at every shift.

    Args:
        shown, query: [N, C, h, w]. alpha, depth: of the rendering, [N, 1, h, w]. weights: [C].
    Returns:
        tables [N, T, 2 reach + 1, 2 reach + 1] (rows: shifts in y); the patches' anchors
        [N, 3, T]: x, y (px) and z (world units) of the middle of what is seen in each; and which
        are patches on the object, [N, T]. Those come first; T is the most that any has, or 1; on a
        GPU the next multiple of WIDER.
    """
    height, width = shown.shape[-2:]
    cover = _patches(alpha)[:, 0]  # [N, pixels, patches]
    on_object = cover.mean(1) > LEAST_ALPHA
    most = max(1, int(on_object.sum(1).max()))  # the one number that is waited for
    if shown.is_cuda:  # few numbers occur, for recordings
        most = min(-(-most // WIDER) * WIDER, on_object.shape[1])
    index = (~on_object).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]  # [N, T]
    y, x = torch.meshgrid(
        torch.arange(height, device=shown.device) + 0.5,
        torch.arange(width, device=shown.device) + 0.5,
        indexing="ij",
    )
    across = torch.stack([x, y]).to(shown).expand(len(shown), -1, -1, -1)
    places = _patches(torch.cat([across, depth], 1))
    anchors = (places * cover[:, None]).sum(2) / cover.sum(1, keepdim=True).clamp_min(1e-6)
    anchors = anchors.gather(2, index[:, None].expand(-1, 3, -1))
    kernels = _normalised(_patches(shown), index)  # [N, C, T, pixels]
    columns = width // PATCH_PX
    corners = torch.stack([index // columns, index % columns]) * PATCH_PX  # [2, N, T]
    padded = F.pad(query, (reach,) * 4, mode="replicate")
    products = _correlated(_squares(padded, corners, PATCH_PX + 2 * reach), kernels)
    mean = _patch_means(padded)
    variance = _patch_means(padded.square()) - mean.square()
    inverse = (variance.clamp_min(0) + CONTRAST_FLOOR**2).rsqrt()
    tables = products * _squares(inverse, corners, 2 * reach + 1)
    tables = (tables * weights[:, None, None, None]).sum(1)
    return tables, anchors, on_object.gather(1, index)


def _patch_means(images: Tensor) -> Tensor:
    """Means over all squares of PATCH_PX [N, C, h - PATCH_PX + 1, ...] of images [N, C, h, w]."""
    for dim in (2, 3):
        reach = 1
        while reach < PATCH_PX:  # sums over 2, 4, 8 px
            count = images.shape[dim] - reach
            images = images.narrow(dim, 0, count) + images.narrow(dim, reach, count)
            reach *= 2
    return images / PATCH_PX**2


def _normalised(patches: Tensor, index: Tensor) -> Tensor:
    """Patches [N, C, pixels, all] at `index` [N, T], mean 0, variance 1: [N, C, T, pixels]."""
    chosen = patches.gather(3, index[:, None, None].expand(-1, *patches.shape[1:3], -1)).mT
    chosen = chosen - chosen.mean(3, keepdim=True)
    return chosen / (chosen.square().mean(3, keepdim=True) + CONTRAST_FLOOR**2).sqrt()


def _squares(images: Tensor, corners: Tensor, side: int) -> Tensor:
    """Squares [N, C, T, side, side] of images [N, C, H, W] from their upper left corners."""
    width = images.shape[-1]
    run = torch.arange(side, device=images.device)
    top, left = corners[..., None] + run  # [N, T, side]
    index = (top[..., :, None] * width + left[..., None, :]).flatten(1)
    found = images.flatten(2).gather(2, index[:, None].expand(-1, images.shape[1], -1))
    return found.unflatten(2, (corners.shape[2], side, side))


def _correlated(regions: Tensor, kernels: Tensor) -> Tensor:
    """Mean products of patches with their regions at every shift.

    Args:
        regions: [N, C, T, S, S]. kernels: [N, C, T, pixels of a patch].
    """
    grouped = regions.flatten(0, 2)[None]
    kernels = kernels.reshape(-1, 1, PATCH_PX, PATCH_PX)
    products = F.conv2d(grouped, kernels, groups=len(kernels))[0] / PATCH_PX**2
    return products.unflatten(0, regions.shape[:3])


@functools.cache
def _draws(device: torch.device) -> Tensor:
    """Numbers of all generations [GENERATIONS, CANDIDATES, 6], standard normal; always the same."""
    generator = torch.Generator().manual_seed(0)  # the same query, the same pose
    drawn = [torch.randn(CANDIDATES, 6, generator=generator) for _ in range(GENERATIONS)]
    drawn = torch.stack(drawn)
    drawn[:, 0] = 0
    return drawn.to(device)


def motions(steps: Tensor, pivot: Tensor) -> Tensor:
    """Rigid motions [..., 4, 4] of steps [..., 6]: shifts in units of the pivot's distance, turns.

    x -> R (x - pivot) + pivot + |pivot| shift, with R Cayley's: it turns by 2 atan(|phi| / 2), a
    little less than |phi|, and takes a fifth of the operations of the exponential.

    Args:
        pivot: [..., 3].
    """
    rotation = _cayley(steps[..., 3:])
    shift = steps[..., :3] * pivot.norm(dim=-1, keepdim=True)
    translation = pivot + shift - (rotation @ pivot[..., None])[..., 0]
    top = torch.cat([rotation, translation[..., None]], -1)
    bottom = torch.eye(4, dtype=steps.dtype, device=steps.device)[3:]
    return torch.cat([top, bottom.expand(*top.shape[:-2], 1, 4)], -2)


def _cayley(phi: Tensor) -> Tensor:
    """Rotations [..., 3, 3] about vectors [..., 3], by about their length."""
    half = 0.5 * phi
    skew = (half @ constant(HAT, phi)).unflatten(-1, (3, 3))
    factor = 2 / (1 + half.square().sum(-1))
    turn = factor[..., None, None] * (skew + skew @ skew)
    return turn + torch.eye(3, dtype=phi.dtype, device=phi.device)


def best_warp(
    tables: Tensor, anchors: Tensor, kept: Tensor, intrinsics: Intrinsics, pivot: Tensor,
    spread: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Steps [N, 6] of the cameras whose warps of the anchors are most alike, by cross-entropy.

    With them the best mean correlation of the patches, and that where they are, [N].

    Args:
        tables, anchors, kept: of `correlation_tables`.
        pivot: [N, 3], see `motions`; spread: [6], the first deviations of the steps.
    """
    k = intrinsics
    pinhole = constant((((k.fx,), (k.fy,)), ((k.cx,), (k.cy,))), tables)
    shared, rows = (pinhole, spread, _draws(tables.device)), (tables, anchors, kept, pivot)
    return replayed("warp", _evolved, shared, rows)


def _evolved(
    pinhole: Tensor, spread: Tensor, draws: Tensor,
    tables: Tensor, anchors: Tensor, kept: Tensor, pivot: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`best_warp` of tensors alone. Focal lengths and middle, pinhole: [2, 2, 1]."""
    reach, count = tables.shape[-1] // 2, len(tables)
    places, z = anchors.split([2, 1], 1)
    points = torch.cat([(places - pinhole[1]) / pinhole[0] * z, z], 1) - pivot[..., None]
    offset = ((pinhole[1] - places) / reach)[:, None]  # [N, 1, 2, T]
    focal = pinhole[0] / reach
    distance, pivot = pivot.norm(dim=1)[:, None, None], pivot[:, None]
    share = kept / kept.sum(1, keepdim=True).clamp_min(1)  # [N, T]
    flat = tables.flatten(0, 1)[:, None]
    middle = tables.new_zeros(count, 6)
    deviation = spread.expand(count, -1)
    scores = []
    for numbers in draws:
        drawn = middle[:, None] + deviation[:, None] * numbers  # [N, K, 6]
        turned = _cayley(drawn[..., 3:]).flatten(1, 2) @ points  # [N, K 3, T]
        moved = turned.unflatten(1, (-1, 3)) + (pivot + distance * drawn[..., :3])[..., None]
        seen = moved[:, :, :2] / moved[:, :, 2:].clamp_min(1e-6)  # [N, K, 2, T]
        grid = torch.addcmul(offset, seen, focal).permute(0, 3, 1, 2).flatten(0, 1)
        found = F.grid_sample(flat, grid[:, None], align_corners=True)  # 0 beyond the reach
        score = (share[:, None] @ found.view(count, -1, CANDIDATES))[:, 0]  # [N, K]
        values, chosen = score.topk(ELITE)
        scores.append(score[:, 0])  # of the middle
        elite = drawn.gather(1, chosen[..., None].expand(-1, -1, 6))
        middle, deviation = elite.mean(1), elite.std(1).clamp_min(LEAST_SPREAD)
    return middle, values[:, 0], scores[0]


def warp_search(
    full: Intrinsics, query: Target, poses: Tensor, models: ModelPair, search: WarpSearch,
    reflectance_weight: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The poses [N, 4, 4] that one search from `poses` finds, how well patches match, and matched
    at the start, [N].

    Float64, on the CPU.

    Args:
        full: pinhole at full resolution; query: the queries at the search's, stacked [N, ...].
    """
    shape = query.silhouette
    image, alpha, depth = _seen(models, poses, full, tuple(query.image.shape[-2:]))
    outline = () if shape is None else (SILHOUETTE_WEIGHT,)
    tables, anchors, kept = correlation_tables(
        described(image, None if shape is None else alpha),
        described(query.image, shape),
        alpha,
        depth,
        constant((1 - reflectance_weight, reflectance_weight, *outline), image),
        search.reach,
    )
    pivot = poses[:, :3, :3] @ models.host_centre + poses[:, :3, 3]
    spread = constant((search.shift,) * 3 + (math.radians(search.turn_deg),) * 3, image)
    step, *scores = best_warp(tables, anchors, kept, query.intrinsics, pivot.to(tables), spread)
    found = torch.cat([step, torch.stack([*scores, kept[:, 0]], 1)], 1).cpu().double()
    moved = motions(found[:, :6], pivot) @ poses
    # from where nothing is in view, or less than a patch, there is nowhere to go
    return torch.where(found[:, 8, None, None] > 0, moved, poses), found[:, 6], found[:, 7]
