"""Where a query differs from its flawless rendering: distances of features, joined to one map.

Paper (PIAD, anomaly detection): at every layer the squared feature distance of the photographs
times that of the reflectance images, upsampled, summed over layers, smoothed; the image's score is
the maximum. Ours: the rendering gets the gallery's detail and the query's light first, features are
compared by direction and by energy instead of by difference, small shifts are forgiven, what
flawless photographs show at the same place is subtracted, and the image's score is the mean of the
highest pixels.
docs/method_detection.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.errors import UserError
from piad.relight import relight

DISTANCES = ("both", "direction", "energy", "difference")
KINDS = {"both": ("direction", "energy")}  # distances that are added
BRANCHES = ("both", "colour", "reflectance")
FINE_STRIDE = 4  # px; layers up to this stride see shifts of a pixel or two as changed features
TRUNCATE = 4.0  # Gaussian windows reach so many standard deviations
ENERGY_FLOOR = 0.5  # share of the images' mean energy added to a place's own
TINY = 1e-12


def _option(default: object, text: str, choices: tuple[str, ...] = ()) -> object:
    metadata = {"help": text} | ({"choices": choices} if choices else {})
    return field(default=default, metadata=metadata)


@dataclass
class DetectConfig:
    """Choices of the comparison; the defaults are ours, preset original sets the paper's."""

    features: str = _option(
        "auto",
        "feature network: b4, lite2, or auto: b4 where its weights lie, else lite2",
        ("auto", "b4", "lite2"),
    )
    feature_weights: str = _option("", "file of EfficientNet-B4 weights; empty: the usual places")
    detect_distance: str = _option(
        "both",
        "feature distance: direction (1 - cosine), energy (squared difference over energy), both "
        "added (ours), or difference (squared, the paper's)",
        DISTANCES,
    )
    detect_branches: str = _option(
        "both", "images compared: colour, reflectance, or both, which are multiplied", BRANCHES
    )
    detect_layers: str = _option(
        "1,2,3", "feature layers compared, from fine (0, stride 2) to coarse (3, stride 16)"
    )
    detect_shift: int = _option(
        1, "feature cells by which fine layers may be shifted before they differ; 0: none"
    )
    relight_window: float = _option(
        0.15, "window of the fit of the query's light, share of the image; 0: no relighting"
    )
    detect_normal_views: int = _option(
        40,
        "gallery views that teach what differences are normal at each place of the object, at "
        "most; 0: distances are taken as they are (the paper)",
    )
    detect_detail_views: int = _option(
        4,
        "gallery photographs that lend each rendering the detail that the models have lost; "
        "0: the models alone (the paper)",
    )
    detect_sigma: float = _option(4.0, "standard deviation of the map's Gaussian smoothing, px")
    detect_top: float = _option(
        0.1, "image score: mean of the highest so many percent of the pixels; 0: the maximum"
    )

    def __post_init__(self) -> None:
        self.layers()
        if not 0 <= self.detect_top <= 100:
            raise UserError(
                f"detect_top is a percentage in 0..100, got {self.detect_top:g}; correct the config"
            )
        counts = ("detect_shift", "detect_normal_views", "detect_detail_views")
        for key in (*counts, "relight_window", "detect_sigma"):
            if getattr(self, key) < 0:
                raise UserError(
                    f"{key} must be 0 or positive, got {getattr(self, key):g}; correct the config"
                )

    def kinds(self) -> tuple[str, ...]:
        """The distances that are added."""
        return KINDS.get(self.detect_distance, (self.detect_distance,))

    def layers(self) -> list[int]:
        """The indices in `detect_layers`."""
        try:
            layers = [int(item) for item in self.detect_layers.split(",")]
        except ValueError:
            layers = []
        if not layers or min(layers) < 0:
            raise UserError(
                "detect_layers lists layers by number, for example 0,1,2,3, "
                f"got {self.detect_layers!r}; correct the config"
            )
        return layers


# The paper's choices, as differences from the defaults.
ORIGINAL = {
    "detect_distance": "difference",
    "detect_branches": "both",
    "detect_layers": "0,1,2,3",
    "detect_shift": 0,
    "relight_window": 0.0,
    "detect_normal_views": 0,
    "detect_detail_views": 0,
    "detect_sigma": 4.0,
    "detect_top": 0.0,
}


@dataclass(frozen=True)
class NormalMaps:
    """Distances that flawless photographs show: expected [K, H, W] at each pixel of a view, and
    their mean over the object, scale [K]."""

    expected: Tensor
    scale: Tensor


class Features(Protocol):
    """What is asked of a feature network: retrieval.model.feature_net.FeatureNet has it."""

    name: str

    def features(self, images: Tensor) -> list[Tensor]:
        """Layers [B, C, h, w], fine to coarse, of images [B, 3, H, W], 0..1."""


