"""A gallery photograph as another lamp might show it: made up from the model's own shape.

Only what is known of any object is used: the Gaussians' depth gives normals, the normals a diffuse
shading and, where the gallery has shown some (`piad.shine`), a highlight of a made-up lamp, the
depth seen from the lamp its shadows, and a smooth field stands for what its distance does. Mirrored
surroundings are left out, and what the gallery's light drew on the object stays. The normals are
smoothed: the depth of a textureless place is bumpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.render import render
from piad.models import render_one
from piad.reflectance_net import rolled_off
from piad.smoothing import gaussian_smooth
from piad.surface import slope_normals, unit

if TYPE_CHECKING:
    from piad.models import ModelPair

GAMMA = 2.2  # sRGB values to light, near enough for made-up lamps
TINY = 1e-6
AMBIENT = (0.1, 0.4)  # share of the light that comes from everywhere
HIGHLIGHT = (0.3, 1.0)  # light of a highlight's middle, 1 is a white sheet
SHININESS = (8.0, 400.0)  # exponent of Blinn and Phong: from satin to a glaze
POLISHED = 60.0  # exponent below which a highlight, as it widens, dims
SHADOW_DEPTH = 0.02  # of the distance from the lamp: what lies so much farther back is in shadow
SHADOW_BLUR = (0.004, 0.03)  # of the shadows' rims, share of the longer side
LAMP_COLOUR = 0.2  # standard deviation of the logarithm of the lamp's red, green and blue
EXPOSURE = 0.2  # of the logarithm of the mean brightness: cameras expose for the light
FIELD = 0.2  # of the logarithm of the smooth field
FIELD_CELLS = 3  # across the image
NORMAL_SIGMA = 0.04  # smoothing of the normals, share of the longer side


@dataclass(frozen=True, eq=False)
class Surface:
    """What a camera sees of the object's shape, in camera axes: unit normals [3, H, W], points
    [3, H, W], coverage [1, H, W]."""

    normals: Tensor
    points: Tensor
    alpha: Tensor


@torch.inference_mode()
def under_another_lamp(
    photo: Tensor,
    models: ModelPair,
    camera: Camera,
    generator: torch.Generator,
    shine: Tensor | None = None,
) -> Tensor:
    """The photograph [3, H, W], 0..1, under a lamp drawn from `generator` (on the CPU).

    Args:
        shine: what of a highlight each Gaussian shows, 0..1, [N, 1] (`piad.shine`); None: all.
    """
    surface = visible_surface(models, camera)
    ambient, highlight = _uniform(AMBIENT, generator), _uniform(HIGHLIGHT, generator)
    towards = F.normalize(torch.randn(3, generator=generator), dim=0)
    towards[2] = -towards[2].abs()  # on the camera's side
    diffuse, glossy = _lamp(surface, towards.to(photo), generator)
    arriving = _arriving(surface, models, camera, towards, _uniform(SHADOW_BLUR, generator))
    diffuse, glossy = diffuse * arriving, glossy * arriving
    if shine is not None:
        glossy = glossy * render_one(models, camera, shine).image
    shade = ambient + (1 - ambient) * diffuse
    field = _smooth_field(photo, generator)
    backdrop = _colour(generator).to(photo)
    alpha = surface.alpha
    before = photo.clamp(0, 1) ** GAMMA
    light = before * (alpha * shade + (1 - alpha) * backdrop) * field + alpha * highlight * glossy
    exposure = math.exp(EXPOSURE * torch.randn(1, generator=generator).item())
    exposure *= float(before.mean() / light.mean().clamp_min(TINY))
    return rolled_off(light * exposure).clamp_min(0) ** (1 / GAMMA)


def visible_surface(models: ModelPair, camera: Camera) -> Surface:
    """Normals from the slope of the Gaussians' depth."""
    seen = render(models.colour, camera, torch.zeros_like(models.colour.background))
    points = camera.intrinsics.unproject(seen.depth[0])
    normals = slope_normals(points) * seen.alpha
    sigma = NORMAL_SIGMA * max(normals.shape[-2:])
    normals = unit(gaussian_smooth(normals[:, None], sigma)[:, 0])
    return Surface(normals, points, seen.alpha)


