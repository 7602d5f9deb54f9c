"""Density control: cloned, split, pruned and stray Gaussians, their moments and their mean."""

import math

import pytest
import torch

from gaussian_renderer.backdrop import Silhouettes, estimate_backdrop
from gaussian_renderer.densify import (
    DensityControl,
    prune,
    reset_opacity,
    rotation_matrices,
    without_strays,
)
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.optimiser import GaussianOptimiser
from tests.gaussian_scene import ball, photos, ring_of_cameras


def make_optimiser(model):
    names = ("means", "quats", "log_scales", "logit_opacities", "sh_constant", "sh_higher")
    return GaussianOptimiser(model, dict.fromkeys(names, 1e-2))


def gaussians(log_scales, opacities):
    n = len(log_scales)
    return GaussianModel(
        means=torch.arange(3.0 * n).reshape(n, 3),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(n, 1),
        log_scales=torch.tensor(log_scales)[:, None].repeat(1, 3),
        logit_opacities=torch.logit(torch.tensor(opacities)),
        sh=torch.rand(n, 4, 3),
        background=torch.zeros(3),
    )


def densify(optimiser, control, **changes):
    options = {"threshold": 0.1, "target": None, "extent": 1.0, "prune_opacity": 0.005}
    control.densify(optimiser, **{**options, **changes}, generator=torch.Generator().manual_seed(0))


def test_faint_gaussians_apart_from_the_surface_are_strays():
    across = torch.arange(20) / 10
    surface = torch.cartesian_prod(across, across, torch.zeros(1))
    others = torch.tensor([[1.0, 1.0, 0.5], [0.5, 1.0, 0.4], [1.5, 1.0, 0.5]])  # before it
    opacity = torch.tensor([0.9] * 400 + [0.2, 0.2, 0.6])
    opacity[30:380:50] = 0.1  # faint, but where the surface is
    model = GaussianModel(
        torch.cat([surface, others]), torch.tensor([[1.0, 0, 0, 0]]).repeat(403, 1),
        torch.full((403, 3), -3.0), opacity.logit(), torch.zeros(403, 1, 3), torch.ones(3),
    )  # fmt: skip
    kept = without_strays(model)
    assert torch.equal(kept.means, model.means[torch.tensor([*range(400), 402])])
    lone = model.select(torch.arange(398, 403))
    assert without_strays(lone).num_gaussians == 5  # too few to call anything a surface


def test_gaussians_outside_the_hull_are_removed():
    cameras = ring_of_cameras(20)
    images = photos(ball(), cameras)
    shapes = Silhouettes.read(cameras, images, estimate_backdrop(images))
    model = ball()
    model.means[:3] = torch.tensor([[1.2, 0, 0], [0, 0, 1.3], [-1.1, 0.9, 0]])
    optimiser = make_optimiser(model)
    prune(optimiser, 4.0, 0.005, shapes)
    kept = optimiser.model().means
    assert len(kept) < 150 and kept.norm(dim=1).max() < 1
    assert len(kept) > 140  # hardly any of the ball's own


def test_small_gaussians_are_cloned_large_ones_split_and_faint_ones_pruned():
    small, large, calm, faint = math.log(0.005), math.log(0.05), math.log(0.05), math.log(0.05)
    model = gaussians([small, large, calm, faint], [0.5, 0.5, 0.5, 0.001])
    optimiser, control = make_optimiser(model), DensityControl(4, "cpu")
    # 0.01 px at 200 px is 1 in normalised coordinates, whose unit is half the image
    gradient = torch.tensor([[0.01, 0.0], [0.0, 0.01], [0.0005, 0.0], [0.0, 0.0]])
    control.observe(gradient, torch.tensor([3, 3, 3, 0]), (200, 200))
    assert control.gradient.tolist() == pytest.approx([1, 1, 0.05, 0])
    densify(optimiser, control)
    result = optimiser.model().detach()
    assert result.num_gaussians == 5
    twice = (result.means == model.means[0]).all(1)
    assert int(twice.sum()) == 2  # the clone
    halves = result.log_scales[:, 0] == torch.tensor(large) - math.log(1.6)
    assert int(halves.sum()) == 2
    offsets = result.means[halves] - model.means[1]
    assert offsets.norm(dim=1).min() > 0 and offsets.abs().max() < 5 * 0.05
    assert torch.equal(result.sh[halves], model.sh[[1, 1]])
    assert (result.opacities > 0.4).all()
    assert control.gradient.shape == (5,) and control.count.sum() == 0


