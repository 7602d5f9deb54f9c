"""Random objects with defects, photographed: what the change net is trained on.

Each is a union of ray-marched solids (`piad.random_objects`), free before a backdrop or on a
table, written in the MIP layout: a gallery from all sides under one light, queries under others,
flawless and defective, with masks and true poses. Nothing is taken from the example objects.

    python -m piad.solid_objects data/solid_objects --count 100 [--device cuda]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.ndimage import label
from torch import Generator, Tensor

from gaussian_renderer.files import write_image, write_json
from piad.random_defects import KINDS, LINES, PART_KINDS, random_defect
from piad.random_lights import gallery_light, query_light
from piad.random_objects import Object, random_object
from piad.reflectance_data import uniform
from piad.reflectance_solids import (
    IMAGE_WIDTH,
    Light,
    View,
    develop,
    look_at,
    radiance,
    see,
)

SIDE = 400  # px
GALLERY_VIEWS = 40
PART_TIMES = 3  # each of these kinds of defects, among the others once or twice
FLAWLESS, DEFECTIVE, LIGHTS = 10, 14, 2  # views of an object's queries, and lights of each
SAME_LIGHT = 0.15  # of queries under the gallery's light
SMALLEST_MASK, LARGEST_MASK = 0.0005, 0.1  # share of the image
SMALLEST_LINE = 0.00025  # ... of what is long and thin
SMALLEST_ISLAND = 6  # px
PLACES_TRIED = 8
BURNT = 4.0  # times the median light: what is brighter is not exposed for
# As data/make/masks.py: what counts as a change of the surface.
DEPTH_STEP, NORMAL_COSINE, ALBEDO_STEP, CHANGED_SHARE = 0.012, 0.93, 0.06, 0.34


def random_direction(table: bool, generator: Generator) -> Tensor:
    """A direction [3] from which a photograph is taken; above a table where there is one."""
    direction = F.normalize(torch.randn(3, generator=generator), dim=0)
    if table:
        direction[2] = math.sin(float(uniform(0.35, 1.25, generator, 1)))
        direction[:2] = F.normalize(direction[:2], dim=0) * (1 - direction[2] ** 2).sqrt()
    return direction


def gallery_directions(table: bool) -> Tensor:
    """Directions of the gallery's photographs, evenly spread, [GALLERY_VIEWS, 3]."""
    index = torch.arange(GALLERY_VIEWS) + 0.5
    share = index / GALLERY_VIEWS
    z = 0.33 + 0.63 * share if table else 0.99 - 1.98 * share
    azimuth = index * math.pi * (3 - 5**0.5)
    radius = (1 - z * z).sqrt()
    return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), z], 1)


def hand_held(scene: Object, generator: Generator) -> Tensor:
    """A query's camera_to_world [4, 4]: about aimed at the origin, about upright."""
    away = scene.camera_distance * float(uniform(1.0, 1.12, generator, 1))
    pose = look_at(random_direction(scene.table, generator), away)
    roll = float(uniform(-0.12, 0.12, generator, 1))
    turn = torch.eye(4)
    turn[:2, :2] = torch.tensor(
        [[math.cos(roll), -math.sin(roll)], [math.sin(roll), math.cos(roll)]]
    )
    pose[:3, 3] += pose[:3, :2] @ uniform(-0.08, 0.08, generator, 2)
    return pose @ turn


def changed_surface(flawless: View, defective: View) -> Tensor:
    """Share of each pixel [H / 2, W / 2] whose hit, depth, normal or albedo a defect changed."""
    both = flawless.hit & defective.hit
    changed = flawless.hit ^ defective.hit
    first, second = both[flawless.hit], both[defective.hit]
    step = (flawless.points[first] - defective.points[second]).norm(dim=1) > DEPTH_STEP
    turn = (flawless.normals[first] * defective.normals[second]).sum(1) < NORMAL_COSINE
    paint = (flawless.albedo[first] - defective.albedo[second]).abs().amax(1) > ALBEDO_STEP
    changed[both] = step | turn | paint
    share = F.avg_pool2d(changed[None].float(), 2)
    closed = -F.max_pool2d(-F.max_pool2d(share, 3, 1, 1), 3, 1, 1)  # pinholes
    return closed[0]


