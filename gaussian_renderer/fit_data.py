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

CACHE_BYTES = 2 << 30  # photos kept at the resolution in use; what is over is made anew each time
IMAGES_IN_FINGERPRINT = 16


@dataclass(frozen=True, eq=False)
class TargetView:
    """A photo as the fit sees it.

    Attributes:
        camera: at the photo's size.
        image: [C, H, W], 0..1.
        alpha_sign: what a plain backdrop tells of alpha, [1, H, W]: 1 where nothing is, -1 where
            the object surely is, 0 where unknown; None when the backdrop tells nothing.
    """

    camera: Camera
    image: Tensor
    alpha_sign: Tensor | None


class Subset(Sequence):
    """Some of the photos, still loaded on access: a large gallery never lies in memory whole."""

    def __init__(self, images: Sequence[Tensor], indices: Sequence[int]) -> None:
        self._images, self._indices = images, list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position):
        return self._images[self._indices[position]]


class Gallery:
    """Photos and cameras; the ones at the resolution in use stay on the device."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        images: Sequence[Tensor],
        backdrop: Backdrop,
        device: torch.device,
    ) -> None:
        self.cameras = list(cameras)
        self.images, self._backdrop, self._device = images, backdrop, device
        self._cache: dict[int, TargetView] = {}
        self._cached_bytes, self._factor = 0, 0

    def original(self, index: int) -> Tensor:
        """The photo as given, [C, H, W]."""
        return self.images[index]

    def view(self, index: int, factor: int, with_alpha: bool) -> TargetView:
        """Photo `index`, smaller by `factor` (mean over each pixel's area)."""
        if factor != self._factor:
            self._cache, self._cached_bytes, self._factor = {}, 0, factor
        if index in self._cache:
            return self._cache[index]
        view = self._make(index, factor, with_alpha)
        num_bytes = view.image.numel() * view.image.element_size()
        if self._cached_bytes + num_bytes <= CACHE_BYTES:
            self._cache[index] = view
            self._cached_bytes += num_bytes
        return view

    def _make(self, index: int, factor: int, with_alpha: bool) -> TargetView:
        image, camera = self.images[index].float(), self.cameras[index]
        sign = self._alpha_sign(index, image, camera) if with_alpha else None
        size = (max(1, image.shape[1] // factor), max(1, image.shape[2] // factor))
        if size != tuple(image.shape[1:]):
            image = interpolate(image[None], size=size, mode="area")[0]
            if sign is not None:  # kept only where all of the pixel agrees
                sign = interpolate(sign[None], size=size, mode="area")[0].trunc()
        camera = camera.resized(size[1], size[0])
        sign = None if sign is None else sign.to(self._device)
        return TargetView(camera, image.to(self._device), sign)

    def _alpha_sign(self, index: int, image: Tensor, camera: Camera) -> Tensor | None:
        if not self._backdrop.plain:
            return None
        colour = self._backdrop.colour[:3]
        # certain are large patches of backdrop, holes of the object included
        seen_through = ~silhouette(image[:3], colour, self._backdrop.tolerance)
        empty = eroded(seen_through.float(), 1) > 0.5
        object_ = certain_foreground(image, camera, colour) & ~empty
        return (empty.float() - object_.float())[None]


def fingerprint(
    settings: dict, cameras: Sequence[Camera], images: Sequence[Tensor], start: GaussianModel
) -> str:
    """Hash of all that a fit depends on; of many photos a sample stands for the rest."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
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


def discard_checkpoint(folder: Path) -> None:
    """Remove the checkpoint once the finished model is stored elsewhere."""
    (Path(folder) / "checkpoint.pt").unlink(missing_ok=True)
