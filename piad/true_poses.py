"""True poses of the queries, where a data set ships them. Benchmarks only; the method never asks.

MAD and MIP: `transforms_test.json`, frames `test/<type>/<stem>`, the frame of transforms.json.
COLMAP: `poses_true.json`, {"train": {image name: matrix}, "test": [frames]} in a frame of its own,
which a similarity relates to the COLMAP model's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.errors import UserError
from piad.transforms import read_json, read_transforms, rigid

if TYPE_CHECKING:
    from piad.views import Scene

MIN_SHARED = 3  # cameras that fix a similarity, if they don't stand in a line


@dataclass(frozen=True, eq=False)
class Similarity:
    """x -> scale * rotation @ x + translation."""

    scale: float
    rotation: Tensor  # [3, 3], float64
    translation: Tensor  # [3], float64

    def camera_to_world(self, matrix: Tensor) -> Tensor:
        """A rigid camera_to_world [4, 4] carried over; stays rigid, as cameras have no size."""
        moved = matrix.clone()
        moved[:3, :3] = self.rotation @ matrix[:3, :3]
        moved[:3, 3] = self.scale * (self.rotation @ matrix[:3, 3]) + self.translation
        return moved


def true_query_cameras(scene: Scene) -> dict[str, Camera] | None:
    """{query id: camera in the gallery's frame} of the queries listed; None without a file."""
    if (path := scene.root / "transforms_test.json").is_file():
        poses = {frame.stem_path: frame.camera_to_world for frame in read_transforms(path)}
    elif (path := scene.root / "poses_true.json").is_file():
        poses = _aligned_poses(scene, path)
    else:
        return None
    return {
        query.id: Camera.from_opengl(query.intrinsics, poses[f"test/{query.id}"])
        for query in scene.queries
        if f"test/{query.id}" in poses
    }


def umeyama(source: Tensor, target: Tensor) -> Similarity:
    """Least-squares similarity from points [N, 3] to points [N, 3] (Umeyama 1991, eq. 40-42)."""
    mean_source, mean_target = source.mean(0), target.mean(0)
    a, b = source - mean_source, target - mean_target
    u, d, vh = torch.linalg.svd(b.T @ a / len(source))
    signs = torch.ones(3, dtype=source.dtype)
    signs[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vh))
    rotation = u @ torch.diag(signs) @ vh
    scale = ((d * signs).sum() / a.square().sum(1).mean()).item()
    return Similarity(scale, rotation, mean_target - scale * (rotation @ mean_source))


def _aligned_poses(scene: Scene, path) -> dict[str, Tensor]:
    content = read_json(path)
    try:
        train = {_stem(name): _matrix(value) for name, value in content["train"].items()}
        test = {_stem(f["file_path"]): _matrix(f["transform_matrix"]) for f in content["test"]}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{path} must hold "train" {{image: matrix}} and "test" [frames] ({error!r}); '
            "write it anew"
        ) from error
    views = {PurePosixPath(view.id).name: view.camera for view in scene.gallery}
    shared = [name for name in views if name in train]
    if len(shared) < MIN_SHARED:
        raise UserError(
            f"{path} must share {MIN_SHARED} gallery images with the COLMAP model, got "
            f"{len(shared)}; list the gallery's poses under train"
        )
    source = torch.stack([train[name][:3, 3] for name in shared])
    target = torch.stack([views[name].position for name in shared])
    similarity = umeyama(source, target)
    return {name: similarity.camera_to_world(matrix) for name, matrix in test.items()}


def _matrix(value: object) -> Tensor:
    return rigid(torch.tensor(value, dtype=torch.float64))


def _stem(name: str) -> str:
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path.with_suffix(""))
