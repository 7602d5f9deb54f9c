"""Photographs at their poses: distances from the flawless renderings there, and anomaly maps.

Several photographs of one size are compared at once: one pass of the feature network, one fit of
their lights. Nothing here waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from piad.anomaly import Compared, DetectConfig, Features, compare_images
from piad.anomaly_map import NormalMaps, anomaly_map, counted
from piad.close_up import Window, object_window, whole
from piad.surface import surface_maps

if TYPE_CHECKING:
    from piad.change_net import ChangeNet
    from piad.detail import GalleryDetail
    from piad.models import ModelPair
    from piad.normality import Normality

# Photographs compared at once: a GPU wants many, on a CPU one stays in the cache.
BATCH = {"cuda": 16}

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Shot:
    """A photograph to be compared.

    photo, reflectance: it and its reflectance image, [3, H, W], 0..1, on any device.
    detail: lends the models' rendering what they have lost; None compares with the models alone.
    without, halfway: ids of gallery views that lend differently; see `GalleryDetail.at`.
    """

    camera: Camera
    photo: Tensor
    reflectance: Tensor
    detail: GalleryDetail | None = None
    without: str | None = None
    halfway: str | None = None


class Anomalies(NamedTuple):
    """Of photographs of one size.

    maps: anomaly maps [B, H, W]; renderings: flawless ones [B, 3, H, W]; counted: the maps as
    image scores are taken of them.
    """

    maps: Tensor
    renderings: Tensor
    counted: Tensor


def batch_size(device: torch.device) -> int:
    """How many photographs are best compared at once."""
    return BATCH.get(device.type, 1)


def batches(
    items: Iterable[Item], size: int, shape: Callable[[Item], object] = lambda item: None
) -> Iterator[list[Item]]:
    """Items in lists of at most `size`, in order; a new one begins where `shape` changes."""
    for _, alike in groupby(items, shape):
        while batch := list(islice(alike, size)):
            yield batch


def image_size(intrinsics: Intrinsics) -> tuple[int, int]:
    """Height and width, px."""
    return intrinsics.height, intrinsics.width


def close_up(models: ModelPair, camera: Camera, cfg: DetectConfig) -> Window:
    """The part of a camera's photographs that is compared."""
    return whole(camera) if cfg.detect_zoom == 1 else object_window(models, camera)


def close_ups(
    models: ModelPair, shots: Sequence[Shot], cfg: DetectConfig
) -> list[list[tuple[int, Shot, Window]]]:
    """Shots cut to the object, those of one size together, with their numbers and windows."""
    groups: dict[tuple[int, int], list[tuple[int, Shot, Window]]] = {}
    for index, shot in enumerate(shots):
        part = close_up(models, shot.camera, cfg)
        groups.setdefault(part.size, []).append((index, cut(shot, part), part))
    return list(groups.values())


def cut(shot: Shot, part: Window) -> Shot:
    """A part of a photograph, as a photograph of its own."""
    camera = shot.camera.cropped(part.x, part.y, part.width, part.height)
    images = {"photo": part.cut(shot.photo), "reflectance": part.cut(shot.reflectance)}
    return replace(shot, camera=camera, **images)


@torch.inference_mode()
def compare_at(
    models: ModelPair, shots: Sequence[Shot], net: Features, cfg: DetectConfig
) -> tuple[Compared, Tensor]:
    """Compare photographs of one size with the models rendered at their cameras.

    Args:
        shots: all with the same detail.
    Returns:
        what was found, and the renderings' colours over the models' background [B, 3, H, W].
    """
    cameras, detail = [shot.camera for shot in shots], shots[0].detail
    seen = models.render_views(cameras)
    drawn, alpha = seen.over(models.background), seen.cover
    if detail is not None:
        own = [(shot.without, shot.halfway) for shot in shots]
        drawn = drawn + detail.at(cameras, seen, *zip(*own, strict=True))
    photo = torch.stack([shot.photo for shot in shots]).to(drawn)
    reflectance = torch.stack([shot.reflectance for shot in shots]).to(drawn)
    compared = compare_images(photo, drawn[:, :3], reflectance, drawn[:, 3:], alpha, net, cfg)
    return compared, drawn[:, :3]


def surface_at(models: ModelPair, shots: Sequence[Shot], compared: Compared) -> Tensor:
    """`surface_maps` at the shots' cameras, as large as the change net's maps."""
    return surface_maps(models, [shot.camera for shot in shots], compared.coarse_size)


@torch.inference_mode()
def normal_at(
    models: ModelPair,
    shots: Sequence[Shot],
    normality: Sequence[Normality] | Normality,
    surface: Tensor | None = None,
) -> NormalMaps:
    """What is normal at the shots' cameras.

    Args:
        normality: of the object, or one for each shot.
        surface: `surface_at` them; None: none.
    """
    each = normality if isinstance(normality, Sequence) else [normality] * len(shots)
    cameras = [shot.camera for shot in shots]
    scale = torch.stack([own.scale for own in each])
    found: dict[int, Tensor] = {}
    for own in {id(own): own for own in each}.values():  # most often all have the same
        chosen = [k for k, other in enumerate(each) if other is own]
        maps = own.maps(models.colour, [cameras[k] for k in chosen])
        found.update(zip(chosen, maps, strict=True))
    expected = torch.stack([found[k] for k in range(len(shots))])
    return NormalMaps(expected, scale, surface)


@torch.inference_mode()
def anomalies_at(
    models: ModelPair,
    shots: Sequence[Shot],
    net: Features,
    cfg: DetectConfig,
    normality: Sequence[Normality] | Normality | None,
    change: ChangeNet | None = None,
) -> Anomalies:
    """Anomaly maps and flawless renderings of photographs of one size.

    Args:
        normality: of the object, or one for each photograph; None takes distances as they are.
        change: net whose map is added to the distances.
    """
    each = normality if isinstance(normality, Sequence) else [normality] * len(shots)
    count, size = len(shots), image_size(shots[0].camera.intrinsics)
    behind = models.background[:3, None, None]
    found = Anomalies(
        behind.new_zeros(count, *size),
        behind.expand(3, *size).repeat(count, 1, 1, 1),
        behind.new_zeros(count, *size),
    )
    for group in close_ups(models, shots, cfg):
        own = [shot for _, shot, _ in group]
        compared, drawn = compare_at(models, own, net, cfg)
        surface, normal = None, None
        if change is not None or cfg.detect_facing > 0:
            surface = surface_at(models, own, compared)
        if normality is not None:
            taught = [each[index] for index, _, _ in group]
            normal = normal_at(models, own, taught, surface)
        maps = anomaly_map(compared, cfg, normal, change)
        parts = maps, drawn, counted(maps, compared, cfg, surface)
        for place, (index, _, window) in enumerate(group):
            for whole_images, cuts in zip(found, parts, strict=True):
                window.cut(whole_images[index]).copy_(cuts[place])
    return found
