"""PSNR and SSIM of two images; the window that the fit's D-SSIM shares."""

from __future__ import annotations

import math

import torch
from torch import Tensor

SSIM_RADIUS = 5  # 11 x 11 window, Wang et al. 2004
SSIM_SIGMA = 1.5
SSIM_C1 = 0.01**2
SSIM_C2 = 0.03**2


def psnr(image: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of values in 0..1; infinite for equal images."""
    mse = (image.clamp(0, 1) - target).square().mean().item()
    return math.inf if mse == 0 else -10 * math.log10(mse)


def decibels(square: float) -> float:
    """PSNR of a mean squared error of values in 0..1, at most 100 dB."""
    return -10 * math.log10(max(square, 1e-10))


def ssim_window() -> list[float]:
    """The eleven weights of SSIM's Gaussian window along one axis; their sum is 1."""
    weights = [math.exp(-0.5 * (i / SSIM_SIGMA) ** 2) for i in range(-SSIM_RADIUS, SSIM_RADIUS + 1)]
    return [w / sum(weights) for w in weights]


def window_mean(maps: Tensor) -> Tensor:
    """Gaussian-weighted mean around each pixel of maps [M, H, W], zeros beyond the border.

    Symmetric, hence its own adjoint. On the CPU shifted sums beat torch's convolution about
    fivefold; on a GPU it is the other way round.
    """
    weights = ssim_window()
    if maps.device.type != "cpu":
        kernel = maps.new_tensor(weights)
        rows = torch.nn.functional.conv2d(
            maps[:, None], kernel[None, None, None], padding=(0, SSIM_RADIUS)
        )
        return torch.nn.functional.conv2d(
            rows, kernel[None, None, :, None], padding=(SSIM_RADIUS, 0)
        )[:, 0]
    out = torch.empty_like(maps)
    for source, target in zip(maps, out, strict=True):  # one map at a time stays in the cache
        target.copy_(_shifted_sum(_shifted_sum(source, weights, 1), weights, 0))
    return out


def _shifted_sum(image: Tensor, weights: list[float], dim: int) -> Tensor:
    size = image.shape[dim]
    pad = (SSIM_RADIUS, SSIM_RADIUS) + (0, 0) * (1 - dim)
    padded = torch.nn.functional.pad(image, pad if dim == 1 else (0, 0, *pad[:2]))
    total = image * weights[SSIM_RADIUS]
    for i, weight in enumerate(weights):
        if i != SSIM_RADIUS:
            total.add_(padded.narrow(dim, i, size), alpha=weight)
    return total


def ssim(image: Tensor, target: Tensor) -> float:
    """Mean structural similarity [C, H, W] of values in 0..1 (Wang et al. 2004, eq. 13).

    Gaussian window of sigma 1.5, population covariances; the 5 pixels at each border, whose
    window is cut, are left out.
    """
    a, b = image.clamp(0, 1).double(), target.double()
    mu_a, mu_b, aa, bb, ab = window_mean(torch.cat([a, b, a * a, b * b, a * b])).chunk(5)
    numerator = (2 * mu_a * mu_b + SSIM_C1) * (2 * (ab - mu_a * mu_b) + SSIM_C2)
    variance = aa - mu_a * mu_a + bb - mu_b * mu_b
    values = numerator / ((mu_a * mu_a + mu_b * mu_b + SSIM_C1) * (variance + SSIM_C2))
    inner = values[:, SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]
    return (inner if inner.numel() else values).mean().item()
