"""Photographs become tensors: decoding, orientation, alpha and work resolution."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gaussian_renderer.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
EXIF_ORIENTATION = 0x0112
EXIF_UPRIGHT = 1
EXIF_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
READ_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


class ImageCache:
    """Decoded images, the least recently used dropped beyond `max_bytes`; safe across threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._images: OrderedDict[tuple, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple) -> Tensor | None:
        """The image stored under `key`, uint8 [3, H, W], or None."""
        with self._lock:
            if key in self._images:
                self._images.move_to_end(key)
            return self._images.get(key)

    def put(self, key: tuple, image: Tensor) -> None:
        """Store an image; one larger than the whole cache is not kept."""
        with self._lock:
            if key in self._images or image.nbytes > self.max_bytes:
                return
            self._images[key] = image
            self.num_bytes += image.nbytes
            while self.num_bytes > self.max_bytes:
                self.num_bytes -= self._images.popitem(last=False)[1].nbytes


def list_images(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name; hidden files are passed over."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    )


def stored_size(path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sizes (width, height) of an image: as shown (EXIF applied) and as stored.

    Reads the header only.
    """
    try:
        with Image.open(path) as image:
            stored = image.size
            turned = _exif_orientation(image) in EXIF_TURNED
    except READ_ERRORS as error:
        raise unreadable(path, error) from error
    return (stored[::-1] if turned else stored), stored


def work_size(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """(width, height) with the longer side brought down to `resolution`; 0 leaves it.

    Never larger than `size`.
    """
    longer = max(size)
    if resolution <= 0 or longer <= resolution:
        return size
    scale = resolution / longer
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def read_image(
    path: Path,
    size: tuple[int, int],
    *,
    white_background: bool = False,
    apply_exif: bool = True,
    cache: ImageCache | None = None,
) -> Tensor:
    """An image as sRGB, resampled by area.

    Args:
        path: PNG, JPEG or BMP of any mode; 16-bit greys are scaled.
        size: (width, height) wanted, at most the file's.
        white_background: what an alpha channel shows the image over: white, else black.
        apply_exif: turn the image as its EXIF orientation says.
        cache: where the resampled image is kept, as 8 bits per channel.

    Returns:
        [3, H, W], float32 in 0..1, a tensor of its own.
    """
    key = (str(path), _version(path), size, white_background, apply_exif)
    pixels = cache.get(key) if cache is not None else None
    if pixels is None:
        rgb = _over_background(_decode(path, apply_exif), white_background)
        pixels = torch.from_numpy(_resample(rgb, size)).permute(2, 0, 1).contiguous()
        if cache is not None:
            cache.put(key, pixels)
    return pixels.float().div_(255)


def read_mask(path: Path, size: tuple[int, int], *, apply_exif: bool = True) -> Tensor:
    """A ground-truth mask, bool [H, W]: a pixel at least half covered is set.

    Masks stored as 0/1 or 0/255 are both understood. Where nothing is half covered, every touched
    pixel is set, so that a small defect does not vanish at a low work resolution.
    """
    grey = np.asarray(_decode(path, apply_exif).convert("L"))
    binary = (grey > (127 if grey.max() > 1 else 0)).astype(np.float32)
    if (binary.shape[1], binary.shape[0]) != size:
        shrinks = size[0] <= binary.shape[1] and size[1] <= binary.shape[0]
        method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
        binary = cv2.resize(binary, size, interpolation=method)
    half = binary >= 0.5
    return torch.from_numpy(half if half.any() else binary > 0)


def unreadable(path: Path, error: Exception) -> UserError:
    """The error of a file that is no image, or a damaged one."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"no image {path}; put it back or remove what names it")
    reason = " ".join(str(error).replace(f"'{path}'", "").split()) or type(error).__name__
    return UserError(f"cannot read the image {path} ({reason}); replace or remove it")


def _exif_orientation(image: Image.Image) -> int:
    """Orientation 1..8 from the header; PNG's own getexif would decode the whole image."""
    return Image.Image.getexif(image).get(EXIF_ORIENTATION, EXIF_UPRIGHT)


def _version(path: Path) -> int:
    """Changes when the file is written anew, so that no stale image is taken from a cache."""
    try:
        return path.stat().st_mtime_ns
    except OSError as error:
        raise unreadable(path, error) from error


def _decode(path: Path, apply_exif: bool) -> Image.Image:
    try:
        with Image.open(path) as image:
            turned = apply_exif and _exif_orientation(image) != EXIF_UPRIGHT
            image.load()
            return ImageOps.exif_transpose(image) if turned else image.copy()
    except READ_ERRORS as error:
        raise unreadable(path, error) from error


def _over_background(image: Image.Image, white: bool) -> np.ndarray:
    """uint8 [H, W, 3] of an image of any mode."""
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits per pixel, kept wide by PIL
        grey = np.asarray(image, dtype=np.float64)
        scaled = np.clip(grey / (257.0 if grey.max() > 255 else 1.0), 0, 255)
        return np.repeat(np.rint(scaled).astype(np.uint8)[..., None], 3, axis=2)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"), dtype=np.float32)
        alpha = rgba[..., 3:] / 255
        over = rgba[..., :3] * alpha + (255 * (1 - alpha) if white else 0)
        return np.rint(over).astype(np.uint8)
    return np.asarray(image.convert("RGB"))


def _resample(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Exact area average of uint8 [H, W, 3] at (width, height); the input where sizes agree."""
    if (rgb.shape[1], rgb.shape[0]) == size:
        return np.array(rgb)  # PIL's array is read-only
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
