"""Feature distances, their combination and the image score."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from gaussian_renderer.errors import UserError
from piad.anomaly import (
    ORIGINAL,
    Compared,
    DetectConfig,
    compare_images,
    energy,
    layer_distances,
    least_over_shifts,
    squared_distance,
    unit_features,
)
from piad.anomaly_map import (
    NormalMaps,
    anomaly_map,
    counted,
    image_scores,
    join_branches,
)
from piad.hue import hue_change
from piad.smoothing import gaussian_smooth
from tests.detection_scene import SIDE, SeededNet, object_image

LAYERS = "0,1"


def images_with_defect():
    """Query with a bright square at rows and columns 20..26, and its flawless rendering."""
    colours, alpha = object_image()
    flawless = colours * alpha + 0.5 * (1 - alpha)
    query = flawless.clone()
    query[:, 20:26, 20:26] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    return query, flawless, alpha


def original(**changes):
    return DetectConfig(**(ORIGINAL | {"detect_layers": LAYERS} | changes))


def scored(query, flawless, query_r, flawless_r, alpha, net, cfg):
    """Anomaly map [H, W] of one query, without normality."""
    images = (image[None] for image in (query, flawless, query_r, flawless_r, alpha))
    return anomaly_map(compare_images(*images, net, cfg), cfg)[0]


def score_of(scores, cfg):
    """The image score of a map [H, W]."""
    return float(image_scores(scores[None], cfg)[0])


def test_original_map_is_the_papers_equation():
    # Second implementation: numpy, scipy, one image at a time.
    query, flawless, alpha = images_with_defect()
    reflectance, flawless_reflectance = query.flip(0), flawless.flip(0)
    net = SeededNet()
    found = scored(
        query, flawless, reflectance, flawless_reflectance, alpha, net, original()
    ).numpy()
    expected = np.zeros((SIDE, SIDE))
    four = [query, flawless, reflectance, flawless_reflectance]
    for maps in zip(*(net.features(image[None]) for image in four), strict=True):
        a, b, c, d = (layer[0].double().numpy() for layer in maps)
        product = ((a - b) ** 2).sum(0) * ((c - d) ** 2).sum(0)
        expected += torch.nn.functional.interpolate(
            torch.from_numpy(product)[None, None], (SIDE, SIDE), mode="bilinear"
        )[0, 0].numpy()
    expected = ndimage.gaussian_filter(expected, 4.0, mode="mirror", truncate=4.0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * expected.max())
    assert score_of(torch.from_numpy(found), original()) == found.max()


@pytest.mark.parametrize("settings", [{}, ORIGINAL], ids=["ours", "original"])
def test_a_defect_scores_highest_where_it_is(settings):
    query, flawless, alpha = images_with_defect()
    cfg = DetectConfig(**(settings | {"detect_layers": LAYERS, "detect_sigma": 1.0}))
    scores = scored(query, flawless, query, flawless, alpha, SeededNet(), cfg)
    row, column = divmod(int(scores.argmax()), SIDE)
    assert 18 <= row < 28 and 18 <= column < 28
    assert scores.shape == (SIDE, SIDE) and scores.min() >= 0


def test_identical_images_score_nothing():
    _, flawless, alpha = images_with_defect()
    for cfg in (original(), DetectConfig(detect_layers=LAYERS, relight_window=0.0)):
        scores = scored(flawless, flawless, flawless, flawless, alpha, SeededNet(), cfg)
        assert scores.max() < 1e-5  # the square root of rounding errors


def test_the_product_needs_both_branches_to_differ():
    query, flawless, alpha = images_with_defect()
    both = scored(query, flawless, flawless, flawless, alpha, SeededNet(), original())
    colour = scored(
        query,
        flawless,
        flawless,
        flawless,
        alpha,
        SeededNet(),
        original(detect_branches="colour"),
    )
    reflectance = scored(
        flawless,
        flawless,
        query,
        flawless,
        alpha,
        SeededNet(),
        original(detect_branches="reflectance"),
    )
    assert both.max() == 0
    assert colour.max() > 1e-3
    torch.testing.assert_close(colour, reflectance)


def test_one_network_pass_compares_all_images():
    query, flawless, alpha = images_with_defect()
    net = SeededNet()
    scored(query, flawless, query, flawless, alpha, net, original())
    assert net.passes == 1


def test_relighting_lowers_the_score_of_another_lamp():
    query, flawless, alpha = images_with_defect()
    lamp = torch.tensor([0.9, 0.75, 0.5])[:, None, None]
    dim = flawless * lamp

    def highest(window):
        cfg = DetectConfig(detect_layers=LAYERS, relight_window=window)
        return scored(dim, flawless, dim, flawless, alpha, SeededNet(), cfg).max()

    assert highest(0.15) < 0.2 * highest(0.0)


def test_squared_distance_by_hand():
    query = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    assert squared_distance(query, torch.zeros_like(query)).item() == 14


def test_direction_distance_ignores_length_and_counts_angles():
    query = torch.tensor([3.0, 0.0]).reshape(1, 2, 1, 1)
    for angle in (0.0, math.pi / 3, math.pi / 2, math.pi):
        other = 0.2 * torch.tensor([math.cos(angle), math.sin(angle)]).reshape(1, 2, 1, 1)
        distance = squared_distance(unit_features(query), unit_features(other)).item()
        assert distance == pytest.approx(1 - math.cos(angle), abs=1e-6)


def test_energy_distance_ignores_the_lamp_and_forgives_faint_texture():
    generator = torch.Generator().manual_seed(2)
    query, other = torch.rand(2, 1, 6, 8, 8, generator=generator)

    def distance(a, b):
        return squared_distance(a, b) / energy(a, b)

    torch.testing.assert_close(distance(3 * query, 3 * other), distance(query, other))
    # By hand: one strong place among faint ones; the image's mean decides for the faint.
    a, b = torch.full((1, 1, 1, 2), 0.1), torch.tensor([0.2, 4.0]).reshape(1, 1, 1, 2)
    mean = (0.01 + 0.04 + 0.01 + 16) / 2
    expected = [0.01 / (0.02 + 0.5 * mean), 3.9**2 / (0.4 + 0.5 * mean)]
    assert distance(a, b).flatten().tolist() == pytest.approx(expected, rel=1e-5)


def test_what_is_normal_at_a_place_is_subtracted():
    cfg = DetectConfig(detect_sigma=0.0)
    blank, alpha = torch.zeros(1, 6, 1, 2), torch.ones(1, 1, 1, 2)
    layers = [torch.tensor([[0.1, 0.9], [0.4, 0.1]]), torch.tensor([[2.0, 4.0], [2.0, 9.0]])]
    layers = [layer.reshape(1, 2, 1, 2) for layer in layers]
    compared = Compared(layers, blank, blank, alpha, (1, 2), [])
    expected = torch.tensor([[0.2, 0.2], [0.8, 0.2], [2.0, 2.0], [8.0, 2.0]]).reshape(1, 4, 1, 2)
    scale = torch.tensor([[0.1, 0.4, 4.0, 1.0]])
    found = anomaly_map(compared, cfg, NormalMaps(expected, scale))
    # Geometric means in units of the scales, less those of what is expected, averaged over layers:
    # left (1 + 1) / 2 - (2 + 2) / 2 < 0 is nothing; right (1.5 + 3) / 2 - (1 + 1) / 2
    assert found.flatten().tolist() == pytest.approx([0.0, 1.25])


def test_shifts_are_forgiven_up_to_the_limit():
    generator = torch.Generator().manual_seed(1)
    query = torch.rand(1, 4, 9, 9, generator=generator)
    moved = query.roll((1, 0), dims=(-2, -1))
    inner = (..., slice(2, -2), slice(2, -2))
    forgiven = least_over_shifts(query, moved, 1)[inner]
    assert forgiven.max() == 0
    counted = least_over_shifts(query, query.roll(2, dims=-1), 1)[inner]
    assert counted.min() > 0


def test_the_geometric_mean_keeps_the_unit_of_a_distance():
    distances = torch.tensor([0.4, 0.1]).reshape(2, 1, 1)
    assert join_branches(distances, "difference").item() == pytest.approx(0.04)
    assert join_branches(distances, "direction").item() == pytest.approx(0.2)
    assert join_branches(distances[:1], "direction").item() == pytest.approx(0.4)


def test_smoothing_keeps_the_mean_of_a_constant_and_small_images():
    constant = torch.full((1, 1, 5, 7), 3.0)  # smaller than the filter
    torch.testing.assert_close(gaussian_smooth(constant, 4.0), constant)
    assert gaussian_smooth(constant, 0.0) is constant


def test_image_score_is_the_mean_of_the_highest_share():
    scores = torch.arange(1000.0).reshape(20, 50)
    assert score_of(scores, DetectConfig(detect_top=1.0)) == pytest.approx(994.5)
    assert score_of(scores, DetectConfig(detect_top=0.0)) == 999


@pytest.mark.parametrize(
    "settings",
    [
        {"detect_layers": "0,a"},
        {"detect_layers": ""},
        {"detect_layers": "-1"},
        {"detect_top": 101.0},
        {"detect_sigma": -1.0},
        {"detect_shift": -1},
        {"relight_window": -0.1},
        {"relight_features": -1.0},
        {"detect_normal_views": -1},
        {"detect_view_dependence": 1.5},
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(UserError, match=next(iter(settings))):
        DetectConfig(**settings)


def test_a_layer_the_network_lacks_is_refused():
    with pytest.raises(UserError, match="layers 0 to 1"):
        cfg = DetectConfig(detect_layers="0,2")
        layer_distances(torch.rand(2, 3, 16, 16), torch.ones(1, 1, 16, 16), SeededNet(), cfg)


def test_what_is_brighter_in_every_channel_counts_half():
    lit = torch.full((1, 3, 40, 60), 0.4)
    photo = lit.clone()
    photo[..., :20] += 0.3  # a reflection
    photo[:, 1, :, 20:40] -= 0.3  # a coloured stain: darker in one channel
    maps = 1 + torch.rand(1, 20, 30, generator=torch.Generator().manual_seed(0))
    compared = Compared([], photo, lit, torch.ones(1, 1, 40, 60), (20, 30), [])
    cfg = DetectConfig(detect_hue=0.0)
    found = counted(maps, compared, cfg)
    torch.testing.assert_close(found[..., :9], 0.5 * maps[..., :9])
    torch.testing.assert_close(found[..., 11:], maps[..., 11:])
    faint = Compared([], lit + 0.025, lit, compared.alpha, (20, 30), [])
    torch.testing.assert_close(counted(maps, faint, cfg), 0.75 * maps)
    assert counted(maps, compared, replace(cfg, detect_glare=0.0)) is maps
    with pytest.raises(UserError, match="detect_glare is a share in 0..1, got 2"):
        DetectConfig(detect_glare=2.0)


def test_what_is_seen_edge_on_counts_less_and_what_sticks_out_does_not():
    grey, cover = torch.full((1, 3, 40, 60), 0.4), torch.zeros(1, 1, 40, 60)
    cover[..., :48] = 1  # the object; right of it the backdrop
    facing = cover[..., ::4, ::4].clone()
    facing[..., 4:8] = 0.25  # cells seen edge-on
    surface = torch.cat([facing, torch.rand(1, 1, 10, 15)], 1)
    maps = 1 + torch.rand(1, 40, 60, generator=torch.Generator().manual_seed(0))
    compared = Compared([], grey, grey, cover, (40, 60), [])
    cfg = DetectConfig(detect_hue=0.0, detect_facing=0.8)
    found = counted(maps, compared, cfg, surface) / maps
    one = torch.ones_like(found)
    torch.testing.assert_close(found[..., 22:26], (1 - 0.8 * 0.75) * one[..., 22:26])
    torch.testing.assert_close(found[..., :14], one[..., :14])
    torch.testing.assert_close(found[..., 34:], one[..., 34:])
    # a thin edge: next to it, within a cell, the surface faces the camera
    facing[..., 4:8], facing[..., 5:6] = 1, 0.25
    thin = torch.cat([facing, surface[:, 1:]], 1)
    torch.testing.assert_close(counted(maps, compared, cfg, thin), maps)
    whole = replace(cfg, detect_facing=0.0)
    torch.testing.assert_close(counted(maps, compared, whole, surface), maps)
    torch.testing.assert_close(counted(maps, compared, cfg), maps)  # nothing is known of it
    with pytest.raises(UserError, match="detect_facing is a share in 0..1, got -1"):
        DetectConfig(detect_facing=-1.0)


def hue_of(photo, lit, alpha=None):
    """`hue_change` of images [B, 3, 160, 240]: [B, 40, 60]."""
    alpha = torch.ones(len(photo), 1, 160, 240) if alpha is None else alpha
    return hue_change(Compared([], photo, lit, alpha, (160, 240), []))[:, 0]


def test_another_hue_in_one_place_counts_and_a_lamp_s_cast_does_not():
    generator = torch.Generator().manual_seed(0)
    grain = torch.rand(2, 1, 160, 240, generator=generator)
    lit = 0.3 + 0.2 * grain.expand(-1, 3, -1, -1)
    photo = lit * torch.tensor([1.04, 1.0, 0.96])[None, :, None, None]  # a warmer lamp ...
    photo[:, :, :, 120:] *= 0.5  # ... and a shadow
    assert hue_of(photo, lit).max() == 0
    stained = photo.clone()
    stained[1, 2, 60:84, 40:64] *= 0.6  # yellow
    found = hue_of(stained, lit)
    assert found[0].max() == 0 and found[1].max() > 1
    row, column = divmod(int(found[1].argmax()), 60)
    assert 15 <= row < 21 and 10 <= column < 16
    far = found[1].clone()
    far[12:24, 7:19] = 0
    assert far.max() == 0
    cfg = DetectConfig()
    maps = torch.zeros(2, 160, 240)
    compared = Compared([], stained, lit, torch.ones(2, 1, 160, 240), (160, 240), [])
    assert counted(maps, compared, cfg)[1].max() == pytest.approx(
        cfg.detect_hue * float(found[1].max()), rel=0.05
    )
    assert counted(maps, compared, replace(cfg, detect_hue=0.0)).max() == 0


def test_a_hue_is_judged_inside_the_object_and_where_nothing_is_burnt_out():
    lit = torch.full((1, 3, 160, 240), 0.4)
    alpha = torch.zeros(1, 1, 160, 240)
    alpha[..., 40:120, 60:180] = 1
    photo = lit.clone()
    photo[:, 2, 72:88, 112:128] = 0.2
    inside = hue_of(photo, lit, alpha)
    assert inside.max() > 1
    assert hue_of(photo, lit, 0 * alpha).max() == 0  # no object: no unit either
    beside = lit.clone()
    beside[:, 2, 20:40, 112:128] = 0.2
    assert hue_of(beside, lit, alpha).max() == 0
    burnt = photo.clone()
    burnt[:, 0, 72:88, 112:128] = 1.0
    assert hue_of(burnt, lit, alpha)[0, 18:22, 28:32].max() == 0


def test_a_vivid_mark_that_a_veil_makes_paler_counts_nothing():
    lit = torch.full((1, 3, 160, 240), 0.4)
    lit[:, 0] *= 1 + 0.02 * torch.rand(1, 160, 240, generator=torch.Generator().manual_seed(0))
    green = torch.tensor([0.05, 0.55, 0.1])[:, None, None]
    lit[..., 60:84, 40:64] = green
    paler = lit.clone()
    paler[..., 60:84, 40:64] = 0.7 * green + 0.3 * 0.4
    assert hue_of(paler, lit).max() == 0
    turned = lit.clone()
    turned[..., 60:84, 40:64] = green.flip(0)[[1, 2, 0]]  # as vivid, another hue
    assert hue_of(turned, lit).max() > 1
    pale = lit.clone()
    pale[:, 2, 100:124, 40:64] = 0.3  # a change as small where nothing was vivid
    assert hue_of(pale, lit)[0, 25:31, 10:16].max() > 1
