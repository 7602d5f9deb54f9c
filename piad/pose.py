"""Pose refinement: the rendering of both models is moved onto the query (PIAD, pose refinement).

The pose is `world_to_camera` (OpenCV axes). A step multiplies it from the left by the SE(3)
exponential of a twist, so it stays a rigid motion.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gaussian_renderer.se3 import se3_exp
from piad.models import ModelPair, PairRendering
from piad.target import Target, object_box, pose_loss
from retrieval.compare import (
    WINDOW_PX,
    WINDOW_STEP_PX,
    described,
    likeness,
    opponent,
    similarity,
)

# The original's choices (paper, implementation details), used by --preset original.
ORIGINAL = {
    "refiner": "adam",
    "iter_num": 300,
    "lrate": 0.02,
    "lrate_decay": 0.8,
    "refine_pivot": "camera",
    "refine_light": "none",
    "silhouette_weight": 0.0,
    "refine_coarse_steps": 0,
    "refine_stop_change": 3e-6,
    "refine_stop_window": 50,
    "refuse_below": 0.0,
}
DECAY_STEPS = 100  # the learning rate falls by `lrate_decay` every so many steps (paper)
RIVAL_LOSS = 0.97  # a rival wins against the first hypothesis with a loss below this share of its
ON_OBJECT = 0.5  # alpha of the rendering from which a pixel lies on the object
POLISH_STRIDE_PX = 5  # between the windows that are correlated


@dataclass
class RefineConfig:
    """How a start pose is refined."""

    refiner: str = field(
        default="second_order",
        metadata={
            "help": "adam: the paper's way; second_order: Gauss-Newton, coarse to fine (ours)",
            "choices": ("adam", "second_order"),
        },
    )
    iter_num: int = field(default=130, metadata={"help": "refinement steps at most"})
    lrate: float = field(
        default=0.03, metadata={"help": "learning rate of the refinement at its start"}
    )
    lrate_decay: float = field(
        default=0.05, metadata={"help": "factor on the learning rate every 100 steps"}
    )
    reflectance_weight: float = field(
        default=0.6, metadata={"help": "weight of the reflectance loss; colour has the rest"}
    )
    refine_pivot: str = field(
        default="object",
        metadata={
            "help": "centre of the rotations: object (ours) or camera (paper)",
            "choices": ("object", "camera"),
        },
    )
    refine_light: str = field(
        default="affine",
        metadata={
            "help": "light fitted before comparing: gain and offset per channel, or none (paper)",
            "choices": ("affine", "none"),
        },
    )
    polish_steps: int = field(
        default=8,
        metadata={"help": "second_order: most steps at full resolution, on windowed correlation"},
    )
    silhouette_weight: float = field(
        default=0.5,
        metadata={"help": "weight of the silhouette against a plain backdrop; 0: not used (paper)"},
    )
    refine_coarse_steps: int = field(
        default=60, metadata={"help": "first steps, taken at half resolution"}
    )
    refine_stop_change: float = field(
        default=3e-5, metadata={"help": "stop when the loss fell by less than this"}
    )
    refine_stop_window: int = field(default=20, metadata={"help": "... in so many steps"})
    refuse_below: float = field(
        default=0.125,
        metadata={
            "help": "share of the gallery's own agreement with its renderings below which a query "
            "is 'not found'; 0: never (paper)"
        },
    )
    doubt_below: float = field(
        default=0.25,
        metadata={"help": "the same share, below which a query is found but 'ambiguous'"},
    )
    tie_margin: float = field(
        default=0.04,
        metadata={
            "help": "second_order: lead in likeness over a clearly different pose below which a "
            "query is 'ambiguous'"
        },
    )


@dataclass
class RefinedPose:
    """Outcome of a refinement.

    world_to_camera: [4, 4], float64, the best pose seen at full resolution; loss: its loss;
    steps: taken in all; stop_reason: "steps" or "converged"; seconds: wall time;
    trace: poses along the way [[4, 4], ...], for the animation; covariance: [6, 6] of the camera's
    twist (rho, phi), from the residuals' weights (second_order only); agreement: of query
    and rendering at full resolution, 0..1 (`closeness`); likeness: of the hypothesis that was
    chosen by it, and rival_likeness: the highest of those on clearly different sides (None where
    there was none).
    """

    world_to_camera: Tensor
    loss: float
    steps: int
    stop_reason: str
    seconds: float
    trace: list[Tensor]
    covariance: Tensor | None = None
    agreement: float = math.nan
    likeness: float | None = None
    rival_likeness: float | None = None


class _Steps:
    """The poses reached by left-multiplied twists about a pivot."""

    def __init__(self, start: Tensor, models: ModelPair, pivot: str) -> None:
        self.start = start
        self.unit = torch.ones(6, dtype=start.dtype, device=start.device)
        self.pivot = torch.zeros(3, dtype=start.dtype, device=start.device)
        if pivot == "object":
            # Rotations about the object and translations in units of its distance move the
            # image by like amounts, which a camera-centred twist does not.
            self.pivot = start[:3, :3] @ models.centre.to(start) + start[:3, 3]
            self.unit[:3] = self.pivot.norm()

    def pose(self, twist: Tensor) -> Tensor:
        """World_to_camera [4, 4] after `twist` [6]."""
        to_pivot = torch.eye(4, dtype=twist.dtype, device=twist.device)
        from_pivot = to_pivot.clone()
        to_pivot[:3, 3], from_pivot[:3, 3] = -self.pivot, self.pivot
        return from_pivot @ se3_exp(twist * self.unit) @ to_pivot @ self.start


class _Descent:
    """Adam on one hypothesis: where it stands, its best pose and the way it took."""

    def __init__(self, start: Tensor, models: ModelPair, cfg: RefineConfig) -> None:
        self.models, self.cfg = models, cfg
        self.steps = _Steps(start, models, cfg.refine_pivot)
        self.twist = torch.zeros(6, device=start.device, requires_grad=True)
        self.optimiser = torch.optim.Adam([self.twist], lr=cfg.lrate)
        self.best_loss, self.best_twist = float("inf"), self.twist.detach().clone()
        self.num_steps = 0
        self.trace: list[Tensor] = []

    def run(self, level: Target, last_step: int, may_stop: bool = True) -> str:
        """Go on at one resolution up to `last_step`; "converged" or "steps"."""
        cfg = self.cfg
        with torch.no_grad():  # a new resolution begins at the best pose of the one before
            self.twist.copy_(self.best_twist)
        self.best_loss, history = float("inf"), []
        while self.num_steps < last_step:
            for group in self.optimiser.param_groups:
                group["lr"] = cfg.lrate * cfg.lrate_decay ** (self.num_steps / DECAY_STEPS)
            self.num_steps += 1
            viewmat = self.steps.pose(self.twist)
            rendering = self.models.render(viewmat, level.intrinsics)
            loss = pose_loss(rendering, level, self.models, cfg)
            self.trace.append(viewmat.detach())
            value = loss.item()
            if value < self.best_loss:
                self.best_loss, self.best_twist = value, self.twist.detach().clone()
            history.append(self.best_loss)
            window = cfg.refine_stop_window
            if (
                may_stop
                and len(history) > window
                and history[-1 - window] - self.best_loss < cfg.refine_stop_change
            ):
                return "converged"
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        return "steps"

    def best_pose(self) -> Tensor:
        """The best pose of the last resolution, [4, 4], float64: rigid to double precision."""
        steps = _Steps(self.steps.start.double().cpu(), self.models, "camera")
        steps.pivot, steps.unit = self.steps.pivot.double().cpu(), self.steps.unit.double().cpu()
        return steps.pose(self.best_twist.double().cpu())


def refine_pose(
    target: Target, hypotheses: Sequence[Tensor] | Tensor, models: ModelPair, cfg: RefineConfig
) -> RefinedPose:
    """Refine start poses with the refiner that `cfg` names and return the best pose seen.

    Args:
        target: the query; its tensors' device is where the work is done.
        hypotheses: start poses, world_to_camera [4, 4] each, OpenCV axes; one or several.
        models: the object's colour and reflectance models.
        cfg: refiner, steps, learning rate, weights.
    """
    if cfg.refiner == "second_order":
        return _refine_each(target, hypotheses, models, cfg)
    return refine_adam(target, hypotheses, models, cfg)


def _refine_each(target, hypotheses, models, cfg: RefineConfig) -> RefinedPose:
    """Second-order refinement: a few hypotheses race, the most alike goes on alone (ours).

    Coarse rounds bring each within reach of the windowed ones; likeness chooses, because a loss on
    colours follows a wrong side that happens to be lit like the query.
    """
    from piad.race import race  # it builds on this module

    began = time.perf_counter()
    poses = [hypotheses] if isinstance(hypotheses, Tensor) else list(hypotheses)
    run, steps, (own, rival) = race(target, poses, models, cfg)
    loss, agreement = closeness(target, run.pose, models, cfg)
    return RefinedPose(
        run.pose,
        loss,
        steps,
        run.reason,
        time.perf_counter() - began,
        run.trace,
        torch.linalg.pinv(run.hessian, hermitian=True)[:6, :6],
        agreement,
        own,
        rival,
    )


def _wanted(target: Target) -> Tensor:
    """What a rendering of the query is correlated with, [1, C, H, W]."""
    shape = target.silhouette
    return described(target.image[None], None if shape is None else shape[None])


def _alike(rendering: PairRendering, target: Target, models: ModelPair, wanted: Tensor) -> Tensor:
    """Windowed correlation of query and rendering at the query's resolution, [1]."""
    alpha = None if target.silhouette is None else rendering.alpha[None, :1]
    shown = described(rendering.over(models.background)[None], alpha)
    return similarity(wanted, shown, POLISH_STRIDE_PX)


