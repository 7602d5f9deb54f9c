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
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.files import atomic_path
from gaussian_renderer.render import render_values
from piad.anomaly import DetectConfig, Features, NormalMaps, distance_maps

if TYPE_CHECKING:
    from gaussian_renderer.gaussians import GaussianModel
    from piad.models import ModelPair
    from piad.views import View

VERSION = 1  # raise when the same inputs give other values
TINY = 1e-3  # px; keeps empty sums from being divided by nothing
LEAST_WEIGHT = 1.0  # px: a Gaussian seen by less than that gets the object's mean


@dataclass(frozen=True)
class Normality:
    """Mean distances, K kinds: of each Gaussian [N, K], of the backdrop [K], of the object [K]."""

    gaussians: Tensor
    backdrop: Tensor
    scale: Tensor

    def maps(self, model: GaussianModel, camera: Camera) -> NormalMaps:
        """What is normal at each pixel of a camera; `model`: the Gaussians that were taught."""
        seen = render_values(model, camera, self.gaussians, self.backdrop)
        return NormalMaps(seen.image, self.scale)

    @property
    def fingerprint(self) -> str:
        """Digest of the values."""
        digest = hashlib.blake2b(digest_size=16)
        for tensor in (self.gaussians, self.backdrop, self.scale):
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def learn_normality(
    models: ModelPair,
    pairs: list[tuple[View, View]],
    net: Features,
    cfg: DetectConfig,
    progress: Callable[[list], Iterable] = iter,
) -> Normality:
    """Compare gallery photographs with their renderings and put the distances on the Gaussians.

    A Gaussian's mean weighs each pixel by what the Gaussian contributes to it. A rendering is
    linear in the Gaussians' colours, so the gradient of sum_p m_p I_p with respect to a colour is
    the sum of a Gaussian's contributions times the map m.

    Args:
        pairs: gallery views and their reflectance views.
    """
    model = models.colour
    total, weight, backdrop, empty = 0.0, 0.0, 0.0, 0.0
    for view, reflectance in progress(pairs):
        with torch.inference_mode():
            seen = models.render(
                view.camera.viewmat(models.background.device), view.camera.intrinsics
            )
            drawn = seen.over(models.background)
            photo, photo_reflectance = (v.image().to(drawn) for v in (view, reflectance))
            alpha = seen.alpha[:1]
            maps = distance_maps(photo, drawn[:3], photo_reflectance, drawn[3:], alpha, net, cfg)
            maps = torch.cat([maps, torch.ones_like(maps[:1])])
        share = torch.zeros(len(model.means), len(maps), device=maps.device, requires_grad=True)
        image = render_values(model, view.camera, share).image
        (given,) = torch.autograd.grad((image * maps.clone()).sum(), share)
        total, weight = total + given[:, :-1], weight + given[:, -1:]
        left = 1 - alpha.clone()
        backdrop, empty = backdrop + (left * maps[:-1]).sum((1, 2)), empty + left.sum()
    scale = total.sum(0) / weight.sum().clamp_min(TINY)
    seen_enough = weight >= LEAST_WEIGHT
    gaussians = torch.where(seen_enough, total / weight.clamp_min(TINY), scale)
    return Normality(gaussians, backdrop / empty.clamp_min(TINY), scale)


def kept_normality(
    path: Path,
    models: ModelPair,
    models_id: str,
    pairs: list[tuple[View, View]],
    net: Features,
    cfg: DetectConfig,
    progress: Callable[[list], Iterable] = iter,
) -> Normality | None:
    """What `learn_normality` finds from at most `detect_normal_views` views, kept in `path`.

    None where `detect_normal_views` is 0. `models_id` tells one pair of models from another.
    """
    if cfg.detect_normal_views == 0:
        return None
    count = min(cfg.detect_normal_views, len(pairs))
    chosen = [pairs[k * len(pairs) // count] for k in range(count)]
    choices = asdict(cfg) | {"detect_sigma": None, "detect_top": None}  # these come later
    key = json.dumps([VERSION, models_id, net.name, choices], sort_keys=True)
    kept = _load(path, key, models.background.device)
    if kept is not None:
        return kept
    found = learn_normality(models, chosen, net, cfg, progress)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in vars(found).items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"key": key})
    return found


def _load(path: Path, key: str, device: torch.device) -> Normality | None:
    """What an earlier run kept in `path`, if it was made from the same inputs."""
    try:
        with safe_open(path, "pt") as content:
            if (content.metadata() or {}).get("key") != key:
                return None
            return Normality(
                **{name: content.get_tensor(name).to(device) for name in content.keys()}
            )
    except (OSError, SafetensorError):
        return None  # not made yet, or not by us: it is made anew
