"""Start poses of queries of a small object: right side, any light, rotation, pinhole; honesty."""

import math

import pytest
import torch

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.errors import UserError
from gaussian_renderer.render import render
from gaussian_renderer.se3 import pose_error
from retrieval import ORIGINAL, InitialPoseConfig, PoseInitialiser
from retrieval.initial_pose import QUERIES_AT_ONCE
from retrieval.warp import roll
from tests.retrieval_scene import orbit, patchwork, query_camera, relit, shoot

CFG = {
    "matcher": "sift",
    "matcher_points": 400,
    "start_features": "lite2",
    "start_virtual_views": 16,
    "start_candidates": 5,
    "start_aligned": 4,
    "start_compare_px": 64,
    "start_model_steps": 200,
    "match_views": 2,
    "start_rotations": 4,
}


@pytest.fixture(scope="module")
def gallery():
    model, cameras = patchwork(), orbit()
    shots = [shoot(model, camera) for camera in cameras]
    return model, cameras, [s[0] for s in shots], [s[1] for s in shots]


@pytest.fixture(scope="module")
def initialiser(gallery, tmp_path_factory):
    model, cameras, photographs, reflectances = gallery
    folder = tmp_path_factory.mktemp("cache")
    cfg = InitialPoseConfig(**CFG)
    return PoseInitialiser(cameras, photographs, reflectances, model, cfg, folder)


def errors(start, camera):
    angle, distance = pose_error(start.world_to_camera, camera.world_to_camera)
    return angle, distance / camera.position.norm().item()


def test_query_between_two_views_is_found(gallery, initialiser):
    camera = query_camera(0.6)
    start = initialiser.locate(*shoot(gallery[0], camera), camera.intrinsics)
    angle, share = errors(start, camera)
    assert start.status == "ok" and angle < 2 and share < 0.02
    nearest = min(range(16), key=lambda i: pose_error(
        camera.world_to_camera, gallery[1][i].world_to_camera)[0])  # fmt: skip
    assert abs(start.gallery_index - nearest) in (0, 1, 15)
    assert start.world_to_camera.dtype == torch.float64
    assert 0.5 < start.confidence <= 1 and start.num_inliers == 0  # sure without matches


def test_query_under_another_light_is_found(gallery, initialiser):
    camera = query_camera(2.5, height=-0.6)
    photograph, reflectance = shoot(gallery[0], camera)
    start = initialiser.locate(relit(photograph), relit(reflectance), camera.intrinsics)
    angle, share = errors(start, camera)
    assert start.status == "ok" and angle < 3 and share < 0.03


@pytest.mark.parametrize("degrees", [90, 205])
def test_query_rotated_in_plane_is_found(gallery, initialiser, degrees):
    upright = query_camera(4.0)
    camera = upright.with_pose(roll(math.radians(degrees)) @ upright.world_to_camera)
    start = initialiser.locate(*shoot(gallery[0], camera), camera.intrinsics)
    angle, share = errors(start, camera)
    assert start.status == "ok" and angle < 3 and share < 0.03


def test_query_of_another_size_and_focal_length_is_found(gallery, initialiser):
    intrinsics = Intrinsics(250.0, 245.0, 100.0, 85.0, 210, 170)
    camera = query_camera(5.2, intrinsics=intrinsics)
    start = initialiser.locate(*shoot(gallery[0], camera), intrinsics)
    angle, share = errors(start, camera)
    assert start.status == "ok" and angle < 3 and share < 0.05


@pytest.mark.parametrize("ratio", [0.65, 1.5])
@pytest.mark.parametrize("with_silhouette", [True, False])
def test_query_from_another_distance_is_found(gallery, initialiser, ratio, with_silhouette):
    for turn in (1.2, 4.4):
        camera = query_camera(turn, radius=ratio * 3.6)
        shape = render(gallery[0], camera).alpha if with_silhouette else None
        start = initialiser.locate(*shoot(gallery[0], camera), camera.intrinsics, shape)
        angle, share = errors(start, camera)
        assert start.status == "ok" and angle < 4 and share < 0.05


def test_queries_searched_together_are_found_as_each_alone(gallery, initialiser, monkeypatch):
    monkeypatch.setitem(QUERIES_AT_ONCE, "cpu", 2)
    wide = Intrinsics(250.0, 245.0, 100.0, 85.0, 210, 170)
    cameras = [query_camera(t, intrinsics=k) for t, k in ((0.6, None), (5.2, wide), (2.1, None))]
    shots = [shoot(gallery[0], camera) for camera in cameras]
    intrinsics = [camera.intrinsics for camera in cameras]
    together = initialiser.locate_many(*zip(*shots, strict=True), intrinsics, [None] * 3)
    for start, shot, k in zip(together, shots, intrinsics, strict=True):
        alone = initialiser.locate(*shot, k)
        torch.testing.assert_close(start.world_to_camera, alone.world_to_camera, atol=1e-4, rtol=0)
        assert start.confidence == pytest.approx(alone.confidence, abs=1e-4)


def test_hypotheses_are_distinct_and_sorted(gallery, initialiser):
    camera = query_camera(1.7)
    start = initialiser.locate(*shoot(gallery[0], camera), camera.intrinsics)
    assert start.hypotheses[0].world_to_camera is start.world_to_camera
    values = [h.similarity for h in start.hypotheses]
    assert values == sorted(values, reverse=True)
    for i, a in enumerate(start.hypotheses):
        for b in start.hypotheses[:i]:
            assert pose_error(a.world_to_camera, b.world_to_camera)[0] > 15
    if len(values) > 1:
        assert start.margin == pytest.approx(values[0] - values[1])


