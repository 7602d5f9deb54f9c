"""Hypotheses of one query race at low resolution; the most alike is refined to the end (ours).

Order and figures: docs/method_refinement.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from gaussian_renderer.se3 import pose_error
from piad.models import ModelPair
from piad.pose import RefineConfig, likeness_at
from piad.second_order import Aligner, Round, Run
from piad.target import Target
from piad.warp_search import WarpSearch, warp_search
from retrieval.initial_pose import DISTINCT_DEG

RACERS = 2  # hypotheses that race, of those given in order of their similarity
SEARCH = WarpSearch(1 / 4, 10, 0.03, 5.0)
COARSE = (Round(1 / 4, 5, "global", 100.0, 0.2), Round(1 / 4, 3, "global", 6.0, 0.3))
MIDDLE = Round(1 / 2, 3, "tile", 0.8, 0.3, relax=3.0)
LONGER = Round(1 / 2, 3, "tile", 0.8, 0.3, relax=3.0)
FAR_DEG = 3.0  # a hypothesis that turned by more may not have arrived: it goes round again
MORE_LAPS = 3  # ... so many times at most
FINE = Round(1.0, 5, "tile", 0.25, 0.3, relax=2.0)


def approach(aligner: Aligner, run: Run) -> float:
    """Bring a hypothesis within reach of the windowed rounds and through the first of them.

    Returns:
        by how much it turned, degrees.
    """
    before, query = run.pose, aligner.query(SEARCH.scale)
    run.state.pose = warp_search(
        aligner.target, query, before, aligner.models, SEARCH, aligner.reflectance_weight
    )
    run.trace.append(run.pose)
    aligner.rounds(run, (*COARSE, MIDDLE))
    return float(pose_error(run.pose, before)[0])


def race(
    target: Target, hypotheses: Sequence[Tensor], models: ModelPair, cfg: RefineConfig
) -> tuple[Run, int, tuple[float | None, float | None]]:
    """The refined winner, the systems made in all, and likeness of the winner and its best rival.

    Args:
        hypotheses: world_to_camera [4, 4] each, the most promising first.
    """
    aligner = Aligner(target, models, cfg.reflectance_weight)
    runs = [aligner.begin(pose) for pose in hypotheses[:RACERS]]
    turned = [approach(aligner, run) for run in runs]
    alike = [likeness_at(run.pose, target, models) if len(runs) > 1 else 1.0 for run in runs]
    for _ in range(MORE_LAPS):
        least = max(alike) - cfg.tie_margin
        going = [i for i in range(len(runs)) if alike[i] >= least and turned[i] > FAR_DEG]
        for i in going:
            turned[i] = approach(aligner, runs[i])
            alike[i] = likeness_at(runs[i].pose, target, models) if len(runs) > 1 else 1.0
        if not going:
            break
    best = max(range(len(runs)), key=alike.__getitem__)
    winner, rivals = runs[best], []
    for other, run in zip(alike, runs, strict=True):
        if pose_error(run.pose, winner.pose)[0] > DISTINCT_DEG:
            rivals.append(other)
    aligner.rounds(winner, (LONGER, FINE))
    figures = (alike[best] if len(runs) > 1 else None, max(rivals, default=None))
    return winner, sum(run.calls for run in runs), figures
