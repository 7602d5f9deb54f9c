"""The part of a photograph that shows the object, cut out and enlarged for its features.

Ours. A photograph shows much backdrop, and a small defect is lost to features at strides of 4 to 16
pixels. What is cut off pays for a part of the enlargement.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from gaussian_renderer.camera import Camera
    from piad.anomaly import DetectConfig
    from piad.models import ModelPair

STEP_PX = 96  # sides of cuts are multiples: those of one size are compared at once
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

    def put_back(self, part: Tensor, size: tuple[int, int], around: Tensor | float = 0) -> Tensor:
        """[..., h, w] in an image of a size (height, width) that is `around` elsewhere."""
        whole = part.new_zeros(*part.shape[:-2], *size) + around
        self.cut(whole).copy_(part)
        return whole


def whole(camera: Camera) -> Window:
    """All of a camera's image."""
    return Window(0, 0, camera.intrinsics.width, camera.intrinsics.height)


def object_window(models: ModelPair, camera: Camera) -> Window:
    """What shows the object and a margin; all of the image where it can't be told."""
    found = object_box(models, camera)
    if found is None:
        return whole(camera)
    own, (low, high) = camera.intrinsics, found
    margin = max(LEAST_MARGIN_PX, MARGIN * float((high - low).max()))
    spans = zip(low.tolist(), high.tolist(), (own.width, own.height), strict=True)
    (x, width), (y, height) = (_span(a - margin, b + margin, side) for a, b, side in spans)
    return Window(x, y, width, height)


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


def _span(low: float, high: float, side: int) -> tuple[int, int]:
    """First pixel and length around low..high in an image's side: a multiple of STEP_PX, or all."""
    length = int(-(-max(high - low, 1.0) // STEP_PX) * STEP_PX)
    length = length if length <= side - STEP_PX // 2 else side
    return _inside(round(0.5 * (low + high - length)), length, side), length


def _inside(first: int, length: int, side: int) -> int:
    """The first of so many pixels, moved so that all lie in an image's side."""
    return min(max(first, 0), side - length)


def enlarged(images: Tensor, zoom: float) -> Tensor:
    """Images [B, C, H, W], 0..1, bicubically enlarged by about `zoom`, to multiples of GRID."""
    if zoom == 1:
        return images
    size = [max(GRID, round(side * zoom / GRID) * GRID) for side in images.shape[-2:]]
    return F.interpolate(images, size, mode="bicubic", align_corners=False).clamp_(0, 1)
