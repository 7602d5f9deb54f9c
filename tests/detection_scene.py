"""A small world for the detection tests: a seeded feature network, queries on disk, models."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.files import write_image
from piad.models import PairRendering
from piad.scenes import Query

SIDE = 48
IDENTITY_POSE = torch.eye(4, dtype=torch.float64).tolist()


class SeededNet(nn.Module):
    """Random convolutions with the interface of FeatureNet: strides 2 and 4."""

    name = "seeded"

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = [
            torch.randn(8, 3, 3, 3, generator=generator) / 5,
            torch.randn(12, 8, 3, 3, generator=generator) / 8,
        ]
        self.passes = 0

    def features(self, images):
        self.passes += 1
        layers = []
        for weight in self.weights:
            images = torch.nn.functional.leaky_relu(
                torch.nn.functional.conv2d(images, weight, stride=2, padding=1), 0.2
            )
            layers.append(images)
        return layers


class FlatModels:
    """Stands in for ModelPair: shows one image, whatever the pose."""

    def __init__(self, colour, alpha) -> None:
        self.background = torch.full((6,), 0.5)
        self.extremes = torch.zeros(1, 3, dtype=torch.float64)  # in no camera: all is looked at
        self.view = PairRendering(torch.cat([colour, colour]) * alpha, alpha.expand(2, -1, -1))

    def seen_by(self, camera):
        return self.view

    def render_views(self, cameras):
        views = [self.seen_by(camera) for camera in cameras]
        image, alpha = torch.stack([v.image for v in views]), torch.stack([v.alpha for v in views])
        return PairRendering(image, alpha)


def object_image(seed: int = 0):
    """A smooth random texture on a disc: colours [3, H, W] and alpha [1, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 3, 8, 8, generator=generator)
    colours = torch.nn.functional.interpolate(noise, (SIDE, SIDE), mode="bicubic")[0].clamp(0, 1)
    steps = torch.arange(SIDE) + 0.5 - SIDE / 2
    radius = (steps[None] ** 2 + steps[:, None] ** 2).sqrt()
    return colours, ((0.4 * SIDE - radius) / 2 + 0.5).clamp(0, 1)[None]


def write_query(folder: Path, name: str, image, mask=None) -> Query:
    """Save a query `type/stem` with its mask and describe it."""
    kind, stem = name.split("/")
    path = folder / "test" / f"{name}.png"
    write_image(path, image)
    mask_path = None
    if mask is not None:
        mask_path = folder / "ground_truth" / f"{name}.png"
        write_image(mask_path, 255 * np.asarray(mask, dtype=np.uint8))
    height, width = image.shape[-2:]
    intrinsics = Intrinsics.from_fov_x(0.7, width, height)
    label = 0 if kind.startswith("good") else 1
    return Query(name, kind, stem, path, label, mask_path, intrinsics)
