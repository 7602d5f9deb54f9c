"""Poses turned about the object's axes: other sides of it may look nearly the same (ours).

A knob with fourteen dots is nearly itself when turned by one of them, and start poses are found for
a few sides alone. So all of an object's twins (`piad.twins`) are tried on every query, and where
they are many, what lies between them and looks as much like it: a cup is round but for its print.
Before, a start pose that one on another side outran in the race gets another chance, and a doubtful
query is turned about the axes of the object's spread, or where there are twins, upside down and all
around their axis. The most alike are refined too; of what comes of it that counts whose features
differ least from the query's (`piad.sides`), and what is round is turned to where they do.
Measured in docs/method_refinement.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaussian_renderer.camera import rigid_inverse
from gaussian_renderer.se3 import pose_error
from piad.agreement import closeness, closeness_of
from piad.anomaly import TINY
from piad.models import ModelPair
from piad.pose import refine_poses
from piad.refine_config import RefineConfig, RefinedPose
from piad.rounds import at_scale
from piad.sides import Sides
from piad.target import Target
from piad.twins import (
    ROUND,
    SAME_DEG,
    SCALE,
    STEP_DEG,
    Axis,
    Turned,
    around,
    axis_of,
    kept_twins,
    look_around,
    principal_axes,
    small_likeness,
)
from retrieval.initial_pose import DISTINCT_DEG

if TYPE_CHECKING:
    from piad.anomaly import Features
    from piad.lent_detail import LentDetail
    from piad.run_folder import RunFolder
    from piad.scenes import Scene

FINE_STEP_DEG = 2.5  # of turns about the twins' axis: a gear's teeth are narrow
TWIN_BEHIND, BEHIND = 0.2, 0.1  # agreement, likeness that a turned pose may lack, not yet refined
BETWEEN = 12  # turns between twins that features look at, at most
BESIDE_DEG = 7.0  # a turn that is nearer to a twin isn't between: steps reach it from there
REACH_DEG, COARSE_DEG, FINE_DEG = 30.0, 3.0, 1.5  # of a round object's last turn, and its steps
DOUBT = 0.4  # share of the gallery's own agreement below which a pose is doubtful


def joined(parts: Iterable[Turned]) -> Turned:
    """All of some."""
    parts = list(parts)
    poses, likeness = ([getattr(part, key) for part in parts] for key in ("poses", "likeness"))
    return Turned(torch.cat(poses), torch.cat(likeness))


def upside_down(axis: Axis) -> Tensor:
    """A half turn [4, 4] about a line across an axis, through its point.

    Any such line will do where all turns about the axis follow.
    """
    aside = torch.eye(3, dtype=torch.float64)[axis.direction.abs().argmin()]
    across = torch.linalg.cross(axis.direction, aside)
    return Axis(axis.point, across / across.norm()).turns(torch.tensor([180.0]))[0]


class Turns:
    """The turns of an object that are tried on queries."""

    def __init__(
        self, models: ModelPair, twins: Tensor, weight: float, sides: Sides | None = None
    ) -> None:
        """
        Args:
            twins: `twin_turns` [K, 4, 4]; weight: of reflectance.
            sides: tells sides apart; None: what agrees more with the query counts.
        """
        self.models, self.twins, self.weight, self.sides = models, twins, weight, sides
        self.axes = principal_axes(models)

    def rivals(self, target: Target, found: RefinedPose, count: int) -> list[Tensor]:
        """Twins [4, 4] of a refined pose that look about as much like the query.

        Where features tell sides apart, turns between many twins as well.

        Args:
            target: the query, not stacked; count: of poses at most.
        """
        if not len(self.twins):
            return []
        full, pose = Target.stacked([target]), found.world_to_camera.double().cpu()
        poses = pose @ self.twins
        queries = full.take([0] * len(poses))
        agreement = torch.tensor(closeness_of(queries, poses, self.models, self.weight))[:, 1]
        near = agreement > found.agreement - TWIN_BEHIND
        turned = Turned(poses[near], agreement[near])
        if self.sides is not None:
            candidates = turned.poses
            if self.is_round:
                candidates = torch.cat([candidates, self._between(full, pose)])
            if len(candidates):
                turned = Turned(candidates, -self.sides.differences(target, candidates))
        return list(turned.best(count).poses)

    @cached_property
    def axis(self) -> Axis:
        """The twins' axis."""
        return axis_of(self.twins[0], self.models)

    @cached_property
    def is_round(self) -> bool:
        """Whether any turn may look like a query: twins are many, with room between them."""
        if len(self.twins) < ROUND:
            return False
        return bool(self._apart(self.axis.turns(around(STEP_DEG))).any())

    def settled(self, target: Target, found: RefinedPose, cfg: RefineConfig) -> RefinedPose:
        """A refined pose turned about the twins' axis, up to REACH_DEG, to where D is least.

        About such an axis steps follow what shades a plain body, which another lamp moves. Nothing
        is refined again: steps would lead back.
        """
        begun, pose = time.perf_counter(), found.world_to_camera.double().cpu()

        def differences(degrees: Tensor) -> Tensor:
            return self.sides.differences(target, pose @ self.axis.turns(degrees))

        count = round(REACH_DEG / COARSE_DEG)
        coarse = COARSE_DEG * torch.arange(-count, count + 1, dtype=torch.float64)
        fine = coarse[differences(coarse).argmin()] + FINE_DEG * torch.arange(-2, 3)
        values = differences(fine)
        best = int(values.argmin())
        turn = fine[best].item()
        if turn == 0:
            return found
        if 0 < best < len(fine) - 1:
            before, least, after = values[best - 1 : best + 2].tolist()
            turn += FINE_DEG * (before - after) / (2 * max(before - 2 * least + after, TINY))
        turned = pose @ self.axis.turns(torch.tensor([turn]))[0]
        loss, agreement = closeness(target, turned, self.models, cfg)
        return replace(
            found,
            world_to_camera=turned.to(found.world_to_camera),
            loss=loss,
            agreement=agreement,
            seconds=found.seconds + time.perf_counter() - begun,
            trace=[*found.trace, turned.to(found.world_to_camera)],
        )

    def _apart(self, motions: Tensor) -> Tensor:
        """Which turns [N, 4, 4] are by more than BESIDE_DEG from none at all and from all twins."""
        known = torch.cat([torch.eye(3).to(self.twins)[None], self.twins[:, :3, :3]])
        cosines = (torch.einsum("nij,mij->nm", motions[:, :3, :3], known) - 1) / 2
        return cosines.amax(1) < math.cos(math.radians(BESIDE_DEG))

    def _between(self, full: Target, pose: Tensor) -> Tensor:
        """Poses [N, 4, 4] about the twins' axis, beside twins, that look as much like a query.

        Args:
            full: the query, stacked; pose: that was found, [4, 4].
        """
        small = at_scale(full, SCALE)
        around = self._as_alike(small, pose, look_around(small, pose, self.axis, self.models))
        kept = self._apart(rigid_inverse(pose) @ around.poses)
        return Turned(around.poses[kept], around.likeness[kept]).best(BETWEEN).poses

    def _as_alike(self, small: Target, pose: Tensor, turned: Turned) -> Turned:
        """What looks no more than BEHIND less like a query, small, than a pose [4, 4] does."""
        kept = turned.likeness > small_likeness(small, pose[None], self.models).item() - BEHIND
        return Turned(turned.poses[kept], turned.likeness[kept])

    def other_sides(self, target: Target, found: RefinedPose, count: int) -> list[Tensor]:
        """Poses [4, 4] that look about as much like the query, of sides that no twin gives.

        About the axes of the spread, or with twins upside down; arguments as `rivals` has them.
        """
        pose = found.world_to_camera.double().cpu()
        small = at_scale(Target.stacked([target]), SCALE)
        if len(self.twins):
            turned = pose @ upside_down(self.axis)
            turned = look_around(small, turned, self.axis, self.models, FINE_STEP_DEG, itself=True)
        else:
            turned = joined(look_around(small, pose, axis, self.models) for axis in self.axes)
        return list(self._as_alike(small, pose, turned.best(count)).poses)

    def best_first(self, target: Target, found: Sequence[RefinedPose]) -> list[RefinedPose]:
        """Refined poses of a query (not stacked), that first which shows the side that it shows."""
        if self.sides is None:
            return sorted(found, key=lambda one: -one.agreement)
        poses = torch.stack([one.world_to_camera.double().cpu() for one in found])
        order = self.sides.differences(target, poses).argsort().tolist()
        return [found[index] for index in order]


