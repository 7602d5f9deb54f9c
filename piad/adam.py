"""Pose refinement by Adam on the photometric loss (PIAD, pose refinement): the paper's way.

The pose is `world_to_camera` (OpenCV axes). It is the SE(3) exponential of a twist times the start,
so it stays a rigid motion.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from gaussian_renderer.se3 import se3_exp
from piad.agreement import closeness
from piad.models import ModelPair
from piad.refine_config import RefineConfig, RefinedPose
from piad.target import Target, photometric_loss

DECAY_STEPS = 100  # the learning rate falls by `lrate_decay` every so many steps (paper)


def refine_adam(
    target: Target, hypotheses: Sequence[Tensor] | Tensor, models: ModelPair, cfg: RefineConfig
) -> RefinedPose:
    """Refine with Adam (PIAD, pose refinement); arguments as `piad.pose.refine_pose`.

    Of several hypotheses the first alone is refined, as in the paper; the best pose seen is
    returned instead of the last (ours). It ends where the loss is within `refine_stop_change` of
    what it was `refine_stop_window` steps before.
    """
    began = time.perf_counter()
    first = hypotheses if isinstance(hypotheses, Tensor) else hypotheses[0]
    start = first.to(device=target.image.device, dtype=torch.float32)
    twist = torch.zeros(6, device=start.device, requires_grad=True)
    optimiser = torch.optim.Adam([twist], lr=cfg.lrate)
    best_loss, best_twist = float("inf"), twist.detach().clone()
    history: list[float] = []
    trace: list[Tensor] = []
    stop_reason, window = "steps", cfg.refine_stop_window
    for step in range(cfg.iter_num):
        for group in optimiser.param_groups:
            group["lr"] = cfg.lrate * cfg.lrate_decay ** (step / DECAY_STEPS)
        viewmat = se3_exp(twist) @ start
        shown = models.render(viewmat, target.intrinsics).over(models.background)
        loss = photometric_loss(shown, target.image, cfg.reflectance_weight)
        trace.append(viewmat.detach())
        value = loss.item()
        if value < best_loss:
            best_loss, best_twist = value, twist.detach().clone()
        history.append(value)
        if step >= window and abs(value - history[step - window]) < cfg.refine_stop_change:
            stop_reason = "converged"
            break
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    seconds = time.perf_counter() - began
    pose = se3_exp(best_twist.double().cpu()) @ first.double().cpu()  # rigid to double precision
    _, agreement = closeness(target, pose, models, cfg)
    return RefinedPose(
        pose, best_loss, len(trace), stop_reason, seconds, trace, agreement=agreement
    )
