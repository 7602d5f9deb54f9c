"""Models for the search: few Gaussians, each model fitted at the resolution it is rendered at.

No splat gets narrower than the filter of a pixel. The full model rendered small is therefore fatter
than its photograph averaged down, and costs nearly what it costs at full size. A model of few
Gaussians, fitted to the full model's renderings averaged down, is neither (ours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.fit import FitConfig, fit
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.render import render
from retrieval.cache import cached_features, signature_of
from retrieval.warp import fitted


@dataclass(frozen=True)
class Resolution:
    """One resolution of the search.

    share: of the finest one's longer side; num_gaussians: of its model; fit_share: of the finest
    model's steps.
    """

    share: float
    num_gaussians: int
    fit_share: float


RESOLUTIONS = (
    Resolution(0.24, 600, 0.4),
    Resolution(0.32, 1000, 0.5),
    Resolution(0.50, 2000, 0.6),
    Resolution(1.00, 4000, 1.0),
)
LEAST_PX = 20  # no resolution is smaller: two of its windows lie side by side


@dataclass(frozen=True)
class SmallModel:
    """Gaussians that look, at a focal length of about `focal_px`, like photographs averaged."""

    gaussians: GaussianModel
    focal_px: float


def small_models(
    full: GaussianModel,
    cameras: Sequence[Camera],
    finest_px: int,
    fit_steps: int,
    path: Path | None,
) -> list[SmallModel]:
    """A model for each of the resolutions, coarse to fine, on the device of the full one.

    Args:
        full: the object's model; any number of channels.
        cameras: where the full model is rendered for the fit, one size.
        finest_px: longer side of the finest resolution; fit_steps: of its model.
        path: file that keeps the models; None: nowhere.
    """
    names = [field.name for field in fields(GaussianModel)]
    poses = torch.stack([camera.world_to_camera for camera in cameras])
    shape = cameras[0].intrinsics
    settings = (shape, finest_px, fit_steps, RESOLUTIONS)
    signature = signature_of(*full.tensors().values(), poses, *settings)

    def make() -> list[dict[str, Tensor]]:
        made = _fit_all(full, cameras, finest_px, fit_steps)
        return [{name: getattr(model, name) for name in names} for model in made]

    kept = cached_features(path, signature, make)
    return [
        SmallModel(
            GaussianModel(**one).to(full.device), fitted(shape, _side(resolution, finest_px)).fx
        )
        for resolution, one in zip(RESOLUTIONS, kept, strict=True)
    ]


def _side(resolution: Resolution, finest_px: int) -> int:
    return max(LEAST_PX, round(resolution.share * finest_px))


def _fit_all(
    full: GaussianModel, cameras: Sequence[Camera], finest_px: int, fit_steps: int
) -> list[GaussianModel]:
    finest = fitted(cameras[0].intrinsics, finest_px)
    with torch.no_grad():  # kept no larger than the finest resolution
        images = [
            _averaged(render(full, camera).image, finest.height, finest.width) for camera in cameras
        ]
    models = []
    for resolution in RESOLUTIONS:
        pinhole = fitted(cameras[0].intrinsics, _side(resolution, finest_px))
        count, steps = resolution.num_gaussians, round(resolution.fit_share * fit_steps)
        config = FitConfig(
            iterations=steps,
            max_gaussians=count,
            initial_points=count // 2,
            sh_degree=1,
            sh_every=max(1, steps // 3),
            coarse_factor=1,
            densify_from=100,
            densify_every=100,
            densify_until=2 * steps // 3,
            prune_opacity=0.02,
            alpha_weight=0.1,
            alpha_inside_from=0.7,
            average_from=1.0,
            check_views=0,
        )
        models.append(
            fit(
                [Camera(pinhole, camera.world_to_camera) for camera in cameras],
                [_averaged(image, pinhole.height, pinhole.width).cpu() for image in images],
                config,
                device=full.device,
                progress=False,
            ).detach()
        )
    return models


def _averaged(image: Tensor, height: int, width: int) -> Tensor:
    """[C, H, W] -> [C, height, width] by area, 0..1."""
    return F.interpolate(image[None], (height, width), mode="area")[0].clamp(0, 1)
