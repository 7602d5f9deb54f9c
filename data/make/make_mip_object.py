"""Renders an object in the MIP layout: a gallery under light A, queries under lights A to E.

    python -m data.make.make_mip_object Spring data/MIP/Spring

Images that exist are kept, so a stopped run can go on; delete what should be made anew.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np

from .cameras import FOV_X, direction_near, fibonacci_directions, look_at, random_direction
from .lights import LIGHTS, Light
from .masks import seen_mask
from .objects import OBJECTS, add_models, build_stage, defect_normal
from .photo import save_image, to_bytes, tone_curve
from .queries import broken_views, make_queries, plan_queries, write_json

SIZE = 400, 400
GALLERY_VIEWS, GALLERY_DISTANCE = 60, 3.9
QUERY_DISTANCES = 3.9, 4.3
FLAWLESS = {"A": 3, "B": 3, "C": 3, "D": 3, "E": 2}
SMALLEST_MASK = 0.004  # 640 px


def picture(stage, light: Light, pose, samples: int, seed: int) -> np.ndarray:
    linear, _ = stage.render(light, pose, SIZE, samples, seed)
    return to_bytes(tone_curve(linear))


def broken_picture(broken, flawless, mask, *shot):
    """A broken object's picture, and what one sees of its mask [H, W]: None if too little.

    Args:
        broken, flawless: the object's Stages.
        shot: light, pose, samples and seed of `picture`.
    """
    image, sound = (picture(stage, *shot) for stage in (broken, flawless))
    return image, seen_mask(mask, image, sound)


def make_gallery(
    root: Path, stage, samples: int, light: Light = LIGHTS["A"], first_seed: int = 0
) -> None:
    """Views from all around, evenly spread, and transforms.json."""
    frames = []
    for i, direction in enumerate(fibonacci_directions(GALLERY_VIEWS)):
        pose = look_at(direction * GALLERY_DISTANCE)
        path = root / f"train/{i:03d}.png"
        if not path.exists():
            save_image(path, picture(stage, light, pose, samples, first_seed + i))
        frames.append({"file_path": f"train/{i:03d}", "transform_matrix": pose.tolist()})
    write_json(root / "transforms.json", {"camera_angle_x": FOV_X, "frames": frames})


def hand_held(direction, rng: np.random.Generator) -> np.ndarray:
    """Pose from `direction` [3], about aimed at the origin and about upright."""
    eye = direction * rng.uniform(*QUERY_DISTANCES)
    return look_at(eye, rng.uniform(-0.08, 0.08, 3), roll=rng.uniform(-0.12, 0.12))


def pose_near_defect(name: str, defect: dict, rng: np.random.Generator) -> np.ndarray:
    return hand_held(direction_near(defect_normal(name, defect), np.radians(65), rng), rng)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of OBJECTS, or of an OBJ file of --models without its end")
    parser.add_argument("output", type=Path)
    parser.add_argument("--models", type=Path, help="folder of OBJ files that are objects too")
    parser.add_argument("--samples", type=int, default=16, help="paths per pixel")
    parser.add_argument("--per-defect", type=int, default=7, help="queries of each defect kind")
    parser.add_argument("--flawless", type=int, help="flawless queries under each light")
    parser.add_argument("--draw", type=int, default=0, help="other queries; in a folder of its own")
    args = parser.parse_args(argv)
    if args.models:
        add_models(args.models)
    choices = [n for n, kind in OBJECTS.items() if not kind.on_table]
    if args.name not in choices:
        parser.error(f"no object {args.name!r}; there are {', '.join(choices)}")
    stage = build_stage(args.name)
    make_gallery(args.output, stage, args.samples)
    records_path = args.output / "transforms_test.json"
    module = OBJECTS[args.name].load()
    near = partial(pose_near_defect, args.name)
    smallest = getattr(module, "SMALLEST_MASK", {})

    def store(records=None):
        if records is not None:
            write_json(records_path, {"camera_angle_x": FOV_X, "frames": records})
        elif records_path.exists():
            return json.loads(records_path.read_text())["frames"]
        return []

    def flawless(request):
        rng = np.random.default_rng(request.seed)
        pose = hand_held(random_direction(rng), rng)
        light = LIGHTS[request.light]
        image = picture(stage, light, pose, args.samples, 1000 + request.number)
        return image, {"transform_matrix": pose.tolist()}

    def broken(request):
        least = smallest.get(request.type, SMALLEST_MASK)
        shot = args.samples, 2000 + request.number
        views = broken_views(request, args.name, stage, near, SIZE, FOV_X, least)
        for defect, ill, pose, mask in views:
            image, seen = broken_picture(ill, stage, mask, LIGHTS[request.light], pose, *shot)
            if seen is not None:
                return image, seen, {"transform_matrix": pose.tolist(), "defect": defect}
        print(f"no view shows a {request.type} ({request.name})", flush=True)
        return None

    flawless_counts = FLAWLESS if args.flawless is None else dict.fromkeys("ABCDE", args.flawless)
    requests = plan_queries(args.name, flawless_counts, args.per_defect, "ABCDE", args.draw)
    make_queries(args.output, ".png", requests, flawless, broken, store)


if __name__ == "__main__":
    main()
