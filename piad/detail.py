"""Detail that gallery photographs show and the models do not, carried over to another camera.

Ours, not the paper's. A budget of Gaussians leaves fine texture blurred: compared with a sharp
photograph, every print, thread and speckle that the models have lost looks like a defect. The
photographs that the models were fitted to still have it. What the nearest of them differ from
their own renderings is moved along the models' depth to the camera that is asked for and added to
the rendering there. Only differences move: light and shape come from the models as before, and
where no photograph looks, or looks from too far aside, nothing is added.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Intrinsics, unproject
from piad.relight import places_held

if TYPE_CHECKING:
    from gaussian_renderer.camera import Camera
    from piad.anomaly import DetectConfig
    from piad.models import ModelPair, PairRendering
    from piad.views import View

ANGLE_DEG = 10.0  # a photograph from so far aside counts exp(-1/2) as much as one from here
DOUBT = 0.5  # weight of "nothing is missing": of a photograph a little aside
DEPTH_TOLERANCE = 0.02  # share of the depth by which both cameras may disagree about a place
COVERED = 0.5  # coverage under which a pixel belongs to the backdrop
KEPT_VIEWS = 64  # photographs' differences kept in memory, half precision


@dataclass(frozen=True, eq=False)
class _Seen:
    """A gallery view: differences photograph - rendering [6, H, W], depth and coverage [1, H, W];
    one tensor [8, H, W], float16. to_image: `image_matrix`, float32, there too."""

    stacked: Tensor
    to_image: Tensor


class GalleryDetail:
    """The gallery's photographs as a source of detail; renders each when it is first needed."""

    def __init__(self, models: ModelPair, pairs: list[tuple[View, View]], num_views: int) -> None:
        """
        Args:
            models: the pair that was fitted to the gallery.
            pairs: gallery views and their reflectance views.
            num_views: photographs asked for each camera, the nearest by viewing direction.
        """
        self.models, self.pairs, self.num_views = models, pairs, num_views
        self.centre = models.centre.double().cpu()  # once: asking a GPU for it means waiting
        self.directions = torch.stack([self._direction(view.camera) for view, _ in pairs])
        self._seen: OrderedDict[int, _Seen] = OrderedDict()

    def nearest(
        self, camera: Camera, without: str | None = None, halfway: str | None = None
    ) -> list[tuple[int, float]]:
        """(index, angle in degrees) of the views that look from nearest; see `at`."""
        cosines = (self.directions @ self._direction(camera)).clamp(-1, 1)
        angles = torch.rad2deg(cosines.acos()).tolist()
        names = [view.id for view, _ in self.pairs]
        if halfway is not None:
            own = names.index(halfway)
            others = angles[:own] + angles[own + 1 :]
            angles[own] = 0.5 * min(others, default=0.0)
        order = sorted(
            (k for k in range(len(names)) if names[k] != without), key=angles.__getitem__
        )
        return [(k, angles[k]) for k in order[: self.num_views]]

    @torch.inference_mode()
    def at(
        self,
        cameras: Sequence[Camera],
        seen: PairRendering,
        without: Sequence[str | None] | None = None,
        halfway: Sequence[str | None] | None = None,
    ) -> Tensor:
        """What is to be added to renderings, [B, 6, H, W]: colour, then reflectance.

        With d_g the difference photograph - rendering of view g at the place a pixel shows, v_g 1
        where g sees that place and 0 elsewhere, theta_g its angle aside,

            sum_g w_g d_g / (sum_g w_g + DOUBT),    w_g = v_g exp(-(theta_g / ANGLE_DEG)^2 / 2).

        Args:
            seen: the models rendered at `cameras`, [B, ...], with depth.
            without: for each camera the id of a view to leave out, or None: a photograph does not
                vouch for itself.
            halfway: for each camera the id of a view that counts as if it looked from half the
                angle to the next, or None: what a camera between views would find.
        """
        nothing = [None] * len(cameras)
        own = zip(cameras, without or nothing, halfway or nothing, strict=True)
        nearest = [self.nearest(*one) for one in own]
        depth = seen.depth[:, 0]
        viewmats = torch.stack([camera.world_to_camera for camera in cameras]).to(depth)
        points = world_points(depth, viewmats, [camera.intrinsics for camera in cameras])
        covered = seen.alpha[:, :1] > COVERED
        ranks = max(map(len, nearest))
        # A camera whose views have run out asks one of them that doesn't count.
        asked = [views + [(0, math.inf)] * (ranks - len(views)) for views in nearest]
        aside = torch.tensor([[angle for _, angle in views] for views in asked])
        weights = torch.exp(-0.5 * (aside / ANGLE_DEG) ** 2).to(points)
        views = [[self._view(index) for index, _ in own] for own in asked]
        matrices = torch.stack([torch.stack([view.to_image for view in own]) for own in views])
        photos = (torch.stack([view.stacked for view in own]) for own in zip(*views, strict=True))
        lent = at_object(lambda at: blended(at, weights, matrices, photos), points, covered)
        return lent.mul_(covered)

    def _direction(self, camera: Camera) -> Tensor:
        """Unit vector from the object's centre to the camera, [3], float64."""
        return F.normalize(camera.position.double() - self.centre, dim=0)

    def _view(self, index: int) -> _Seen:
        if index in self._seen:
            self._seen.move_to_end(index)
            return self._seen[index]
        stacked = differences(self.models, *self.pairs[index])
        to_image = image_matrix(self.pairs[index][0].camera).to(stacked)
        self._seen[index] = _Seen(stacked.half(), to_image)
        if len(self._seen) > KEPT_VIEWS:
            self._seen.popitem(last=False)
        return self._seen[index]


