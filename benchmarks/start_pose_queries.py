"""Queries that nobody took: photographs turned in the plane, and from other distances."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from retrieval.warp import homography, roll, warp


def turned(image: Tensor, camera: Camera, degrees: float) -> tuple[Tensor, Camera]:
    """A photograph [C, H, W] and its camera, turned in the plane about the principal point.

    `degrees`: from right to down, clockwise as one looks at the image. Corners that come into view
    continue the border.
    """
    if degrees == 0:
        return image, camera
    k, angle = camera.intrinsics, math.radians(degrees)
    image = warp(image, homography(k, k, angle), k.height, k.width)
    return image, camera.with_pose(roll(angle) @ camera.world_to_camera)


def from_distance(camera: Camera, centre: Tensor, ratio: float) -> Camera:
    """A camera moved towards `centre` [3] or away from it, to `ratio` times the distance."""
    pose = camera.world_to_camera.clone()
    pose[:3, 3] += (ratio - 1) * (pose[:3, :3] @ centre + pose[:3, 3])
    return camera.with_pose(pose)


def resampled(image: Tensor, camera: Camera, centre: Tensor, factor: float) -> Tensor:
    """A photograph [C, H, W] larger by a factor about where a camera sees `centre` [3].

    As from another distance, but for the perspective. Borders are continued.
    """
    k = camera.intrinsics
    x, y, z = (camera.world_to_camera[:3, :3] @ centre + camera.world_to_camera[:3, 3]).tolist()
    matrix = torch.diag(torch.tensor([factor, factor, 1.0], dtype=torch.float64))
    matrix[0, 2] = (1 - factor) * (k.fx * x / z + k.cx)
    matrix[1, 2] = (1 - factor) * (k.fy * y / z + k.cy)
    return warp(image, matrix, k.height, k.width)
