"""Models whose colours depend less on the view: their highlights are the gallery lamps'.

Ours. Spherical harmonics learn where the gallery's lamps mirror. Under another lamp nothing mirrors
there, so that all of it makes a photograph differ; without any of it, one under the gallery's lamps
does. Half serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from pose_rasterizer.reference import SH_C0, sh_basis
from torch import Tensor

from piad.models import ModelPair

if TYPE_CHECKING:
    from gaussian_renderer.camera import Camera
    from gaussian_renderer.gaussians import GaussianModel

LEAST_FACING = 1e-3  # weight of a camera that a Gaussian turns its back on


@torch.no_grad()
def evened(models: ModelPair, cameras: Sequence[Camera], share: float) -> ModelPair:
    """The pair with a share of its view dependence about its mean over the gallery's cameras.

    Args:
        cameras: each counts as the cosine by which a Gaussian faces it, outward from the object's
            centre.
        share: 1 gives the pair itself.
    """
    if share == 1:
        return models
    positions = torch.stack([camera.position for camera in cameras]).to(models.background)
    parts = (
        _evened(model, positions, models.centre, share)
        for model in (models.colour, models.reflectance)
    )
    return ModelPair(*parts)


def _evened(model: GaussianModel, positions: Tensor, centre: Tensor, share: float) -> GaussianModel:
    if model.sh_degree == 0:
        return model
    outward = F.normalize(model.means - centre, dim=1)
    total, mean = torch.zeros_like(outward[:, :1]), torch.zeros_like(model.sh[:, 0])
    for position in positions:
        direction = F.normalize(model.means - position, dim=1)
        facing = -(outward * direction).sum(1, keepdim=True)
        weight = facing.clamp_min(0) + LEAST_FACING
        colour = (sh_basis(model.sh_degree, direction)[:, :, None] * model.sh).sum(1)
        total, mean = total + weight, mean + weight * colour
    flat = torch.zeros_like(model.sh)
    flat[:, 0] = mean / total / SH_C0
    return model.with_sh(torch.lerp(flat, model.sh, share), model.background)
