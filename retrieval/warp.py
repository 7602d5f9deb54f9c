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
    return warp_each(image[None], matrix[None], height, width)[0]


def warp_each(images: Tensor, matrices: Tensor, height: int, width: int) -> Tensor:
    """Images [Q, C, H, W] through homographies [Q * R, 3, 3], on the host: R views of each.

    Returns:
        [Q * R, C, height, width], as `warp` makes them.
    """
    inverse = torch.linalg.inv(matrices.double())
    # sampling would skip pixels of an image shrunk: it is averaged first, to about one per sample
    shrink = torch.linalg.det(inverse[:, :2, :2]).abs().sqrt()
    turns = len(matrices) // len(images)
    out = images.new_empty(len(matrices), images.shape[1], height, width)
    for factor in shrink.round(decimals=3).unique().tolist():
        rows = ((shrink - factor).abs() < 1e-3).nonzero()[:, 0]
        small, scale = _averaged(images, factor)
        grid = _grid((scale @ inverse[rows]).to(out), small.shape[-2:], height, width)
        out[rows] = F.grid_sample(
            small[rows // turns], grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    return out


def _averaged(images: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Images smaller by a factor if that is above 1.5, and the matrix of their pixels [3, 3]."""
    scale = torch.eye(3, dtype=torch.float64)
    if factor <= 1.5:
        return images, scale
    size = [max(1, round(n / factor)) for n in images.shape[-2:]]
    scale[0, 0], scale[1, 1] = size[1] / images.shape[3], size[0] / images.shape[2]
    return F.interpolate(images, size, mode="area"), scale


def _grid(inverse: Tensor, size: tuple[int, int], height: int, width: int) -> Tensor:
    """Where pixels [height, width] lie through matrices [B, 3, 3] in images of a size, -1..1."""
    y, x = torch.meshgrid(
        torch.arange(height, device=inverse.device) + 0.5,
        torch.arange(width, device=inverse.device) + 0.5,
        indexing="ij",
    )
    points = torch.stack([x, y, torch.ones_like(x)], -1).to(inverse) @ inverse.mT[:, None]
    x, y, z = points.unbind(-1)
    return torch.stack([2 * x / (z * size[1]) - 1, 2 * y / (z * size[0]) - 1], -1)


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
