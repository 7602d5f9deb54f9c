"""Objects that look much the same from several sides; queries found on a wrong one."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from gaussian_renderer.camera import Camera, Intrinsics, rigid_inverse
from gaussian_renderer.errors import UserError
from gaussian_renderer.gaussians import SH_C0, GaussianModel
from gaussian_renderer.se3 import pose_error
from piad import turns, twins
from piad.models import ModelPair
from piad.pose import refine_pose
from piad.refine_config import RefineConfig, RefinedPose
from piad.target import Target
from piad.turns import Turns, object_turns, refine_turned
from piad.twins import Axis, twin_turns
from tests.gaussian_scene import look_at

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
PETALS, SIDE = 5, 160
CFG = RefineConfig(refine_detail_views=0)
TILTED = Axis(
    torch.tensor([0.1, -0.05, 0.2]).double(),
    torch.nn.functional.normalize(torch.tensor([0.1, 0.2, 1.0]).double(), dim=0),
)
CAMERAS = [
    Camera(Intrinsics.from_fov_x(0.7, SIDE, SIDE), look_at(position))
    for position in ((2.4, 0.3, 3.0), (-1.0, 2.5, 2.6))
]


def solid_pair(means, colours, scale, device="cpu"):
    """Opaque round Gaussians; colour and reflectance are the same."""
    count = len(means)
    model = GaussianModel(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        log_scales=torch.full((count, 3), math.log(scale)),
        logit_opacities=torch.full((count,), 3.0),
        sh=((colours - 0.5) / SH_C0)[:, None],
        background=torch.tensor([0.7, 0.7, 0.7]),
    ).to(device)
    return ModelPair(model, model)


def flower(device="cpu", marked=True, lopsided=False):
    """Equal petals about a tilted axis; one with a mark in another colour.

    lopsided: the petals are of different lengths, so that no turn looks alike.
    """
    radius = torch.linspace(0.25, 0.9, 14)
    across = torch.linspace(-0.25, 0.25, 9)
    r, a = torch.meshgrid(radius, across, indexing="ij")
    parts, colours = [], []
    for petal in range(PETALS):
        stretch = 1 - 0.17 * petal * lopsided
        angle = 2 * math.pi * petal / PETALS + a
        height = 0.1 * torch.sin(9 * r) + 0.3 * a.square()
        points = torch.stack([stretch * r * angle.cos(), stretch * r * angle.sin(), height], -1)
        shade = 0.45 + 0.4 * torch.sin(14 * r) * torch.cos(9 * a)
        colour = shade[..., None] * torch.tensor([1.0, 0.9, 0.7])
        if marked and petal == 0:
            colour[5:9, 3:6] = torch.tensor([0.1, 0.2, 0.9])
        parts.append(points.reshape(-1, 3))
        colours.append(colour.reshape(-1, 3))
    points, colours = torch.cat(parts), torch.cat(colours)
    upright = Axis(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double()).direction
    side = torch.linalg.cross(upright, TILTED.direction)
    tilt = torch.asin(side.norm()).item()
    lean = Axis(torch.zeros(3).double(), side / side.norm()).turns(
        torch.tensor([math.degrees(tilt)])
    )[0]
    means = points @ lean[:3, :3].T.float() + TILTED.point.float()
    return solid_pair(means, colours, 0.045, device)


def column(device="cpu", ringed=False):
    """Round and patterned: its outline is the same from all sides, its surface nowhere.

    ringed: its colours change with the height alone.
    """
    heights = torch.linspace(-0.9, 0.9, 24)
    angles = torch.arange(36) * (2 * math.pi / 36)
    z, a = torch.meshgrid(heights, angles, indexing="ij")
    means = torch.stack([0.45 * a.cos(), 0.45 * a.sin(), z], -1).reshape(-1, 3)
    g = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 6, 9, generator=g)
    coarse = coarse[..., :1] if ringed else coarse
    colours = torch.nn.functional.interpolate(coarse, (24, 36)).flatten(2)[0].T
    return solid_pair(means, colours, 0.05, device)


def cog():
    """Six teeth about z, both faces alike; tints make no tooth quite like the next."""
    heights, across = torch.linspace(-0.2, 0.2, 7), torch.linspace(-0.3, 0.3, 9)
    radius = torch.linspace(0.3, 0.9, 12)
    tint = torch.tensor([[0.9, 0.8, 0.6], [0.9, 0.78, 0.58], [0.88, 0.8, 0.62], [0.86, 0.8, 0.6]])
    parts, colours = [], []
    for tooth in range(6):
        r, a, z = torch.meshgrid(radius, across, heights, indexing="ij")
        angle = tooth * math.pi / 3 + a
        x, y = r * angle.cos(), 1.03 * r * angle.sin()  # its spread tells x from y
        shade = 0.45 + 0.4 * torch.sin(14 * r) * torch.cos(9 * a)
        parts.append(torch.stack([x, y, z], -1).reshape(-1, 3))
        colours.append((shade[..., None] * tint[min(tooth, 6 - tooth)]).reshape(-1, 3))
    return solid_pair(torch.cat(parts), torch.cat(colours), 0.045)


def query_of(models, camera):
    """The photograph that the models themselves give."""
    pose = camera.world_to_camera[None].to(models.background)
    with torch.no_grad():
        image = models.render(pose, camera.intrinsics).over(models.background)[0]
    return Target.of(image.clamp(0, 1), camera.intrinsics)


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


@pytest.mark.parametrize("device", DEVICES)
def test_a_query_found_on_a_wrong_petal_gets_to_the_right_one(device):
    models = flower(device)
    true = CAMERAS[0].world_to_camera
    target = query_of(models, CAMERAS[0])
    wrong = true @ TILTED.turns(torch.tensor([144.0]))[0]
    first = refine_pose(target, wrong, models, CFG)
    assert pose_error(first.world_to_camera, wrong)[0] < 2  # steps alone stay there
    own = Turns(models, twin_turns(models, CAMERAS, 0.6), 0.6)
    found, none = refine_turned([target, target], [first, None], own, None, CFG)
    assert none is None
    assert pose_error(found.world_to_camera, true)[0] < 0.1
    assert found.agreement > first.agreement and found.steps > first.steps
    assert pose_error(found.rival, true)[0] > 15 and found.rival_agreement < found.agreement
    right = refine_pose(target, true, models, CFG)
    (kept,) = refine_turned([target], [right], own, None, CFG)
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
    (same,) = refine_turned([target], [first], none, None, CFG)
    assert same is first
    # the gallery's own agreement makes this one doubtful
    (found,) = refine_turned([target], [first], none, 1.0, CFG)
    assert pose_error(found.world_to_camera, true)[0] < 0.2

    worse = replace(first, agreement=first.agreement - 0.1)
    monkeypatch.setattr(turns, "refine_poses", lambda asked, *_: [worse] * len(asked))
    (kept,) = refine_turned([target], [first], none, 1.0, CFG)
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
    (same,) = refine_turned([target], [first], own, None, CFG)
    assert pose_error(same.world_to_camera, true)[0] > 20
    (found,) = refine_turned([target], [first], own, 1.0, CFG)
    assert pose_error(found.world_to_camera, true)[0] < 0.1
    assert found.steps > first.steps and len(found.trace) > len(first.trace)


class ByTruth:
    """Sides that differ by how far their poses are from a true one."""

    def __init__(self, true):
        self.true = true

    def differences(self, target, poses):
        return torch.tensor([pose_error(pose, self.true)[0] for pose in poses])


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
