"""How far apart true queries and foreign photographs lie, by what a pose is believed or refused by.

    python -m benchmarks.refusal --obj Spring [--foreign data/Colmap/05Joint/test --count 12]

Needs a run of pose_estimation.py (poses.json, models, reflectance images). True: the agreement of
every query at the pose of the run, as a share of the gallery's own. Foreign: photographs from a
folder, cropped to the query's size, and made ones (plain, noise, a query mirrored), through start
pose and refinement, whatever the start pose's verdict; for each whether the start pose, the
agreement or nothing refuses it. All other options go to the config.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from piad.agreement import closeness
from piad.cli import choose_device, run_script
from piad.config import TestConfig
from piad.images import IMAGE_SUFFIXES, read_image, stored_size
from piad.locate import contenders, make_target, pose_initialiser
from piad.models import load_models
from piad.normality import evenly
from piad.pose import RefineConfig, refine_pose
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.refusal import gallery_agreement, judge
from piad.run_folder import RunFolder
from piad.scenes import load_scene
from piad.target import Target

LIMITS = (0.05, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


def cropped(path: Path, intrinsics: Intrinsics) -> Tensor:
    """The middle of a photograph at a query's size, [3, H, W]."""
    (width, height), _ = stored_size(path)
    scale = max(intrinsics.width / width, intrinsics.height / height)
    size = (
        max(intrinsics.width, round(width * scale)),
        max(intrinsics.height, round(height * scale)),
    )
    image = read_image(path, (width, height), white_background=True)[None]
    mode = {"mode": "area"} if scale < 1 else {"mode": "bilinear", "antialias": False}
    image = torch.nn.functional.interpolate(image, size[::-1], **mode)[0]
    left, top = (size[0] - intrinsics.width) // 2, (size[1] - intrinsics.height) // 2
    return image[:, top : top + intrinsics.height, left : left + intrinsics.width].contiguous()


