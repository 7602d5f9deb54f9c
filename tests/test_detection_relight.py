"""Relighting takes a lamp out of the difference and leaves the defect in it."""

import numpy as np
import pytest
import torch

from piad.relight import plain_backdrop, relight, robust_weights
from tests.detection_scene import SIDE, object_image

LAMPS = [
    ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)),
    ((0.5, 0.6, 0.8), (0.0, 0.0, 0.0)),
    ((0.8, 0.7, 0.5), (0.1, 0.12, 0.15)),
]


def scene(gain, offset, backdrop, seed=0):
    """Flawless rendering over grey, the same object under a lamp over a backdrop, its alpha."""
    colours, alpha = object_image(seed)
    rendering = colours * alpha + 0.5 * (1 - alpha)
    lit = colours * torch.tensor(gain)[:, None, None] + torch.tensor(offset)[:, None, None]
    query = lit * alpha + torch.tensor(backdrop)[:, None, None] * (1 - alpha)
    return rendering, query.clamp(0, 1), alpha


@pytest.mark.parametrize("gain, offset", LAMPS)
def test_an_affine_lamp_and_a_new_backdrop_are_taken_out(gain, offset):
    rendering, query, alpha = scene(gain, offset, (0.9, 0.8, 0.7))
    result = relight(rendering, query, alpha, 0.3)
    # The ridge bends gains by a few percent where a window has little variation.
    assert (result - query).abs().mean() < 0.01
    assert (result - query).abs().max() < 0.06


def test_a_lamp_that_fades_across_the_image_is_followed():
    colours, alpha = object_image()
    fade = torch.linspace(0.4, 1.0, SIDE)[None, None]
    rendering, query = colours * alpha, colours * alpha * fade
    errors = [(relight(rendering, query, alpha, w) - query).abs().mean() for w in (0.15, 10.0)]
    assert errors[0] < 0.35 * errors[1]


def test_a_defect_neither_bends_the_light_nor_vanishes():
    rendering, query, alpha = scene((0.6, 0.6, 0.6), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5))
    flawless = query.clone()
    query[:, 20:26, 20:26] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    result = relight(rendering, query, alpha, 0.15)
    assert (result - flawless).abs().mean() < 0.01
    assert (result - query)[:, 21:25, 21:25].norm(dim=0).min() > 0.3


def test_something_sticking_out_of_the_object_stays_different():
    rendering, query, alpha = scene((1.0,) * 3, (0.0,) * 3, (0.7, 0.7, 0.7))
    query[:, 2:6, 2:6] = 0.1
    result = relight(rendering, query, alpha, 0.15)
    assert (result - query)[:, 2:6, 2:6].abs().min() > 0.5


def test_an_image_covered_everywhere_has_no_backdrop():
    colours, _ = object_image()
    lit = 0.7 * colours + 0.1
    result = relight(colours, lit, torch.ones(1, SIDE, SIDE), 0.3)
    assert (result - lit).abs().max() < 0.05


def test_an_empty_rendering_becomes_the_backdrop():
    backdrop = torch.tensor([0.7, 0.6, 0.5])[:, None, None].expand(3, SIDE, SIDE)
    result = relight(torch.full_like(backdrop, 0.2), backdrop, torch.zeros(1, SIDE, SIDE), 0.15)
    torch.testing.assert_close(result, backdrop.contiguous(), atol=2e-3, rtol=0)


def test_a_tilted_backdrop_is_a_plane_fitted_past_outliers():
    x = np.linspace(0, 1, 60, dtype=np.float32)
    plane = np.repeat((0.4 + 0.2 * x)[None, :, None], 50, axis=0).repeat(3, axis=2)
    image = plane.copy()
    image[5:12, 5:12] = 0.0
    found = plain_backdrop(image, np.ones(plane.shape[:2], dtype=bool))
    assert np.abs(found - plane).max() < 0.01


def test_robust_weights_fall_with_the_residual():
    residual = np.array([0.0, 0.01, 0.01, 0.02, 1.0])
    weights = robust_weights(residual, np.ones(5, dtype=bool))
    assert weights[0] == 1 and weights[1] > 0.7 and weights[-1] < 1e-3


def test_results_are_images_on_the_inputs_device():
    rendering, query, alpha = scene((3.0,) * 3, (0.5,) * 3, (1.0,) * 3)
    result = relight(rendering, query, alpha, 0.15)
    assert result.dtype == torch.float32 and result.device == rendering.device
    assert result.shape == rendering.shape and 0 <= result.min() and result.max() <= 1