def without_specks(mask: Tensor) -> Tensor:
    """The mask [H, W] without islands of a few pixels: rays along a rim may end elsewhere."""
    islands, count = label(mask.cpu().numpy(), structure=torch.ones(3, 3).cpu().numpy())
    if count == 0:
        return mask
    islands = torch.from_numpy(islands).long().to(mask.device)
    size = islands.flatten().bincount()
    size[0] = 0
    return (size >= max(SMALLEST_ISLAND, int(size.max()) // 20))[islands]


def broken_view(
    flawless: Object, kind: str, generator: Generator
) -> tuple[Object, View, Tensor, Tensor] | None:
    """A defect and a photograph that shows it: object, view, camera_to_world, mask [H, W] bool.

    None where none of the places tried shows one of the wanted size.
    """
    of_part = kind in PART_KINDS
    least_pixels = 10 if of_part else 25
    smallest = SMALLEST_LINE if kind in LINES else SMALLEST_MASK
    for _ in range(PLACES_TRIED):
        pose = hand_held(flawless, generator)
        before = see(flawless, pose, SIDE // 2)
        owner = flawless.parts(before.points).argmin(0)
        free = flawless.small[owner] if of_part else owner < flawless.own_solids
        good = (free & (before.facing[:, 0] > 0.35)).nonzero()[:, 0]
        if len(good) < least_pixels:
            continue
        index = good[int(torch.randint(len(good), (), generator=generator))]
        place, normal = before.points[index], before.normals[index]
        broken = random_defect(flawless, kind, place, normal, generator)
        for side in (SIDE // 2, 2 * SIDE):  # few rays rule out most
            before = before if side == SIDE // 2 else see(flawless, pose, side)
            after = see(broken, pose, side)
            mask = without_specks(changed_surface(before, after) > CHANGED_SHARE)
            if not smallest <= float(mask.float().mean()) <= LARGEST_MASK:
                break
        else:
            return broken, after, pose, mask
    return None


def metered(light: Light, total: Tensor) -> Tensor:
    """The gain that exposes radiance [N, 3] of an object as a light wants it."""
    return light.exposure / total.clamp(max=BURNT * total.median()).mean().clamp(min=1e-3)


def photograph(
    scene: Object,
    pose: Tensor,
    view: View | None,
    light: Light,
    gain: Tensor | None,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """A photograph [3, SIDE, SIDE] sRGB, and its gain.

    Args:
        pose: camera_to_world [4, 4].
        view: what is seen from there at twice SIDE, if known.
        gain: of the exposure; None: metered.
    """
    view = view or see(scene, pose, 2 * SIDE)
    total = radiance(scene, view, light, shadows=len(light.lamps))
    gain = metered(light, total) if gain is None else gain
    return F.avg_pool2d(develop(view, light, total, gain, generator), 2), gain


Photograph = Callable[..., tuple[Tensor, Tensor]]  # as `photograph`


def write_object(folder: Path, generator: Generator, take: Photograph = photograph) -> None:
    """One random object with its photographs, in the MIP layout; transforms_test.json last."""
    scene, angle = random_object(generator), 2 * math.atan(IMAGE_WIDTH / 2)
    daylight = gallery_light(generator)
    frames, gain = [], None
    for index, direction in enumerate(gallery_directions(scene.table)):
        pose = look_at(direction, scene.camera_distance)
        image, gain = take(scene, pose, None, daylight, gain, generator)
        write_image(folder / f"train/{index:03}.png", image)
        frames.append({"file_path": f"train/{index:03}", "transform_matrix": pose.tolist()})
    write_json(folder / "transforms.json", {"camera_angle_x": angle, "frames": frames})
    queries = []
    kinds = KINDS + (PART_TIMES * PART_KINDS if scene.small.any() else ())
    for number in range(FLAWLESS + DEFECTIVE):
        if number < FLAWLESS:
            kind, pose, mask = "good", hand_held(scene, generator), None
            shown, view = scene, see(scene, pose, 2 * SIDE)
        else:
            kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
            found = broken_view(scene, kind, generator)
            if found is None:
                continue
            shown, view, pose, mask = found
        for which in range(LIGHTS):
            same = bool(torch.rand((), generator=generator) < SAME_LIGHT)
            light = query_light(scene.table, generator)
            light, exposure = (daylight, gain) if same else (light, None)
            image, _ = take(shown, pose, view, light, exposure, generator)
            name = f"{kind}/{number:03}_{which}"
            write_image(folder / f"test/{name}.png", image)
            if mask is not None:
                write_image(folder / f"ground_truth/{name}.png", mask[None].float())
            queries.append(
                {
                    "file_path": f"test/{name}",
                    "light": "A" if same else "other",
                    "transform_matrix": pose.tolist(),
                }
            )
    write_json(folder / "transforms_test.json", {"camera_angle_x": angle, "frames": queries})


def object_options(description: str) -> argparse.ArgumentParser:
    """Options of scripts that write random objects."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path, help="where the objects go, one folder each")
    parser.add_argument("--count", type=int, default=100, help="number of objects")
    parser.add_argument("--first", type=int, default=0, help="number of the first object")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cuda is faster by far")
    return parser


def write_objects(
    options: argparse.Namespace, camera: Callable[[Generator], Photograph] = lambda _: photograph
) -> None:
    """Write random objects as `object_options` say; those that are there stay.

    Args:
        camera: gives what takes an object's photographs.
    """
    with torch.device(options.device):
        for index in range(options.first, options.first + options.count):
            # An object depends on the seed and its number only, so that a stopped run can go on.
            generator = Generator(options.device)
            generator.manual_seed(1_000_003 * options.seed + index)
            target = options.folder / f"object_{index:03}"
            if not (target / "transforms_test.json").is_file():
                write_object(target, generator, camera(generator))


def main(argv: Sequence[str] | None = None) -> None:
    """Write random objects, ray-marched."""
    write_objects(object_options(__doc__.splitlines()[0]).parse_args(argv))


if __name__ == "__main__":
    main()
