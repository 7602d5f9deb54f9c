"""An object's twins: turns after which it looks like itself (ours).

Sought once per object, by comparing it with itself from the cameras of some gallery photographs,
and kept. `piad.turns` tries them on queries. Measured in docs/method_refinement.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera, rigid_inverse
from gaussian_renderer.se3 import pose_error, se3_exp, so3_log
from piad.fingerprint import gallery_fingerprint
from piad.models import ModelPair, models_fingerprint
from piad.normality import evenly
from piad.race import APART, FINE
from piad.reflectance import kept_json
from piad.second_order import Aligner, Run
from piad.target import Target
from retrieval.compare import described, similarity

if TYPE_CHECKING:
    from piad.run_folder import RunFolder
    from piad.scenes import Scene

VERSION = 4  # of the twins: raise it when the same models give others
SIDES = 2  # gallery photographs' cameras from which an object is compared with itself
SCALE = 1 / 4  # of the photographs' resolution
STEP_DEG = 5.0  # of the turns that are compared
ROUGH_STEP_DEG = 30.0  # ... that say which axis an object is round about
TWINS = 40  # at most
QUARTER_DEG = 90.0  # ... where peaks give no twin
TWIN = 0.33  # likeness with itself from which on an object is a twin of its own
HOPEFUL = 0.3  # ... before it is aligned with itself
ROUNDER = 0.1  # likeness after any turn by which another twin's axis is the better one
ROUND = 5  # twins from which on an object may be round: any turn may look like the query then
REGULAR = 0.7  # share of the twins that are multiples of one turn where all its multiples count
NEAR_MULTIPLE = 1 / 6  # of that turn: a twin so near to a multiple of it is one
SAME_DEG = 5.0  # poses that differ by less are of one side: a gear has many


@dataclass(frozen=True)
class Axis:
    """A line in the world through `point` [3] along `direction` [3], float64 on the CPU."""

    point: Tensor
    direction: Tensor

    def turns(self, degrees: Tensor) -> Tensor:
        """Motions [N, 4, 4] of the object by angles [N]."""
        angles = torch.deg2rad(degrees.double())[:, None] * self.direction
        motions = se3_exp(torch.cat([torch.zeros_like(angles), angles], 1))
        motions[:, :3, 3] = self.point - motions[:, :3, :3] @ self.point
        return motions


def principal_axes(models: ModelPair) -> list[Axis]:
    """Through the object's centre, along the axes of its spread."""
    weight = models.colour.opacities.double().cpu()[:, None]
    away = models.colour.means.double().cpu() - models.host_centre
    directions = torch.linalg.eigh((weight * away).T @ away).eigenvectors
    return [Axis(models.host_centre, direction) for direction in directions.T]


def axis_of(motion: Tensor, models: ModelPair) -> Axis:
    """The axis of a turn [4, 4] in the world, through the point that moves least."""
    rotation, shift = motion[:3, :3], motion[:3, 3]
    turn = so3_log(rotation)
    centre = models.host_centre
    moved = rotation @ centre + shift - centre
    point = centre + torch.linalg.pinv(torch.eye(3).to(motion) - rotation, rtol=1e-4) @ moved
    return Axis(point, turn / turn.norm())


@dataclass(frozen=True)
class Turned:
    """Poses world_to_camera [N, 4, 4] of turned objects, and how alike they look [N]."""

    poses: Tensor
    likeness: Tensor

    def best(self, count: int) -> Turned:
        """The most alike first."""
        order = self.likeness.argsort(descending=True)[:count]
        return Turned(self.poses[order], self.likeness[order])


@torch.no_grad()
def small_likeness(target: Target, poses: Tensor, models: ModelPair) -> Tensor:
    """Of one stacked query and poses [N, 4, 4], at the query's own size, [N] on the CPU."""
    shown = models.render(poses.to(target.image), target.intrinsics)
    known = target.silhouette is not None
    query = described(target.image, target.silhouette)
    seen = described(shown.over(models.background), shown.cover if known else None)
    return similarity(query.expand(len(seen), -1, -1, -1), seen).cpu()


