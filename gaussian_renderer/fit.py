"""fit(cameras, images, config) -> GaussianModel: photographs become Gaussians.

3D Gaussian Splatting (Kerbl et al. 2023) with a budget of Gaussians, a start on the visual hull
where the backdrop is plain, alpha held to what the backdrop tells, and a schedule for few
iterations. Any number of channels: colour and reflectance can be fitted as one model of six.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gaussian_renderer import fit_schedule as schedule
from gaussian_renderer.backdrop import Silhouettes, estimate_backdrop
from gaussian_renderer.camera import Camera
from gaussian_renderer.densify import DensityControl, prune, reset_opacity, without_strays
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_json
from gaussian_renderer.fit_config import ORIGINAL, FitConfig, check_config
from gaussian_renderer.fit_data import (
    Gallery,
    Subset,
    TargetView,
    fingerprint,
    load_checkpoint,
    save_checkpoint,
)
from gaussian_renderer.fit_report import clutter, evaluate
from gaussian_renderer.fit_start import corner, spread, starting_model
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.image_metrics import decibels
from gaussian_renderer.losses import AlphaHold, compare
from gaussian_renderer.optimiser import GaussianOptimiser
from gaussian_renderer.points import PointCloud
from gaussian_renderer.render import Render, render_activated
from gaussian_renderer.seeding import scene_extent

__all__ = ["ORIGINAL", "FitConfig", "PointCloud", "evaluate", "fit"]

REPORT_NAME = "fit_report.json"
ALL_SEED_STEP = 1_000_003  # keeps the random streams of two seeds apart
MOST_START_VIEWS = 120  # photos that backdrop, hull and first colours are made from, spread evenly
HULL_EVERY = 4  # density controls after which Gaussians outside the hull are removed
AVERAGE_EVERY = 3  # steps between those that the final mean is made of
SHOW_EVERY = 20  # steps between the progress bar's figures; on a GPU each waits for the device


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
    on_model: Callable[[int, float, GaussianModel], None] | None = None,
    model_every: int = 0,
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
        on_model: called every `model_every` steps with the step, the seconds that the fit has taken
            (these calls left out) and the model so far.
    Returns:
        The model on `device`. With `config.holdout` the photos held out are measured and reported,
        never fitted.
    """
    _check(cameras, images, config, initial, freeze_geometry)
    fitting = _Fit(cameras, images, config, initial, device, seed, freeze_geometry, name)
    if on_model is not None and model_every > 0:
        fitting.on_model, fitting.model_every = on_model, model_every
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
    check_config(config)
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
        # none where photos are held out anyway, or too few to spare any
        spare = not frozen and not self.held_out and 4 * config.check_views <= len(self.used)
        self.check = spread(self.used, config.check_views, seed) if spare else []
        self.start_views = spread(self.fitted_first, MOST_START_VIEWS, 0)
        self.backdrop = estimate_backdrop(Subset(images, self.start_views))
        self.gallery = Gallery(cameras, images, self.backdrop, self.device)
        self.extent = scene_extent(cameras)
        self.about_object = config.alpha_weight > 0 and self.backdrop.plain
        self.silhouettes = None
        if self.about_object and not frozen:
            near = [cameras[i] for i in self.start_views]
            self.silhouettes = Silhouettes.read(
                near, Subset(images, self.start_views), self.backdrop
            )
        start = starting_model(
            config, self.gallery, self.start_views, self.silhouettes, initial, seed, frozen
        )
        self.optimiser = GaussianOptimiser(start.to(self.device), self._rates())
        self.density = DensityControl(start.num_gaussians, self.device)
        self.first_count = start.num_gaussians
        self._offset: Tensor | None = None
        self._order: tuple | None = None
        self.step = 0
        self.seconds = 0.0
        # squared error of this pass over the gallery, on the device until the pass ends
        self.error_sum, self.error_count = torch.zeros((), device=self.device), 0
        self.psnr_by_epoch: list[float] = []
        self.checked: dict | None = None
        self.stopped_early = False
        self.on_model, self.model_every = None, 0
        self.key = fingerprint(
            asdict(config) | {"seed": seed, "frozen": frozen}, cameras, images, start
        )

    def _rates(self) -> dict[str, float]:
        kind = self.config.fit_background
        learnt = kind == "learn" or (kind == "auto" and not self.backdrop.plain)
        return schedule.base_rates(self.config, self.extent, self.frozen, learnt)

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
                loss, square = self._one_step()
                self.seconds = before + time.monotonic() - began
                if self.step % SHOW_EVERY == 0:
                    shown = f"{decibels(square.item()):.2f} dB, {self.optimiser.num_gaussians}"
                    bar.set_postfix_str(f"{shown} Gaussians", refresh=False)
                bar.update()
                if path is not None and self._checkpoint_due():
                    save_checkpoint(path, self.key, self.state())
                if on_step is not None:
                    on_step(self.step, self._figures(loss, square))
                if self.on_model is not None and self.step % self.model_every == 0:
                    began += self._show_model(began - before)

    def _show_model(self, began: float) -> float:
        """Call `on_model`; returns the seconds that it took."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.monotonic()
        self.on_model(self.step, now - began, self.optimiser.model())
        return time.monotonic() - now

    def _figures(self, loss: Tensor, square: Tensor) -> dict[str, float]:
        return {
            "loss": loss.item(),
            "psnr": decibels(square.item()),
            "num_gaussians": self.optimiser.num_gaussians,
        }

    @property
    def fitted_first(self) -> list[int]:
        """The photos fitted from the beginning."""
        return [i for i in self.used if i not in self.check]

    @property
    def fitted_now(self) -> list[int]:
        """The photos that this pass over the gallery fits."""
        return self.used if self.checked is not None else self.fitted_first

    def _checkpoint_due(self) -> bool:
        last = self.step == self.num_steps or self.stopped_early
        return last or self.step % self.config.checkpoint_every == 0

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * ALL_SEED_STEP + stream)

    def _view(self) -> int:
        """Photos in a new random order on each pass over the gallery."""
        epoch = len(self.psnr_by_epoch)
        if self._order is None or self._order[0] != epoch:
            views = self.fitted_now
            order = torch.randperm(len(views), generator=self._generator(epoch)).tolist()
            self._order = epoch, [views[k] for k in order]
        return self._order[1][self.error_count]

    def _one_step(self) -> tuple[Tensor, Tensor]:
        """One photo: render, compare, step, and control the density when it is time.

        Returns its loss without the hold on alpha and its mean squared error, on the device.
        """
        c = self.config
        view = self._view()
        factor = schedule.photo_factor(c, self.step, self.num_steps)
        target = self.gallery.view(view, factor, self.about_object)
        degree = c.sh_degree if self.frozen else min(c.sh_degree, self.step // c.sh_every)
        growing = not self.frozen and self.step < c.densify_until
        drawn = self._draw(target, degree, self._background(view), growing)
        hold = self._hold_on_alpha(target)
        # the rest of the photo is backdrop that nothing covers: its error would be 0
        found = compare(drawn.image, target.pixels, c.ssim_weight, scale=target.share, hold=hold)
        outputs, gradients = [drawn.image], [found.v_image]
        if hold is not None:
            outputs.append(drawn.alpha)
            gradients.append(found.v_alpha)
        torch.autograd.backward(outputs, gradients)
        if growing:
            self.density.observe(self._offset.grad, drawn.radii, target.size)
            self._offset.grad = None
        factors = schedule.rate_factors(c, self.optimiser.base_rates, self.step, self.num_steps)
        self.optimiser.scale_rates(factors)
        self.optimiser.step()
        self.step += 1
        averaging = self.step > c.average_from * self.num_steps
        if not self.frozen and not averaging:
            self._control_density()
        if averaging and self.step % AVERAGE_EVERY == 0:
            self.optimiser.average()
        square = found.square * target.share
        self._watch(square)
        return found.loss * target.share, square

    def _draw(
        self, target: TargetView, degree: int, background: Tensor | None, growing: bool
    ) -> Render:
        inputs = self.optimiser.inputs
        offset = None
        if growing:
            n = self.optimiser.num_gaussians
            if self._offset is None or len(self._offset) != n:
                self._offset = torch.zeros(n, 2, device=self.device, requires_grad=True)
            offset = self._offset
        return render_activated(
            *(inputs[k] for k in ("means", "quats", "scales", "opacities", "sh")),
            inputs["background"] if background is None else background,
            target.camera,
            viewmat=target.viewmat,
            means2d_offset=offset,
            sh_degree=degree,
        )

    def _hold_on_alpha(self, target: TargetView) -> AlphaHold | None:
        c = self.config
        if target.alpha_sign is None or self.frozen:
            return None
        # opaque too early, the first clutter in a line of sight would hide the object
        early = self.step < c.alpha_inside_from * self.num_steps
        weight = c.alpha_weight * target.share / target.alpha_sign.numel()
        return AlphaHold(target.alpha_sign, weight, only_outside=early)

    def _background(self, view: int) -> Tensor | None:
        """None for the model's own; the original draws white first, then the pixel (5, 5)."""
        if self.config.fit_background != "corner":
            return None
        if self.step < self.config.background_from:
            return torch.ones(len(self.backdrop.colour), device=self.device)
        return corner(self.gallery.original(view)).to(self.device)

    def _control_density(self) -> None:
        c = self.config
        if c.densify_from <= self.step <= c.densify_until and self.step % c.densify_every == 0:
            self.density.densify(
                self.optimiser,
                threshold=c.densify_gradient,
                target=schedule.budget(c, self.first_count, self.step),
                extent=self.extent,
                prune_opacity=c.prune_opacity,
                generator=self._generator(-1 - self.step),
                silhouettes=self._hull_when_due(),
            )
        if c.opacity_reset_every and self.step < c.densify_until:
            if self.step % c.opacity_reset_every == 0:
                reset_opacity(self.optimiser)
        elif self.step > c.densify_until and self.step % c.densify_every == 0:
            prune(self.optimiser, self.extent, c.prune_opacity, self._hull_when_due())

    def _hull_when_due(self) -> Silhouettes | None:
        due = self.step // self.config.densify_every % HULL_EVERY == 0
        return self.silhouettes if due else None

    def _watch(self, square: Tensor) -> None:
        """PSNR of each pass over the gallery; stop when it has ceased to rise."""
        self.error_sum += square
        self.error_count += 1
        if self.error_count < len(self.fitted_now):
            return
        self.psnr_by_epoch.append(decibels(self.error_sum.item() / self.error_count))
        self.error_sum, self.error_count = torch.zeros_like(self.error_sum), 0
        c = self.config
        if self.check and self.checked is None and self.step >= c.check_until * self.num_steps:
            self._check_fit(self._cleaned(self.optimiser.model()))
        settled = 0 if self.frozen else max(c.densify_until, c.coarse_share * self.num_steps)
        passes = self.psnr_by_epoch[int(settled // len(self.used)) + 1 :]
        if c.plateau_gain > 0 and len(passes) > c.plateau_epochs:
            gain = max(passes[-c.plateau_epochs :]) - max(passes[: -c.plateau_epochs])
            self.stopped_early = gain < c.plateau_gain

    def _measured(self, views: list[int], model: GaussianModel) -> dict:
        cameras = [self.gallery.cameras[i] for i in views]
        images = Subset(self.gallery.images, views)
        found = evaluate(model, cameras, images)
        if self.backdrop.plain:
            found |= clutter(model, cameras, images, self.backdrop)
        return found

    def _check_fit(self, model: GaussianModel) -> None:
        """Measure `model` on the photos kept out so far; from now on they are fitted."""
        measured = self._measured(self.check, model)
        self.checked = {"views": self.check, "step": self.step} | measured

    def state(self) -> dict:
        """Everything that the next step depends on."""
        return {
            "optimiser": self.optimiser.state(),
            "density": self.density.state(),
            "step": self.step,
            "seconds": self.seconds,
            "error_sum": self.error_sum.clone(),
            "error_count": self.error_count,
            "psnr_by_epoch": list(self.psnr_by_epoch),
            "checked": self.checked,
            "stopped_early": self.stopped_early,
        }

    def restore(self, state: dict) -> None:
        self.optimiser.restore(state["optimiser"])
        self.density.restore(state["density"])
        for key in ("step", "seconds", "error_count", "psnr_by_epoch", "checked", "stopped_early"):
            setattr(self, key, state[key])
        self.error_sum = state["error_sum"].to(self.device)

    def finished_model(self) -> GaussianModel:
        self.optimiser.take_average()
        if not self.frozen:
            prune(self.optimiser, self.extent, self.config.prune_opacity, self.silhouettes)
        return self._cleaned(self.optimiser.model())

    def _cleaned(self, model: GaussianModel) -> GaussianModel:
        return without_strays(model) if self.silhouettes is not None else model

    def report(self, model: GaussianModel) -> dict:
        """What fit_report.json holds."""
        held = self._measured(self.held_out, model) if self.held_out else None
        if self.check and self.checked is None:  # too few steps for a pass over the gallery
            self._check_fit(model)
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
            "held_out": held,
            "checked": self.checked,
        }
