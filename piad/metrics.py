"""Scores of anomaly detection against labels and masks: AUROC, AP, best F1, AUPRO.

Every figure is None where it is undefined, that is, where only one class is present. Image scores
are ranked exactly. Pixel scores are gathered in a histogram over the float32 values themselves
(sign-free exponent and `MANTISSA_BITS` of the mantissa), so that any number of maps is tallied in
fixed memory, over all thresholds that differ by more than one part in 2^MANTISSA_BITS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MANTISSA_BITS = 12  # bins are 2.4e-4 wide, relative to the score
NUM_BINS = 1 << (8 + MANTISSA_BITS)  # all non-negative float32: 8 bits of exponent
CONNECTIVITY = 8  # regions of a mask touch by edges or corners, as in MVTec AD's evaluation
BOOTSTRAP_ROUNDS = 1000
INTERVAL = 0.95


@dataclass(frozen=True)
class Curve:
    """A ROC curve: false- and true-positive rates, both from 0 to 1, non-decreasing."""

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray


@dataclass(frozen=True)
class ImageMetrics:
    """AUROC, average precision and best F1 of scores per image, with F1's threshold."""

    auroc: float | None
    ap: float | None
    f1: float | None
    threshold: float | None
    auroc_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class PixelMetrics:
    """AUROC, average precision, best F1 with its threshold, and AUPRO at two limits."""

    auroc: float | None
    ap: float | None
    f1: float | None
    threshold: float | None
    aupro_30: float | None
    aupro_05: float | None


