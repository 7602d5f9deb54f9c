"""Second-order pose refinement: Levenberg-Marquardt on SE(3), the light fitted jointly (ours).

The equations and what was measured: docs/method_refinement.md. The normal equations of a step come
from `pose_rasterizer.pose_normal_equations`, which blends the six derivatives beside the colours.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.pose_system import pose_system
from gaussian_renderer.se3 import hat, se3_exp
from piad.models import ModelPair, PairRendering
from piad.pose import RefineConfig, RefinedPose
from piad.target import Target, fit_light, pose_loss, relit, seen_backdrop

STEP_LIMIT = 0.06  # rad about the object, or share of its distance: the reach of a linear step
COARSE_SCALE = 1 / 8  # of several starts, the best after the rounds up to here goes on
MIN_SIDE_PX = 24  # no level is smaller
ROBUST_FLOOR = 0.02  # ... at least, image units: below lies the models' own error
DAMPING_START = 1e-2
DAMPING_RANGE = (1e-5, 1e4)
STEP_PX = 0.02  # a step that moves the image by less has converged
COST_CHANGE = 1e-4  # ... as has one that lowers the cost by less than this share
LIGHT_PRIOR = 1e-3  # of a pixel's weight, per pixel: keeps gain 1 and offset 0 on flat objects
OBJECT_ALPHA = 0.5
AROUND_OBJECT = 0.15  # share of the image side by which the object is widened on a rich backdrop


@dataclass(frozen=True)
class Round:
    """Steps at one resolution with fixed weights."""

    scale: float  # of the full resolution
    steps: int
    silhouette_sigma: float  # residual of alpha that counts like a colour's standard deviation
    robust_factor: float  # Geman-McClure scale in standard deviations of the object's residual


# The silhouette leads while the image is coarse and hardly counts at the end: the query's edge is
# sharp, alpha's is soft, and their difference would pull the pose.
ROUNDS = (
    Round(1 / 8, 6, 0.2, 100.0),
    Round(1 / 4, 5, 0.2, 100.0),
    Round(1 / 4, 4, 0.3, 6.0),
    Round(1 / 2, 3, 1.0, 3.0),
    Round(1.0, 3, 10.0, 3.0),
)


@dataclass
class _State:
    pose: Tensor  # [4, 4] float64, cpu
    gain: Tensor  # [6]
    offset: Tensor  # [6]


@dataclass
class _System:
    """What one call at a state gives."""

    cost: float
    hessian: Tensor  # [18, 18] float64, cpu
    gradient: Tensor  # [18]
    rendering: PairRendering


@dataclass
class _Level:
    """A round's fixed data: everything that the cost depends on beside pose and light."""

    image: Tensor  # [6, h, w], the query
    weight: Tensor  # [6, h, w]
    backdrop: Tensor  # [6]
    robust_scale: Tensor  # [6]
    silhouette: Tensor | None  # [1, h, w]
    silhouette_weight: Tensor | None
    intrinsics: Intrinsics
    direction_term: bool


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """[C, H, W] -> [C, h, w] by area."""
    return F.interpolate(image[None], size, mode="area")[0]


def pivoted_basis(pivot: Tensor, unit: float) -> Tensor:
    """[6, 6] from steps about `pivot` (translation in units of `unit`) to twists of the camera.

    T exp(z) T^-1 = exp(Ad_T z): rho = unit rho' + pivot x phi', phi = phi'.
    """
    basis = torch.eye(6, dtype=pivot.dtype)
    basis[:3, :3] *= unit
    basis[:3, 3:] = hat(pivot)
    return basis


def _call(model, state: _State, level: _Level, channels: slice):
    """Normal equations of one model's channels."""
    return pose_system(
        model,
        state.pose[None],
        level.intrinsics,
        target=level.image[None, channels],
        weight=level.weight[None, channels],
        gain=state.gain[None, channels].contiguous(),
        offset=state.offset[None, channels].contiguous(),
        backdrop=level.backdrop[None, channels].contiguous(),
        robust_scale=level.robust_scale[channels],
        silhouette_target=None if level.silhouette is None else level.silhouette[None],
        silhouette_weight=None if level.silhouette is None else level.silhouette_weight[None],
        direction_term=level.direction_term,
    )


