"""How a start pose is refined, and what comes of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from gaussian_renderer.errors import UserError

# The original's choices, used by --preset original; Adam's settings are the paper's (implementation
# details) anyway.
ORIGINAL = {"refiner": "adam", "refuse_below": 0.0}


GPU_BATCH = 32  # queries at once; more gain little


@dataclass
class RefineConfig:
    """How a start pose is refined."""

    refiner: str = field(
        default="second_order",
        metadata={
            "help": "adam: the paper's way; second_order: Gauss-Newton, coarse to fine (ours)",
            "choices": ("adam", "second_order"),
        },
    )
    iter_num: int = field(default=300, metadata={"help": "adam: steps at most"})
    lrate: float = field(default=0.02, metadata={"help": "adam: learning rate at the start"})
    lrate_decay: float = field(
        default=0.8, metadata={"help": "adam: factor on the learning rate every 100 steps"}
    )
    reflectance_weight: float = field(
        default=0.6, metadata={"help": "weight of the reflectance loss; colour has the rest"}
    )
    refine_batch: int = field(
        default=0,
        metadata={"help": "queries refined at once; 0: 32 on a GPU, one by one on the CPU"},
    )
    polish_steps: int = field(
        default=12,
        metadata={"help": "second_order: most steps at full resolution, on windowed correlation"},
    )
    refine_detail_views: int = field(
        default=4,
        metadata={
            "help": "second_order: gallery photographs that lend the last step the detail that the "
            "models have lost; 0: none"
        },
    )
    turned_poses: int = field(
        default=3,
        metadata={
            "help": "second_order: poses on sides that look nearly the same, refined beside the "
            "one that was found, at most; 0: none"
        },
    )
    refine_stop_change: float = field(
        default=3e-6, metadata={"help": "adam: stop when the loss moved by less than this"}
    )
    refine_stop_window: int = field(default=50, metadata={"help": "... in so many steps"})
    refuse_below: float = field(
        default=0.125,
        metadata={
            "help": "share of the gallery's own agreement with its renderings below which a query "
            "is 'not found'; 0: never (paper)"
        },
    )
    doubt_below: float = field(
        default=0.25,
        metadata={"help": "the same share, below which a query is found but 'ambiguous'"},
    )
    tie_margin: float = field(
        default=0.04,
        metadata={
            "help": "second_order: lead in likeness over a clearly different pose below which a "
            "query is 'ambiguous'"
        },
    )

    def __post_init__(self) -> None:
        counts = "iter_num", "refine_batch", "polish_steps", "refine_detail_views", "turned_poses"
        for key in counts:
            if getattr(self, key) < 0:
                raise UserError(
                    f"{key} must be 0 or positive, got {getattr(self, key)}; correct the config"
                )

    def batch_on(self, device: torch.device) -> int:
        """Queries refined at once on a device."""
        return self.refine_batch or (GPU_BATCH if device.type == "cuda" else 1)

    def what_counts(self) -> dict:
        """The settings that a pose depends on."""
        return {key: value for key, value in asdict(self).items() if key != "refine_batch"}


@dataclass
class RefinedPose:
    """Outcome of a refinement.

    world_to_camera: [4, 4], float64; loss: its photometric loss (PIAD), which knows no other light;
    steps: taken in all; stop_reason: "steps" or "converged"; seconds: wall time, of
    queries refined together each one's share;
    trace: poses along the way [[4, 4], ...], for the animation; covariance: [6, 6] of the camera's
    twist (rho, phi), from the residuals' weights (second_order only); agreement: of query
    and rendering at full resolution, 0..1 (`closeness`); likeness: of the hypothesis that was
    chosen by it, and rival_likeness: the highest of those on clearly different sides (None where
    there was none); rival: world_to_camera [4, 4] of one on such a side that was refined as well;
    rival_agreement: its agreement, where it was turned to that side (`piad.turns`).
    """

    world_to_camera: Tensor
    loss: float
    steps: int
    stop_reason: str
    seconds: float
    trace: list[Tensor]
    covariance: Tensor | None = None
    agreement: float = math.nan
    likeness: float | None = None
    rival_likeness: float | None = None
    rival: Tensor | None = None
    rival_agreement: float | None = None
