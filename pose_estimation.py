"""Teach an object from its gallery, then find the pose of every query photograph.

    python pose_estimation.py --config configs/MIP/Spring.txt --class_name Spring

Reflectance images, both Gaussian models, start pose, refined pose, flawless rendering; each stage
is done once, and a run that was stopped goes on. AUROC_TEST.py compares and scores.

    python pose_estimation.py --config configs/MIP/Spring.txt --class_name Spring --query photo.jpg

judges photographs alone instead: pose, heat map, score and verdict in output/<class>/query.
"""

from __future__ import annotations

from collections.abc import Sequence

from piad.cli import choose_device, progress, run_script
from piad.config import PoseConfig
from piad.detector import load_detector
from piad.judge import judge_photographs, photograph_table
from piad.locate import locate_queries
from piad.models import fit_models
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.run_folder import RunFolder
from piad.scenes import load_scene


def main(argv: Sequence[str] | None = None) -> None:
    """Run every stage for one class."""
    cfg = PoseConfig.from_command_line(argv)
    device = choose_device(cfg.device)
    scene = load_scene(cfg.data, cfg.class_name, cfg.query)
    with RunFolder.open(cfg) as run:
        net = ReflectanceNet.load(cfg.reflectance, device)
        print(f"{scene.name}: {len(scene.gallery)} gallery views, {len(scene.queries)} queries")
        print(f"reflectance: {net.name}")
        reflectance_scene = to_reflectance(
            scene, net, run.reflection, device, lambda items: progress(items, "reflectance")
        )
        models = fit_models(scene, reflectance_scene, cfg, run, device)
        locate_queries(scene, reflectance_scene, models, cfg, run, device)
        run.poses.header["weights"] = run.poses.header.get("weights", {}) | {
            "reflectance": net.name
        }
        run.poses.save()
        print(f"poses: {run.poses.path}")
        if cfg.query:
            maps = run.cache / "maps"
            detector = load_detector(scene, reflectance_scene, net, models, cfg, run, maps)
            results = judge_photographs(scene, reflectance_scene, detector, run, cfg.preset)
            print(photograph_table(results))
            print(f"figures: {run.photographs}/<photograph>/figure.png")


if __name__ == "__main__":
    run_script(main)
