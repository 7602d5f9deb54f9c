"""Matches + rendered depth -> camera pose by PnP in RANSAC (poselib)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from EfficientLoFTR import Matches
from gaussian_renderer.camera import Camera, Intrinsics

MIN_ALPHA = 0.5  # depth counts where the model covers at least half of the pixel
MIN_POINTS = 6
MAX_ERROR = 0.012  # reprojection error of an inlier, as a share of the image's longer side
MAX_ITERATIONS = 2000


@dataclass
class PnpResult:
    """Pose of one set of 2D-3D matches.

    Attributes:
        world_to_camera: [4, 4], float64, OpenCV axes.
        num_inliers, num_points: matches that agree with it, and all that had depth.
    """

    world_to_camera: Tensor
    num_inliers: int
    num_points: int


def lift(points: Tensor, depth: Tensor, alpha: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Points of an image to the world.

    Args:
        points: [M, 2] px of the camera's image, pixel centres at +0.5.
        depth, alpha: [1, H, W] of the model seen from that camera.
    Returns:
        world points [M, 3], float64, and whether each has depth, bool [M].
    """
    height, width = depth.shape[-2:]
    column = points[:, 0].floor().long().clamp(0, width - 1)
    row = points[:, 1].floor().long().clamp(0, height - 1)
    z = depth[0, row, column].double().cpu()
    valid = (alpha[0, row, column].cpu() >= MIN_ALPHA) & (z > 0)
    k = camera.intrinsics
    x, y = points.double().cpu().unbind(1)
    in_camera = torch.stack([(x - k.cx) / k.fx * z, (y - k.cy) / k.fy * z, z], 1)
    pose = camera.camera_to_world
    return in_camera @ pose[:3, :3].T + pose[:3, 3], valid


def solve_pnp(pixels: Tensor, points: Tensor, intrinsics: Intrinsics) -> PnpResult | None:
    """Pose of a camera that sees world points [M, 3] at `pixels` [M, 2]; None without support."""
    import poselib

    if len(pixels) < MIN_POINTS:
        return None
    k = intrinsics
    camera = {
        "model": "PINHOLE",
        "width": k.width,
        "height": k.height,
        "params": [k.fx, k.fy, k.cx, k.cy],
    }
    ransac = {
        "max_reproj_error": MAX_ERROR * max(k.width, k.height),
        "max_iterations": MAX_ITERATIONS,
        "seed": 0,
    }
    pose, info = poselib.estimate_absolute_pose(
        np.ascontiguousarray(pixels.double().cpu().numpy()),
        np.ascontiguousarray(points.double().cpu().numpy()),
        camera,
        ransac,
        {},
    )
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3] = torch.from_numpy(np.asarray(pose.Rt, dtype=np.float64))
    num_inliers = int(info["num_inliers"])
    if num_inliers < MIN_POINTS or not torch.isfinite(matrix).all():
        return None
    return PnpResult(matrix, num_inliers, len(pixels))


def pose_from_matches(
    matches: Matches, view: Camera, depth: Tensor, alpha: Tensor, intrinsics: Intrinsics
) -> PnpResult | None:
    """Pose of the query (points_a, `intrinsics`) from matches with a view (points_b) with depth."""
    points, valid = lift(matches.points_b, depth, alpha, view)
    return solve_pnp(matches.points_a[valid], points[valid], intrinsics)
