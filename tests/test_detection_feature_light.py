"""The map that carries a rendering's features to the query's light."""

import numpy as np
import pytest
import torch

from piad.feature_light import LEAST_PLACES, carry_features

SIDE, CHANNELS = 30, 6


def features(seed=0, pairs=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(pairs, CHANNELS, SIDE, SIDE, generator=generator)


def turned(flawless, strength=0.3, seed=1):
    """Features under a lamp that mixes the channels and lifts them."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.eye(CHANNELS) + strength * torch.randn(CHANNELS, CHANNELS, generator=generator)
    return torch.einsum("ij,pjhw->pihw", mix, flawless) + 0.2


def test_equal_features_stay_as_they_are():
    flawless = features()
    found = carry_features(flawless, flawless, torch.ones(1, 1, SIDE, SIDE), 1.0)
    torch.testing.assert_close(found, flawless, rtol=0, atol=2e-6)


def test_a_lamp_that_mixes_channels_everywhere_is_taken_out():
    flawless = features()
    photo = turned(flawless)
    found = carry_features(photo, flawless, torch.ones(1, 1, SIDE, SIDE), 1e-3)
    assert (found - photo).norm() < 0.01 * (flawless - photo).norm()
    pulled = carry_features(photo, flawless, torch.ones(1, 1, SIDE, SIDE), 1.0)
    assert (pulled - photo).norm() < 0.3 * (flawless - photo).norm()


def test_a_defect_neither_bends_the_map_nor_vanishes():
    flawless = features()
    photo = turned(flawless)
    spoiled = photo.clone()
    spoiled[..., 10:14, 10:14] += 2.0
    alpha = torch.ones(1, 1, SIDE, SIDE)
    clean, found = (carry_features(p, flawless, alpha, 1.0) for p in (photo, spoiled))
    assert (found - clean).abs().max() < 0.02
    assert (spoiled - found)[..., 10:14, 10:14].min() > 1.5


def test_the_map_is_a_ridge_regression_over_the_object_alone():
    # Second implementation: numpy's least squares of the stacked system, robust weights by hand.
    flawless, alpha = features(), torch.zeros(1, 1, SIDE, SIDE)
    photo = turned(flawless) + 0.05 * features(3)
    alpha[..., 5:25, 4:28] = 1.0
    photo[..., :4, :] = 7.0  # outside: anything
    inside = alpha[0, 0].bool().numpy()
    x, y = (t[0].double().numpy()[:, inside] for t in (flawless, photo))
    weights, carried = np.ones(x.shape[1]), x
    for round_number in range(3):
        if round_number > 0:
            residual = np.linalg.norm(y - carried, axis=0)
            weights = 1 / (1 + (residual / (3 * 1.4826 * np.median(residual))) ** 2) ** 2
        w = weights / weights.sum()
        mean_x, mean_y = x @ w, y @ w
        root = np.sqrt(w)
        a, b = (x - mean_x[:, None]) * root, (y - mean_y[:, None]) * root
        pull = np.sqrt((a * a).sum() / len(a))
        left = np.concatenate([a.T, pull * np.eye(len(a))])
        right = np.concatenate([b.T, pull * np.eye(len(a))])
        matrix = np.linalg.lstsq(left, right, rcond=None)[0].T
        carried = matrix @ (x - mean_x[:, None]) + mean_y[:, None]
    found = carry_features(photo, flawless, alpha, 1.0)[0].numpy()[:, inside]
    np.testing.assert_allclose(found, carried, atol=2e-5)


def test_a_batch_is_carried_as_its_images_alone():
    flawless = features(pairs=3)
    photo = turned(flawless) + 0.1 * features(5, 3)
    alpha = torch.rand(3, 1, 4 * SIDE, 4 * SIDE, generator=torch.Generator().manual_seed(2))
    together = carry_features(photo, flawless, alpha, 0.5)
    for k in range(3):
        alone = carry_features(photo[k : k + 1], flawless[k : k + 1], alpha[k : k + 1], 0.5)
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=5e-6)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_an_object_of_few_cells_keeps_its_features(rows):
    flawless = features()
    photo, alpha = turned(flawless), torch.zeros(1, 1, SIDE, SIDE)
    alpha[..., :rows, :] = 1.0
    found = carry_features(photo, flawless, alpha, 1.0)
    assert found.isfinite().all()
    assert torch.equal(found, flawless) == (rows * SIDE < LEAST_PLACES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_carries_features_as_the_cpu_does():
    flawless = features(pairs=3)
    photo = turned(flawless) + 0.1 * features(5, 3)
    alpha = torch.rand(3, 1, 4 * SIDE, 4 * SIDE, generator=torch.Generator().manual_seed(2))
    found = carry_features(photo.cuda(), flawless.cuda(), alpha.cuda(), 0.5).cpu()
    torch.testing.assert_close(
        found, carry_features(photo, flawless, alpha, 0.5), rtol=0, atol=1e-4
    )
