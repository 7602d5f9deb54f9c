"""Relighting takes a lamp out of the difference and leaves the defect in it."""

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from gaussian_renderer.area import area_average
from piad.relight import (
    _blur,
    masked_median,
    plain_backdrop,
    relight,
    robust_weights,
    shrink,
)
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
    plane = (0.4 + 0.2 * torch.linspace(0, 1, 60)).expand(1, 3, 50, 60)
    image = plane.clone()
    image[..., 5:12, 5:12] = 0.0
    found = plain_backdrop(image, torch.ones(1, 1, 50, 60, dtype=torch.bool))
    assert (found - plane).abs().max() < 0.01


def test_a_strip_of_backdrop_tells_the_same_plane_however_bright_it_is():
    generator = torch.Generator().manual_seed(0)
    dark = 0.02 * torch.rand(1, 3, 50, 60, generator=generator)
    empty = torch.zeros(1, 1, 50, 60, dtype=torch.bool)
    empty[..., :3] = True
    found = plain_backdrop(0.8 + dark, empty) - plain_backdrop(dark, empty)
    assert (found - 0.8).abs().max() < 2e-6


def test_robust_weights_fall_with_the_residual():
    residual = torch.tensor([0.0, 0.01, 0.01, 0.02, 1.0]).reshape(1, 1, 1, 5)
    weights = robust_weights(residual, torch.ones(1, 1, 1, 5, dtype=torch.bool)).flatten()
    assert weights[0] == 1 and weights[1] > 0.7 and weights[-1] < 1e-3


def test_medians_are_numpys_of_each_image_alone():
    values = torch.rand(3, 2, 7, 6, generator=torch.Generator().manual_seed(0))
    inside = values[:, :1] > 0.3
    inside[2] = False
    found = masked_median(values, inside)
    for k in range(2):
        for channel in range(2):
            expected = np.median(values[k, channel][inside[k, 0]].numpy())
            assert found[k, channel, 0, 0].item() == pytest.approx(expected)
    assert (found[2] == 0).all()  # nothing is inside


@pytest.mark.parametrize("size", [(40, 30), (13, 29), (7, 5)])
def test_shrinking_is_opencvs_mean_over_areas(size):
    image = torch.rand(1, 2, 40, 30, generator=torch.Generator().manual_seed(0))
    pixels = image[0].permute(1, 2, 0).numpy()
    expected = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    found = shrink(image, size)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("size", [(20, 31), (10, 8), (5, 3)])
def test_averaging_is_torchs_mean_over_areas(size):
    image = torch.rand(2, 3, 40, 32, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.adaptive_avg_pool2d(image, size)
    torch.testing.assert_close(area_average(image, size), expected)


@pytest.mark.parametrize("sigma", [2.5, 9.0])
def test_blurring_is_scipys_gaussian_with_nothing_outside(sigma):
    image = torch.rand(1, 1, 20, 31, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(
        image[0, 0].double().numpy(), sigma, mode="constant", truncate=10.0
    )
    np.testing.assert_allclose(_blur(image, sigma)[0, 0].numpy(), expected, atol=1e-6)


def test_a_batch_is_relit_as_its_images_alone():
    scenes = [
        scene((0.6, 0.7, 0.8), (0.1, 0.0, 0.0), (0.9, 0.8, 0.7), 0),
        scene((1.5, 1.2, 1.0), (0.0, 0.1, 0.0), (0.2, 0.3, 0.4), 1),
        (*scene((1.0,) * 3, (0.0,) * 3, (0.5,) * 3, 2)[:2], torch.ones(1, SIDE, SIDE)),
        (*scene((1.0,) * 3, (0.0,) * 3, (0.5,) * 3, 3)[:2], torch.zeros(1, SIDE, SIDE)),
    ]
    together = relight(*(torch.stack(images) for images in zip(*scenes, strict=True)), 0.15)
    for found, images in zip(together, scenes, strict=True):
        torch.testing.assert_close(found, relight(*images, 0.15), rtol=0, atol=2e-6)


def test_results_are_images_on_the_inputs_device():
    rendering, query, alpha = scene((3.0,) * 3, (0.5,) * 3, (1.0,) * 3)
    result = relight(rendering, query, alpha, 0.15)
    assert result.dtype == torch.float32 and result.device == rendering.device
    assert result.shape == rendering.shape and 0 <= result.min() and result.max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_relights_as_the_cpu_does():
    scenes = [scene((0.6, 0.7, 0.8), (0.1, 0.0, 0.0), (0.9, 0.8, 0.7), seed) for seed in range(3)]
    images = [torch.stack(parts) for parts in zip(*scenes, strict=True)]
    found = relight(*(part.cuda() for part in images), 0.15).cpu()
    torch.testing.assert_close(found, relight(*images, 0.15), rtol=0, atol=1e-4)
