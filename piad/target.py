"""A query as the refinement sees it, and how far a rendering is from it.

Backdrop and silhouette of the photograph are found here, its light is fitted; the loss is PIAD's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer.camera import Intrinsics
from piad.models import PairRendering

BORDER_PX = 4  # ring in which a plain backdrop is looked for
PLAIN_TOLERANCE = 0.05  # a border pixel this close to the ring's median belongs to the backdrop
PLAIN_FRACTION = 0.7  # this share of the ring makes the backdrop plain
SILHOUETTE_RAMP = (0.03, 0.09)  # differences from the backdrop: below none, above all object
GAIN_RANGE = (0.1, 10.0)  # a light that changes a channel more than this is not fitted
ROBUST_SCALE = 0.1  # residual (image units) at which a pixel's weight in the light fit halves


@dataclass
class Target:
    """A query at one resolution: image [6, H, W] (colour, reflectance).

    Where the backdrop is plain, backdrop is its colour [6] and silhouette [1, H, W] is 1 on the
    object. Several queries of one kind (`kind`) are one target whose tensors begin with [Q].
    """

    image: Tensor
    backdrop: Tensor | None
    intrinsics: Intrinsics
    silhouette: Tensor | None = None

    @classmethod
    def of(cls, image: Tensor, intrinsics: Intrinsics) -> Target:
        """A photograph over its reflectance, [6, H, W]; backdrop and silhouette where plain."""
        backdrop = plain_backdrop(image)
        silhouette = None if backdrop is None else find_silhouette(image[:3], backdrop[:3])
        return cls(image, backdrop, intrinsics, silhouette)

    @classmethod
    def stacked(cls, targets: Sequence[Target]) -> Target:
        """Queries of one kind as one target, [Q, ...]."""
        first = targets[0]
        image = torch.stack([target.image for target in targets])
        if first.backdrop is None:
            return cls(image, None, first.intrinsics, None)
        backdrop = torch.stack([target.backdrop for target in targets])
        silhouette = None
        if first.silhouette is not None:
            silhouette = torch.stack([target.silhouette for target in targets])
        return cls(image, backdrop, first.intrinsics, silhouette)

    def take(self, index: Sequence[int]) -> Target:
        """Of stacked queries those at `index`, in its order, with repeats."""
        if list(index) == list(range(len(self.image))):
            return self
        chosen = torch.tensor(index, device=self.image.device)
        backdrop, silhouette = (
            None if x is None else x[chosen] for x in (self.backdrop, self.silhouette)
        )
        return Target(self.image[chosen], backdrop, self.intrinsics, silhouette)

    @property
    def kind(self) -> tuple:
        """What queries must have in common to be stacked."""
        return self.intrinsics, self.backdrop is None, self.silhouette is None


def plain_backdrop(image: Tensor) -> Tensor | None:
    """Colour [C] of a plain backdrop seen along the border of an image [C, H, W], else None."""
    ring = torch.cat(
        [
            image[:, :BORDER_PX].flatten(1),
            image[:, -BORDER_PX:].flatten(1),
            image[:, :, :BORDER_PX].flatten(1),
            image[:, :, -BORDER_PX:].flatten(1),
        ],
        dim=1,
    )
    median = ring.median(dim=1).values
    near = ((ring - median[:, None]).abs() < PLAIN_TOLERANCE).all(0)
    return median if near.float().mean() >= PLAIN_FRACTION else None


def find_silhouette(image: Tensor, backdrop: Tensor) -> Tensor:
    """The object against a plain backdrop (ours): [1, H, W], 0 on the backdrop, 1 off it.

    Args:
        image: the photograph [C, H, W].
        backdrop: its colour [C].
    """
    away = (image - backdrop[:, None, None]).abs().amax(0, keepdim=True)
    low, high = SILHOUETTE_RAMP
    return ((away - low) / (high - low)).clamp(0, 1)


def object_box(inside: Tensor, multiple: int = 1, margin: int = 0) -> tuple:
    """Index of the smallest box that holds where `inside` is true; the whole if nowhere.

    Args:
        inside: [..., H, W].
        multiple: the box begins at a multiple of so many px.
        margin: px by which it is widened.
    """
    if inside.is_cuda:  # smaller sums are not worth the wait for the box
        return (..., slice(None), slice(None))
    seen = inside.flatten(0, -3).numpy().any(0)  # in a tenth of torch's time
    sides = []
    for along in (seen.any(1), seen.any(0)):
        found = np.flatnonzero(along)
        if len(found) == 0:
            return (..., slice(None), slice(None))
        first = max(0, int(found[0]) - margin) // multiple * multiple
        sides.append(slice(first, int(found[-1]) + 1 + margin))
    return (..., *sides)


def fit_light(rendering: PairRendering, target: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset per channel that bring a rendering to a query's light (ours).

    Least squares over the object, in which pixels far off the fit (defects, highlights,
    misplaced edges) lose their weight.

    Args:
        rendering: both models over black.
        target: the query, [..., 6, H, W].
    Returns:
        gain [..., 6] and offset [..., 6], without gradient.
    """
    image, alpha = rendering.image.detach(), rendering.channel_alpha.detach()
    box = object_box(alpha > 0.5)
    image, alpha, target = image[box], alpha[box], target[box]
    inside = (alpha > 0.5).to(image.dtype)
    x = image / alpha.clamp_min(0.5)
    weight = inside
    for _ in range(3):
        total = weight.sum((-2, -1)).clamp_min(1e-6)
        mean_x, mean_y = ((weight * v).sum((-2, -1)) / total for v in (x, target))
        dx, dy = x - mean_x[..., None, None], target - mean_y[..., None, None]
        variance = (weight * dx * dx).sum((-2, -1)) / total
        covariance = (weight * dx * dy).sum((-2, -1)) / total
        # A small prior towards gain 1 keeps textureless objects well posed.
        gain = ((covariance + 1e-4) / (variance + 1e-4)).clamp(*GAIN_RANGE)
        offset = mean_y - gain * mean_x
        residual = gain[..., None, None] * x + offset[..., None, None] - target
        weight = inside / (1 + (residual / ROBUST_SCALE) ** 2)
    return gain, offset


def seen_backdrop(target: Target, gain: Tensor, offset: Tensor, model_background: Tensor) -> Tensor:
    """What is behind the object: the query's plain backdrop, else the models' own, relit.

    Args:
        gain, offset: [..., 6], as what is returned.
    """
    return gain * model_background + offset if target.backdrop is None else target.backdrop


def relit(rendering: PairRendering, gain: Tensor, offset: Tensor, backdrop: Tensor) -> Tensor:
    """A rendering in another light before a uniform backdrop, [..., 6, H, W].

    Args:
        gain, offset, backdrop: [..., 6].
    """
    alpha = rendering.channel_alpha
    shown = gain[..., None, None] * rendering.image + offset[..., None, None] * alpha
    return shown + (1 - alpha) * backdrop[..., None, None]


def photometric_loss(image: Tensor, target: Tensor, reflectance_weight: float) -> Tensor:
    """w L1(reflectance) + (1 - w) L1(colour) (PIAD, pose loss; w = 0.6), [...].

    Args:
        image, target: [..., 6, H, W].
    """
    difference = (image - target).abs().unflatten(-3, (2, 3)).mean((-3, -2, -1))  # [..., 2]
    colour, reflectance = difference[..., 0], difference[..., 1]
    return reflectance_weight * reflectance + (1 - reflectance_weight) * colour
