"""The search among hypotheses: many are aligned coarsely, the most alike go on to finer images.

All hypotheses of all queries take their steps together; on a GPU the host waits for the device once
a resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from gaussian_renderer.camera import Camera, Intrinsics
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.render import render
from gaussian_renderer.se3 import se3_exp
from retrieval.align import Aligner, flattest, sized
from retrieval.compare import shrunk, similarity
from retrieval.replay import Recorder
from retrieval.small_models import LEAST_PX, SmallModel
from retrieval.start_pose import Hypothesis
from retrieval.warp import fitted

SAME_SIDE_DEG = 8.0  # candidates closer than this are one
MERGED_DEG = 4.0  # ... and once they are aligned
EXPLORED = (-0.8, -0.5, -0.3, -0.15, 0.15, 0.3, 0.5, 0.8)  # rad, or shares of the distance
EXPLORED_STEPS = 2  # of what is explored: the other directions follow
JUDGED = 4  # of them are rendered at full size
JUDGED_AT_ONCE = 64  # renderings in memory, on a GPU
MAX_ROUNDS = 4  # of exploring
ROUND_GAIN = 0.005  # likeness that a round must gain to be followed by another
MAY_WIN = 0.03  # a hypothesis less alike than the best by no more than this is explored too
GO_ON = (1.0, 0.67, 0.33, 0.33)  # shares of `start_aligned` that are left after each resolution


@dataclass
class SearchQueries:
    """Queries of one pinhole.

    images: [Q, C, H, W], the model's channels; silhouettes: [Q, 1, H, W] or None; zoom: by how
    much the object would look larger at the gallery's distance.
    """

    images: Tensor
    silhouettes: Tensor | None
    intrinsics: Intrinsics
    zoom: float = 1.0
    small: Tensor = field(init=False)  # what renderings are compared with
    sized: dict[int, list[Tensor]] = field(default_factory=dict)  # `tensors` by resolution

    def __post_init__(self) -> None:
        self.small = shrunk(self.images, self.silhouettes)

    def tensors(self) -> list[Tensor]:
        """Images, and silhouettes where there are any."""
        return [self.images] if self.silhouettes is None else [self.images, self.silhouettes]


@dataclass
class Search:
    """Hypotheses of one object; `centre` [3] is turned about, `full` its model at full size."""

    full: GaussianModel
    models: list[SmallModel]
    centre: Tensor
    aligned: int  # hypotheses that go on after the coarsest resolution
    steps: int  # at each resolution
    recorder: Recorder = field(default_factory=Recorder)

    def __post_init__(self) -> None:
        self.centre = self._on_device(self.centre)

    def best(
        self, found: list[list[Hypothesis]], queries: SearchQueries, first: int = 0
    ) -> list[list[Hypothesis]]:
        """The most alike of each query's hypotheses, aligned, best first; their likeness is set.

        Args:
            first: index of the resolution to begin with.
        """
        for index, share in list(enumerate(GO_ON))[first:]:
            flat, owners = flattened(found)
            if not flat:
                return found
            finest = index == len(GO_ON) - 1
            steps = -(-self.steps // 2) if finest else self.steps  # exploring goes on there
            rows = self._on_device(torch.tensor(owners))
            poses, values = self._aligned(queries, index, rows, self._poses(flat), steps)
            poses, order = poses.cpu(), values.cpu().argsort(descending=True).tolist()
            moved: list[list[Hypothesis]] = [[] for _ in found]
            for i in order:
                moved[owners[i]].append(replace(flat[i], world_to_camera=poses[i]))
            count = max(1, round(share * self.aligned))
            found = [distinct(some, MERGED_DEG, count) for some in moved]
        flat, owners = flattened(found)
        ranked: list[list[Hypothesis]] = [[] for _ in found]
        for owner, hypothesis in zip(owners, self.judged(flat, owners, queries), strict=True):
            ranked[owner].append(hypothesis)
        return [sorted(some, key=lambda h: -h.similarity) for some in ranked]

    def explored(
        self, found: list[list[Hypothesis]], queries: SearchQueries
    ) -> list[list[Hypothesis]]:
        """Each query's hypotheses, best first; those that may win are moved to the most alike
        around."""
        leads = [owner for owner, some in enumerate(found) if some]
        moved = {(owner, 0): found[owner][0] for owner in leads}
        self._around(moved, queries)
        rivals = {
            (owner, rank): hypothesis
            for owner in leads
            for rank, hypothesis in enumerate(found[owner])
            if rank and hypothesis.similarity > moved[owner, 0].similarity - MAY_WIN
        }
        self._around(rivals, queries)
        moved |= rivals
        return [
            sorted(
                (moved.get((owner, rank), h) for rank, h in enumerate(some)),
                key=lambda h: -h.similarity,
            )
            for owner, some in enumerate(found)
        ]

    def _around(self, best: dict[tuple[int, int], Hypothesis], queries: SearchQueries) -> None:
        """Puts in the most alike poses along the direction in which the image hardly changes.

        Low resolution is level there, and alignment ends anywhere: only the ends of its wire tell
        how a spring is turned about its axis.

        Args:
            best: hypotheses by (query, rank).
        """
        active = list(best)
        for _ in range(MAX_ROUNDS):
            if not active:
                return
            around = self._ring([best[key] for key in active], [key[0] for key in active], queries)
            before = {key: best[key].similarity for key in active}
            for key, some in zip(active, around, strict=True):
                best[key] = max([best[key], *some], key=lambda h: h.similarity)
            active = [k for k in active if best[k].similarity >= before[k] + ROUND_GAIN]

    def _ring(
        self, centres: list[Hypothesis], owners: list[int], queries: SearchQueries
    ) -> list[list[Hypothesis]]:
        """The JUDGED most alike of the poses explored around each hypothesis, judged."""
        rows = self._on_device(torch.tensor(owners))
        poses, finest = self._poses(centres), len(self.models) - 1
        twists = flattest(*self._on_aligner(queries, finest, "curvature", rows, poses))
        ways = twists[:, None] * torch.tensor(EXPLORED, dtype=torch.float64)[:, None].to(twists)
        tried = (se3_exp(ways) @ poses[:, None]).flatten(0, 1)
        each = rows.repeat_interleave(len(EXPLORED))
        around, values = self._aligned(queries, finest, each, tried, EXPLORED_STEPS)
        likely = values.view(len(centres), -1).argsort(descending=True)[:, :JUDGED].cpu()
        around = around.cpu().view(len(centres), -1, 4, 4)
        flat = [
            replace(hypothesis, world_to_camera=around[i, j])
            for i, hypothesis in enumerate(centres)
            for j in likely[i].tolist()
        ]
        judged = self.judged(flat, np.repeat(owners, JUDGED).tolist(), queries)
        return [judged[i : i + JUDGED] for i in range(0, len(judged), JUDGED)]

    def _aligned(
        self, queries: SearchQueries, index: int, rows: Tensor, poses: Tensor, steps: int
    ) -> tuple[Tensor, Tensor]:
        """Poses [B, 4, 4] of the queries `rows` [B] after steps at one resolution, and their
        similarities [B]."""
        return self._on_aligner(queries, index, "align", rows, poses, steps)

    def _on_aligner(self, queries: SearchQueries, index: int, method: str, rows, poses, *settings):
        """What an aligner's method makes of poses [B, 4, 4] of the queries `rows` [B]."""
        pinhole = self.pinhole(queries.intrinsics, self.models[index], queries.zoom)
        if index not in queries.sized:
            queries.sized[index] = [sized(x, pinhole) for x in queries.tensors()]

        def work(*tensors: Tensor) -> tuple[Tensor, ...]:
            *images, own, start = tensors
            shapes = images[1] if len(images) > 1 else None
            model = self.models[index].gaussians
            aligner = Aligner(images[0], shapes, pinhole, model, self.centre).of(own)
            return getattr(aligner, method)(start, *settings)

        name = (method, index, pinhole, *settings)
        return self.recorder.run(name, work, queries.sized[index], (rows, poses))

    @staticmethod
    def pinhole(intrinsics: Intrinsics, model: SmallModel, zoom: float) -> Intrinsics:
        """A query's at the resolution of a model: a pixel covers as much of the object in both."""
        side = max(intrinsics.width, intrinsics.height) * zoom * model.focal_px / intrinsics.fx
        return fitted(intrinsics, max(LEAST_PX, round(side)))

    @torch.no_grad()
    def judged(
        self, found: Sequence[Hypothesis], owners: Sequence[int], queries: SearchQueries
    ) -> list[Hypothesis]:
        """The hypotheses with their likeness to their queries, of renderings at full size."""
        if not found:
            return []
        poses, rows = self._poses(found).float(), self._on_device(torch.tensor(owners))
        camera = Camera(queries.intrinsics, found[0].world_to_camera)
        known = queries.silhouettes is not None

        def work(small: Tensor, own: Tensor, seen_from: Tensor) -> tuple[Tensor]:
            drawn = render(self.full, camera, viewmat=seen_from)
            shown = shrunk(drawn.image, drawn.alpha if known else None)
            return (similarity(small[own], shown),)

        name = ("judged", queries.intrinsics, known)
        values = [
            self.recorder.run(name, work, (queries.small,), some)[0]
            for some in self._parts(rows, poses)
        ]
        numbers = torch.cat(values).tolist()
        return [replace(h, similarity=s) for h, s in zip(found, numbers, strict=True)]

    def _parts(self, *tensors: Tensor):
        """What is rendered at once; one after the other stays in a processor's cache."""
        size = JUDGED_AT_ONCE if self.full.device.type == "cuda" else 1
        return zip(*(tensor.split(size) for tensor in tensors), strict=True)

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.full.device)

    def _poses(self, found: Sequence[Hypothesis]) -> Tensor:
        return self._on_device(torch.stack([h.world_to_camera for h in found]))


def flattened(found: list[list[Hypothesis]]) -> tuple[list[Hypothesis], list[int]]:
    """All queries' hypotheses, and which query each belongs to."""
    owners = [owner for owner, some in enumerate(found) for _ in some]
    return [h for some in found for h in some], owners


def distinct(found: list[Hypothesis], angle_deg: float, count: int) -> list[Hypothesis]:
    """The first `count` of the hypotheses that differ by more than an angle from those before."""
    if not found:
        return []
    rotations = torch.stack([h.world_to_camera[:3, :3] for h in found]).numpy()
    return [found[i] for i in distinct_rows(rotations, angle_deg, count)]


def distinct_rows(rotations: np.ndarray, angle_deg: float, count: int) -> list[int]:
    """Indices of the first `count` rotations [B, 3, 3] that lie apart by more than an angle."""
    flat = rotations.reshape(len(rotations), 9)
    most = 1 + 2 * np.cos(np.deg2rad(angle_deg))  # trace of a rotation by that angle
    free = np.ones(len(flat), dtype=bool)
    kept: list[int] = []
    while len(kept) < count and free.any():
        kept.append(int(free.argmax()))
        free &= flat @ flat[kept[-1]] < most
        free[kept[-1]] = False
    return kept
