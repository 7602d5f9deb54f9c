"""Small class folders for tests, written the way the data sets are laid out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.se3 import se3_exp

FOV_X = 0.8


def write_photo(path: Path, size: tuple[int, int] = (24, 24), seed: int = 0, **save) -> np.ndarray:
    """A random RGB image of `size` = (width, height); returns its pixels [H, W, 3]."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **save)
    return pixels


def write_mask(path: Path, size: tuple[int, int] = (24, 24), value: int = 255) -> np.ndarray:
    """A mask with one marked square; returns it as bool [H, W]."""
    grey = np.zeros((size[1], size[0]), dtype=np.uint8)
    grey[4:12, 8:16] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path)
    return grey > 0


def poses(count: int, seed: int = 3) -> list[list[list[float]]]:
    """Random rigid camera_to_world matrices (OpenGL axes), as JSON lists."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    twists = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return se3_exp(twists).tolist()


def write_mip(
    root: Path,
    *,
    size: tuple[int, int] = (24, 24),
    query_size: tuple[int, int] | None = None,
    gallery: int = 3,
    names: str = "train/{:03d}",
    train: str = "train",
    mask_end: str = "",
    suffix: str = ".png",
    **fields,
) -> Path:
    """A MIP class folder: queries good_B/000 and burr/000. `fields` go to transforms.json."""
    for index in range(gallery):
        write_photo(root / train / f"{index:03d}{suffix}", size, index)
    query_size = query_size or size
    write_photo(root / "test" / "good_B" / f"000{suffix}", query_size, 10)
    write_photo(root / "test" / "burr" / f"000{suffix}", query_size, 11)
    write_mask(root / "ground_truth" / "burr" / f"000{mask_end}.png", query_size)
    frames = [
        {"file_path": names.format(index), "transform_matrix": matrix}
        for index, matrix in enumerate(poses(gallery))
    ]
    content = {"camera_angle_x": FOV_X, **fields, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(content))
    return root


def edit_json(path: Path, change) -> None:
    """Apply `change` to the content of a JSON file, in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def write_colmap(root: Path, *, model: str = "PINHOLE", size: tuple[int, int] = (32, 24)) -> Path:
    """A COLMAP class folder with a text model of four images and five points."""
    params = {"PINHOLE": "30 31 16 12", "SIMPLE_PINHOLE": "30 16 12", "SIMPLE_RADIAL": "30 16 12 0"}
    folder = root / "sparse" / "0"
    folder.mkdir(parents=True, exist_ok=True)
    camera = f"1 {model} {size[0]} {size[1]} {params[model]}\n"
    (folder / "cameras.txt").write_text(camera)
    lines = []
    for index, camera in enumerate(colmap_cameras()):
        write_photo(root / "images" / f"{index:03d}.jpg", size, index)
        q, t = quaternion(camera), camera.world_to_camera[:3, 3].tolist()
        lines.append(" ".join(map(repr, [index + 1, *q, *t, 1])) + f" {index:03d}.jpg\n\n")
    (folder / "images.txt").write_text("".join(lines))
    points = [f"{i + 1} {i}.5 {2 * i} -1.25 {50 * i} 128 255 0.3\n" for i in range(5)]
    (folder / "points3D.txt").write_text("".join(points))
    write_photo(root / "test" / "good" / "000.jpg", size, 20)
    write_photo(root / "test" / "stain" / "000.jpg", size, 21)
    write_mask(root / "ground_truth" / "stain" / "000.png", size)
    return root


def colmap_cameras() -> list[Camera]:
    """The cameras of `write_colmap`'s model."""
    import torch

    intrinsics = Intrinsics(30, 31, 16, 12, 32, 24)
    return [
        Camera.from_opengl(intrinsics, torch.tensor(matrix, dtype=torch.float64))
        for matrix in poses(4)
    ]


def quaternion(camera: Camera) -> list[float]:
    """w, x, y, z of world_to_camera."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(camera.world_to_camera[:3, :3].numpy()).as_quat()
    return [float(value) for value in (w, x, y, z)]
