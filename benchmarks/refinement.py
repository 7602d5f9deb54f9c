"""The refiners from the same starts: true poses turned about the object and shifted.

    python -m benchmarks.refinement --class_name Spring [--queries 10 --starts 5 15 --adam_queries 4
        --batch 1 32 --output f.json --figure f.png]

`adam` is the paper's way. Needs a run of pose_estimation.py (models, reflectance images). Errors in
degrees and in percent of the distance to the object. Cost is processor time over that of one
forward rendering of both models at full resolution, on one thread, in the same run; on a GPU it is
wall time, waited for. All other options go to the config.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_json
from gaussian_renderer.se3 import pose_error, se3_exp
from piad.cli import choose_device, run_script
from piad.config import PoseConfig
from piad.evaluation import query_lights
from piad.lent_detail import LentDetail, lent_detail
from piad.models import ModelPair, load_models
from piad.pose import refine_poses
from piad.reflectance import mirrored_path
from piad.run_folder import RunFolder
from piad.scenes import Query, Scene, load_scene
from piad.target import Target
from piad.true_poses import true_query_cameras
from piad.views import View

REFINERS = ("second_order", "adam")


def perturbed(pose: Tensor, centre: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """`pose` turned about the object by half to all of `degrees`, and shifted by as many percent
    of its distance."""
    pivot = pose[:3, :3] @ centre.to(pose) + pose[:3, 3]
    size = 0.5 + 0.5 * torch.rand(2, generator=generator, dtype=pose.dtype)
    axis, shift = torch.nn.functional.normalize(
        torch.randn(2, 3, generator=generator, dtype=pose.dtype), dim=1
    )
    to_pivot = torch.eye(4, dtype=pose.dtype)
    to_pivot[:3, 3] = -pivot
    step = torch.cat(
        [shift * size[0] * degrees / 100 * pivot.norm(), axis * size[1] * math.radians(degrees)]
    )
    return torch.linalg.inv(to_pivot) @ se3_exp(step) @ to_pivot @ pose


class Clock:
    """Wall and processor time of work on a device; on a GPU both are wall time to its end."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.began = self._now()

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            return (time.perf_counter(),) * 2
        return time.perf_counter(), time.process_time()

    def seconds(self) -> tuple[float, float]:
        """Wall and processor time since it was made."""
        return tuple(now - began for now, began in zip(self._now(), self.began, strict=True))


@dataclass
class Problem:
    """A query with a start pose [4, 4] off its true one by up to `degrees`."""

    query: str
    light: str
    target: Target
    true_pose: Tensor
    start: Tensor
    degrees: float
    forward: float  # seconds of one rendering of both models


def multiplied(models: ModelPair, count: int) -> ModelPair:
    """The models with each Gaussian parted into equal ones, about `count` in all.

    The parts lie in one place and share its optical depth, so that the image hardly changes.
    """
    times = max(1, round(count / models.colour.num_gaussians))
    index = torch.arange(models.colour.num_gaussians, device=models.colour.device)
    pair = []
    for model in (models.colour, models.reflectance):
        alpha = 1 - (1 - model.opacities.double()).clamp_min(1e-6) ** (1 / times)
        parted = replace(model, logit_opacities=torch.logit(alpha).to(model.means))
        pair.append(parted.select(index.repeat_interleave(times)))
    return ModelPair(*pair)


def forward_seconds(target: Target, pose: Tensor, models: ModelPair, repeats: int = 5) -> float:
    """Processor time (GPU: wall time) of one rendering of both models."""
    viewmat, times = pose.to(target.image.device, torch.float32), []
    for _ in range(repeats + 1):
        clock = Clock(target.image.device)
        with torch.no_grad():
            models.render(viewmat, target.intrinsics)
        times.append(clock.seconds()[1])
    return statistics.median(times[1:])


