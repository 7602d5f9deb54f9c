"""The share of view dependence that photographs are compared with."""

import pytest
import torch
from pose_rasterizer.reference import colours_from_sh

from gaussian_renderer.gaussians import with_sh_degree
from gaussian_renderer.view_dependence import LEAST_FACING
from piad.models import ModelPair
from piad.view_dependence import evened
from tests.gaussian_scene import ball, ring_of_cameras

CAMERAS = ring_of_cameras(7)


def pair(degree=2):
    generator = torch.Generator().manual_seed(0)
    models = []
    for seed in (0, 1):
        flat = ball(seed=seed)
        sh = with_sh_degree(flat.sh, degree)
        sh = sh + 0.05 * torch.randn(sh.shape, generator=generator)
        models.append(flat.with_sh(sh, flat.background))
    return ModelPair(*models)


def seen(model, camera):
    """Colours of a camera, brightened: far from the clamp at 0."""
    sh = model.sh.clone()
    sh[:, 0] += 2
    return colours_from_sh(model.means, sh, camera.viewmat("cpu"), model.sh_degree)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_colours_differ_from_their_mean_by_the_share(share):
    models = pair()
    found = evened(models, CAMERAS, share)
    for before, after in ((models.colour, found.colour), (models.reflectance, found.reflectance)):
        colours = torch.stack([seen(before, camera) for camera in CAMERAS])
        outward = torch.nn.functional.normalize(before.means - models.centre, dim=1)
        positions = torch.stack([camera.position.float() for camera in CAMERAS])
        towards = torch.nn.functional.normalize(positions[:, None] - before.means, dim=2)
        weight = (towards * outward).sum(2, keepdim=True).clamp_min(0) + LEAST_FACING
        mean = (weight * colours).sum(0) / weight.sum(0)
        expected = mean + share * (colours - mean)
        assert (colours > 0).all() and colours.std(0).mean() > 0.02
        for camera, own in zip(CAMERAS, expected, strict=True):
            torch.testing.assert_close(seen(after, camera), own, atol=1e-5, rtol=0)


def test_geometry_and_backgrounds_stay():
    models = pair()
    found = evened(models, CAMERAS, 0.5)
    for before, after in ((models.colour, found.colour), (models.reflectance, found.reflectance)):
        for name in ("means", "quats", "log_scales", "logit_opacities", "background"):
            assert torch.equal(getattr(before, name), getattr(after, name))


def test_the_whole_share_leaves_colours_as_they_are():
    models = pair()
    found = evened(models, CAMERAS, 1.0)
    assert torch.equal(found.colour.sh, models.colour.sh)
    assert torch.equal(found.reflectance.sh, models.reflectance.sh)


def test_colours_without_view_dependence_stay():
    models = pair(degree=0)
    found = evened(models, CAMERAS, 0.0)
    torch.testing.assert_close(found.colour.sh, models.colour.sh)
    assert found.gloss.max() < 1e-3


def test_gloss_is_how_far_colours_go_from_their_mean():
    models = pair()
    model, found = models.colour, evened(models, CAMERAS, 0.3)
    colours = torch.stack([seen(model, camera) for camera in CAMERAS])
    outward = torch.nn.functional.normalize(model.means - models.centre, dim=1)
    positions = torch.stack([camera.position.float() for camera in CAMERAS])
    towards = torch.nn.functional.normalize(positions[:, None] - model.means, dim=2)
    weight = (towards * outward).sum(2, keepdim=True).clamp_min(0) + LEAST_FACING
    weight = weight / weight.sum(0)
    away = colours - (weight * colours).sum(0)
    expected = (weight * away.square()).sum(0).mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(found.gloss, expected, atol=1e-4, rtol=1e-3)


def test_a_joint_pair_stays_one():
    colour = pair().colour
    models = ModelPair(colour, colour.with_sh(colour.sh * 0.5, colour.background))
    assert models.joined is not None
    found = evened(models, CAMERAS, 0.5)
    torch.testing.assert_close(found.joined.sh[..., :3], found.colour.sh)
