"""How much queries and renderings at given poses look alike, whatever the light (ours)."""

from __future__ import annotations

import torch
from torch import Tensor

from piad.models import ModelPair
from piad.refine_config import RefineConfig
from piad.target import Target, object_box, photometric_loss
from retrieval.compare import (
    WINDOW_PX,
    WINDOW_STEP_PX,
    described,
    opponent,
    shrunk,
    similarity,
)

ON_OBJECT = 0.5  # alpha of the rendering from which a pixel lies on the object


@torch.no_grad()
def closeness_of(
    target: Target, poses: Tensor, models: ModelPair, cfg: RefineConfig
) -> list[tuple[float, float]]:
    """Loss and agreement of each pose [N, 4, 4] with its query, by one rendering.

    Agreement, 0..1, is the geometric mean of two windowed correlations at full resolution: that
    of images and silhouettes, and that of the pixels on the object alone, which no outline helps.

    Args:
        target: the poses' queries, stacked, [N, ...].
    """
    seen = models.render(poses.to(target.image), target.intrinsics)
    shown = seen.over(models.background)
    loss = photometric_loss(shown, target.image, cfg.reflectance_weight)
    whole = _alike(shown, seen.cover, target)
    detail = _alike_on_object(shown, seen.cover, target)
    agreement = (whole.clamp_min(0) * detail.clamp_min(0)).sqrt()
    return [tuple(pair) for pair in torch.stack([loss, agreement], 1).tolist()]


def closeness(
    target: Target, world_to_camera: Tensor, models: ModelPair, cfg: RefineConfig
) -> tuple[float, float]:
    """`closeness_of` one pose [4, 4]; the target is not stacked."""
    return closeness_of(Target.stacked([target]), world_to_camera[None], models, cfg)[0]


def _alike(shown: Tensor, alpha: Tensor, target: Target) -> Tensor:
    """Windowed correlation of queries and renderings [N, 6, H, W] with alpha [N, 1, H, W], [N]."""
    known = target.silhouette is not None
    seen = described(shown, alpha if known else None)
    return similarity(described(target.image, target.silhouette), seen)


def _alike_on_object(shown: Tensor, alpha: Tensor, target: Target) -> Tensor:
    """The same of the pixels on the object alone, [N]."""
    on_object = alpha > ON_OBJECT
    # no window that reaches it is cut off, and windows keep their places
    box = object_box(on_object, WINDOW_STEP_PX, WINDOW_PX + WINDOW_STEP_PX)
    inside = on_object[box].to(shown)
    return similarity(opponent(target.image[box]), opponent(shown[box]), inside=inside)


@torch.no_grad()
def likeness_of(small: Tensor, target: Target, poses: Tensor, models: ModelPair) -> list[float]:
    """`retrieval.compare.likeness` of queries and their renderings at poses [N, 4, 4].

    Args:
        small: `shrunk` queries, [N, ...]; target: the stacked queries, of which only the kind is
            looked at.
    """
    seen = models.render(poses.to(small), target.intrinsics)
    alpha = None if target.silhouette is None else seen.cover
    return similarity(small, shrunk(seen.image, alpha)).tolist()
