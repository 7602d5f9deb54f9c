"""Queries of objects that look much the same from several sides, found on a wrong one."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gaussian_renderer.camera import rigid_inverse
from gaussian_renderer.errors import UserError
from gaussian_renderer.se3 import pose_error
from piad import turns, twins
from piad.agreement import closeness
from piad.pose import refine_pose
from piad.refine_config import RefineConfig, RefinedPose
from piad.turns import Turns, object_turns, refine_turned
from piad.twins import Axis, twin_turns
from tests.turned_scene import CAMERAS, CFG, DEVICES, TILTED, column, flower, query_of


@pytest.mark.parametrize("device", DEVICES)
def test_a_query_found_on_a_wrong_petal_gets_to_the_right_one(device):
    models = flower(device)
    true = CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    wrong = true @ TILTED.turns(torch.tensor([144.0]))[0]
    first = refine_pose(target, wrong, models, CFG)
    assert pose_error(first.world_to_camera, wrong)[0] < 2  # steps alone stay there
    own = Turns(models, twin_turns(models, CAMERAS, 0.6), 0.6)
    found, none = refine_turned([target, target], [[wrong], []], [first, None], own, None, CFG)
    assert none is None
    assert pose_error(found.world_to_camera, true)[0] < 0.1
    assert found.agreement > first.agreement and found.steps > first.steps
    assert pose_error(found.rival, true)[0] > 15 and found.rival_agreement < found.agreement
    right = refine_pose(target, true, models, CFG)
    (kept,) = refine_turned([target], [[]], [right], own, None, CFG)
    assert pose_error(kept.world_to_camera, true)[0] < 0.1


def test_only_a_doubtful_query_of_an_object_without_twins_is_turned(monkeypatch):
    models = column()
    true = CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double())
    wrong = true @ upright.turns(torch.tensor([130.0]))[0]
    first = refine_pose(target, wrong, models, CFG)
    assert pose_error(first.world_to_camera, true)[0] > 20
    none = Turns(models, torch.zeros(0, 4, 4).double(), 0.6)
    (same,) = refine_turned([target], [[]], [first], none, None, CFG)
    assert same is first
    # the gallery's own agreement makes this one doubtful
    (found,) = refine_turned([target], [[]], [first], none, 1.0, CFG)
    assert pose_error(found.world_to_camera, true)[0] < 0.2

    worse = replace(first, agreement=first.agreement - 0.1)
    monkeypatch.setattr(turns, "refine_poses", lambda asked, *_: [worse] * len(asked))
    (kept,) = refine_turned([target], [[]], [first], none, 1.0, CFG)
    assert torch.equal(kept.world_to_camera, first.world_to_camera)
    assert kept.agreement == first.agreement


def test_a_doubtful_query_of_an_object_with_twins_is_turned_upside_down_too():
    models, true = flower(), CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    twins = twin_turns(models, CAMERAS, 0.6)
    across = torch.linalg.cross(TILTED.direction, torch.tensor([1.0, 0, 0]).double())
    half = Axis(TILTED.point, across / across.norm()).turns(torch.tensor([180.0]))[0]
    wrong = true @ half @ TILTED.turns(torch.tensor([37.0]))[0]
    start = refine_pose(target, true, models, CFG)
    first = replace(start, world_to_camera=wrong, agreement=0.1)
    own = Turns(models, twins, 0.6)
    (same,) = refine_turned([target], [[]], [first], own, None, CFG)
    assert pose_error(same.world_to_camera, true)[0] > 20
    (found,) = refine_turned([target], [[]], [first], own, 1.0, CFG)
    assert pose_error(found.world_to_camera, true)[0] < 0.1
    assert found.steps > first.steps and len(found.trace) > len(first.trace)


class ByTruth:
    """Sides that differ by how far their poses are from a true one."""

    def __init__(self, true):
        self.true = true

    def differences(self, target, poses):
        return torch.tensor([pose_error(pose, self.true)[0] for pose in poses])


class Squared(ByTruth):
    """Sides whose difference is a parabola of the turn that is left."""

    def differences(self, target, poses):
        return super().differences(target, poses).double().square()


def alone(known):
    """Turns that seek no other side."""
    known.rivals = known.other_sides = lambda *_: []
    return known


@pytest.mark.parametrize("device", DEVICES)
def test_turns_between_twins_are_looked_at_where_features_tell_sides_apart(device):
    models, true = column(device), CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double())
    twins = upright.turns(torch.arange(50.0, 360, 50))
    wrong = true @ upright.turns(torch.tensor([90.0]))[0]
    first = RefinedPose(wrong, 0.1, 1, "converged", 0.0, [wrong], agreement=0.1)
    alone = Turns(models, twins, 0.6).rivals(target, first, 50)
    assert min(pose_error(pose, true)[0] for pose in alone) > 15
    told = Turns(models, twins, 0.6, ByTruth(true)).rivals(target, first, 50)
    assert pose_error(told[0], true)[0] < 2
    known = [wrong, *(wrong @ twins)]
    between = [p for p in told if all((p - k).abs().max() > 1e-9 for k in known)]
    assert between and all(pose_error(p, k)[0] > 5 for p in between for k in known)
    # few twins make nothing round, and many so near to each other leave nothing between
    for known in (twins[:4], upright.turns(torch.arange(10.0, 360, 10))):
        told = Turns(models, known, 0.6, ByTruth(true)).rivals(target, first, 50)
        assert all(min((p - wrong @ k).abs().max() for k in known) < 1e-9 for p in told)


def test_what_is_round_is_looked_around_again_from_a_better_side(monkeypatch):
    models, true = column(), CAMERAS[0].world_to_camera
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double())
    nearer, wrong = true @ upright.turns(torch.tensor([40.0, 90.0]))
    monkeypatch.setattr(
        turns, "refine_poses", lambda targets, starts, *_: [refined(own) for (own,) in starts]
    )

    def refined(pose):
        return RefinedPose(pose, 0.1, 1, "converged", 0.0, [pose], agreement=0.1)

    def looked_around(degrees):
        known, asked = Turns(models, upright.turns(degrees), 0.6, ByTruth(true)), []

        def rivals(target, found, count):
            asked.append(found.world_to_camera)
            return [nearer] if torch.equal(asked[-1], wrong) else [true]

        monkeypatch.setattr(known, "rivals", rivals)
        target = query_of(models, CAMERAS[0])
        (found,) = refine_turned([target], [[]], [refined(wrong)], known, None, CFG)
        return found, len(asked)

    found, times = looked_around(torch.arange(50.0, 360, 50))
    assert times == 2 and torch.equal(found.world_to_camera, true)
    assert torch.equal(found.rival, nearer)
    # twins alone are the same from any of their sides
    found, times = looked_around(torch.tensor([120.0, 240.0]))
    assert times == 1 and torch.equal(found.world_to_camera, nearer)


def test_what_is_round_is_turned_to_where_features_differ_least():
    models, true = column(), CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double())
    known = Turns(models, upright.turns(torch.arange(50.0, 360, 50)), 0.6, Squared(true))
    # between the angles that are looked at, and the farthest of them
    for angle, left in ((-20.4, 0.0), (1.9, 0.0), (0.7, 0.7), (33.0, 0.0), (40.0, 7.0)):
        pose = true @ upright.turns(torch.tensor([angle]))[0]
        first = RefinedPose(pose, 0.1, 1, "converged", 0.0, [pose], agreement=0.1)
        (found,) = refine_turned([target], [[]], [first], alone(known), None, CFG)
        assert pose_error(found.world_to_camera, true)[0] == pytest.approx(left, abs=0.02)
        if left == angle:
            assert found is first
        else:
            assert torch.equal(found.trace[-1], found.world_to_camera)
            expected = closeness(target, found.world_to_camera, models, CFG)
            assert (found.loss, found.agreement) == pytest.approx(expected)
    # nothing is turned without features, or where twins are few
    pose = true @ upright.turns(torch.tensor([10.0]))[0]
    first = RefinedPose(pose, 0.1, 1, "converged", 0.0, [pose], agreement=0.1)
    for degrees, sides in ((50.0, None), (120.0, Squared(true))):
        known = Turns(models, upright.turns(torch.arange(degrees, 360, degrees)), 0.6, sides)
        (found,) = refine_turned([target], [[]], [first], alone(known), None, CFG)
        assert found is first


def test_a_start_pose_that_another_side_outran_is_judged_by_features(monkeypatch):
    models, true = column(), CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double())
    beside, wrong, other = true @ upright.turns(torch.tensor([1.0, 90.0, 180.0]))
    begun = []

    def refined(pose):
        return RefinedPose(pose, 0.1, 1, "converged", 0.0, [pose], agreement=0.3)

    def refine_poses(targets, starts, *_):
        begun.extend(starts)
        return [refined(pose) for (pose,) in starts]

    monkeypatch.setattr(turns, "refine_poses", refine_poses)
    none = torch.zeros(0, 4, 4).double()

    def chosen(starts, found, own):
        begun.clear()
        known = Turns(models, none, 0.6, ByTruth(true))
        monkeypatch.setattr(known, "other_sides", lambda *_: [])
        return refine_turned([target], [starts], [refined(found)], known, own, CFG)[0]

    found = chosen([beside, wrong, other], wrong, None)
    assert torch.equal(found.world_to_camera, beside) and torch.equal(found.rival, wrong)
    assert len(begun) == 1
    # the features say so, not the order
    assert torch.equal(chosen([wrong], beside, None).world_to_camera, beside)
    # one side: nothing to judge
    assert chosen([beside, wrong], true, None).steps == 1 and not begun
    # of a doubtful query all that it was refined from
    found = chosen([other, beside, wrong], wrong, 1.0)
    assert torch.equal(found.world_to_camera, beside) and len(begun) == 2


def test_twins_are_sought_once(tmp_path, monkeypatch, capsys):
    models, asked = flower(), []

    def found(*arguments):
        asked.append(arguments)
        return TILTED.turns(torch.tensor([72.0, 144.0]))

    monkeypatch.setattr(twins, "twin_turns", found)
    monkeypatch.setattr(twins, "gallery_fingerprint", lambda scene: scene.name)
    monkeypatch.setattr(twins, "models_fingerprint", lambda run: "models")
    run = SimpleNamespace(cache=tmp_path)
    views = [SimpleNamespace(camera=camera) for camera in CAMERAS]
    scene = SimpleNamespace(name="Flower", gallery=views)
    first = object_turns(scene, models, CFG, run)
    again = object_turns(scene, models, CFG, run)
    assert len(asked) == 1 and torch.equal(first.twins, again.twins)
    assert "Flower looks much the same from 3 sides" in capsys.readouterr().out
    object_turns(SimpleNamespace(name="Other", gallery=views), models, CFG, run)
    assert len(asked) == 2
    assert object_turns(scene, models, replace(CFG, turned_poses=0), run) is None
    assert object_turns(scene, models, replace(CFG, refiner="adam"), run) is None
    with pytest.raises(UserError, match="turned_poses"):
        RefineConfig(turned_poses=-1)
    assert rigid_inverse(first.twins[0]) is not None
