"""PSNR, SSIM and the loss against scikit-image, autograd and each other."""

import math

import pytest
import torch
from pose_rasterizer import BuildError
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gaussian_renderer import losses
from gaussian_renderer.image_metrics import psnr, ssim, window_mean
from gaussian_renderer.losses import photometric_loss


def pair(channels=3, height=31, width=44, dtype=torch.float32):
    g = torch.Generator().manual_seed(1)
    a = torch.rand(channels, height, width, generator=g, dtype=torch.float64)
    b = (a + 0.2 * torch.randn(a.shape, generator=g, dtype=torch.float64)).clamp(0, 1)
    return a.to(dtype), b.to(dtype)


def test_psnr_equals_scikit_image_and_is_infinite_for_equal_images():
    a, b = pair(dtype=torch.float64)
    wanted = peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1.0)
    assert psnr(a, b) == pytest.approx(wanted, abs=1e-9)
    assert psnr(b, b) == math.inf
    assert psnr(torch.full_like(b, 7.0), torch.ones_like(b)) == math.inf  # clamped as displayed


def test_ssim_equals_scikit_image():
    a, b = pair(dtype=torch.float64)
    wanted = structural_similarity(
        a.numpy(),
        b.numpy(),
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(a, b) == pytest.approx(wanted, abs=1e-9)
    assert ssim(b, b) == pytest.approx(1)
    assert ssim(a[:, :4, :4], a[:, :4, :4]) == pytest.approx(1)  # smaller than the window


def test_window_mean_of_a_point_is_the_window_and_it_is_its_own_adjoint():
    point = torch.zeros(1, 21, 21, dtype=torch.float64)
    point[0, 10, 10] = 1
    spread = window_mean(point)
    assert spread.sum().item() == pytest.approx(1)
    assert spread[0, 10, 9].item() / spread[0, 10, 10].item() == pytest.approx(
        math.exp(-0.5 / 1.5**2)
    )
    assert spread[0, 10, 16] == 0
    a, b = pair(dtype=torch.float64)
    assert (window_mean(a) * b).sum().item() == pytest.approx((a * window_mean(b)).sum().item())


def loss_by_autograd(image, target, weight):
    """The textbook form: five convolutions, autograd for the gradient."""
    mx, my, sxx, syy, sxy = window_mean_by_convolution(
        torch.cat([image, target, image * image, target * target, image * target])
    ).chunk(5)
    s = (2 * mx * my + 0.0001) * (2 * (sxy - mx * my) + 0.0009)
    s = s / ((mx**2 + my**2 + 0.0001) * (sxx - mx**2 + syy - my**2 + 0.0009))
    return (1 - weight) * (image - target).abs().mean() + weight * (1 - s.mean())


def window_mean_by_convolution(maps):
    taps = torch.exp(-0.5 * ((torch.arange(11, dtype=maps.dtype) - 5) / 1.5) ** 2)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    return torch.nn.functional.conv2d(maps[:, None], kernel[None, None], padding=5)[:, 0]


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("shape", [(3, 31, 44), (6, 13, 9), (1, 3, 70), (2, 1, 1)])
def test_compiled_and_plain_loss_equal_autograd(monkeypatch, weight, shape):
    image, target = pair(*shape, dtype=torch.float64)
    image.requires_grad_()
    wanted = loss_by_autograd(image, target, weight)
    (v_wanted,) = torch.autograd.grad(wanted, image)
    plain = photometric_loss(image, target, weight)
    (v_plain,) = torch.autograd.grad(plain, image)
    torch.testing.assert_close(plain, wanted, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(v_plain, v_wanted, rtol=1e-8, atol=1e-12)

    image = image.detach().float().requires_grad_()
    compiled = photometric_loss(image, target.float(), weight)
    (v_compiled,) = torch.autograd.grad(compiled, image)
    torch.testing.assert_close(compiled.double(), wanted, rtol=1e-5, atol=1e-6)
    # worst seen 3e-6 of the gradient's norm
    assert (v_compiled - v_wanted).norm() <= 3e-5 * v_wanted.norm()


def test_loss_does_not_depend_on_the_number_of_threads():
    image, target = pair(3, 50, 60)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            leaf = image.clone().requires_grad_()
            loss = photometric_loss(leaf, target, 0.2)
            loss.backward()
            results.append((loss.item(), leaf.grad))
    finally:
        torch.set_num_threads(before)
    for loss, gradient in results[1:]:
        assert loss == results[0][0] and torch.equal(gradient, results[0][1])


def test_loss_goes_on_without_a_compiler(monkeypatch):
    def no_compiler(*args, **kwargs):
        raise BuildError("no C++ compiler")

    image, target = pair()
    compiled = photometric_loss(image, target, 0.2)
    monkeypatch.setattr(losses, "photometric", no_compiler)
    torch.testing.assert_close(photometric_loss(image, target, 0.2), compiled)


def test_compiled_loss_refuses_other_shapes_and_types():
    from pose_rasterizer.photometric import photometric

    window = torch.ones(11)
    with pytest.raises(ValueError, match=r"not \[3, 4, 4\], \[3, 4, 5\]"):
        photometric(torch.zeros(3, 4, 4), torch.zeros(3, 4, 5), window, 0.2)
    with pytest.raises(TypeError, match="float32"):
        photometric(torch.zeros(3, 4, 4).double(), torch.zeros(3, 4, 4), window, 0.2)
