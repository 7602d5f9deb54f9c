"""Where a fit starts: the background's colour and the first Gaussians, from some of the photos."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaussian_renderer.backdrop import Silhouettes
from gaussian_renderer.fit_config import FitConfig
from gaussian_renderer.fit_data import Gallery, Subset
from gaussian_renderer.gaussians import SH_C0, GaussianModel, with_sh_degree
from gaussian_renderer.points import PointCloud
from gaussian_renderer.seeding import initial_model, splat_weighted_colours


def spread(indices: Sequence[int], count: int, turn: int) -> list[int]:
    """`count` of the indices at even distances, all if they are fewer; `turn` shifts the choice."""
    if count >= len(indices):
        return list(indices)
    places = {(k * len(indices) // count + turn) % len(indices) for k in range(count)}
    return [indices[k] for k in sorted(places)]


def corner(image: Tensor) -> Tensor:
    """The original's background: the pixel (5, 5) of a photo [C, H, W]."""
    return image[:, min(5, image.shape[1] - 1), min(5, image.shape[2] - 1)].float()


def starting_model(
    config: FitConfig,
    gallery: Gallery,
    views: Sequence[int],
    silhouettes: Silhouettes | None,
    initial: PointCloud | GaussianModel | None,
    seed: int,
    frozen: bool,
) -> GaussianModel:
    """The Gaussians that a fit of `gallery` starts from.

    Args:
        views: the photos that may tell colours.
        silhouettes: of those photos; None where they are of no use.
        initial: points or a model to start from, else the hull or the common view.
        frozen: the geometry of `initial` stays, so its colours must be these photos' own.
    """
    photos = Subset(gallery.images, views)
    cameras = [gallery.cameras[i] for i in views]
    background = _first_background(config, gallery, photos)
    if not isinstance(initial, GaussianModel):
        return initial_model(
            cameras,
            photos,
            background,
            cloud=initial,
            silhouettes=silhouettes,
            count=config.initial_points,
            sh_degree=config.sh_degree,
            opacity=config.initial_opacity,
            seed=seed,
        )
    sh = with_sh_degree(initial.sh.detach(), config.sh_degree).contiguous()
    if frozen or initial.num_channels != len(background):
        # its colours are of other images: begin with the mean colour under each Gaussian
        colours = splat_weighted_colours(initial.to(gallery.device), cameras, photos)
        sh = sh.new_zeros(*sh.shape[:2], len(background))
        sh[:, 0] = (colours - 0.5) / SH_C0
    return initial.detach().with_sh(sh, background.to(sh))


def _first_background(config: FitConfig, gallery: Gallery, photos: Sequence[Tensor]) -> Tensor:
    colour = gallery.backdrop.colour
    if config.fit_background == "corner":
        return torch.stack([corner(photo) for photo in photos]).median(0).values
    fixed = {"white": torch.ones_like(colour), "black": torch.zeros_like(colour)}
    return fixed.get(config.fit_background, colour).float()
