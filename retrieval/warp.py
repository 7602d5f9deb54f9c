"""An image as the same camera would have taken it with another pinhole or turned about its axis."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Intrinsics


def roll(angle: float) -> Tensor:
    """Rotation [4, 4], float64, of camera coordinates by `angle` rad about the viewing axis.

    A camera `roll(a) @ world_to_camera` sees the image turned by `a` from x (right) to y (down).
    """
    matrix = torch.eye(4, dtype=torch.float64)
    c, s = math.cos(angle), math.sin(angle)
    matrix[:2, :2] = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return matrix


def homography(source: Intrinsics, target: Intrinsics, angle: float = 0.0) -> Tensor:
    """[3, 3], float64: pixels of `source` to pixels of `target` after a roll by `angle`."""
    rotation = roll(angle)[:3, :3]
    k_source = source.matrix(dtype=torch.float64)
    k_target = target.matrix(dtype=torch.float64)
    return k_target @ rotation @ torch.linalg.inv(k_source)


def warp(image: Tensor, matrix: Tensor, height: int, width: int) -> Tensor:
    """Image [C, H, W] seen through a homography, [C, height, width]; borders are continued.

    Args:
        matrix: pixels of `image` to pixels of the result, [3, 3], pixel centres at +0.5.
    """
    inverse = torch.linalg.inv(matrix).to(image)
    shrink = math.sqrt(abs(torch.linalg.det(inverse[:2, :2]).item()))
    if shrink > 1.5:  # sampling would skip pixels: average them first, to about one per sample
        factor = 1 / shrink
        small = F.interpolate(
            image[None],
            (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[2] * factor))),
            mode="area",
        )[0]
        scale = torch.diag(
            torch.tensor(
                [small.shape[2] / image.shape[2], small.shape[1] / image.shape[1], 1.0]
            ).to(image)
        )
        image, inverse = small, scale @ inverse
    y, x = torch.meshgrid(
        torch.arange(height, device=image.device) + 0.5,
        torch.arange(width, device=image.device) + 0.5,
        indexing="ij",
    )
    points = torch.stack([x, y, torch.ones_like(x)], -1).to(image) @ inverse.T
    points = points[..., :2] / points[..., 2:]
    size = torch.tensor([image.shape[2], image.shape[1]]).to(image)
    grid = 2 * points / size - 1
    return F.grid_sample(
        image[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def map_points(matrix: Tensor, points: Tensor) -> Tensor:
    """Points [M, 2] through a homography [3, 3]."""
    mapped = points.double() @ matrix[:, :2].T + matrix[:, 2]
    return (mapped[:, :2] / mapped[:, 2:]).to(points)


def fitted(intrinsics: Intrinsics, longer_side: int) -> Intrinsics:
    """The same pinhole for an image whose longer side is `longer_side` px."""
    factor = longer_side / max(intrinsics.width, intrinsics.height)
    width = max(1, round(intrinsics.width * factor))
    height = max(1, round(intrinsics.height * factor))
    return intrinsics.resized(width, height)
