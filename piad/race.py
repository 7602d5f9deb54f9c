"""Hypotheses of a query race at low resolution; the most alike is refined to the end (ours).

All queries race at once, in lockstep.

Order and figures: docs/method_refinement.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from piad.lent_detail import LentDetail

RACERS = 4  # hypotheses that are looked at, of those given in order of their similarity
RIVAL_MARGIN = 0.08  # in likeness: those that begin further behind the leader aren't refined
SEARCH = WarpSearch(1 / 4, 10, 0.03, 5.0)
MIDDLE = Round(1 / 2, 12, "tile", 0.8, 0.3, relax=3.0, stop_px=2.0)
APART = replace(MIDDLE, stop_px=1.0)  # where what steps end at is compared with others
FINE = Round(1.0, 12, "tile", 0.35, 0.3, relax=2.0, stop_px=0.6)
FAR_DEG = 6.0  # a hypothesis that turned by more may not have arrived
LEAST_LIKENESS = 0.3  # ... as may one that looks less alike,
SURE_MISMATCH = 0.9  # unless it matches so well that this needn't be looked at
CLEAR_GAIN = 0.1  # of a search: its start needn't be looked at
LAPS = 3  # at most
# Poses of a query that go on to full resolution, where they are told apart: so alike, so far apart.
FINAL_MARGIN, FINAL_DEG = 0.03, 0.7


def approach(aligner: Aligner, runs: Sequence[Run]) -> None:
    """Bring hypotheses within reach of the windowed steps, and through the first of them.

    A search by patches leaves tilt to chance: a start that matches more in windows is kept.
    """
    starts = [run.pose for run in runs]
    aligner.search(runs, SEARCH)
    doubtful = [run.improved < CLEAR_GAIN for run in runs]
    starts = [pose if doubt else None for pose, doubt in zip(starts, doubtful, strict=True)]
    aligner.round(runs, MIDDLE, starts)


def finish(aligner: Aligner, runs: Sequence[Run], cfg: RefineConfig) -> None:
    """The last steps of winners, at full resolution: `polish_steps` systems at most, and a vote."""
    if cfg.polish_steps:
        aligner.round(runs, replace(FINE, calls=cfg.polish_steps))
        aligner.vote(runs)
    else:
        aligner.compare(runs)


def polish_pose(
    target: Target, world_to_camera: Tensor, models: ModelPair, cfg: RefineConfig
) -> Run:
    """The windowed steps alone, from any pose [4, 4]."""
    aligner = Aligner([target], models, cfg.reflectance_weight)
    run = aligner.begin(world_to_camera)
    aligner.round([run], MIDDLE)
    finish(aligner, [run], cfg)
    return run


@dataclass
class _Racer:
    """A hypothesis of the race: its most alike pose so far, and others that were found."""

    start: Tensor
    run: Run
    others: list[Run] = field(default_factory=list)
    arrived: bool = False
    laps: int = 0
    calls: int = 0

    @property
    def explores(self) -> bool:
        """Whether its next lap is a wide one."""
        return self.laps == 1 or (self.laps > 1 and self.run.likeness < LEAST_LIKENESS)

    @property
    def next_start(self) -> Tensor:
        """Where its next lap begins: the first may have gone astray."""
        return self.start if self.laps <= 1 else self.run.pose

    def finish(self, run: Run) -> None:
        """One more lap was run: its end counts if it looks more alike."""
        self.laps += 1
        self.calls += run.calls
        near = self.laps > 1 or pose_error(run.pose, self.start)[0] <= FAR_DEG
        alike = run.mismatch <= SURE_MISMATCH or run.likeness >= LEAST_LIKENESS
        self.arrived = run.reason == "converged" and near and alike
        if self.laps == 1:
            self.run = run
            return
        run.trace = self.run.trace + run.trace[1:]
        if run.likeness > self.run.likeness:
            self.run, run = run, self.run
        self.others.append(run)


@dataclass
class Outcome:
    """A query's winner, the systems made for it in all, and figures as in RefinedPose.

    rival: pose [4, 4] of the best finalist on a clearly different side, None where there is none.
    """

    run: Run
    calls: int
    loss: float
    agreement: float
    likeness: float | None
    rival_likeness: float | None
    rival: Tensor | None


class _Race:
    """The hypotheses of all queries, a field of racers each."""

    def __init__(
        self, aligner: Aligner, hypotheses: Sequence[Sequence[Tensor]], cfg: RefineConfig
    ) -> None:
        self.aligner, self.cfg = aligner, cfg
        self.fields = [
            [_Racer(pose, aligner.begin(pose, query)) for pose in poses[:RACERS]]
            for query, poses in enumerate(hypotheses)
        ]

    def lap(self, racers: Sequence[_Racer]) -> None:
        """One more lap of each; the first is a short one, the second explores."""
        racers = sorted(racers, key=lambda racer: not racer.explores)
        runs = [self.aligner.begin(racer.next_start, racer.run.query) for racer in racers]
        wide = sum(racer.explores for racer in racers)
        spare = explore(self.aligner, runs[:wide], APART)
        approach(self.aligner, runs[wide:])
        again = [(racer.run, run) for racer, run in zip(racers, runs, strict=True) if racer.laps]
        doubtful = [run for run in runs if run.mismatch > SURE_MISMATCH]
        self.aligner.look([*doubtful, *(run for pair in again for run in pair)])
        for racer, own in zip(racers, spare, strict=False):
            racer.others += own
        for racer, run in zip(racers, runs, strict=True):
            racer.finish(run)

    def going(self) -> list[_Racer]:
        """Those for which another lap may help: they haven't arrived, nor are clearly behind."""
        still_open = [field for field in self.fields if any(map(_may_go_on, field))]
        self.look([field for field in still_open if len(field) > 1])
        margin = self.cfg.tie_margin
        return [racer for field in still_open for racer in field if _goes_on(racer, field, margin)]

    def look(self, fields: Sequence[list[_Racer]]) -> None:
        """Sets the likeness of all racers of some fields."""
        self.aligner.look([racer.run for field in fields for racer in field])

    def outcomes(self) -> list[Outcome]:
        """The winner of every field, after the last steps."""
        self.look([field for field in self.fields if len(field) > 1 or field[0].others])
        finalists = [_finalists(field) for field in self.fields]
        runs = [run for own in finalists for run in own]
        before = [run.calls for run in runs]
        alike = {
            id(run): run.likeness
            for racers in self.fields
            for racer in racers
            for run in (racer.run, *racer.others)
        }
        finish(self.aligner, runs, self.cfg)
        made = iter([run.calls - calls for run, calls in zip(runs, before, strict=True)])
        found = []
        for racers, own in zip(self.fields, finalists, strict=True):
            best = max(own, key=lambda run: run.closeness[1])
            calls = sum(racer.calls for racer in racers) + sum(next(made) for _ in own)
            likenesses = _likenesses(best, racers, alike)
            apart = [run for run in own if _angle(run, [best]) > DISTINCT_DEG]
            rival = max(apart, key=lambda run: run.closeness[1], default=None)
            figures = *best.closeness, *likenesses
            found.append(Outcome(best, calls, *figures, None if rival is None else rival.pose))
        return found