def _lamp(surface: Surface, towards: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Diffuse shading and highlight [3, H, W] of a coloured lamp in a direction [3].

    A place that faces the lamp has a diffuse 2, so that the mean over a ball is near 1. Wide
    highlights are dim: the light of a lobe is the same (Blinn and Phong's norm, s + 8).
    """
    normals, towards = surface.normals, towards[:, None, None]
    shininess = math.exp(_uniform((math.log(SHININESS[0]), math.log(SHININESS[1])), generator))
    half = unit(towards - unit(surface.points))
    colour = _colour(generator).to(normals)
    diffuse = 2 * colour * (normals * towards).sum(0).clamp_min(0)
    peak = min(1.0, (shininess + 8) / (POLISHED + 8))
    return diffuse, peak * colour * (normals * half).sum(0).clamp_min(0) ** shininess


def _arriving(
    surface: Surface, models: ModelPair, camera: Camera, towards: Tensor, blur: float
) -> Tensor:
    """Share of a lamp's light that the object doesn't hold off, [1, H, W].

    Args:
        towards: direction to the lamp [3], camera axes; it stands as far away as the camera.
        blur: standard deviation of the shadows' rims, share of the longer side.
    """
    pose, towards = camera.world_to_camera, towards.double().cpu()
    middle = pose[:3, :3] @ models.host_centre + pose[:3, 3]
    across = torch.eye(3, dtype=torch.float64)[towards.abs().argmin()]
    side = F.normalize(torch.linalg.cross(towards, across), dim=0)
    to_lamp = torch.eye(4, dtype=torch.float64)
    to_lamp[:3, :3] = torch.stack([side, torch.linalg.cross(-towards, side), -towards])
    to_lamp[:3, 3] = -to_lamp[:3, :3] @ (middle + middle.norm() * towards)
    lamp = camera.with_pose(to_lamp @ pose)
    seen = render(models.colour, lamp, torch.zeros_like(models.colour.background))
    own, moved = camera.intrinsics, to_lamp.to(surface.points)
    local = torch.einsum("ij,jhw->ihw", moved[:3, :3], surface.points) + moved[:3, 3, None, None]
    depth = local[2].clamp_min(TINY)
    x = (local[0] / depth * own.fx + own.cx) / own.width
    y = (local[1] / depth * own.fy + own.cy) / own.height
    there = torch.cat([seen.depth, seen.alpha])[None]
    grid = 2 * torch.stack([x, y], -1)[None] - 1
    first, covered = F.grid_sample(there, grid, align_corners=False)[0]
    free = (covered < 0.5) | (first > (1 - SHADOW_DEPTH) * depth)
    return gaussian_smooth(free.to(depth)[None, None], blur * max(depth.shape))[0]


def _smooth_field(photo: Tensor, generator: torch.Generator) -> Tensor:
    """A positive field [1, H, W] around 1."""
    coarse = torch.randn(1, 1, FIELD_CELLS, FIELD_CELLS, generator=generator)
    fine = F.interpolate(coarse, photo.shape[-2:], mode="bicubic", align_corners=True)
    return (FIELD * fine[0]).exp().to(photo)


def _colour(generator: torch.Generator) -> Tensor:
    """Strengths of a lamp's red, green and blue, [3, 1, 1], around 1."""
    return (LAMP_COLOUR * torch.randn(3, 1, 1, generator=generator)).exp()


def _uniform(limits: tuple[float, float], generator: torch.Generator) -> float:
    low, high = limits
    return low + (high - low) * torch.rand(1, generator=generator).item()
