"""Poses aligned with a query at low resolution, whatever the light: Gauss-Newton steps (ours).

What is climbed is normalised correlation in small windows, as in retrieval.compare. With gain g and
offset o of a window fitted, the query is q = g m + o up to a residual whose square, over the
query's variance, is 1 - correlation^2. For given g and o that is a weighted square of
m - (q - o) / g: the rendering's distance from the query in the rendering's light, which is what
`pose_system` steps on. Windows that don't correlate have g = 0 and no weight.
"""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.pose_system import pose_system
from gaussian_renderer.render import render
from gaussian_renderer.se3 import hat, pivoted_basis
from retrieval.compare import (
    FLAT_VARIANCE,
    SILHOUETTE_CHANNELS,
    WINDOW_PX,
    WINDOW_STEP_PX,
    correlation,
)

DAMPING = 1e-2  # of Levenberg and Marquardt, at first
DAMPING_FALL, DAMPING_RISE = 0.25, 8.0
LEAST_CURVATURE = 1e-3  # of the largest: directions that hardly move the image are damped like it
STEP_LIMIT = 0.15  # rad about the object, or share of its distance


class Windows:
    """Means over all windows of an image, as two matrix products."""

    def __init__(self, height: int, width: int, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        self.rows, self.columns = _averaging(height, device), _averaging(width, device)

    def mean(self, image: Tensor) -> Tensor:
        """[..., H, W] -> [..., h, w], one value for each window."""
        return self.rows @ (image @ self.columns.T)

    def spread(self, values: Tensor) -> Tensor:
        """[..., h, w] -> [..., H, W]: at each pixel the sum of its windows' values / pixels."""
        return self.rows.T @ (values @ self.columns)


@functools.lru_cache(maxsize=256)
def _averaging(length: int, device: torch.device) -> Tensor:
    """[number of windows, length]: means over WINDOW_PX pixels, the last window at the border."""
    window = min(WINDOW_PX, length)
    last = length - window
    firsts = sorted({*range(0, last + 1, WINDOW_STEP_PX), last})
    matrix = torch.zeros(len(firsts), length)
    for row, first in enumerate(firsts):
        matrix[row, first : first + window] = 1 / window
    return matrix.to(device)


class Sums(NamedTuple):
    """Queries' images [Q, C', H, W] and the mean and variance of their windows [Q, C', h, w].

    The silhouette, where there is one, is the last channel.
    """

    image: Tensor
    mean: Tensor
    variance: Tensor

    def of(self, rows: Tensor) -> Sums:
        """Those of chosen queries."""
        return Sums(*(part[rows] for part in self))


class Seen(NamedTuple):
    """Renderings' windows: mean, variance, covariance with the query, [B, C', h, w] each."""

    mean: Tensor
    variance: Tensor
    covariance: Tensor


@dataclass
class Aligner:
    """Queries at one resolution, on the device of their tensors and the model's.

    queries: [Q, C, H, W], the model's channels; silhouettes: [Q, 1, H, W], 1 on the object, or
    None; intrinsics: their pinhole; centre: of the object, [3], float64, what is turned about.
    Poses are of one query, or with `of` each of its own.
    """

    queries: Tensor
    silhouettes: Tensor | None
    intrinsics: Intrinsics
    gaussians: GaussianModel
    centre: Tensor

    def __post_init__(self) -> None:
        self.waits_for_nothing = self.queries.is_cuda
        self.camera = Camera(self.intrinsics, torch.eye(4))  # its pose isn't used
        self.windows = Windows(*self.queries.shape[-2:], self.queries.device)
        images, shapes = self.queries, self.silhouettes
        self.known = self._sums(images if shapes is None else torch.cat([images, shapes], 1))
        self.times = images.new_ones(self.known.image.shape[1], 1, 1)
        self.shape_weight = None
        if shapes is not None:
            self.times[-1] = SILHOUETTE_CHANNELS
            # as for the image where it correlates fully; flat windows have nothing to say
            variance = self.known.variance[:, -1:]
            weight = SILHOUETTE_CHANNELS * (variance > FLAT_VARIANCE) / (variance + FLAT_VARIANCE)
            self.shape_weight = self.windows.spread(weight)

    def _sums(self, image: Tensor) -> Sums:
        mean = self.windows.mean(image)
        return Sums(image, mean, (self.windows.mean(image * image) - mean**2).clamp_min(0))

    def of(self, rows: Tensor) -> Aligner:
        """The aligner of poses that belong to the queries `rows` [B]."""
        if len(self.queries) == 1:
            return self
        chosen = copy.copy(self)
        chosen.queries, chosen.known = self.queries[rows], self.known.of(rows)
        if self.silhouettes is not None:
            chosen.silhouettes = self.silhouettes[rows]
            chosen.shape_weight = self.shape_weight[rows]
        return chosen

    @torch.no_grad()
    def align(self, poses: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Damped steps from each pose; the best seen, and their similarities with the query [B].

        Nothing waits for the device.

        Args:
            poses: world_to_camera [B, 4, 4], float64, on the queries' device.
            steps: of each pose; 0 measures only.
        """
        count = len(poses)
        best, value = poses.clone(), self.queries.new_full((count,), -2.0)
        hessian, gradient = poses.new_zeros(count, 6, 6), poses.new_zeros(count, 6)
        damping = poses.new_full((count,), DAMPING)
        trial = poses
        for step in range(steps + 1):
            alike, seen = self._look(trial)
            better = alike > value
            value = torch.where(better, alike, value)
            best = torch.where(better[:, None, None], trial, best)
            if step == steps:
                break
            if step:
                damping = damping * torch.where(better, DAMPING_FALL, DAMPING_RISE)
            hessian, gradient = self._renewed(better, trial, seen, hessian, gradient)
            trial = self._stepped(best, hessian, gradient, damping)
        return best, value

    def _renewed(self, better: Tensor, poses: Tensor, seen: Seen, hessian: Tensor, gradient):
        """Hessian and gradient, those of the better poses made anew."""
        if self.waits_for_nothing:  # all: which are better, the host would have to wait for
            new_hessian, new_gradient = self._system(poses, seen)
            return (
                torch.where(better[:, None, None], new_hessian, hessian),
                torch.where(better[:, None], new_gradient, gradient),
            )
        rows = better.nonzero()[:, 0]
        if len(rows):
            some = Seen(*(part[rows] for part in seen))
            hessian[rows], gradient[rows] = self.of(rows)._system(poses[rows], some)
        return hessian, gradient

    @torch.no_grad()
    def _look(self, poses: Tensor) -> tuple[Tensor, Seen]:
        """Similarity of query and renderings [B], and the renderings' windows."""
        drawn = render(self.gaussians, self.camera, viewmat=poses.float())
        parts = [drawn.image] if self.silhouettes is None else [drawn.image, drawn.alpha]
        seen = self._against(parts)
        value, counts = correlation(self.known.variance, seen.variance, seen.covariance)
        total, weight = ((x * self.times).sum((1, 2, 3)) for x in (value, counts))
        return total / weight.clamp_min(1e-6), seen

    def _against(self, parts: list[Tensor]) -> Seen:
        """Windows of renderings, whose channels may come in parts."""
        known, (count, _, height, width) = self.known, parts[0].shape
        shape = (3, count, known.image.shape[1], height, width)
        powers = parts[0].new_empty(shape)  # the rendering, its square, its product with the query
        shown = torch.cat(parts, 1, out=powers[0])
        torch.mul(shown, shown, out=powers[1])
        torch.mul(shown, known.image, out=powers[2])
        mean, square, product = self.windows.mean(powers)
        return Seen(mean, (square - mean**2).clamp_min(0), product - mean * known.mean)

    def _system(self, poses: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
        """Gauss-Newton matrix [B, 6, 6] and gradient [B, 6] of twists at poses."""
        target, weight = self._relit(seen)
        count, channels = target.shape[:2]
        light = target.new_ones(count, channels)
        shape, shape_weight = (
            None if x is None else x.expand(count, -1, -1, -1).contiguous()
            for x in (self.silhouettes, self.shape_weight)
        )
        found = pose_system(
            self.gaussians,
            poses,
            self.intrinsics,
            target=target,
            weight=weight.contiguous(),
            gain=light,
            offset=torch.zeros_like(light),
            backdrop=self.gaussians.background.expand(count, -1).contiguous(),
            silhouette_target=shape,
            silhouette_weight=shape_weight,
            direction_term=False,
        )
        return found.H[:, :6, :6].double(), found.g[:, :6].double()

    def _relit(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """The query in the light of renderings, and its pixels' weights, [B, C, H, W] each.

        A pixel's target is the mean of what its windows ask for, by their weights g^2 / variance.
        """
        colours = slice(0, self.queries.shape[1])
        mean, variance, covariance = (part[:, colours] for part in seen)
        known = Sums(*(part[:, colours] for part in self.known))
        gain = (covariance / (variance + FLAT_VARIANCE)).clamp_min(0)
        over = gain / (known.variance + FLAT_VARIANCE)  # g / variance
        asked = over * (gain * mean - known.mean)
        weight, asked, over = self.windows.spread(torch.stack([gain * over, asked, over]))
        return (asked + over * known.image) / weight.clamp_min(1e-8), weight

    @torch.no_grad()
    def curvature(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Gauss-Newton matrices [B, 6, 6] at poses [B, 4, 4] of steps about the object, in units of
        its distance; and what turns such steps into twists of the camera, [B, 6, 6]."""
        _, seen = self._look(poses)
        hessian, _ = self._system(poses, seen)
        basis = self._basis(poses)
        return basis.mT @ hessian @ basis, basis

    def _basis(self, poses: Tensor) -> Tensor:
        """[B, 6, 6] from steps about the object, in units of its distance, to camera twists."""
        pivot = poses[:, :3, :3] @ self.centre + poses[:, :3, 3]
        return pivoted_basis(pivot, pivot.norm(dim=1))

    def _stepped(self, poses: Tensor, hessian: Tensor, gradient: Tensor, damping: Tensor):
        """Poses after a damped step, taken about the object and in units of its distance."""
        basis = self._basis(poses)
        matrix = basis.mT @ hessian @ basis
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        least = LEAST_CURVATURE * diagonal.amax(1, keepdim=True) + 1e-9
        diagonal += damping[:, None] * diagonal.clamp_min(least)
        step = -solved(matrix, (basis.mT @ gradient[..., None])[..., 0])
        step = step * (STEP_LIMIT / step.abs().amax(1).clamp_min(1e-12)).clamp_max(1)[:, None]
        return moved(poses, (basis @ step[..., None])[..., 0])


def moved(poses: Tensor, twists: Tensor) -> Tensor:
    """exp(twist) @ pose, [B, 4, 4], for turns of STEP_LIMIT: `se3_exp` in half of its launches."""
    rho, phi = twists[:, :3], twists[:, 3:]
    powers, series = _series(twists.device)
    skew = hat(phi)
    a, b, c = ((phi * phi).sum(1, keepdim=True) ** powers @ series)[..., None, None].unbind(1)
    square = skew @ skew
    turn, along = a * skew + b * square, b * skew + c * square  # both less the identity
    shift = rho[..., None] + along @ rho[..., None]
    top = poses[:, :3] + turn @ poses[:, :3]
    return torch.cat([torch.cat([top[..., :3], top[..., 3:] + shift], 2), poses[:, 3:]], 1)


@functools.cache
def _series(device: torch.device) -> tuple[Tensor, Tensor]:
    """Exponents [6], and the coefficients [6, 3] with them of sin(t) / t, (1 - cos t) / t^2 and
    (t - sin t) / t^3 in t^2: exact to float64 rounding for t below a half."""
    terms = range(6)
    rows = [[(-1) ** n / math.factorial(2 * n + k) for k in (1, 2, 3)] for n in terms]
    exponents = torch.tensor(terms, dtype=torch.float64, device=device)
    return exponents, torch.tensor(rows, dtype=torch.float64, device=device)


def solved(matrices: Tensor, vectors: Tensor) -> Tensor:
    """x [B, n] of A x = b, A positive definite, [B, n, n]; unchecked, so that nothing waits."""
    if not matrices.is_cuda:
        return torch.linalg.solve_ex(matrices, vectors[..., None])[0][..., 0]
    return eliminated(matrices, vectors)


def eliminated(matrices: Tensor, vectors: Tensor) -> Tensor:
    """`solved` by elimination: a GPU's libraries are slower at six rows, or can't be recorded."""
    rows = torch.cat([matrices, vectors[..., None]], -1)
    for k in range(rows.shape[1]):
        own = rows[:, k : k + 1] / rows[:, k : k + 1, k : k + 1]
        rows = rows.addcmul(rows[:, :, k : k + 1], own, value=-1)
        rows[:, k : k + 1] = own
    return rows[..., -1]


def flattest(curvature: Tensor, basis: Tensor) -> Tensor:
    """The twists [B, 6] that move the image least, by `Aligner.curvature`.

    About the object and in units of its distance, they have length 1.
    """
    # the host is quicker at matrices of six rows
    vectors = torch.linalg.eigh(curvature.cpu()).eigenvectors[..., :1]
    return (basis @ vectors.to(basis))[..., 0]


def sized(images: Tensor, intrinsics: Intrinsics) -> Tensor:
    """[B, C, H, W] at the size of a pinhole, by area."""
    return F.interpolate(images, (intrinsics.height, intrinsics.width), mode="area")
