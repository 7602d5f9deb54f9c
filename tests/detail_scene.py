"""A grey sheet with a print that its models lack, photographed from aside."""

from dataclasses import dataclass

import torch

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import GaussianModel

SIDE, DISTANCE = 48, 3.0


@dataclass
class Photo:
    id: str
    camera: Camera
    pixels: torch.Tensor

    def image(self):
        return self.pixels


def sheet(step=0.06, half=0.72, z=0.0):
    """Centres [N, 3] of Gaussians that tile a square of the plane at height z."""
    along = torch.arange(-half, half + step / 2, step)
    x, y = torch.meshgrid(along, along, indexing="xy")
    return torch.stack([x.flatten(), y.flatten(), torch.full((x.numel(),), z)], 1)


def grey(means):
    """Opaque grey Gaussians that leave no gap between neighbours of a sheet."""
    n = len(means)
    return GaussianModel(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1),
        log_scales=torch.tensor([0.05, 0.05, 0.001]).log().repeat(n, 1),
        logit_opacities=torch.full((n,), 0.99).logit(),
        sh=torch.zeros(n, 1, 3),
        background=torch.tensor([0.2, 0.3, 0.4]),
    )


def camera_at(x):
    """Looks along z at the plane z = 0 from `DISTANCE`, `x` aside."""
    viewmat = torch.eye(4, dtype=torch.float64)
    viewmat[0, 3], viewmat[2, 3] = -x, DISTANCE
    return Camera(Intrinsics.from_fov_x(0.6, SIDE, SIDE), viewmat)


def texture(camera):
    """A print on the plane z = 0, as the camera sees it, [H, W]."""
    pixels = torch.arange(SIDE) + 0.5 - SIDE / 2
    world = pixels / camera.intrinsics.fx * DISTANCE
    x, y = world + float(camera.position[0]), world[:, None]
    return 0.1 * torch.sin(9 * x) * torch.cos(7 * y)


def rendered(models, camera):
    return models.render(camera.viewmat(), camera.intrinsics)


def gallery(models, offsets, added):
    """Pairs of photographs: renderings plus `added(camera)` where the object is."""
    pairs = []
    for x in offsets:
        camera = camera_at(x)
        seen = rendered(models, camera)
        shown = seen.over(models.background) + added(camera) * (seen.alpha[:1] > 0.5)
        name = f"view{x}"
        pairs.append((Photo(name, camera, shown[:3]), Photo(name, camera, shown[3:])))
    return pairs
