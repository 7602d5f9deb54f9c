"""Plans the query photographs of an object and finds a view that shows each defect."""

import json
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .objects import OBJECTS, build_stage, random_defect
from .photo import save_image, to_bytes
from .render import Stage, defect_mask

VIEWS_PER_DEFECT = 10  # tried before another place for the defect is drawn
DEFECTS_PER_QUERY = 20  # before it is given up
LARGEST_MASK = 0.08  # share of the image
MASK_OVERSAMPLING = 3
DRAW = 500  # more queries than one draw has


@dataclass(frozen=True)
class Request:
    """One query: its type (folder), number within it, light, and the seed of all that varies."""

    type: str
    number: int
    light: str
    seed: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.type}/{self.number:03d}"

    @property
    def flawless(self) -> bool:
        return self.type.startswith("good")


def plan_queries(
    object_name: str, flawless: dict[str, int], per_defect: int, lights: str, draw: int = 0
):
    """List of Requests: `flawless` per light, then `per_defect` of each kind.

    The lights take turns over a kind's queries, and each kind starts with the next light. Another
    `draw` has other poses and defects of the same names.
    """
    seed, first = sum(object_name.encode()), DRAW * draw
    requests = [
        Request(f"good_{light}", number, light, (seed, 0, ord(light), first + number))
        for light, count in flawless.items()
        for number in range(count)
    ]
    for k, kind in enumerate(OBJECTS[object_name].defects):
        for number in range(per_defect):
            light = lights[(k + number) % len(lights)]
            requests.append(Request(kind, number, light, (seed, 1 + k, first + number)))
    return requests


def broken_views(
    request: Request, object_name, flawless: Stage, pose_near, size, fov_x, smallest, likeness=None
):
    """Defects, each with a pose from which its place can be seen, until they are given up.

    Args:
        pose_near: takes the defect and a generator, returns a pose that may show it.
        smallest: least share of the image that the mask must cover.
        likeness: what is done to the object, if anything, as it was done to `flawless`.
    Yields:
        The defect's parameters, the broken object's Stage, camera_to_world, mask [H, W] bool.
    """
    rng = np.random.default_rng(request.seed)
    for _ in range(DEFECTS_PER_QUERY):
        defect = random_defect(object_name, request.type, rng, likeness)
        broken = build_stage(object_name, defect, likeness)
        shown = view_of(flawless, broken, partial(pose_near, defect, rng), size, fov_x, smallest)
        if shown:
            yield defect, broken, *shown


def broken_view(request: Request, *arguments):
    """The first of `broken_views`; RuntimeError if there is none."""
    for found in broken_views(request, *arguments):
        return found
    raise RuntimeError(f"no view shows a {request.type} ({request.name}); widen the bounds")


def view_of(flawless: Stage, broken: Stage, next_pose, size, fov_x, smallest):
    """A pose of those that `next_pose()` gives that shows what is broken, and its mask, or None."""
    for _ in range(VIEWS_PER_DEFECT):
        pose = next_pose()
        # one ray a pixel is a ninth of the work and rules out most views
        for oversampling in (1, MASK_OVERSAMPLING):
            mask = defect_mask(flawless, broken, pose, size, fov_x, oversampling)
            if not smallest <= mask.mean() <= LARGEST_MASK:
                break
        else:
            return pose, mask
    return None


def make_queries(root: Path, suffix: str, requests, render_flawless, render_broken, store):
    """Render what is still missing and keep the records.

    Args:
        root: the object's folder.
        suffix: of the query images.
        requests: list of Requests.
        render_flawless: takes a Request, returns image [H, W, 3] uint8 and a record.
        render_broken: the same and a mask [H, W] bool before the record; or None, which leaves
            the query out.
        store: reads (no argument) and writes (a list) the records; each has a `file_path`.
    """
    known = {record["file_path"]: record for record in store()}
    records = []
    for request in requests:
        image_path = root / f"test/{request.name}{suffix}"
        mask_path = root / f"ground_truth/{request.name}.png"
        file_path = f"test/{request.name}" + (suffix if suffix == ".jpg" else "")
        done = image_path.exists() and (request.flawless or mask_path.exists())
        if done and file_path in known:
            records.append(known[file_path])
            continue
        if request.flawless:
            image, record = render_flawless(request)
        else:
            shown = render_broken(request)
            if shown is None:
                continue
            image, mask, record = shown
            save_image(mask_path, to_bytes(mask))
            record["mask_fraction"] = float(mask.mean())
        save_image(image_path, image)
        records.append({"file_path": file_path, "light": request.light, **record})
        store(records)
        print(file_path, request.light, record.get("mask_fraction", ""), flush=True)
    store(records)


def write_json(path: Path, content) -> None:
    """Write at once or not at all."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1))
    os.replace(temporary, path)