@torch.no_grad()
def closeness(
    target: Target, world_to_camera: Tensor, models: ModelPair, cfg: RefineConfig
) -> tuple[float, float]:
    """Loss and agreement of a pose, by one rendering.

    Agreement, 0..1, is the geometric mean of two windowed correlations at full resolution: that
    of images and silhouettes, and that of the pixels on the object alone, which no outline helps.
    """
    seen = models.render(world_to_camera.to(target.image), target.intrinsics)
    loss = pose_loss(seen, target, models, cfg).item()
    whole = _alike(seen, target, models, _wanted(target)).item()
    on_object = seen.alpha[:1] > ON_OBJECT
    # no window that reaches it is cut off, and windows keep their places
    box = object_box(on_object, WINDOW_STEP_PX, WINDOW_PX + WINDOW_STEP_PX)
    wanted = opponent(target.image[box][None])
    shown = opponent(seen.over(models.background)[box][None])
    detail = similarity(wanted, shown, inside=on_object[box][None].to(shown)).item()
    return loss, math.sqrt(max(0.0, whole) * max(0.0, detail))


@torch.no_grad()
def likeness_at(world_to_camera: Tensor, target: Target, models: ModelPair) -> float:
    """How much the rendering at a pose looks like the query, whatever the light."""
    seen = models.render(world_to_camera.to(target.image), target.intrinsics)
    return likeness(target.image, seen.image, target.silhouette, seen.alpha[:1])


