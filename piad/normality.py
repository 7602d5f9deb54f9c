"""How a flawless object differs from its own renderings, and where: learned from the gallery.

Ours, not the paper's. The models are blurred in places that few photographs show, edges and
highlights are never met exactly, and a feature network finds more to say about some textures than
about others. So each gallery photograph is compared with its own rendering, the way a query is, and
the distances are put on the object: every Gaussian gets the mean of what was seen where it shows.
Rendered at a query's pose they say what is normal there. The photographs have trained the models,
so all of this is a little lower than at new poses and under other lights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.files import atomic_path
from gaussian_renderer.render import render_values
from piad.anomaly import DetectConfig, Features, fraction
from piad.models import CHANNELS
from piad.scoring import Shot, batch_size, batches, close_ups, compare_at, image_size

if TYPE_CHECKING:
    from gaussian_renderer.gaussians import GaussianModel
    from piad.detail import GalleryDetail
    from piad.models import ModelPair
    from piad.views import View

VERSION = 8  # raise when the same inputs give other values
GROUPS = 5  # of views; the threshold leaves one out at a time
TINY = 1e-3  # px; keeps empty sums from being divided by nothing
LEAST_WEIGHT = 0.25  # px at half size: a Gaussian seen by less than that gets the object's mean


@dataclass(frozen=True)
class Normality:
    """Mean distances, K as `Compared.stacked`.

    gaussians: of each Gaussian [N, K]; backdrop: where none is [K]; scale: over the object [K].
    """

    gaussians: Tensor
    backdrop: Tensor
    scale: Tensor

    def maps(self, model: GaussianModel, cameras: Sequence[Camera]) -> Tensor:
        """What is normal in cameras' images at half their size, [B, K, H / 2, W / 2].

        Args:
            model: the Gaussians that were taught.
            cameras: of one image size.
        """
        count, small = self.gaussians.shape[1], [half(camera) for camera in cameras]
        at_once = CHANNELS if model.means.is_cuda else count
        fill = (0, -count % at_once)
        values, empty = F.pad(self.gaussians, fill), F.pad(self.backdrop, fill)
        parts = zip(values.split(at_once, 1), empty.split(at_once), strict=True)
        images = [render_values(model, small, own, behind).image for own, behind in parts]
        return torch.cat(images, 1)[:, :count]

    @property
    def fingerprint(self) -> str:
        """Digest of the values."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.gaussians, self.backdrop, self.scale):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class GallerySums:
    """Distances put on the object, summed over G groups of gallery views, not divided yet.

    gaussians [G, N, K]; weight [G, N, 1], px; backdrop [G, K]; empty [G], px of bare backdrop.
    """

    gaussians: Tensor
    weight: Tensor
    backdrop: Tensor
    empty: Tensor

    def normality(self, without: int | None = None) -> Normality:
        """What is normal; `without` leaves a group out, unless there is only one."""
        groups = range(len(self.empty))
        chosen = [k for k in groups if k != without] or list(groups)
        total, weight = self.gaussians[chosen].sum(0), self.weight[chosen].sum(0)
        scale = total.sum(0) / weight.sum().clamp_min(TINY)
        seen_enough = weight >= LEAST_WEIGHT
        gaussians = torch.where(seen_enough, total / weight.clamp_min(TINY), scale)
        backdrop = self.backdrop[chosen].sum(0) / self.empty[chosen].sum().clamp_min(TINY)
        return Normality(gaussians, backdrop, scale)


