"""A pose far off is found again: tilts around it are tried, each with a search of its own (ours).

A search by patches finds shift, distance and roll, but tilt hardly moves patches, and steps undo
only a few degrees of it. So the object is tilted to all sides, patches are sought from each tilt,
and those that look most like the query take steps. Measured in docs/method_refinement.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gaussian_renderer.se3 import pivoted_basis, se3_exp
from piad.models import ModelPair
from piad.rounds import Round
from piad.second_order import Aligner, Run
from piad.target import Target
from piad.warp_search import WarpSearch

FIRST = WarpSearch(1 / 8, 8, 0.06, 9.0)  # from the start: 64 px of reach
AFTER = WarpSearch(1 / 4, 10, 0.03, 5.0)  # from every tilt
RINGS = ((0.0, 1), (6.0, 6), (12.0, 8))  # degrees of tilt, and directions
LOOKED_AT, KEPT = 8, 3  # tilts whose rendering is compared, and those that take steps
MOMENT_SCALE = 1 / 4  # of the full resolution
DISTANCE_RANGE = (0.7, 1.4)  # factors


def tilts(pose: Tensor, centre: Tensor) -> Tensor:
    """Poses [K, 4, 4] about a pose [4, 4], the object turned about axes across the view."""
    steps = []
    for degrees, count in RINGS:
        for index in range(count):
            angle, size = 2 * math.pi * index / count, math.radians(degrees)
            steps.append([0.0, 0.0, 0.0, size * math.cos(angle), size * math.sin(angle), 0.0])
    basis = pivoted_basis(pose[:3, :3] @ centre + pose[:3, 3], 1.0)
    return se3_exp(torch.tensor(steps, dtype=pose.dtype) @ basis.T) @ pose


def _moments(shape: Tensor) -> Tensor:
    """Area and middle x, y of silhouettes [N, 1, h, w], px: [N, 3]."""
    height, width = shape.shape[-2:]
    rows, columns = shape[:, 0].sum(2), shape[:, 0].sum(1)
    area = rows.sum(1).clamp_min(1e-3)
    x = columns @ (torch.arange(width, device=shape.device) + 0.5).to(shape) / area
    y = rows @ (torch.arange(height, device=shape.device) + 0.5).to(shape) / area
    return torch.stack([area, x, y], 1)


@torch.no_grad()
def matched_outlines(query: Target, poses: Tensor, models: ModelPair) -> Tensor:
    """Poses [N, 4, 4] shifted so that the outline has the query's middle and size.

    Args:
        query: stacked queries [N, ...] with silhouettes.
        poses: float64, on the CPU.
    """
    alpha = models.render(poses.to(query.image), query.intrinsics).cover
    moments = torch.cat([_moments(alpha), _moments(query.silhouette)], 1).double().cpu()
    k = query.intrinsics
    pivot = poses[:, :3, :3] @ models.host_centre + poses[:, :3, 3]
    factor = (moments[:, 0] / moments[:, 3]).sqrt().clamp(*DISTANCE_RANGE)
    off = (moments[:, 4:] - moments[:, 1:3]) / torch.tensor([k.fx, k.fy], dtype=torch.float64)
    depth = pivot[:, 2] * factor
    across = (pivot[:, :2] / pivot[:, 2:] + off) * depth[:, None]
    moved = poses.clone()
    moved[:, :3, 3] += torch.cat([across, depth[:, None]], 1) - pivot
    return moved


def explore(aligner: Aligner, runs: Sequence[Run], steps: Round) -> list[list[Run]]:
    """Carries each hypothesis on to the most alike of what is found around it.

    Args:
        steps: the round that the most promising tilts take.
    Returns:
        of each hypothesis what else was found, the most alike first.
    """
    if not runs:
        return []
    if aligner.target.silhouette is not None:
        query = aligner.query(MOMENT_SCALE).take([run.query for run in runs])
        poses = torch.stack([run.pose for run in runs])
        for run, pose in zip(runs, matched_outlines(query, poses, aligner.models), strict=True):
            run.move(pose)
    aligner.search(runs, FIRST)
    centre = aligner.models.host_centre
    trials = [[aligner.begin(p, run.query) for p in tilts(run.pose, centre)] for run in runs]
    scores = iter(aligner.search([trial for own in trials for trial in own], AFTER))
    trials = [_most(own, [next(scores) for _ in own])[:LOOKED_AT] for own in trials]
    trials = [own[:KEPT] for own in _most_alike(aligner, trials)]
    aligner.round([trial for own in trials for trial in own], steps)
    found = _most_alike(aligner, trials)
    for run, own in zip(runs, found, strict=True):
        run.calls += sum(trial.calls for trial in own)
        best = own[0]
        run.reason, run.pose, run.likeness = best.reason, best.pose, best.likeness
        run.cost, run.mismatch, run.hessian = best.cost, best.mismatch, best.hessian
        run.trace += best.trace
    return [own[1:] for own in found]


def _most(trials: list[Run], values: list[float]) -> list[Run]:
    """The trials, that of the highest value first."""
    order = sorted(range(len(trials)), key=lambda i: -values[i])
    return [trials[i] for i in order]


def _most_alike(aligner: Aligner, trials: list[list[Run]]) -> list[list[Run]]:
    """Each list, the most alike first."""
    aligner.look([trial for own in trials for trial in own])
    return [_most(own, [trial.likeness for trial in own]) for own in trials]
