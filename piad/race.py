"""Hypotheses of a query race at low resolution; the most alike is refined to the end (ours).

All queries race at once, in lockstep.

Order and figures: docs/method_refinement.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from gaussian_renderer.se3 import pose_error
from piad.explore import explore
from piad.models import ModelPair
from piad.refine_config import RefineConfig
from piad.rounds import Round
from piad.second_order import Aligner, Run
from piad.target import Target
from piad.warp_search import WarpSearch
from retrieval.initial_pose import DISTINCT_DEG

RACERS = 4  # hypotheses that are looked at, of those given in order of their similarity
RIVAL_MARGIN = 0.08  # in likeness: those that begin further behind the leader aren't refined
NEAR = (WarpSearch(1 / 4, 10, 0.03, 5.0),)
WIDE = (*(WarpSearch(1 / 8, 8, 0.06, 9.0),) * 2, WarpSearch(1 / 4, 8, 0.02, 4.0))
COARSE = (Round(1 / 4, 5, "global", 100.0, 0.2), Round(1 / 4, 3, "global", 6.0, 0.3))
COARSER = Round(1 / 8, 5, "global", 100.0, 0.2)  # before them in a wide lap
MIDDLE = Round(1 / 2, 5, "tile", 0.8, 0.3, relax=3.0, stop_px=1.0)
LONGER = Round(1 / 2, 3, "tile", 0.8, 0.3, relax=3.0, stop_px=1.0)
FAR_DEG = 3.0  # a hypothesis that turned by more may not have arrived: it goes round again
MORE_LAPS = 4  # ... so many times at most
FINE = Round(1.0, 8, "tile", 0.35, 0.3, relax=2.0)


def approach(aligner: Aligner, near: Sequence[Run], wide: Sequence[Run]) -> list[float]:
    """Bring hypotheses within reach of the windowed rounds and through the first of them.

    Args:
        near, wide: those by a short search, and those by a long one.
    Returns:
        by how much each of both lists turned, degrees.
    """
    runs = [*near, *wide]
    before = [run.pose for run in runs]
    for search in NEAR:
        aligner.search(near, search)
    explore(aligner, wide, MIDDLE)
    aligner.round(near, MIDDLE)
    return [
        pose_error(run.pose, pose)[0] if run.reason == "converged" else 180.0
        for run, pose in zip(runs, before, strict=True)
    ]


def finish(aligner: Aligner, runs: Sequence[Run], cfg: RefineConfig) -> None:
    """The last rounds of winners: at half resolution only those that aren't there yet.

    At full resolution `polish_steps` systems are made at most.
    """
    aligner.round([run for run in runs if run.reason != "converged"], LONGER)
    if cfg.polish_steps:
        aligner.round(runs, replace(FINE, calls=cfg.polish_steps))


def polish_pose(
    target: Target, world_to_camera: Tensor, models: ModelPair, cfg: RefineConfig
) -> Run:
    """The last rounds alone, from any pose [4, 4]."""
    aligner = Aligner([target], models, cfg.reflectance_weight)
    run = aligner.begin(world_to_camera)
    finish(aligner, [run], cfg)
    return run


@dataclass
class _Racer:
    """A hypothesis of the race: its best pose so far, and how much that looks like the query."""

    start: Tensor
    run: Run
    likeness: float | None = None  # only looked at where it decides
    turned_deg: float = 180.0  # in the last lap, all of it where its steps hadn't ended
    laps: int = 0

    def finish(self, run: Run, seen: float | None, turned_deg: float) -> None:
        """One more lap was run; the first is kept, later ones if the pose looks more alike."""
        run.calls += self.run.calls
        run.trace = self.run.trace + run.trace[1:]
        if seen is None or seen > self.likeness:
            self.run, self.likeness, self.turned_deg = run, seen, turned_deg
        else:
            self.run.calls = run.calls
            self.turned_deg = self.turned_deg if self.laps == 2 else 0.0


@dataclass
class Outcome:
    """A query's winner, the systems made for it in all, and likenesses as in RefinedPose."""

    run: Run
    calls: int
    likeness: float | None
    rival_likeness: float | None