def image_metrics(labels: Sequence[int], scores: Sequence[float]) -> ImageMetrics:
    """Metrics of one score per image.

    Args:
        labels: 0 normal, 1 anomalous, [Q].
        scores: larger is more anomalous, [Q]; infinities rank below or above all others.
    """
    labels, scores = np.asarray(labels, dtype=int), np.asarray(scores, dtype=np.float64)
    if labels.shape != scores.shape:
        raise ValueError(f"as many labels as scores are needed: {labels.shape}, {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("an image score is not a number")
    if labels.size == 0 or labels.min() == labels.max():
        return ImageMetrics(None, None, None, None)
    # Not at the top: a photograph that is judged alone would wait a second for it.
    from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

    # Ranks keep the order and the ties, and turn infinities into numbers.
    values, ranks = np.unique(scores, return_inverse=True)
    precision, recall, thresholds = precision_recall_curve(labels, ranks)
    # Infinite scores are no thresholds; with no finite score at all, none is given.
    f1 = np.where(np.isfinite(values[thresholds]), _f1(precision[:-1], recall[:-1]), 0.0)
    best = int(np.argmax(f1))
    return ImageMetrics(
        auroc=float(roc_auc_score(labels, ranks)),
        ap=float(average_precision_score(labels, ranks)),
        f1=float(f1[best]),
        threshold=_between(values, int(thresholds[best])) if f1[best] > 0 else None,
        auroc_interval=auroc_interval(labels, ranks),
    )


def roc(labels: Sequence[int], scores: Sequence[float]) -> Curve | None:
    """ROC curve of one score per image; None when only one class is present."""
    labels, scores = np.asarray(labels, dtype=int), np.asarray(scores, dtype=np.float64)
    if labels.size == 0 or labels.min() == labels.max():
        return None
    values, ranks = np.unique(scores, return_inverse=True)
    positives = np.bincount(ranks[labels == 1], minlength=len(values))[::-1]
    negatives = np.bincount(ranks[labels == 0], minlength=len(values))[::-1]
    return _curve(negatives, positives)


def auroc_interval(
    labels: np.ndarray, scores: np.ndarray, seed: int = 0, less: np.ndarray | None = None
) -> tuple[float, float]:
    """Bootstrap interval of the AUROC, resampling normal and anomalous images apart.

    Args:
        less: scores of another method for the same images; the interval is then of the AUROC less
            that method's, both from the same samples.
    Returns:
        the bounds that hold `INTERVAL` of `BOOTSTRAP_ROUNDS` resampled AUROCs.
    """
    wins = _pairs_won(labels, scores)
    if less is not None:
        wins = wins - _pairs_won(labels, less)
    generator = np.random.default_rng(seed)
    shares = wins.shape
    weight_a, weight_n = (
        generator.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_ROUNDS) / n for n in shares
    )
    values = np.einsum("ra,an,rn->r", weight_a, wins, weight_n, optimize=True)
    tail = (1 - INTERVAL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _pairs_won(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """1 where an anomalous image ranks above a normal one, 1/2 on ties; their mean is the AUROC.

    [anomalous, normal].
    """
    normal, anomalous = scores[labels == 0], scores[labels == 1]
    return (anomalous[:, None] > normal).astype(np.float64) + 0.5 * (anomalous[:, None] == normal)


class PixelTally:
    """Histograms of pixel scores: of normal pixels, of anomalous pixels, of region overlap.

    `+` joins the tallies of two sets of queries; `metrics()` reads the figures off.
    """

    def __init__(self) -> None:
        self.normal = np.zeros(NUM_BINS, dtype=np.int64)
        self.anomalous = np.zeros(NUM_BINS, dtype=np.int64)
        # Share of a region's area at each score, summed over regions: each region adds up to 1.
        self.overlap = np.zeros(NUM_BINS, dtype=np.float64)
        self.num_regions = 0

    def add(self, anomaly_map: np.ndarray, mask: np.ndarray) -> None:
        """Count one query.

        Args:
            anomaly_map: scores >= 0, [H, W].
            mask: True where anomalous, [H, W].
        """
        if anomaly_map.shape != mask.shape:
            raise ValueError(f"map {anomaly_map.shape} and mask {mask.shape} differ in size")
        mask = np.asarray(mask, dtype=bool)
        bins = _bins(anomaly_map)
        # The scores of one map span few of all the bins.
        first, last = int(bins.min()), int(bins.max())
        span = slice(first, last + 1)
        bins = bins - first
        self.normal[span] += np.bincount(bins[~mask], minlength=last + 1 - first)
        if not mask.any():
            return
        inside = bins[mask]
        self.anomalous[span] += np.bincount(inside, minlength=last + 1 - first)
        count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=CONNECTIVITY)
        share = 1.0 / np.bincount(regions[mask], minlength=count).clip(min=1)
        weights = share[regions[mask]]
        self.overlap[span] += np.bincount(inside, weights=weights, minlength=last + 1 - first)
        self.num_regions += count - 1

    def __add__(self, other: PixelTally) -> PixelTally:
        joined = PixelTally()
        joined.normal = self.normal + other.normal
        joined.anomalous = self.anomalous + other.anomalous
        joined.overlap = self.overlap + other.overlap
        joined.num_regions = self.num_regions + other.num_regions
        return joined

    def metrics(self) -> PixelMetrics:
        """All figures; None each when there is no normal or no anomalous pixel."""
        curve = self.roc()
        if curve is None:
            return PixelMetrics(None, None, None, None, None, None)
        used, normal, anomalous = self._descending()
        true_positives, flagged = np.cumsum(anomalous), np.cumsum(normal + anomalous)
        precision = true_positives / flagged
        recall = true_positives / true_positives[-1]
        f1 = _f1(precision, recall)
        best = int(np.argmax(f1))
        return PixelMetrics(
            auroc=_area(curve.false_positive_rate, curve.true_positive_rate),
            ap=float(np.sum(np.diff(recall, prepend=0.0) * precision)),
            f1=float(f1[best]),
            threshold=_bin_floor(int(used[best])),
            aupro_30=self.aupro(0.30),
            aupro_05=self.aupro(0.05),
        )

    def roc(self) -> Curve | None:
        """ROC curve over pixels; None when only one class is present."""
        if not self.normal.any() or not self.anomalous.any():
            return None
        _, normal, anomalous = self._descending()
        return _curve(normal, anomalous)

    def aupro(self, limit: float) -> float | None:
        """Area under the per-region overlap curve up to a false-positive rate, over `limit`.

        Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, sec. 5: at each
        threshold, the mean over all connected regions of the share of the region's area that is
        found, against the share of all normal pixels that are flagged.
        """
        if not self.normal.any() or self.num_regions == 0:
            return None
        used, normal, _ = self._descending()
        rate = np.concatenate([[0.0], np.cumsum(normal) / normal.sum()])
        overlap = np.concatenate([[0.0], np.cumsum(self.overlap[used]) / self.num_regions])
        inside = rate <= limit
        rate_cut = np.append(rate[inside], limit)
        overlap_cut = np.append(overlap[inside], np.interp(limit, rate, overlap))
        return _area(rate_cut, overlap_cut) / limit

    def _descending(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Bins in use from the highest score down, with their counts (normal, anomalous)."""
        used = np.flatnonzero(self.normal + self.anomalous)[::-1]
        return used, self.normal[used], self.anomalous[used]


def _bins(values: np.ndarray) -> np.ndarray:
    """Bin of each score: the leading bits of its float32, whose order is that of the values."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("pixel scores must be finite and >= 0")
    # Adding 0 turns -0.0, whose sign bit would rank it highest, into 0.0.
    bits = (values + np.float32(0)).view(np.uint32)
    return (bits >> np.uint32(23 - MANTISSA_BITS)).astype(np.int64)


def _bin_floor(index: int) -> float:
    """The lowest score that falls into a bin."""
    return float(np.array(index << (23 - MANTISSA_BITS), dtype=np.uint32).view(np.float32))


def _curve(negatives: np.ndarray, positives: np.ndarray) -> Curve:
    """ROC curve of counts ordered from the highest score down."""
    return Curve(
        np.concatenate([[0.0], np.cumsum(negatives) / negatives.sum()]),
        np.concatenate([[0.0], np.cumsum(positives) / positives.sum()]),
    )


def _area(x: np.ndarray, y: np.ndarray) -> float:
    """Area under a piecewise linear curve."""
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


def _f1(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Harmonic mean, 0 where both are 0."""
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)


def _between(values: np.ndarray, index: int) -> float:
    """A threshold that parts `values[index]` from the value below: their mean.

    The middle of the gap keeps the decision when a score is computed anew with other rounding.
    """
    upper = float(values[index])
    lower = float(values[index - 1]) if index > 0 else upper
    middle = (lower + upper) / 2
    return middle if math.isfinite(middle) else upper
