"""Models whose colours depend less on the view: their highlights are the gallery lamps'.

Ours. Spherical harmonics learn where the gallery's lamps mirror. Under another lamp nothing mirrors
there, so that all of it makes a photograph differ; without any of it, one under the gallery's lamps
does. Half serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from gaussian_renderer.view_dependence import evened_colours
from piad.detail import GalleryDetail, gallery_detail
from piad.models import ModelPair

if TYPE_CHECKING:
    from gaussian_renderer.camera import Camera
    from piad.anomaly import DetectConfig
    from piad.views import View


def evened(models: ModelPair, cameras: Sequence[Camera], share: float) -> ModelPair:
    """The pair with a share of its view dependence about its mean over the gallery's cameras.

    Args:
        share: 1 gives the pair itself; see `evened_colours`.
    """
    if share == 1:
        return models
    positions = torch.stack([camera.position for camera in cameras]).to(models.background)
    parts = (
        evened_colours(model, positions, models.centre, share)
        for model in (models.colour, models.reflectance)
    )
    return ModelPair(*parts)


def flawless_look(
    models: ModelPair, pairs: list[tuple[View, View]], cfg: DetectConfig
) -> tuple[ModelPair, GalleryDetail | None]:
    """What photographs are compared with: the evened models, and the detail lent to them.

    The detail is what the models as they were fitted have lost: highlights are none.

    Args:
        models: the pair that was fitted to the gallery.
        pairs: gallery views and their reflectance views.
    """
    cameras = [view.camera for view, _ in pairs]
    shown = evened(models, cameras, cfg.detect_view_dependence)
    return shown, gallery_detail(models, pairs, cfg)
