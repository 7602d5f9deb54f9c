"""Gallery features on disk, good for one set of weights, images and settings only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from EfficientLoFTR import Features
from gaussian_renderer.files import atomic_path

FORMAT = "piad.start_pose/1"


def signature_of(*parts: object) -> str:
    """Short hash of tensors (their bytes) and anything else (its text)."""
    digest = hashlib.sha256(FORMAT.encode())
    for part in parts:
        if isinstance(part, Tensor):
            array = part.detach().cpu().contiguous()
            digest.update(f"{array.dtype}{tuple(array.shape)}".encode())
            digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:24]


def cached_features(
    path: Path | None, signature: str, compute: Callable[[], list[Features]]
) -> list[Features]:
    """The features of a file written under `signature`, else computed (and written).

    A file of another signature, or one that can't be read, is replaced.
    """
    if path is not None and (kept := _read(path, signature)) is not None:
        return kept
    features = compute()
    if path is not None:
        from safetensors.torch import save_file

        named = {
            f"{index:05d}/{name}": tensor.cpu().clone().contiguous()
            for index, one in enumerate(features)
            for name, tensor in one.items()
        }
        with atomic_path(path) as temporary:
            save_file(named, temporary, metadata={"signature": signature})
    return features


def _read(path: Path, signature: str) -> list[Features] | None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("signature") != signature:
                return None
            found: dict[str, Features] = {}
            for key in sorted(file.keys()):
                index, name = key.split("/", 1)
                found.setdefault(index, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError):
        return None
    return list(found.values())
