"""Where the Gaussians start: a point cloud, the visual hull's surface, or the common view."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gaussian_renderer.backdrop import Hull, Silhouettes, carve, pixel_of
from gaussian_renderer.camera import Camera
from gaussian_renderer.gaussians import SH_C0, GaussianModel, num_sh_coefficients
from gaussian_renderer.points import PointCloud
from gaussian_renderer.render import render

SEEN_BY = 0.8  # share of the views that must see a point of the common view
FACING = 0.2  # least cosine between normal and direction to the camera for a colour to count
LARGEST_START = 0.05  # of the common view: scale of a lonely starting point
CHUNK = 1024


def scene_extent(cameras: Sequence[Camera]) -> float:
    """Size that learning rates and the split/clone border scale with, world units.

    1.1 times the largest distance of a camera from the cameras' mean; for cameras that stand
    together, their distance from what they look at.
    """
    positions = torch.stack([c.position for c in cameras])
    radius = (positions - positions.mean(0)).norm(dim=1).max().item()
    distance = (positions - view_centre(cameras)).norm(dim=1).median().item()
    return 1.1 * radius if radius > 0.05 * distance else distance


def view_centre(cameras: Sequence[Camera]) -> Tensor:
    """The point nearest to all optical axes (least squares), [3], float64.

    A weak pull towards one unit before the cameras keeps parallel axes solvable.
    """
    positions = torch.stack([c.position for c in cameras])
    axes = torch.stack([c.world_to_camera[2, :3] for c in cameras])  # viewing directions
    across = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None]
    pull = 1e-6
    matrix = across.sum(0) + pull * len(cameras) * torch.eye(3, dtype=torch.float64)
    vector = (across @ positions[..., None]).sum(0)[:, 0] + pull * (positions + axes).sum(0)
    return torch.linalg.solve(matrix, vector)


def common_view_box(cameras: Sequence[Camera]) -> Tensor:
    """Cube [2, 3] around the views' centre that holds what most cameras see together."""
    centre = view_centre(cameras)
    half = []
    for camera in cameras:
        k = camera.intrinsics
        distance = (camera.position - centre).norm().item()
        half.append(distance * 0.5 * max(k.width / k.fx, k.height / k.fy))
    radius = torch.tensor(half).median().item()
    return torch.stack([centre - radius, centre + radius]).float()


def points_in_common_view(
    cameras: Sequence[Camera], count: int, generator: torch.Generator
) -> Tensor:
    """`count` random points [count, 3] in the cube, seen by most cameras if any are."""
    box = common_view_box(cameras)
    points = box[0] + torch.rand(8 * count, 3, generator=generator) * (box[1] - box[0])
    seen = torch.stack([pixel_of(points, camera)[2] for camera in cameras]).float().mean(0)
    order = seen.ge(SEEN_BY).float().argsort(descending=True, stable=True)
    return points[order[:count]]


