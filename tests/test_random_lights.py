"""Random lights: softboxes as mirrors show them."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from piad.random_lights import THROUGH_BARS, Softbox, gallery_light, mirrored, query_light
from piad.reflectance_solids import Lamp

UP = F.normalize(torch.tensor([0.2, -0.1, 1.0]), dim=0)
SHARP = torch.full((1,), 1e-3)


def box(length=1.0, panes=False, roll=0.0, width=0.2):
    return Softbox(UP, width, torch.ones(3), length, roll, panes)


def off(across, along):
    """Directions [N, 3] so many rad from UP, to both sides."""
    helper = torch.eye(3)[UP.abs().argmin()]
    right = F.normalize(torch.linalg.cross(UP, helper), dim=0)
    up = torch.linalg.cross(UP, right)
    across, along = (torch.as_tensor(x, dtype=torch.float32)[:, None] for x in (across, along))
    return F.normalize(UP + across.tan() * right + along.tan() * up, dim=1)


def test_a_softbox_is_a_rectangle_of_its_lamp_s_area():
    square, long = box(), box(length=4.0)
    corners = off([0.19, 0.19, 0.21, 0.0], [0.19, -0.19, 0.0, 0.0])
    assert square.inside(corners, SHARP)[:, 0].tolist() == pytest.approx([1, 1, 0, 1], abs=1e-3)
    ends = off([0.39, 0.41, 0.0, 0.0], [0.0, 0.0, 0.09, 0.11])
    assert long.inside(ends, SHARP)[:, 0].tolist() == pytest.approx([1, 0, 1, 0], abs=1e-3)
    turned = box(length=4.0, roll=math.pi / 2)
    assert turned.inside(ends, SHARP)[:, 0].tolist() == pytest.approx([0, 0, 1, 1], abs=1e-3)
    behind = -UP[None]
    assert square.inside(behind, SHARP).item() == pytest.approx(0, abs=1e-3)


def test_panes_are_parted_by_dark_bars():
    window = box(panes=True)
    seen = window.inside(off([0.0, 0.1, 0.1, 0.1], [0.0, 0.0, 0.1, -0.1]), SHARP)[:, 0].tolist()
    assert seen == pytest.approx([THROUGH_BARS, THROUGH_BARS, 1, 1], abs=1e-3)


def test_rough_surfaces_blur_what_they_mirror():
    inside, outside = off([0.0], [0.0]), off([0.25], [0.0])
    reflected = torch.cat([inside, outside])

    def seen(lamp, roughness):
        view = SimpleNamespace(
            reflected=reflected,
            roughness=torch.full((2, 1), roughness),
            metal=torch.zeros(2, 1),
        )
        return mirrored(lamp, view)[:, 0]

    disc = Lamp(UP, 0.2, torch.ones(3))
    for lamp in (disc, box()):
        smooth, rough = seen(lamp, 0.03), seen(lamp, 0.6)
        assert smooth[0] > 2 * rough[0] and smooth[1] < 0.2 * smooth[0]
        assert rough[1] > 0.4 * rough[0]


def test_lights_are_their_seeds_and_of_both_kinds():
    generator = torch.Generator().manual_seed(0)
    lights = [query_light(False, generator) for _ in range(40)]
    lamps = [lamp for light in lights for lamp in light.lamps]
    softboxes = [lamp for lamp in lamps if isinstance(lamp, Softbox)]
    assert 0.4 < len(softboxes) / len(lamps) < 0.8
    assert any(lamp.panes for lamp in softboxes) and not all(lamp.panes for lamp in softboxes)
    again = query_light(False, torch.Generator().manual_seed(0))
    assert [lamp.width for lamp in again.lamps] == [lamp.width for lamp in lights[0].lamps]
    for _ in range(10):
        light = gallery_light(generator)
        assert min(lamp.width for lamp in light.lamps) >= 0.4
        assert all(lamp.direction[2] > 0 for lamp in light.lamps)
