"""Where a query differs from its flawless rendering: distances of features.

Paper (PIAD, anomaly detection): at every layer the squared feature distance of the photographs
times that of the reflectance images, upsampled, summed over layers, smoothed; the image's score is
the maximum. Ours: the rendering gets the gallery's detail and the query's light first, features are
compared by direction and by energy instead of by difference, small shifts are forgiven, what
flawless photographs show at the same place is subtracted, and the image's score is the mean of the
highest pixels.
docs/method_detection.md has the equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.errors import UserError
from piad.close_up import LARGEST_OWN_ZOOM, enlarged
from piad.feature_light import carry_features
from piad.relight import length, relight, resized

DISTANCES = ("both", "direction", "energy", "difference")
KINDS = {"both": ("direction", "energy")}  # distances that are added
BRANCHES = ("both", "colour", "reflectance")
FINE_STRIDE = 4  # px; layers up to this stride see shifts of a pixel or two as changed features
ENERGY_FLOOR = 0.5  # share of the images' mean energy added to a place's own
TINY = 1e-12
MOST_ZOOM = 4.0


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
    detect_zoom: float = _option(
        1.5,
        "enlargement of the part of a photograph that shows the object, before its features are "
        "compared; 1: whole photographs as they are (the paper)",
    )
    detect_object_px: float = _option(
        620.0,
        "longer side, once enlarged, that an object has at least: what looks smaller in the "
        f"gallery is enlarged more than detect_zoom, at most {LARGEST_OWN_ZOOM:g} times; "
        "0: detect_zoom for all",
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
    detect_view_dependence: float = _option(
        0.5,
        "share of the models' view dependence in what photographs are compared with: highlights "
        "are the gallery lamps'; 1: all (the paper)",
    )
    detect_detail_views: int = _option(
        4,
        "gallery photographs that lend each rendering the detail that the models have lost; "
        "0: the models alone (the paper)",
    )
    detect_change: float = _option(
        8.0, "weight of the change net's map beside the distances; 0: distances alone (the paper)"
    )
    detect_sigma: float = _option(
        4.0,
        "standard deviation of the distances' Gaussian smoothing, px; the change net's map is "
        "smoothed by 0.7 px at most",
    )
    detect_glare: float = _option(
        0.5,
        "share that the image score leaves out where a photograph is brighter in all channels, as "
        "a lamp's reflection makes it; 0: none (the paper)",
    )
    detect_facing: float = _option(
        0.8,
        "share that the image score leaves out where a surface is seen edge-on, less the more it "
        "faces the camera; 0: none (the paper)",
    )
    detect_hue: float = _option(
        0.3,
        "weight in the image score of places whose hue has changed more than the lamps change it "
        "elsewhere on the object; 0: none (the paper)",
    )
    detect_top: float = _option(
        0.05, "image score: mean of the highest so many percent of the pixels; 0: the maximum"
    )

    def __post_init__(self) -> None:
        self.layers()
        if not 0 <= self.detect_top <= 100:
            raise UserError(
                f"detect_top is a percentage in 0..100, got {self.detect_top:g}; correct the config"
            )
        for key in ("detect_view_dependence", "detect_glare", "detect_facing"):
            if not 0 <= getattr(self, key) <= 1:
                raise UserError(
                    f"{key} is a share in 0..1, got {getattr(self, key):g}; correct the config"
                )
        if not 1 <= self.detect_zoom <= MOST_ZOOM:
            raise UserError(
                f"detect_zoom is a factor in 1..{MOST_ZOOM:g}, got {self.detect_zoom:g}; "
                "correct the config"
            )
        counts = ("detect_shift", "detect_normal_views", "detect_detail_views", "detect_object_px")
        weights = ("relight_window", "relight_features", "detect_change", "detect_sigma")
        for key in (*counts, *weights, "detect_hue"):
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
    "detect_zoom": 1.0,
    "detect_object_px": 0.0,
    "relight_window": 0.0,
    "relight_features": 0.0,
    "detect_normal_views": 0,
    "detect_view_dependence": 1.0,
    "detect_detail_views": 0,
    "detect_change": 0.0,
    "detect_sigma": 4.0,
    "detect_glare": 0.0,
    "detect_facing": 0.0,
    "detect_hue": 0.0,
    "detect_top": 0.0,
}


class Features(Protocol):
    """What is asked of a feature network: retrieval.model.feature_net.FeatureNet has it."""

    name: str

    def features(self, images: Tensor) -> list[Tensor]:
        """Layers [B, C, h, w], fine to coarse, of images [B, 3, H, W], 0..1."""


@dataclass(frozen=True)
class Compared:
    """Photographs beside their flawless renderings.

    distances: per kind and layer [B, R, h, w], >= 0, unitless; R branches: colour, reflectance.
    photo, lit: photographs, and renderings in their light, [B, 3 R, H, W], 0..1; alpha: coverage
    by the Gaussians, [B, 1, H, W]; all of them enlarged.
    size: height and width of the photographs as they were.
    features: per layer photographs' and renderings', carried to the same light, [B, R, C, h, w].
    """

    distances: list[Tensor]
    photo: Tensor
    lit: Tensor
    alpha: Tensor
    size: tuple[int, int]
    features: list[tuple[Tensor, Tensor]]

    @property
    def coarse_size(self) -> tuple[int, int]:
        """Height and width of the change net's maps: a quarter of the enlarged images'."""
        return fraction(self.alpha.shape[-2:], 4)

    def stacked(self, size: tuple[int, int]) -> Tensor:
        """Distances at one size (h, w): [B, K, h, w], K over kinds and layers, then branches."""
        return torch.cat([resized(distances, size) for distances in self.distances], 1)


def fraction(size: Sequence[int], by: int) -> tuple[int, int]:
    """Both sides of an image divided, rounded up."""
    return -(-size[0] // by), -(-size[1] // by)


def compare_images(
    query: Tensor,
    rendering: Tensor,
    query_reflectance: Tensor,
    rendering_reflectance: Tensor,
    alpha: Tensor,
    net: Features,
    cfg: DetectConfig,
) -> Compared:
    """Feature distances of photographs to the flawless renderings at their poses.

    Args:
        query, rendering: [B, 3, H, W], 0..1.
        query_reflectance, rendering_reflectance: their reflectance images, same shape, 0..1.
        alpha: coverage by the Gaussians, [B, 1, H, W], 0..1.
        net: feature network on the device of the images; all images are one batch of it.
        cfg: the choices.
    """
    pairs = []
    if cfg.detect_branches != "reflectance":
        pairs.append((query, rendering))
    if cfg.detect_branches != "colour":
        pairs.append((query_reflectance, rendering_reflectance))
    photos, drawn = (torch.stack(images, 1).flatten(0, 1) for images in zip(*pairs, strict=True))
    cover = alpha.repeat_interleave(len(pairs), 0)
    lit = relight(drawn, photos, cover, cfg.relight_window) if cfg.relight_window > 0 else drawn
    size = tuple(alpha.shape[-2:])
    photos, lit, alpha = (enlarged(x, cfg.detect_zoom) for x in (photos, lit, alpha))
    cover = alpha.repeat_interleave(len(pairs), 0)
    both = torch.stack([photos, lit], 1).flatten(0, 1)
    found, layers = layer_distances(both, cover, net, cfg)
    several = len(query), len(pairs)
    distances = [layer.unflatten(0, several).squeeze(2) for layer in found]
    photos, lit = (images.unflatten(0, several).flatten(1, 2) for images in (photos, lit))
    layers = [(photo.unflatten(0, several), drawn.unflatten(0, several)) for photo, drawn in layers]
    return Compared(distances, photos, lit, alpha, size, layers)


@torch.inference_mode()
def layer_distances(
    images: Tensor, alpha: Tensor, net: Features, cfg: DetectConfig
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Feature distance per kind of distance, layer and branch, and the features themselves.

    Args:
        images: photograph and rendering of each pair in turn, [2 P, 3, H, W], 0..1.
        alpha: coverage by the Gaussians, [P, 1, H, W], 0..1.
    Returns:
        per kind and layer [P, 1, h, w], >= 0; per layer the photographs' features and the
        renderings', carried to the same light, [P, C, h, w].
    """
    layers = net.features(images)
    photos, drawn = [layer[0::2] for layer in layers], [layer[1::2] for layer in layers]
    return feature_distances(photos, drawn, alpha, cfg, net.name)


