"""Models whose colours depend less on the view: their highlights are the gallery lamps'.

Ours. Spherical harmonics learn where the gallery's lamps mirror. Under another lamp nothing mirrors
there, so that all of it makes a photograph differ; without any of it, one under the gallery's lamps
does. Half serves both. How much a colour depends on the view tells the change net what may shine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from gaussian_renderer.view_dependence import colours_from_all_sides, evened_colours
from piad.close_up import common_sizes
from piad.detail import GalleryDetail, gallery_detail
from piad.models import ModelPair

if TYPE_CHECKING:
    from gaussian_renderer.camera import Camera
    from piad.anomaly import DetectConfig
    from piad.views import View


def evened(models: ModelPair, cameras: Sequence[Camera], share: float) -> ModelPair:
    """The pair with a share of its view dependence about its mean over the gallery's cameras.

    Its `gloss` is what the whole view dependence was.

    Args:
        share: 1 leaves colours as they are; see `evened_colours`.
    """
    positions = torch.stack([camera.position for camera in cameras]).to(models.background)
    pair = models.colour, models.reflectance
    seen = [colours_from_all_sides(model, positions, models.centre) for model in pair]
    if share < 1:
        pair = [evened_colours(m, mean, share) for m, (mean, _) in zip(pair, seen, strict=True)]
    return ModelPair(*pair, gloss=seen[0][1].mean(1, keepdim=True).sqrt())


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
    shown.cuts = common_sizes(shown, cameras)
    return shown, gallery_detail(models, pairs, cfg)
