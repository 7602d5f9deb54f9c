"""Distances become one anomaly map, and a map a score.

Paper (PIAD, anomaly detection): both branches' distances are multiplied, layers are upsampled and
summed, the sum is smoothed; the score is the maximum. Ours: the geometric mean of both branches,
less what flawless photographs show at the same place, in the unit of the object's own mean. Where
the change net sees no change it is halved; what the net sees is added, less smoothed. The score is
the mean of the highest pixels; what a lamp's reflection may explain counts less, what is seen
edge-on too, another hue more.
docs/method_detection.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from piad.anomaly import TINY, Compared, DetectConfig, fraction
from piad.hue import hue_change
from piad.relight import resized
from piad.smoothing import gaussian_smooth

if TYPE_CHECKING:
    from piad.change_net import ChangeNet

NET_SIGMA = 0.7  # px, smoothing of the change net's map: a crack is thinner than `detect_sigma`
UNSEEN = 0.3  # what distances count where the net is sure that nothing has changed
GLARE = 0.05  # 0..1, by which all channels are brighter where a place is taken for a reflection
LEAST_LOGIT = -3.0  # where they count (1 + UNSEEN) / 2


@dataclass(frozen=True)
class NormalMaps:
    """Distances that flawless photographs show, K as `Compared.stacked` has them.

    expected [B, K, h, w] at each place of the views, at any size; scale [B, K]: means over the
    object. surface [B, 2, h, w]: what the change net is told of it (`piad.surface`), at a quarter
    of the enlarged size.
    """

    expected: Tensor
    scale: Tensor
    surface: Tensor | None = None


def anomaly_map(
    compared: Compared,
    cfg: DetectConfig,
    normal: NormalMaps | None = None,
    change: ChangeNet | None = None,
) -> Tensor:
    """Anomaly score of every pixel.

    Args:
        normal: what flawless photographs show at the same places; None adds the distances up.
        change: net whose map is added, and by which distances count less; needs `normal` and its
            surface.
    Returns:
        [B, H, W], >= 0, unitless, larger is more anomalous. With `normal`, 0 is what is normal
        there and 1 differs by as much more as the object's flawless photographs do on average.
    """
    size = compared.size
    kind, branches = cfg.detect_distance, compared.distances[0].shape[1]
    if normal is None:
        total = sum(
            resized(join_branches(distances, kind), size) for distances in compared.distances
        )
    else:
        scale = normal.scale.clamp_min(TINY)[..., None, None]
        per_layer = zip(compared.distances, scale.split(branches, 1), strict=True)
        found = sum(
            resized(join_branches(distances / unit, kind), size) for distances, unit in per_layer
        )
        usual = (normal.expected / scale).unflatten(1, (-1, branches))
        expected = join_branches(usual, kind).mean(1)
        total = found / len(compared.distances) - resized(expected, size)
    total = gaussian_smooth(total if change is None else total.clamp_min(0), cfg.detect_sigma)
    if change is not None:
        logits = change.logits(compared, normal)
        seen = torch.cat([F.softplus(logits), torch.sigmoid(logits - LEAST_LOGIT)])
        sigma = min(NET_SIGMA, cfg.detect_sigma) * logits.shape[-1] / size[1]  # at its size
        added, share = resized(gaussian_smooth(seen, sigma), size).chunk(2)
        total = total * (UNSEEN + (1 - UNSEEN) * share) + cfg.detect_change * added
    return total.clamp_min(0)[:, 0]


def counted(
    maps: Tensor, compared: Compared, cfg: DetectConfig, surface: Tensor | None = None
) -> Tensor:
    """Anomaly maps [B, H, W] as the image score takes them (ours).

    A lamp's reflection is brighter in every channel than the surface should be. Few defects are;
    there `detect_glare` of the map is left out. Seen edge-on, most surfaces mirror, and errors of
    shape and pose are largest: with c the coverage and f the cosine between normal and line of
    sight, the most of 3 x 3 cells, `detect_facing` (c - f) is left out. `detect_hue` of
    `hue_change` is added.

    Args:
        surface: `NormalMaps.surface`; None: all faces the camera.
    """
    if cfg.detect_glare > 0:
        size = fraction(compared.alpha.shape[-2:], 2)
        brighter = area_average(compared.photo[:, :3] - compared.lit[:, :3], size)
        glare = (brighter.amin(1, keepdim=True) / GLARE).clamp(0, 1)
        maps = maps * (1 - cfg.detect_glare * resized(glare, compared.size)[:, 0])
    if cfg.detect_facing > 0 and surface is not None:
        cover = area_average(compared.alpha, compared.coarse_size)
        facing = F.max_pool2d(surface[:, :1], 3, 1, 1)
        aside = (cover - facing).clamp_min(0)
        maps = maps * (1 - cfg.detect_facing * resized(aside, compared.size)[:, 0])
    if cfg.detect_hue > 0:
        maps = maps + cfg.detect_hue * resized(hue_change(compared), compared.size)[:, 0]
    return maps


def image_scores(anomaly_maps: Tensor, cfg: DetectConfig) -> Tensor:
    """Scores [B] of maps [B, H, W]: the mean of their highest `detect_top` percent."""
    flat = anomaly_maps.flatten(1)
    count = max(1, round(flat.shape[1] * cfg.detect_top / 100))
    return flat.topk(count, dim=1).values.mean(1)


def join_branches(distances: Tensor, kind: str) -> Tensor:
    """Join colour and reflectance at one layer, [..., R, h, w] -> [..., 1, h, w].

    The paper multiplies squared distances. Ours takes the geometric mean of directions': it too
    is large only where both are, and keeps the unit of one distance, so that layers can be added.
    """
    product = distances.prod(dim=-3, keepdim=True)
    if kind == "difference":
        return product
    return product.clamp_min(TINY).pow(1 / distances.shape[-3])
