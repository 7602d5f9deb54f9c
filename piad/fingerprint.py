"""Digests of a scene's inputs, by which stages notice that their data changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from gaussian_renderer.errors import UserError

if TYPE_CHECKING:
    from piad.views import Query, Scene

DIGEST_BYTES = 16


def gallery_fingerprint(scene: Scene) -> str:
    """Digest of the gallery: files, poses, intrinsics and points. Queries don't change it."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for view in scene.gallery:
        digest.update(f"{view.id} {view.camera.intrinsics} {view.white_background}".encode())
        digest.update(view.camera.world_to_camera.numpy().tobytes())
        digest.update(_file_bytes(view.path))
    if scene.points is not None:
        digest.update(scene.points.xyz.numpy().tobytes() + scene.points.rgb.numpy().tobytes())
    return digest.hexdigest()


def query_fingerprint(query: Query) -> str:
    """Digest of a query: its file, intrinsics and the background shown through its alpha."""
    settings = f"{query.id} {query.intrinsics} {query.white_background}".encode()
    return hashlib.blake2b(settings + _file_bytes(query.path), digest_size=DIGEST_BYTES).hexdigest()


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); put it back") from error
