"""Gallery photographs lend renderings the detail that the models have lost, where they see it."""

import math
from dataclasses import replace

import pytest
import torch

from piad import detail as detail_module
from piad.anomaly import ORIGINAL, DetectConfig
from piad.detail import ANGLE_DEG, DOUBT, GalleryDetail, gallery_detail
from piad.models import ModelPair
from piad.normality import learn_normality
from piad.threshold import flawless_scores
from tests.detail_scene import (
    DISTANCE,
    SIDE,
    camera_at,
    gallery,
    grey,
    rendered,
    sheet,
    texture,
)
from tests.detection_scene import SeededNet

CFG = DetectConfig(detect_layers="0,1", detect_sigma=1.0, detect_top=1.0)


@pytest.fixture(scope="module")
def plane():
    return ModelPair(grey(sheet()), grey(sheet()))


def inner(image):
    return image[..., 10:-10, 10:-10]


def test_a_print_that_the_models_lack_is_carried_to_another_camera(plane):
    camera, offsets = camera_at(0.05), (-0.1, 0.2)
    detail = GalleryDetail(plane, gallery(plane, offsets, texture), 2)
    found = detail.at([camera], plane.render_views([camera]))
    assert found.shape == (1, 6, SIDE, SIDE)
    aside = [abs(math.atan(x / DISTANCE) - math.atan(0.05 / DISTANCE)) for x in offsets]
    weight = sum(math.exp(-0.5 * (math.degrees(a) / ANGLE_DEG) ** 2) for a in aside)
    expected = texture(camera) * weight / (weight + DOUBT)
    # worst seen 0.004: half precision and bilinear interpolation of a print of 15 px a wave
    assert (inner(found[0]) - inner(expected)).abs().max() < 0.006
    assert inner(expected).abs().max() > 0.05


def test_nothing_is_added_to_the_backdrop(plane):
    camera = camera_at(0.05)
    seen = plane.render_views([camera])
    (found,) = GalleryDetail(plane, gallery(plane, (0.0,), texture), 1).at([camera], seen)
    backdrop = seen.alpha[0, 0] < 0.5
    assert backdrop.any() and found[:, backdrop].abs().max() == 0


def test_nothing_is_added_where_the_object_is_not_in_sight(plane):
    camera = camera_at(40.0 * DISTANCE)
    seen = plane.render_views([camera])
    found = GalleryDetail(plane, gallery(plane, (0.0,), texture), 1).at([camera], seen)
    assert seen.alpha.max() == 0
    assert torch.equal(found, torch.zeros(1, 6, SIDE, SIDE))


def test_a_place_that_a_photograph_does_not_see_takes_nothing_from_it():
    """A small square floats before the sheet; only its own pixels are marked in the photograph."""
    square = sheet(half=0.15, z=-1.0)
    both = ModelPair(*2 * [grey(torch.cat([sheet(), square]))])
    front = ModelPair(*2 * [grey(square)])

    def marked(camera):
        return 0.3 * (rendered(front, camera).alpha[0] > 0.5)

    pairs = gallery(both, (0.0,), marked)
    camera = camera_at(0.4)
    found = GalleryDetail(both, pairs, 1).at([camera], both.render_views([camera]))[0, 0]
    alpha = rendered(front, camera).alpha[0]
    assert found[alpha > 0.99].median() > 0.1  # the square itself, seen from both
    behind = alpha < 0.01
    lost = (pairs[0][0].pixels - rendered(both, camera_at(0.0)).over(both.background)[:3])[0] > 0.1
    assert lost.sum() > 20  # the sheet hides behind those pixels of the photograph
    assert found[behind].abs().max() < 1e-3


