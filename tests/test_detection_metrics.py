"""Metrics against answers by hand and against a second, brute-force implementation."""

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from piad.metrics import PixelTally, auroc_interval, image_metrics, roc


def test_separated_scores_are_perfect():
    metrics = image_metrics([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9])
    assert (metrics.auroc, metrics.ap, metrics.f1) == (1.0, 1.0, 1.0)
    assert 0.2 < metrics.threshold <= 0.3


def test_image_metrics_by_hand():
    # Order from the top: anomalous, normal, anomalous, normal. Pairs won: 2 + 1 of 4.
    # Precision at the two hits: 1 and 2/3. F1 of the top three: 2 * (2/3) / (2/3 + 1) = 0.8.
    metrics = image_metrics([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0])
    assert metrics.auroc == pytest.approx(0.75)
    assert metrics.ap == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.f1 == pytest.approx(0.8)
    assert 1.0 < metrics.threshold <= 2.0


def test_equal_scores_are_chance():
    assert image_metrics([0, 1, 0, 1], [2.0] * 4).auroc == pytest.approx(0.5)


def test_infinite_scores_rank_last_and_first():
    metrics = image_metrics([0, 1, 0, 1], [math.inf, 5.0, 1.0, -math.inf])
    assert metrics.auroc == pytest.approx(0.25)  # only 5 > 1 is won of four pairs
    assert 1.0 < metrics.threshold <= 5.0
    assert image_metrics([0, 1], [math.inf, -math.inf]).threshold is None


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1, 1]])
def test_one_class_leaves_everything_undefined(labels):
    metrics = image_metrics(labels, [1.0] * len(labels))
    assert metrics.auroc is metrics.ap is metrics.f1 is metrics.threshold is None
    assert roc(labels, [1.0] * len(labels)) is None


def test_not_a_number_and_unequal_lengths_are_refused():
    with pytest.raises(ValueError, match="not a number"):
        image_metrics([0, 1], [1.0, math.nan])
    with pytest.raises(ValueError, match="as many"):
        image_metrics([0, 1], [1.0])


def test_interval_holds_the_auroc_and_narrows_with_more_images():
    generator = np.random.default_rng(3)

    def interval(count):
        labels = np.arange(count) % 2
        scores = labels + generator.normal(size=count)
        low, high = auroc_interval(labels, scores)
        assert low <= image_metrics(labels, scores).auroc <= high
        return high - low

    assert interval(400) < 0.5 * interval(20)


def test_auroc_interval_less_another_method_pairs_the_samples():
    labels = np.arange(40) % 2
    scores = labels + np.random.default_rng(0).normal(size=40)
    assert auroc_interval(labels, scores, less=3 * scores + 1) == (0.0, 0.0)
    assert auroc_interval(labels, labels, less=-labels) == pytest.approx((1.0, 1.0))
    # Against a method that ranks nothing, the AUROC less a half.
    low, high = auroc_interval(labels, scores)
    than_chance = auroc_interval(labels, scores, less=np.zeros(40))
    assert than_chance == pytest.approx((low - 0.5, high - 0.5))


def test_roc_curve_by_hand():
    curve = roc([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0])
    assert curve.false_positive_rate.tolist() == [0, 0, 0.5, 0.5, 1]
    assert curve.true_positive_rate.tolist() == [0, 0.5, 0.5, 1, 1]


def tally_of(pairs):
    tally = PixelTally()
    for scores, mask in pairs:
        tally.add(np.asarray(scores, dtype=np.float32), np.asarray(mask, dtype=bool))
    return tally


def test_aupro_by_hand_weighs_regions_equally():
    # A region of one pixel ranks first, the region of two pixels last: of the area under the
    # overlap curve over all false-positive rates the small region gives half, the other nothing.
    scores = [[9, 5, 5, 5, 5, 1, 1]]
    mask = [[1, 0, 0, 0, 0, 1, 1]]
    tally = tally_of([(scores, mask)])
    assert tally.aupro(1.0) == pytest.approx(0.5)
    assert tally.aupro(0.3) == pytest.approx(0.5)
    # By pixels the same ranking finds a third.
    assert tally.metrics().auroc == pytest.approx(1 / 3)


def test_aupro_interpolates_at_its_limit():
    # One normal pixel above the region: the overlap rises from 0 at rate 1/2 to 1 at rate 1/2.
    tally = tally_of([([[3, 2, 1]], [[0, 1, 0]])])
    assert tally.aupro(0.25) == pytest.approx(0.0)
    # All tied: overlap grows linearly with the rate, mean height up to the limit is limit / 2.
    tied = tally_of([([[2, 2, 2]], [[0, 1, 0]])])
    assert tied.aupro(0.4) == pytest.approx(0.2)


