"""Second-order pose refinement: Gauss-Newton steps on SE(3), coarse to fine (ours).

First with one light for the image, which reaches far, then with a light for every tile, which is
exact. The equations and what was measured: docs/method_refinement.md. A step's normal equations
come from `pose_rasterizer.pose_normal_equations`: six derivatives blended beside the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gaussian_renderer.se3 import pivoted_basis, se3_exp
from piad.models import ModelPair
from piad.rounds import Round, State, System, at_scale, make_level, make_system
from piad.target import Target

STEP_LIMIT = 0.1  # rad about the object, or share of its distance: the reach of a linear step
TRUSTED_STEP = 0.01  # in the same units: a last step so short is taken unseen
DAMPING_START = {"global": 1e-2, "tile": 1e-3}
DAMPING_RANGE = (1e-5, 1e4)
RELAX_RANGE = (1.0, 8.0)  # factors of a Gauss-Newton step
RELAX_CHANGE = (0.25, 4.0)  # of that factor from one step to the next
STEP_PX = 0.02  # a step that moves the image by less has converged
COST_CHANGE = 1e-4  # ... as has one that lowers the cost by less than this share


@dataclass
class Run:
    """One hypothesis on its way: where it stands, and what the last round said."""

    state: State
    trace: list[Tensor]
    calls: int = 0
    reason: str = "steps"
    cost: float = math.inf  # of the last round, at the last pose that was rendered
    hessian: Tensor | None = field(default=None, repr=False)  # [6 or 18, ...], there

    @property
    def pose(self) -> Tensor:
        """World_to_camera [4, 4], float64."""
        return self.state.pose


class Aligner:
    """Moves hypotheses of one query."""

    def __init__(self, target: Target, models: ModelPair, reflectance_weight: float) -> None:
        self.target, self.models = target, models
        self.reflectance_weight = reflectance_weight
        self._scaled = {1.0: target}

    def query(self, scale: float) -> Target:
        """The query at a share of the full resolution."""
        if scale not in self._scaled:
            self._scaled[scale] = at_scale(self.target, scale)
        return self._scaled[scale]

    def begin(self, pose: Tensor) -> Run:
        """A hypothesis, world_to_camera [4, 4], before any step."""
        start = pose.detach().double().cpu()
        image = self.target.image
        return Run(State(start.clone(), image.new_ones(6), image.new_zeros(6)), [start])

    def _moved(self, state: State, system: System, damping: float, relax: float):
        """The state after a step, the step [P], its basis, and its length (rad or distances)."""
        pose, size = state.pose, len(system.gradient)
        pivot = pose[:3, :3] @ self.models.centre.to(pose) + pose[:3, 3]
        basis = torch.eye(size, dtype=torch.float64)
        basis[:6, :6] = pivoted_basis(pivot, float(pivot.norm()))
        hessian = basis.T @ system.hessian @ basis
        diagonal = hessian.diagonal().clamp_min(1e-9)
        step = torch.linalg.solve(hessian + damping * torch.diag(diagonal), system.gradient @ basis)
        step = -relax * step
        length = float(step[:6].abs().max())
        if length > STEP_LIMIT:
            step, length = step * (STEP_LIMIT / length), STEP_LIMIT
        moved = State(se3_exp(basis[:6, :6] @ step[:6]) @ pose, state.gain, state.offset)
        if size > 6:
            moved.gain = state.gain + step[6:12].to(state.gain)
            moved.offset = state.offset + step[12:].to(state.offset)
        return moved, basis @ step, length

    def round(self, run: Run, this: Round) -> Run:
        """Steps of one round; `run` is carried on."""
        target = self.query(this.scale)
        level = make_level(target, run.state, self.models, self.reflectance_weight, this)
        state, best = run.state, make_system(self.models, run.state, level)
        calls, damping, relax = 1, DAMPING_START[this.light], this.relax
        focal, reason = self.target.intrinsics.fx, "steps"
        while True:
            moved, step, length = self._moved(state, best, damping, relax)
            if calls >= this.calls or length * focal < STEP_PX:
                reason = "converged" if length * focal < STEP_PX else reason
                if length <= TRUSTED_STEP and calls >= this.calls:
                    state = moved
                    run.trace.append(state.pose)
                break
            trial = make_system(self.models, moved, level)
            calls += 1
            factor = _secant(best.gradient, trial.gradient, step)
            if math.isfinite(trial.cost) and trial.cost < best.cost:
                change = (best.cost - trial.cost) / max(best.cost, 1e-30)
                state, best = moved, trial
                run.trace.append(state.pose)
                damping = max(damping / 10, DAMPING_RANGE[0])
                if this.light == "tile":
                    relax = min(max(relax * factor, RELAX_RANGE[0]), RELAX_RANGE[1])
                if change < COST_CHANGE:
                    reason = "converged"
                    break
            elif relax > 1:
                relax = max(1.0, relax * min(factor, 0.5))
            else:
                damping *= 10
                if damping > DAMPING_RANGE[1]:
                    reason = "converged"
                    break
        run.state, run.cost, run.hessian = state, best.cost, best.hessian
        run.calls, run.reason = run.calls + calls, reason
        return run

    def rounds(self, run: Run, rounds: Sequence[Round]) -> Run:
        """One round after another."""
        for this in rounds:
            run = self.round(run, this)
        return run


def _secant(before: Tensor, after: Tensor, step: Tensor) -> float:
    """How much longer the step should have been for the slope along it to vanish at its end.

    Where rendering and query hardly correlate yet, J^T J is larger than the cost's curvature and
    Gauss-Newton's steps fall short by the same factor for many steps: the next one is stretched.
    """
    slope, end = float(before @ step), float(after @ step)
    least, most = RELAX_CHANGE
    return most if end <= slope else min(max(slope / (slope - end), least), most)


def align(
    hypotheses: Sequence[Tensor],
    target: Target,
    models: ModelPair,
    reflectance_weight: float,
    rounds: Sequence[Round],
) -> list[Run]:
    """Every hypothesis [4, 4] through every round, each on its own."""
    aligner = Aligner(target, models, reflectance_weight)
    return [aligner.rounds(aligner.begin(pose), rounds) for pose in hypotheses]