def gallery_detail(
    models: ModelPair, pairs: list[tuple[View, View]], cfg: DetectConfig
) -> GalleryDetail | None:
    """The detail that `cfg.detect_detail_views` asks for; None where it is 0."""
    if cfg.detect_detail_views == 0:
        return None
    return GalleryDetail(models, pairs, cfg.detect_detail_views)


def differences(models: ModelPair, view: View, reflectance: View) -> Tensor:
    """What a gallery view's photographs differ from their renderings, depth and coverage.

    [8, H, W]: six channels, then one each.
    """
    device = models.background.device
    seen = models.render(view.camera.viewmat(device), view.camera.intrinsics)
    photos = torch.cat([view.image(), reflectance.image()]).to(device)
    return torch.cat([photos - seen.over(models.background), seen.depth, seen.alpha[:1]])


def world_points(
    depth: Tensor, viewmat: Tensor, intrinsics: Intrinsics | Sequence[Intrinsics]
) -> Tensor:
    """Points [..., 3, H, W] that the pixels of depth images [..., H, W] show, in the world.

    Args:
        viewmat: world_to_camera [..., 4, 4], on the device of `depth`, in its type.
        intrinsics: of all, or of each of [B, H, W].
    """
    if isinstance(intrinsics, Intrinsics):
        local = intrinsics.unproject(depth)
    else:
        local = unproject(depth, intrinsics)
    local = local - viewmat[..., :3, 3, None, None]
    return (viewmat[..., :3, :3].mT @ local.flatten(-2)).unflatten(-1, depth.shape[-2:])


def look_up(stacked: Tensor, to_image: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of gallery views at points of the world, and whether the views see them.

    They do in front of them, inside their images, at the depth that is there.

    Args:
        stacked: of each view differences, depth and coverage, [N, 8, H, W]; to_image: its
            `image_matrix`, [N, 3, 4]; points: [N, 3, h, w].
    Returns:
        [N, 6, h, w] and [N, 1, h, w].
    """
    size = points.shape[2:]
    moved = torch.baddbmm(to_image[:, :, 3:], to_image[:, :, :3], points.flatten(2))  # [N, 3, h w]
    z = moved[:, 2]
    grid = (moved[:, :2] / z.clamp_min(1e-6)[:, None]).transpose(1, 2).unflatten(1, size)
    inside = moved[:, :2].abs().amax(1) < z
    sampled = F.grid_sample(stacked, grid, align_corners=False).flatten(2)
    visible = inside & (sampled[:, 7] > COVERED)
    visible = visible & ((sampled[:, 6] - z).abs() < DEPTH_TOLERANCE * z)
    return sampled[:, :6].unflatten(2, size), visible.unflatten(1, size)[:, None]


def blended(points: Tensor, weights: Tensor, matrices: Tensor, photos: Iterable[Tensor]) -> Tensor:
    """Gallery views' differences at points of the world [N, 3, h, w], weighed: [N, 6, h, w].

    As `GalleryDetail.at` has it.

    Args:
        weights: of V views, [N, V]; matrices: their `image_matrix`, [N, V, 3, 4]; photos: for each
            view what `look_up` takes, [N, 8, H, W], of any type.
    """
    total = torch.zeros_like(points[:, :1]).repeat(1, 6, 1, 1)
    known = torch.full_like(points[:, :1], DOUBT)
    for weight, matrix, photo in zip(weights.T, matrices.unbind(1), photos, strict=True):
        found, visible = look_up(photo.to(points), matrix, points)
        own = visible * weight[:, None, None, None]
        total.addcmul_(found, own)
        known += own
    return total / known


def at_object(blend: Callable[[Tensor], Tensor], points: Tensor, inside: Tensor) -> Tensor:
    """`blend` of points [N, 3, h, w]: [N, 6, h, w]; on a CPU of the object's alone, 0 elsewhere.

    Args:
        blend: takes points of one shape and returns six numbers of each.
        inside: masks of the object, [N, 1, h, w]; points that any of them holds are looked at.
    """
    places = places_held(inside.flatten(2))
    if places is None:
        return blend(points)
    found = blend(points.flatten(2).index_select(2, places)[:, :, None])
    size = points.shape[2:]
    whole = found.new_zeros(*found.shape[:2], size.numel())
    return whole.index_copy_(2, places, found[:, :, 0]).unflatten(2, size)


def image_matrix(camera: Camera) -> Tensor:
    """World points to z times (x, y, 1), x and y -1..1 from edge to edge of the image: [3, 4]."""
    own = camera.intrinsics
    x = [2 * own.fx / own.width, 0, 2 * own.cx / own.width - 1]
    y = [0, 2 * own.fy / own.height, 2 * own.cy / own.height - 1]
    calibration = torch.tensor([x, y, [0, 0, 1]], dtype=torch.float64)
    return calibration @ camera.world_to_camera[:3].double()
