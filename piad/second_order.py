"""Second-order pose refinement: Gauss-Newton steps on SE(3), coarse to fine (ours).

First with one light for the image, which reaches far, then with a light for every tile, which is
exact. The equations and what was measured: docs/method_refinement.md. A step's normal equations
come from `pose_rasterizer.pose_normal_equations`: six derivatives blended beside the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from piad.agreement import closeness_in, closeness_of, likeness_of
from piad.host_se3 import pivoted_basis, se3_exp
from piad.models import ModelPair
from piad.rounds import Round, State, System, at_scale, make_level, make_system
from piad.target import Target
from piad.votes import settled
from piad.warp_search import WarpSearch, warp_search
from retrieval.compare import shrunk

if TYPE_CHECKING:
    from piad.lent_detail import LentDetail

STATE_KEYS = ("pose", "gain", "offset")
AT_ONCE = 64  # full-size renderings in memory
STEP_LIMIT = 0.1  # rad about the object, or share of its distance: the reach of a linear step
TRUSTED_STEP = 0.01  # in the same units: a last step so short is taken unseen
DAMPING_START = {"global": 1e-2, "tile": 1e-3}
DAMPING_RANGE = (1e-5, 1e4)
RELAX_RANGE = (1.0, 8.0)  # factors of a Gauss-Newton step
RELAX_CHANGE = (0.25, 4.0)  # of that factor from one step to the next
STEP_PX = 0.5  # where so short a step doesn't lower the cost, the models can't say more
COST_CHANGE = 1e-4  # ... as has one that lowers the cost by less than this share


@dataclass
class Run:
    """One hypothesis on its way: where it stands, and what the last round said."""

    pose: Tensor  # world_to_camera [4, 4], float64, on the CPU
    query: int  # of the aligner's, which it belongs to
    trace: list[Tensor]
    gain: Tensor = field(default_factory=lambda: torch.ones(6, dtype=torch.float64), repr=False)
    offset: Tensor = field(default_factory=lambda: torch.zeros(6, dtype=torch.float64), repr=False)
    calls: int = 0
    likeness: float | None = None  # of the pose; only looked at where it decides
    closeness: tuple[float, float] = (math.nan, 0.0)  # loss and agreement at the end
    reason: str = "steps"
    cost: float = math.inf  # of the last round, at the last pose that was rendered
    mismatch: float = math.inf  # the same over the cost of a rendering that shows nothing
    improved: float = math.inf  # of the last search: by how much patches match better after it
    hessian: Tensor | None = field(default=None, repr=False)  # [6 or 18, ...], there

    def move(self, pose: Tensor) -> None:
        """Goes on from another pose, [4, 4]."""
        self.pose = pose
        self.likeness = None
        self.trace.append(pose)


class Aligner:
    """Moves hypotheses of queries of one kind, all that it is given in lockstep."""

    def __init__(
        self,
        targets: Sequence[Target],
        models: ModelPair,
        reflectance_weight: float,
        lent: LentDetail | None = None,
    ) -> None:
        """
        Args:
            lent: what gallery photographs show and the models don't, for the vote.
        """
        self.target, self.models, self.lent = Target.stacked(targets), models, lent
        self.reflectance_weight = reflectance_weight
        self._scaled = {1.0: self.target}
        self._small: Tensor | None = None  # what likenesses are taken of

    def query(self, scale: float) -> Target:
        """The queries at a share of the full resolution, stacked."""
        if scale not in self._scaled:
            self._scaled[scale] = at_scale(self.target, scale)
        return self._scaled[scale]

    def begin(self, pose: Tensor, query: int = 0) -> Run:
        """A hypothesis, world_to_camera [4, 4], of a query before any step."""
        start = pose.detach().double().cpu()
        return Run(start.clone(), query, [start])

    def search(self, runs: Sequence[Run], search: WarpSearch) -> list[float]:
        """One search by rendering from every hypothesis, which is carried on.

        Returns:
            how well the patches match after it.
        """
        scores = []
        for first in range(0, len(runs), AT_ONCE):
            some = runs[first : first + AT_ONCE]
            poses, found, before = warp_search(
                self.target.intrinsics,
                self.query(search.scale).take([run.query for run in some]),
                torch.stack([run.pose for run in some]),
                self.models,
                search,
                self.reflectance_weight,
            )
            for run, pose, gain in zip(some, poses, (found - before).tolist(), strict=True):
                run.move(pose)
                run.improved = gain
            scores += found.tolist()
        return scores

    def look(self, runs: Sequence[Run]) -> None:
        """Sets the likeness with the query (`retrieval.compare.likeness`) where it isn't known."""
        unknown = [run for run in runs if run.likeness is None]
        if unknown and self._small is None:
            self._small = shrunk(self.target.image, self.target.silhouette)
        for first in range(0, len(unknown), AT_ONCE):
            some = unknown[first : first + AT_ONCE]
            queries = torch.tensor([run.query for run in some], device=self._small.device)
            poses = torch.stack([run.pose for run in some])
            found = likeness_of(self._small[queries], self.target, poses, self.models)
            for run, likeness in zip(some, found, strict=True):
                run.likeness = likeness

    def round(self, runs: Sequence[Run], this: Round, others: Sequence[Tensor | None] = ()) -> None:
        """Steps of one round of every hypothesis, which is carried on.

        Args:
            others: for each another pose [4, 4], from which it begins if that costs less, or None.
        """
        if runs:
            walk = _Walk(self, runs, this)
            walk.begin_at_better(others)
            walk.go()

    def vote(self, runs: Sequence[Run]) -> None:
        """Settles the weakest direction of every hypothesis, after its last round.

        Sets closeness too, by a rendering that the vote begins with.
        """
        for first in range(0, len(runs), AT_ONCE // 4):
            some = runs[first : first + AT_ONCE // 4]
            target = self.target.take([run.query for run in some])
            poses = torch.stack([run.pose for run in some])
            hessians = torch.stack([run.hessian[:6, :6] for run in some])
            costs = torch.tensor([run.cost for run in some], dtype=torch.float64)
            share = self.reflectance_weight
            found, sight = settled(target, poses, hessians, costs, self.models, share, self.lent)
            close = closeness_in(sight, target, self.models.background, share)
            for run, pose, own in zip(some, found, close, strict=True):
                run.move(pose)
                run.closeness = own

    def compare(self, runs: Sequence[Run]) -> None:
        """Sets closeness by a rendering each."""
        target = self.target.take([run.query for run in runs])
        poses = torch.stack([run.pose for run in runs])
        found = closeness_of(target, poses, self.models, self.reflectance_weight)
        for run, own in zip(runs, found, strict=True):
            run.closeness = own


class _Walk:
    """One round of N hypotheses in lockstep; those that have ended are left out of the calls."""

    def __init__(self, aligner: Aligner, runs: Sequence[Run], this: Round) -> None:
        self.models, self.runs, self.this = aligner.models, runs, this
        self.focal = aligner.target.intrinsics.fx
        self.state = State(
            *(np.stack([getattr(run, k).numpy() for run in runs]) for k in STATE_KEYS)
        )
        target = aligner.query(this.scale).take([run.query for run in runs])
        weight = aligner.reflectance_weight
        self.level = make_level(target, self.state, self.models, weight, this)
        self.best = make_system(self.models, self.state, self.level)
        count = len(runs)
        self.centre = self.models.host_centre.numpy()
        self.damping = np.full(count, DAMPING_START[this.light])
        self.relax = np.full(count, this.relax)
        self.converged = np.zeros(count, bool)
        self.calls = np.ones(count, int)

    def begin_at_better(self, poses: Sequence[Tensor | None]) -> None:
        """Begins at `poses`, each [4, 4], where there are any and they cost less."""
        asked = np.array([pose is not None for pose in poses], bool)
        if not asked.any():
            return
        others = self.state.take(asked)
        others.pose = np.stack([pose.numpy() for pose in poses if pose is not None])
        systems = make_system(self.models, others, self.level.take(asked))
        index = np.flatnonzero(asked)
        better = systems.cost < self.best.cost[index]
        self.state.put(index[better], others.take(better))
        self.best.put(index[better], systems.take(better))
        self.calls[index] += 1

    def go(self) -> None:
        """All steps; the runs are carried on."""
        active, level = np.arange(len(self.runs)), self.level
        for made in range(1, self.this.calls + 1):
            moved, step, length = self._moved(active)
            short = length * self.focal < self.this.stop_px
            self.converged[active] = short
            trusted = short if made < self.this.calls else length <= TRUSTED_STEP
            self._accept(active[trusted], moved.take(trusted))
            if made == self.this.calls:
                break
            active, moved, step = active[~short], moved.take(~short), step[~short]
            level = level.take(~short)
            if len(active) == 0:
                break
            trial = make_system(self.models, moved, level)
            self.calls[active] += 1
            going = self._judged(active, moved, trial, step, length[~short])
            active, level = active[going], level.take(going)
            if len(active) == 0:
                break
        self._write_back()

    def _moved(self, active: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        """States after a step, the steps [A, P], and their lengths [A] (rad or distances)."""
        state, system = self.state.take(active), self.best.take(active)
        pose, size = state.pose, system.gradient.shape[1]
        basis = pivoted_basis(pose[:, :3, :3] @ self.centre + pose[:, :3, 3], size)
        transposed = basis.transpose(0, 2, 1)
        damped = transposed @ system.hessian @ basis
        index = range(size)
        diagonal = np.maximum(damped[:, index, index], 1e-9)
        damped[:, index, index] += self.damping[active, None] * diagonal
        step = _solved(damped, transposed @ system.gradient[:, :, None])[:, :, 0]
        step *= -self.relax[active, None]
        length = np.abs(step[:, :6]).max(1)
        step *= np.minimum(STEP_LIMIT / np.maximum(length, 1e-30), 1)[:, None]
        step = (basis @ step[:, :, None])[:, :, 0]
        state.pose = se3_exp(step[:, :6]) @ pose
        if size > 6:
            state.gain, state.offset = state.gain + step[:, 6:12], state.offset + step[:, 12:]
        return state, step, np.minimum(length, STEP_LIMIT)

    def _judged(
        self, active: np.ndarray, moved: State, trial: System, step: np.ndarray, length: np.ndarray
    ) -> np.ndarray:
        """Keeps the trials that lower the cost, sets the next steps; a mask [A] of who goes on."""
        best = self.best.take(active)
        damping, relax = self.damping[active], self.relax[active]
        factor = _secant(best.gradient, trial.gradient, step)
        better = np.isfinite(trial.cost) & (trial.cost < best.cost)
        change = (best.cost - trial.cost) / np.maximum(best.cost, 1e-30)
        stretched = ~better & (relax > 1)  # a stretched step that fails is shortened first
        damped = ~better & ~stretched
        eased = np.maximum(damping / 10, DAMPING_RANGE[0])
        damping = np.where(better, eased, np.where(damped, damping * 10, damping))
        shortened = np.maximum(relax * np.minimum(factor, 0.5), 1)
        if self.this.light == "tile":
            relax = np.where(better, np.clip(relax * factor, *RELAX_RANGE), relax)
        relax = np.where(stretched, shortened, relax)
        self.damping[active], self.relax[active] = damping, relax
        self._accept(active[better], moved.take(better))
        self.best.put(active[better], trial.take(better))
        little = better & (change < COST_CHANGE)
        tiny = damped & (length * self.focal < STEP_PX)
        ended = little | tiny | (damped & (damping > DAMPING_RANGE[1]))
        self.converged[active[ended]] = True
        return ~ended

    def _accept(self, index: np.ndarray, moved: State) -> None:
        self.state.put(index, moved)
        for i, pose in zip(index, torch.from_numpy(moved.pose), strict=True):
            self.runs[i].trace.append(pose)

    def _write_back(self) -> None:
        poses, gains, offsets, hessians = (
            torch.from_numpy(x)
            for x in (self.state.pose, self.state.gain, self.state.offset, self.best.hessian)
        )
        blank = self.level.blank
        blank = np.zeros(len(poses)) if blank is None else blank.cpu().double().numpy()
        for i, run in enumerate(self.runs):
            run.pose, run.gain, run.offset = poses[i], gains[i], offsets[i]
            run.likeness = None
            run.cost, run.hessian = float(self.best.cost[i]), hessians[i]
            run.mismatch = run.cost / max(float(blank[i]), 1e-12)
            run.calls += int(self.calls[i])
            run.reason = "converged" if self.converged[i] else "steps"


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solutions [N, P, 1] of linear systems; not a number where one has none."""
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:  # one without a solution must not end the others
        return torch.linalg.solve_ex(
            torch.from_numpy(matrix), torch.from_numpy(right)
        ).result.numpy()


def _secant(before: np.ndarray, after: np.ndarray, step: np.ndarray) -> np.ndarray:
    """How much longer steps should have been for the slope along them to vanish at their ends, [N].

    Where rendering and query hardly correlate yet, J^T J is larger than the cost's curvature and
    Gauss-Newton's steps fall short by the same factor for many steps: the next one is stretched.

    Args:
        before, after, step: gradients at a step's two ends, and the step, [N, P].
    """
    slope, end = (before * step).sum(1), (after * step).sum(1)
    least, most = RELAX_CHANGE
    falls = end > slope
    return np.where(falls, np.clip(slope / np.where(falls, slope - end, 1), least, most), most)