def look_around(
    target: Target,
    pose: Tensor,
    axis: Axis,
    models: ModelPair,
    step: float = STEP_DEG,
    itself: bool = False,
) -> Turned:
    """The turns about an axis after which an object looks more like a query than beside them.

    Args:
        target: the query, stacked and small; pose: world_to_camera [4, 4], float64, on the CPU.
        step: degrees between turns; itself: whether the pose counts too.
    """
    degrees = around(step)
    poses = pose @ axis.turns(degrees)
    likeness = small_likeness(target, poses, models)
    peak = (likeness >= likeness.roll(1)) & (likeness > likeness.roll(-1))
    peak &= (degrees > 0) | itself
    return Turned(poses[peak], likeness[peak])


def around(step: float) -> Tensor:
    """Degrees once around."""
    return torch.arange(0, 360, step, dtype=torch.float64)


def kept_twins(scene: Scene, models: ModelPair, weight: float, run: RunFolder) -> Tensor:
    """`twin_turns` of a scene's object, kept in the run's cache; weight: of reflectance."""
    depends = {"models": models_fingerprint(run), "reflectance_weight": weight, "version": VERSION}
    depends["gallery"] = gallery_fingerprint(scene)

    def sought() -> dict:
        cameras = [view.camera for view in evenly(scene.gallery, SIDES)]
        return {"motions": twin_turns(models, cameras, weight).tolist()}

    motions = kept_json(run.cache / "twins.json", depends, sought)["motions"]
    return torch.tensor(motions, dtype=torch.float64).reshape(-1, 4, 4)


@torch.no_grad()
def twin_turns(models: ModelPair, cameras: Sequence[Camera], weight: float) -> Tensor:
    """Motions [K, 4, 4] after which the object looks much like itself from some side.

    Sought about the axes of the object's spread; those about one axis count, about which most are.

    Args:
        cameras: from which it is looked at; weight: of reflectance.
    """
    sides = [_Side(models, camera, weight) for camera in cameras]

    def sought(search: Callable[..., list[_Twin]], *about: object) -> list[_Twin]:
        return _apart([twin for side in sides for twin in search(side, *about)])

    def roundness(axis: Axis) -> float:
        return sum(side.roundness(axis) for side in sides) / len(sides)

    spreads = principal_axes(models)
    firsts = [sought(_Side.twins, spread, 2) for spread in spreads]
    if not any(firsts):
        firsts = [sought(_Side.quarters, spread) for spread in spreads]
    about_axes: list[list[_Twin]] = []
    for first in filter(None, firsts):
        axis = axis_of(first[0].motion, models)
        kept = sought(_Side.twins, axis, TWINS) or first
        if len(kept) >= ROUND:
            axes = [axis_of(twin.motion, models) for twin in kept]
            round_by = [roundness(own) for own in axes]
            if max(round_by) > roundness(axis) + ROUNDER:
                better = axes[round_by.index(max(round_by))]
                kept = sought(_Side.twins, better, TWINS) or kept
        about_axes.append(kept)
    if not about_axes:
        return torch.zeros(0, 4, 4, dtype=torch.float64)
    # seen from aside a gear looks more like its other face than like itself a tooth on
    kept = max(about_axes, key=lambda twins: (len(twins), twins[0].likeness))
    for side in sides:
        side.sharpen([twin for twin in kept if twin.side is side])
    return with_multiples(torch.stack([twin.motion for twin in kept]), models)


