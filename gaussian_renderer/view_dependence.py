"""Colours that depend less on the view than a model has learnt (ours)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pose_rasterizer.reference import sh_basis
from torch import Tensor

from gaussian_renderer.gaussians import SH_C0, GaussianModel

LEAST_FACING = 1e-3  # weight of a camera that a Gaussian turns its back on


@torch.no_grad()
def evened_colours(
    model: GaussianModel, positions: Tensor, centre: Tensor, share: float
) -> GaussianModel:
    """The model with a share of its view dependence about its mean over some cameras.

    Args:
        positions: of the cameras, world units, [V, 3]; each counts as the cosine by which a
            Gaussian faces it, outward from the object's centre [3].
        share: 1 leaves colours as they are, 0 gives each Gaussian its mean from all sides.
    """
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
