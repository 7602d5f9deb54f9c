"""Pose refinement by Adam on the photometric loss (PIAD, pose refinement).

The pose is `world_to_camera` (OpenCV axes). A step multiplies it from the left by the SE(3)
exponential of a twist, so it stays a rigid motion.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from gaussian_renderer.se3 import se3_exp
from piad.agreement import closeness
from piad.models import ModelPair
from piad.refine_config import RefineConfig, RefinedPose
from piad.target import Target, pose_loss

DECAY_STEPS = 100  # the learning rate falls by `lrate_decay` every so many steps (paper)
RIVAL_LOSS = 0.97  # a rival wins against the first hypothesis with a loss below this share of its


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


def refine_adam(
    target: Target, hypotheses: Sequence[Tensor] | Tensor, models: ModelPair, cfg: RefineConfig
) -> RefinedPose:
    """Refine with Adam (PIAD, pose refinement); arguments as `piad.pose.refine_pose`.

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
