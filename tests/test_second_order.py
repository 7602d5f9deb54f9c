"""The second-order refiner on a small made object: basin, light, silhouette, bookkeeping."""

import math
from dataclasses import replace

import pytest
import torch

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.se3 import pivoted_basis, pose_error, se3_exp
from piad import rounds
from piad.models import ModelPair
from piad.pose import RefineConfig, refine_pose
from piad.rounds import Round
from piad.second_order import Aligner, _secant
from piad.target import Target, find_silhouette
from piad.warp_search import WarpSearch, correlation_tables, warp_search

SIDE = 96


def gaussian_model(sh, background, seed=0, num=260):
    """An irregular blob of opaque Gaussians around the origin."""
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(num, 3, generator=g) * torch.tensor([0.5, 0.35, 0.25])
    means[:60] += torch.tensor([0.6, 0.3, 0.0])  # lopsided, so that every turn shows
    return GaussianModel(
        means=means,
        quats=torch.randn(num, 4, generator=g),
        log_scales=torch.full((num, 3), math.log(0.07)),
        logit_opacities=torch.full((num,), 3.0),
        sh=sh,
        background=background,
    )


@pytest.fixture
def models():
    g = torch.Generator().manual_seed(3)
    pair = [
        gaussian_model(0.8 * torch.randn(260, 1, 3, generator=g), torch.full((3,), value))
        for value in (1.0, 0.9)
    ]
    return ModelPair(*pair)


@pytest.fixture
def true_pose():
    pose = se3_exp(torch.tensor([0.0, 0, 0, 0.3, -0.5, 0.2], dtype=torch.float64))
    pose[:3, 3] = torch.tensor([0.05, -0.05, 4.0], dtype=torch.float64)
    return pose


@pytest.fixture
def target(models, true_pose):
    intrinsics = Intrinsics.from_fov_x(0.7, SIDE, SIDE)
    view = models.render(true_pose.float(), intrinsics).over(models.background)
    shape = find_silhouette(view, models.background)
    return Target(view.detach(), models.background, intrinsics, shape)


def turned(pose, degrees, shift):
    step = torch.tensor([shift, -shift, 0, 0, 0, 0], dtype=torch.float64)
    axis = torch.tensor([1.0, 1.0, -0.5], dtype=torch.float64)
    step[3:] = axis / axis.norm() * math.radians(degrees)
    turn = se3_exp(step)
    moved = pose.clone()
    moved[:3, :3] = turn[:3, :3] @ pose[:3, :3]
    moved[:3, 3] = pose[:3, 3] + 4.0 * turn[:3, 3]
    return moved


def align(hypotheses, target, models, weight, rounds):
    """Every hypothesis [4, 4] of one query through every round; weight: of reflectance."""
    aligner = Aligner([target], models, weight)
    runs = [aligner.begin(pose) for pose in hypotheses]
    for this in rounds:
        aligner.round(runs, this)
    return runs


SECOND_ORDER = RefineConfig(refiner="second_order")


def test_pose_comes_back_from_five_degrees(models, target, true_pose):
    start = turned(true_pose, 5, 0.03)
    refined = refine_pose(target, start, models, SECOND_ORDER)
    angle, shift = pose_error(refined.world_to_camera, true_pose)
    assert float(angle) < 0.1 and float(shift) < 0.02
    rotation = refined.world_to_camera[:3, :3]
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert len(refined.trace) > 1 and torch.equal(refined.trace[0], start)
    assert refined.stop_reason in ("steps", "converged")


def test_another_light_leaves_the_pose(models, target, true_pose):
    gain = torch.tensor([0.6, 0.7, 0.9, 0.8, 0.9, 1.1])[:, None, None]
    relit = replace(target, image=target.image * gain, backdrop=target.backdrop * gain[:, 0, 0])
    refined = refine_pose(relit, turned(true_pose, 3, 0.02), models, SECOND_ORDER)
    angle, shift = pose_error(refined.world_to_camera, true_pose)
    assert float(angle) < 0.2 and float(shift) < 0.02


def test_rich_backdrop_and_separate_geometry_work_too(models, target, true_pose):
    other = replace(models.reflectance, means=models.reflectance.means + 1e-5)
    pair = ModelPair(models.colour, other)
    assert pair.joined is None
    rich = replace(target, backdrop=None, silhouette=None)
    refined = refine_pose(rich, turned(true_pose, 2, 0.01), pair, SECOND_ORDER)
    angle, shift = pose_error(refined.world_to_camera, true_pose)
    assert float(angle) < 0.2 and float(shift) < 0.02


def test_of_several_starts_the_best_goes_on(models, target, true_pose):
    starts = [turned(true_pose, 60, 0.0), turned(true_pose, 3, 0.01)]
    refined = refine_pose(target, starts, models, SECOND_ORDER)
    assert torch.equal(refined.trace[0], starts[1])
    assert float(pose_error(refined.world_to_camera, true_pose)[0]) < 0.2


def test_covariance_is_positive_and_smaller_along_the_image(models, target, true_pose):
    refined = refine_pose(target, true_pose, models, SECOND_ORDER)
    assert torch.linalg.eigvalsh(refined.covariance).min() > 0
    pose = refined.world_to_camera
    pivot = pose[:3, :3] @ models.centre.double() + pose[:3, 3]
    inverse = torch.linalg.inv(pivoted_basis(pivot, float(pivot.norm())))
    variance = (inverse @ refined.covariance @ inverse.T).diagonal()
    assert variance[0] < variance[2] and variance[1] < variance[2]


TILES = Round(1.0, 8, "tile", 0.4, 0.3, relax=2.0)