def object_turns(
    scene: Scene,
    models: ModelPair,
    cfg: RefineConfig,
    run: RunFolder,
    load: Callable[[], Features] | None = None,
) -> Turns | None:
    """The turns of a scene's object, its twins kept in the run's cache; None where none count.

    Args:
        load: the feature network that tells sides apart; None: agreement does.
    """
    if cfg.turned_poses == 0 or cfg.refiner != "second_order":
        return None
    weight = cfg.reflectance_weight
    twins = kept_twins(scene, models, weight, run)
    if len(twins):
        print(f"{scene.name} looks much the same from {1 + len(twins)} sides: all are compared")
    cameras = [view.camera for view in scene.gallery]
    sides = None if load is None else Sides(models, cameras, load)
    return Turns(models, twins, weight, sides)


def refine_turned(
    targets: Sequence[Target],
    starts: Sequence[Sequence[Tensor]],
    refined: Sequence[RefinedPose | None],
    turns: Turns,
    own: float | None,
    cfg: RefineConfig,
    lent: LentDetail | None = None,
) -> list[RefinedPose | None]:
    """Refined poses, or what shows the side that a query shows about them.

    Args:
        starts: the poses [4, 4] each was refined from, the best first.
        own: the gallery's own agreement (`piad.refusal`); None: no pose is doubtful.
    """
    limit = 0.0 if own is None else DOUBT * own
    chosen = list(refined)

    def outrun(index: int) -> list[Tensor]:
        """Starts on other sides than what was found: the first, of a doubtful query all."""
        found = chosen[index]
        begun = starts[index] if found.agreement < limit else starts[index][:1]
        pose = found.world_to_camera
        return [start for start in begun if pose_error(start, pose)[0] > DISTINCT_DEG]

    def other_sides(index: int) -> list[Tensor]:
        found = chosen[index]
        if found.agreement >= limit:
            return outrun(index)
        return outrun(index) + turns.other_sides(targets[index], found, cfg.turned_poses)

    def rivals(index: int) -> list[Tensor]:
        return turns.rivals(targets[index], chosen[index], cfg.turned_poses)

    def turn(asked: Sequence[int], seek: Callable[[int], list[Tensor]]) -> list[int]:
        """Chooses among what queries have and what is sought; those seen from another side then."""
        tried = [(index, pose) for index in asked for pose in seek(index)]
        seen, begun = [targets[index] for index, _ in tried], [[pose] for _, pose in tried]
        beside: dict[int, list[RefinedPose]] = {}
        for (index, _), found in zip(
            tried, refine_poses(seen, begun, turns.models, cfg, lent), strict=True
        ):
            beside.setdefault(index, []).append(found)
        moved = []
        for index, others in beside.items():
            before = chosen[index]
            chosen[index] = _with_rival(turns.best_first(targets[index], [before, *others]), before)
            if _angle(chosen[index], before) > SAME_DEG:
                moved.append(index)
        return moved

    located = [index for index, found in enumerate(chosen) if found is not None]
    turn(located, other_sides)
    moved = turn(located, rivals)  # twins last: they are those of the better side
    if moved and turns.is_round:  # from the better side other turns look like the query
        turn(moved, rivals)
    if turns.sides is not None and turns.is_round:
        for index in located:
            chosen[index] = turns.settled(targets[index], chosen[index], cfg)
    return chosen


def _with_rival(found: Sequence[RefinedPose], first: RefinedPose) -> RefinedPose:
    """The first of refined poses of a query; its rival is the next on another side.

    Args:
        found: the best first; first: the one that was found first.
    """
    best = found[0]
    rival = next((one for one in found[1:] if _angle(one, best) > SAME_DEG), None)
    if rival is not None:
        best = replace(best, rival=rival.world_to_camera, rival_agreement=rival.agreement)
    return replace(
        best,
        steps=sum(one.steps for one in found),
        seconds=sum(one.seconds for one in found),
        trace=first.trace if found[0] is first else first.trace + best.trace,
    )


def _angle(one: RefinedPose, other: RefinedPose) -> float:
    """Between two poses, degrees."""
    return pose_error(one.world_to_camera, other.world_to_camera)[0]
