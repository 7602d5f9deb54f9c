"""From linear radiance to the picture a camera would store."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

HIGHLIGHT_KNEE = 0.8  # exposure above which the tone curve rolls off


def srgb(linear) -> np.ndarray:
    """The sRGB transfer curve; negative values become 0."""
    x = np.clip(linear, 0, None)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-8) ** (1 / 2.4) - 0.055)


def tone_curve(linear, exposure: float = 1.0) -> np.ndarray:
    """Exposed linear RGB to sRGB in 0..1: linear up to the knee, highlights rolled off above."""
    x = np.asarray(linear) * exposure
    over = 1 - np.exp(-(x - HIGHLIGHT_KNEE) / (1 - HIGHLIGHT_KNEE) / 1.6)
    return srgb(np.where(x < HIGHLIGHT_KNEE, x, HIGHLIGHT_KNEE + (1 - HIGHLIGHT_KNEE) * over))


def to_bytes(image) -> np.ndarray:
    """Values in 0..1 to uint8, rounded."""
    return (np.asarray(image) * 255 + 0.5).clip(0, 255).astype(np.uint8)


def photograph(linear, noise) -> np.ndarray:
    """What a small camera makes of exposed radiance: vignette, slight blur, noise, tone curve.

    Args:
        linear: exposed linear RGB, [H, W, 3].
        noise: standard normal values of the same shape.
    Returns:
        [H, W, 3] uint8 sRGB.
    """
    height, width = linear.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    half_diagonal_2 = (width / 2) ** 2 + (height / 2) ** 2
    radius_2 = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / half_diagonal_2
    linear = linear * (1 - 0.28 * radius_2)[..., None]
    for axis in (0, 1):
        linear = sum(
            weight * np.roll(linear, shift, axis)
            for weight, shift in zip((0.08, 0.84, 0.08), (-1, 0, 1), strict=True)
        )
    # shot noise grows with the signal, read noise does not
    linear = linear + noise * np.sqrt(np.maximum(linear, 0) * 0.00035 + 1.5e-5)
    return to_bytes(tone_curve(linear))


def save_image(path: Path, image: np.ndarray) -> None:
    """Write a PNG or JPEG by its suffix; never leaves half a file behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    if path.suffix == ".jpg":
        Image.fromarray(image).save(temporary, quality=92, subsampling=0)
    else:
        Image.fromarray(image).save(temporary, optimize=True)
    os.replace(temporary, path)
