"""How much a model's colours depend on the view, and colours that depend on it less (ours)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pose_rasterizer.reference import sh_basis
from torch import Tensor

from gaussian_renderer.gaussians import SH_C0, GaussianModel

LEAST_FACING = 1e-3  # weight of a camera that a Gaussian turns its back on


@torch.no_grad()
def colours_from_all_sides(
    model: GaussianModel, positions: Tensor, centre: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of each Gaussian's colour over some cameras, [N, 3] each.

    Args:
        positions: of the cameras, world units, [V, 3]; each counts as the cosine by which a
            Gaussian faces it, outward from the object's centre [3].
    """
    outward = F.normalize(model.means - centre, dim=1)
    total, mean = torch.zeros_like(outward[:, :1]), torch.zeros_like(model.sh[:, 0])
    square = torch.zeros_like(mean)
    for position in positions:
        direction = F.normalize(model.means - position, dim=1)
        facing = -(outward * direction).sum(1, keepdim=True)
        weight = facing.clamp_min(0) + LEAST_FACING
        colour = (sh_basis(model.sh_degree, direction)[:, :, None] * model.sh).sum(1)
        total = total + weight
        mean, square = mean + weight * colour, square + weight * colour.square()
    mean = mean / total
    return mean, (square / total - mean.square()).clamp_min(0)


def evened_colours(model: GaussianModel, mean: Tensor, share: float) -> GaussianModel:
    """The model with a share of its view dependence about each Gaussian's `mean` colour [N, 3].

    Args:
        share: 1 leaves colours as they are, 0 gives each Gaussian its mean from all sides.
    """
    flat = torch.zeros_like(model.sh)
    flat[:, 0] = mean / SH_C0
    return model.with_sh(torch.lerp(flat, model.sh, share), model.background)
