"""Makes the COLMAP model of a folder of photographs with pycolmap, and prunes what no point uses.

python -m data.make.reconstruct data/Colmap/05Joint
"""

import argparse
import json
import shutil
import struct
import tempfile
from pathlib import Path

import numpy as np

NO_POINT = -1  # COLMAP's mark of a keypoint without a 3D point (2^64 - 1 as unsigned)
KEYPOINT = np.dtype([("xy", "<f8", 2), ("point", "<i8")])
IMAGE_HEAD = struct.Struct("<I7dI")  # id, qvec, tvec, camera id; the name follows
POINT_HEAD = struct.Struct("<Q3d3Bd")  # id, xyz, rgb, error; the track follows


def reconstruct(photos: Path, model: Path) -> None:
    """Features, exhaustive matches and incremental mapping; writes `model`/*.bin."""
    import pycolmap

    pycolmap.set_random_seed(0)
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = "PINHOLE"
    with tempfile.TemporaryDirectory() as work:
        database = Path(work) / "database.db"
        pycolmap.extract_features(
            database,
            photos,
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            device=pycolmap.Device.cpu,
        )
        pycolmap.match_exhaustive(database, device=pycolmap.Device.cpu)
        models = pycolmap.incremental_mapping(database, photos, Path(work))
        best = max(models.values(), key=lambda m: m.num_reg_images())
        print(best.summary())
        written = Path(work) / "best"
        written.mkdir()
        best.write_binary(written)
        model.mkdir(parents=True, exist_ok=True)
        for name in ("cameras.bin", "images.bin", "points3D.bin"):
            shutil.copy(written / name, model / name)


def prune_keypoints(images: bytes, points: bytes) -> tuple[bytes, bytes]:
    """Drop the keypoints without a 3D point and renumber the tracks.

    Args:
        images, points: contents of images.bin and points3D.bin.
    Returns:
        The same of the pruned model. Poses, points and their tracks stay as they are.
    """
    new_images, renumbered = _prune_images(images)
    (count,) = struct.unpack_from("<Q", points)
    offset, parts = 8, [points[:8]]
    for _ in range(count):
        head_end = offset + POINT_HEAD.size
        (length,) = struct.unpack_from("<Q", points, head_end)
        parts.append(points[offset : head_end + 8])
        track = np.frombuffer(points, "<u4", 2 * length, head_end + 8).reshape(-1, 2).copy()
        track[:, 1] = [renumbered[image][keypoint] for image, keypoint in track]
        parts.append(track.tobytes())
        offset = head_end + 8 + track.nbytes
    return new_images, b"".join(parts)


def _prune_images(images: bytes):
    """Pruned images.bin, and for each image id the new numbers of its keypoints."""
    (count,) = struct.unpack_from("<Q", images)
    offset, parts, renumbered = 8, [images[:8]], {}
    for _ in range(count):
        image_id = IMAGE_HEAD.unpack_from(images, offset)[0]
        name_end = images.index(b"\0", offset + IMAGE_HEAD.size) + 1
        (length,) = struct.unpack_from("<Q", images, name_end)
        keypoints = np.frombuffer(images, KEYPOINT, length, name_end + 8)
        used = keypoints["point"] != NO_POINT
        renumbered[image_id] = np.cumsum(used) - 1
        parts += [images[offset:name_end], struct.pack("<Q", used.sum()), keypoints[used].tobytes()]
        offset = name_end + 8 + keypoints.nbytes
    return b"".join(parts), renumbered


def similarity(source, target):
    """Scale, rotation and shift that best map `source` onto `target` (Umeyama), both [N, 3]."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    u, values, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = (values * sign).sum() / (a**2).sum()
    return scale, rotation, target_mean - scale * rotation @ source_mean


def centre_errors(model: Path, poses_true: Path) -> np.ndarray:
    """Distances of the model's camera centres from the true ones, in the renderer's units, [V]."""
    import pycolmap

    true = json.loads(poses_true.read_text())["train"]
    found = {
        image.name: image.cam_from_world().inverse().translation
        for image in pycolmap.Reconstruction(model).images.values()
    }
    centres = np.array([found[name] for name in sorted(found)])
    expected = np.array([true[name] for name in sorted(found)])[:, :3, 3]
    scale, rotation, shift = similarity(centres, expected)
    return np.linalg.norm(scale * centres @ rotation.T + shift - expected, axis=1)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="has images/; gets sparse/0")
    folder = parser.parse_args(argv).folder
    model = folder / "sparse/0"
    reconstruct(folder / "images", model)
    paths = model / "images.bin", model / "points3D.bin"
    for path, content in zip(paths, prune_keypoints(*(p.read_bytes() for p in paths)), strict=True):
        path.write_bytes(content)
    if (folder / "poses_true.json").exists():
        errors = centre_errors(model, folder / "poses_true.json")
        print(f"camera centres: median error {np.median(errors):.5f}, worst {errors.max():.5f}")


if __name__ == "__main__":
    main()
