"""Comparisons become figures: metrics overall, per defect type and per light, with verdicts.

A query without a pose has no score, and a failure must never help: in the image metrics it ranks
on the wrong side (a flawless one above, a defective one below all others), its verdict is "not
found", and in the pixel metrics it marks nothing (a map of zeros).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from piad.comparison import NOT_FOUND, Comparison
from piad.metrics import Curve, ImageMetrics, PixelMetrics, PixelTally, image_metrics, roc
from piad.scenes import Scene, is_normal
from piad.threshold import Threshold

NOT_FOUND_RULE = (
    "a query without a pose ranks on the wrong side in the image metrics "
    "and marks no pixel in the pixel metrics"
)
GOOD, OK, DEFECT = "good", "ok", "defect"
TRUE_POSE_FILES = ("transforms_test.json", "poses_true.json")


@dataclass(frozen=True)
class Evaluation:
    """Everything results.json says about a class, and the ROC curves."""

    summary: dict
    image_roc: Curve | None
    pixel_roc: Curve | None

    @property
    def threshold(self) -> float | None:
        """Image scores from here on are called defective."""
        return self.summary["threshold"]

    @property
    def pixel_threshold(self) -> float | None:
        """Map values from here on are marked."""
        return self.summary["pixel_threshold"]


def evaluate(
    comparisons: Sequence[Comparison],
    has_masks: bool = True,
    label_free: Threshold | None = None,
) -> Evaluation:
    """All metrics of a class.

    Args:
        comparisons: of every query.
        has_masks: False leaves the pixel metrics undefined (None).
        label_free: the threshold that knows no labels, reported beside the one from the labels.
    """
    image = _image_metrics(comparisons)
    tally = PixelTally()
    if has_masks:
        _add_all(tally, comparisons)
    pixel = tally.metrics()
    threshold = image.threshold
    summary = {
        "num_queries": len(comparisons),
        "num_not_found": sum(c.status == NOT_FOUND for c in comparisons),
        "not_found_rule": NOT_FOUND_RULE,
        **_fields(image, pixel),
        "image_auroc_interval": list(image.auroc_interval) if image.auroc_interval else None,
        "threshold": threshold,
        "threshold_source": "best F1 on the labels" if threshold is not None else None,
        "pixel_threshold": pixel.threshold,
        "by_type": _by_type(comparisons, threshold, has_masks),
        "by_light": _by_light(comparisons, threshold, has_masks),
        "label_free": None if label_free is None else _label_free(comparisons, label_free),
        "queries": [_query_record(c, threshold, label_free) for c in comparisons],
    }
    labels, scores = labels_and_scores(comparisons)
    return Evaluation(summary, roc(labels, scores), tally.roc())


def query_lights(scene: Scene) -> dict[str, str]:
    """Lamps of each query {id: name}, where they are known.

    From the type's ending where flawless types name lights (`good_B` makes `burr_B` and `good_B`
    light B); else from the field `light` of the frames in the data set's file of true poses.
    """
    endings = {
        q.type.partition("_")[2] for q in scene.queries if is_normal(q.type) and "_" in q.type
    }
    lights = _listed_lights(scene)
    for query in scene.queries:
        ending = query.type.rpartition("_")[2]
        if "_" in query.type and ending in endings:
            lights.setdefault(query.id, ending)
    return {query.id: lights[query.id] for query in scene.queries if query.id in lights}


def _listed_lights(scene: Scene) -> dict[str, str]:
    for name in TRUE_POSE_FILES:
        try:
            content = json.loads((scene.root / name).read_text())
            frames = content["frames"] if "frames" in content else content["test"]
            return {
                f"{path.parent.name}/{path.stem}": frame["light"]
                for frame in frames
                if isinstance(frame.get("light"), str)
                for path in [PurePosixPath(frame["file_path"])]
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # the file is optional, and so is the field
    return {}


def verdict(comparison: Comparison, threshold: float | None) -> str | None:
    """`good` (of a photograph alone: `ok`), `defect` or `not found`; None without a threshold."""
    if comparison.score is None:
        return "not found"
    if threshold is None:
        return None
    if comparison.score >= threshold:
        return DEFECT
    return OK if comparison.query.alone else GOOD


def _label_free(comparisons: Sequence[Comparison], threshold: Threshold) -> dict:
    """What the label-free threshold gives, overall, by light and by type.

    A query without a pose counts as a false alarm when flawless, as missed when defective.
    """

    def rates(own: Sequence[Comparison]) -> dict:
        normal = [verdict(c, threshold.value) != GOOD for c in own if c.query.label == 0]
        anomalous = [verdict(c, threshold.value) == DEFECT for c in own if c.query.label == 1]
        return {
            "num_flawless": len(normal),
            "num_false_alarms": sum(normal),
            "false_alarm_rate": sum(normal) / len(normal) if normal else None,
            "num_defective": len(anomalous),
            "num_detected": sum(anomalous),
            "detection_rate": sum(anomalous) / len(anomalous) if anomalous else None,
        }

    lights = sorted({c.light for c in comparisons if c.light is not None})
    types = sorted({c.query.type for c in comparisons})
    return {
        "threshold": threshold.value,
        "threshold_source": threshold.source,
        "allowed_false_alarm_rate": threshold.rate,
        "num_samples": threshold.samples,
        **rates(comparisons),
        "by_light": {name: rates([c for c in comparisons if c.light == name]) for name in lights},
        "by_type": {
            name: rates([c for c in comparisons if c.query.type == name]) for name in types
        },
    }


def _query_record(
    comparison: Comparison, threshold: float | None, label_free: Threshold | None
) -> dict:
    return {
        "id": comparison.query.id,
        "label": comparison.query.label,
        "score": comparison.score,
        "status": comparison.status,
        "verdict": verdict(comparison, threshold),
        "label_free_verdict": label_free and verdict(comparison, label_free.value),
        "light": comparison.light,
    }


def _by_type(comparisons: Sequence[Comparison], threshold: float | None, masks: bool) -> dict:
    """Per type: a defect's queries against all flawless ones; a flawless type by itself."""
    normal = [c for c in comparisons if c.query.label == 0]
    shared = PixelTally()
    if masks:
        _add_all(shared, normal)
    groups = {}
    for name in sorted({c.query.type for c in comparisons}):
        own = [c for c in comparisons if c.query.type == name]
        tally = PixelTally()
        if masks:
            _add_all(tally, own)
        if own[0].query.label == 1:
            tally, ranked = tally + shared, own + normal
        else:
            ranked = own
        groups[name] = _group(own, _image_metrics(ranked), tally.metrics(), threshold)
    return groups


