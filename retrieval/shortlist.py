"""The shortlist: which views of the object look most like the query.

An image is described by two maps of the feature network, standardised per channel over the
gallery; the similarity of two images is the mean cosine of their maps, the finer one at the best
of nine shifts. The maps keep their layout, since pooled descriptors cannot tell the sides of a
near-symmetric part. In-plane rotation is met by turning the query.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from retrieval.model.feature_net import FeatureNet
from retrieval.warp import fitted, homography, roll, warp_each

DESCRIBE_PX = 200  # longer side of described images
LEVELS = (2, 3)  # maps at strides 8 and 16
SHIFTED_LEVEL = 2  # shifts of one cell, 8 px, are searched on this one
BATCH = {"cpu": 10, "cuda": 128}  # images described at once


class Shortlist:
    """Views with descriptors, asked with a query."""

    def __init__(
        self, net: FeatureNet, intrinsics: Intrinsics, num_rotations: int, device="cpu"
    ) -> None:
        """`intrinsics`: the gallery's pinhole, which queries are resampled to."""
        self.net, self.device = net, torch.device(device)
        self.intrinsics = fitted(intrinsics, DESCRIBE_PX)
        self.angles = [2 * math.pi * i / num_rotations for i in range(num_rotations)]
        self.cameras: list[Camera] = []
        self.maps: list[Tensor] = []  # per level, standardised, length 1: [V, D]
        self.shapes: list[tuple[int, ...]] = []
        # world_to_camera of a query that, turned by a rotation, looks like a view; float64
        self.candidates = torch.empty(0)  # [R, V, 4, 4]
        self.statistics: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def describe(self, images: Tensor) -> list[Tensor]:
        """Raw maps of images [B, 3, H, W], per level [B, C, h, w]."""
        size = (self.intrinsics.height, self.intrinsics.width)
        parts = []
        for batch in images.split(BATCH.get(self.device.type, 32)):
            small = F.interpolate(batch.to(self.device), size, mode="area")
            maps = self.net.features(small)
            parts.append([maps[level].float() for level in LEVELS])
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def fill(self, cameras: list[Camera], raw: list[Tensor]) -> None:
        """Take views and their raw maps, which also set the standardisation."""
        self.cameras = list(cameras)
        poses = torch.stack([camera.world_to_camera for camera in self.cameras])
        back = torch.stack([roll(-angle) for angle in self.angles])
        self.candidates = back[:, None] @ poses
        self.shapes = [tuple(m.shape[1:]) for m in raw]
        self.statistics = [
            (m.mean((0, 2, 3), keepdim=True), m.std((0, 2, 3), keepdim=True).clamp_min(1e-6))
            for m in raw
        ]
        self.maps = [F.normalize(self._standard(i, m).flatten(1), dim=1) for i, m in enumerate(raw)]

    def _standard(self, level: int, maps: Tensor) -> Tensor:
        mean, std = self.statistics[level]
        # a change of light moves whole channels: each image is centred by itself
        return (maps - maps.mean((2, 3), keepdim=True)) / std

    @torch.no_grad()
    def similarities(self, images: Tensor, intrinsics: Intrinsics) -> Tensor:
        """Similarity, at most 1, of queries [Q, 3, H, W], turned each way, and views: [Q, R, V]."""
        k = self.intrinsics
        matrices = torch.stack([homography(intrinsics, k, angle) for angle in self.angles])
        turned = warp_each(images, matrices.repeat(len(images), 1, 1), k.height, k.width)
        total = torch.zeros(len(turned), len(self.cameras), device=self.device)
        for index, raw in enumerate(self.describe(turned)):
            maps = self._standard(index, raw)
            maps = maps / maps.flatten(1).norm(dim=1)[:, None, None, None].clamp_min(1e-12)
            steps = (-1, 0, 1) if LEVELS[index] == SHIFTED_LEVEL else (0,)
            shifted = [
                torch.roll(maps, (dy, dx), (2, 3)).flatten(1) @ self.maps[index].T
                for dy in steps
                for dx in steps
            ]
            total += torch.stack(shifted).amax(0)
        return (total / len(LEVELS)).view(len(images), len(self.angles), -1)
