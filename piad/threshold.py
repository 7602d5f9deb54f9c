"""A threshold without labels: what flawless photographs score under lights that were made up.

Ours, not the paper's. Gallery photographs are lit by another lamp (`simulated_light`), moved by
about what the refinement leaves, and scored as queries are, with what is normal learned from the
other views. The threshold is a conformal quantile of their scores: a flawless photograph like them
exceeds it with at most the chosen rate. Real lights that differ more than those made up, and models
that have seen their gallery, raise the rate; the threshold goes some way to what is typical of
objects. docs/method_detection.md has the figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaussian_renderer.camera import Camera
from gaussian_renderer.errors import UserError
from gaussian_renderer.files import write_json
from gaussian_renderer.se3 import se3_exp
from piad.anomaly import TINY, DetectConfig, Features
from piad.anomaly_map import image_scores
from piad.normality import GallerySums, evenly, group_of, teaching_views
from piad.scoring import Shot, anomalies_at, batch_size, batches, image_size
from piad.shine import shine
from piad.simulated_light import under_another_lamp

if TYPE_CHECKING:
    from piad.change_net import ChangeNet
    from piad.detail import GalleryDetail
    from piad.models import ModelPair
    from piad.views import View

VERSION = 9  # raise when the same inputs give other scores
TYPICAL_RATE = 0.05  # of `false_alarm_typical`
OWN_SHARE = 0.3  # exponent of the object's own threshold; the rest is the typical one's
# Standard deviations per axis: medians of angle and shift are what the refinement leaves.
JITTER_DEG = 0.1  # of the turn about the object's centre
JITTER_SHARE = 5e-4  # of the object's distance, shift of the object


@dataclass
class ThresholdConfig:
    """How often a flawless photograph may be called defective."""

    false_alarm_rate: float = field(
        default=0.05,
        metadata={"help": "share of flawless photographs that may be called defective"},
    )
    false_alarm_samples: int = field(
        default=39,
        metadata={
            "help": "gallery photographs under simulated light that set the threshold; 0: none"
        },
    )
    false_alarm_margin: float = field(
        default=1.2,
        metadata={
            "help": "factor of the threshold: the models know the gallery's photographs, so that "
            "these differ a little less than others do"
        },
    )
    false_alarm_typical: float = field(
        default=5.0,
        metadata={
            "help": "threshold of objects at large at a rate of 0.05, to which the object's own "
            "goes seven tenths of the way (of its logarithm) where the detection is the default "
            "one; 0: it stays"
        },
    )

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm_rate < 1:
            raise UserError(
                f"false_alarm_rate must lie between 0 and 1, got {self.false_alarm_rate:g}; "
                "correct the config"
            )
        least = least_samples(self.false_alarm_rate)
        if self.false_alarm_samples != 0 and self.false_alarm_samples < least:
            raise UserError(
                f"false_alarm_samples must be 0 or at least {least} for a false_alarm_rate of "
                f"{self.false_alarm_rate:g}, got {self.false_alarm_samples}; raise one of them"
            )
        if not self.false_alarm_margin > 0:
            raise UserError(
                f"false_alarm_margin must be positive, got {self.false_alarm_margin:g}; "
                "correct the config"
            )
        if self.false_alarm_typical < 0:
            raise UserError(
                f"false_alarm_typical must be 0 or positive, got {self.false_alarm_typical:g}; "
                "correct the config"
            )


@dataclass(frozen=True)
class Threshold:
    """Scores from `value` on are called defective; `rate` and `samples` say where it comes from."""

    value: float
    rate: float
    samples: int

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        allowed = f"{100 * self.rate:.3g} % false alarms allowed"
        return f"{allowed} on {self.samples} gallery photographs under simulated light"


def least_samples(rate: float) -> int:
    """Fewest samples whose conformal quantile is finite: (n + 1) (1 - rate) <= n."""
    return math.ceil(1 / rate - 1 - 1e-9)


def conformal_quantile(scores: list[float], rate: float) -> float:
    """The ceil((n + 1) (1 - rate))-th smallest of n scores.

    A further score, exchangeable with them, exceeds it with a probability of at most `rate`
    (Vovk, Gammerman, Shafer, Algorithmic learning in a random world, 2005).
    """
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return sorted(scores)[rank - 1]


def flawless_scores(
    models: ModelPair,
    pairs: list[tuple[View, View]],
    sums: GallerySums | None,
    reflectance_net: Callable[[Tensor], Tensor],
    features: Features,
    cfg: DetectConfig,
    count: int,
    seed: int,
    progress: Callable[[list], Iterable] = iter,
    detail: GalleryDetail | None = None,
    change: ChangeNet | None = None,
) -> list[float]:
    """Scores of `count` gallery photographs under simulated light, as queries would get them.

    Args:
        pairs: gallery views and their reflectance views; short galleries are gone through again.
        sums: distances of the teaching views; a photograph's own group is left out. None: none.
        reflectance_net: images [B, 3, H, W] to their reflectance.
        detail: as the queries' renderings will get it. A photograph's own counts as one from
            halfway to the next: queries come from between the gallery's views.
        change: the change net, where it has a part in the queries' maps.
    """
    taught = list(enumerate(pairs if sums is None else teaching_views(pairs, cfg)))
    normality = [] if sums is None else [sums.normality(without=k) for k in range(len(sums.empty))]
    rounds, rest = divmod(count, len(taught))
    device, scores = models.background.device, []
    shining = shine(models, [view for view, _ in pairs])

    def shot(number: int, view: View) -> Shot:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        photo = under_another_lamp(view.image().to(device), models, view.camera, generator, shining)
        photo = photo.mul(255).round().div(255)  # as a file would hold it
        reflectance = reflectance_net(photo[None])[0].clamp(0, 1).mul(255).round().div(255)
        camera = jittered(view.camera, models.centre, generator)
        return Shot(camera, photo, reflectance, detail, halfway=view.id)

    numbered = enumerate(progress(taught * rounds + evenly(taught, rest)))
    for batch in batches(numbered, batch_size(device), _size):
        shots = [shot(number, view) for number, (_, (view, _)) in batch]
        groups = [normality[group_of(index)] for _, (index, _) in batch] if normality else None
        found = anomalies_at(models, shots, features, cfg, groups, change)
        scores += image_scores(found.counted, cfg).tolist()
    return scores


def _size(item: tuple[int, tuple[int, tuple[View, View]]]) -> tuple[int, int]:
    """Size of the photograph in (number, (index, (view, its reflectance)))."""
    return image_size(item[1][1][0].camera.intrinsics)


def jittered(
    camera: Camera, centre: Tensor, generator: torch.Generator, amount: float = 1.0
) -> Camera:
    """The camera turned about the object's centre [3] and shifted, as a refinement leaves it.

    Args:
        amount: times the errors that a refinement leaves.
    """
    world_to_camera = camera.world_to_camera
    there = world_to_camera[:3, :3] @ centre.double().cpu() + world_to_camera[:3, 3]
    shift = JITTER_SHARE * there.norm() * torch.randn(3, generator=generator, dtype=torch.float64)
    turn = math.radians(JITTER_DEG) * torch.randn(3, generator=generator, dtype=torch.float64)
    shift, turn = amount * shift, amount * turn
    to_centre = torch.eye(4, dtype=torch.float64)
    to_centre[:3, 3] = there
    back = to_centre.clone()
    back[:3, 3] = -there
    return camera.with_pose(to_centre @ se3_exp(torch.cat([shift, turn])) @ back @ world_to_camera)


def kept_threshold(
    path: Path,
    cfg: ThresholdConfig,
    depends: dict,
    score: Callable[[], list[float]],
    usual: bool = False,
) -> Threshold | None:
    """The threshold from the scores that `score` finds, kept in `path` until `depends` changes.

    None where `false_alarm_samples` is 0. Rate, margin and what is typical come after the scores:
    changing them costs nothing.

    Args:
        depends: JSON scalars of what the scores depend on.
        usual: whether scores have the unit of the default detection, so that
            `false_alarm_typical` counts.
    """
    if cfg.false_alarm_samples == 0:
        return None
    key = json.dumps([VERSION, cfg.false_alarm_samples, depends], sort_keys=True)
    scores = _load(path, key)
    if scores is None:
        scores = score()
        write_json(path, {"key": key, "scores": scores})
    rate = cfg.false_alarm_rate
    value = cfg.false_alarm_margin * conformal_quantile(scores, rate)
    if usual and cfg.false_alarm_typical > 0:
        value *= towards_typical(scores, cfg)
    return Threshold(value, rate, len(scores))


def towards_typical(scores: list[float], cfg: ThresholdConfig) -> float:
    """Factor that brings the threshold at TYPICAL_RATE to own^OWN_SHARE typical^(1 - OWN_SHARE).

    Ours. Few samples and made-up lamps say little of the rarest scores; other objects say something
    too.
    """
    rate = TYPICAL_RATE if len(scores) >= least_samples(TYPICAL_RATE) else cfg.false_alarm_rate
    own = cfg.false_alarm_margin * conformal_quantile(scores, rate)
    return (cfg.false_alarm_typical / max(own, TINY)) ** (1 - OWN_SHARE)


def _load(path: Path, key: str) -> list[float] | None:
    """The scores an earlier run kept in `path`, if they were made from the same inputs."""
    try:
        content = json.loads(path.read_text())
        return content["scores"] if content["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not made yet, or not by us: they are made anew
