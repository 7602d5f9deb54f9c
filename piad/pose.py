"""Pose refinement: the rendering of both models is moved onto the query (PIAD, pose refinement).

The pose is `world_to_camera` (OpenCV axes). Queries are refined many at a time: one call of the
rasterizer then serves all, and the device is waited for once a step and not once a query.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from piad.adam import refine_adam
from piad.models import ModelPair
from piad.race import race
from piad.refine_config import RefineConfig, RefinedPose
from piad.target import Target

if TYPE_CHECKING:
    from piad.lent_detail import LentDetail

__all__ = ["RefineConfig", "RefinedPose", "refine_adam", "refine_pose", "refine_poses"]


def refine_pose(
    target: Target,
    hypotheses: Sequence[Tensor] | Tensor,
    models: ModelPair,
    cfg: RefineConfig,
    lent: LentDetail | None = None,
) -> RefinedPose:
    """Refine start poses of one query with the refiner that `cfg` names.

    Args:
        target: the query; its tensors' device is where the work is done.
        hypotheses: start poses, world_to_camera [4, 4] each, OpenCV axes; one or several.
        models: the object's colour and reflectance models.
        cfg: refiner, steps, learning rate, weights.
        lent: what gallery photographs show and the models don't (second_order; `lent_detail`).
    """
    poses = [hypotheses] if isinstance(hypotheses, Tensor) else list(hypotheses)
    return refine_poses([target], [poses], models, cfg, lent)[0]


def refine_poses(
    targets: Sequence[Target],
    hypotheses: Sequence[Sequence[Tensor]],
    models: ModelPair,
    cfg: RefineConfig,
    lent: LentDetail | None = None,
) -> list[RefinedPose]:
    """Refine many queries' start poses at once; what comes out is the same as one by one.

    Args:
        targets: the queries, of any sizes: those of one kind go through the steps together.
        hypotheses: of each query, one or more, as for `refine_pose`.
    """
    if cfg.refiner == "adam":
        return [
            refine_adam(target, poses, models, cfg)
            for target, poses in zip(targets, hypotheses, strict=True)
        ]
    kinds: dict[tuple, list[int]] = {}
    for index, target in enumerate(targets):
        kinds.setdefault(target.kind, []).append(index)
    found: dict[int, RefinedPose] = {}
    for same in kinds.values():
        refined = _refine_together(
            [targets[i] for i in same], [hypotheses[i] for i in same], models, cfg, lent
        )
        found.update(zip(same, refined, strict=True))
    return [found[i] for i in range(len(targets))]


def _refine_together(targets, hypotheses, models, cfg, lent) -> list[RefinedPose]:
    """Second-order refinement: a few hypotheses race, the most alike goes on alone (ours).

    Coarse rounds bring each within reach of the windowed ones; likeness chooses, because a loss on
    colours follows a wrong side that happens to be lit like the query.
    """
    began = time.perf_counter()
    outcomes = race(targets, hypotheses, models, cfg, lent)
    hessians = torch.stack([outcome.run.hessian for outcome in outcomes])
    covariances = torch.linalg.pinv(hessians, hermitian=True)[:, :6, :6]
    seconds = (time.perf_counter() - began) / len(outcomes)
    return [
        RefinedPose(
            outcome.run.pose,
            outcome.loss,
            outcome.calls,
            outcome.run.reason,
            seconds,
            outcome.run.trace,
            covariance,
            outcome.agreement,
            outcome.likeness,
            outcome.rival_likeness,
            outcome.rival,
        )
        for outcome, covariance in zip(outcomes, covariances, strict=True)
    ]
