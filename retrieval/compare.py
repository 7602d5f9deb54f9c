"""Query and renderings compared, whatever the light.

The measure is normalised correlation in small windows, so a change of light that is affine within
a window changes nothing. It is taken on luma and two opponent colours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from gaussian_renderer.constants import constant

COMPARE_PX = 100  # longer side of the images that `likeness` compares
WINDOW_PX = 9  # of an image with a longer side of about 100 px
WINDOW_STEP_PX = 3  # windows overlap by two thirds: as good as every pixel, at a ninth of the work
BLOCKS = WINDOW_PX // WINDOW_STEP_PX  # of a step's pixels, along a window
LEAST_INSIDE = 0.3  # share of a window's pixels that must be inside for it to count
SILHOUETTE_CHANNELS = 3  # the silhouette counts as much as one RGB image
FLAT_VARIANCE = 0.02**2  # windows that vary less than this count less
OPPONENT = ((0.299, 0.587, 0.114), (0.5, -0.5, 0.0), (-0.25, -0.25, 0.5))


def opponent(images: Tensor) -> Tensor:
    """Luma, red-green and blue-yellow of each RGB triple of [B, 3n, H, W]; same shape."""
    triples = images.unflatten(1, (-1, 3)).flatten(3)
    return (constant(OPPONENT, images) @ triples).reshape(images.shape)


def window_sums(x: Tensor, step: int = WINDOW_STEP_PX, across: int = BLOCKS) -> Tensor:
    """Sums over all windows of [N, C, H, W]: first over blocks, of which a window has 3x3.

    Args:
        step: px, side of a block, by which windows are moved; across: blocks along a window.
    """
    if x.is_cuda:  # one kernel; on a CPU it takes longer than the sums of blocks
        return F.avg_pool2d(x, step * across, step, divisor_override=1)
    for dim in (-2, -1):
        blocks = x.shape[dim] // step
        x = x.narrow(dim, 0, blocks * step).unflatten(dim, (blocks, step))
        parts = x.unbind(dim)
        x = parts[0] + parts[1]
        for part in parts[2:]:
            x += part
    for dim in (-2, -1):
        count = x.shape[dim] - across + 1
        total = x.narrow(dim, 0, count) + x.narrow(dim, 1, count)
        for first in range(2, across):
            total += x.narrow(dim, first, count)
        x = total
    return x


def similarity(a: Tensor, b: Tensor, inside: Tensor | None = None) -> Tensor:
    """Windowed normalised correlation of images [B, C, H, W]: [B], -1..1, 0 if unrelated.

    Windows count by how much either image varies in them, so that a structure that only one of
    the images shows lowers the value, and flat backdrops say nothing. 1 for equal images. With
    `inside` [B, 1, H, W], 0 or 1, only pixels where it is 1 are looked at. A channel after those of
    whole RGB images is a silhouette, and counts SILHOUETTE_CHANNELS times.
    """
    if inside is None:
        share = 1 / WINDOW_PX**2
    else:
        covered = window_sums(inside)
        share = 1 / covered.clamp_min(1e-6)
        a, b = a * inside, b * inside  # 0 or 1: its square is itself

    mean_a, mean_b = window_sums(a) * share, window_sums(b) * share
    var_a = (window_sums(a * a) * share - mean_a**2).clamp_min(0)
    var_b = (window_sums(b * b) * share - mean_b**2).clamp_min(0)
    covariance = window_sums(a * b) * share - mean_a * mean_b
    value, weight = correlation(var_a, var_b, covariance)
    if inside is not None:
        enough = covered > LEAST_INSIDE * WINDOW_PX**2
        value, weight = value * enough, weight * enough
    value, weight = value.sum((2, 3)), weight.sum((2, 3))  # [B, C]
    if value.shape[1] % 3:
        times = constant((1.0,) * (value.shape[1] - 1) + (float(SILHOUETTE_CHANNELS),), value)
        value, weight = value * times, weight * times
    return value.sum(1) / weight.sum(1).clamp_min(1e-6)


def correlation(var_a: Tensor, var_b: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation of each window, -1..1, and what it counts: that of an image with itself."""
    value = covariance / ((var_a + FLAT_VARIANCE) * (var_b + FLAT_VARIANCE)).sqrt()
    most = torch.maximum(var_a, var_b)
    return value, most / (most + FLAT_VARIANCE)


def described(image: Tensor, alpha: Tensor | None) -> Tensor:
    """What `similarity` is taken of: opponent colours of [B, C, h, w], and alpha [B, 1, h, w]."""
    colours = opponent(image)
    return colours if alpha is None else torch.cat([colours, alpha], 1)


def likeness(
    query: Tensor, rendering: Tensor, silhouette: Tensor | None = None, alpha: Tensor | None = None
) -> float:
    """Similarity of a query with one rendering, both made full size and averaged down.

    A model rendered small isn't what its photograph averages to: no splat gets narrower than the
    filter of a pixel.

    Args:
        query, rendering: [C, H, W]; silhouette, alpha: [1, H, W], both or neither.
    Returns:
        -1..1, as `similarity`.
    """
    known = silhouette is not None
    shown = shrunk(rendering[None], alpha[None] if known else None)
    return similarity(shrunk(query[None], silhouette[None] if known else None), shown).item()


def shrunk(images: Tensor, alphas: Tensor | None) -> Tensor:
    """What `likeness` takes `similarity` of: [B, C, H, W] and alpha [B, 1, H, W] averaged down.

    The longer side gets COMPARE_PX.
    """
    factor = COMPARE_PX / max(images.shape[-2:])
    size = tuple(max(WINDOW_PX, round(n * factor)) for n in images.shape[-2:])
    images, alphas = (None if x is None else area_average(x, size) for x in (images, alphas))
    return described(images, alphas)