def _system(models: ModelPair, state: _State, level: _Level) -> _System:
    """Both models in one system; one call when they share their geometry."""
    if models.joined is not None:
        out = _call(models.joined, state, level, slice(0, 6))
        rendering = PairRendering(out.image[0], out.alpha[0].expand(2, -1, -1))
        return _System(
            float(out.cost[0]), out.H[0].cpu().double(), out.g[0].cpu().double(), rendering
        )
    hessian = torch.zeros(18, 18, dtype=torch.float64)
    gradient = torch.zeros(18, dtype=torch.float64)
    cost, parts = 0.0, []
    for first, model in ((0, models.colour), (3, models.reflectance)):
        out = _call(model, state, level, slice(first, first + 3))
        light = torch.arange(3) + first
        index = torch.cat([torch.arange(6), 6 + light, 12 + light])
        hessian[index[:, None], index] += out.H[0].cpu().double()
        gradient[index] += out.g[0].cpu().double()
        cost += float(out.cost[0])
        parts.append(out)
    image = torch.cat([part.image[0] for part in parts])
    return _System(
        cost, hessian, gradient, PairRendering(image, torch.cat([p.alpha[0] for p in parts]))
    )


def _robust_scales(residual: Tensor, inside: Tensor) -> Tensor:
    """Standard deviation per channel [6] over the object, from the median (image units)."""
    picked = residual[:, inside[0]]
    if picked.shape[1] == 0:
        return residual.new_full((residual.shape[0],), 10 * ROBUST_FLOOR)
    sigma = 1.4826 * picked.abs().median(dim=1).values
    return sigma.clamp_min(ROBUST_FLOOR)


