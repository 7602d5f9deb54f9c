"""Distances of flawless photographs are put on the Gaussians, kept, and rendered at a pose."""

from dataclasses import dataclass, replace

import pytest
import torch

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from piad.anomaly import DetectConfig
from piad.models import ModelPair
from piad.normality import kept_normality, learn_normality
from tests.detection_scene import SeededNet

SIDE = 40
CFG = DetectConfig(detect_layers="0,1", detect_sigma=0.0)
NUM_MAPS = 8  # two kinds of distance, two layers, two branches


def two_blobs():
    """Two opaque Gaussians, left and right of the middle, and one outside the view."""
    means = torch.tensor([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [9.0, 0.0, 0.0]])
    generator = torch.Generator().manual_seed(0)
    return GaussianModel(
        means=means,
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(3, 1),
        log_scales=torch.full((3, 3), 0.16).log(),
        logit_opacities=torch.full((3,), 0.95).logit(),
        sh=torch.rand(3, 1, 3, generator=generator),
        background=torch.tensor([0.2, 0.3, 0.4]),
    )


@dataclass
class Photo:
    camera: Camera
    pixels: torch.Tensor
    id: str = ""

    def image(self):
        return self.pixels


def gallery(models, spoiled=None):
    """Photographs that equal the renderings, but for a pattern over the columns `spoiled`."""
    pairs = []
    for shift in (-0.1, 0.1):
        viewmat = torch.eye(4, dtype=torch.float64)
        viewmat[0, 3], viewmat[2, 3] = shift, 3.0
        camera = Camera(Intrinsics.from_fov_x(0.9, SIDE, SIDE), viewmat)
        shown = models.render(camera.viewmat(), camera.intrinsics).over(models.background)
        if spoiled is not None:
            noise = torch.rand(6, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
            shown[..., spoiled] = noise[..., spoiled]
        pairs.append((Photo(camera, shown[:3]), Photo(camera, shown[3:])))
    return pairs


@pytest.fixture(scope="module")
def models():
    return ModelPair(two_blobs(), two_blobs())


def test_photographs_that_equal_their_renderings_are_all_normal(models):
    cfg = replace(CFG, relight_window=0.0)
    found = learn_normality(models, gallery(models), SeededNet(), cfg).normality()
    assert found.gaussians.shape == (3, NUM_MAPS)
    assert found.gaussians.abs().max() < 1e-4 and found.backdrop.abs().max() < 1e-4


def test_the_gaussian_that_is_seen_badly_carries_the_distance(models):
    pairs = gallery(models, slice(0, SIDE // 2))
    found = learn_normality(models, pairs, SeededNet(), CFG).normality()
    left, right, unseen = found.gaussians
    assert (left > 3 * right).all()
    torch.testing.assert_close(unseen, found.scale)  # nobody saw it: as good as the object's mean
    view = gallery(models)[0][0]
    (expected,) = found.maps(models.colour, [view.camera])
    assert expected.shape == (NUM_MAPS, SIDE // 2, SIDE // 2)
    middle = expected[:, SIDE // 4]
    assert (middle[:, 5] > 2 * middle[:, 12]).all()  # the blobs' centres
    torch.testing.assert_close(expected[:, 0, 0], found.backdrop)  # where nothing is


def test_means_are_weighted_by_what_a_gaussian_contributes(models):
    # Second implementation: a Gaussian's share of a pixel is its rendering in white alone.
    from piad.anomaly import compare_images

    pairs, net = gallery(models, slice(0, SIDE // 2)), SeededNet()
    found = learn_normality(models, pairs, net, CFG).normality()
    total, weight = torch.zeros(NUM_MAPS), 0.0
    model = models.colour
    for view, reflectance in pairs:
        viewmat, intrinsics = view.camera.viewmat(), view.camera.intrinsics
        seen = models.render(viewmat, intrinsics)
        drawn = seen.over(models.background)
        images = view.image(), drawn[:3], reflectance.image(), drawn[3:], seen.alpha[:1]
        compared = compare_images(*(image[None] for image in images), net, CFG)
        maps = compared.stacked((SIDE // 2, SIDE // 2))[0]
        white = torch.zeros(3, 1, 3)
        white[0] = 0.5 / 0.28209479177387814  # SH of colour 1; the others are black
        white[1:] = -0.5 / 0.28209479177387814
        alone = ModelPair(*[model.with_sh(white, torch.zeros(3))] * 2)
        share = alone.render(viewmat, intrinsics.resized(SIDE // 2, SIDE // 2)).image[0]
        total, weight = total + (share * maps).sum((1, 2)), weight + share.sum()
    torch.testing.assert_close(found.gaussians[0], total / weight, rtol=1e-3, atol=1e-5)


def same(a, b):
    return a.normality().fingerprint == b.normality().fingerprint


def test_it_is_kept_until_an_input_changes(models, tmp_path):
    path, net = tmp_path / "normality.safetensors", SeededNet()
    pairs = gallery(models, slice(0, SIDE // 2))

    def passes(cfg=CFG, models_id="a"):
        before = net.passes
        found = kept_normality(path, models, models_id, pairs, net, cfg)
        return net.passes - before, found

    count, first = passes()
    assert count == len(pairs)
    count, again = passes(replace(CFG, detect_top=1.0, detect_sigma=4.0))  # these come later
    assert count == 0 and same(again, first)
    assert passes(models_id="b")[0] == len(pairs)
    assert passes(replace(CFG, detect_shift=0), "b")[0] == len(pairs)
    path.write_bytes(b"broken")
    assert passes()[0] == len(pairs)
    assert passes(replace(CFG, detect_normal_views=1))[0] == 1
    assert passes(replace(CFG, detect_normal_views=0)) == (0, None)


def test_a_group_of_views_can_be_left_out(models):
    pairs, net = gallery(models, slice(0, SIDE // 2)), SeededNet()
    sums = learn_normality(models, pairs, net, CFG)
    for left_out, other in ((0, 1), (1, 0)):
        alone = learn_normality(models, [pairs[other]], net, CFG)
        found, wanted = sums.normality(without=left_out), alone.normality()
        torch.testing.assert_close(found.gaussians, wanted.gaussians)
        torch.testing.assert_close(found.backdrop, wanted.backdrop)
    single = alone.normality(without=0)  # nothing else to learn from
    torch.testing.assert_close(single.gaussians, wanted.gaussians)
