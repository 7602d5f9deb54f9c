"""Which of several sides a query shows, told by features (ours).

Agreement counts shading. Under another lamp an object turned by a few teeth may be shaded more like
the query than the object itself is; features that are compared as in the detection know print,
holes and edges better. Measured in docs/method_refinement.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from piad.anomaly import TINY, DetectConfig, Features, feature_distances
from piad.anomaly_map import join_branches
from piad.close_up import object_window
from piad.models import CHANNELS, ModelPair
from piad.relight import relight
from piad.scoring import batch_size
from piad.view_dependence import evened

if TYPE_CHECKING:
    from piad.target import Target

# How features are compared, whatever the detection is set to: poses do not depend on it.
CHOICES = DetectConfig()
BRANCHES = 2  # colour and reflectance


class Sides:
    """How much a query's features differ from those of an object at several poses."""

    def __init__(
        self, models: ModelPair, cameras: Sequence[Camera], load: Callable[[], Features]
    ) -> None:
        """
        Args:
            models: as they were fitted; cameras: the gallery's.
            load: the feature network, loaded where it is first needed.
        """
        self._fitted, self._cameras, self._load = models, cameras, load

    @cached_property
    def net(self) -> Features:
        """The feature network."""
        return self._load()

    @cached_property
    def models(self) -> ModelPair:
        """What queries are compared with."""
        return evened(self._fitted, self._cameras, CHOICES.detect_view_dependence)

    @torch.inference_mode()
    def differences(self, target: Target, poses: Tensor) -> Tensor:
        """Of a query's features and the renderings' at poses, [N], >= 0, on the CPU.

        Their distances' weighted mean, summed over layers and kinds. Weights are how much the
        renderings' features differ among themselves: what all sides have in common tells none
        from another.

        Args:
            target: the query, not stacked; poses: world_to_camera [N, 4, 4], nearly the same
                outlines: all are looked at in the first one's window.
        """
        camera = Camera(target.intrinsics, poses[0])
        window = object_window(self.models, camera)
        shown = camera.cropped(window.x, window.y, window.width, window.height).intrinsics
        photo = window.cut(target.image).unflatten(0, (BRANCHES, CHANNELS // BRANCHES))
        photo_layers, wanted = self.net.features(photo), CHOICES.layers()
        drawn_layers: list[list[Tensor]] = [[] for _ in wanted]
        found: list[list[Tensor]] = [[] for _ in range(len(CHOICES.kinds()) * len(wanted))]
        for some in poses.split(batch_size(photo.device)):
            count = len(some)
            seen = self.models.render(some.to(photo), shown)
            drawn = seen.over(self.models.background).unflatten(1, (BRANCHES, -1)).flatten(0, 1)
            cover = seen.cover.repeat_interleave(BRANCHES, 0)
            lit = relight(drawn, photo.repeat(count, 1, 1, 1), cover, CHOICES.relight_window)
            layers = self.net.features(lit)
            photos = [layer.repeat(count, 1, 1, 1) for layer in photo_layers]
            distances, _ = feature_distances(photos, layers, cover, CHOICES, self.net.name)
            for kept, index in zip(drawn_layers, wanted, strict=True):
                kept.append(layers[index].unflatten(0, (count, BRANCHES)))
            for kept, own in zip(found, distances, strict=True):
                own = own.unflatten(0, (count, BRANCHES)).squeeze(2)
                kept.append(join_branches(own, CHOICES.detect_distance)[:, 0])
        weights = [_spread(torch.cat(kept)) for kept in drawn_layers] * len(CHOICES.kinds())
        parts = zip(found, weights, strict=True)
        return sum((torch.cat(kept) * weight).sum((1, 2)) for kept, weight in parts).cpu()


def _spread(features: Tensor) -> Tensor:
    """How much features [N, R, C, h, w] differ among N renderings, [h, w]; its sum is 1."""
    spread = features.var(0, unbiased=False).sum(1, keepdim=True)
    spread = join_branches(spread, CHOICES.detect_distance)[0]
    return spread / spread.sum().clamp_min(TINY)
