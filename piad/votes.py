"""The step that an image hardly tells is settled by a vote of windows (ours).

Some step of the pose is told by few places of an image: a spring turned about its axis by its
ends and its marks. Elsewhere such a step changes little, and what light does there, alike over many
windows, outweighs the few that know. So after the last steps every window says how far it would
go along that direction. One that would go far says so because the step explains it badly, not
because the pose is far: it is an outlier, however well it matches. Equations and what was measured:
docs/method_refinement.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from gaussian_renderer.constants import constant
from piad.agreement import Sight, sight
from piad.host_se3 import pivoted_basis, se3_exp
from piad.models import ModelPair
from piad.rounds import AROUND_PX, CONTRAST_FLOOR
from piad.target import Target, object_box
from retrieval.compare import described, window_sums
from retrieval.replay import replayed

if TYPE_CHECKING:
    from piad.lent_detail import LentDetail

SHRINK = 2  # renderings and query are averaged down by it: marks stay, and time goes
BLOCK_PX = 3  # windows are 2x2 blocks and overlap by half: half a window's marks cut none off
PROBE = 0.0132  # rad about the object, or share of its distance: the derivative's step to each side
REACH = 0.0105  # in the same units: a vote so far off counts a quarter
RISE = 2e-4  # share by which the last steps' cost is higher at the true pose than at their end
COUNTED = 4.0  # times that a place votes: windows overlap by half
ROBUST = 0.8  # Geman-McClure scale of a window's normalised difference, as of the first round
SILHOUETTE = 1.0  # weight of its windows beside those of colour and reflectance together
REWEIGHTED = 15  # times that votes are weighted anew
LEAST_SLOPE = 1e-9  # of a window along the direction: below, it says nothing


def weakest(
    poses: np.ndarray, hessians: np.ndarray, centre: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Camera twists [N, 6] of the steps that cost least, of length 1 about the object.

    With them the cost's curvature along each, [N].

    Args:
        poses: world_to_camera [N, 4, 4]; hessians: of the camera's twist, [N, 6, 6]; centre: of the
            object, [3].
    """
    basis = pivoted_basis(poses[:, :3, :3] @ centre + poses[:, :3, 3], 6)
    curvatures, vectors = np.linalg.eigh(basis.transpose(0, 2, 1) @ hessians @ basis)
    return (basis @ vectors[:, :, :1])[:, :, 0], curvatures[:, 0]


