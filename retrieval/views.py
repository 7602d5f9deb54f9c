"""Views between the photographs, and the object's place in the gallery's frame."""

from __future__ import annotations

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.se3 import se3_exp, se3_log

NEIGHBOURS = 6  # of each photograph, between which views are laid
FARTHEST_RAD = 1.2  # cameras further apart in direction have no view between them


def object_centre(cameras: list[Camera]) -> Tensor:
    """The point [3], float64, that the viewing axes pass closest to (least squares)."""
    a = torch.zeros(3, 3, dtype=torch.float64)
    b = torch.zeros(3, dtype=torch.float64)
    for camera in cameras:
        axis = camera.camera_to_world[:3, 2]
        off_axis = torch.eye(3, dtype=torch.float64) - torch.outer(axis, axis)
        a += off_axis
        b += off_axis @ camera.position
    # parallel axes leave the depth open: the pseudo-inverse then stays near the origin
    return torch.linalg.pinv(a, rtol=1e-6) @ b


def between(a: Camera, b: Camera, pivot: Tensor) -> Camera:
    """Half-way from `a` to `b` on the turn about `pivot` [3] that leads from one to the other."""
    origin = torch.eye(4, dtype=torch.float64)
    origin[:3, 3] = pivot
    start, end = a.world_to_camera @ origin, b.world_to_camera @ origin
    half = se3_exp(0.5 * se3_log(end @ torch.linalg.inv(start)))
    return a.with_pose(half @ start @ torch.linalg.inv(origin))


def views_between(cameras: list[Camera], count: int) -> list[Camera]:
    """Up to `count` views half-way between neighbouring cameras, the most isolated first."""
    if count <= 0 or len(cameras) < 2:
        return []
    centre = object_centre(cameras)
    directions = _directions(cameras, centre)
    angles = torch.arccos((directions @ directions.T).clamp(-1, 1))
    pairs = set()
    for i, row in enumerate(angles):
        for j in row.argsort()[1 : NEIGHBOURS + 1].tolist():
            if row[j] < FARTHEST_RAD:
                pairs.add((min(i, j), max(i, j)))
    if not pairs:
        return []
    candidates = [between(cameras[i], cameras[j], centre) for i, j in sorted(pairs)]
    chosen = []
    new = _directions(candidates, centre)
    gap = (new @ directions.T).amax(1)  # cosine to the nearest view so far
    for _ in range(min(count, len(candidates))):
        index = int(gap.argmin())
        chosen.append(candidates[index])
        gap = torch.maximum(gap, new @ new[index])
        gap[index] = 2.0
    return chosen


def _directions(cameras: list[Camera], centre: Tensor) -> Tensor:
    """Unit vectors [V, 3] from the object to the cameras."""
    offsets = torch.stack([camera.position for camera in cameras]) - centre
    return torch.nn.functional.normalize(offsets, dim=1)
