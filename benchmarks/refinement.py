"""Both refiners from the same starts: true poses turned about the object and shifted.

    python -m benchmarks.refinement --class_name Spring [--queries 10 --starts 5 15 --adam_queries 4
        --output f.json --figure f.png]

Needs a run of pose_estimation.py (models, reflectance images). Errors in degrees and in percent of
the distance to the object. Cost is processor time over that of one forward rendering of both
models at full resolution, on one thread, in the same run. All other options go to the config.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from dataclasses import replace
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
from piad.models import ModelPair, load_models
from piad.pose import refine_pose
from piad.run_folder import RunFolder
from piad.scenes import load_scene
from piad.target import Target
from piad.true_poses import true_query_cameras


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


def forward_seconds(target: Target, pose: Tensor, models: ModelPair, repeats: int = 5) -> float:
    """Processor time of one rendering of both models."""
    viewmat, times = pose.to(target.image.device, torch.float32), []
    for _ in range(repeats + 1):
        began = time.process_time()
        with torch.no_grad():
            models.render(viewmat, target.intrinsics)
        times.append(time.process_time() - began)
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


def one_row(target: Target, start: Tensor, true_pose: Tensor, models, refine, forward) -> dict:
    """Refine from one start; the outcome's errors and costs."""
    began = time.process_time()
    refined = refine_pose(target, start, models, refine)
    seconds = time.process_time() - began
    angle, shift = pose_error(refined.world_to_camera, true_pose)
    pivot = true_pose[:3, :3] @ models.centre.to(true_pose) + true_pose[:3, 3]
    return {
        "refiner": refine.refiner,
        "angle_deg": float(angle),
        "distance_percent": 100 * float(shift) / float(pivot.norm()),
        "forward_renderings": seconds / forward,
        "seconds": seconds,
        "wall_seconds": refined.seconds,
        "steps": refined.steps,
        "loss": refined.loss,
        "stop_reason": refined.stop_reason,
    }


def measure(cfg: PoseConfig, options: argparse.Namespace) -> list[dict]:
    """One row for every query, size of start and refiner."""
    device = choose_device(cfg.device)
    scene = load_scene(cfg.data, cfg.class_name)
    truth = true_query_cameras(scene)
    if truth is None:
        raise UserError(f"{scene.root} has no true query poses; nothing to compare with")
    run = RunFolder(cfg)
    models = load_models(run, device)
    generator = torch.Generator().manual_seed(options.seed)
    step = max(1, len(scene.queries) / options.queries)
    chosen = [scene.queries[int(i * step)] for i in range(min(options.queries, len(scene.queries)))]
    lights = query_lights(scene)
    rows = []
    for number, query in enumerate(chosen):
        mirrored = run.reflection / query.path.relative_to(scene.root).with_suffix(".png")
        image = torch.cat([query.image(), replace(query, path=mirrored).image()]).to(device)
        target = Target.of(image, query.intrinsics)
        true_pose = truth[query.id].world_to_camera
        forward = forward_seconds(target, true_pose, models)
        for degrees in options.starts:
            start = perturbed(true_pose, models.centre, degrees, generator)
            for refiner in options.refiners:
                if refiner == "adam" and number * options.adam_queries % len(chosen) >= (
                    options.adam_queries
                ):
                    continue  # it is slow: a share of the queries, spread evenly
                refine = replace(cfg.refine, refiner=refiner)
                row = one_row(target, start, true_pose, models, refine, forward)
                row |= {"query": query.id, "light": lights.get(query.id, "?"), "start_deg": degrees}
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """Final error against processor time, a point per query, of both refiners."""
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
    parser.add_argument("--refiners", nargs="+", default=["adam", "second_order"])
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
    if options.output is not None:
        write_json(options.output, {"summary": table, "rows": rows})
    if options.figure is not None:
        draw(rows, options.figure)


if __name__ == "__main__":
    run_script(lambda _argv=None: main())
