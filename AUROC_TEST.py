"""Score every query against its flawless rendering and write metrics and figures.

    python AUROC_TEST.py --obj Spring

Goes on from what pose_estimation.py left behind: its settings, both models, poses.json. Renders
each query's flawless image, compares features, scores; all results go to AD_result/<class>.
"""

from __future__ import annotations

from collections.abc import Sequence

from piad.cli import choose_device, progress, run_script
from piad.comparison import compare_all, pair_by_id
from piad.config import TestConfig
from piad.detector import load_detector
from piad.evaluation import evaluate, query_lights
from piad.models import load_models
from piad.reflectance import ReflectanceNet, to_reflectance
from piad.report import table, write_report
from piad.run_folder import RunFolder
from piad.scenes import load_scene


def main(argv: Sequence[str] | None = None) -> None:
    """Compare every query of one class, write the report, print the table."""
    cfg = TestConfig.from_command_line(argv)
    device = choose_device(cfg.device)
    scene = load_scene(cfg.data, cfg.class_name)
    with RunFolder.open(cfg) as run:
        net = ReflectanceNet.load(cfg.reflectance, device)
        reflectance_scene = to_reflectance(scene, net, run.reflection, device)
        models = load_models(run, device)
        detector = load_detector(
            scene, reflectance_scene, net, models, cfg, run, run.results / "maps"
        )
        comparisons = compare_all(
            detector.comparer,
            pair_by_id(scene.queries, reflectance_scene.queries),
            run.poses,
            query_lights(scene),
            lambda pairs: progress(pairs, "comparison"),
        )
        evaluation = evaluate(comparisons, scene.has_masks, detector.threshold)
        header = {
            "class_name": cfg.class_name,
            "preset": cfg.preset,
            "weights": run.poses.header.get("weights", {}) | detector.weights,
        }
        write_report(run.results, evaluation, comparisons, header, scene.has_masks)
        print(table({**header, **evaluation.summary}))
        print(f"scores: {run.results / 'results.json'}")
        print(f"figures: {run.results / 'figures'}, {run.results / 'contact_sheet.png'}")


if __name__ == "__main__":
    run_script(main)
