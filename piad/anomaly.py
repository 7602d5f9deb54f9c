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
from piad.feature_light import carry_features
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
    relight_features: float = _option(
        1.0,
        "pull to the identity of the map that carries a rendering's features to the query's light, "
        "share of their variance; 0: no such map",
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
        for key in (*counts, "relight_window", "relight_features", "detect_sigma"):
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
    "relight_features": 0.0,
    "detect_normal_views": 0,
    "detect_detail_views": 0,
    "detect_sigma": 4.0,
    "detect_top": 0.0,
}


@dataclass(frozen=True)
class NormalMaps:
    """Distances that flawless photographs show: expected [K, H, W] (or [B, K, H, W]) at each pixel
    of a view, and their mean over the object, scale [K] (or [B, K])."""

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
        query, rendering: photographs and the flawless renderings at their poses, [B, 3, H, W],
            0..1; one alone without the leading B.
        query_reflectance, rendering_reflectance: their reflectance images, same shape, 0..1.
        alpha: coverage by the Gaussians, [B, 1, H, W], 0..1.
        net: feature network on the device of the images; all images are one batch of it.
        cfg: the choices.
    Returns:
        [B, K, H, W], >= 0, unitless, both branches joined.
    """
    if query.ndim == 3:
        one = (query, rendering, query_reflectance, rendering_reflectance, alpha)
        return distance_maps(*(image[None] for image in one), net, cfg)[0]
    photos, drawn = [], []
    if cfg.detect_branches != "reflectance":
        photos, drawn = [query], [rendering]
    if cfg.detect_branches != "colour":
        photos, drawn = [*photos, query_reflectance], [*drawn, rendering_reflectance]
    if cfg.relight_window > 0:
        twice = alpha.repeat(len(drawn), 1, 1, 1)
        lit = relight(torch.cat(drawn), torch.cat(photos), twice, cfg.relight_window)
        drawn = list(lit.split(len(query)))
    cover = alpha.repeat_interleave(len(photos), 0)
    images = torch.stack([image for pair in zip(photos, drawn, strict=True) for image in pair], 1)
    maps = [
        F.interpolate(
            join_branches(
                distances.unflatten(0, (len(query), len(photos))), cfg.detect_distance
            ).squeeze(1),
            size=query.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        for distances in layer_distances(images.flatten(0, 1), cover, net, cfg)
    ]
    return torch.cat(maps, 1)


def anomaly_map(maps: Tensor, cfg: DetectConfig, normal: NormalMaps | None = None) -> Tensor:
    """Anomaly score of every pixel.

    Args:
        maps: the distances, [B, K, H, W]; one alone without the leading B.
        normal: what flawless photographs show at the same places; None adds the distances up.
    Returns:
        [B, H, W], >= 0, unitless, larger is more anomalous. With `normal`, 0 is what is normal
        there and 1 differs by as much more as the object's flawless photographs do on average.
    """
    if normal is None:
        total = maps.sum(-3, keepdim=True)
    else:
        scale = normal.scale.clamp_min(TINY)[..., None, None]
        total = ((maps - normal.expected) / scale).mean(-3, keepdim=True)
    stacked = total.reshape(-1, 1, *total.shape[-2:])
    smooth = gaussian_smooth(stacked, cfg.detect_sigma).clamp_min(0)
    return smooth.reshape(*total.shape[:-3], *total.shape[-2:])


def image_score(anomaly_map: Tensor, cfg: DetectConfig) -> float:
    """Score of an image: mean of the highest `detect_top` percent of its map, or the maximum."""
    return float(image_scores(anomaly_map[None], cfg)[0])


def image_scores(anomaly_maps: Tensor, cfg: DetectConfig) -> Tensor:
    """Score of each image of a batch, [B, H, W] -> [B], on the maps' device."""
    flat = anomaly_maps.flatten(1)
    count = max(1, round(flat.shape[1] * cfg.detect_top / 100))
    return flat.topk(count, dim=1).values.mean(1)


@torch.inference_mode()
def layer_distances(
    images: Tensor, alpha: Tensor, net: Features, cfg: DetectConfig
) -> list[Tensor]:
    """Feature distance per kind of distance, layer and branch.

    Args:
        images: photograph and rendering of each pair in turn, [2 P, 3, H, W], 0..1.
        alpha: coverage by the Gaussians, [P, 1, H, W], 0..1.
    Returns:
        per kind and layer [P, 1, h, w], >= 0.
    """
    layers = net.features(images)
    wanted = cfg.layers()
    if max(wanted) >= len(layers):
        raise UserError(
            f"detect_layers = {cfg.detect_layers}, but {net.name} has the layers "
            f"0 to {len(layers) - 1}; choose among those"
        )
    pairs = {}
    for index in wanted:
        photo, flawless = layers[index][0::2], layers[index][1::2]
        if cfg.relight_features > 0:
            flawless = carry_features(photo, flawless, alpha, cfg.relight_features)
        stride = images.shape[-1] / photo.shape[-1]
        pairs[index] = photo, flawless, cfg.detect_shift if stride <= FINE_STRIDE + 0.5 else 0
    return [_distance(kind, *pairs[index]) for kind in cfg.kinds() for index in wanted]


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
    """Join colour and reflectance at one layer, [..., R, 1, h, w] -> [..., 1, 1, h, w].

    The paper multiplies squared distances. Ours takes the geometric mean of directions': it too
    is large only where both are, and keeps the unit of one distance, so that layers can be added.
    """
    product = distances.prod(dim=-4, keepdim=True)
    if kind == "difference":
        return product
    return product.clamp_min(TINY).pow(1 / distances.shape[-4])


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