def made_up(query: Tensor) -> dict[str, Tensor]:
    """Pictures of nothing, and a query [3, H, W] mirrored."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(1, 3, 9, 9, generator=generator)
    size = query.shape[-2:]
    return {
        "backdrop": query[:, 2:3, 2:3].expand_as(query).contiguous(),
        "noise": torch.rand(query.shape, generator=generator),
        "rough noise": torch.nn.functional.interpolate(rough, size, mode="bilinear")[0],
        "mirrored query": query.flip(2),
    }


def true_shares(run, scene, reflectance, models, own: float, refine: RefineConfig, device):
    """[(agreement at the run's pose as a share of the gallery's, start similarity, id)]."""
    rows = []
    for query, other in zip(scene.queries, reflectance.queries, strict=True):
        record = run.poses[query.id]
        if record["camera_to_world"] is None:
            print(f"true {query.id} is refused: {record['message']}")
            share = (record.get("agreement") or 0.0) / own
            rows.append((share, record["confidence"], query.id))
            continue
        camera = Camera.from_opengl(query.intrinsics, torch.tensor(record["camera_to_world"]))
        target = make_target(query, other, device)
        share = closeness(target, camera.world_to_camera, models, refine)[1] / own
        rows.append((share, record["confidence"], query.id))
    return sorted(rows)


def foreign_row(name: str, target: Target, initialiser, models, own: float, cfg) -> dict:
    """One photograph through start pose and refinement, and who refuses it."""
    image = target.image
    start = initialiser.locate(image[:3], image[3:], target.intrinsics, target.silhouette)
    refined = refine_pose(target, contenders(start), models, cfg.refine)
    verdict = judge(refined, target, models, own, cfg.refine)
    return {
        "photograph": name,
        "start_similarity": start.confidence,
        "share": verdict.agreement / own,
        "refused_by": ["start"] * (start.status != "ok") + ["agreement"] * verdict.refused,
        "ambiguous": verdict.ambiguous,
    }


def at_limits(true: list[tuple], foreign: list[dict]) -> None:
    """How many of each would be refused by one figure alone, at several limits."""
    for name, column, place in (("share", "share", 0), ("start similarity", "start_similarity", 1)):
        print(f"refused by {name} alone, true and foreign:")
        for limit in LIMITS:
            lost = sum(row[place] < limit for row in true)
            kept_out = sum(row[column] < limit for row in foreign)
            print(f"  below {limit:.3f}: {lost} of {len(true)}, {kept_out} of {len(foreign)}")


def verdicts(foreign: list[dict]) -> dict[str, int]:
    """How many of the foreign photographs end with each verdict."""
    refused = sum(bool(row["refused_by"]) for row in foreign)
    doubted = sum(not row["refused_by"] and row["ambiguous"] for row in foreign)
    return {
        "not found": refused,
        "found, but ambiguous": doubted,
        "found with confidence": len(foreign) - refused - doubted,
    }


def report(true: list[tuple], foreign: list[dict], limit: float) -> None:
    """Both distributions' ends."""
    print(f"true: {len(true)}, limit {limit:g}, lowest shares:")
    for share, start, name in true[:5]:
        print(f"  {share:.3f}, start {start:.3f}: {name}")
    print(f"  lowest start {min((start for _, start, _ in true), default=float('nan')):.3f}")
    print(f"foreign: {len(foreign)}, highest shares:")
    for row in sorted(foreign, key=lambda row: -row["share"])[:8]:
        by = " and ".join(row["refused_by"]) or ("doubted" if row["ambiguous"] else "NOTHING")
        print(
            f"  {row['share']:.3f}, start {row['start_similarity']:.3f}, refused by {by}: "
            f"{row['photograph']}"
        )
    by_start = sum("start" in row["refused_by"] for row in foreign)
    by_agreement = sum("agreement" in row["refused_by"] for row in foreign)
    passed = sum(not row["refused_by"] for row in foreign)
    print(f"  refused by start {by_start}, by agreement {by_agreement}, by nothing {passed}")
    print("  " + ", ".join(f"{name}: {count}" for name, count in verdicts(foreign).items()))
    at_limits(true, foreign)


def main() -> None:
    """Print one line per foreign photograph, then the two distributions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--foreign", type=Path, nargs="*", default=[], help="folders, searched through"
    )
    parser.add_argument("--count", type=int, default=12, help="photographs of each folder")
    options, rest = parser.parse_known_args()
    torch.set_num_threads(1)
    cfg = TestConfig.from_command_line(rest)
    device = choose_device(cfg.device)
    scene = load_scene(cfg.data, cfg.class_name)
    net = ReflectanceNet.load(cfg.reflectance, device)
    with RunFolder.open(cfg) as run:
        models = load_models(run, device)
        reflectance = to_reflectance(scene, net, run.reflection, device)
        own = gallery_agreement(scene, reflectance, models, cfg.refine, run, device)
        print(f"the gallery's own agreement: {own:.3f}")
        true = true_shares(run, scene, reflectance, models, own, cfg.refine, device)
        initialiser = pose_initialiser(
            scene, reflectance, models, cfg.initial_pose, device, run.cache
        )
    intrinsics = scene.queries[0].intrinsics
    photographs = made_up(scene.queries[0].image())
    for folder in options.foreign:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        photographs |= {str(p): cropped(p, intrinsics) for p in evenly(paths, options.count)}
    foreign = []
    for name, photograph in photographs.items():
        colour = photograph[None].to(device)
        target = Target.of(torch.cat([colour, net(colour)], 1)[0], intrinsics)
        foreign.append(foreign_row(name, target, initialiser, models, own, cfg))
        print(json.dumps(foreign[-1]), file=sys.stderr, flush=True)
    report(true, foreign, cfg.refine.refuse_below)


if __name__ == "__main__":
    run_script(lambda _argv=None: main())
