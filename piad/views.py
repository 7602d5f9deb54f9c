"""What a scene is made of: gallery views with poses, queries without."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.errors import UserError
from gaussian_renderer.points import PointCloud
from piad.images import ImageCache, read_image, read_mask


@dataclass(frozen=True, eq=False)
class View:
    """A gallery photograph: `id` is its path in the class folder without the extension."""

    id: str
    path: Path
    camera: Camera  # at work resolution
    white_background: bool = False
    apply_exif: bool = True
    cache: ImageCache | None = field(default=None, repr=False)

    def image(self) -> Tensor:
        """The photograph at work resolution, [3, H, W], float32, sRGB in 0..1."""
        return _image(self, self.camera.intrinsics)


@dataclass(frozen=True, eq=False)
class Query:
    """A photograph to judge: `id` is `type/stem`, `label` 0 for flawless and 1 for anomalous.

    A photograph alone, from outside the data set, has the type `query`, a `stem` that no other of
    its scene has, and no label (None).
    """

    id: str
    type: str
    stem: str
    path: Path
    label: int | None
    mask_path: Path | None  # None: flawless, or the class has no masks
    intrinsics: Intrinsics  # at work resolution
    white_background: bool = False
    apply_exif: bool = True
    cache: ImageCache | None = field(default=None, repr=False)

    @property
    def alone(self) -> bool:
        """Whether it comes from outside the data set."""
        return self.label is None

    def image(self) -> Tensor:
        """The photograph at work resolution, [3, H, W], float32, sRGB in 0..1."""
        return _image(self, self.intrinsics)

    def mask(self) -> Tensor:
        """True where the ground truth marks a defect, bool [H, W]; all False when flawless."""
        size = (self.intrinsics.width, self.intrinsics.height)
        if self.label == 0:
            return torch.zeros(size[::-1], dtype=torch.bool)
        if self.mask_path is None:
            raise UserError(
                f"no ground truth for {self.path}; add its mask or ask for image-level scores only"
            )
        return read_mask(self.mask_path, size, apply_exif=self.apply_exif)


@dataclass(frozen=True, eq=False)
class Scene:
    """A class: gallery with poses, queries without, and the points of its COLMAP model."""

    name: str
    dataset_type: str  # "MAD", "MIP" or "COLMAP"
    gallery: list[View]
    queries: list[Query]
    points: PointCloud | None
    root: Path
    has_masks: bool = True  # False: the class has no ground_truth folder, image scores only

    @property
    def dataset(self) -> str:
        """Name of the data set's folder, as in `reflection/<dataset>/<class>`."""
        return self.root.resolve().parent.name


def is_normal(defect_type: str) -> bool:
    """Whether the queries of a type are flawless."""
    return defect_type == "good" or defect_type.startswith("good_")


def _image(item: View | Query, intrinsics: Intrinsics) -> Tensor:
    return read_image(
        item.path,
        (intrinsics.width, intrinsics.height),
        white_background=item.white_background,
        apply_exif=item.apply_exif,
        cache=item.cache,
    )
