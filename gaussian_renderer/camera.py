"""Cameras: the only place that converts OpenGL, OpenCV and COLMAP conventions.

Inside the program camera axes are OpenCV's (x right, y down, z forward) and a pose is the matrix
`world_to_camera` or its inverse `camera_to_world`; both are rigid and row-major, acting on column
vectors. Pixel centres lie at +0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# OpenGL's camera looks along -z with y up; turning it by 180 degrees about x gives OpenCV's.
OPENGL_FROM_OPENCV = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole's focal lengths and principal point, in pixels, for one image size."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    @classmethod
    def from_fov_x(cls, fov_x: float, width: int, height: int) -> Intrinsics:
        """Square pixels, principal point at the centre; `fov_x` is the horizontal field in rad."""
        focal = 0.5 * width / math.tan(0.5 * fov_x)
        return cls(focal, focal, 0.5 * width, 0.5 * height, width, height)

    def resized(self, width: int, height: int) -> Intrinsics:
        """The same pinhole for the image resampled to `width` x `height` pixels."""
        sx, sy = width / self.width, height / self.height
        return Intrinsics(self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, width, height)

    def cropped(self, x: int, y: int, width: int, height: int) -> Intrinsics:
        """The same pinhole for the part of the image that begins at column x, row y."""
        return Intrinsics(self.fx, self.fy, self.cx - x, self.cy - y, width, height)

    def unproject(self, depth: Tensor) -> Tensor:
        """Points [..., 3, H, W], camera axes, that the pixels of depth images [..., H, W] show."""
        x = (torch.arange(self.width).to(depth) + 0.5 - self.cx) / self.fx
        y = (torch.arange(self.height).to(depth) + 0.5 - self.cy) / self.fy
        return torch.stack([x * depth, y[:, None] * depth, depth], -3)

    def matrix(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The calibration matrix K, [3, 3]: camera coordinates to homogeneous pixels."""
        rows = [[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]]
        return torch.tensor(rows, device=device, dtype=dtype)


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole at a pose. `world_to_camera` is [4, 4], float64, on the CPU, OpenCV axes."""

    intrinsics: Intrinsics
    world_to_camera: Tensor

    def __post_init__(self) -> None:
        matrix = torch.as_tensor(self.world_to_camera, dtype=torch.float64).detach().cpu()
        if matrix.shape != (4, 4):
            raise ValueError(f"world_to_camera must be [4, 4], not {tuple(matrix.shape)}")
        object.__setattr__(self, "world_to_camera", matrix)

    @classmethod
    def from_opengl(cls, intrinsics: Intrinsics, camera_to_world: Tensor) -> Camera:
        """From an OpenGL camera_to_world [4, 4], as transforms.json holds them."""
        return cls(intrinsics, rigid_inverse(opengl_to_opencv(camera_to_world)))

    @classmethod
    def from_colmap(cls, intrinsics: Intrinsics, qvec: Tensor, tvec: Tensor) -> Camera:
        """From COLMAP's world_to_camera rotation (quaternion w, x, y, z) and translation."""
        w, x, y, z = torch.nn.functional.normalize(
            torch.as_tensor(qvec, dtype=torch.float64), dim=0
        ).tolist()
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3, :3] = torch.tensor(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ],
            dtype=torch.float64,
        )
        matrix[:3, 3] = torch.as_tensor(tvec, dtype=torch.float64)
        return cls(intrinsics, matrix)

    @property
    def camera_to_world(self) -> Tensor:
        """[4, 4], float64, OpenCV axes."""
        return rigid_inverse(self.world_to_camera)

    @property
    def camera_to_world_opengl(self) -> Tensor:
        """[4, 4], float64, OpenGL axes: the form of transforms.json and poses.json."""
        return opencv_to_opengl(self.camera_to_world)

    @property
    def position(self) -> Tensor:
        """The camera's centre in the world, [3], float64."""
        return self.camera_to_world[:3, 3]

    def viewmat(
        self, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """world_to_camera [4, 4] as the rasterizer takes it."""
        return self.world_to_camera.to(device=device, dtype=dtype)

    def resized(self, width: int, height: int) -> Camera:
        """The same pose with the image resampled to `width` x `height` pixels."""
        return Camera(self.intrinsics.resized(width, height), self.world_to_camera)

    def cropped(self, x: int, y: int, width: int, height: int) -> Camera:
        """The same pose with the part of the image that begins at column x, row y."""
        return Camera(self.intrinsics.cropped(x, y, width, height), self.world_to_camera)

    def with_pose(self, world_to_camera: Tensor) -> Camera:
        """The same pinhole at another pose, [4, 4], OpenCV axes."""
        return Camera(self.intrinsics, world_to_camera)


def unproject(depth: Tensor, intrinsics: Sequence[Intrinsics]) -> Tensor:
    """`Intrinsics.unproject` of depth images [B, H, W], each by its own pinhole: [B, 3, H, W]."""
    height, width = depth.shape[-2:]
    facts = [[own.cx, own.fx, own.cy, own.fy] for own in intrinsics]
    cx, fx, cy, fy = torch.tensor(facts, dtype=depth.dtype).to(depth.device).T[..., None]
    x = (torch.arange(width, device=depth.device) + 0.5 - cx) / fx  # [B, W]
    y = (torch.arange(height, device=depth.device) + 0.5 - cy) / fy
    return torch.stack([x[:, None] * depth, y[..., None] * depth, depth], -3)


def rigid_inverse(matrix: Tensor) -> Tensor:
    """Inverse of a rigid transform [..., 4, 4], without a general matrix inversion."""
    rotation_t = matrix[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(matrix)
    inverse[..., :3, :3] = rotation_t
    inverse[..., :3, 3] = -(rotation_t @ matrix[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def opengl_to_opencv(camera_to_world: Tensor) -> Tensor:
    """Turn the camera axes of camera_to_world [4, 4] from OpenGL's to OpenCV's."""
    return torch.as_tensor(camera_to_world, dtype=torch.float64) @ OPENGL_FROM_OPENCV


def opencv_to_opengl(camera_to_world: Tensor) -> Tensor:
    """Turn the camera axes of camera_to_world [4, 4] from OpenCV's to OpenGL's."""
    return torch.as_tensor(camera_to_world, dtype=torch.float64) @ OPENGL_FROM_OPENCV
