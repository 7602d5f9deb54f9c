"""The search among hypotheses: many are aligned coarsely, the most alike go on to finer images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.render import render
from gaussian_renderer.se3 import se3_exp
from retrieval.align import Aligner, sized
from retrieval.compare import shrunk, similarity
from retrieval.small_models import LEAST_PX, SmallModel
from retrieval.start_pose import Hypothesis
from retrieval.warp import fitted

SAME_SIDE_DEG = 8.0  # candidates closer than this are one
MERGED_DEG = 4.0  # ... and once they are aligned
EXPLORED = (-0.8, -0.5, -0.3, -0.15, 0.15, 0.3, 0.5, 0.8)  # rad, or shares of the distance
EXPLORED_STEPS = 2  # of what is explored: the other directions follow
JUDGED = 4  # of them are rendered at full size
MAX_ROUNDS = 4  # of exploring
ROUND_GAIN = 0.005  # likeness that a round must gain to be followed by another
MAY_WIN = 0.03  # a hypothesis less alike than the best by no more than this is explored too
GO_ON = (1.0, 0.67, 0.33, 0.33)  # shares of `start_aligned` that are left after each resolution


@dataclass
class SearchQuery:
    """A query: its channels are the model's, [C, H, W]; silhouette [1, H, W] or None."""

    image: Tensor
    silhouette: Tensor | None
    intrinsics: Intrinsics
    small: Tensor = field(init=False)  # what renderings are compared with

    def __post_init__(self) -> None:
        shape = self.silhouette
        self.small = shrunk(self.image[None], None if shape is None else shape[None])


@dataclass
class Search:
    """Hypotheses of one object; `centre` [3] is turned about, `full` its model at full size."""

    full: GaussianModel
    models: list[SmallModel]
    centre: Tensor
    aligned: int  # hypotheses that go on after the coarsest resolution
    steps: int  # at each resolution

    def best(self, found: list[Hypothesis], query: SearchQuery, first: int = 0) -> list[Hypothesis]:
        """The most alike of the hypotheses, aligned, best first; their likeness is set.

        Args:
            first: index of the resolution to begin with.
        """
        for index, share in list(enumerate(GO_ON))[first:]:
            finest = index == len(GO_ON) - 1
            steps = -(-self.steps // 2) if finest else self.steps  # exploring goes on there
            poses = torch.stack([h.world_to_camera for h in found])
            poses, values = self.aligner(query, self.models[index]).align(poses, steps)
            order = values.argsort(descending=True).tolist()
            moved = [replace(found[i], world_to_camera=poses[i]) for i in order]
            found = distinct(moved, MERGED_DEG, max(1, round(share * self.aligned)))
        return sorted((self.judged(h, query) for h in found), key=lambda h: -h.similarity)

    def explored(self, found: list[Hypothesis], query: SearchQuery) -> list[Hypothesis]:
        """The hypotheses, best first; those that may win are moved to the most alike around."""
        moved = [self._around(found[0], query)]
        for hypothesis in found[1:]:
            if hypothesis.similarity > moved[0].similarity - MAY_WIN:
                hypothesis = self._around(hypothesis, query)
            moved.append(hypothesis)
        return sorted(moved, key=lambda h: -h.similarity)

    def _around(self, best: Hypothesis, query: SearchQuery) -> Hypothesis:
        """The most alike pose along the direction in which the image hardly changes.

        Low resolution is level there, and alignment ends anywhere: only the ends of its wire tell
        how a spring is turned about its axis.
        """
        aligner = self.aligner(query, self.models[-1])
        for _ in range(MAX_ROUNDS):
            pose = best.world_to_camera
            ways = torch.tensor(EXPLORED, dtype=torch.float64)[:, None] * aligner.flattest(pose)
            poses, values = aligner.align(se3_exp(ways) @ pose, EXPLORED_STEPS)
            likely = poses[values.argsort(descending=True)[:JUDGED]]
            around = [self.judged(replace(best, world_to_camera=one), query) for one in likely]
            before, best = best, max([best, *around], key=lambda h: h.similarity)
            if best.similarity < before.similarity + ROUND_GAIN:
                break
        return best

    def aligner(self, query: SearchQuery, model: SmallModel) -> Aligner:
        """The query at the resolution of a model: a pixel of both covers the same angle."""
        pinhole = query.intrinsics
        side = max(pinhole.width, pinhole.height) * model.focal_px / pinhole.fx
        pinhole = fitted(pinhole, max(LEAST_PX, round(side)))
        shape = query.silhouette
        return Aligner(
            sized(query.image, pinhole).cpu(),
            None if shape is None else sized(shape, pinhole).cpu(),
            pinhole,
            model.gaussians,
            self.centre,
        )

    @torch.no_grad()
    def judged(self, hypothesis: Hypothesis, query: SearchQuery) -> Hypothesis:
        """The hypothesis with its likeness, of a rendering at full size."""
        drawn = render(self.full, Camera(query.intrinsics, hypothesis.world_to_camera))
        alpha = None if query.silhouette is None else drawn.alpha[None]
        shown = shrunk(drawn.image[None], alpha)
        return replace(hypothesis, similarity=similarity(query.small, shown).item())


def angles_between(pose: Tensor, poses: Tensor) -> Tensor:
    """Degrees between the directions of a pose [4, 4] and of others [B, 4, 4], [B]."""
    trace = (poses[:, :3, :3] * pose[:3, :3]).sum((1, 2))
    return ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg()


def distinct(found: list[Hypothesis], angle_deg: float, count: int) -> list[Hypothesis]:
    """The first `count` of the hypotheses that differ by more than an angle from those before."""
    poses = torch.stack([h.world_to_camera for h in found])
    kept: list[int] = []
    for index in range(len(found)):
        if not kept or bool((angles_between(poses[index], poses[kept]) > angle_deg).all()):
            kept.append(index)
            if len(kept) == count:
                break
    return [found[i] for i in kept]
