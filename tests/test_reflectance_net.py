"""Reflectance nets: ranges, invariances, locality, cost."""

import pytest
import torch

from piad.reflectance_net import (
    NET_STRIDE,
    DecompositionNet,
    IlluminationNet,
    Photograph,
    Retinex,
    gaussian_blur,
    linear_to_srgb,
    naka_rushton,
    pad_to_multiple,
    srgb_to_linear,
    surround,
)


def picture(height=96, width=112, seed=0):
    """A smooth coloured image with sharp-edged patches, [1, 3, H, W], away from black and white."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 7, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (height, width), mode="nearest")
    return 0.25 + 0.4 * image


def trained_like(seed=0):
    """Our net with a random head, so that its U-Net has an effect."""
    torch.manual_seed(seed)
    net = IlluminationNet().eval()
    torch.nn.init.normal_(net.head.weight, std=0.05)
    return net


def test_srgb_curve_inverts_and_matches_known_values():
    values = torch.linspace(0, 1, 257)
    assert torch.allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-6)
    assert srgb_to_linear(torch.tensor(0.5)).item() == pytest.approx(0.214041, abs=1e-5)
    assert linear_to_srgb(torch.tensor(0.002)).item() == pytest.approx(0.02584, abs=1e-6)


def test_blur_keeps_a_constant_and_the_sum_of_a_point():
    assert torch.allclose(gaussian_blur(torch.full((1, 2, 9, 8), 0.7), 1.5), torch.tensor(0.7))
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    blurred = gaussian_blur(point, 2.0)
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    # 1 / (2 pi sigma^2) at the centre of a Gaussian
    assert blurred[0, 0, 20, 20].item() == pytest.approx(0.03979, rel=0.02)


def test_surround_of_a_ramp_is_the_ramp_far_from_the_border():
    ramp = torch.arange(160.0).expand(1, 1, 96, 160) / 160
    middle = surround(ramp, 12.0)[..., 40:56, 60:100]
    assert torch.allclose(middle, ramp[..., 40:56, 60:100], atol=2e-3)


def test_padding_repeats_the_edges_on_both_sides():
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    padded, (top, left) = pad_to_multiple(image, 8)
    assert padded.shape == (1, 1, 8, 8) and (top, left) == (2, 2)
    assert torch.equal(padded[..., 2:5, 2:6], image)
    assert torch.equal(padded[..., 0, 2:6], image[..., 0, :])
    assert pad_to_multiple(padded, 8)[1] == (0, 0)


def test_naka_rushton_is_one_half_where_image_equals_light():
    assert naka_rushton(torch.tensor([0.2, 0.6]), torch.tensor([0.2, 0.2])).tolist() == (
        pytest.approx([0.5, 0.75])
    )


@pytest.mark.parametrize("net", [Retinex(), trained_like(), DecompositionNet(), Photograph()])
@pytest.mark.parametrize("size", [(64, 64), (51, 77), (33, 16)])
def test_reflectance_has_the_images_shape_and_range(net, size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        reflectance = net(images)
    assert reflectance.shape == images.shape
    assert reflectance.isfinite().all() and reflectance.min() >= 0 and reflectance.max() <= 1


@pytest.mark.parametrize("net", [Retinex(), trained_like(), DecompositionNet()])
def test_an_image_gives_the_same_alone_and_in_a_batch(net):
    images = torch.cat([picture(seed=1), picture(seed=2)])
    with torch.no_grad():
        assert torch.allclose(net(images)[1:], net(images[1:]), atol=1e-5)


@pytest.mark.parametrize("net", [Retinex(), trained_like()])
def test_plain_images_become_mid_grey_whatever_their_colour(net):
    plain = torch.tensor([0.9, 0.6, 0.3])[None, :, None, None].expand(1, 3, 48, 64)
    with torch.no_grad():
        reflectance = net(plain)
    # The floor lifts I above L by 3 % at least: 0.5 becomes 0.508.
    assert torch.allclose(reflectance, torch.tensor(0.5), atol=0.02)
    assert (reflectance.amax((2, 3)) - reflectance.amin((2, 3))).max() < 1e-4


@pytest.mark.parametrize("net", [Retinex(), trained_like()])
def test_exposure_and_light_colour_nearly_cancel(net):
    image = picture()
    gain = torch.tensor([1.3, 1.0, 0.6])[None, :, None, None]
    relit = linear_to_srgb(srgb_to_linear(image) * gain)
    with torch.no_grad():
        change = (net(relit) - net(image)).abs().mean() / net(image).std()
    assert (relit - image).abs().mean() / image.std() > 0.4
    assert change < 0.02  # 0.006 seen; what is left is the absolute floor


def test_the_untrained_net_is_the_formula():
    image = picture()
    assert torch.allclose(IlluminationNet()(image), Retinex((48.0,))(image), atol=1e-6)


@pytest.mark.parametrize("net", [Retinex(), trained_like()])
def test_a_shifted_image_gives_the_shifted_reflectance(net):
    wide = picture(160, 176)
    shift = NET_STRIDE
    with torch.no_grad():
        first, second = net(wide[..., :144, :160]), net(wide[..., shift:, shift:])
    inside = (slice(None), slice(None), slice(32, 112), slice(32, 128))
    moved = first[..., shift:, shift:][inside]
    # The windows end differently, which the surround (sigma 48 px) sees from afar.
    assert (moved - second[..., :-shift, :-shift][inside]).abs().mean() < 0.02


def test_original_padding_overwrites_six_pixels_with_their_inner_neighbours():
    torch.manual_seed(0)
    ours, original = DecompositionNet("replicate"), DecompositionNet("original")
    original.load_state_dict(ours.state_dict())
    image = picture(40, 48)
    with torch.no_grad():
        one, other = ours.decompose(image), original.decompose(image)
    for mine, theirs in zip(one, other, strict=True):
        assert torch.allclose(mine[..., 6:-6, 6:-6], theirs[..., 6:-6, 6:-6], atol=1e-6)
        assert torch.equal(theirs[..., :6, 6:-6], theirs[..., 6:7, 6:-6].expand(-1, -1, 6, -1))
        assert torch.equal(theirs[..., -6:], theirs[..., -7:-6].expand(-1, -1, -1, 6))
    assert not torch.equal(one[0], other[0])


def test_original_structure_matches_its_definition_layer_by_layer():
    torch.manual_seed(3)
    net = DecompositionNet()
    names = {f"decom.{i}.{part}" for i in (0, 2, 4, 6) for part in ("weight", "bias")}
    assert set(net.state_dict()) == names
    image = picture(32, 32)
    features = image
    for index in (0, 2, 4, 6):
        weight, bias = net.state_dict()[f"decom.{index}.weight"], net.decom[index].bias
        features = torch.nn.functional.conv2d(features, weight, bias, padding=1)
        low = 0.2 * features if index < 6 else torch.zeros_like(features)
        features = torch.where(features > 0, features, low)
    reflectance, illumination = net.decompose(image)
    inside = (..., slice(6, -6), slice(6, -6))
    assert torch.allclose(reflectance[inside], features[:, :3][inside], atol=1e-6)
    assert torch.allclose(illumination[inside], features[:, 3:][inside], atol=1e-6)


def multiplications(net, image):
    """Multiply-adds of the net's convolutions on an image."""
    total = 0

    def count(layer, _, output):
        nonlocal total
        total += output.numel() * layer.weight[0].numel()

    hooks = [
        layer.register_forward_hook(count)
        for layer in net.modules()
        if isinstance(layer, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        net(image)
    for hook in hooks:
        hook.remove()
    return total


def test_our_net_costs_less_than_a_fifth_of_the_originals_structure():
    image = torch.rand(1, 3, 400, 400)
    assert multiplications(IlluminationNet(), image) < 0.2 * multiplications(
        DecompositionNet(), image
    )


def test_widths_of_another_depth_are_refused():
    with pytest.raises(ValueError, match="widths must hold 4 numbers, not 2"):
        IlluminationNet(widths=(8, 8))
