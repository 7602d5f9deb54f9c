"""Files appear whole or not at all: write beside the target, then rename."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

JPEG_QUALITY = 95


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces it when the block succeeds.

    Parent folders are made. The temporary file keeps the suffix, since writers choose the format
    by it; when the block raises, it is removed and `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private to the user; give them the usual mode instead.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, content: object) -> None:
    """Write `content` as indented JSON; floats keep full precision."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_image(path: str | os.PathLike, image: torch.Tensor | np.ndarray) -> None:
    """Write a PNG or JPEG, by the suffix of `path`.

    Args:
        image: a tensor [3, H, W] or [1, H, W] of floats, clamped to 0..1; or a uint8 array
            [H, W, 3] or [H, W].
    """
    if isinstance(image, torch.Tensor):
        pixels = image.detach().clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
        image = pixels[0].numpy() if pixels.shape[0] == 1 else pixels.permute(1, 2, 0).numpy()
    if image.dtype != np.uint8:
        raise TypeError(f"an image array must be uint8, not {image.dtype}")
    options = {"quality": JPEG_QUALITY} if Path(path).suffix.lower() in (".jpg", ".jpeg") else {}
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary, **options)
