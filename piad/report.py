"""What a run leaves behind: results.json, CSV, LaTeX rows, a table, and the figures."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gaussian_renderer.files import atomic_path, write_json
from piad.comparison import Comparison
from piad.evaluation import Evaluation, verdict
from piad.figures import (
    LABEL_COLOURS,
    THRESHOLD_AT,
    contact_sheet,
    query_figure,
    roc_plot,
    thumbnail,
)

# What the paper's tables show, in their order: results.json's key and the column's head.
COLUMNS = {
    "image_auroc": "im AUROC",
    "image_ap": "im AP",
    "image_f1": "im F1",
    "pixel_auroc": "px AUROC",
    "pixel_ap": "px AP",
    "pixel_f1": "px F1",
    "aupro_30": "PRO 0.3",
    "aupro_05": "PRO 0.05",
}
NAME_WIDTH, COUNT_WIDTH, NUMBER_WIDTH, SHARE_WIDTH = 18, 5, 9, 20
UNDEFINED = "-"
LONGEST_NAME = 36  # letters of a photograph's name under its panels
TRUTH = {0: "flawless", 1: "defective"}


def write_report(
    folder: Path,
    evaluation: Evaluation,
    comparisons: Sequence[Comparison],
    header: dict,
    has_masks: bool = True,
    progress: Callable = iter,
) -> None:
    """Write every file of a class's results; results.json comes last and says all is there.

    Args:
        folder: AD_result/<class>.
        header: `class_name`, `preset`, `weights` and what else describes the run.
    """
    folder = Path(folder)
    (folder / "results.json").unlink(missing_ok=True)
    results = {**header, **evaluation.summary}
    write_csv(folder / "results.csv", results)
    write_latex(folder / "results.tex", results)
    for kind, curve in (("image", evaluation.image_roc), ("pixel", evaluation.pixel_roc)):
        title = f"{header['class_name']}: {kind} ROC"
        roc_plot(folder / f"roc_{kind}.png", title, curve, results[f"{kind}_auroc"])
    write_figures(folder, evaluation, comparisons, header["class_name"], has_masks, progress)
    write_json(folder / "results.json", results)


def write_figures(
    folder: Path,
    evaluation: Evaluation,
    comparisons: Sequence[Comparison],
    class_name: str,
    has_masks: bool,
    progress: Callable,
) -> None:
    """Write `figures/<type>/<stem>.png` of every query and the contact sheet."""
    top = colour_scale(evaluation.pixel_threshold, comparisons)
    cells = []
    for comparison in progress(comparisons):
        query, scores = comparison.query, comparison.map()
        photo = uint8_pixels(query.image())
        query_figure(
            folder / "figures" / query.type / f"{query.stem}.png",
            photo,
            comparison.rendering(),
            query.mask().numpy() if has_masks else None,
            scores,
            evaluation.pixel_threshold,
            top,
            caption(comparison, evaluation.threshold),
        )
        shown = -math.inf if comparison.score is None else comparison.score
        text = f"{query.id}  {number(comparison.score)}"
        cells.append((shown, thumbnail(photo, scores, LABEL_COLOURS[query.label], top), text))
    cells.sort(key=lambda cell: -cell[0])
    title = f"{class_name}: queries by score, highest first (frame green: flawless, red: defective)"
    contact_sheet(folder / "contact_sheet.png", title, [(image, text) for _, image, text in cells])


def colour_scale(threshold: float | None, comparisons: Sequence[Comparison]) -> float:
    """Upper end of the heat maps' colours, one for all queries so that they compare."""
    if threshold is not None and threshold > 0:
        return threshold / THRESHOLD_AT
    return max((float(c.map().max()) for c in comparisons), default=1.0) or 1.0


def caption(comparison: Comparison, threshold: float | None) -> str:
    """The line under a query's panels."""
    query, called = comparison.query, verdict(comparison, threshold)
    parts = [shortened(query.path.name)] if query.alone else [query.id, TRUTH[query.label]]
    parts += [f"score {number(comparison.score)}"]
    if threshold is not None:
        parts.append(f"threshold {number(threshold)}")
    if called is not None:
        parts.append(f"verdict: {called}")
    return "   ".join(parts)


def shortened(name: str) -> str:
    """A file's name that leaves room for the verdict, its suffix kept."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 15]}...{name[-12:]}"


def table(results: dict) -> str:
    """The metrics as plain text, one row overall, per type and per light."""
    head = f"{'':{NAME_WIDTH}}{'n':>{COUNT_WIDTH}}"
    head += "".join(f"{name:>{NUMBER_WIDTH}}" for name in COLUMNS.values())
    lines = [head, "-" * len(head), _table_row(results["class_name"], results)]
    for kind in ("by_type", "by_light"):
        prefix = "light " if kind == "by_light" else ""
        lines += [_table_row(prefix + name, group) for name, group in results[kind].items()]
    if results["num_not_found"]:
        lines.append(f"{results['num_not_found']} without a pose: {results['not_found_rule']}")
    if results["threshold"] is not None:
        lines.append(f"threshold {number(results['threshold'])} ({results['threshold_source']})")
    if results["label_free"] is not None:
        lines += ["", *_label_free_lines(results["class_name"], results["label_free"])]
    return "\n".join(lines)


def _label_free_lines(name: str, rates: dict) -> list[str]:
    """False alarms and defects found at the label-free threshold, overall, per type and light."""
    head = f"{'':{NAME_WIDTH}}{'false alarms':>{SHARE_WIDTH}}{'defects found':>{SHARE_WIDTH}}"
    rows = {name: rates, **rates["by_type"]}
    rows |= {f"light {light}": group for light, group in rates["by_light"].items()}
    lines = [
        f"threshold {number(rates['threshold'])} without labels ({rates['threshold_source']})",
        head,
        "-" * len(head),
    ]
    for title, group in rows.items():
        alarms = _share(group["num_false_alarms"], group["num_flawless"])
        found = _share(group["num_detected"], group["num_defective"])
        lines.append(
            f"{title:{NAME_WIDTH}.{NAME_WIDTH}}{alarms:>{SHARE_WIDTH}}{found:>{SHARE_WIDTH}}"
        )
    return lines


def _share(count: int, total: int) -> str:
    return f"{count} of {total} {count / total:6.1%}" if total else UNDEFINED


def write_csv(path: Path, results: dict) -> None:
    """One row per query, then the metrics are in results.json."""
    fields = ["id", "label", "score", "status", "verdict", "label_free_verdict", "light"]
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(results["queries"])


def write_latex(path: Path, results: dict) -> None:
    """Rows for a LaTeX table in percent, in the order of the terminal's columns."""
    groups = {results["class_name"]: results, **results["by_type"]}
    rows = []
    for name, group in groups.items():
        values = [UNDEFINED if group[key] is None else f"{100 * group[key]:.1f}" for key in COLUMNS]
        rows.append(" & ".join([name.replace("_", r"\_"), *values]) + r" \\")
    head = "% " + " & ".join(["", *COLUMNS.values()])
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([head, *rows]) + "\n")


def _table_row(name: str, group: dict) -> str:
    row = f"{name:{NAME_WIDTH}.{NAME_WIDTH}}{group['num_queries']:>{COUNT_WIDTH}}"
    for key in COLUMNS:
        value = UNDEFINED if group[key] is None else f"{group[key]:.3f}"
        row += f"{value:>{NUMBER_WIDTH}}"
    return row


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return UNDEFINED if value is None else f"{value:.4g}"


def uint8_pixels(image) -> np.ndarray:
    """[3, H, W] floats in 0..1 to uint8 [H, W, 3]."""
    return image.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
