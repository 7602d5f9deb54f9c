"""Highlights of a gallery are found where they are, and only made-up lamps' there are drawn."""

from types import SimpleNamespace

import pytest
import torch

from piad.detail import world_points
from piad.models import ModelPair, render_one
from piad.shine import shine
from piad.simulated_light import under_another_lamp
from tests.gaussian_scene import ring_of_cameras
from tests.retrieval_scene import patchwork

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
CAMERAS = ring_of_cameras(12, size=96)


def glazed_on_top(device="cpu", lamp=0.9):
    """A ball whose upper half shines so brightly in every third photograph, and its gallery."""
    model = patchwork(4000, channels=3, radii=(0.8, 0.8, 0.8)).to(device)
    models, views = ModelPair(model, model), []
    for number, camera in enumerate(CAMERAS):
        pose = camera.viewmat(torch.device(device))
        seen = models.render(pose, camera.intrinsics)
        image = seen.over(models.background)[:3].detach()
        height = world_points(seen.depth[0].detach(), pose, camera.intrinsics)[2]
        lit = (height > 0) & (seen.alpha[0] > 0.9) & (number % 3 == 0)
        photo = torch.where(lit, image.clamp_min(lamp), image).clamp(0, 1).cpu()
        views.append(SimpleNamespace(camera=camera, image=lambda photo=photo: photo))
    return models, views


@pytest.mark.parametrize("device", DEVICES)
def test_what_has_shone_may_shine(device):
    models, views = glazed_on_top(device)
    found, height = shine(models, views)[:, 0], models.colour.means[:, 2]
    assert found.min() >= 0 and found.max() <= 1
    assert found[(height > 0.1) & (height < 0.5)].median() > 0.5
    assert found[height < -0.15].quantile(0.95) < 0.1
    camera = ring_of_cameras(5, size=96)[3]
    seen = render_one(models, camera, found[:, None]).image
    assert seen.shape == (1, 96, 96) and seen.min() >= 0
    assert seen[:, 0].max() == 0  # the backdrop's


def test_a_gallery_without_highlights_has_no_shine():
    models, views = glazed_on_top(lamp=0.0)
    assert shine(models, views).max() < 0.05


def test_highlights_are_drawn_where_something_shines():
    models, views = glazed_on_top()
    camera, photo = views[4].camera, views[4].image()
    count = len(models.colour.means)

    def lit(share):
        generator = torch.Generator().manual_seed(4)
        return under_another_lamp(photo, models, camera, generator, share)

    everywhere, nowhere = (torch.full((count, 1), value) for value in (1.0, 0.0))
    torch.testing.assert_close(lit(everywhere), lit(None), atol=0.02, rtol=0)
    assert (lit(None) - lit(nowhere)).amax() > 0.05
