"""What every matcher offers: encode an image once, match it as often as needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# What a matcher remembers of one image: named tensors, whose meaning only the matcher knows.
Features = dict[str, Tensor]


@dataclass
class Matches:
    """Corresponding points of two images, in pixels of the images given to `encode`.

    Attributes:
        points_a, points_b: [M, 2] float32 on the CPU, (x, y), pixel centres at +0.5.
        confidence: [M], 0..1, the matcher's own.
    """

    points_a: Tensor
    points_b: Tensor
    confidence: Tensor

    def __len__(self) -> int:
        return len(self.confidence)

    @classmethod
    def none(cls) -> Matches:
        """No match at all."""
        return cls(torch.zeros(0, 2), torch.zeros(0, 2), torch.zeros(0))


class Matcher(Protocol):
    """Finds corresponding points of two images.

    Attributes:
        name: which matcher and which weights, for the records.
        signature: a short text that changes when the weights or settings do: features kept on
            disk are good for one signature only.
        storable: whether `encode`'s features are small enough to be kept on disk.
    """

    name: str
    signature: str
    storable: bool

    def encode(self, images: Tensor) -> list[Features]:
        """Features of each image of [B, 3, H, W], sRGB in 0..1."""

    def match(self, a: Features, b: Features) -> Matches:
        """Corresponding points of one pair."""

    def match_many(self, a: Features, others: list[Features]) -> list[Matches]:
        """Corresponding points of `a` with each of `others`, as one batch where that pays."""


def to_grey(images: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) of [B, 3, H, W] as [B, 1, H, W]."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=images.dtype, device=images.device)
    return (images * weights[:, None, None]).sum(1, keepdim=True)


def image_size(features: Features) -> tuple[float, float]:
    """(width, height) in pixels of the image that was encoded."""
    width, height = features["size"].tolist()
    return width, height
