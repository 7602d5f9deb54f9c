"""A small object with distinct sides, its gallery and queries, for the start-pose tests."""

import math

import torch

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import SH_C0, GaussianModel
from gaussian_renderer.render import render
from tests.gaussian_scene import look_at

SIZE = 128


def patchwork(count=1500, channels=6, seed=0, radii=(0.9, 0.6, 0.7)):
    """An opaque ellipsoid covered with patches of random colours: every side looks different."""
    g = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    patches = torch.nn.functional.normalize(torch.randn(60, 3, generator=g), dim=1)
    palette = 0.1 + 0.8 * torch.rand(60, 3, generator=g)
    colours = palette[(normals @ patches.T).argmax(1)]
    colours = colours.repeat(1, channels // 3)
    return GaussianModel(
        means=normals * torch.tensor(radii),
        quats=torch.randn(count, 4, generator=g),
        log_scales=torch.full((count, 3), math.log(0.035)),
        logit_opacities=torch.full((count,), 4.0),
        sh=((colours - 0.5) / SH_C0)[:, None],
        background=torch.full((channels,), 0.85),
    )


def orbit(count=16, size=SIZE, radius=3.6):
    """Cameras around the object at changing heights."""
    intrinsics = Intrinsics.from_fov_x(0.7, size, size)
    cameras = []
    for i in range(count):
        turn, height = 2 * math.pi * i / count, 1.2 * math.sin(2.4 * i)
        flat = math.sqrt(radius**2 - height**2)
        position = (flat * math.cos(turn), flat * math.sin(turn), height)
        cameras.append(Camera(intrinsics, look_at(position)))
    return cameras


def query_camera(turn, height=0.3, radius=3.7, intrinsics=None):
    """A camera between those of the orbit; `turn` in rad."""
    flat = math.sqrt(radius**2 - height**2)
    position = (flat * math.cos(turn), flat * math.sin(turn), height)
    intrinsics = intrinsics or Intrinsics.from_fov_x(0.7, SIZE, SIZE)
    return Camera(intrinsics, look_at(position, (0.03, -0.02, 0.02)))


def shoot(model, camera):
    """(photograph, reflectance) [3, H, W] of a six-channel model."""
    with torch.no_grad():
        image = render(model, camera).image.clamp(0, 1)
    return image[:3], image[3:]


def relit(photograph):
    """The photograph under a light that falls off from left to right and is warmer."""
    width = photograph.shape[2]
    fall = torch.linspace(1.0, 0.55, width)
    tint = torch.tensor([1.0, 0.9, 0.75])[:, None, None]
    return (photograph * fall * tint).clamp(0, 1)
