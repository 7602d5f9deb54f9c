"""Photographs alone: for each a verdict, a figure, and the files behind it, without ground truth.

`pose_estimation.py --query` comes here when the poses are known. Everything of a photograph lies in
`output/<class>/query/<stem>`, all verdicts of a call in `output/<class>/query/results.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gaussian_renderer.files import write_image, write_json
from piad.cli import progress
from piad.comparison import Comparison, compare_all, pair_by_id
from piad.evaluation import verdict
from piad.figures import heat_overlay, photograph_figure
from piad.report import UNDEFINED, caption, colour_scale, number, uint8_pixels

if TYPE_CHECKING:
    from piad.detector import Detector
    from piad.run_folder import RunFolder
    from piad.scenes import Scene


def judge_photographs(
    scene: Scene, reflectance_scene: Scene, detector: Detector, run: RunFolder, preset: str
) -> dict:
    """Compare and judge photographs whose poses the run has; write their files; return results.

    Args:
        scene, reflectance_scene: their queries are the photographs.
    """
    results_path = run.photographs / "results.json"
    results_path.unlink(missing_ok=True)
    comparisons = compare_all(
        detector.comparer,
        pair_by_id(scene.queries, reflectance_scene.queries),
        run.poses,
        {},
        lambda pairs: progress(pairs, "comparison"),
    )
    threshold = None if detector.threshold is None else detector.threshold.value
    top = colour_scale(threshold, comparisons)
    folders = run.query_folders(scene)
    for comparison in comparisons:
        folder = folders[comparison.query.id]
        write_json(folder / "pose.json", run.poses[comparison.query.id])
        write_pictures(folder, comparison, threshold, top)
    results = {
        "class_name": run.class_name,
        "preset": preset,
        "weights": run.poses.header.get("weights", {}) | detector.weights,
        "threshold": threshold,
        "threshold_source": None if threshold is None else detector.threshold.source,
        "photographs": [
            _record(c, threshold, folders[c.query.id], run.poses[c.query.id]) for c in comparisons
        ],
    }
    write_json(results_path, results)
    return results


def write_pictures(
    folder: Path, comparison: Comparison, threshold: float | None, top: float
) -> None:
    """Write `heat.png` (at work resolution) and `figure.png`; marked is what reaches the image's
    threshold, `top` ends the colour scale."""
    photo, scores = uint8_pixels(comparison.query.image()), comparison.map()
    write_image(folder / "heat.png", heat_overlay(photo, scores, top))
    photograph_figure(
        folder / "figure.png",
        photo,
        comparison.rendering(),
        scores,
        threshold,
        top,
        caption(comparison, threshold),
    )


def photograph_table(results: dict) -> str:
    """One line per photograph: name, status, score, threshold, verdict."""
    rows = [("photograph", "status", "score", "threshold", "verdict")]
    for record in results["photographs"]:
        figures = number(record["score"]), number(results["threshold"])
        rows.append((record["path"], record["status"], *figures, record["verdict"] or UNDEFINED))
    lines = _aligned(rows)
    if results["threshold_source"] is not None:
        lines.append(f"threshold: {results['threshold_source']}")
    return "\n".join(lines)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _record(comparison: Comparison, threshold: float | None, folder: Path, pose: dict) -> dict:
    return {
        "path": str(comparison.query.path),
        "folder": str(folder),
        "status": comparison.status,
        "score": comparison.score,
        "threshold": threshold,
        "verdict": verdict(comparison, threshold),
        "message": pose.get("message"),
        "camera_to_world": comparison.pose,
    }