def with_multiples(twins: Tensor, models: ModelPair) -> Tensor:
    """Twins [K, 4, 4], or all multiples of one turn where most of them are such, and the others.

    A gear that looks like itself after one tooth does so after any number, though from some side
    something else may hide it, or pull the turn that is found (its holes go with no tooth). The
    multiples are about the axis that those found have in common.
    """
    axes = [axis_of(twin, models) for twin in twins]
    directions = torch.stack([axis.direction for axis in axes])
    directions = directions * (directions @ directions[0]).sign()[:, None]
    degrees = torch.rad2deg((so3_log(twins[:, :3, :3]) * directions).sum(1))

    def multiples(count: int) -> Tensor:
        away = degrees - 360 / count * (degrees * count / 360).round()
        return away.abs() < min(SAME_DEG / 2, 360 / count * NEAR_MULTIPLE)

    counts = {round(360 / angle) for angle in degrees.abs().tolist() if angle > SAME_DEG}
    possible = sorted(count for count in counts if 3 <= count <= TWINS + 1)
    count = max(possible, key=lambda count: multiples(count).sum().item(), default=None)
    if count is None or (found := multiples(count)).sum() < REGULAR * len(twins):
        return twins
    point = torch.stack([axis.point for axis in axes])[found].median(0).values
    direction = directions[found].median(0).values
    axis = Axis(point, direction / direction.norm())
    whole = axis.turns(360 / count * torch.arange(1, count))
    others = [t for t in twins if all(pose_error(t, turn)[0] > SAME_DEG for turn in whole)]
    return torch.stack([*whole, *others])


@dataclass
class _Twin:
    """A turn of the object, seen from a side."""

    side: _Side
    run: Run

    @property
    def likeness(self) -> float:
        return self.run.likeness

    @property
    def motion(self) -> Tensor:
        """Of the object, [4, 4]."""
        return rigid_inverse(self.side.pose) @ self.run.pose


def _apart(twins: Sequence[_Twin]) -> list[_Twin]:
    """Twins of different turns, the most alike of each, the most alike first."""
    kept: list[_Twin] = []
    for twin in sorted(twins, key=lambda twin: -twin.likeness):
        if all(pose_error(twin.motion, other.motion)[0] > SAME_DEG for other in kept):
            kept.append(twin)
    return kept


class _Side:
    """An object seen by a gallery camera, to be compared with itself."""

    def __init__(self, models: ModelPair, camera: Camera, weight: float) -> None:
        self.models, self.pose = models, camera.world_to_camera.double().cpu()
        seen = models.render(self.pose[None].to(models.background), camera.intrinsics)
        shown = seen.over(models.background)[0]
        itself = Target(shown, models.background, camera.intrinsics, seen.cover[0])
        self.aligner = Aligner([itself], models, weight)

    def roundness(self, axis: Axis) -> float:
        """How much the object looks like itself after any turn about an axis, on the mean."""
        poses = self.pose @ axis.turns(around(ROUGH_STEP_DEG)[1:])
        return small_likeness(self.aligner.query(SCALE), poses, self.models).mean().item()

    def twins(self, axis: Axis, count: int) -> list[_Twin]:
        """The object's twins about an axis, `count` at most."""
        small = self.aligner.query(SCALE)
        return self._aligned(look_around(small, self.pose, axis, self.models).best(count))

    def quarters(self, axis: Axis) -> list[_Twin]:
        """Its twins near quarters of a turn: what is round looks like itself after any turn, maybe
        after none more than beside it."""
        poses = self.pose @ axis.turns(torch.arange(QUARTER_DEG, 360, QUARTER_DEG))
        likeness = small_likeness(self.aligner.query(SCALE), poses, self.models)
        return self._aligned(Turned(poses, likeness))

    def _aligned(self, turned: Turned) -> list[_Twin]:
        """What looks like the object once it is aligned with it."""
        hopeful = turned.poses[turned.likeness > HOPEFUL]
        runs = [self.aligner.begin(pose) for pose in hopeful]
        self.aligner.round(runs, APART)
        self.aligner.look(runs)
        return [
            _Twin(self, run)
            for run in runs
            if run.likeness > TWIN and pose_error(run.pose, self.pose)[0] > SAME_DEG
        ]

    def sharpen(self, twins: Sequence[_Twin]) -> None:
        """The last steps, at full resolution."""
        self.aligner.round([twin.run for twin in twins], FINE)