def learn_normality(
    models: ModelPair,
    pairs: list[tuple[View, View]],
    net: Features,
    cfg: DetectConfig,
    progress: Callable[[list], Iterable] = iter,
    detail: GalleryDetail | None = None,
) -> GallerySums:
    """Compare gallery photographs with their renderings and put the distances on the Gaussians.

    A Gaussian's mean weighs each pixel by what the Gaussian contributes to it. A rendering is
    linear in the Gaussians' colours, so the gradient of sum_p m_p I_p with respect to a colour is
    the sum of a Gaussian's contributions times the map m.

    Args:
        pairs: gallery views and their reflectance views; the k-th belongs to `group_of(k)`.
        detail: as the queries' renderings will get it; each view does without its own.
    """
    groups: list[list[Tensor]] = [[] for _ in range(min(GROUPS, len(pairs)))]
    index = 0
    size = batch_size(models.background.device)
    for batch in batches(progress(pairs), size, lambda pair: image_size(pair[0].camera.intrinsics)):
        shots = [_shot(view, reflectance, detail) for view, reflectance in batch]
        for group in close_ups(models, shots, cfg):
            parts = [shot for _, shot, _ in group]
            compared, _ = compare_at(models, parts, net, cfg)
            camera = half(parts[0].camera)
            maps = compared.stacked((camera.intrinsics.height, camera.intrinsics.width)).clone()
            for (number, shot, _), own_maps in zip(group, maps, strict=True):
                found = put_on_gaussians(models, half(shot.camera), own_maps)
                own = groups[group_of(index + number)]
                own[:] = [old + new for old, new in zip(own, found, strict=True)] if own else found
        index += len(batch)
    return GallerySums(*(torch.stack(parts) for parts in zip(*groups, strict=True)))


def half(camera: Camera) -> Camera:
    """The camera with an image of half the size, rounded up: distances are coarser than pixels."""
    own = camera.intrinsics
    return Camera(own.resized(*fraction((own.width, own.height), 2)), camera.world_to_camera)


def group_of(index: int) -> int:
    """The group of the k-th view that teaches: neighbours belong to different ones."""
    return index % GROUPS


def teaching_views(pairs: list, cfg: DetectConfig) -> list:
    """At most `detect_normal_views` of the gallery's views (or pairs), evenly spread."""
    return evenly(pairs, cfg.detect_normal_views)


def evenly(items: list, count: int) -> list:
    """At most `count` items, spread evenly over the list, in its order."""
    count = min(count, len(items))
    return [items[k * len(items) // count] for k in range(count)]


def _shot(view: View, reflectance: View, detail: GalleryDetail | None) -> Shot:
    """A gallery view, to be compared without what it could lend itself."""
    return Shot(view.camera, view.image(), reflectance.image(), detail, without=view.id)


def put_on_gaussians(models: ModelPair, camera: Camera, maps: Tensor) -> list[Tensor]:
    """One view's share of each tensor of `GallerySums`; maps [K, H, W] of the camera's size."""
    model, count = models.colour, len(maps)
    weights = torch.cat([maps, torch.ones_like(maps[:1])])
    given, left = [], None
    for chunk in weights.split(CHANNELS):
        share = torch.zeros(len(model.means), CHANNELS, device=maps.device, requires_grad=True)
        seen = render_values(model, camera, share)
        given.append(torch.autograd.grad((seen.image[: len(chunk)] * chunk).sum(), share)[0])
        left = 1 - seen.alpha.detach()
    given = torch.cat(given, 1)
    return [
        given[:, :count],
        given[:, count : count + 1],
        (left * maps).sum((1, 2)),
        left.sum(),
    ]


def kept_normality(
    path: Path,
    models: ModelPair,
    models_id: str,
    pairs: list[tuple[View, View]],
    net: Features,
    cfg: DetectConfig,
    progress: Callable[[list], Iterable] = iter,
    detail: GalleryDetail | None = None,
) -> GallerySums | None:
    """What `learn_normality` finds from the teaching views, kept in `path`.

    None where `detect_normal_views` is 0. `models_id` tells one pair of models from another.
    """
    if cfg.detect_normal_views == 0:
        return None
    later = "detect_sigma", "detect_top", "detect_change", "detect_glare"  # distances know none
    later += "detect_facing", "detect_hue"
    choices = asdict(cfg) | dict.fromkeys(later)
    key = json.dumps([VERSION, models_id, net.name, choices], sort_keys=True)
    kept = _load(path, key, models.background.device)
    if kept is not None:
        return kept
    found = learn_normality(models, teaching_views(pairs, cfg), net, cfg, progress, detail)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in vars(found).items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"key": key})
    return found


def _load(path: Path, key: str, device: torch.device) -> GallerySums | None:
    """What an earlier run kept in `path`, if it was made from the same inputs."""
    try:
        with safe_open(path, "pt") as content:
            if (content.metadata() or {}).get("key") != key:
                return None
            return GallerySums(
                **{name: content.get_tensor(name).to(device) for name in content.keys()}
            )
    except (OSError, SafetensorError):
        return None  # not made yet, or not by us: it is made anew
