"""transforms.json, as NeRF tools write it: poses and intrinsics of a folder of images.

Understood at the top level and in a frame (which goes first): `fl_x fl_y cx cy w h` and
`camera_angle_x` (horizontal field of view, rad). `camera_angle_y` is passed over: Blender derives
it from the sensor's height and not from the image's, so it is wrong for most files that have it;
pixels are taken as square unless `fl_y` says otherwise. `transform_matrix` is camera_to_world in
OpenGL axes, rigid.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.errors import UserError
from piad.images import IMAGE_SUFFIXES

DISTORTION_KEYS = ("k1", "k2", "k3", "k4", "p1", "p2")
PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL")
RIGID_TOLERANCE = 1e-2  # of R^T R; poses written with few digits stay under it
ASPECT_TOLERANCE = 0.01  # relative; one pixel of rounding at 100 pixels
# where the named data sets keep gallery images, tried when `file_path` itself leads nowhere
GALLERY_FOLDERS = ("train", "train/good", "images", "")


@dataclass(frozen=True)
class Frame:
    """One frame of a transforms file.

    Attributes:
        file_path: as written, without `./` and with forward slashes.
        camera_to_world: [4, 4], float64, OpenGL axes, rigid.
        fields: the frame's own keys over the file's.
    """

    file_path: str
    camera_to_world: Tensor
    fields: dict

    @property
    def stem_path(self) -> str:
        """`file_path` without an image's extension: `test/burr/000`."""
        path = PurePosixPath(self.file_path)
        return str(path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path)


def read_transforms(path: Path) -> list[Frame]:
    """All frames of a transforms file, checked."""
    content = read_json(path)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames:
        raise UserError(
            f'{path} must be an object with a non-empty list "frames"; '
            "see data/README.md for the layout"
        )
    shared = {key: value for key, value in content.items() if key != "frames"}
    return [_frame(path, index, frame, shared) for index, frame in enumerate(frames)]


def read_json(path: Path) -> object:
    """The content of a JSON file; UserError when there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(
            f"no {path.name} in {path.parent}; see data/README.md for the layout"
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); write it anew") from error


def has_intrinsics(fields: dict) -> bool:
    """Whether a frame says its focal length."""
    return "fl_x" in fields or "camera_angle_x" in fields


def frame_intrinsics(path: Path, frame: Frame, size: tuple[int, int]) -> Intrinsics:
    """The frame's pinhole at `size` = (width, height), the image's own.

    `fl_x cx cy` are in pixels of `w` x `h` where those are given and are scaled to `size`.
    """
    fields = frame.fields
    where = f"{path}, frame {frame.file_path}"
    _refuse_distortion(fields, where)
    width, height = (
        _number(fields, key, where, side) for key, side in zip("wh", size, strict=True)
    )
    if min(width, height) <= 0 or abs(width * size[1] / (height * size[0]) - 1) > ASPECT_TOLERANCE:
        raise UserError(
            f"{where}: w x h must have the image's aspect, got {width:g} x {height:g} for an "
            f"image of {size[0]} x {size[1]}; correct w and h"
        )
    if "fl_x" in fields:
        fx = _number(fields, "fl_x", where)
        fy = _number(fields, "fl_y", where, fx)
    elif "camera_angle_x" in fields:
        angle = _number(fields, "camera_angle_x", where)
        if not 0 < angle < math.pi:
            raise UserError(
                f"{where}: camera_angle_x must lie between 0 and pi, in radians, got {angle:g}"
            )
        fx = fy = 0.5 * width / math.tan(0.5 * angle)
    else:
        raise UserError(f"{where}: neither camera_angle_x nor fl_x is given; add one of them")
    if min(fx, fy) <= 0:
        raise UserError(f"{where}: focal lengths must be positive, got {fx:g} and {fy:g}")
    cx = _number(fields, "cx", where, 0.5 * width)
    cy = _number(fields, "cy", where, 0.5 * height)
    sx, sy = size[0] / width, size[1] / height
    return Intrinsics(fx * sx, fy * sy, cx * sx, cy * sy, size[0], size[1])


class ImageFinder:
    """Finds images by a name with or without extension; each folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[Path, dict[str, Path]] = {}

    def find(self, file_path: str, also_in: tuple[str, ...] = GALLERY_FOLDERS) -> Path | None:
        """The image `file_path` names, relative to the root; None when there is none.

        The exact name goes first, then the same stem with another image extension, then both in
        the folders `also_in`.
        """
        path = PurePosixPath(file_path)
        for folder in (self.root / path.parent, *(self.root / name for name in also_in)):
            if found := self._in_folder(folder, path.name):
                return found
        return None

    def _in_folder(self, folder: Path, name: str) -> Path | None:
        if folder not in self._folders:
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
            images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
            by_name = {path.stem: path for path in reversed(images)}
            by_name.update({path.name: path for path in images})
            self._folders[folder] = by_name
        stem = PurePosixPath(name)
        bare = stem.stem if stem.suffix.lower() in IMAGE_SUFFIXES else name
        return self._folders[folder].get(name) or self._folders[folder].get(bare)


def _frame(path: Path, index: int, frame: object, shared: dict) -> Frame:
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise UserError(f'{path}: frame {index} needs a "file_path"; correct the file')
    name = str(PurePosixPath(frame["file_path"].replace("\\", "/")))
    try:
        matrix = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
        return Frame(name, rigid(matrix), {**shared, **frame})
    except (KeyError, TypeError, ValueError) as error:
        reason = "there is none" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path}: transform_matrix of frame {name} must be a rigid 4 x 4 camera_to_world "
            f"({reason}); correct the file"
        ) from error


def rigid(matrix: Tensor) -> Tensor:
    """`matrix` [4, 4] or [3, 4] with its rotation made exact; ValueError when it is not rigid."""
    if tuple(matrix.shape) not in ((4, 4), (3, 4)):
        raise ValueError(f"its shape is {list(matrix.shape)}")
    if not torch.isfinite(matrix).all():
        raise ValueError("it has values that are not finite")
    rotation = matrix[:3, :3]
    drift = (rotation.T @ rotation - torch.eye(3, dtype=matrix.dtype)).abs().max().item()
    if drift > RIGID_TOLERANCE:
        raise ValueError(f"its axes are scaled or sheared by {drift:.2g}")
    if torch.linalg.det(rotation) < 0:
        raise ValueError("it is a mirror image")
    u, _, vh = torch.linalg.svd(rotation)
    result = torch.eye(4, dtype=matrix.dtype)
    result[:3, :3] = u @ vh
    result[:3, 3] = matrix[:3, 3]
    return result


def _number(fields: dict, key: str, where: str, default: float | None = None) -> float:
    value = fields.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{where}: {key} must be a number, got {value!r}; correct the file")
    return float(value)


def _refuse_distortion(fields: dict, where: str) -> None:
    bent = [key for key in DISTORTION_KEYS if fields.get(key)]
    model = fields.get("camera_model", "PINHOLE")
    if bent or model not in PINHOLE_MODELS:
        what = f"{bent[0]} = {fields[bent[0]]}" if bent else f"camera_model {model}"
        raise UserError(
            f"{where}: images must be undistorted, got {what}; undistort them "
            "(colmap image_undistorter)"
        )
