"""Example objects anew, under other lights and with other defects, for the change net's training.

Every view of a defect is photographed under two lights: now and then the gallery's, a third of the
time one of the example data's, else random softboxes. From draw 14 on the objects are stretched,
twisted and of other colours and materials (`likeness`), and suffer what any object can (`damage`)
beside their own defects. Objects that are there stay, and those that the net is measured on are
never made. With --models the objects are those of a folder of OBJ files (`models`), half of them as
they are.

    python -m data.make.make_training_objects data/hand_made --draws 12 13 --variant cuda_ad_rgb
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from . import damage
from .cameras import FOV_X, random_direction
from .lights import LIGHTS, Light, random_light
from .likeness import random_likeness
from .make_mip_object import (
    GALLERY_VIEWS,
    SIZE,
    SMALLEST_MASK,
    broken_picture,
    hand_held,
    make_gallery,
    picture,
    pose_near_defect,
)
from .objects import OBJECTS, ModelKind, add_models, build_stage
from .photo import save_image, to_bytes
from .queries import Request, broken_view, view_of, write_json

UNSEEN = "Spring", "Watch", "Grinder"  # what the net is measured on
DEFECTS, LIGHTS_EACH = 24, 2  # of an object; as many flawless views beside each defect's
GALLERY_LIGHT, EXAMPLE_LIGHT = 0.12, 0.33  # shares of the photographs; the rest: random light
SMALLER = 0.6  # times an object's usual least mask
PLAIN_DRAW = 12  # whose gallery is under light A as it is
FIRST_LIKENESS = 14  # the draw from which on objects are changed
AS_IT_IS = 0.5  # share of models that are not


def varied(light: Light, rng: np.random.Generator) -> Light:
    """The light from another side, its lamps and ambience somewhat stronger or weaker."""
    turn = rng.uniform(0, 360)
    boxes = (
        replace(
            box, azimuth=box.azimuth + turn, radiance=box.radiance * np.exp(rng.normal(0, 0.25))
        )
        for box in light.softboxes
    )
    return replace(light, softboxes=tuple(boxes), sky=light.sky * np.exp(rng.normal(0, 0.3)))


def light_of(daylight: Light, rng: np.random.Generator) -> tuple[str, Light]:
    """A query's light and its name: A for the gallery's, R for a random one."""
    share = rng.random()
    if share < GALLERY_LIGHT:
        return "A", daylight
    if share < GALLERY_LIGHT + EXAMPLE_LIGHT:
        name = "BCDE"[rng.integers(4)]
        return name, LIGHTS[name]
    return "R", random_light(rng)


def make_object(
    name: str, draw: int, folder: Path, samples: int, defects: int = DEFECTS, views: int = 1
) -> None:
    """One object with its photographs in the MIP layout; transforms_test.json last.

    Args:
        draw: decides on poses, lights and defects, and on the likeness.
        samples: paths per pixel.
        defects: that are tried; one that no view shows is left out.
        views: of each defect; a mesh takes longer to make than to photograph.
    """
    rng = np.random.default_rng((sum(name.encode()), draw))
    kinds, likeness = OBJECTS[name].defects, None
    if draw >= FIRST_LIKENESS:
        kinds = tuple(dict.fromkeys(kinds + damage.KINDS))
        likeness = random_likeness(rng)
        if isinstance(OBJECTS[name], ModelKind) and rng.random() < AS_IT_IS:
            likeness = None
    stage = build_stage(name, likeness=likeness)
    near = partial(pose_near_defect, name)
    smallest = getattr(OBJECTS[name].load(), "SMALLEST_MASK", {})
    smallest = smallest | dict.fromkeys(damage.KINDS, damage.SMALLEST_MASK)
    daylight = LIGHTS["A"] if draw == PLAIN_DRAW else varied(LIGHTS["A"], rng)
    seed = 1_000_000 * draw + 1
    make_gallery(folder, stage, samples, daylight, seed)
    seed, queries = seed + GALLERY_VIEWS, []

    def query(kind: str, number: int, which: int, shown, pose, mask=None) -> None:
        key, light = light_of(daylight, rng)
        path = f"{kind}/{number:03}_{which}"
        shot = light, pose, samples, seed + len(queries)
        if mask is None:
            image = picture(shown, *shot)
        else:
            image, mask = broken_picture(shown, stage, mask, *shot)
            if mask is None:
                return
            save_image(folder / f"ground_truth/{path}.png", to_bytes(mask))
        save_image(folder / f"test/{path}.png", image)
        frame = {"file_path": f"test/{path}", "light": key, "transform_matrix": pose.tolist()}
        queries.append(frame)

    for number in range(defects):
        for which in range(LIGHTS_EACH):
            query("good", number, which, stage, hand_held(random_direction(rng), rng))
        kind = kinds[number % len(kinds)]
        request = Request(kind, number, "A", (sum(name.encode()), 77, draw, number))
        least = SMALLER * smallest.get(kind, SMALLEST_MASK)
        try:
            defect, broken, *first = broken_view(
                request, name, stage, near, SIZE, FOV_X, least, likeness
            )
        except RuntimeError as none_shows:
            print(none_shows, flush=True)
            continue
        next_pose = partial(near, defect, rng)
        others = (view_of(stage, broken, next_pose, SIZE, FOV_X, least) for _ in range(views - 1))
        for view, (pose, mask) in enumerate(filter(None, (first, *others))):
            for which in range(LIGHTS_EACH):
                query(kind, number, view * LIGHTS_EACH + which, broken, pose, mask)
    write_json(folder / "transforms_test.json", {"camera_angle_x": FOV_X, "frames": queries})


def main(argv=None):
    choices = [n for n, kind in OBJECTS.items() if not kind.on_table and n not in UNSEEN]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the objects go, NAME_DRAW each")
    parser.add_argument("--names", nargs="+", help="of the objects; all, if not given")
    parser.add_argument("--models", type=Path, help="folder of OBJ files to make objects of")
    parser.add_argument("--draws", nargs="+", type=int, default=[PLAIN_DRAW])
    parser.add_argument("--defects", type=int, default=DEFECTS, help="that are tried")
    parser.add_argument("--views", type=int, default=1, help="of each defect")
    parser.add_argument("--samples", type=int, default=16, help="paths per pixel")
    parser.add_argument("--variant", help="of Mitsuba; cuda_ad_rgb is faster by far")
    arguments = parser.parse_args(argv)
    if arguments.models:
        choices = add_models(arguments.models)
    if unknown := set(arguments.names or ()) - set(choices):
        parser.error(f"--names: no {', '.join(sorted(unknown))}; there are {', '.join(choices)}")
    if arguments.variant:
        import mitsuba

        mitsuba.set_variant(arguments.variant)
    for draw in arguments.draws:
        for name in arguments.names or choices:
            target = arguments.folder / f"{name}_{draw}"
            if not (target / "transforms_test.json").is_file():
                made = arguments.samples, arguments.defects, arguments.views
                make_object(name, draw, target, *made)
                print(target, flush=True)


if __name__ == "__main__":
    main()
