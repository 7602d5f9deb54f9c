"""What the models know of the surface that a camera sees: how it faces the camera, its gloss.

Ours. A lamp's or the sky's reflection is strong where a surface is seen at a grazing angle, and
where colours depended on the view in the gallery: the change net is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaussian_renderer.area import area_average
from gaussian_renderer.camera import unproject
from piad.models import render_one
from piad.smoothing import gaussian_smooth

if TYPE_CHECKING:
    from gaussian_renderer.camera import Camera
    from piad.models import ModelPair

NUM_SURFACE = 2
SMOOTHED_PX = 1.0  # points, at twice the maps' size, before their slope is taken
TINY = 1e-12
GLOSS_UNIT = 0.1  # standard deviation of a colour, 0..1, that is written as 1


@torch.inference_mode()
def surface_maps(models: ModelPair, cameras: Sequence[Camera], size: tuple[int, int]) -> Tensor:
    """Cosine between normal and line of sight (0 on the backdrop), and gloss: [B, 2, h, w].

    Args:
        size: of the maps (h, w); the cameras' images are rendered at twice that.
    """
    small = [camera.resized(2 * size[1], 2 * size[0]) for camera in cameras]
    seen = render_one(models, small, models.gloss)
    points = unproject(seen.depth[:, 0], [camera.intrinsics for camera in small])
    points = gaussian_smooth(points.flatten(0, 1)[:, None], SMOOTHED_PX).reshape(points.shape)
    facing = (slope_normals(points) * unit(points)).sum(1, keepdim=True).abs() * seen.alpha
    return area_average(torch.cat([facing, seen.image / GLOSS_UNIT], 1), size)


def slope_normals(points: Tensor) -> Tensor:
    """Unit normals from how the points that pixels show follow each other, [..., 3, H, W] both."""
    across, down = torch.zeros_like(points), torch.zeros_like(points)
    across[..., 1:-1] = points[..., 2:] - points[..., :-2]
    down[..., 1:-1, :] = points[..., 2:, :] - points[..., :-2, :]
    return unit(torch.linalg.cross(down, across, dim=-3))


def unit(vectors: Tensor) -> Tensor:
    """Vectors [..., 3, H, W] of length 1, or 0 where they are; `normalize` is slow on CPUs."""
    return vectors / vectors.square().sum(-3, keepdim=True).sqrt_().clamp_min_(TINY)
