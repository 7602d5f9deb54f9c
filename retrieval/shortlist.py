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
from retrieval.warp import fitted, homography, roll, warp

DESCRIBE_PX = 200  # longer side of described images
LEVELS = (2, 3)  # maps at strides 8 and 16
SHIFTED_LEVEL = 2  # shifts of one cell, 8 px, are searched on this one
BATCH = 10


class Shortlist:
    """Views with descriptors, asked with a query."""

    def __init__(
        self, net: FeatureNet, intrinsics: Intrinsics, num_rotations: int, device="cpu"
    ) -> None:
        """`intrinsics`: the gallery's pinhole, which queries are resampled to."""
        # channels last: its depthwise convolutions take half the time on a CPU
        self.net = net.to(memory_format=torch.channels_last)
        self.device = torch.device(device)
        self.intrinsics = fitted(intrinsics, DESCRIBE_PX)
        self.angles = [2 * math.pi * i / num_rotations for i in range(num_rotations)]
        self.cameras: list[Camera] = []
        self.maps: list[Tensor] = []  # per level, standardised, length 1: [V, D]
        self.shapes: list[tuple[int, ...]] = []
        self.statistics: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def describe(self, images: Tensor) -> list[Tensor]:
        """Raw maps of images [B, 3, H, W], per level [B, C, h, w]."""
        size = (self.intrinsics.height, self.intrinsics.width)
        parts = []
        for batch in images.split(BATCH):
            small = F.interpolate(batch.to(self.device), size, mode="area")
            maps = self.net.features(small.contiguous(memory_format=torch.channels_last))
            parts.append([maps[level].float() for level in LEVELS])
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def fill(self, cameras: list[Camera], raw: list[Tensor]) -> None:
        """Take views and their raw maps, which also set the standardisation."""
        self.cameras = list(cameras)
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
    def similarities(self, image: Tensor, intrinsics: Intrinsics) -> Tensor:
        """Similarity of the query, turned by each angle, to each view: [R, V], at most 1."""
        k = self.intrinsics
        turned = torch.stack(
            [
                warp(image, homography(intrinsics, k, angle), k.height, k.width)
                for angle in self.angles
            ]
        )
        total = torch.zeros(len(self.angles), len(self.cameras), device=self.device)
        for index, raw in enumerate(self.describe(turned)):
            maps = self._standard(index, raw)
            steps = (-1, 0, 1) if LEVELS[index] == SHIFTED_LEVEL else (0,)
            shifted = [
                F.normalize(torch.roll(maps, (dy, dx), (2, 3)).flatten(1), dim=1)
                @ self.maps[index].T
                for dy in steps
                for dx in steps
            ]
            total += torch.stack(shifted).amax(0)
        return total / len(LEVELS)

    def candidate(self, rotation: int, view: int) -> Tensor:
        """world_to_camera [4, 4] of a query that, turned by that rotation, looks like the view."""
        return roll(-self.angles[rotation]) @ self.cameras[view].world_to_camera
