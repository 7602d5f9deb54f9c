"""Errors of a run's poses against the true ones, where a scene has them.

    python -m benchmarks.pose_accuracy --obj Spring

Angles in degrees; distances of camera centres in percent of the distance between camera and object.
A query without a pose counts as missed. Start poses stand beside the refined ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from gaussian_renderer.camera import Camera
from gaussian_renderer.errors import UserError
from gaussian_renderer.se3 import pose_error
from piad.cli import run_script
from piad.config import TestConfig
from piad.evaluation import query_lights
from piad.run_folder import RunFolder
from piad.scenes import load_scene
from piad.true_poses import true_query_cameras
from retrieval.views import object_centre


def line(name: str, errors: list[tuple[float, float]]) -> str:
    """One row of the table: shares within bounds, medians and 90th percentiles."""
    angle, distance = np.array(errors).T
    wide = (angle <= 15) & (distance <= 15)
    near = (angle <= 5) & (distance <= 5)
    close = (angle <= 1) & (distance <= 1)
    median = [np.median(v[near]) if near.any() else float("nan") for v in (angle, distance)]
    high = [np.percentile(np.minimum(v, 999), 90) for v in (angle, distance)]
    return (
        f"{name:18s} {len(errors):4d} {100 * near.mean():7.1f} {100 * close.mean():7.1f} "
        f"{median[0]:9.3f} {median[1]:9.3f} {high[0]:9.3f} {high[1]:9.3f} "
        f"{100 * wide.mean():8.1f} {np.median(angle):8.3f}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of one class's run."""
    cfg = TestConfig.from_command_line(argv)
    scene = load_scene(cfg.data, cfg.class_name)
    truth = true_query_cameras(scene)
    if truth is None:
        raise UserError(f"{scene.root} has no true query poses; nothing to compare with")
    centre = object_centre([view.camera for view in scene.gallery])
    lights = query_lights(scene)
    rows: dict[str, list[tuple[float, float]]] = {}
    with RunFolder.open(cfg) as run:
        for query_id, camera in truth.items():
            record = run.poses[query_id]
            away = (camera.position - centre).norm().item()
            for kind, key in (("start", "start_camera_to_world"), ("final", "camera_to_world")):
                error = (999.0, 999.0)
                if record["status"] == "ok" and record[key] is not None:
                    found = Camera.from_opengl(camera.intrinsics, torch.tensor(record[key]))
                    angle, shift = pose_error(found.world_to_camera, camera.world_to_camera)
                    error = (angle, 100 * shift / away)
                rows.setdefault(f"{kind} all", []).append(error)
                rows.setdefault(f"{kind} light {lights.get(query_id, '?')}", []).append(error)
                if kind == "final" and (error[0] > 1 or error[1] > 1):
                    print(f"beyond 1 degree or 1 %: {query_id} {error[0]:.2f} {error[1]:.2f}")
    print(f"{'':18s} {'num':>4s} {'5d,5%':>7s} {'1d,1%':>7s} {'median d':>9s} {'median %':>9s}"
          f" {'p90 d':>9s} {'p90 %':>9s} {'15d,15%':>8s} {'all d':>8s}"
          "   (medians of those within 5d,5%; all d: median of all)")  # fmt: skip
    for name in sorted(rows, reverse=True):
        print(line(name, rows[name]))


if __name__ == "__main__":
    run_script(main)