def test_regions_touching_at_corners_are_one():
    assert tally_of([(np.ones((2, 2)), np.eye(2))]).num_regions == 1


def brute_force(pairs, limit):
    """AUROC, AP, best F1 and AUPRO straight from their definitions, over all thresholds."""
    scores = np.concatenate([s.ravel() for s, _ in pairs])
    truth = np.concatenate([m.ravel() for _, m in pairs])
    wins = [
        1.0 if a > n else 0.5 if a == n else 0.0
        for a, n in itertools.product(scores[truth], scores[~truth])
    ]
    regions = []
    for image, (_, mask) in enumerate(pairs):
        labelled, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [(image, labelled == k + 1) for k in range(count)]
    points, precision, recall, f1 = [(0.0, 0.0)], [], [0.0], []
    for threshold in sorted(set(scores.tolist()), reverse=True):
        flagged = scores >= threshold
        hits = (flagged & truth).sum()
        precision.append(hits / flagged.sum())
        recall.append(hits / truth.sum())
        f1.append(2 * hits / (flagged.sum() + truth.sum()))
        overlap = np.mean([(pairs[i][0][r] >= threshold).mean() for i, r in regions])
        points.append(((flagged & ~truth).sum() / (~truth).sum(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x1 > x0 and x0 < limit:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    steps = zip(itertools.pairwise(recall), precision, strict=True)
    ap = sum((r1 - r0) * p for (r0, r1), p in steps)
    return np.mean(wins), ap, max(f1), area / limit


@pytest.mark.parametrize("seed", range(4))
def test_pixel_metrics_equal_brute_force(seed):
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(3):
        mask = ndimage.binary_dilation(generator.random((13, 11)) > 0.97, iterations=1)
        # Few levels, so that there are ties within and between the classes.
        scores = (generator.integers(0, 12, mask.shape) + 4 * mask).astype(np.float32) / 7
        pairs.append((scores, mask))
    pairs.append((generator.random((13, 11)).astype(np.float32), np.zeros((13, 11), dtype=bool)))
    metrics = tally_of(pairs).metrics()
    for limit, value in ((0.3, metrics.aupro_30), (0.05, metrics.aupro_05)):
        auroc, ap, f1, aupro = brute_force(pairs, limit)
        # Bins merge scores closer than 2.4e-4: worst difference seen 1e-4.
        assert value == pytest.approx(aupro, abs=1e-3)
    assert metrics.auroc == pytest.approx(auroc, abs=5e-4)
    assert metrics.ap == pytest.approx(ap, abs=1e-3)
    assert metrics.f1 == pytest.approx(f1, abs=1e-3)


def test_marking_at_the_pixel_threshold_gives_the_best_f1():
    generator = np.random.default_rng(5)
    mask = generator.random((40, 40)) > 0.8
    scores = (generator.random((40, 40)) + 0.5 * mask).astype(np.float32)
    metrics = tally_of([(scores, mask)]).metrics()
    found = scores >= metrics.threshold
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) == pytest.approx(metrics.f1)


def test_added_tallies_equal_one_tally_of_all():
    generator = np.random.default_rng(6)
    pairs = [(generator.random((9, 9)), generator.random((9, 9)) > 0.7) for _ in range(4)]
    assert (tally_of(pairs[:1]) + tally_of(pairs[1:])).metrics() == tally_of(pairs).metrics()


def test_pixel_metrics_of_one_class_are_undefined():
    metrics = tally_of([(np.ones((3, 3)), np.zeros((3, 3)))]).metrics()
    assert {metrics.auroc, metrics.ap, metrics.f1, metrics.aupro_30, metrics.aupro_05} == {None}
    assert PixelTally().aupro(0.3) is None


def test_scores_of_any_magnitude_keep_their_order():
    # From the smallest float32 to nearly the largest; -0.0 is 0.
    scores = np.array([[-0.0, 1e-45, 1e-20, 1e-3, 1.0, 1e8, 3e38]], dtype=np.float32)
    mask = np.array([[0, 0, 0, 0, 1, 1, 1]], dtype=bool)
    assert tally_of([(scores, mask)]).metrics().auroc == 1.0


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_maps_must_be_finite_and_not_negative(bad):
    with pytest.raises(ValueError, match="finite"):
        tally_of([(np.full((2, 2), bad), np.zeros((2, 2)))])


def test_map_and_mask_must_have_one_size():
    with pytest.raises(ValueError, match="differ in size"):
        tally_of([(np.ones((2, 2)), np.zeros((2, 3)))])
