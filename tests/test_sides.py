"""Which side of an object a query shows, by its features."""

from dataclasses import replace

import pytest
import torch

from gaussian_renderer.se3 import pose_error
from piad import scoring, sides, turns
from piad.anomaly import DetectConfig
from piad.pose import refine_pose
from piad.sides import Sides
from piad.target import Target
from piad.turns import Turns, refine_turned
from tests.detection_scene import SeededNet
from tests.turned_scene import CAMERAS, CFG, DEVICES, PETALS, TILTED, flower, query_of


class Net(SeededNet):
    """On the device of its images."""

    def features(self, images):
        self.weights = [weight.to(images) for weight in self.weights]
        return super().features(images)


@pytest.fixture(autouse=True)
def two_layers(monkeypatch):
    monkeypatch.setattr(sides, "CHOICES", DetectConfig(detect_layers="0,1"))


def petals(pose):
    """The pose, and it turned by every petal."""
    steps = torch.arange(PETALS) * 360 / PETALS
    return pose @ TILTED.turns(steps)


@pytest.mark.parametrize("device", DEVICES)
def test_features_differ_least_on_the_side_that_is_shown(device):
    models = flower(device)
    told = Sides(models, CAMERAS, Net)
    for camera in CAMERAS:
        target = query_of(models, camera)
        dim = torch.linspace(0.4, 1.0, target.image.shape[-1], device=device)
        shaded = Target.of(0.9 * dim * target.image, target.intrinsics)
        for query in (target, shaded):
            found = told.differences(query, petals(camera.world_to_camera))
            assert found.argmin() == 0 and found.shape == (PETALS,) and found.device.type == "cpu"
            assert found[1:].min() > 1.02 * found[0]


def test_poses_are_compared_together_as_one_by_one(monkeypatch):
    models, camera = flower(), CAMERAS[0]
    target, poses = query_of(models, camera), petals(camera.world_to_camera)
    alone = Sides(models, CAMERAS, Net).differences(target, poses)
    monkeypatch.setitem(scoring.BATCH, "cpu", 3)
    together = Sides(models, CAMERAS, Net).differences(target, poses)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_the_network_is_loaded_where_it_is_needed_and_once():
    loaded = []

    def load():
        loaded.append(Net())
        return loaded[-1]

    models, camera = flower(), CAMERAS[0]
    told = Sides(models, CAMERAS, load)
    assert not loaded
    for _ in range(2):
        told.differences(query_of(models, camera), petals(camera.world_to_camera)[:2])
    assert len(loaded) == 1 and loaded[0].passes == 2 * 3  # a query's, then one for each pose


def test_features_overrule_agreement(monkeypatch):
    models, true = flower(), CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    wrong = true @ TILTED.turns(torch.tensor([144.0]))[0]
    first = refine_pose(target, wrong, models, CFG)
    shining = replace(first, agreement=0.99)  # it is shaded as the query is
    right = refine_pose(target, true, models, CFG)
    monkeypatch.setattr(turns, "refine_poses", lambda asked, *_: [right] * len(asked))
    twins = TILTED.turns(torch.arange(1, PETALS) * 360 / PETALS)
    by_agreement = Turns(models, twins, 0.6)
    monkeypatch.setattr(by_agreement, "rivals", lambda *_: [true])
    (kept,) = refine_turned([target], [[]], [shining], by_agreement, None, CFG)
    assert torch.equal(kept.world_to_camera, shining.world_to_camera)
    by_features = Turns(models, twins, 0.6, Sides(models, CAMERAS, Net))
    monkeypatch.setattr(by_features, "rivals", lambda *_: [true])
    (found,) = refine_turned([target], [[]], [shining], by_features, None, CFG)
    assert torch.equal(found.world_to_camera, right.world_to_camera)
    assert torch.equal(found.rival, shining.world_to_camera) and found.rival_agreement == 0.99


def test_the_twins_that_are_refined_differ_least():
    models, true = flower(), CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    twins = TILTED.turns(torch.arange(1, PETALS) * 360 / PETALS)
    wrong = true @ TILTED.turns(torch.tensor([144.0]))[0]
    first = refine_pose(target, wrong, models, CFG)
    own = Turns(models, twins, 0.6, Sides(models, CAMERAS, Net))
    (best,) = own.rivals(target, first, 1)
    assert pose_error(best, true)[0] < 1
