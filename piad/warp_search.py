"""A pose found anew from one rendering: its patches are sought around their places (ours).

Gauss-Newton moves a pose by what an image's derivatives reach, a few pixels. Here every patch of a
rendering is correlated with the query at all shifts up to a reach; where a pose would carry the
patches (depth is known) is then looked up in those tables, for thousands of poses without another
rendering. Equations and what was measured: docs/method_refinement.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.render import render
from gaussian_renderer.se3 import pivoted_basis, se3_exp
from piad.models import ModelPair
from piad.target import Target

PATCH_PX = 8
STRIDE_PX = 8  # as many px as a patch: half of it costs half more and finds no more
CONTRAST_FLOOR = 0.02  # image units: patches that vary less count less
LEAST_ALPHA = 0.25  # mean alpha of a patch on the object
LUMA = (0.299, 0.587, 0.114)
SILHOUETTE_WEIGHT = 0.5  # beside colour and reflectance, which are 1 together
CANDIDATES = 300  # poses looked up in a generation
GENERATIONS = 6
ELITE = 30  # the best of a generation, from which the next is drawn
LEAST_SPREAD = 1e-4


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
    """Luma of colour and of reflectance [6, h, w], and alpha [1, h, w]: [2 or 3, h, w]."""
    luma = image.unflatten(0, (2, 3)) * image.new_tensor(LUMA)[:, None, None]
    return luma.sum(1) if alpha is None else torch.cat([luma.sum(1), alpha])


def _seen(models: ModelPair, pose: Tensor, intrinsics: Intrinsics, size: tuple[int, int]):
    """Image over the models' background [6, h, w], alpha and depth [1, h, w], averaged down."""
    viewmat = pose.to(models.background)
    black = torch.zeros_like(models.background)
    with torch.no_grad():
        if models.joined is not None:
            view = render(models.joined, Camera(intrinsics, pose), black, viewmat=viewmat)
            image, alpha, depth = view.image, view.alpha, view.depth
        else:
            views = [
                render(model, Camera(intrinsics, pose), black[:3], viewmat=viewmat)
                for model in (models.colour, models.reflectance)
            ]
            image = torch.cat([view.image for view in views])
            alpha, depth = views[0].alpha, views[0].depth
    stacked = torch.cat([image, alpha, alpha * depth])[None]
    small = F.interpolate(stacked, size, mode="area")[0]
    image, alpha, depth = small[:6], small[6:7], small[7:]
    shown = image + (1 - alpha) * models.background[:, None, None]
    return shown, alpha, depth / alpha.clamp_min(1e-6)


def _patches(images: Tensor) -> Tensor:
    """[C, h, w] -> [C, pixels of a patch, patches]."""
    found = F.unfold(images[None], PATCH_PX, stride=STRIDE_PX)[0]
    return found.unflatten(0, (len(images), -1))


def correlation_tables(
    shown: Tensor, query: Tensor, alpha: Tensor, depth: Tensor, weights: Tensor, reach: int
) -> tuple[Tensor, Tensor]:
    """Normalised correlation of every patch on the object with the query, at every shift.

    Args:
        shown, query: [C, h, w]. alpha, depth: of the rendering, [1, h, w]. weights: [C].
    Returns:
        tables [T, 2 reach + 1, 2 reach + 1] (rows: shifts in y), and the patches' anchors [3, T]:
        x, y (px) and z (world units) of the middle of what is seen in each.
    """
    channels, height, width = shown.shape
    cover = _patches(alpha)[0]
    kept = cover.mean(0) > LEAST_ALPHA
    y, x = torch.meshgrid(
        torch.arange(height, device=shown.device) + 0.5,
        torch.arange(width, device=shown.device) + 0.5,
        indexing="ij",
    )
    places = _patches(torch.stack([x, y, depth[0]]).to(shown))
    anchors = ((places * cover).sum(1) / cover.sum(0).clamp_min(1e-6))[:, kept]
    patches = _patches(shown)[:, :, kept]
    patches = patches - patches.mean(1, keepdim=True)
    spread = (patches.square().mean(1, keepdim=True) + CONTRAST_FLOOR**2).sqrt()
    kernels = (patches / spread).transpose(1, 2).flatten(0, 1)  # [C T, pixels]
    across = (width - PATCH_PX) // STRIDE_PX + 1
    index = torch.nonzero(kept)[:, 0]
    top, left = index // across * STRIDE_PX, index % across * STRIDE_PX

    def around(images: Tensor, side: int) -> Tensor:
        """Squares [C, T, side, side] of images [C, H, W] from the patches' upper left corners."""
        run = torch.arange(side, device=images.device)
        rows, columns = top[:, None] + run, left[:, None] + run
        return images[:, rows[:, :, None], columns[:, None, :]]

    padded = F.pad(query[None], (reach,) * 4, mode="replicate")[0]
    regions = around(padded, PATCH_PX + 2 * reach).flatten(0, 1)  # [C T, S, S]
    kernels = kernels.reshape(-1, 1, PATCH_PX, PATCH_PX)
    products = F.conv2d(regions[None], kernels, groups=len(kernels))[0] / PATCH_PX**2
    mean = F.avg_pool2d(padded[None], PATCH_PX, 1)[0]
    variance = F.avg_pool2d(padded.square()[None], PATCH_PX, 1)[0] - mean.square()
    inverse = (variance.clamp_min(0) + CONTRAST_FLOOR**2).rsqrt()
    tables = products.unflatten(0, (channels, -1)) * around(inverse, 2 * reach + 1)
    return (tables * weights[:, None, None, None]).sum(0), anchors