def feature_distances(
    photos: Sequence[Tensor], drawn: Sequence[Tensor], alpha: Tensor, cfg: DetectConfig, name: str
) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """`layer_distances` of features that are known.

    Args:
        photos, drawn: all layers of photographs and renderings, [P, C, h, w].
        alpha: coverage by the Gaussians, [P, 1, H, W], 0..1; name: the network's.
    """
    wanted = cfg.layers()
    if max(wanted) >= len(photos):
        raise UserError(
            f"detect_layers = {cfg.detect_layers}, but {name} has the layers "
            f"0 to {len(photos) - 1}; choose among those"
        )
    pairs = {}
    for index in wanted:
        photo, flawless = photos[index], drawn[index]
        if cfg.relight_features > 0:
            flawless = carry_features(photo, flawless, alpha, cfg.relight_features)
        stride = alpha.shape[-1] / photo.shape[-1]
        pairs[index] = photo, flawless, cfg.detect_shift if stride <= FINE_STRIDE + 0.5 else 0
    distances = [_distance(kind, *pairs[index]) for kind in cfg.kinds() for index in wanted]
    return distances, [pairs[index][:2] for index in wanted]


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
    return (query - rendering).square_().sum(1, keepdim=True)


def unit_features(features: Tensor) -> Tensor:
    """Features of length sqrt(1/2), [B, C, h, w], so that squared distances are 1 - cosine (ours).

    A lamp that brightens a place lengthens its features more than it turns them.
    """
    return features * (0.5**0.5 / length(features).clamp_min(TINY))


def least_over_shifts(query: Tensor, rendering: Tensor, shift: int) -> Tensor:
    """Least squared distance over all shifts of `rendering` by up to `shift` cells (ours)."""
    if shift == 0:
        return squared_distance(query, rendering)
    height, width = query.shape[-2:]
    padded = F.pad(rendering, (shift,) * 4, mode="replicate")
    steps = range(2 * shift + 1)
    moved = (padded[..., dy : dy + height, dx : dx + width] for dy in steps for dx in steps)
    return reduce(torch.minimum, (squared_distance(query, there) for there in moved))
