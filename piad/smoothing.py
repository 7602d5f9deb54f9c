"""Gaussian filters of maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TRUNCATE = 4.0  # Gaussian windows reach so many standard deviations


def gaussian_smooth(image: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of [B, 1, H, W], mirrored at the borders; sigma in px."""
    if sigma == 0:
        return image
    for dim in (-1, -2):
        # Mirroring reaches at most the image's other side.
        radius = min(int(TRUNCATE * sigma + 0.5), image.shape[dim] - 1)
        steps = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        kernel = (kernel / kernel.sum()).reshape((1, 1, 1, -1) if dim == -1 else (1, 1, -1, 1))
        border = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
        image = F.conv2d(F.pad(image, border, mode="reflect"), kernel)
    return image
