"""COLMAP models: registered cameras and points of `sparse/0` (binary or text), through pycolmap."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.errors import UserError
from gaussian_renderer.points import PointCloud

MODEL_FOLDERS = ("sparse/0", "sparse")
PARTS = ("cameras", "images", "points3D")
PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE")
PARAMS_OF_MODEL = {0: 3, 1: 4, 2: 4, 3: 5, 4: 8, 5: 8, 6: 12, 7: 5, 8: 4, 9: 5, 10: 12}


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """What a scene needs of a model.

    Attributes:
        folder: where it was read.
        cameras: {image name: camera at the size the model was made at}, sorted by name.
        points: the triangulated points, or None when there is none.
    """

    folder: Path
    cameras: dict[str, Camera]
    points: PointCloud | None


def read_colmap(root: Path) -> ColmapModel:
    """Read the COLMAP model of the class folder `root`."""
    folder, suffix = _find_model(root)
    if suffix == ".bin":
        _check_binary(folder)
    import pycolmap

    try:
        model = pycolmap.Reconstruction(str(folder))
        cameras = {image.name: _camera(model, image, folder) for image in _registered(model)}
    except (ValueError, IndexError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot read the COLMAP model in {folder} ({reason}); export it anew "
            "(colmap model_converter)"
        ) from error
    if not cameras:
        raise UserError(
            f"the COLMAP model in {folder} has no registered image; run the mapper again"
        )
    return ColmapModel(folder, dict(sorted(cameras.items())), _points(model))


def has_colmap_model(root: Path) -> bool:
    """Whether `root` has a folder where COLMAP models are kept."""
    return any((root / name).is_dir() for name in MODEL_FOLDERS)


def _find_model(root: Path) -> tuple[Path, str]:
    for name in MODEL_FOLDERS:
        for suffix in (".bin", ".txt"):
            if all((root / name / (part + suffix)).is_file() for part in PARTS):
                return root / name, suffix
    present = next((root / name for name in MODEL_FOLDERS if (root / name).is_dir()), None)
    if present is None:
        raise UserError(f"no sparse/0 in {root}; see data/README.md for the layout")
    suffix = ".txt" if any(present.glob("*.txt")) else ".bin"
    missing = [part + suffix for part in PARTS if not (present / (part + suffix)).is_file()]
    raise UserError(
        f"a COLMAP model needs cameras, images and points3D, no {missing[0]} in {present}; "
        "export the model anew (colmap model_converter)"
    )


def _registered(model) -> list:
    return [image for image in model.images.values() if image.has_pose]


def _camera(model, image, folder: Path) -> Camera:
    camera = model.cameras[image.camera_id]
    name = camera.model.name
    if name not in PINHOLE_MODELS:
        raise UserError(
            f"cameras of {folder} must be PINHOLE or SIMPLE_PINHOLE, image {image.name} has "
            f"{name}; undistort the images first (colmap image_undistorter)"
        )
    params = [float(value) for value in camera.params]
    focal = (params[0], params[0]) if name == "SIMPLE_PINHOLE" else (params[0], params[1])
    intrinsics = Intrinsics(*focal, params[-2], params[-1], camera.width, camera.height)
    # an attribute up to pycolmap 3.11, a method since 3.12
    pose = image.cam_from_world
    pose = pose() if callable(pose) else pose
    world_to_camera = torch.eye(4, dtype=torch.float64)
    world_to_camera[:3] = torch.from_numpy(np.asarray(pose.matrix(), dtype=np.float64))
    numbers = [*focal, float(world_to_camera.abs().sum())]
    if not (np.isfinite(numbers).all() and min(focal) > 0):
        raise ValueError(f"image {image.name} has a camera that is not finite or has no focal")
    return Camera(intrinsics, world_to_camera)


def _points(model) -> PointCloud | None:
    points = list(model.points3D.values())
    if not points:
        return None
    xyz = np.array([point.xyz for point in points], dtype=np.float32)
    rgb = np.array([point.color for point in points], dtype=np.float32) / 255
    kept = np.isfinite(xyz).all(axis=1)
    return PointCloud(torch.from_numpy(xyz[kept]), torch.from_numpy(rgb[kept]))


class _Cursor:
    """Walks a binary file by record sizes; running past its end raises ValueError."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        self.at = 0

    def take(self, layout: str) -> tuple:
        size = struct.calcsize(layout)
        self.skip(size)
        return struct.unpack_from(layout, self.data, self.at - size)

    def skip(self, size: int) -> None:
        if self.at + size > len(self.data):
            raise ValueError("it ends early")
        self.at += size

    def skip_name(self) -> None:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise ValueError("it ends early")
        self.at = end + 1


def _check_binary(folder: Path) -> None:
    """Refuse truncated files: pycolmap aborts the process on some and misreads others."""
    walks = {"cameras": _walk_camera, "images": _walk_image, "points3D": _walk_point}
    for part, walk in walks.items():
        path = folder / f"{part}.bin"
        try:
            cursor = _Cursor(path)
            for _ in range(cursor.take("<Q")[0]):
                walk(cursor)
            if cursor.at != len(cursor.data):
                raise ValueError("it has more bytes than records")
        except (ValueError, OSError) as error:
            raise UserError(
                f"the COLMAP file {path} is damaged ({error}); export the model anew "
                "(colmap model_converter)"
            ) from error


def _walk_camera(cursor: _Cursor) -> None:
    _, model, _, _ = cursor.take("<IiQQ")
    if model not in PARAMS_OF_MODEL:
        raise ValueError(f"it has an unknown camera model {model}; undistort the images first")
    cursor.skip(8 * PARAMS_OF_MODEL[model])


def _walk_image(cursor: _Cursor) -> None:
    cursor.skip(4 + 7 * 8 + 4)  # id, quaternion and translation, camera id
    cursor.skip_name()
    cursor.skip(24 * cursor.take("<Q")[0])  # x, y, point id


def _walk_point(cursor: _Cursor) -> None:
    cursor.skip(8 + 3 * 8 + 3 + 8)  # id, position, colour, error
    cursor.skip(8 * cursor.take("<Q")[0])  # track: image id, index
