"""The threshold without labels: a conformal quantile of flawless photographs' scores."""

import math

import pytest
import torch

from gaussian_renderer.errors import UserError
from gaussian_renderer.se3 import pose_error
from piad import threshold
from piad.anomaly import DetectConfig
from piad.anomaly_map import image_scores
from piad.models import ModelPair
from piad.normality import learn_normality
from piad.scoring import Shot, anomalies_at
from piad.threshold import (
    ThresholdConfig,
    conformal_quantile,
    flawless_scores,
    jittered,
    kept_threshold,
    least_samples,
)
from tests.detection_scene import SeededNet
from tests.gaussian_scene import ball, photos, ring_of_cameras
from tests.test_detection_normality import Photo

CFG = DetectConfig(detect_layers="0,1", detect_sigma=1.0, detect_top=1.0)


@pytest.mark.parametrize(
    "count, rate, rank",
    [(19, 0.05, 19), (24, 0.05, 24), (39, 0.05, 38), (3, 0.5, 2), (9, 0.1, 9), (1, 0.5, 1)],
)
def test_the_quantile_is_the_rank_that_exchangeability_asks_for(count, rate, rank):
    assert conformal_quantile(list(map(float, range(count, 0, -1))), rate) == rank
    assert count >= least_samples(rate)


def test_among_exchangeable_scores_no_more_than_the_rate_exceeds_it():
    generator = torch.Generator().manual_seed(0)
    rounds = torch.rand(4000, 40, generator=generator)
    above = [row[0] > conformal_quantile(row[1:].tolist(), 0.05) for row in rounds]
    # 39 samples: exactly 2 of 40 ranks exceed it; five standard deviations of 4000 draws
    assert abs(sum(above) / 4000 - 0.05) < 5 * math.sqrt(0.05 * 0.95 / 4000)


def test_too_few_samples_for_a_rate_are_refused():
    assert least_samples(0.05) == 19 and least_samples(0.01) == 99
    ThresholdConfig(0.05, 19), ThresholdConfig(0.01, 0)
    with pytest.raises(UserError, match="at least 99 for a false_alarm_rate of 0.01, got 39"):
        ThresholdConfig(0.01)
    for rate in (0.0, 1.0, -1.0):
        with pytest.raises(UserError, match="between 0 and 1"):
            ThresholdConfig(rate)


@pytest.fixture(scope="module")
def world():
    """Models of a ball, pairs of gallery views, and what they teach."""
    models = ModelPair(ball(), ball())
    cameras = ring_of_cameras(10)
    shown = [Photo(c, image) for c, image in zip(cameras, photos(ball(), cameras), strict=True)]
    pairs = [(photo, photo) for photo in shown]
    return models, pairs, learn_normality(models, pairs, SeededNet(), CFG)


def scores_of(world, seed=0, count=20, sums="all", net=None):
    models, pairs, taught = world
    sums = taught if sums == "all" else sums
    net = net or SeededNet()
    return flawless_scores(models, pairs, sums, lambda x: x, net, CFG, count, seed)


def test_the_scores_are_the_seed_s_alone(world):
    first = scores_of(world)
    assert len(first) == 20 and len(set(first)) == 20  # twice around the gallery, never the same
    assert scores_of(world) == first
    assert not set(scores_of(world, seed=1)) & set(first)
    assert not set(scores_of(world, sums=None)) & set(first)  # the original's: nothing subtracted


def test_a_stain_is_above_and_a_flawless_photograph_below(world):
    models, pairs, taught = world
    limit = conformal_quantile(scores_of(world), 0.05)
    camera = ring_of_cameras(23)[4]
    flawless = photos(ball(), [camera])[0] * torch.tensor([0.9, 0.8, 0.7])[:, None, None]
    stained = flawless.clone()
    stained[:, 20:26, 20:26] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]

    def score(photo):
        shots = [Shot(camera, photo, photo)]
        found = anomalies_at(models, shots, SeededNet(), CFG, taught.normality())
        return float(image_scores(found.counted, CFG)[0])

    assert score(flawless) < limit < score(stained)


def test_the_view_s_own_group_teaches_nothing_about_it(world, monkeypatch):
    taught = []
    real = threshold.anomalies_at

    def spy(models, shots, net, cfg, normality, change):
        taught.extend(n.fingerprint for n in normality)
        return real(models, shots, net, cfg, normality, change)

    monkeypatch.setattr(threshold, "anomalies_at", spy)
    scores_of(world, count=10)
    without = [world[2].normality(without=k).fingerprint for k in range(5)]
    assert len(set(without)) == 5
    assert taught == [without[index % 5] for index in range(10)]


def test_jitter_is_about_what_a_refinement_leaves():
    camera, centre = ring_of_cameras(3)[1], torch.zeros(3)
    generator = torch.Generator().manual_seed(0)
    angles, distances = [], []
    for _ in range(400):
        moved = jittered(camera, centre, generator)
        angle, distance = pose_error(moved.world_to_camera, camera.world_to_camera)
        angles.append(angle), distances.append(distance / 4.0)
    assert 0.12 < torch.tensor(angles).median() < 0.18
    assert 0.001 < torch.tensor(distances).median() < 0.003


def test_scores_are_kept_until_what_they_depend_on_changes(tmp_path):
    path, calls = tmp_path / "scores.json", []

    def score():
        calls.append(1)
        return [float(k) for k in range(1, 25)]

    def threshold(depends=None, **options):
        return kept_threshold(path, ThresholdConfig(**options), depends or {"models": "a"}, score)

    assert threshold(false_alarm_margin=1.0).value == 24.0 and len(calls) == 1
    assert threshold().value == pytest.approx(1.2 * 24.0) and len(calls) == 1
    assert threshold(false_alarm_rate=0.2).value == pytest.approx(1.2 * 20) and len(calls) == 1
    with pytest.raises(UserError, match="false_alarm_margin must be positive, got 0"):
        ThresholdConfig(false_alarm_margin=0.0)
    threshold({"models": "b"})
    assert len(calls) == 2
    path.write_text("broken")
    assert threshold().samples == 24 and len(calls) == 3
    assert threshold(false_alarm_samples=0) is None and len(calls) == 3


def test_the_threshold_goes_towards_the_typical_one(tmp_path):
    def threshold(usual=True, count=39, **options):
        scores = [float(k) for k in range(1, count + 1)]
        cfg = ThresholdConfig(false_alarm_samples=count, **options)
        path = tmp_path / f"scores_{count}.json"
        return kept_threshold(path, cfg, {}, lambda: scores, usual).value

    own = 1.2 * 38
    assert threshold(usual=False) == pytest.approx(own)
    assert threshold(false_alarm_typical=0.0) == pytest.approx(own)
    assert threshold(false_alarm_typical=5.0) == pytest.approx(own**0.3 * 5.0**0.7)
    # the same factor at another rate, and with samples too few for the typical one's
    wider = threshold(false_alarm_typical=5.0, false_alarm_rate=0.2)
    assert wider == pytest.approx(1.2 * 32 * (5.0 / own) ** 0.7)
    few = threshold(count=9, false_alarm_rate=0.1, false_alarm_typical=5.0)
    assert few == pytest.approx((1.2 * 9) ** 0.3 * 5.0**0.7)
    with pytest.raises(UserError, match="false_alarm_typical must be 0 or positive, got -1"):
        ThresholdConfig(false_alarm_typical=-1.0)