def refine_adam(
    target: Target, hypotheses: Sequence[Tensor] | Tensor, models: ModelPair, cfg: RefineConfig
) -> RefinedPose:
    """Refine with Adam (PIAD, pose refinement); arguments as `refine_pose`.

    Several hypotheses race at half resolution; the one of least loss goes on alone, the first
    unless another is clearly better.
    """
    began = time.perf_counter()
    poses = [hypotheses] if isinstance(hypotheses, Tensor) else list(hypotheses)
    starts = [pose.to(device=target.image.device, dtype=torch.float32) for pose in poses]
    runs = [_Descent(start, models, cfg) for start in starts]
    if cfg.refine_coarse_steps:
        coarse = target.halved()
        for run in runs:
            run.run(coarse, min(cfg.refine_coarse_steps, cfg.iter_num), may_stop=False)
    else:
        runs = runs[:1]
    best = min(runs, key=lambda run: run.best_loss)
    if best.best_loss > RIVAL_LOSS * runs[0].best_loss:
        best = runs[0]
    stop_reason = best.run(target, cfg.iter_num)
    if not math.isfinite(best.best_loss):  # every step went to the coarse level
        stop_reason = best.run(target, best.num_steps + 1)
    seconds = time.perf_counter() - began
    pose, taken = best.best_pose(), len(best.trace)
    _, agreement = closeness(target, pose, models, cfg)
    return RefinedPose(
        pose, best.best_loss, taken, stop_reason, seconds, best.trace, agreement=agreement
    )