def _halved(x: Tensor) -> Tensor:
    """Images averaged down by SHRINK; what is left over at the edges is cut off."""
    height, width = (n // SHRINK for n in x.shape[-2:])
    return area_average(x[..., : SHRINK * height, : SHRINK * width], (height, width))


def _means(x: Tensor) -> Tensor:
    """Means over all windows of [..., C, h, w]."""
    return window_sums(x, BLOCK_PX, 2) / (2 * BLOCK_PX) ** 2


def window_votes(m: Tensor, q: Tensor, slope: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """How far each window would go, and what its vote counts, [N, windows].

    Of Gauss-Newton on windowed correlation with one unknown (normal equations of light="tile").

    Args:
        m, q, slope: rendering, query, and the rendering's derivative along the direction,
            [N, C, h, w]; weight: of the windows, to be broadcast.
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
    counts = weight * curvature.clamp_min(0) / (1 + energy / ROBUST**2).square()
    return (-gradient / curvature.clamp_min(LEAST_SLOPE)).flatten(1), counts.flatten(1)


def elected(votes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of votes [N, K], without those far from it (Geman and McClure), [N].

    With it its variance, [N], by how far votes scatter (sandwich).
    """
    chosen = votes.new_zeros(len(votes), 1)
    for _ in range(REWEIGHTED):
        kept = counts / (1 + ((votes - chosen) / REACH).square()).square()
        total = kept.sum(1, keepdim=True)
        chosen = (kept * votes).sum(1, keepdim=True) / total.clamp_min(1e-12)
    away = votes - chosen
    square = (away / REACH).square()
    pull = counts * away / (1 + square).square()
    slope = counts * (1 - 3 * square) / (1 + square) ** 3  # of `pull`
    variance = pull.square().sum(1) / slope.sum(1).clamp_min(1e-12).square()
    return chosen[:, 0], variance


def _voted(
    here: Tensor, after: Tensor, before: Tensor, query: Tensor, weight: Tensor
) -> tuple[Tensor]:
    """Step and variance [N, 2] that windows elect, of renderings at the pose and beside it."""
    votes = window_votes(here, query, (after - before) / (2 * PROBE), weight)
    return (torch.stack(elected(*votes), 1),)


def trusted(step: Tensor, variance: Tensor, left_open: Tensor) -> Tensor:
    """Steps [N] as far as the votes know better than the steps before them.

    Args:
        variance: of the votes; left_open: of the true pose about where the last steps ended, [N].
    """
    return step * left_open / (left_open + COUNTED * variance).clamp_min(1e-30)


@torch.no_grad()
def settled(
    target: Target,
    poses: Tensor,
    hessians: Tensor,
    costs: Tensor,
    models: ModelPair,
    share: float,
    lent: LentDetail | None = None,
) -> tuple[Tensor, Sight]:
    """Poses [N, 4, 4] moved along their weakest direction to where windows agree.

    With them what is seen before: such a step hardly changes it.

    Args:
        target: the queries, stacked, [N, ...]. poses, hessians: float64, on the CPU.
        costs: of the last steps where they ended, [N], to which the hessians belong.
        share: of reflectance beside colour.
        lent: what gallery photographs show and the models don't, added to what is seen.
    """
    if min(target.image.shape[-2:]) < 2 * SHRINK * BLOCK_PX:
        return poses, sight(target, poses, models)
    start, hidden = poses.numpy(), target.silhouette is None
    along, curvature = weakest(start, hessians.numpy(), models.host_centre.numpy())
    probes = np.concatenate([se3_exp(along * step) @ start for step in (0, PROBE, -PROBE)])
    cameras = torch.from_numpy(probes)
    found = sight(target, cameras, models)
    # no window is cut off
    box = object_box(found.cover > 0, SHRINK * BLOCK_PX, 2 * SHRINK * BLOCK_PX)
    images, covers = _halved(found.shown[box]), _halved(found.cover[box])
    if lent is not None:
        height, width = images.shape[-2:]
        y, x = (sum(part[k].start or 0 for part in (found.box, box)) for k in (-2, -1))
        looked_at = target.intrinsics.cropped(x, y, SHRINK * width, SHRINK * height)
        small, depth = looked_at.resized(width, height), _halved(found.depth[box])
        images += lent.at(poses, cameras, small, depth, covers)
    here, after, before = described(images, None if hidden else covers).chunk(3)
    image, outline = found.cut(target)
    query = described(_halved(image[box]), None if hidden else _halved(outline[box]))
    shares = ((1 - share) / 3,) * 3 + (share / 3,) * 3 + (() if hidden else (SILHOUETTE,))
    weight = constant(shares, after)[:, None, None]
    if target.backdrop is None:  # what is behind the object is not the models'
        around = F.max_pool2d(covers[: len(start)], AROUND_PX + 1, 1, AROUND_PX // 2)
        weight = weight * _means(around)
    weight = weight.expand(len(start), *weight.shape[-3:])
    (election,) = replayed("vote", _voted, (), (here, after, before, query, weight))
    step, variance = election.double().cpu().T
    left_open = 2 * RISE * costs / torch.from_numpy(curvature).clamp_min(1e-12)  # rad^2
    step = trusted(step, variance, left_open).numpy()
    moved = torch.from_numpy(se3_exp(along * step[:, None]) @ start)
    return moved, found.first(len(start))
