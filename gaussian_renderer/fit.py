"""fit(cameras, images, config) -> GaussianModel: photographs become Gaussians.

3D Gaussian Splatting (Kerbl et al. 2023) with a budget of Gaussians, a start on the visual hull
where the backdrop is plain, alpha held to what the backdrop tells, and a schedule for few
iterations. Any number of channels: colour and reflectance can be fitted as one model of six.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer.backdrop import estimate_backdrop
from gaussian_renderer.camera import Camera
from gaussian_renderer.densify import DensityControl, prune, reset_opacity, without_invisible
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_json
from gaussian_renderer.fit_config import BACKGROUNDS, ORIGINAL, FitConfig
from gaussian_renderer.fit_data import (
    Gallery,
    Subset,
    fingerprint,
    load_checkpoint,
    save_checkpoint,
)
from gaussian_renderer.gaussians import SH_C0, GaussianModel, with_sh_degree
from gaussian_renderer.image_metrics import psnr, ssim
from gaussian_renderer.losses import photometric_loss
from gaussian_renderer.optimiser import GaussianOptimiser
from gaussian_renderer.points import PointCloud
from gaussian_renderer.render import render
from gaussian_renderer.seeding import initial_model, scene_extent, splat_weighted_colours

__all__ = ["ORIGINAL", "FitConfig", "PointCloud", "evaluate", "fit"]

REPORT_NAME = "fit_report.json"
ALL_SEED_STEP = 1_000_003  # keeps the random streams of two seeds apart


def fit(
    cameras: Sequence[Camera],
    images: Sequence[Tensor],
    config: FitConfig,
    *,
    initial: PointCloud | GaussianModel | None = None,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    freeze_geometry: bool = False,
    name: str = "colour",
    progress: bool = True,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> GaussianModel:
    """Fit Gaussians to photographs.

    Args:
        cameras: one per photo.
        images: [C, H, W] each, 0..1, at the camera's size; any sequence, so photos may be loaded
            on access. C is any number; the first three channels tell the backdrop.
        initial: points to start from, or a model to go on from (needed by `freeze_geometry`).
            None: the visual hull where the backdrop is plain, else random points.
        folder: for the checkpoint (with which an interrupted fit goes on, to the same result on
            the CPU) and for fit_report.json.
        freeze_geometry: fit colours only; means, rotations, scales and opacities stay exactly.
        name: shown on the progress bar and written into the report.
        on_step: called after every step with its number and {loss, psnr, num_gaussians}.
    Returns:
        The model on `device`. With `config.holdout` the photos held out are measured and reported,
        never fitted.
    """
    _check(cameras, images, config, initial, freeze_geometry)
    fitting = _Fit(cameras, images, config, initial, device, seed, freeze_geometry, name)
    fitting.run(folder, progress, on_step)
    model = fitting.finished_model()
    if folder is not None:
        write_json(Path(folder) / REPORT_NAME, fitting.report(model))
    return model


def _check(cameras, images, config: FitConfig, initial, freeze_geometry: bool) -> None:
    if not len(cameras) or len(cameras) != len(images):
        raise UserError(
            f"a fit needs as many photos as poses, at least one; found {len(images)} photos and "
            f"{len(cameras)} poses; check the gallery's folder against its poses"
        )
    if config.fit_background not in BACKGROUNDS:
        raise UserError(
            f"fit_background is one of {', '.join(BACKGROUNDS)}, not {config.fit_background!r}; "
            "mend the config"
        )
    if config.sh_degree not in range(4):
        raise UserError(f"sh_degree is 0..3, not {config.sh_degree}; mend the config")
    if freeze_geometry and not isinstance(initial, GaussianModel):
        raise ValueError("freeze_geometry needs a GaussianModel as `initial`")


class _Fit:
    """The state of one fit. Random numbers follow from seed and step alone: resuming is exact."""

    def __init__(self, cameras, images, config, initial, device, seed, frozen, name) -> None:
        self.config, self.seed, self.frozen, self.name = config, seed, frozen, name
        self.device = torch.device(device)
        self.num_steps = config.frozen_iterations if frozen else config.iterations
        held = set(range(0, len(cameras), config.holdout)) if config.holdout > 1 else set()
        self.held_out = sorted(held) if len(held) < len(cameras) else []
        self.used = [i for i in range(len(cameras)) if i not in self.held_out]
        self.backdrop = estimate_backdrop(Subset(images, self.used))
        self.gallery = Gallery(cameras, images, self.backdrop, self.device)
        self.extent = scene_extent(cameras)
        start = self._start(initial)
        self.optimiser = GaussianOptimiser(start.to(self.device), self._rates())
        self.density = DensityControl(start.num_gaussians, self.device)
        self.first_count = start.num_gaussians
        self.step = 0
        self.seconds = 0.0
        self.error_sum, self.error_count = 0.0, 0  # squared error of this pass over the gallery
        self.psnr_by_epoch: list[float] = []
        self.stopped_early = False
        self.key = fingerprint(
            asdict(config) | {"seed": seed, "frozen": frozen}, cameras, images, start
        )

    def _start(self, initial):
        config, background = self.config, self._initial_background()
        views = Subset(self.gallery.images, self.used)
        cameras = [self.gallery.cameras[i] for i in self.used]
        if isinstance(initial, GaussianModel):
            sh = with_sh_degree(initial.sh.detach(), config.sh_degree).contiguous()
            if self.frozen or initial.num_channels != len(background):
                # its colours are of other images: begin with the mean colour under each Gaussian
                colours = splat_weighted_colours(initial.to(self.device), cameras, views)
                sh = sh.new_zeros(*sh.shape[:2], len(background))
                sh[:, 0] = (colours - 0.5) / SH_C0
            return initial.detach().with_sh(sh, background.to(sh))
        return initial_model(
            cameras,
            views,
            self.backdrop,
            background,
            cloud=initial,
            count=config.initial_points,
            sh_degree=config.sh_degree,
            opacity=config.initial_opacity,
            carved=config.alpha_weight > 0,
            seed=self.seed,
        )

    def _initial_background(self) -> Tensor:
        colour = self.backdrop.colour
        if self.config.fit_background == "corner":
            corners = torch.stack([self._corner(i) for i in self.used])
            return corners.median(0).values
        fixed = {"white": torch.ones_like(colour), "black": torch.zeros_like(colour)}
        return fixed.get(self.config.fit_background, colour).float()

    def _corner(self, view: int) -> Tensor:
        """The original's background: the pixel (5, 5)."""
        image = self.gallery.original(view)
        return image[:, min(5, image.shape[1] - 1), min(5, image.shape[2] - 1)].float()

    def _rates(self) -> dict[str, float]:
        c = self.config
        rates = {"sh_constant": c.lr_sh, "sh_higher": c.lr_sh_higher}
        if not self.frozen:
            rates |= {
                "means": c.lr_means * self.extent,
                "quats": c.lr_quats,
                "log_scales": c.lr_scales,
                "logit_opacities": c.lr_opacities,
            }
        if c.fit_background == "learn" or (c.fit_background == "auto" and not self.backdrop.plain):
            rates["background"] = c.lr_background
        return rates

    def run(self, folder, progress: bool, on_step) -> None:
        path = None if folder is None else Path(folder) / "checkpoint.pt"
        state = None if path is None else load_checkpoint(path, self.key)
        if state is not None:
            self.restore(state)
        bar = tqdm(
            total=self.num_steps, initial=self.step, desc=f"fit {self.name}", mininterval=1.0,
            disable=not progress, unit="step",
        )  # fmt: skip
        began, before = time.monotonic(), self.seconds
        with bar:
            while self.step < self.num_steps and not self.stopped_early:
                figures = self._one_step()
                self.seconds = before + time.monotonic() - began
                if self.step % 20 == 0:
                    shown = f"{figures['psnr']:.2f} dB, {self.optimiser.num_gaussians} Gaussians"
                    bar.set_postfix_str(shown, refresh=False)
                bar.update()
                if path is not None and self._checkpoint_due():
                    save_checkpoint(path, self.key, self.state())
                if on_step is not None:
                    on_step(self.step, figures)

    def _checkpoint_due(self) -> bool:
        last = self.step == self.num_steps or self.stopped_early
        return last or self.step % self.config.checkpoint_every == 0

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * ALL_SEED_STEP + stream)

    def _view(self) -> int:
        """Photos in a new random order on each pass over the gallery."""
        epoch, position = divmod(self.step, len(self.used))
        order = torch.randperm(len(self.used), generator=self._generator(epoch))
        return self.used[int(order[position])]

    def _one_step(self) -> dict[str, float]:
        """One photo: render, compare, step, and control the density when it is time."""
        c = self.config
        view = self._view()
        coarse = c.coarse_factor > 1 and self.step < c.coarse_share * self.num_steps
        target = self.gallery.view(view, c.coarse_factor if coarse else 1, c.alpha_weight > 0)
        degree = c.sh_degree if self.frozen else min(c.sh_degree, self.step // c.sh_every)
        growing = not self.frozen and self.step < c.densify_until
        model = self.optimiser.model(degree)
        offset = model.means.new_zeros(model.num_gaussians, 2).requires_grad_() if growing else None
        drawn = render(model, target.camera, self._background(view), means2d_offset=offset)
        loss = photometric_loss(drawn.image, target.image, c.ssim_weight)
        if target.alpha_sign is not None and not self.frozen:
            sign = target.alpha_sign
            if self.step < c.alpha_inside_from * self.num_steps:
                # opaque too early, the first clutter in a line of sight would hide the object
                sign = sign.clamp_min(0)
            loss = loss + c.alpha_weight * (drawn.alpha * sign).mean()
        loss.backward()
        if growing:
            size = drawn.image.shape[1:]
            self.density.observe(offset.grad, drawn.radii, (size[0], size[1]))
        self._set_rates()
        self.optimiser.step()
        self.step += 1
        if not self.frozen:
            self._control_density()
        error = (drawn.image.detach() - target.image).square().mean().item()
        self._watch(error)
        return {
            "loss": loss.item(),
            "psnr": -10 * math.log10(max(error, 1e-10)),
            "num_gaussians": self.optimiser.num_gaussians,
        }

    def _background(self, view: int) -> Tensor | None:
        """None for the model's own; the original draws white first, then the pixel (5, 5)."""
        if self.config.fit_background != "corner":
            return None
        if self.step < self.config.background_from:
            return torch.ones(len(self.backdrop.colour), device=self.device)
        return self._corner(view).to(self.device)

    def _set_rates(self) -> None:
        c, progress = self.config, self.step / self.num_steps
        factors = dict.fromkeys(self.optimiser.base_rates, c.lr_final_share**progress)
        factors["means"] = (c.lr_means_final / c.lr_means) ** progress
        self.optimiser.scale_rates(factors)

    def _control_density(self) -> None:
        c = self.config
        if c.densify_from <= self.step <= c.densify_until and self.step % c.densify_every == 0:
            target = None
            if c.max_gaussians:
                span = max(1, c.densify_until - c.densify_every)
                share = min(1.0, self.step / span)
                target = round(self.first_count + share * (c.max_gaussians - self.first_count))
            self.density.densify(
                self.optimiser,
                threshold=c.densify_gradient,
                target=target,
                extent=self.extent,
                prune_opacity=c.prune_opacity,
                generator=self._generator(-1 - self.step),
            )
        if c.opacity_reset_every and self.step < c.densify_until:
            if self.step % c.opacity_reset_every == 0:
                reset_opacity(self.optimiser)
        elif self.step > c.densify_until and self.step % c.densify_every == 0:
            prune(self.optimiser, self.extent, c.prune_opacity)

    def _watch(self, error: float) -> None:
        """PSNR of each pass over the gallery; stop when it has ceased to rise."""
        self.error_sum += error
        self.error_count += 1
        if self.error_count < len(self.used):
            return
        mean = self.error_sum / self.error_count
        self.psnr_by_epoch.append(-10 * math.log10(max(mean, 1e-10)))
        self.error_sum, self.error_count = 0.0, 0
        c = self.config
        settled = 0 if self.frozen else max(c.densify_until, c.coarse_share * self.num_steps)
        passes = self.psnr_by_epoch[int(settled // len(self.used)) + 1 :]
        if c.plateau_gain > 0 and len(passes) > c.plateau_epochs:
            gain = max(passes[-c.plateau_epochs :]) - max(passes[: -c.plateau_epochs])
            self.stopped_early = gain < c.plateau_gain

    def state(self) -> dict:
        """Everything that the next step depends on."""
        return {
            "optimiser": self.optimiser.state(),
            "density": self.density.state(),
            "step": self.step,
            "seconds": self.seconds,
            "error_sum": self.error_sum,
            "error_count": self.error_count,
            "psnr_by_epoch": list(self.psnr_by_epoch),
            "stopped_early": self.stopped_early,
        }

    def restore(self, state: dict) -> None:
        self.optimiser.restore(state["optimiser"])
        self.density.restore(state["density"])
        for key in ("step", "seconds", "error_sum", "error_count", "psnr_by_epoch"):
            setattr(self, key, state[key])
        self.stopped_early = state["stopped_early"]

    def finished_model(self) -> GaussianModel:
        model = self.optimiser.model().detach()
        return model if self.frozen else without_invisible(model, self.config.prune_opacity)

    def report(self, model: GaussianModel) -> dict:
        """What fit_report.json holds."""
        held = [(self.gallery.cameras[i], self.gallery.original(i)) for i in self.held_out]
        return {
            "name": self.name,
            "config": asdict(self.config),
            "seed": self.seed,
            "frozen_geometry": self.frozen,
            "steps": self.step,
            "stopped_early": self.stopped_early,
            "seconds": round(self.seconds, 2),
            "num_gaussians": model.num_gaussians,
            "background": [round(v, 5) for v in model.background.tolist()],
            "plain_backdrop": self.backdrop.plain,
            "num_views": len(self.used),
            "psnr_by_epoch": [round(v, 3) for v in self.psnr_by_epoch],
            "held_out_views": self.held_out,
            "held_out": evaluate(model, *zip(*held, strict=True)) if held else None,
        }


@torch.no_grad()
def evaluate(model: GaussianModel, cameras: Sequence[Camera], images: Sequence[Tensor]) -> dict:
    """Mean and per-photo PSNR (dB) and SSIM of `model` against photos [C, H, W]."""
    by_view = []
    for camera, image in zip(cameras, images, strict=True):
        target = image.to(model.device)
        drawn = render(model, camera).image
        by_view.append((min(psnr(drawn, target), 100.0), ssim(drawn, target)))
    count = len(by_view)
    return {
        "psnr": sum(p for p, _ in by_view) / count,
        "ssim": sum(s for _, s in by_view) / count,
        "psnr_by_view": [round(p, 3) for p, _ in by_view],
        "ssim_by_view": [round(s, 5) for _, s in by_view],
    }