def test_budget_goes_to_the_largest_gradients():
    model = gaussians([math.log(0.005)] * 6, [0.5] * 6)
    optimiser, control = make_optimiser(model), DensityControl(6, "cpu")
    gradient = torch.tensor([3.0, 1.0, 5.0, 2.0, 4.0, 0.0])[:, None].repeat(1, 2)
    control.observe(gradient, torch.ones(6), (2, 2))
    densify(optimiser, control, target=8)
    added = optimiser.model().means[6:]
    assert sorted(added[:, 0].tolist()) == [6.0, 12.0]  # the third and the fifth
    control.observe(torch.ones(8, 2), torch.ones(8), (2, 2))
    densify(optimiser, control, target=4)
    assert optimiser.num_gaussians == 8


def test_moments_follow_their_gaussians_and_start_at_zero_for_new_ones():
    model = gaussians([math.log(0.005)] * 3, [0.5, 0.001, 0.5])
    optimiser, control = make_optimiser(model), DensityControl(3, "cpu")
    (optimiser.inputs["means"] * torch.tensor([[1.0], [2], [3]])).sum().backward()
    optimiser.step()
    moment = optimiser.moments["means"][0].clone()
    control.observe(torch.tensor([[9.0, 9], [0, 0], [0, 0]]), torch.ones(3), (2, 2))
    densify(optimiser, control)
    kept = optimiser.moments["means"][0]
    assert torch.equal(kept, torch.stack([moment[0], moment[2], torch.zeros(3)]))
    optimiser.inputs["means"].sum().backward()
    optimiser.step()  # the state fits the new rows


def test_the_final_model_is_the_mean_of_those_visited():
    optimiser = make_optimiser(gaussians([0.0] * 2, [0.5] * 2))
    visited = []
    for _ in range(4):
        optimiser.inputs["means"].square().sum().backward()
        optimiser.step()
        optimiser.average()
        visited.append(optimiser.leaves["means"].clone())
    optimiser.take_average()
    torch.testing.assert_close(optimiser.leaves["means"], torch.stack(visited).mean(0))
    # rows that come or go begin it anew
    optimiser.average()
    optimiser.replace_rows(torch.tensor([True, False]))
    last = optimiser.leaves["means"].clone()
    optimiser.take_average()
    assert torch.equal(optimiser.leaves["means"], last)


def test_pruning_leaves_at_least_one_and_removes_the_huge():
    optimiser = make_optimiser(gaussians([math.log(0.5), math.log(0.01)], [0.9, 0.9]))
    prune(optimiser, extent=1.0, prune_opacity=0.005)
    assert optimiser.model().scales.max().item() == pytest.approx(0.01)
    optimiser = make_optimiser(gaussians([math.log(0.01)] * 2, [0.001, 0.002]))
    prune(optimiser, extent=1.0, prune_opacity=0.005)
    assert optimiser.model().opacities.tolist() == pytest.approx([0.002])


def test_opacity_reset_caps_and_forgets():
    optimiser = make_optimiser(gaussians([0.0] * 2, [0.9, 0.004]))
    optimiser.inputs["opacities"].sum().backward()
    optimiser.step()
    before = optimiser.model().opacities[1].item()
    reset_opacity(optimiser)
    assert optimiser.model().opacities.tolist() == pytest.approx([0.01, before])
    assert optimiser.moments["logit_opacities"][0].abs().sum() == 0


def test_rotation_matrices_turn_as_by_hand():
    quarter = torch.tensor([[2.0, 0.0, 0.0, 2.0]])  # about z, unnormalised
    wanted = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(rotation_matrices(quarter)[0], wanted, atol=1e-6, rtol=0)