def _make_level(
    target: Target,
    rendering: PairRendering,
    state: _State,
    models: ModelPair,
    cfg: RefineConfig,
    this: Round,
) -> _Level:
    """Fit the light anew and weigh the pixels for one round.

    Args:
        target: the query at this round's resolution.
        rendering: at the round's first pose.
    """
    alpha = rendering.alpha[:1]
    image, shape = target.image, target.silhouette
    state.gain, state.offset = fit_light(rendering, image)
    backdrop = seen_backdrop(target, state.gain, state.offset, models.background)
    around = None
    if target.backdrop is None:
        reach = 2 * round(AROUND_OBJECT * max(image.shape[-2:])) // 2 * 2 + 1
        around = F.max_pool2d(alpha[None], reach, 1, reach // 2)[0]
    modelled = relit(rendering, state.gain, state.offset, backdrop)
    sigma = _robust_scales(modelled - image, alpha > OBJECT_ALPHA)
    share = image.new_tensor([1 - cfg.reflectance_weight] * 3 + [cfg.reflectance_weight] * 3) * 2
    weight = (share / sigma**2)[:, None, None].expand_as(image)
    if around is not None:
        weight = weight * around
    silhouette_weight = None
    if shape is not None:
        value = 6 * (cfg.silhouette_weight > 0) / this.silhouette_sigma**2
        silhouette_weight = torch.full_like(shape, value / (1 if models.joined else 2))
    return _Level(
        image=image.contiguous(),
        weight=weight.contiguous(),
        backdrop=backdrop,
        robust_scale=this.robust_factor * sigma,
        silhouette=None if shape is None else shape.contiguous(),
        silhouette_weight=silhouette_weight,
        intrinsics=target.intrinsics,
        direction_term=this.scale == 1.0,
    )


class _Solver:
    """Levenberg-Marquardt over pose and light for one query."""

    def __init__(self, target: Target, models: ModelPair, cfg: RefineConfig, start: Tensor):
        self.models, self.cfg = models, cfg
        self.targets = {1.0: target}
        pivot = start[:3, :3] @ models.centre.to(start) + start[:3, 3]
        self.unit = float(pivot.norm())
        self.calls = 0

    def at_scale(self, scale: float) -> Target:
        """The query at a share of the full resolution."""
        if scale not in self.targets:
            full = self.targets[1.0]
            height, width = full.image.shape[-2:]
            least = min(1.0, MIN_SIDE_PX / min(height, width))
            size = tuple(max(1, round(n * max(scale, least))) for n in (height, width))
            intrinsics = full.intrinsics.resized(size[1], size[0])
            shape = None if full.silhouette is None else _resized(full.silhouette, size)
            self.targets[scale] = Target(
                _resized(full.image, size), full.backdrop, intrinsics, shape
            )
        return self.targets[scale]

    def render(self, pose: Tensor, scale: float) -> PairRendering:
        """Both models over black at one scale."""
        target = self.at_scale(scale)
        viewmat = pose.to(target.image.device, torch.float32)
        with torch.no_grad():
            return self.models.render(viewmat, target.intrinsics)

    def system(self, state: _State, level: _Level) -> _System:
        """Normal equations at a state, the light's prior included."""
        self.calls += 1
        system = _system(self.models, state, level)
        prior = LIGHT_PRIOR * level.weight.sum((1, 2)).double().cpu()  # [6]
        gain, offset = state.gain.double().cpu() - 1, state.offset.double().cpu()
        index = torch.arange(6, 12)
        system.hessian[index, index] += prior
        system.hessian[index + 6, index + 6] += prior
        system.gradient[6:12] += prior * gain
        system.gradient[12:] += prior * offset
        system.cost += float((0.5 * prior * (gain**2 + offset**2)).sum())
        return system

    def stepped(self, state: _State, system: _System, damping: float):
        """The state after a damped step, and how far it moves the image, px at full resolution."""
        pose = state.pose
        pivot = pose[:3, :3] @ self.models.centre.to(pose) + pose[:3, 3]
        basis = torch.eye(18, dtype=torch.float64)
        basis[:6, :6] = pivoted_basis(pivot, self.unit)
        hessian = basis.T @ system.hessian @ basis
        gradient = basis.T @ system.gradient
        diagonal = hessian.diagonal().clamp_min(1e-9)
        step = -torch.linalg.solve(hessian + damping * torch.diag(diagonal), gradient)
        step = step * min(1.0, STEP_LIMIT / max(float(step[:6].abs().max()), 1e-12))
        twist = basis[:6, :6] @ step[:6]
        moved = _State(
            se3_exp(twist) @ pose,
            state.gain + step[6:12].to(state.gain),
            state.offset + step[12:].to(state.offset),
        )
        focal = self.targets[1.0].intrinsics.fx
        return moved, float(step[:6].abs().max()) * focal

    def run(self, state: _State, this: Round, rendering: PairRendering | None, trace: list):
        """One round. Returns the state, its system and why it ended."""
        target = self.at_scale(this.scale)
        if rendering is None:
            rendering = self.render(state.pose, this.scale)
        level = _make_level(target, rendering, state, self.models, self.cfg, this)
        best, damping, reason = self.system(state, level), DAMPING_START, "steps"
        for _ in range(this.steps):
            moved, distance_px = self.stepped(state, best, damping)
            trial = self.system(moved, level)
            if math.isfinite(trial.cost) and trial.cost < best.cost:
                change = (best.cost - trial.cost) / max(best.cost, 1e-30)
                state, best = moved, trial
                trace.append(state.pose.clone())
                damping = max(damping / 10, DAMPING_RANGE[0])
                if distance_px < STEP_PX or change < COST_CHANGE:
                    reason = "converged"
                    break
            else:
                damping = damping * 10
                if distance_px < STEP_PX or damping > DAMPING_RANGE[1]:
                    reason = "converged"
                    break
        return state, best, reason


def refine_second_order(
    target: Target, hypotheses: Sequence[Tensor] | Tensor, models: ModelPair, cfg: RefineConfig
) -> RefinedPose:
    """Refine start poses by Levenberg-Marquardt, coarse to fine (ours).

    Args:
        target: the query.
        hypotheses: start poses [4, 4], world_to_camera; one or several, of which the one that fits
            best after the coarse rounds goes on.
        models: the object's colour and reflectance models.
    """
    began = time.perf_counter()
    poses = [hypotheses] if isinstance(hypotheses, Tensor) else list(hypotheses)
    starts = [pose.detach().double().cpu() for pose in poses]
    solver = _Solver(target, models, cfg, starts[0])
    coarse = [r for r in ROUNDS if r.scale <= COARSE_SCALE]
    fine = [r for r in ROUNDS if r.scale > COARSE_SCALE]
    candidates = []
    for start in starts:
        light = target.image.new_ones(6), target.image.new_zeros(6)
        state, trace, rendering = _State(start.clone(), *light), [start.clone()], None
        for this in coarse:
            state, system, reason = solver.run(state, this, None, trace)
        level = solver.at_scale(coarse[-1].scale)
        scored = pose_loss(system.rendering, level, models, cfg).item()
        candidates.append((scored, state, trace))
    _, state, trace = min(candidates, key=lambda c: c[0])
    scale, rendering = coarse[-1].scale, None
    for this in fine:
        state, system, reason = solver.run(
            state, this, rendering if this.scale == scale else None, trace
        )
        scale, rendering = this.scale, system.rendering
    loss = pose_loss(rendering, solver.at_scale(1.0), models, cfg).item()
    covariance = torch.linalg.pinv(system.hessian, hermitian=True)[:6, :6]
    seconds = time.perf_counter() - began
    return RefinedPose(state.pose, loss, solver.calls, reason, seconds, trace, covariance)