class _Race:
    """The hypotheses of all queries, a field of racers each."""

    def __init__(self, aligner: Aligner, hypotheses: Sequence[Sequence[Tensor]]) -> None:
        self.aligner = aligner
        self.fields = [
            [_Racer(pose, aligner.begin(pose, query)) for pose in poses[:RACERS]]
            for query, poses in enumerate(hypotheses)
        ]

    def look(self, racers: Sequence[_Racer]) -> None:
        """Sets the likeness of those where it isn't known."""
        unknown = [racer for racer in racers if racer.likeness is None]
        seen = self.aligner.likenesses([racer.run for racer in unknown])
        for racer, likeness in zip(unknown, seen, strict=True):
            racer.likeness = likeness

    def lap(self, racers: Sequence[_Racer]) -> None:
        """One more approach of each.

        The second begins at the start again, and is wide: the first may have gone astray.
        """
        self.look([racer for racer in racers if racer.laps])
        racers = sorted(racers, key=lambda racer: racer.laps == 1)  # the wide ones last
        wide = sum(racer.laps == 1 for racer in racers)
        runs = [
            self.aligner.begin(racer.start if racer.laps == 1 else racer.run.pose, racer.run.query)
            for racer in racers
        ]
        turned = approach(self.aligner, runs[: len(runs) - wide], runs[len(runs) - wide :])
        later = [run for run, racer in zip(runs, racers, strict=True) if racer.laps]
        seen = dict(zip(map(id, later), self.aligner.likenesses(later), strict=True))
        for racer, run, degrees in zip(racers, runs, turned, strict=True):
            racer.laps += 1
            racer.finish(run, seen.get(id(run)), degrees)

    def going(self, tie_margin: float) -> list[_Racer]:
        """Those for which another lap may help."""
        open_fields = [field for field in self.fields if any(map(_may_go_on, field))]
        self.look([racer for field in open_fields if len(field) > 1 for racer in field])
        return [
            racer for field in open_fields for racer in field if _goes_on(racer, field, tie_margin)
        ]

    def outcome(self, field: list[_Racer]) -> Outcome:
        """The winner of a field before the last rounds; `calls` counts those of all."""
        calls = sum(racer.run.calls for racer in field)
        if len(field) == 1:
            return Outcome(field[0].run, calls, None, None)
        best = max(field, key=lambda racer: racer.likeness)
        rivals = [
            racer.likeness
            for racer in field
            if pose_error(racer.run.pose, best.run.pose)[0] > DISTINCT_DEG
        ]
        return Outcome(best.run, calls, best.likeness, max(rivals, default=None))


def _may_go_on(racer: _Racer) -> bool:
    """Whether it hasn't arrived, as far as is seen."""
    return racer.turned_deg > FAR_DEG and racer.laps <= MORE_LAPS


def _goes_on(racer: _Racer, field: list[_Racer], tie_margin: float) -> bool:
    """Whether another lap may help: it hasn't arrived, and isn't clearly behind."""
    if not _may_go_on(racer):
        return False
    margin = tie_margin if racer.laps else RIVAL_MARGIN
    return all(racer.likeness > other.likeness - margin for other in field if other is not racer)


def race(
    targets: Sequence[Target],
    hypotheses: Sequence[Sequence[Tensor]],
    models: ModelPair,
    cfg: RefineConfig,
) -> tuple[Aligner, list[Outcome]]:
    """The refined winner of every query, and what holds the queries.

    Args:
        targets: queries of one kind (`Target.kind`).
        hypotheses: of each, world_to_camera [4, 4], the most promising first.
    """
    aligner = Aligner(targets, models, cfg.reflectance_weight)
    race = _Race(aligner, hypotheses)
    race.lap([field[0] for field in race.fields])
    while going := race.going(cfg.tie_margin):
        race.lap(going)
    race.look([racer for field in race.fields if len(field) > 1 for racer in field])
    outcomes = [race.outcome(field) for field in race.fields]
    before = [outcome.run.calls for outcome in outcomes]
    finish(aligner, [outcome.run for outcome in outcomes], cfg)
    for outcome, calls in zip(outcomes, before, strict=True):
        outcome.calls += outcome.run.calls - calls
    return aligner, outcomes
