"""Gallery photographs' detail for many poses at once: what the last step of a refinement sees.

Ours. As `piad.detail`, for renderings shrunk alike: an object's marks that the models have lost
tell a pose best where little else does. All photographs' differences lie in one tensor, made once
an object, so that a batch of poses is a few calls on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from gaussian_renderer.camera import Intrinsics
from piad.detail import (
    ANGLE_DEG,
    COVERED,
    at_object,
    blended,
    differences,
    image_matrix,
    world_points,
)
from piad.scoring import image_size
from piad.votes import SHRINK
from retrieval.replay import replayed

if TYPE_CHECKING:
    from piad.models import ModelPair
    from piad.refine_config import RefineConfig
    from piad.views import View


class LentDetail:
    """A gallery's differences from its renderings, shrunk.

    stacked: differences, depth and coverage of G views, [G, 8, h, w], half precision.
    """

    def __init__(
        self, models: ModelPair, pairs: Sequence[tuple[View, View]], shrink: int, num_views: int
    ) -> None:
        """
        Args:
            pairs: gallery views and their reflectance views, of one size.
            shrink: by which images are averaged down.
            num_views: photographs asked for each pose, the nearest by viewing direction.
        """
        cameras = [view.camera for view, _ in pairs]
        self.num_views = min(num_views, len(pairs))
        self.centre = models.host_centre
        self.directions = self._directions(torch.stack([c.world_to_camera for c in cameras]))
        with torch.no_grad():
            self.stacked = torch.stack([_shrunk(models, pair, shrink) for pair in pairs])
        matrices = torch.stack([image_matrix(camera) for camera in cameras])
        self.matrices = matrices.to(self.stacked.device, torch.float32)

    @torch.no_grad()
    def at(
        self, poses: Tensor, cameras: Tensor, intrinsics: Intrinsics, depth: Tensor, cover: Tensor
    ) -> Tensor:
        """What is to be added to renderings, [K N, 6, h, w].

        Args:
            poses: world_to_camera [N, 4, 4], float64, on the CPU, which choose the photographs.
            cameras: of the renderings, [K N, 4, 4]: K near each of `poses`, these first.
            intrinsics: of the renderings, shrunk and cut as they are.
            depth, cover: of the renderings, [K N, 1, h, w].
        """
        count, times = len(poses), len(cameras) // len(poses)
        cosines = (self._directions(poses) @ self.directions.T).clamp(-1, 1)
        angles, chosen = torch.rad2deg(cosines.acos()).topk(self.num_views, largest=False)
        weights = torch.exp(-0.5 * (angles / ANGLE_DEG) ** 2).to(depth)
        chosen = chosen.to(depth.device)
        points = world_points(depth[:, 0], cameras.to(depth), intrinsics)
        photos = [self.stacked[index] for index in chosen.T]
        rows = (weights, self.matrices[chosen], *photos)
        inside = cover > COVERED
        # Renderings of a pose one below the other: each photograph is fetched once for all.
        points, shown = (
            values.unflatten(0, (times, count)).movedim(0, 2).flatten(2, 3)
            for values in (points, inside)
        )  # [N, 3, K h, w], [N, 1, K h, w]
        lent = at_object(lambda at: replayed("lent", _blended, (), (at, *rows))[0], points, shown)
        lent = lent.unflatten(2, (times, -1)).movedim(2, 0).flatten(0, 1)
        return lent * inside

    def _directions(self, poses: Tensor) -> Tensor:
        """Unit vectors from the object's centre to cameras [N, 4, 4], [N, 3]."""
        positions = -(poses[:, :3, :3].mT @ poses[:, :3, 3:])[:, :, 0]
        return F.normalize(positions - self.centre, dim=1)


def lent_detail(
    models: ModelPair, pairs: Sequence[tuple[View, View]], cfg: RefineConfig
) -> LentDetail | None:
    """The detail that `cfg.refine_detail_views` asks for; None where it is 0 or sizes differ.

    Args:
        pairs: gallery views and their reflectance views.
    """
    sizes = {image_size(view.camera.intrinsics) for view, _ in pairs}
    if cfg.refiner != "second_order" or cfg.refine_detail_views == 0 or len(sizes) > 1:
        return None
    return LentDetail(models, pairs, SHRINK, cfg.refine_detail_views)


def _blended(points: Tensor, weights: Tensor, matrices: Tensor, *photos: Tensor) -> tuple[Tensor]:
    """`piad.detail.blended` as a recording takes it."""
    return (blended(points, weights, matrices, photos),)


def _shrunk(models: ModelPair, pair: tuple[View, View], shrink: int) -> Tensor:
    """`differences` of a view, averaged down, half precision."""
    full = differences(models, *pair)
    size = tuple(max(1, n // shrink) for n in full.shape[-2:])
    return area_average(full[None], size)[0].half()
