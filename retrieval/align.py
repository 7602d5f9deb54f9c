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
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.pose_system import pose_system
from gaussian_renderer.render import render
from gaussian_renderer.se3 import pivoted_basis, se3_exp
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
    """Queries' images [Q, C, H, W] and the mean and variance of their windows [Q, C, h, w]."""

    image: Tensor
    mean: Tensor
    variance: Tensor

    def of(self, rows: Tensor) -> Sums:
        """Those of chosen queries."""
        return Sums(*(part[rows] for part in self))


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
        self.windows = Windows(*self.queries.shape[-2:], self.queries.device)
        self.known = self._sums(self.queries)
        self.shape = self.shape_weight = None
        if self.silhouettes is not None:
            self.shape = self._sums(self.silhouettes)
            # as for the image where it correlates fully; flat windows have nothing to say
            says = self.shape.variance > FLAT_VARIANCE
            weight = SILHOUETTE_CHANNELS * says / (self.shape.variance + FLAT_VARIANCE)
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
        if self.shape is not None:
            chosen.shape, chosen.shape_weight = self.shape.of(rows), self.shape_weight[rows]
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
            seen, images = self._look(trial)
            better = seen > value
            value = torch.where(better, seen, value)
            best = torch.where(better[:, None, None], trial, best)
            if step == steps:
                break
            if step:
                damping = damping * torch.where(better, DAMPING_FALL, DAMPING_RISE)
            hessian, gradient = self._renewed(better, trial, images, hessian, gradient)
            trial = self._stepped(best, hessian, gradient, damping)
        return best, value

    def _renewed(self, better: Tensor, poses: Tensor, images: Tensor, hessian: Tensor, gradient):
        """Hessian and gradient, those of the better poses made anew."""
        if self.waits_for_nothing:  # all: which are better, the host would have to wait for
            new_hessian, new_gradient = self._system(poses, images)
            return (
                torch.where(better[:, None, None], new_hessian, hessian),
                torch.where(better[:, None], new_gradient, gradient),
            )
        rows = better.nonzero()[:, 0]
        if len(rows):
            hessian[rows], gradient[rows] = self.of(rows)._system(poses[rows], images[rows])
        return hessian, gradient

    @torch.no_grad()
    def _look(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity of query and renderings [B], and the renderings [B, C, H, W]."""
        camera = Camera(self.intrinsics, poses[0])
        drawn = render(self.gaussians, camera, viewmat=poses.float())
        total = weight = 0.0
        pairs = [(self.known, drawn.image, 1)]
        if self.shape is not None:
            pairs.append((self.shape, drawn.alpha, SILHOUETTE_CHANNELS))
        for known, shown, times in pairs:
            mean, variance, covariance = self._against(known, shown)
            value, counts = correlation(known.variance, variance, covariance)
            total = total + times * value.sum((1, 2, 3))
            weight = weight + times * counts.sum((1, 2, 3))
        return total / weight.clamp_min(1e-6), drawn.image

    def _against(self, known: Sums, shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of renderings, and their covariance with the query, by window."""
        mean = self.windows.mean(shown)
        variance = (self.windows.mean(shown * shown) - mean**2).clamp_min(0)
        return mean, variance, self.windows.mean(shown * known.image) - mean * known.mean

    def _system(self, poses: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Gauss-Newton matrix [B, 6, 6] and gradient [B, 6] of twists at poses."""
        target, weight = self._relit(images)
        count, channels = len(poses), images.shape[1]
        light = images.new_ones(count, channels)
        shape, shape_weight = (
            None if x is None else x.expand(count, -1, -1, -1).contiguous()
            for x in (None if self.shape is None else self.shape.image, self.shape_weight)
        )
        found = pose_system(
            self.gaussians,
            poses,
            self.intrinsics,
            target=target.contiguous(),
            weight=weight.contiguous(),
            gain=light,
            offset=torch.zeros_like(light),
            backdrop=self.gaussians.background.expand(count, -1).contiguous(),
            silhouette_target=shape,
            silhouette_weight=shape_weight,
            direction_term=False,
        )
        return found.H[:, :6, :6].double(), found.g[:, :6].double()

    def _relit(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The query in the light of renderings, and its pixels' weights, [B, C, H, W] each.

        A pixel's target is the mean of what its windows ask for, by their weights g^2 / variance.
        """
        mean, variance, covariance = self._against(self.known, images)
        gain = (covariance / (variance + FLAT_VARIANCE)).clamp_min(0)
        over = gain / (self.known.variance + FLAT_VARIANCE)  # g / variance
        weight = self.windows.spread(gain * over)
        asked = self.windows.spread(over * (gain * mean - self.known.mean))
        asked = asked + self.windows.spread(over) * self.known.image
        return asked / weight.clamp_min(1e-8), weight

    @torch.no_grad()
    def curvature(self, poses: Tensor) -> tuple[Tensor, Tensor]:
        """Gauss-Newton matrices [B, 6, 6] at poses [B, 4, 4] of steps about the object, in units of
        its distance; and what turns such steps into twists of the camera, [B, 6, 6]."""
        _, images = self._look(poses)
        hessian, _ = self._system(poses, images)
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
        damped = matrix + torch.diag_embed(damping[:, None] * diagonal.clamp_min(least))
        # unchecked, so that nothing waits: damped, it is positive definite
        step = -torch.linalg.solve_ex(damped, basis.mT @ gradient[..., None])[0][..., 0]
        step = step * (STEP_LIMIT / step.abs().amax(1).clamp_min(1e-12)).clamp_max(1)[:, None]
        return se3_exp((basis @ step[..., None])[..., 0]) @ poses


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
