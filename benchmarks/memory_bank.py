"""A comparator without poses: a memory bank of the gallery's patches, after PatchCore.

Roth, Pemula, Zepeda, Schölkopf, Brox, Gehler, "Towards Total Recall in Industrial Anomaly
Detection", CVPR 2022. Written from the paper's equations; the feature network is whichever is
given, and the coreset is searched in full dimension (the paper projects at random to save time).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from piad.anomaly import Features
from piad.smoothing import gaussian_smooth

PATCH = 3  # cells over which features are averaged (paper: p = 3)
NEIGHBOURS = 9  # b of eq. 7, which the paper doesn't give; anomalib's choice
SIGMA = 4.0  # px, of the map's smoothing (paper, sec. 3.3)


def patch_features(layers: Sequence[Tensor]) -> Tensor:
    """Locally averaged features, all layers at the first one's places (Roth et al., eq. 1 to 3).

    Args:
        layers: [1, C_l, h_l, w_l] each, fine to coarse.
    Returns:
        [h_0, w_0, sum of C_l]; at the border the mean is of what lies inside.
    """
    size = layers[0].shape[-2:]
    averaged = [
        F.avg_pool2d(layer, PATCH, stride=1, padding=PATCH // 2, count_include_pad=False)
        for layer in layers
    ]
    joined = [F.interpolate(a, size, mode="bilinear", align_corners=False) for a in averaged]
    return torch.cat(joined, 1)[0].permute(1, 2, 0)


def greedy_coreset(patches: Tensor, count: int) -> Tensor:
    """Patches that cover all others: each is the farthest from those before (eq. 5, algorithm 1).

    Args:
        patches: [N, C]. The first one chosen is the farthest from their mean.
    Returns:
        indices [count].
    """
    norms = patches.square().sum(1)
    mean = patches.mean(0)
    chosen = [int((norms - 2 * (patches @ mean)).argmax())]
    nearest = torch.full_like(norms, torch.inf)
    while len(chosen) < count:
        last = patches[chosen[-1]]
        # |x - c|^2 without |c|^2's share of memory traffic: one product per step.
        squared = torch.addmv(norms, patches, last, alpha=-2).add_(last @ last)
        nearest = torch.minimum(nearest, squared)
        chosen.append(int(nearest.argmax()))
    return torch.tensor(chosen)


@dataclass(frozen=True)
class MemoryBank:
    """Patches of flawless photographs, float32 [M, C], and the search among them."""

    patches: np.ndarray
    search: NearestNeighbors

    @classmethod
    def of(cls, patches: Tensor) -> MemoryBank:
        """The bank of patches [M, C]."""
        values = np.ascontiguousarray(patches.cpu().numpy(), dtype=np.float32)
        return cls(values, NearestNeighbors(algorithm="brute").fit(values))

    @classmethod
    def learn(
        cls, images: Iterable[Tensor], net: Features, layers: Sequence[int], share: float
    ) -> MemoryBank:
        """The coreset of all patches of images [3, H, W] (eq. 4 and 5); `share`: kept, 0..1."""
        all_patches = torch.cat([image_patches(i, net, layers).flatten(0, 1) for i in images])
        kept = greedy_coreset(all_patches, max(1, round(share * len(all_patches))))
        return cls.of(all_patches[kept])

    def score(self, patches: Tensor) -> tuple[Tensor, float]:
        """Distance of every patch from the bank, and the image's score (eq. 6 and 7).

        Args:
            patches: [h, w, C].
        Returns:
            distances [h, w], >= 0, and the highest of them re-weighted: it counts less where the
            patches around its match in the bank lie as near as the match itself.
        """
        flat = patches.flatten(0, 1).cpu().numpy()
        distances, matches = (found[:, 0] for found in self.search.kneighbors(flat, 1))
        top = int(distances.argmax())
        around = self.search.kneighbors(
            self.patches[[matches[top]]],
            min(NEIGHBOURS, len(self.patches)),
            return_distance=False,
        )[0]
        spread = np.linalg.norm(self.patches[around] - flat[top], axis=1).astype(np.float64)
        # Exponentials of the distances less s*, which cancels in the ratio.
        weight = 1 - 1 / np.exp(spread - distances[top]).sum() if len(around) > 1 else 1.0
        shape = patches.shape[:2]
        return torch.from_numpy(distances).float().reshape(shape), float(weight * distances[top])


@torch.inference_mode()
def image_patches(image: Tensor, net: Features, layers: Sequence[int]) -> Tensor:
    """Patch features [h, w, C] of an image [3, H, W], 0..1, from the network's layers `layers`."""
    found = net.features(image[None])
    return patch_features([found[index] for index in layers])


def pixel_map(distances: Tensor, size: tuple[int, int]) -> Tensor:
    """Distances [h, w] at the image's size [H, W], smoothed (Roth et al., sec. 3.3)."""
    large = F.interpolate(distances[None, None], size, mode="bilinear", align_corners=False)
    return gaussian_smooth(large, SIGMA)[0, 0].clamp_min(0)
