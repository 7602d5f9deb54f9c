"""Objects that look much the same from several sides, and cameras that see them."""

import math

import torch

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import SH_C0, GaussianModel
from piad.models import ModelPair
from piad.refine_config import RefineConfig
from piad.target import Target
from piad.twins import Axis
from tests.gaussian_scene import look_at

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
PETALS, SIDE = 5, 160
CFG = RefineConfig(refine_detail_views=0)
TILTED = Axis(
    torch.tensor([0.1, -0.05, 0.2]).double(),
    torch.nn.functional.normalize(torch.tensor([0.1, 0.2, 1.0]).double(), dim=0),
)
CAMERAS = [
    Camera(Intrinsics.from_fov_x(0.7, SIDE, SIDE), look_at(position))
    for position in ((2.4, 0.3, 3.0), (-1.0, 2.5, 2.6))
]


def solid_pair(means, colours, scale, device="cpu"):
    """Opaque round Gaussians; colour and reflectance are the same."""
    count = len(means)
    model = GaussianModel(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        log_scales=torch.full((count, 3), math.log(scale)),
        logit_opacities=torch.full((count,), 3.0),
        sh=((colours - 0.5) / SH_C0)[:, None],
        background=torch.tensor([0.7, 0.7, 0.7]),
    ).to(device)
    return ModelPair(model, model)


def flower(device="cpu", marked=True, lopsided=False):
    """Equal petals about a tilted axis; one with a mark in another colour.

    lopsided: the petals are of different lengths, so that no turn looks alike.
    """
    radius = torch.linspace(0.25, 0.9, 14)
    across = torch.linspace(-0.25, 0.25, 9)
    r, a = torch.meshgrid(radius, across, indexing="ij")
    parts, colours = [], []
    for petal in range(PETALS):
        stretch = 1 - 0.17 * petal * lopsided
        angle = 2 * math.pi * petal / PETALS + a
        height = 0.1 * torch.sin(9 * r) + 0.3 * a.square()
        points = torch.stack([stretch * r * angle.cos(), stretch * r * angle.sin(), height], -1)
        shade = 0.45 + 0.4 * torch.sin(14 * r) * torch.cos(9 * a)
        colour = shade[..., None] * torch.tensor([1.0, 0.9, 0.7])
        if marked and petal == 0:
            colour[5:9, 3:6] = torch.tensor([0.1, 0.2, 0.9])
        parts.append(points.reshape(-1, 3))
        colours.append(colour.reshape(-1, 3))
    points, colours = torch.cat(parts), torch.cat(colours)
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double()).direction
    side = torch.linalg.cross(upright, TILTED.direction)
    tilt = torch.asin(side.norm()).item()
    lean = Axis(torch.zeros(3).double(), side / side.norm()).turns(
        torch.tensor([math.degrees(tilt)])
    )[0]
    means = points @ lean[:3, :3].T.float() + TILTED.point.float()
    return solid_pair(means, colours, 0.045, device)


def column(device="cpu", ringed=False):
    """Round and patterned: its outline is the same from all sides, its surface nowhere.

    ringed: its colours change with the height alone.
    """
    heights = torch.linspace(-0.9, 0.9, 24)
    angles = torch.arange(36) * (2 * math.pi / 36)
    z, a = torch.meshgrid(heights, angles, indexing="ij")
    means = torch.stack([0.45 * a.cos(), 0.45 * a.sin(), z], -1).reshape(-1, 3)
    g = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 6, 9, generator=g)
    coarse = coarse[..., :1] if ringed else coarse
    colours = torch.nn.functional.interpolate(coarse, (24, 36)).flatten(2)[0].T
    return solid_pair(means, colours, 0.05, device)


def cog():
    """Six teeth about z, both faces alike; tints make no tooth quite like the next."""
    heights, across = torch.linspace(-0.2, 0.2, 7), torch.linspace(-0.3, 0.3, 9)
    radius = torch.linspace(0.3, 0.9, 12)
    tint = torch.tensor([[0.9, 0.8, 0.6], [0.9, 0.78, 0.58], [0.88, 0.8, 0.62], [0.86, 0.8, 0.6]])
    parts, colours = [], []
    for tooth in range(6):
        r, a, z = torch.meshgrid(radius, across, heights, indexing="ij")
        angle = tooth * math.pi / 3 + a
        x, y = r * angle.cos(), 1.03 * r * angle.sin()  # its spread tells x from y
        shade = 0.45 + 0.4 * torch.sin(14 * r) * torch.cos(9 * a)
        parts.append(torch.stack([x, y, z], -1).reshape(-1, 3))
        colours.append((shade[..., None] * tint[min(tooth, 6 - tooth)]).reshape(-1, 3))
    return solid_pair(torch.cat(parts), torch.cat(colours), 0.045)


def query_of(models, camera):
    """The photograph that the models themselves give."""
    pose = camera.world_to_camera[None].to(models.background)
    with torch.no_grad():
        image = models.render(pose, camera.intrinsics).over(models.background)[0]
    return Target.of(image.clamp(0, 1), camera.intrinsics)
