"""Renders views at the same pose under several lights, to train a net that removes the light.

Each group is one view: PNGs named by their light plus the albedo (8-bit, linear). Groups of the
example objects use the gallery's light and random lights only, never the lights of the queries.

    python -m data.make.make_light_pairs OUTPUT_FOLDER
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from . import cameras, lights, random_scene
from .mesh import disc
from .objects import OBJECTS, build_stage
from .photo import save_image, to_bytes, tone_curve
from .render import Stage, textured_material, vertex_material

SIZE = 208, 208
SAMPLES = 8
LIGHTS_PER_GROUP = 4
# kind: (scenes, views of each, held out from training)
PLAN = {
    "random": (22, 3, False),
    "Spring": (1, 12, False),
    "05Joint": (1, 12, False),
    "Knob": (1, 6, True),
    "Bracket": (1, 6, True),
}


def open_stage(kind: str, rng: np.random.Generator) -> tuple[Stage, bool]:
    """A flawless object or a random scene, and whether it stands on a table."""
    if kind != "random":
        return build_stage(kind), OBJECTS[kind].on_table
    solid = random_scene.random_solid(rng)
    shapes = [(solid, vertex_material())]
    on_table = bool(rng.random() < 0.5)
    if on_table:
        board = textured_material(random_scene.random_board(rng))
        shapes.append((disc(3.0, float(solid.vertices[:, 2].min())), board))
    return Stage(shapes, max_depth=5), on_table


def random_pose(on_table: bool, rng: np.random.Generator) -> np.ndarray:
    direction = cameras.random_direction(rng)
    if on_table:
        elevation = np.radians(rng.uniform(15, 70))
        direction = cameras.spherical(rng.uniform(0, 2 * np.pi), elevation)
    target = rng.uniform(-0.15, 0.15, 3)
    distance = rng.uniform(3.0, 4.2)
    return cameras.look_at(direction * distance, target, roll=rng.uniform(-0.5, 0.5))


def group_lights(kind: str, on_table: bool, rng: np.random.Generator) -> dict:
    """Name and Light of each picture of a group; held-out objects show the named lights."""
    if PLAN[kind][2]:
        return dict(lights.LIGHTS)
    named = lights.TABLE_LIGHTS if on_table else lights.LIGHTS
    first = named["A"]
    if kind == "random":  # pale table tops would burn out
        first = replace(first, exposure=first.exposure * rng.uniform(0.5, 0.9))
    chosen = {"A": first}
    for k in range(1, LIGHTS_PER_GROUP):
        chosen[f"random_{k}"] = lights.random_light(rng, above_table=on_table)
    return chosen


def render_group(stage, folder: Path, chosen: dict, pose, seed: int) -> None:
    """Write one group; its albedo comes last and marks it complete."""
    for k, (name, light) in enumerate(chosen.items()):
        linear, albedo = stage.render(light, pose, SIZE, SAMPLES, seed + k)
        save_image(folder / f"{name}.png", to_bytes(tone_curve(linear)))
    save_image(folder / "albedo.png", to_bytes(albedo))


def scenes():
    """Yields (kind, number of the scene); the kinds interleaved, so that any part is a mix."""
    order = [
        ((k + 0.5) / count, kind, k) for kind, (count, _, _) in PLAN.items() for k in range(count)
    ]
    for _, kind, k in sorted(order):
        yield kind, k


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args(argv).output
    groups = []
    for kind, number in scenes():
        stage = None  # frees the last one: see Stage.relight
        for view in range(PLAN[kind][1]):
            # seeds depend on the place in the plan only, so that a stopped run can go on
            rng = np.random.default_rng([17, list(PLAN).index(kind), number])
            name = f"{kind}_{number:03d}_{view:02d}"
            folder = output / name
            if not (folder / "albedo.png").exists():
                if stage is None:
                    stage, on_table = open_stage(kind, rng)
                rng = np.random.default_rng([18, list(PLAN).index(kind), number, view])
                chosen = group_lights(kind, on_table, rng)
                render_group(stage, folder, chosen, random_pose(on_table, rng), 100 * view)
            images = sorted(p.stem for p in folder.glob("*.png") if not p.name.startswith("."))
            images.remove("albedo")
            groups.append(
                {
                    "name": name,
                    "kind": kind,
                    "held_out": PLAN[kind][2],
                    "images": [f"{name}/{light}.png" for light in images],
                    "albedo": f"{name}/albedo.png",
                }
            )
            write_index(output / "index.json", groups)
            print(name, flush=True)


def write_index(path: Path, groups: list[dict]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"size": SIZE, "groups": groups}, indent=1))
    os.replace(temporary, path)


if __name__ == "__main__":
    main()
