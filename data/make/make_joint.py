"""Photographs the joint on its turntable: 40 gallery photographs and the queries.

    python -m data.make.make_joint data/Colmap/05Joint
    python -m data.make.reconstruct data/Colmap/05Joint

The second command makes the COLMAP model from the gallery. Images that exist are kept, so a
stopped run can go on; a gallery made anew needs a new model.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from .cameras import look_at, spherical
from .lights import TABLE_LIGHTS
from .objects import build_stage
from .photo import photograph, save_image
from .queries import broken_view, make_queries, plan_queries, write_json

NAME = "05Joint"
SIZE = 600, 800
FOV_X = np.radians(48)
SAMPLES = 12
GALLERY_PHOTOS, GALLERY_SEED = 40, 11
RING_ELEVATIONS = 18, 38, 60  # degrees
FLAWLESS = {"A": 3, "B": 3, "C": 3, "D": 3, "E": 2}
PER_DEFECT = 9
SMALLEST_MASK = 0.0015  # 720 px


def pose_on_ring(azimuth, elevation, distance, rng: np.random.Generator) -> np.ndarray:
    """A hand-held pose from the given direction (rad), about aimed at the joint."""
    eye = spherical(azimuth, elevation) * distance + [0, 0, 0.1]
    target = np.array([0, 0, 0.12]) + rng.uniform(-0.12, 0.12, 3)
    return look_at(eye, target, roll=rng.uniform(-0.06, 0.06))


def shoot(stage, light: str, pose, seed: int, rng: np.random.Generator) -> np.ndarray:
    linear, _ = stage.render(TABLE_LIGHTS[light], pose, SIZE, SAMPLES, seed, FOV_X)
    return photograph(linear, rng.standard_normal((*SIZE, 3)))


def make_gallery(root: Path, stage) -> dict:
    """Three rings of photographs; returns the true poses by file name."""
    rng = np.random.default_rng(GALLERY_SEED)
    poses = {}
    for i in range(GALLERY_PHOTOS):
        ring = i % 3
        azimuth = 2 * np.pi * (i + 0.5 * ring) / GALLERY_PHOTOS * 3 + rng.uniform(-0.05, 0.05)
        elevation = np.radians(RING_ELEVATIONS[ring] + rng.uniform(-4, 4))
        pose = pose_on_ring(azimuth, elevation, rng.uniform(4.0, 4.6), rng)
        poses[f"{i:03d}.jpg"] = pose.tolist()
        path = root / f"images/{i:03d}.jpg"
        if path.exists():  # the noise is drawn from the same stream as the poses
            rng.standard_normal((*SIZE, 3))
        else:
            save_image(path, shoot(stage, "A", pose, i, rng))
    return poses


def pose_near_defect(defect: dict, rng: np.random.Generator) -> np.ndarray:
    nx, ny, _ = defect["normal"]
    azimuth = np.arctan2(ny, nx) + rng.uniform(-0.6, 0.6)
    return pose_on_ring(azimuth, np.radians(rng.uniform(18, 58)), rng.uniform(4.0, 4.5), rng)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    root = parser.parse_args(argv).output
    stage = build_stage(NAME)
    gallery = make_gallery(root, stage)
    records_path = root / "poses_true.json"

    def store(records=None):
        if records is not None:
            content = {"fov_x": float(FOV_X), "train": gallery, "test": records}
            write_json(records_path, content)
        elif records_path.exists():
            return json.loads(records_path.read_text())["test"]
        return []

    def flawless(request):
        rng = np.random.default_rng(request.seed)
        elevation = np.radians(rng.uniform(18, 58))
        pose = pose_on_ring(rng.uniform(0, 2 * np.pi), elevation, rng.uniform(4.0, 4.5), rng)
        image = shoot(stage, request.light, pose, 900 + request.number, rng)
        return image, {"transform_matrix": pose.tolist()}

    def broken(request):
        defect, ill, pose, mask = broken_view(
            request, NAME, stage, pose_near_defect, SIZE, FOV_X, SMALLEST_MASK
        )
        rng = np.random.default_rng((*request.seed, 1))
        image = shoot(ill, request.light, pose, 950 + request.number, rng)
        return image, mask, {"transform_matrix": pose.tolist(), "defect": defect}

    requests = plan_queries(NAME, FLAWLESS, PER_DEFECT, "ABCDE")
    make_queries(root, ".jpg", requests, flawless, broken, store)


if __name__ == "__main__":
    main()