def points_on_hull(hull: Hull, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Up to `count` points on the hull's surface, jittered within a voxel, and their normals."""
    candidates = hull.surface.nonzero()[:, 0]
    # fewer voxels than points: some get several, told apart by the jitter
    repeats = max(1, min(4, math.ceil(count / len(candidates))))
    candidates = candidates.repeat(repeats)
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
    jitter = torch.rand(len(chosen), 3, generator=generator) - 0.5
    return hull.xyz[chosen] + jitter * hull.voxel, hull.normals[chosen]


def colours_from_views(
    points: Tensor,
    cameras: Sequence[Camera],
    images: Sequence[Tensor],
    normals: Tensor | None = None,
) -> Tensor:
    """Mean colour [N, C] of the pixels that points [N, 3] fall on; 0.5 where nobody sees them.

    With normals, views from behind are left out and frontal ones weigh more.
    """
    total = torch.zeros(len(points), images[0].shape[0])
    weights = torch.zeros(len(points), 1)
    for camera, image in zip(cameras, images, strict=True):
        column, row, in_frame = pixel_of(points, camera)
        weight = in_frame.float()
        if normals is not None:
            towards = torch.nn.functional.normalize(camera.position.float() - points, dim=-1)
            cosine = (normals * towards).sum(-1)
            weight = weight * (cosine - FACING).clamp_min(0)
        total += weight[:, None] * image[:, row, column].T
        weights += weight[:, None]
    return torch.where(weights > 0, total / weights.clamp_min(1e-8), torch.full_like(total, 0.5))


def splat_weighted_colours(
    model: GaussianModel, cameras: Sequence[Camera], images: Sequence[Tensor]
) -> Tensor:
    """Mean colour [N, C] of the pixels of photos [C, H, W], weighted as the rendering weighs them.

    A rendering is linear in the colours c_i: pixel = sum_i w_i c_i. So the gradient of
    sum(rendering * photo) by c_i is the photo's sum under the weights of Gaussian i, and the
    gradient of sum(rendering) is the sum of these weights.
    """
    channels = images[0].shape[0]
    grey = model.sh.new_zeros(model.num_gaussians, 1, channels + 1).requires_grad_()
    painted = model.detach().with_sh(grey, model.background.new_zeros(channels + 1))
    for camera, image in zip(cameras, images, strict=True):
        ones = torch.ones_like(image[:1])
        drawn = render(painted, camera).image
        drawn.backward(torch.cat([image, ones]).to(drawn))
    sums = grey.grad[:, 0] / SH_C0
    weights = sums[:, -1:]
    return torch.where(weights > 1e-3, sums[:, :-1] / weights.clamp_min(1e-3), 0.5)


def neighbour_distance(points: Tensor, num_neighbours: int = 3) -> Tensor:
    """Root mean square distance [N] of each point to its nearest `num_neighbours`."""
    count = min(num_neighbours, len(points) - 1)
    if count < 1:
        return torch.ones(len(points), device=points.device)
    distances = []
    for part in points.split(CHUNK):
        nearest = torch.cdist(part, points).topk(count + 1, largest=False).values[:, 1:]
        distances.append(nearest.square().mean(1).sqrt())
    return torch.cat(distances)


def model_from_points(
    xyz: Tensor,
    colours: Tensor,
    background: Tensor,
    sh_degree: int,
    opacity: float,
    largest: float,
) -> GaussianModel:
    """Round Gaussians on the points, as wide as the distance of their neighbours.

    Args:
        xyz, colours: [N, 3] in the world and [N, C] in 0..1.
        opacity: of all Gaussians, 0..1.
        largest: upper bound of the scale, world units.
    """
    n, channels = colours.shape
    scale = neighbour_distance(xyz).clamp(1e-7, largest)
    sh = torch.zeros(n, num_sh_coefficients(sh_degree), channels)
    sh[:, 0] = (colours - 0.5) / SH_C0
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1
    return GaussianModel(
        means=xyz.clone(),
        quats=quats,
        log_scales=scale.log()[:, None].repeat(1, 3),
        logit_opacities=torch.full((n,), math.log(opacity / (1 - opacity))),
        sh=sh,
        background=background.float().clone(),
    )


def initial_model(
    cameras: Sequence[Camera],
    images: Sequence[Tensor],
    background: Tensor,
    *,
    cloud: PointCloud | None,
    silhouettes: Silhouettes | None,
    count: int,
    sh_degree: int,
    opacity: float,
    seed: int,
) -> GaussianModel:
    """The Gaussians that a fit starts from.

    Args:
        cloud: used when given; else `count` points are drawn, on the hull where there are
            silhouettes, or in the common view.
    """
    generator = torch.Generator().manual_seed(seed)
    box = common_view_box(cameras)
    hull = normals = None
    if cloud is None and silhouettes is not None:
        hull = carve(silhouettes, box)
    if cloud is not None:
        xyz = cloud.xyz.float()
    elif hull is not None:
        xyz, normals = points_on_hull(hull, count, generator)
    else:
        xyz = points_in_common_view(cameras, count, generator)
    if cloud is not None and cloud.rgb.shape[1] == images[0].shape[0]:
        colours = cloud.rgb.float()
    else:
        colours = colours_from_views(xyz, cameras, images, normals)
    largest = LARGEST_START * (box[1] - box[0]).amax().item()
    return model_from_points(xyz, colours, background, sh_degree, opacity, largest)