def distance_maps(
    query: Tensor,
    rendering: Tensor,
    query_reflectance: Tensor,
    rendering_reflectance: Tensor,
    alpha: Tensor,
    net: Features,
    cfg: DetectConfig,
) -> Tensor:
    """Feature distance of every pixel, one map per kind of distance and layer.

    Args:
        query, rendering: the photograph and the flawless rendering at its pose, [3, H, W], 0..1.
        query_reflectance, rendering_reflectance: their reflectance images, [3, H, W], 0..1.
        alpha: coverage by the Gaussians, [1, H, W], 0..1.
        net: feature network on the device of the images.
        cfg: the choices.
    Returns:
        [K, H, W], >= 0, unitless, both branches joined.
    """
    pairs = []
    if cfg.detect_branches != "reflectance":
        pairs.append((query, rendering))
    if cfg.detect_branches != "colour":
        pairs.append((query_reflectance, rendering_reflectance))
    images = []
    for photo, flawless in pairs:
        if cfg.relight_window > 0:
            flawless = relight(flawless, photo, alpha, cfg.relight_window)
        images += [photo, flawless]
    size = query.shape[-2:]
    maps = [
        F.interpolate(
            join_branches(distances, cfg.detect_distance),
            size=size,
            mode="bilinear",
            align_corners=False,
        )
        for distances in layer_distances(torch.stack(images), net, cfg)
    ]
    return torch.cat(maps)[:, 0]


def anomaly_map(maps: Tensor, cfg: DetectConfig, normal: NormalMaps | None = None) -> Tensor:
    """Anomaly score of every pixel.

    Args:
        maps: the distances, [K, H, W].
        normal: what flawless photographs show at the same places; None adds the distances up.
    Returns:
        [H, W], >= 0, unitless, larger is more anomalous. With `normal`, 0 is what is normal there
        and 1 differs by as much more as the object's flawless photographs differ on average.
    """
    if normal is None:
        total = maps.sum(0)
    else:
        scale = normal.scale.clamp_min(TINY)[:, None, None]
        total = ((maps - normal.expected) / scale).mean(0)
    return gaussian_smooth(total[None, None], cfg.detect_sigma)[0, 0].clamp_min(0)


def image_score(anomaly_map: Tensor, cfg: DetectConfig) -> float:
    """Score of an image: mean of the highest `detect_top` percent of its map, or the maximum."""
    count = max(1, round(anomaly_map.numel() * cfg.detect_top / 100))
    return float(anomaly_map.flatten().topk(count).values.mean())


@torch.inference_mode()
def layer_distances(images: Tensor, net: Features, cfg: DetectConfig) -> list[Tensor]:
    """Feature distance per kind of distance, layer and branch.

    Args:
        images: query and rendering of each branch in turn, [2 R, 3, H, W], 0..1.
    Returns:
        per kind and layer [R, 1, h, w], >= 0.
    """
    layers = net.features(images)
    wanted = cfg.layers()
    if max(wanted) >= len(layers):
        raise UserError(
            f"detect_layers = {cfg.detect_layers}, but {net.name} has the layers "
            f"0 to {len(layers) - 1}; choose among those"
        )
    found = []
    for kind in cfg.kinds():
        for index in wanted:
            features = layers[index]
            stride = images.shape[-1] / features.shape[-1]
            shift = cfg.detect_shift if stride <= FINE_STRIDE + 0.5 else 0
            found.append(_distance(kind, features[0::2], features[1::2], shift))
    return found


def _distance(kind: str, photo: Tensor, flawless: Tensor, shift: int) -> Tensor:
    """One kind of distance between features [B, C, h, w]: [B, 1, h, w]."""
    if kind == "direction":
        return least_over_shifts(unit_features(photo), unit_features(flawless), shift)
    distance = least_over_shifts(photo, flawless, shift)
    if kind == "energy":
        return distance / energy(photo, flawless)
    return distance


def energy(query: Tensor, rendering: Tensor) -> Tensor:
    """Energy to which a squared distance of features [B, C, h, w] is compared, [B, 1, h, w] (ours).

    A lamp scales differences and energy alike. Where both features are faint the image's mean
    decides, so that a crack in a smooth surface counts for more than another faint texture.
    """
    own, other = query.square().sum(1, keepdim=True), rendering.square().sum(1, keepdim=True)
    mean = (own + other).mean((2, 3), keepdim=True)
    return ((own * other).sqrt() + ENERGY_FLOOR * mean).clamp_min(TINY)


def squared_distance(query: Tensor, rendering: Tensor) -> Tensor:
    """Sum over channels of squared differences, [B, C, h, w] -> [B, 1, h, w] (PIAD)."""
    return (query - rendering).square().sum(1, keepdim=True)


def unit_features(features: Tensor) -> Tensor:
    """Features of length sqrt(1/2), [B, C, h, w], so that squared distances are 1 - cosine (ours).

    A lamp that brightens a place lengthens its features more than it turns them.
    """
    return F.normalize(features, dim=1) * 0.5**0.5


def least_over_shifts(query: Tensor, rendering: Tensor, shift: int) -> Tensor:
    """Least squared distance over all shifts of `rendering` by up to `shift` cells (ours)."""
    if shift == 0:
        return squared_distance(query, rendering)
    height, width = query.shape[-2:]
    padded = F.pad(rendering, (shift,) * 4, mode="replicate")
    steps = range(2 * shift + 1)
    moved = (padded[..., dy : dy + height, dx : dx + width] for dy in steps for dx in steps)
    return reduce(torch.minimum, (squared_distance(query, there) for there in moved))


def join_branches(distances: Tensor, kind: str) -> Tensor:
    """Join colour and reflectance at one layer, [R, 1, h, w] -> [1, 1, h, w].

    The paper multiplies squared distances. Ours takes the geometric mean of directions': it too
    is large only where both are, and keeps the unit of one distance, so that layers can be added.
    """
    product = distances.prod(dim=0, keepdim=True)
    if kind == "difference":
        return product
    return product.clamp_min(TINY).pow(1 / distances.shape[0])


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