def _by_light(comparisons: Sequence[Comparison], threshold: float | None, masks: bool) -> dict:
    """Per light, where lights are known: all queries under it."""
    groups = {}
    for light in sorted({c.light for c in comparisons if c.light is not None}):
        own = [c for c in comparisons if c.light == light]
        tally = PixelTally()
        if masks:
            _add_all(tally, own)
        groups[light] = _group(own, _image_metrics(own), tally.metrics(), threshold)
    return groups


def _group(
    own: Sequence[Comparison], image: ImageMetrics, pixel: PixelMetrics, threshold: float | None
) -> dict:
    verdicts = [verdict(c, threshold) for c in own]
    flagged = sum(v == DEFECT for v in verdicts) / len(own) if threshold is not None else None
    return {
        "num_queries": len(own),
        "num_not_found": sum(c.status == NOT_FOUND for c in own),
        "flagged": flagged,
        **_fields(image, pixel),
    }


def _fields(image: ImageMetrics, pixel: PixelMetrics) -> dict:
    return {
        "image_auroc": image.auroc,
        "image_ap": image.ap,
        "image_f1": image.f1,
        "pixel_auroc": pixel.auroc,
        "pixel_ap": pixel.ap,
        "pixel_f1": pixel.f1,
        "aupro_30": pixel.aupro_30,
        "aupro_05": pixel.aupro_05,
    }


def _add_all(tally: PixelTally, comparisons: Sequence[Comparison]) -> None:
    for comparison in comparisons:
        tally.add(comparison.map(), comparison.query.mask().numpy())


def _image_metrics(comparisons: Sequence[Comparison]) -> ImageMetrics:
    return image_metrics(*labels_and_scores(comparisons))


def labels_and_scores(comparisons: Sequence[Comparison]) -> tuple[list[int], list[float]]:
    """Labels and image scores [Q] each; without a pose, infinite on the wrong side."""
    labels = [c.query.label for c in comparisons]
    wrong_side = {0: math.inf, 1: -math.inf}
    scores = [wrong_side[c.query.label] if c.score is None else c.score for c in comparisons]
    return labels, scores