def _finalists(racers: list[_Racer]) -> list[Run]:
    """The most alike pose of a field, and such others as only full resolution tells from it.

    The most alike on another side; and, where exploring was needed, one near by.
    """
    found = [run for racer in racers for run in (racer.run, *racer.others)]
    if len(found) == 1:
        return found
    found.sort(key=lambda run: -run.likeness)
    kept, explored = found[:1], any(racer.others for racer in racers)
    alike = [run for run in found[1:] if run.likeness > found[0].likeness - FINAL_MARGIN]
    for least, wanted in ((DISTINCT_DEG, True), (FINAL_DEG, explored)):
        apart = (run for run in alike if wanted and _angle(run, kept) > least)
        kept += itertools.islice(apart, 1)
    return kept


def _angle(run: Run, others: Sequence[Run]) -> float:
    """From the nearest of some poses, degrees."""
    return min(pose_error(run.pose, other.pose)[0] for other in others)


def _likenesses(
    best: Run, racers: list[_Racer], alike: dict[int, float | None]
) -> tuple[float | None, float | None]:
    """Of a field's winner, and the highest on clearly different sides; None for one alone.

    Args:
        alike: of every run, before the last steps.
    """
    if len(racers) == 1:
        return None, None
    rivals = [
        alike[id(racer.run)]
        for racer in racers
        if pose_error(racer.run.pose, best.pose)[0] > DISTINCT_DEG
    ]
    return alike[id(best)], max(rivals, default=None)


def _may_go_on(racer: _Racer) -> bool:
    """Whether it hasn't arrived, as far as is seen."""
    return not racer.arrived and racer.laps < LAPS


def _goes_on(racer: _Racer, racers: list[_Racer], tie_margin: float) -> bool:
    """Whether another lap may help: it hasn't arrived, and isn't clearly behind."""
    if not _may_go_on(racer):
        return False

    def may_win(other: _Racer) -> bool:
        margin = RIVAL_MARGIN
        if racer.laps:  # another lap costs much: not for one behind another that has arrived
            margin = 0.0 if other.arrived else tie_margin
        return racer.run.likeness > other.run.likeness - margin

    return all(may_win(other) for other in racers if other is not racer)


def race(
    targets: Sequence[Target],
    hypotheses: Sequence[Sequence[Tensor]],
    models: ModelPair,
    cfg: RefineConfig,
    lent: LentDetail | None = None,
) -> list[Outcome]:
    """The refined winner of every query.

    Args:
        targets: queries of one kind (`Target.kind`).
        hypotheses: of each, world_to_camera [4, 4], the most promising first.
        lent: what gallery photographs show and the models don't.
    """
    aligner = Aligner(targets, models, cfg.reflectance_weight, lent)
    race = _Race(aligner, hypotheses, cfg)
    race.lap([field[0] for field in race.fields])
    while going := race.going():
        race.lap(going)
    return race.outcomes()
