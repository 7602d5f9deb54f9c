"""The vote of windows on the weakest direction of a pose."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.se3 import pose_error
from piad.host_se3 import pivoted_basis, se3_exp
from piad.models import ModelPair
from piad.target import Target, find_silhouette
from piad.votes import (
    CONTRAST_FLOOR,
    COUNTED,
    REACH,
    ROBUST,
    elected,
    settled,
    trusted,
    weakest,
    window_votes,
)

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SIDE = 192
DISTANCE = 4.0
CENTRE_TURN = np.array([0.0, 0, 0, 0, 1, 0])  # about the image's vertical, through the object


def test_the_weakest_step_is_the_one_that_costs_least():
    pose = np.eye(4)[None].copy()
    pose[0, 2, 3] = DISTANCE
    basis = pivoted_basis(pose[:, :3, 3], 6)
    inverse = np.linalg.inv(basis)
    costs = np.diag([5.0, 6, 7, 3, 1, 4])
    hessian = inverse.transpose(0, 2, 1) @ costs @ inverse
    step, curvature = weakest(pose, hessian, np.zeros(3))
    assert np.allclose(np.abs(step), np.abs(basis @ CENTRE_TURN), atol=1e-9)
    assert np.allclose(curvature, 1)


def test_votes_equal_newton_steps_of_normalised_windows():
    g = torch.Generator().manual_seed(0)
    m, q, slope = torch.rand(3, 1, 1, 6, 6, generator=g, dtype=torch.float64)  # one window

    def normalised(x):
        x = x - x.mean()
        return x / (x.square().mean() + CONTRAST_FLOOR**2).sqrt()

    shown, column = torch.func.jvp(normalised, (m,), (slope,))
    residual = shown - normalised(q)
    votes, counts = window_votes(m, q, slope, torch.ones(1, 1, 1).double())
    assert votes.shape == counts.shape == (1, 1)
    expected = -(column * residual).sum() / column.square().sum()
    assert votes.item() == pytest.approx(expected.item())
    damp = 1 / (1 + residual.square().mean() / ROBUST**2) ** 2
    assert counts.item() == pytest.approx((damp * column.square().mean()).item())


def test_votes_far_off_are_left_out_however_many_they_are():
    few, many = torch.full((1, 5), 0.001), torch.full((1, 200), 12 * REACH)
    votes = torch.cat([few, many], 1)
    counts = torch.cat([torch.ones(1, 5), torch.full((1, 200), 0.05)], 1)
    assert (votes * counts).sum() / counts.sum() > 6 * REACH  # what least squares would do
    assert elected(votes, counts)[0].item() == pytest.approx(0.001, abs=0.2 * REACH)
    nobody = elected(votes, torch.zeros_like(counts))
    assert trusted(*nobody, torch.ones(1)).item() == 0


def ribbed_column(device: str) -> ModelPair:
    """A column of grey rings, which turns into itself, and one mark in another colour."""
    rings = torch.arange(14) * 0.14 - 0.9
    angles = torch.arange(48) * (2 * math.pi / 48)
    heights, turns = torch.meshgrid(rings, angles, indexing="ij")
    means = torch.stack([0.6 * turns.cos(), heights, 0.6 * turns.sin()], -1).reshape(-1, 3)
    count = len(means)
    grey = torch.where((torch.arange(14) % 2 == 0)[:, None], 0.9, -0.9).expand(14, 48).reshape(-1)
    colour = grey[:, None].repeat(1, 3)
    marked = (heights.abs() < 0.3) & ((turns - 1.5 * math.pi).abs() < 0.35)  # faces the camera
    colour[marked.reshape(-1)] = torch.tensor([-1.2, 0.0, 1.6])
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1
    models = [
        GaussianModel(
            means=means,
            quats=quats,
            log_scales=torch.full((count, 3), math.log(0.05)),
            logit_opacities=torch.full((count,), 4.0),
            sh=colour[:, None].clone(),
            background=torch.full((3,), back),
        ).to(device)
        for back in (1.0, 0.9)
    ]
    return ModelPair(*models)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("device", DEVICES)
def test_a_mark_settles_the_turn_that_shadows_pull(device, plain):
    models = ribbed_column(device)
    true = np.eye(4)[None].copy()
    true[0, 2, 3] = DISTANCE
    intrinsics = Intrinsics.from_fov_x(0.7, SIDE, SIDE)
    truth = torch.from_numpy(true).float().to(device)
    view = models.render(truth, intrinsics).over(models.background)[0]
    shape = find_silhouette(view, models.background)
    shade = torch.linspace(0.6, 1.0, SIDE, device=device)  # a lamp from the side
    image = view * shade if plain is False else torch.where(shape > 0.5, view * shade, view)
    backdrop, shape = (models.background, shape) if plain else (None, None)
    target = Target.stacked([Target(image, backdrop, intrinsics, shape)] * 2)
    basis = pivoted_basis(true[:, :3, 3], 6)
    turn = (basis @ CENTRE_TURN)[0]
    off = np.stack([se3_exp((math.radians(d) * turn)[None])[0] @ true[0] for d in (0.9, -0.8)])
    inverse = np.linalg.inv(basis[0])
    hessian = inverse.T @ np.diag([1e4, 1e4, 1e4, 1e4, 1, 1e4]) @ inverse
    hessians = torch.from_numpy(np.stack([hessian] * 2))
    costs = torch.ones(2, dtype=torch.float64)
    found, seen = settled(target, torch.from_numpy(off), hessians, costs, models, 0.6)
    for pose, before in zip(found, (0.9, 0.8), strict=True):
        after = pose_error(pose, torch.from_numpy(true[0]))[0]
        assert after < (0.85 if plain else 0.3) * before  # an outline that no turn moves holds it
    begun = models.render(torch.from_numpy(off).to(truth), intrinsics).over(models.background)
    torch.testing.assert_close(seen.shown, begun[seen.box])
    last = torch.from_numpy(off[1:]), hessians[1:], costs[1:]
    alone, _ = settled(target.take([1]), *last, models, 0.6)
    assert torch.allclose(alone[0], found[1], atol=1e-5)


def test_an_image_smaller_than_a_window_keeps_its_pose():
    models = ribbed_column("cpu")
    pose = torch.eye(4, dtype=torch.float64)[None]
    image = F.interpolate(torch.rand(1, 6, 11, 11), (11, 11))
    target = Target(image, None, Intrinsics.from_fov_x(0.7, 11, 11), None)
    hessian = torch.eye(6, dtype=torch.float64)[None]
    cost = torch.ones(1, dtype=torch.float64)
    assert torch.equal(settled(target, pose, hessian, cost, models, 0.6)[0], pose)


def test_a_step_is_the_longer_the_more_its_votes_agree_and_the_less_is_known():
    votes, counts = torch.tensor([[0.9, 1.0, 1.1], [-0.9, 1.0, 1.1]]) * 1e-4, torch.ones(2, 3)
    step, variance = elected(votes, counts)
    torch.testing.assert_close(step, torch.tensor([1.0, 0.4]) * 1e-4)
    spread = torch.tensor([0.1**2 + 0.1**2, 1.3**2 + 0.6**2 + 0.7**2])
    torch.testing.assert_close(variance, spread / 9 * 1e-8, rtol=1e-2, atol=0)
    as_much = COUNTED * variance
    torch.testing.assert_close(trusted(step, variance, as_much), step / 2)
    torch.testing.assert_close(trusted(step, variance, 3 * as_much), 0.75 * step)
    assert (trusted(step, variance, torch.zeros(2)) == 0).all()  # the steps before know it
    assert trusted(torch.zeros(1), torch.zeros(1), torch.zeros(1)).item() == 0
