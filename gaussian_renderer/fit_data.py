"""What a fit reads and keeps: the gallery at the resolution in use, and its checkpoint."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gaussian_renderer.backdrop import Backdrop, certain_foreground, eroded, silhouette
from gaussian_renderer.camera import Camera
from gaussian_renderer.files import atomic_path
from gaussian_renderer.gaussians import GaussianModel

VERSION = 1  # of the fit: raise it when the same gallery and settings give another model
CACHE_BYTES = 2 << 30  # photos kept at the resolution in use; what is over is made anew each time
IMAGES_IN_FINGERPRINT = 16
CROP_MARGIN = 0.03  # of the longer side: what a Gaussian beside the silhouette still reaches
CROP_STEP = 8  # px, a tile of the CPU's rasterizer


@dataclass(frozen=True, eq=False)
class TargetView:
    """A photo as the fit sees it; where the backdrop is plain, the part around the object.

    Attributes:
        camera: at the photo's size, of that part.
        viewmat: its world_to_camera, float32 [4, 4], on the device.
        pixels: [C, H, W], uint8.
        alpha_sign: what a plain backdrop tells of alpha, int8 [1, H, W]: 1 where nothing is, -1
            where the object surely is, 0 where unknown; None when the backdrop tells nothing.
        size: height and width of the whole photo, px.
    """

    camera: Camera
    viewmat: Tensor
    pixels: Tensor
    alpha_sign: Tensor | None
    size: tuple[int, int]

    @property
    def image(self) -> Tensor:
        """[C, H, W], 0..1."""
        return self.pixels.float().div_(255)

    @property
    def share(self) -> float:
        """Share of the whole photo's pixels."""
        return self.pixels.shape[1] * self.pixels.shape[2] / (self.size[0] * self.size[1])

    @property
    def num_bytes(self) -> int:
        return self.pixels.numel() + (0 if self.alpha_sign is None else self.alpha_sign.numel())


class Subset(Sequence):
    """Some of the photos, still loaded on access: a large gallery never lies in memory whole."""

    def __init__(self, images: Sequence[Tensor], indices: Sequence[int]) -> None:
        self._images, self._indices = images, list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position):
        return self._images[self._indices[position]]


class Gallery:
    """Photos and cameras; the ones at the resolution in use stay on the device, as bytes."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        images: Sequence[Tensor],
        backdrop: Backdrop,
        device: torch.device,
    ) -> None:
        self.cameras = list(cameras)
        self.images, self.backdrop, self.device = images, backdrop, device
        self._cache: dict[int, TargetView] = {}
        self._shapes: dict[int, tuple[Tensor, Tensor]] = {}
        self._cached_bytes, self._shape_bytes, self._factor = 0, 0, 0

    def original(self, index: int) -> Tensor:
        """The photo as given, [C, H, W]."""
        return self.images[index]

    def view(self, index: int, factor: int, about_object: bool) -> TargetView:
        """Photo `index`, smaller by `factor` (mean over each pixel's area).

        Args:
            about_object: before a plain backdrop, only the part with the object, and what the
                backdrop tells of alpha there.
        """
        if factor != self._factor:
            self._cache, self._cached_bytes, self._factor = {}, 0, factor
        if index in self._cache:
            return self._cache[index]
        view = self._make(index, factor, about_object and self.backdrop.plain)
        if self._cached_bytes + self._shape_bytes + view.num_bytes <= CACHE_BYTES:
            self._cache[index] = view
            self._cached_bytes += view.num_bytes
        return view

    def _make(self, index: int, factor: int, about_object: bool) -> TargetView:
        image, camera = self.images[index].to(self.device, torch.float32), self.cameras[index]
        size = (max(1, image.shape[1] // factor), max(1, image.shape[2] // factor))
        sign = None
        if about_object:
            shape, sign = self._shape(index, image, camera)
        if size != tuple(image.shape[1:]):
            image = interpolate(image[None], size=size, mode="area")[0]
            if sign is not None:  # kept only where all of the pixel agrees
                sign = interpolate(sign[None].float(), size=size, mode="area")[0].trunc()
        camera = camera.resized(size[1], size[0])
        pixels = image.mul(255).add_(0.5).clamp_(0, 255).to(torch.uint8)
        if sign is not None:
            x, y, width, height = _box_of(shape, size)
            camera = camera.cropped(x, y, width, height)
            pixels = pixels[:, y : y + height, x : x + width].contiguous()
            sign = sign[:, y : y + height, x : x + width].to(self.device, torch.int8).contiguous()
        viewmat = camera.viewmat(self.device)
        return TargetView(camera, viewmat, pixels.to(self.device), sign, size)

    def _shape(self, index: int, image: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        """Silhouette, bool [H, W], and sign of alpha, int8 [1, H, W], at the photo's full size.

        They serve every factor, so they are kept while few bytes are.
        """
        if index in self._shapes:
            return self._shapes[index]
        shape = silhouette(image[:3], self.backdrop.colour[:3], self.backdrop.tolerance)
        # certain are large patches of backdrop, holes of the object included
        empty = eroded((~shape).float(), 1) > 0.5
        object_ = certain_foreground(image, camera, self.backdrop.colour[:3]) & ~empty
        sign = (empty.to(torch.int8) - object_.to(torch.int8))[None]
        needed = shape.numel() + sign.numel()
        if self._cached_bytes + self._shape_bytes + needed <= CACHE_BYTES // 4:
            self._shapes[index] = shape, sign
            self._shape_bytes += needed
        return shape, sign


def _box_of(shape: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Column, row, width and height of the object's box in an image of `size`, with a margin.

    Args:
        shape: the silhouette at the photo's full size, bool [H, W]; empty: all of the image.
    """
    if not shape.any():
        return 0, 0, size[1], size[0]
    bounds = []
    for axis, length in ((0, size[1]), (1, size[0])):
        found = shape.any(axis).nonzero()[:, 0]
        scale = length / shape.shape[1 - axis]
        margin = CROP_MARGIN * max(size)
        first = max(0, int(found[0] * scale - margin) // CROP_STEP * CROP_STEP)
        last = -int(-((found[-1] + 1) * scale + margin) // CROP_STEP) * CROP_STEP
        bounds.append((first, min(length, last) - first))
    (x, width), (y, height) = bounds
    return x, y, width, height


def fingerprint(
    settings: dict, cameras: Sequence[Camera], images: Sequence[Tensor], start: GaussianModel
) -> str:
    """Hash of all that a fit depends on; of many photos a sample stands for the rest."""
    digest = hashlib.sha256(json.dumps([VERSION, settings], sort_keys=True).encode())
    for camera in cameras:
        digest.update(repr(camera.intrinsics).encode())
        digest.update(camera.world_to_camera.numpy().tobytes())
    stride = max(1, len(images) // IMAGES_IN_FINGERPRINT)
    for i in range(0, len(images), stride):
        digest.update(images[i].contiguous().numpy().tobytes())
    for tensor in start.tensors().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, key: str, state: dict) -> None:
    """Write the state beside its fingerprint, whole or not at all."""
    with atomic_path(path) as temporary:
        torch.save({"key": key, "state": state}, temporary)


def load_checkpoint(path: Path, key: str) -> dict | None:
    """The state saved under the same fingerprint; None, with a word why, when there is none."""
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["key"] == key:
            return content["state"]
        reason = "it belongs to other settings, photos or poses"
    except (RuntimeError, EOFError, KeyError, TypeError, OSError, pickle.UnpicklingError):
        reason = "it is not a readable checkpoint"
    warnings.warn(f"the fit starts anew: {path} is not used, {reason}", stacklevel=2)
    return None
