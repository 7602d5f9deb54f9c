"""The part of a photograph that shows the object, cut out and enlarged for its features.

Ours. A photograph shows much backdrop, and a small defect is lost to features at strides of 4 to 16
pixels. What is cut off pays for a part of the enlargement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from gaussian_renderer.camera import Camera
    from piad.anomaly import DetectConfig
    from piad.models import ModelPair

STEP_PX = 96  # sides of cuts are multiples: those of one size are compared at once
SIZES, SIZE_STEP_PX = 3, 32  # of an object's cuts, as its gallery asks for them
MARGIN = 0.1  # of the object's longer side, around it: what sticks out is seen as well
LEAST_MARGIN_PX = 12
LARGEST_OWN_ZOOM = 2.5  # of an object that looks small
GRID = 16  # enlarged sides are multiples of the coarsest features' stride


@dataclass(frozen=True)
class Window:
    """Part of an image: its first column and row, its size, px."""

    x: int
    y: int
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.height, self.width

    def cut(self, images: Tensor) -> Tensor:
        """The part of [..., H, W], not copied."""
        return images[..., self.y : self.y + self.height, self.x : self.x + self.width]


def whole(camera: Camera) -> Window:
    """All of a camera's image."""
    return Window(0, 0, camera.intrinsics.width, camera.intrinsics.height)


def object_window(models: ModelPair, camera: Camera) -> Window:
    """What shows the object and a margin; all of the image where it can't be told.

    Of the smallest of the object's `common_sizes` that holds it, else of multiples of STEP_PX.
    """
    found = _spans(models, camera)
    if found is None:
        return whole(camera)
    sides = camera.intrinsics.width, camera.intrinsics.height
    least = [min(high - low, side) for (low, high), side in zip(found, sides, strict=True)]
    fitting = [
        (width, height)
        for height, width in models.cuts
        if least[0] <= width <= sides[0] and least[1] <= height <= sides[1]
    ]
    if fitting:
        lengths = min(fitting, key=lambda size: (size[0] * size[1], size))
    else:
        lengths = [_length(*span, side) for span, side in zip(found, sides, strict=True)]
    x, y = (
        _inside(round(0.5 * (low + high - length)), length, side)
        for (low, high), length, side in zip(found, lengths, sides, strict=True)
    )
    return Window(x, y, *lengths)


def common_sizes(models: ModelPair, cameras: Iterable[Camera]) -> tuple[tuple[int, int], ...]:
    """Few sizes (height, width), px, of cuts in which a gallery's photographs show the object.

    Two at a time become one, those that add the fewest pixels (ours).
    """
    asked: Counter[tuple[int, int]] = Counter()
    for camera in cameras:
        sides = camera.intrinsics.width, camera.intrinsics.height
        found = _spans(models, camera) or [(0.0, float(side)) for side in sides]
        width, height = (
            min(_rounded_up(high - low, SIZE_STEP_PX), side)
            for (low, high), side in zip(found, sides, strict=True)
        )
        asked[height, width] += 1

    def joined(pair: tuple[tuple[int, int], tuple[int, int]]) -> tuple[int, int]:
        return max(size[0] for size in pair), max(size[1] for size in pair)

    def added(pair: tuple[tuple[int, int], tuple[int, int]]) -> tuple[int, tuple]:
        height, width = joined(pair)
        return sum(asked[size] * (height * width - size[0] * size[1]) for size in pair), pair

    while len(asked) > SIZES:
        pair = min(combinations(sorted(asked), 2), key=added)
        together = sum(asked.pop(size) for size in pair)
        asked[joined(pair)] += together
    return tuple(sorted(asked))


def _spans(models: ModelPair, camera: Camera) -> list[tuple[float, float]] | None:
    """Where an object and a margin begin and end, px, in columns and in rows; None: unknown."""
    found = object_box(models, camera)
    if found is None:
        return None
    low, high = found
    margin = max(LEAST_MARGIN_PX, MARGIN * float((high - low).max()))
    return list(zip((low - margin).tolist(), (high + margin).tolist(), strict=True))


def object_box(models: ModelPair, camera: Camera) -> Tensor | None:
    """Least and largest x and y of an object's image, px [2, 2]; None where it can't be told."""
    own, pose = camera.intrinsics, camera.world_to_camera
    local = models.extremes @ pose[:3, :3].T + pose[:3, 3]
    if not bool((local[:, 2] > 0).all()):
        return None
    across = local[:, :2] / local[:, 2:]
    scale = torch.tensor([own.fx, own.fy], dtype=across.dtype)
    places = across * scale + torch.tensor([own.cx, own.cy], dtype=across.dtype)
    return torch.stack([places.amin(0), places.amax(0)])


def enlarging(cfg: DetectConfig, models: ModelPair, cameras: Iterable[Camera]) -> DetectConfig:
    """The configuration with an object's own `detect_zoom`, by how large its gallery shows it.

    One for all photographs of an object: what is normal is in the unit of its features.
    """
    if cfg.detect_object_px == 0 or cfg.detect_zoom == 1:
        return cfg
    boxes = [box for box in (object_box(models, camera) for camera in cameras) if box is not None]
    if not boxes:
        return cfg
    longer = torch.stack([(high - low).max() for low, high in boxes]).median()
    own = min(cfg.detect_object_px / max(float(longer), 1.0), LARGEST_OWN_ZOOM)
    return replace(cfg, detect_zoom=max(cfg.detect_zoom, round(own, 2)))


def square(window: Window, side: int, camera: Camera) -> Window:
    """As many pixels to both sides about a window's middle, inside the camera's image."""
    own = camera.intrinsics
    width, height = min(side, own.width), min(side, own.height)
    x = _inside(window.x + (window.width - width) // 2, width, own.width)
    y = _inside(window.y + (window.height - height) // 2, height, own.height)
    return Window(x, y, width, height)


def _length(low: float, high: float, side: int) -> int:
    """Of what holds low..high in an image's side: a multiple of STEP_PX, or all."""
    length = _rounded_up(max(high - low, 1.0), STEP_PX)
    return length if length <= side - STEP_PX // 2 else side


def _rounded_up(length: float, step: int) -> int:
    """To a multiple."""
    return int(-(-length // step) * step)


def _inside(first: int, length: int, side: int) -> int:
    """The first of so many pixels, moved so that all lie in an image's side."""
    return min(max(first, 0), side - length)


def enlarged(images: Tensor, zoom: float) -> Tensor:
    """Images [B, C, H, W], 0..1, bicubically enlarged by about `zoom`, to multiples of GRID."""
    if zoom == 1:
        return images
    height, width = (max(GRID, round(side * zoom / GRID) * GRID) for side in images.shape[-2:])
    if images.is_cuda:
        large = F.interpolate(images, (height, width), mode="bicubic", align_corners=False)
        return large.clamp_(0, 1)
    # The same kernel plane by plane: OpenCV takes a fifteenth of the time.
    planes = images.flatten(0, 1).numpy()
    large = np.empty((len(planes), height, width), planes.dtype)
    for plane, wanted in zip(planes, large, strict=True):
        cv2.resize(plane, (width, height), dst=wanted, interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(large).unflatten(0, images.shape[:2]).clamp_(0, 1)