def summary(rows: list[dict]) -> dict:
    """Median, 90th percentile and success rates of one refiner's rows."""
    angle = np.array([row["angle_deg"] for row in rows])
    distance = np.array([row["distance_percent"] for row in rows])
    return {
        "num": len(rows),
        "median_deg": float(np.median(angle)),
        "median_percent": float(np.median(distance)),
        "p90_deg": float(np.percentile(angle, 90)),
        "p90_percent": float(np.percentile(distance, 90)),
        "within_1": float(((angle <= 1) & (distance <= 1)).mean()),
        "within_5": float(((angle <= 5) & (distance <= 5)).mean()),
        "forward_renderings": statistics.median(row["forward_renderings"] for row in rows),
        "seconds": statistics.median(row["seconds"] for row in rows),
        "wall_seconds": statistics.median(row["wall_seconds"] for row in rows),
    }


def speed_up(rows: list[dict]) -> dict[str, float]:
    """Adam's median time over second_order's on the same queries, by size of start."""
    key, found = operator.itemgetter("refiner", "start_deg"), {}
    for degrees in sorted({row["start_deg"] for row in rows}):
        ours, adam = (
            {row["query"]: row["seconds"] for row in rows if key(row) == (name, degrees)}
            for name in REFINERS
        )
        if both := ours.keys() & adam.keys():
            medians = (statistics.median(of[query] for query in both) for of in (adam, ours))
            found[f"{degrees:g}"] = next(medians) / next(medians)
    return found


def refined_rows(
    problems: list[Problem], models: ModelPair, refine, name: str, lent: LentDetail | None
) -> list[dict]:
    """Refine problems together; their errors and their share of the costs."""
    clock = Clock(problems[0].target.image.device)
    found = refine_poses(
        [p.target for p in problems], [[p.start] for p in problems], models, refine, lent
    )
    wall, seconds = (value / len(problems) for value in clock.seconds())
    rows = []
    for problem, refined in zip(problems, found, strict=True):
        angle, shift = pose_error(refined.world_to_camera, problem.true_pose)
        pose = problem.true_pose
        pivot = pose[:3, :3] @ models.host_centre + pose[:3, 3]
        row = {
            "refiner": name,
            "query": problem.query,
            "light": problem.light,
            "start_deg": problem.degrees,
            "angle_deg": float(angle),
            "distance_percent": 100 * float(shift) / float(pivot.norm()),
            "forward_renderings": seconds / problem.forward,
            "seconds": seconds,
            "wall_seconds": wall,
            "steps": refined.steps,
            "loss": refined.loss,
            "stop_reason": refined.stop_reason,
        }
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def mirrored(photo: Query | View, scene: Scene, run: RunFolder) -> Query | View:
    """The reflectance image of a photograph, as a run has left it."""
    return replace(photo, path=mirrored_path(photo, scene.root, run.reflection))


def make_problems(options: argparse.Namespace, scene: Scene, models, run, device):
    """A problem for every chosen query and size of start."""
    truth = true_query_cameras(scene)
    if truth is None:
        raise UserError(f"{scene.root} has no true query poses; nothing to compare with")
    generator = torch.Generator().manual_seed(options.seed)
    count = min(options.queries, len(scene.queries))
    chosen = [scene.queries[int(i * len(scene.queries) / count)] for i in range(count)]
    lights = query_lights(scene)
    problems = []
    for query in chosen:
        image = torch.cat([query.image(), mirrored(query, scene, run).image()]).to(device)
        target = Target.of(image, query.intrinsics)
        pose = truth[query.id].world_to_camera
        forward = forward_seconds(target, pose, models)
        for degrees in options.starts:
            start = perturbed(pose, models.host_centre, degrees, generator)
            light = lights.get(query.id, "?")
            problems.append(Problem(query.id, light, target, pose, start, degrees, forward))
    return problems


def some(problems: list[Problem], count: int) -> list[Problem]:
    """The problems of `count` queries, spread evenly."""
    queries = list(dict.fromkeys(problem.query for problem in problems))
    kept = {query for i, query in enumerate(queries) if i * count % len(queries) < count}
    return [problem for problem in problems if problem.query in kept]


