"""The steps' motions on the host and those of the search, against gaussian_renderer.se3."""

import math

import numpy as np
import pytest
import torch

from gaussian_renderer import se3
from piad import host_se3
from piad.warp_search import motions


def test_motions_on_the_host_are_those_of_se3():
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([1e-9, 1e-4, 0.0099, 0.0101, 0.3, 2.0], dtype=torch.float64)
    twist = torch.randn(6, 6, generator=generator, dtype=torch.float64) * size[:, None]
    np.testing.assert_allclose(host_se3.se3_exp(twist.numpy()), se3.se3_exp(twist), atol=1e-14)
    assert np.array_equal(host_se3.se3_exp(np.zeros((1, 6)))[0], np.eye(4))


@pytest.mark.parametrize("size", [6, 18])
def test_the_basis_on_the_host_is_that_of_se3(size):
    pivot = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    basis = host_se3.pivoted_basis(pivot.numpy(), size)
    np.testing.assert_allclose(basis[:, :6, :6], se3.pivoted_basis(pivot, pivot.norm(dim=1)))
    assert np.array_equal(basis[:, 6:, 6:], np.eye(size)[6:, 6:][None].repeat(4, 0))


def test_a_searchs_motion_turns_about_the_pivot_and_shifts_in_its_distance():
    pivot = torch.tensor([0.3, -0.2, 4.0], dtype=torch.float64)
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), dim=0)
    step = torch.cat([torch.tensor([0.01, 0, -0.02], dtype=torch.float64), 0.2 * axis])
    motion = motions(step, pivot)
    rotation = motion[:3, :3]
    assert torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(se3.so3_log(rotation), 2 * math.atan(0.1) * axis, atol=1e-12)
    moved = rotation @ pivot + motion[:3, 3]
    assert torch.allclose(moved, pivot + pivot.norm() * step[:3], atol=1e-12)
