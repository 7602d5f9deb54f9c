"""A photograph at a pose: its distances from the flawless rendering there, and its anomaly map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from piad.anomaly import DetectConfig, Features, anomaly_map, distance_maps

if TYPE_CHECKING:
    from piad.detail import Detail
    from piad.models import ModelPair
    from piad.normality import Normality


@torch.inference_mode()
def distances_at(
    models: ModelPair,
    camera: Camera,
    photo: Tensor,
    reflectance: Tensor,
    net: Features,
    cfg: DetectConfig,
    detail: Detail | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compare a photograph with the models rendered at its camera.

    Args:
        photo, reflectance: the photograph and its reflectance image, [3, H, W], 0..1.
        detail: what the models have lost, to be added; None compares with the models alone.
    Returns:
        distances [K, H, W] (see `distance_maps`), rendering [6, H, W] (colour, then reflectance,
        over the models' background) and coverage [1, H, W].
    """
    seen = models.render(camera.viewmat(models.background.device), camera.intrinsics)
    drawn, alpha = seen.over(models.background), seen.alpha[:1]
    if detail is not None:
        drawn = drawn + detail(camera, seen)
    photo, reflectance = photo.to(drawn), reflectance.to(drawn)
    maps = distance_maps(photo, drawn[:3], reflectance, drawn[3:], alpha, net, cfg)
    return maps, drawn, alpha


def anomaly_at(
    models: ModelPair,
    camera: Camera,
    photo: Tensor,
    reflectance: Tensor,
    net: Features,
    cfg: DetectConfig,
    normality: Normality | None,
    detail: Detail | None = None,
) -> tuple[Tensor, Tensor]:
    """Anomaly map [H, W] of a photograph at a camera, and the flawless rendering [3, H, W].

    Arguments as in `distances_at`; `normality` None takes distances as they are.
    """
    maps, drawn, _ = distances_at(models, camera, photo, reflectance, net, cfg, detail)
    with torch.inference_mode():
        normal = None if normality is None else normality.maps(models.colour, camera)
        return anomaly_map(maps, cfg, normal), drawn[:3]
