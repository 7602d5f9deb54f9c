"""How much queries and renderings at given poses look alike, whatever the light (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from piad.models import ModelPair
from piad.refine_config import RefineConfig
from piad.target import Target, object_box, photometric_loss
from retrieval.compare import (
    WINDOW_PX,
    WINDOW_STEP_PX,
    described,
    shrunk,
    similarity,
)
from retrieval.replay import replayed

ON_OBJECT = 0.5  # alpha of the rendering from which a pixel lies on the object
BOX_STEP_PX = 24  # where boxes begin: whole windows, of the vote too
BOX_MARGIN_PX = 16  # no window that reaches what is seen is cut off


@dataclass
class Sight:
    """What models show of N poses in a box (`object_box`), outside which is backdrop alone.

    shown: over the models' background, [N, 6, h, w]; cover: alpha, [N, 1, h, w]; depth:
    of the colour model, [N, 1, h, w].
    """

    shown: Tensor
    cover: Tensor
    box: tuple
    depth: Tensor

    def first(self, count: int) -> Sight:
        """Of the first so many poses."""
        return Sight(self.shown[:count], self.cover[:count], self.box, self.depth[:count])

    def cut(self, target: Target) -> tuple[Tensor, Tensor | None]:
        """Images and silhouettes of queries in the box."""
        shape = target.silhouette
        return target.image[self.box], None if shape is None else shape[self.box]


def sight(target: Target, poses: Tensor, models: ModelPair) -> Sight:
    """What is seen of poses [k N, 4, 4] of N stacked queries, in the box of all of them.

    It holds silhouettes too; without them it is the whole image.
    """
    seen = models.render(poses.to(target.image), target.intrinsics)
    box = (..., slice(None), slice(None))
    if target.silhouette is not None:
        inside = torch.cat([seen.alpha[:, :1] > 0, target.silhouette > 0])
        box = object_box(inside, BOX_STEP_PX, BOX_MARGIN_PX)
    seen = seen.cut(box)
    return Sight(seen.over(models.background), seen.cover, box, seen.depth)


@torch.no_grad()
def closeness_in(
    seen: Sight, target: Target, background: Tensor, share: float
) -> list[tuple[float, float]]:
    """Loss and agreement of what is seen of each pose with its query.

    Agreement, 0..1, is the geometric mean of two windowed correlations at full resolution: that
    of images and silhouettes, and that of the pixels on the object alone, which no outline helps.

    Args:
        target: the poses' queries, stacked, [N, ...]; share: of reflectance in the loss.
    """
    image, shape = seen.cut(target)
    described_image = described(image, shape)
    described_shown = described(seen.shown, None if shape is None else seen.cover)
    on_object = seen.cover > ON_OBJECT
    images = (described_image, described_shown, on_object)
    (agreement,) = replayed("agreement", _agreement, (), images)
    loss = _whole_loss(seen, target.image, background, share)
    return [tuple(pair) for pair in torch.stack([loss, agreement], 1).tolist()]


def _agreement(image: Tensor, shown: Tensor, on_object: Tensor) -> tuple[Tensor]:
    """Agreement [N] of described images; on_object: [N, 1, h, w]."""
    whole = similarity(image, shown)
    # no window that reaches it is cut off, and windows keep their places
    box = object_box(on_object, WINDOW_STEP_PX, WINDOW_PX + WINDOW_STEP_PX)
    inside = on_object[box].to(image)
    detail = similarity(image[box][:, :6], shown[box][:, :6], inside=inside)
    return ((whole.clamp_min(0) * detail.clamp_min(0)).sqrt(),)


def _whole_loss(seen: Sight, images: Tensor, background: Tensor, share: float) -> Tensor:
    """Photometric loss [N] of whole images, part by part; outside the box only backdrop is seen."""
    rows, columns = seen.box[1:]
    parts = [(seen.shown, images[seen.box])]
    if rows.start is not None:
        backdrop, band = background[:, None, None], images[..., rows, :]
        parts += [(backdrop, images[..., : rows.start, :]), (backdrop, images[..., rows.stop :, :])]
        parts += [(backdrop, band[..., : columns.start]), (backdrop, band[..., columns.stop :])]
    losses = [
        photometric_loss(shown, image, share) * image[0, 0].numel()
        for shown, image in parts
        if image.numel()
    ]
    return torch.stack(losses).sum(0) / images[0, 0].numel()


@torch.no_grad()
def closeness_of(
    target: Target, poses: Tensor, models: ModelPair, share: float
) -> list[tuple[float, float]]:
    """Loss and agreement of each pose [N, 4, 4] with its query (`closeness_in`), by a rendering."""
    return closeness_in(sight(target, poses, models), target, models.background, share)


def closeness(
    target: Target, world_to_camera: Tensor, models: ModelPair, cfg: RefineConfig
) -> tuple[float, float]:
    """`closeness_of` one pose [4, 4]; the target is not stacked."""
    stacked, pose = Target.stacked([target]), world_to_camera[None]
    return closeness_of(stacked, pose, models, cfg.reflectance_weight)[0]


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