def best_warp(
    tables: Tensor, anchors: Tensor, intrinsics: Intrinsics, basis: Tensor, spread: Tensor,
    generator: torch.Generator,
) -> Tensor:  # fmt: skip
    """Twist [6] of the camera whose warp of the anchors is most alike, by the cross-entropy method.

    Args:
        tables, anchors: of `correlation_tables`.
        basis: [6, 6] from the numbers drawn to twists; spread: [6], their first deviations.
        generator: on the CPU.
    """
    k, reach = intrinsics, tables.shape[-1] // 2
    z = anchors[2]
    points = torch.stack([(anchors[0] - k.cx) / k.fx * z, (anchors[1] - k.cy) / k.fy * z, z])
    middle, deviation = torch.zeros_like(spread), spread.clone()
    for _ in range(GENERATIONS):
        drawn = torch.randn(CANDIDATES, 6, generator=generator).to(spread)
        drawn[0] = 0
        drawn = middle + deviation * drawn
        motion = se3_exp(drawn @ basis.T)
        moved = motion[:, :3, :3] @ points + motion[:, :3, 3:]  # [N, 3, T]
        depth = moved[:, 2].clamp_min(1e-6)
        right = k.fx * moved[:, 0] / depth + k.cx - anchors[0]
        down = k.fy * moved[:, 1] / depth + k.cy - anchors[1]
        grid = torch.stack([right, down], -1).transpose(0, 1)[:, None] / reach  # [T, 1, N, 2]
        found = F.grid_sample(tables[:, None], grid, align_corners=True)  # 0 beyond the reach
        best = drawn[found[:, 0, 0].mean(0).topk(ELITE).indices]
        middle, deviation = best.mean(0), best.std(0).clamp_min(LEAST_SPREAD)
    return basis @ middle


def warp_search(
    target: Target, query: Target, pose: Tensor, models: ModelPair, search: WarpSearch,
    reflectance_weight: float,
) -> Tensor:  # fmt: skip
    """The pose [4, 4], float64, that one search from `pose` finds.

    Args:
        target: the query at full resolution; query: at the search's.
    """
    shape = query.silhouette
    size = tuple(query.image.shape[-2:])
    image, alpha, depth = _seen(models, pose, target.intrinsics, size)
    weights = [1 - reflectance_weight, reflectance_weight] + [SILHOUETTE_WEIGHT] * (
        shape is not None
    )
    if not bool((_patches(alpha)[0].mean(0) > LEAST_ALPHA).any()):
        return pose  # nothing is in view, or it is smaller than a patch
    tables, anchors = correlation_tables(
        described(image, None if shape is None else alpha),
        described(query.image, shape),
        alpha,
        depth,
        image.new_tensor(weights),
        search.reach,
    )
    pivot = pose[:3, :3] @ models.centre.to(pose) + pose[:3, 3]
    basis = pivoted_basis(pivot, pivot.norm())
    spread = torch.tensor([search.shift] * 3 + [math.radians(search.turn_deg)] * 3)
    generator = torch.Generator().manual_seed(0)  # the same query, the same pose
    twist = best_warp(
        tables, anchors, query.intrinsics, basis.to(tables), spread.to(tables), generator
    )
    return se3_exp(twist.to(pose)) @ pose
