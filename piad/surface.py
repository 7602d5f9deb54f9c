"""What the models know of the surface that a camera sees: how it faces the camera, its gloss.

Ours. A lamp's or the sky's reflection is strong where a surface is seen at a grazing angle, and
where colours depended on the view in the gallery: the change net is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from piad.models import render_one
from piad.smoothing import gaussian_smooth

if TYPE_CHECKING:
    from gaussian_renderer.camera import Camera
    from piad.models import ModelPair

NUM_SURFACE = 2
SMOOTHED_PX = 1.0  # points, at twice the maps' size, before their slope is taken
GLOSS_UNIT = 0.1  # standard deviation of a colour, 0..1, that is written as 1


@torch.inference_mode()
def surface_maps(models: ModelPair, camera: Camera, size: tuple[int, int]) -> Tensor:
    """Cosine between normal and line of sight (0 on the backdrop), and gloss: [2, h, w].

    Args:
        size: of the maps (h, w); the camera's image is rendered at twice that.
    """
    small = camera.resized(2 * size[1], 2 * size[0])
    seen = render_one(models, small, models.gloss)
    points = gaussian_smooth(small.intrinsics.unproject(seen.depth[0])[:, None], SMOOTHED_PX)[:, 0]
    line_of_sight = F.normalize(points, dim=0)
    facing = (slope_normals(points) * line_of_sight).sum(0, keepdim=True).abs() * seen.alpha
    return area_average(torch.cat([facing, seen.image / GLOSS_UNIT])[None], size)[0]


def slope_normals(points: Tensor) -> Tensor:
    """Unit normals [3, H, W] from how the points [3, H, W] that pixels show follow each other."""
    across, down = torch.zeros_like(points), torch.zeros_like(points)
    across[:, :, 1:-1] = points[:, :, 2:] - points[:, :, :-2]
    down[:, 1:-1] = points[:, 2:] - points[:, :-2]
    return F.normalize(torch.linalg.cross(down, across, dim=0), dim=0)