def test_a_photograph_does_not_vouch_for_itself(plane):
    pairs = gallery(plane, (-0.2, 0.0, 0.3), texture)
    detail = GalleryDetail(plane, pairs, 2)
    camera = pairs[1][0].camera
    assert [k for k, _ in detail.nearest(camera)] == [1, 0]
    assert [k for k, _ in detail.nearest(camera, "view0.0")] == [0, 2]
    angle = math.degrees(math.atan(0.2 / DISTANCE))
    assert detail.nearest(camera, "view0.0")[0][1] == pytest.approx(angle, abs=1e-3)
    alone = GalleryDetail(plane, pairs[1:2], 2)
    seen = plane.render_views([camera, camera])
    first, second = alone.at([camera, camera], seen, ["view0.0", None])
    assert first.abs().max() == 0 and second.abs().max() > 0.05


def test_views_that_fell_out_of_memory_are_made_again(plane, monkeypatch):
    pairs, camera = gallery(plane, (-0.2, 0.0, 0.3), texture), camera_at(0.1)
    seen = plane.render_views([camera])
    expected = GalleryDetail(plane, pairs, 3).at([camera], seen)
    monkeypatch.setattr(detail_module, "KEPT_VIEWS", 1)
    detail = GalleryDetail(plane, pairs, 3)
    for _ in range(2):
        torch.testing.assert_close(detail.at([camera], seen), expected, rtol=0, atol=0)


def test_cameras_together_are_lent_what_each_is_lent_alone(plane):
    detail = GalleryDetail(plane, gallery(plane, (-0.2, 0.0, 0.3), texture), 2)
    cameras = [camera_at(0.1), camera_at(-0.1).cropped(3, 5, SIDE, SIDE), camera_at(0.0)]
    own = [None, "view-0.2", None], [None, None, "view0.0"]
    together = detail.at(cameras, plane.render_views(cameras), *own)
    for camera, without, halfway, found in zip(cameras, *own, together, strict=True):
        alone = detail.at([camera], plane.render_views([camera]), [without], [halfway])
        torch.testing.assert_close(found, alone[0], rtol=0, atol=1e-6)
        assert found.abs().max() > 0.05


def test_a_lent_print_is_no_longer_a_difference(plane):
    """What the gallery shows and the models lack is normal: distances fall, and so do scores."""
    pairs = gallery(plane, (-0.2, -0.1, 0.0, 0.1, 0.2), texture)
    cfg = replace(CFG, relight_window=0.0)
    detail = gallery_detail(plane, pairs, cfg)
    without = learn_normality(plane, pairs, SeededNet(), cfg).normality()
    lent = learn_normality(plane, pairs, SeededNet(), cfg, detail=detail).normality()
    assert (lent.scale < 0.5 * without.scale).all()


def test_a_view_may_count_as_one_from_halfway_to_the_next(plane):
    detail = GalleryDetail(plane, gallery(plane, (-0.2, 0.0, 0.3), texture), 3)
    (first, angle), *others = detail.nearest(camera_at(0.0), halfway="view0.0")
    assert first == 1 and [k for k, _ in others] == [0, 2]
    assert angle == pytest.approx(0.5 * math.degrees(math.atan(0.2 / DISTANCE)), abs=1e-3)


def test_teaching_leaves_the_view_out_and_the_threshold_puts_it_halfway(plane):
    asked = []

    class Recorded(GalleryDetail):
        def at(self, cameras, seen, without, halfway):
            asked.extend(zip(without, halfway, strict=True))
            return super().at(cameras, seen, without, halfway)

    pairs = gallery(plane, (-0.2, 0.0, 0.2), texture)
    detail = Recorded(plane, pairs, 2)
    names = [view.id for view, _ in pairs]
    sums = learn_normality(plane, pairs, SeededNet(), CFG, detail=detail)
    flawless_scores(
        plane, pairs, sums, lambda x: x, SeededNet(), CFG, count=3, seed=0, detail=detail
    )
    assert asked == [(name, None) for name in names] + [(None, name) for name in names]


def test_the_paper_s_choices_lend_nothing(plane):
    pairs = gallery(plane, (0.0,), texture)
    assert gallery_detail(plane, pairs, replace(DetectConfig(), **ORIGINAL)) is None
    assert gallery_detail(plane, pairs, DetectConfig()).num_views == 4