def test_another_object_or_nothing_is_not_found(initialiser):
    other = patchwork(seed=9, radii=(0.4, 0.5, 0.9))
    camera = query_camera(0.6)
    start = initialiser.locate(*shoot(other, camera), camera.intrinsics)
    assert start.status == "not_found" and "start_min_similarity" in start.message
    blank = torch.full((3, 128, 128), 0.85)
    assert initialiser.locate(blank, blank, camera.intrinsics).status == "not_found"


def test_two_runs_agree_and_features_come_from_disk(gallery, initialiser, monkeypatch):
    model, cameras, photographs, reflectances = gallery
    from EfficientLoFTR.sift import SiftMatcher
    from retrieval.shortlist import Shortlist

    camera = query_camera(3.3)
    query = shoot(model, camera)
    first = initialiser.locate(*query, camera.intrinsics)
    encoded = []
    encode, describe = SiftMatcher.encode, Shortlist.describe
    monkeypatch.setattr(
        SiftMatcher, "encode", lambda self, x: encoded.append(len(x)) or encode(self, x)
    )
    monkeypatch.setattr(
        Shortlist, "describe", lambda self, x: encoded.append(len(x)) or describe(self, x)
    )
    cfg = InitialPoseConfig(**CFG)
    again = PoseInitialiser(cameras, photographs, reflectances, model, cfg, initialiser.cache_dir)
    assert encoded == []
    second = again.locate(*query, camera.intrinsics)
    assert sum(encoded) <= 4 + 3 + 2  # rotations, turned queries to match, query and rendering
    angle, _ = pose_error(first.world_to_camera, second.world_to_camera)
    assert angle < 0.05


@pytest.mark.parametrize(("sure", "calls"), [(0.4, 0), (1.0, 1)])
def test_photographs_are_matched_only_where_nothing_is_alike_enough(
    gallery, initialiser, monkeypatch, sure, calls
):
    camera = query_camera(0.06, height=0.1)  # close to the first photograph
    asked, found = [], []
    from_matches = initialiser._from_matches

    def noted(*arguments):
        asked.append(1)
        found.extend(from_matches(*arguments))
        return found

    monkeypatch.setattr(initialiser, "_from_matches", noted)
    monkeypatch.setattr(initialiser.cfg, "start_sure", sure)
    start = initialiser.locate(*shoot(gallery[0], camera), camera.intrinsics)
    assert len(asked) == calls and errors(start, camera)[0] < 2
    if calls:  # the poses by matches are good ones
        best = min(found, key=lambda h: pose_error(h.world_to_camera, camera.world_to_camera)[0])
        assert pose_error(best.world_to_camera, camera.world_to_camera)[0] < 8
        assert best.num_inliers > 5 and best.source == "matches"


def test_without_matching_the_renderings_decide(gallery):
    model, cameras, photographs, reflectances = gallery
    cfg = InitialPoseConfig(**(CFG | {"match_views": 0}))
    initialiser = PoseInitialiser(cameras, photographs, reflectances, model, cfg)
    camera = query_camera(0.9)
    start = initialiser.locate(*shoot(model, camera), camera.intrinsics)
    assert errors(start, camera)[0] < 3 and start.num_inliers == 0
    assert "matcher" not in initialiser.weights


def test_colour_model_alone_is_enough(gallery):
    model, cameras, photographs, reflectances = gallery
    cfg = InitialPoseConfig(**(CFG | {"start_virtual_views": 0}))
    only = model.channels(0, 3)
    initialiser = PoseInitialiser(cameras, photographs, reflectances, only, cfg)
    camera = query_camera(2.0)
    start = initialiser.locate(*shoot(model, camera), camera.intrinsics)
    assert errors(start, camera)[0] < 4


def test_the_papers_way_returns_the_pose_of_a_gallery_view(gallery):
    model, cameras, photographs, reflectances = gallery
    assert ORIGINAL == {"initial_pose": "original"}
    cfg = InitialPoseConfig(**(CFG | ORIGINAL))
    initialiser = PoseInitialiser(cameras, photographs, reflectances, None, cfg)
    start = initialiser.locate(photographs[3], reflectances[3], cameras[3].intrinsics)
    assert start.gallery_index == 3 and start.status == "ok"
    torch.testing.assert_close(start.world_to_camera, cameras[3].world_to_camera)
    blank = torch.full((3, 128, 128), 0.85)
    nothing = initialiser.locate(blank, blank, cameras[0].intrinsics)
    assert nothing.status == "not_found" and nothing.confidence == 0


def test_wrong_arguments_are_named(gallery, tmp_path):
    model, cameras, photographs, reflectances = gallery
    with pytest.raises(UserError, match="16 poses, 15 photographs"):
        PoseInitialiser(cameras, photographs[:15], reflectances, model, InitialPoseConfig())
    cfg = InitialPoseConfig(**(CFG | {"match_views": 0}))
    with pytest.raises(UserError, match="needs the object's model"):
        PoseInitialiser(cameras, photographs, reflectances, None, cfg)
    missing = str(tmp_path / "gone.ckpt")
    cfg = InitialPoseConfig(**(CFG | {"matcher": "eloftr", "matcher_checkpoint": missing}))
    with pytest.raises(UserError, match="gone.ckpt"):
        PoseInitialiser(cameras, photographs, reflectances, model, cfg)
    with pytest.raises(UserError, match="start_aligned must be at least 1, got 0"):
        InitialPoseConfig(start_aligned=0)
    with pytest.raises(UserError, match="start_compare_px must be at least 32"):
        InitialPoseConfig(start_compare_px=10)
