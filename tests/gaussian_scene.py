"""A tiny scene with a known answer: Gaussians on a ball, seen by cameras on a ring."""

import math

import torch

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import SH_C0, GaussianModel
from gaussian_renderer.render import render

SIZE = 48


def look_at(position, target=(0.0, 0.0, 0.0)):
    """world_to_camera [4, 4] of a camera at `position` with the world's z upwards."""
    position = torch.tensor(position, dtype=torch.float64)
    forward = torch.nn.functional.normalize(
        torch.tensor(target, dtype=torch.float64) - position, dim=0
    )
    right = torch.linalg.cross(forward, torch.tensor([0.0, 0, 1], dtype=torch.float64))
    right = torch.nn.functional.normalize(right, dim=0)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    matrix[:3, 3] = -matrix[:3, :3] @ position
    return matrix


def ring_of_cameras(count, size=SIZE, radius=4.0):
    intrinsics = Intrinsics.from_fov_x(0.7, size, size)
    cameras = []
    for i in range(count):
        turn, height = 2 * math.pi * i / count, radius * math.sin(0.9 * math.sin(2.4 * i))
        flat = math.sqrt(radius**2 - height**2)
        position = (flat * math.cos(turn), flat * math.sin(turn), height)
        cameras.append(Camera(intrinsics, look_at(position)))
    return cameras


def camera_at(distance, side=400, shift=0.0):
    """A camera that looks at the origin from so far, then moved aside by `shift`."""
    pose = look_at((distance, 0.0, 0.5))
    pose[0, 3] += shift
    return Camera(Intrinsics.from_fov_x(0.7, side, side), pose)


def ball(count=150, channels=3, background=(0.9, 0.8, 0.7), seed=0):
    """Opaque Gaussians of smoothly varying colours on a ball of radius 0.8."""
    g = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    phase = torch.arange(channels)
    colours = 0.4 + 0.35 * torch.sin(3 * normals @ torch.ones(3, 1) + 1.3 * phase)
    quats = torch.randn(count, 4, generator=g)
    repeats = -(-channels // 3)
    return GaussianModel(
        means=0.8 * normals,
        quats=quats,
        log_scales=torch.full((count, 3), math.log(0.09)),
        logit_opacities=torch.full((count,), 3.0),
        sh=((colours - 0.5) / SH_C0)[:, None],
        background=torch.tensor((background * repeats)[:channels]),
    )


def photos(model, cameras):
    with torch.no_grad():
        return [render(model, camera).image.clamp(0, 1) for camera in cameras]
