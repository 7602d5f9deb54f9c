"""An object's twins: turns after which it looks like itself."""

import math
from types import SimpleNamespace

import pytest
import torch

from gaussian_renderer.se3 import pose_error
from piad import twins
from piad.target import Target
from piad.twins import Axis, twin_turns
from tests.turned_scene import CAMERAS, DEVICES, PETALS, TILTED, cog, column, flower, query_of


def test_turns_move_nothing_on_their_axis():
    motions = TILTED.turns(torch.tensor([0.0, 90.0, 180.0]))
    on_axis = torch.cat([TILTED.point + 0.7 * TILTED.direction, torch.ones(1)])
    assert torch.allclose(motions @ on_axis, on_axis.expand(3, 4), atol=1e-12)
    assert torch.allclose(motions[0], torch.eye(4).double())
    assert pose_error(motions[1], torch.eye(4).double())[0] == pytest.approx(90)
    aside = torch.tensor([1.0, 0, 0, 1]).double()
    assert torch.allclose(motions[1] @ (motions[1] @ aside), motions[2] @ aside)


@pytest.mark.parametrize("device", DEVICES)
def test_every_petal_has_its_twin_about_the_true_axis(device):
    found = twin_turns(flower(device), CAMERAS, 0.6)
    true = TILTED.turns(torch.arange(1, PETALS) * 360 / PETALS)
    nearest = [min(pose_error(motion, other) for other in found) for motion in true]
    assert len(found) == PETALS - 1
    # the mark on one of them pulls a little
    assert max(angle for angle, _ in nearest) < 0.3 and max(shift for _, shift in nearest) < 0.01


def test_teeth_are_twins_though_the_other_face_looks_more_alike():
    models = cog()
    seen = query_of(models, CAMERAS[0])
    over, tooth = (
        Axis(torch.zeros(3).double(), torch.tensor(axis).double()).turns(torch.tensor([degrees]))
        for axis, degrees in (([1.0, 0, 0], 180.0), ([0.0, 0, 1], 60.0))
    )
    pose = CAMERAS[0].world_to_camera.double()
    turned = pose @ torch.cat([over, tooth])
    face, tooth_on = twins.small_likeness(Target.stacked([seen]), turned, models)
    assert face > tooth_on + 0.05
    found = twin_turns(models, CAMERAS, 0.6)
    assert len(found) == 5
    assert all(abs(motion[2, 2] - 1) < 0.01 for motion in found)


def test_most_twins_being_multiples_of_a_turn_all_its_multiples_are_twins():
    models = SimpleNamespace(host_centre=torch.zeros(3).double())
    off = torch.tensor([0.1, -0.2, 0.1, 1.9, 0.0, -0.1, 2.4, 0.2, -0.1, 0.1])  # as Gear's were
    teeth = torch.tensor([1, -1, 2, 3, -5, 7, -4, 8, -9, 10])
    other = TILTED.turns(torch.tensor([37.5]))
    measured = torch.cat([TILTED.turns(15 * teeth + off), other])
    found = twins.with_multiples(measured, models)
    true = TILTED.turns(15 * torch.arange(1, 24))
    assert torch.allclose(found[:23], true, atol=1e-6) and torch.equal(found[23:], other)
    # few of them are, or none; a half turn has no multiples
    for degrees in ([15.0, 37.0, 71.0, -98.0], [100.0], [50.0, 180.0], [178.5]):
        some = TILTED.turns(torch.tensor(degrees))
        assert torch.equal(twins.with_multiples(some, models), some)


def test_what_is_round_has_twins_though_no_turn_stands_out(monkeypatch):
    by_peaks = twins._Side.twins

    def none_at_first(side, axis, count):
        return by_peaks(side, axis, count) if count > 2 else []

    monkeypatch.setattr(twins._Side, "twins", none_at_first)
    found = twin_turns(column(ringed=True), CAMERAS, 0.6)
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double())
    quarter = upright.turns(torch.tensor([90.0]))[0]
    assert len(found) >= twins.ROUND
    angle, shift = min(pose_error(motion, quarter) for motion in found)
    assert angle < 1 and shift < 0.02
    assert len(twin_turns(column(), CAMERAS, 0.6)) == 0  # its pattern is nowhere the same


def test_the_axis_counts_about_which_the_object_is_round(monkeypatch):
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double())
    leaning = torch.tensor([0.0, math.sin(0.2), math.cos(0.2)]).double()
    tilted = Axis(torch.tensor([0.0, 0.05, 0]).double(), leaning)
    asked = []

    def tilted_at_first(side, axis, count):
        if count > 2:
            asked.append(axis.direction[2].abs().item())
        true = upright.turns(torch.arange(60.0, 360, 55))
        motions = true if count > 2 else tilted.turns(torch.tensor([60.0]))
        runs = [side.aligner.begin(side.pose @ motion) for motion in motions]
        side.aligner.look(runs)
        return [twins._Twin(side, run) for run in runs]

    monkeypatch.setattr(twins._Side, "twins", tilted_at_first)
    models = column(ringed=True)
    sides = [twins._Side(models, camera, 0.6) for camera in CAMERAS]
    assert all(side.roundness(upright) > side.roundness(tilted) + 0.2 for side in sides)
    assert len(twin_turns(models, CAMERAS, 0.6)) >= twins.ROUND
    assert asked[0] == pytest.approx(math.cos(0.2)) and asked[-1] == pytest.approx(1)


def test_an_object_without_equals_has_no_twins():
    assert twin_turns(flower(lopsided=True), CAMERAS, 0.6).shape == (0, 4, 4)