@pytest.mark.parametrize("light", ["global", "tile"])
def test_one_rounds_steps_never_raise_its_cost_and_reach_the_pose(models, target, true_pose, light):
    this = TILES if light == "tile" else Round(1.0, 8, "global", 100.0, 1.0)
    (run,) = align([turned(true_pose, 1, 0.003)], target, models, 0.6, [this])
    (first,) = align([turned(true_pose, 1, 0.003)], target, models, 0.6, [replace(this, calls=1)])
    assert run.cost < 0.6 * first.cost  # what is left: the query's edge is sharper than alpha's
    assert first.calls == 1 and 1 < run.calls <= 8
    assert len(run.hessian) == (6 if light == "tile" else 18)
    assert float(pose_error(run.pose, true_pose)[0]) < 0.05


def test_tile_rounds_ignore_a_lamp_that_moves_the_global_round(models, target, true_pose):
    fall = torch.linspace(0.4, 1.2, SIDE)
    lamp = replace(target, image=target.image * fall)
    found = [
        align([true_pose], lamp, models, 0.6, [this])[0].pose
        for this in (TILES, Round(1.0, 8, "global", 100.0, 1.0))
    ]
    tile, colours = (float(pose_error(pose, true_pose)[0]) for pose in found)
    assert tile < 0.1 and colours > 3 * tile


def test_tile_rounds_are_the_same_where_the_empty_rim_is_cut_off(
    models, target, true_pose, monkeypatch
):
    start = turned(true_pose, 1, 0.003)
    pinhole = replace(target.intrinsics, fx=70.0, fy=70.0, cx=30.0)  # small, room on the right
    view = models.render(true_pose.float(), pinhole).over(models.background)
    target = Target(view, models.background, pinhole, find_silhouette(view, models.background))
    assert rounds._around_object(Target.stacked([target])).image.shape[-1] <= SIDE - 8
    (cut,) = align([start], target, models, 0.6, [replace(TILES, calls=1)])
    monkeypatch.setattr(rounds, "_around_object", lambda whole: whole)
    (whole,) = align([start], target, models, 0.6, [replace(TILES, calls=1)])
    torch.testing.assert_close(cut.hessian, whole.hessian, rtol=1e-4, atol=1e-3)
    assert float(pose_error(cut.pose, whole.pose)[0]) < 1e-3
    assert cut.cost == pytest.approx(whole.cost, rel=1e-4)


def test_the_secant_finds_the_end_of_a_parabola():
    curvature = torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64))
    gradient = torch.tensor([1.0, -2.0], dtype=torch.float64)
    step = -0.4 * torch.linalg.solve(curvature, gradient)
    after = torch.stack([gradient + curvature @ step, 2 * gradient])
    found = _secant(*(x.numpy() for x in (gradient[None], after, step[None]))).tolist()
    assert found == pytest.approx([2.5, 4.0])  # the other is still steeper: as far as allowed


def test_a_search_by_one_rendering_undoes_what_steps_cannot(models, target, true_pose):
    """A pose 12 px off."""
    start = turned(true_pose, 2, 0.08)
    search = WarpSearch(1.0, 16, 0.05, 3.0)

    def searched():
        query = Target.stacked([target])
        return warp_search(target.intrinsics, query, start[None], models, search, 0.6)[0][0]

    found = searched()
    before, after = (pose_error(pose, true_pose) for pose in (start, found))
    assert float(after[1]) < 0.15 * float(before[1]) and float(after[0]) < float(before[0])
    assert torch.equal(found, searched())
    (run,) = align([start], target, models, 0.6, [TILES])
    assert float(pose_error(run.pose, true_pose)[1]) > 3 * float(after[1])


def test_a_search_leaves_a_pose_from_which_nothing_is_seen(models, target, true_pose):
    away = true_pose.clone()
    away[2, 3] = -4.0
    query = Target.stacked([target])
    search = WarpSearch(1.0, 8, 0.05, 3.0)
    found, *_ = warp_search(target.intrinsics, query, away[None], models, search, 0.6)
    assert torch.equal(found[0], away)


def test_correlation_tables_peak_where_a_patch_went(models):
    g = torch.Generator().manual_seed(0)
    query = torch.rand(2, 40, 40, generator=g)
    shown = query.roll(
        (-3, 2), (1, 2)
    )  # a patch of it lies 3 lower and 2 further left in the query
    one = torch.ones(1, 40, 40)
    images = (x[None] for x in (shown, query, one, 4 * one))
    found = correlation_tables(*images, torch.tensor([0.4, 0.6]), 5)
    tables, anchors, kept = (x[0] for x in found)
    assert tables.shape == (25, 11, 11) and anchors.shape == (3, 25) and bool(kept.all())
    inner = (anchors[0] > 8) & (anchors[0] < 32) & (anchors[1] > 8) & (anchors[1] < 32)
    for table in tables[inner]:
        assert divmod(int(table.argmax()), 11) == (5 + 3, 5 - 2)
        assert float(table.max()) == pytest.approx(1, abs=0.02)  # but for the floor of contrast
    assert torch.allclose(anchors[2], torch.tensor(4.0))


def test_pivoted_steps_turn_about_the_pivot():
    pivot = torch.tensor([0.3, -0.2, 4.0], dtype=torch.float64)
    step = torch.tensor([0, 0, 0, 0.2, -0.4, 0.1], dtype=torch.float64)
    moved = se3_exp(pivoted_basis(pivot, 4.0) @ step) @ torch.cat([pivot, pivot.new_ones(1)])
    assert torch.allclose(moved[:3], pivot, atol=1e-12)
    step = torch.tensor([0.1, 0, 0, 0, 0, 0], dtype=torch.float64)
    moved = se3_exp(pivoted_basis(pivot, 4.0) @ step)
    assert torch.allclose(moved[:3, 3], torch.tensor([0.4, 0, 0], dtype=torch.float64))