def measure(cfg: PoseConfig, options: argparse.Namespace) -> list[dict]:
    """One row for every query, size of start, refiner and size of batch."""
    device = choose_device(cfg.device)
    run = RunFolder(cfg)
    models = load_models(run, device)
    if options.gaussians:
        models = multiplied(models, options.gaussians)
    scene = load_scene(cfg.data, cfg.class_name)
    problems = make_problems(options, scene, models, run, device)
    pairs = [(view, mirrored(view, scene, run)) for view in scene.gallery]
    lent = lent_detail(models, pairs, cfg.refine)
    rows = []
    for refiner in options.refiners:
        refine, slow = replace(cfg.refine, refiner=refiner), refiner != "second_order"
        chosen = some(problems, options.adam_queries) if slow else problems
        if device.type == "cuda":  # kernels are built and memory is taken
            warm = replace(refine, iter_num=4) if slow else refine
            refined_rows(chosen[:1], models, warm, "warm-up", lent)
        for size in [1] if slow else options.batch:
            name = refiner if size == 1 else f"{refiner} x{size}"
            for degrees in options.starts:
                group = [problem for problem in chosen if problem.degrees == degrees]
                if size > 1 and device.type == "cuda":
                    refined_rows(group[:size], models, refine, "warm-up", lent)
                for first in range(0, len(group), size):
                    rows += refined_rows(group[first : first + size], models, refine, name, lent)
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """Final error against processor time, a point per query, of the refiners."""
    from matplotlib import pyplot as plt

    starts = sorted({row["start_deg"] for row in rows})
    figure, axes = plt.subplots(1, len(starts), figsize=(4.2 * len(starts), 3.4), sharey=True)
    for axis, degrees in zip(np.atleast_1d(axes), starts, strict=True):
        for refiner, mark in (("adam", "o"), ("second_order", "x")):
            shown = [r for r in rows if r["refiner"] == refiner and r["start_deg"] == degrees]
            axis.semilogy(
                [r["seconds"] for r in shown], [r["angle_deg"] for r in shown], mark, label=refiner
            )
        axis.set_xlim(0)
        axis.set_title(f"starts up to {degrees:g}° and {degrees:g} % off")
        axis.set_xlabel("processor time, s")
        axis.grid(which="both", alpha=0.2)
    np.atleast_1d(axes)[0].set_ylabel("angle to the true pose, degrees")
    np.atleast_1d(axes)[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=10, help="spread evenly over all")
    parser.add_argument("--starts", type=float, nargs="+", default=[5.0, 15.0])
    parser.add_argument("--refiners", nargs="+", default=["adam", "second_order"], choices=REFINERS)
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="queries at once")
    parser.add_argument(
        "--gaussians", type=int, default=0, help="part the models' into about so many: for times"
    )
    parser.add_argument("--adam_queries", type=int, default=10**6, help="... that Adam refines too")
    parser.add_argument("--figure", type=Path, default=None, help="error against cost, PNG")
    parser.add_argument("--start_seed", dest="seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=None)
    options, rest = parser.parse_known_args()
    torch.set_num_threads(1)
    rows = measure(PoseConfig.from_command_line(rest), options)
    groups: dict[str, dict] = {}
    for row in rows:
        for light in ("all", row["light"]):
            name = f"{row['refiner']} {row['start_deg']:g} {light}"
            groups.setdefault(name, []).append(row)
    table = {name: summary(group) for name, group in sorted(groups.items())}
    columns = list(next(iter(table.values())))
    print("refiner start light".ljust(28), *(f"{c[:12]:>12s}" for c in columns))
    for name, values in table.items():
        print(name.ljust(28), *(f"{values[c]:12.3f}" for c in columns))
    ratios = speed_up(rows)
    for degrees, ratio in ratios.items():
        print(f"from {degrees} degrees adam takes {ratio:.1f} times as long on the same queries")
    if options.output is not None:
        write_json(options.output, {"summary": table, "speed_up": ratios, "rows": rows})
    if options.figure is not None:
        draw(rows, options.figure)


if __name__ == "__main__":
    run_script(lambda _argv=None: main())
