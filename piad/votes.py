"""The step that an image hardly tells is settled by a vote of windows (ours).

Some step of the pose is told by few places of an image: a spring turned about its axis by its
ends and its marks. Elsewhere such a step changes little, and what light does there, alike over many
windows, outweighs the few that know. So after the last steps every window says how far it would
go along that direction. One that would go far says so because the step explains it badly, not
because the pose is far: it is an outlier, however well it matches. Equations and what was measured:
docs/method_refinement.md.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.constants import constant
from piad.host_se3 import pivoted_basis, se3_exp
from piad.models import ModelPair
from piad.rounds import AROUND_PX, CONTRAST_FLOOR, Round
from piad.target import Target, object_box
from retrieval.compare import opponent

BLOCK_PX = 8  # windows are 2x2 blocks and overlap by half: half a window's marks cut none off
PROBE = 0.0087  # rad about the object, or share of its distance: the derivative's step to each side
REACH = 0.0105  # in the same units: a vote so far off counts a quarter
ROUNDS = 2  # the second with the first's derivatives: one rendering
REWEIGHTED = 15  # times that votes are weighted anew
LEAST_SLOPE = 1e-9  # of a window along the direction: below, it says nothing


def weakest(poses: np.ndarray, hessians: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Camera twists [N, 6] of the steps that cost least, of length 1 about the object.

    Args:
        poses: world_to_camera [N, 4, 4]; hessians: of the camera's twist, [N, 6, 6]; centre: of the
            object, [3].
    """
    basis = pivoted_basis(poses[:, :3, :3] @ centre + poses[:, :3, 3], 6)
    vectors = np.linalg.eigh(basis.transpose(0, 2, 1) @ hessians @ basis)[1]
    return (basis @ vectors[:, :, :1])[:, :, 0]


def _means(x: Tensor) -> Tensor:
    """Means over all windows of [..., C, h, w]."""
    return F.avg_pool2d(F.avg_pool2d(x, BLOCK_PX), 2, 1)


def window_votes(
    m: Tensor, q: Tensor, slope: Tensor, weight: Tensor, robust: float
) -> tuple[Tensor, Tensor]:
    """How far each window would go, and what its vote counts, [N, windows].

    Of Gauss-Newton on windowed correlation with one unknown (normal equations of light="tile").

    Args:
        m, q, slope: rendering, query, and the rendering's derivative along the direction,
            [N, C, h, w]; weight: of the windows, to be broadcast; robust: as in `Round`.
    """
    mean_m, mean_q, mean_slope = _means(m), _means(q), _means(slope)
    floor = CONTRAST_FLOOR**2
    inv_m = ((_means(m * m) - mean_m.square()).clamp_min(0) + floor).rsqrt()
    inv_q = ((_means(q * q) - mean_q.square()).clamp_min(0) + floor).rsqrt()
    shown, seen = 1 - floor * inv_m.square(), 1 - floor * inv_q.square()
    product = (_means(m * q) - mean_m * mean_q) * inv_m * inv_q
    energy = shown - 2 * product + seen
    by_shown = (_means(slope * m) - mean_slope * mean_m) * inv_m
    by_query = (_means(slope * q) - mean_slope * mean_q) * inv_q
    square = _means(slope * slope) - mean_slope.square()
    curvature = (square - (2 - shown) * by_shown.square()) * inv_m.square()
    gradient = ((by_shown - by_query) - by_shown * (shown - product)) * inv_m
    counts = weight * curvature.clamp_min(0) / (1 + energy / robust**2).square()
    return (-gradient / curvature.clamp_min(LEAST_SLOPE)).flatten(1), counts.flatten(1)


def elected(votes: Tensor, counts: Tensor) -> Tensor:
    """The mean of votes [N, K], without those far from it (Geman and McClure), [N]."""
    chosen = votes.new_zeros(len(votes), 1)
    for _ in range(REWEIGHTED):
        kept = counts / (1 + ((votes - chosen) / REACH).square()).square()
        total = kept.sum(1, keepdim=True)
        chosen = (kept * votes).sum(1, keepdim=True) / total.clamp_min(1e-12)
    return chosen[:, 0]


def _described(image: Tensor, alpha: Tensor | None) -> Tensor:
    """Luma and opponent colours of [N, 6, h, w], then alpha [N, 1, h, w] where it is known."""
    colours = opponent(image)
    return colours if alpha is None else torch.cat([colours, alpha], 1)


@torch.no_grad()
def settled(
    target: Target, poses: Tensor, hessians: Tensor, models: ModelPair, share: float, last: Round
) -> Tensor:
    """Poses [N, 4, 4] moved along their weakest direction to where windows agree.

    Args:
        target: the queries, stacked, [N, ...]. poses, hessians: float64, on the CPU.
        share: of reflectance; last: the round of steps before.
    """
    if min(target.image.shape[-2:]) < 2 * BLOCK_PX:
        return poses
    found, hidden = poses.numpy(), target.silhouette is None
    along = weakest(found, hessians.numpy(), models.host_centre.numpy())
    shares = ((1 - share) / 3,) * 3 + (share / 3,) * 3 + (() if hidden else (last.silhouette,))
    weight = constant(shares, target.image)[:, None, None]
    slope, box = None, (...,)
    for _ in range(ROUNDS):
        steps = (0.0,) if slope is not None else (0.0, PROBE, -PROBE)
        probes = np.stack([se3_exp(along * step) @ found for step in steps])  # [1 or 3, N, 4, 4]
        viewmats = torch.from_numpy(probes.reshape(-1, 4, 4)).to(target.image)
        seen = models.render(viewmats, target.intrinsics)
        if slope is None:
            box = object_box(seen.cover > 0, BLOCK_PX, BLOCK_PX)
        shown = seen.over(models.background)[box]
        cover = seen.cover[box]
        m = _described(shown, None if hidden else cover).unflatten(0, (len(steps), -1))
        if slope is None:
            slope = (m[1] - m[2]) / (2 * PROBE)
            query = _described(target.image[box], None if hidden else target.silhouette[box])
        own = weight
        if target.backdrop is None:  # what is behind the object is not the models'
            around = F.max_pool2d(cover[: len(found)], 2 * AROUND_PX + 1, 1, AROUND_PX)
            own = weight * _means(around)
        votes = window_votes(m[0], query, slope, own, last.robust)
        step = elected(*votes).double().cpu().numpy()
        found = se3_exp(along * step[:, None]) @ found
    return torch.from_numpy(found)
