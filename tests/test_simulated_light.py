"""Lamps that were made up: they follow the object's shape, and the seed alone."""

import pytest
import torch

from piad.models import ModelPair
from piad.simulated_light import SHININESS, _arriving, _lamp, under_another_lamp, visible_surface
from tests.gaussian_scene import ball, photos, ring_of_cameras
from tests.retrieval_scene import patchwork


@pytest.fixture(scope="module")
def world():
    models, camera = ModelPair(ball(600), ball(600)), ring_of_cameras(5)[2]
    return models, camera, photos(ball(600), [camera])[0]


def relit(world, seed):
    models, camera, photo = world
    return under_another_lamp(photo, models, camera, torch.Generator().manual_seed(seed))


def test_a_seed_is_one_light_and_another_seed_another(world):
    assert torch.equal(relit(world, 3), relit(world, 3))
    assert (relit(world, 3) - relit(world, 4)).abs().mean() > 0.01
    assert relit(world, 3).shape == world[2].shape
    assert 0 <= relit(world, 3).min() and relit(world, 3).max() <= 1


def test_the_normals_of_a_ball_point_away_from_its_middle(world):
    # By hand: 20 px off the middle, the ray of slope 20 / 197 meets a ball of radius 0.8 that is 4
    # away at 0.34 off its axis, where the normal leans by 0.34 / 0.8.
    fine = patchwork(6000, channels=3, radii=(0.8, 0.8, 0.8))
    camera = ring_of_cameras(5, size=144)[2]
    normals = visible_surface(ModelPair(fine, fine), camera).normals
    middle, off, lean, towards = 72, 20, 0.42, -0.91  # z points away from the camera
    for (y, x), wanted in {
        (middle, middle): (0.0, 0.0, -1.0),
        (middle - off, middle): (0.0, -lean, towards),
        (middle, middle + off): (lean, 0.0, towards),
    }.items():
        found = normals[:, y - 3 : y + 4, x - 3 : x + 4].mean((1, 2))  # the ball is bumpy
        torch.testing.assert_close(found, torch.tensor(wanted), atol=0.1, rtol=0)


def test_lamps_shade_the_object_by_its_sides(world):
    # What a gain per channel cannot undo: the ratio of the images differs across the object.
    models, camera, photo = world
    inside = visible_surface(models, camera).alpha[0] > 0.95
    spreads = []
    for seed in range(6):
        ratio = (relit(world, seed) + 0.02) / (photo + 0.02)
        spreads.append((ratio[:, inside].std(1) / ratio[:, inside].mean(1)).mean())
    assert torch.stack(spreads).median() > 0.1


def test_the_side_away_from_a_lamp_is_in_shadow():
    fine = patchwork(6000, channels=3, radii=(0.8, 0.8, 0.8))
    models, camera = ModelPair(fine, fine), ring_of_cameras(5, size=144)[2]
    surface, lamp = visible_surface(models, camera), torch.tensor([0.8, 0.0, -0.6])
    arriving = _arriving(surface, models, camera, lamp, blur=0.005)[0]
    inside = surface.alpha[0] > 0.9
    towards = (surface.normals * lamp[:, None, None]).sum(0)
    assert arriving[inside & (towards > 0.8)].mean() > 0.9
    assert arriving[inside & (towards < -0.1)].mean() < 0.1
    behind = _arriving(surface, models, camera, torch.tensor([0.0, 0.0, -1.0]), blur=0.005)[0]
    assert behind[inside].mean() > 0.98  # nothing between the object and a lamp at the camera


def test_wide_highlights_are_dim(world, monkeypatch):
    surface, peaks = visible_surface(*world[:2]), []
    for shininess in SHININESS:
        monkeypatch.setattr("piad.simulated_light.SHININESS", (shininess, shininess))
        lamp = torch.tensor([0.0, 0.0, -1.0])  # where the camera is: its mirror image is seen
        peaks.append(float(_lamp(surface, lamp, torch.Generator().manual_seed(0))[1].max()))
    assert peaks[0] < 0.4 * peaks[1]
