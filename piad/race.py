"""Hypotheses of one query race at low resolution; the most alike is refined to the end (ours).

Order and figures: docs/method_refinement.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from gaussian_renderer.se3 import pose_error
from piad.models import ModelPair
from piad.pose import RefineConfig, likeness_at
from piad.second_order import Aligner, Round, Run
from piad.target import Target
from piad.warp_search import WarpSearch, warp_search
from retrieval.initial_pose import DISTINCT_DEG

RACERS = 4  # hypotheses that are looked at, of those given in order of their similarity
RIVAL_MARGIN = 0.08  # in likeness: those that begin further behind the leader aren't refined
NEAR = (WarpSearch(1 / 4, 10, 0.03, 5.0),)
WIDE = (*(WarpSearch(1 / 8, 8, 0.06, 9.0),) * 2, WarpSearch(1 / 4, 8, 0.02, 4.0))
COARSE = (Round(1 / 4, 5, "global", 100.0, 0.2), Round(1 / 4, 3, "global", 6.0, 0.3))
COARSER = Round(1 / 8, 5, "global", 100.0, 0.2)  # before them in a wide lap
MIDDLE = Round(1 / 2, 3, "tile", 0.8, 0.3, relax=3.0)
LONGER = Round(1 / 2, 3, "tile", 0.8, 0.3, relax=3.0)
FAR_DEG = 3.0  # a hypothesis that turned by more may not have arrived: it goes round again
MORE_LAPS = 4  # ... so many times at most
FINE = Round(1.0, 8, "tile", 0.35, 0.3, relax=2.0)


def approach(aligner: Aligner, run: Run, wide: bool) -> float:
    """Bring a hypothesis within reach of the windowed rounds and through the first of them.

    Returns:
        by how much it turned, degrees.
    """
    before = run.pose
    for search in WIDE if wide else NEAR:
        run.state.pose = warp_search(
            aligner.target,
            aligner.query(search.scale),
            run.pose,
            aligner.models,
            search,
            aligner.reflectance_weight,
        )
        run.trace.append(run.pose)
    aligner.rounds(run, (*((COARSER,) if wide else ()), *COARSE, MIDDLE))
    return float(pose_error(run.pose, before)[0])


def last_rounds(cfg: RefineConfig) -> tuple[Round, ...]:
    """What the winner goes through; at full resolution `polish_steps` systems at most."""
    return (LONGER, replace(FINE, calls=cfg.polish_steps)) if cfg.polish_steps else (LONGER,)


def polish_pose(
    target: Target, world_to_camera: Tensor, models: ModelPair, cfg: RefineConfig
) -> Run:
    """The last rounds alone, from any pose [4, 4]."""
    aligner = Aligner(target, models, cfg.reflectance_weight)
    return aligner.rounds(aligner.begin(world_to_camera), last_rounds(cfg))


class _Racer:
    """A hypothesis of the race: its best pose so far, and how much that looks like the query."""

    def __init__(self, aligner: Aligner, pose: Tensor) -> None:
        self.aligner = aligner
        self.start, self.run = pose, aligner.begin(pose)
        self._likeness: float | None = None  # only looked at where it decides
        self.turned_deg, self.laps = 180.0, 0  # in the last lap; how many

    def _look(self, run: Run) -> float:
        return likeness_at(run.pose, self.aligner.target, self.aligner.models)

    @property
    def likeness(self) -> float:
        """How much the pose looks like the query."""
        if self._likeness is None:
            self._likeness = self._look(self.run)
        return self._likeness

    def lap(self) -> None:
        """One more approach; the first is kept, later ones if the pose looks more alike.

        The second begins at the start again, and is wide: the first may have gone astray.
        """
        before = self.likeness if self.laps else None
        self.laps += 1
        wide = self.laps == 2
        run = self.aligner.begin(self.start if wide else self.run.pose)
        turned = approach(self.aligner, run, wide)
        seen = None if before is None else self._look(run)
        run.calls += self.run.calls
        run.trace = self.run.trace + run.trace[1:]
        if before is None or seen > before:
            self.run, self._likeness, self.turned_deg = run, seen, turned
        else:
            self.run.calls = run.calls
            self.turned_deg = self.turned_deg if wide else 0.0


def _goes_on(racer: _Racer, racers: list[_Racer], tie_margin: float) -> bool:
    """Whether another lap may help: it hasn't arrived, and isn't clearly behind."""
    if racer.turned_deg <= FAR_DEG or racer.laps > MORE_LAPS:
        return False
    margin = tie_margin if racer.laps else RIVAL_MARGIN
    return all(racer.likeness > other.likeness - margin for other in racers if other is not racer)


def race(
    target: Target, hypotheses: Sequence[Tensor], models: ModelPair, cfg: RefineConfig
) -> tuple[Run, int, tuple[float | None, float | None]]:
    """The refined winner, the systems made in all, and likeness of the winner and its best rival.

    Args:
        hypotheses: world_to_camera [4, 4] each, the most promising first.
    """
    aligner = Aligner(target, models, cfg.reflectance_weight)
    racers = [_Racer(aligner, pose) for pose in hypotheses[:RACERS]]
    racers[0].lap()
    while going := [racer for racer in racers if _goes_on(racer, racers, cfg.tie_margin)]:
        for racer in going:
            racer.lap()
    alone = len(racers) == 1
    best = racers[0] if alone else max(racers, key=lambda racer: racer.likeness)
    rivals = [
        racer.likeness
        for racer in racers
        if not alone and pose_error(racer.run.pose, best.run.pose)[0] > DISTINCT_DEG
    ]
    own = None if alone else best.likeness
    aligner.rounds(best.run, last_rounds(cfg))
    calls = sum(racer.run.calls for racer in racers)
    return best.run, calls, (own, max(rivals, default=None))
