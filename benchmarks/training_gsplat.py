"""gsplat's DefaultStrategy on our photos, through gsplat's documented interface (1.5).

Rates and schedule are those of the standard recipe (Kerbl et al. 2023), which gsplat's strategy
follows too; Adam is torch's fused one and the loss is ours, so that what differs is gsplat's
rasterizer and strategy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gaussian_renderer.backdrop import estimate_backdrop
from gaussian_renderer.camera import Camera
from gaussian_renderer.fit_config import FitConfig
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.losses import compare
from gaussian_renderer.optimiser import ADAM_EPS
from gaussian_renderer.points import PointCloud
from gaussian_renderer.seeding import initial_model, scene_extent

NAMES = {"means": "means", "quats": "quats", "log_scales": "scales", "logit_opacities": "opacities"}


def parameters_of(model: GaussianModel, device: torch.device) -> torch.nn.ParameterDict:
    """The model as gsplat's strategies expect it: raw values, constant and higher SH apart."""
    values = {new: getattr(model, old) for old, new in NAMES.items()}
    values |= {"sh0": model.sh[:, :1], "shN": model.sh[:, 1:]}
    return torch.nn.ParameterDict(
        {k: torch.nn.Parameter(v.detach().clone().contiguous()) for k, v in values.items()}
    ).to(device)


def model_of(parameters, background: Tensor) -> GaussianModel:
    """The way back."""
    values = {old: parameters[new].detach() for old, new in NAMES.items()}
    sh = torch.cat([parameters["sh0"], parameters["shN"]], 1).detach()
    return GaussianModel(**values, sh=sh, background=background)


def optimisers_of(
    parameters: torch.nn.ParameterDict, config: FitConfig, extent: float
) -> dict[str, torch.optim.Optimizer]:
    """One Adam per tensor, as gsplat's strategies expect."""
    rates = {
        "means": config.lr_means * extent, "quats": config.lr_quats, "scales": config.lr_scales,
        "opacities": config.lr_opacities, "sh0": config.lr_sh, "shN": config.lr_sh_higher,
    }  # fmt: skip
    return {
        k: torch.optim.Adam([parameters[k]], lr=lr, eps=ADAM_EPS, fused=True)
        for k, lr in rates.items()
    }


def strategy_of(config: FitConfig):
    """gsplat's DefaultStrategy with the recipe's schedule."""
    from gsplat import DefaultStrategy

    return DefaultStrategy(
        prune_opa=config.prune_opacity, grow_grad2d=config.densify_gradient,
        refine_start_iter=config.densify_from, refine_stop_iter=config.densify_until,
        reset_every=config.opacity_reset_every, refine_every=config.densify_every,
    )  # fmt: skip


def train(
    cameras: Sequence[Camera],
    photos: Sequence[Tensor],
    points: PointCloud | None,
    config: FitConfig,
    device: torch.device,
    seed: int,
    measure: Callable[[int, float, GaussianModel], None],
    every: int,
) -> None:
    """Train on photos [3, H, W]; `measure(step, seconds, model)` every `every` steps, untimed."""
    from gsplat import rasterization

    began = time.monotonic()
    backdrop = estimate_backdrop(photos)
    background = backdrop.colour.to(device)
    start = initial_model(
        cameras, photos, backdrop.colour, cloud=points, silhouettes=None,
        count=config.initial_points, sh_degree=config.sh_degree, opacity=config.initial_opacity,
        seed=seed,
    )  # fmt: skip
    parameters = parameters_of(start, device)
    extent = scene_extent(cameras)
    optimisers = optimisers_of(parameters, config, extent)
    decay = (config.lr_means_final / config.lr_means) ** (1 / config.iterations)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimisers["means"], decay)
    strategy = strategy_of(config)
    strategy.check_sanity(parameters, optimisers)
    state = strategy.initialize_state(scene_scale=extent)
    targets = [photo.to(device) for photo in photos]
    viewmats = torch.stack([c.viewmat() for c in cameras]).to(device)
    pinholes = torch.stack([c.intrinsics.matrix() for c in cameras]).to(device)
    generator, order = torch.Generator().manual_seed(seed), []
    for step in range(config.iterations):
        order = order or torch.randperm(len(targets), generator=generator).tolist()
        view = order.pop()
        height, width = targets[view].shape[1:]
        degree = min(config.sh_degree, step // config.sh_every)
        image, _, info = rasterization(
            parameters["means"], parameters["quats"], parameters["scales"].exp(),
            parameters["opacities"].sigmoid(),
            torch.cat([parameters["sh0"], parameters["shN"]], 1),
            viewmats[view][None], pinholes[view][None], width, height,
            sh_degree=degree, packed=False, backgrounds=background[None],
        )  # fmt: skip
        strategy.step_pre_backward(parameters, optimisers, state, step, info)
        image = image[0].permute(2, 0, 1)
        image.backward(compare(image, targets[view], config.ssim_weight).v_image)
        for optimiser in optimisers.values():
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        schedule.step()
        strategy.step_post_backward(parameters, optimisers, state, step, info, packed=False)
        if (step + 1) % every == 0:
            torch.cuda.synchronize(device)
            now = time.monotonic()
            measure(step + 1, now - began, model_of(parameters, background))
            began += time.monotonic() - now
