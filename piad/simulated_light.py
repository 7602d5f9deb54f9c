"""A gallery photograph as another lamp might show it: made up from the model's own shape.

Only what is known of any object is used: the Gaussians' depth gives normals, the normals a diffuse
shading and a highlight of a made-up lamp, and a smooth field stands for what its distance does.
Cast shadows and mirrored surroundings are left out, and what the gallery's light drew on the object
stays. The normals are smoothed: the depth of a textureless place is bumpy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.render import render
from piad.anomaly_map import gaussian_smooth

if TYPE_CHECKING:
    from piad.models import ModelPair

GAMMA = 2.2  # sRGB values to light, near enough for made-up lamps
TINY = 1e-6
AMBIENT = (0.1, 0.4)  # share of the light that comes from everywhere
HIGHLIGHT = (0.3, 1.0)  # light of a highlight's middle, 1 is a white sheet
SHININESS = (8.0, 60.0)  # exponent of Blinn and Phong: from satin to polished
LAMP_COLOUR = 0.2  # standard deviation of the logarithm of the lamp's red, green and blue
EXPOSURE = 0.2  # of the logarithm of the mean brightness: cameras expose for the light
FIELD = 0.2  # of the logarithm of the smooth field
FIELD_CELLS = 3  # across the image
NORMAL_SIGMA = 0.02  # smoothing of the normals, share of the longer side


@dataclass(frozen=True, eq=False)
class Surface:
    """What a camera sees of the object's shape, in camera axes: unit normals [3, H, W], unit
    directions to the camera [3, H, W], coverage [1, H, W]."""

    normals: Tensor
    to_camera: Tensor
    alpha: Tensor


@torch.inference_mode()
def under_another_lamp(
    photo: Tensor, models: ModelPair, camera: Camera, generator: torch.Generator
) -> Tensor:
    """The photograph [3, H, W], 0..1, under a lamp drawn from `generator` (on the CPU)."""
    surface = visible_surface(models, camera)
    ambient, highlight = _uniform(AMBIENT, generator), _uniform(HIGHLIGHT, generator)
    diffuse, glossy = _lamp(surface, generator)
    shade = ambient + (1 - ambient) * diffuse
    field = _smooth_field(photo, generator)
    backdrop = _colour(generator).to(photo)
    alpha = surface.alpha
    before = photo.clamp(0, 1) ** GAMMA
    light = before * (alpha * shade + (1 - alpha) * backdrop) * field + alpha * highlight * glossy
    exposure = math.exp(EXPOSURE * torch.randn(1, generator=generator).item())
    exposure *= float(before.mean() / light.mean().clamp_min(TINY))
    return (light * exposure).clamp(0, 1) ** (1 / GAMMA)


def visible_surface(models: ModelPair, camera: Camera) -> Surface:
    """Normals from the slope of the Gaussians' depth."""
    seen = render(models.colour, camera, torch.zeros_like(models.colour.background))
    points = _unproject(seen.depth[0], camera.intrinsics)
    across, down = torch.zeros_like(points), torch.zeros_like(points)
    across[:, :, 1:-1] = points[:, :, 2:] - points[:, :, :-2]
    down[:, 1:-1] = points[:, 2:] - points[:, :-2]
    normals = F.normalize(torch.linalg.cross(down, across, dim=0), dim=0) * seen.alpha
    sigma = NORMAL_SIGMA * max(normals.shape[-2:])
    normals = F.normalize(gaussian_smooth(normals[:, None], sigma)[:, 0], dim=0)
    return Surface(normals, -F.normalize(points, dim=0), seen.alpha)


def _unproject(depth: Tensor, intrinsics: Intrinsics) -> Tensor:
    """Points [3, H, W] of a depth image [H, W], camera axes."""
    x = (torch.arange(intrinsics.width).to(depth) + 0.5 - intrinsics.cx) / intrinsics.fx
    y = (torch.arange(intrinsics.height).to(depth) + 0.5 - intrinsics.cy) / intrinsics.fy
    rays = torch.stack([x.expand_as(depth), y[:, None].expand_as(depth), torch.ones_like(depth)])
    return rays * depth


def _lamp(surface: Surface, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Diffuse shading and highlight [3, H, W] of a coloured lamp on the camera's side.

    A place that faces the lamp has a diffuse 2, so that the mean over a ball is near 1.
    """
    normals = surface.normals
    shininess = math.exp(_uniform((math.log(SHININESS[0]), math.log(SHININESS[1])), generator))
    direction = F.normalize(torch.randn(3, generator=generator), dim=0)
    direction[2] = -direction[2].abs()
    direction = direction.to(normals)[:, None, None]
    half = F.normalize(surface.to_camera + direction, dim=0)
    colour = _colour(generator).to(normals)
    diffuse = 2 * colour * (normals * direction).sum(0).clamp_min(0)
    return diffuse, colour * (normals * half).sum(0).clamp_min(0) ** shininess


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
