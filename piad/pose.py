"""Pose refinement: the rendering of both models is moved onto the query (PIAD, pose refinement).

The pose is `world_to_camera` (OpenCV axes). A step multiplies it from the left by the SE(3)
exponential of a twist, so it stays a rigid motion.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.camera import Intrinsics
from gaussian_renderer.se3 import se3_exp
from piad.models import ModelPair, PairRendering

# The original's choices (paper, implementation details), used by --preset original.
ORIGINAL = {
    "refiner": "adam",
    "iter_num": 300,
    "lrate": 0.02,
    "lrate_decay": 0.8,
    "refine_pivot": "camera",
    "refine_light": "none",
    "refine_coarse_steps": 0,
    "refine_stop_change": 3e-6,
    "refine_stop_window": 50,
}
DECAY_STEPS = 100  # the learning rate falls by `lrate_decay` every so many steps (paper)
BORDER_PX = 4  # ring in which a plain backdrop is looked for
PLAIN_TOLERANCE = 0.05  # a border pixel this close to the ring's median belongs to the backdrop
PLAIN_FRACTION = 0.7  # this share of the ring makes the backdrop plain
GAIN_RANGE = (0.1, 10.0)  # a light that changes a channel more than this is not fitted
ROBUST_SCALE = 0.1  # residual (image units) at which a pixel's weight in the light fit halves


@dataclass
class RefineConfig:
    """How a start pose is refined."""

    refiner: str = field(
        default="adam", metadata={"help": "adam: the paper's way", "choices": ("adam",)}
    )
    iter_num: int = field(default=120, metadata={"help": "refinement steps at most"})
    lrate: float = field(
        default=0.01, metadata={"help": "learning rate of the refinement at its start"}
    )
    lrate_decay: float = field(
        default=0.1, metadata={"help": "factor on the learning rate every 100 steps"}
    )
    reflectance_weight: float = field(
        default=0.6, metadata={"help": "weight of the reflectance loss; colour has the rest"}
    )
    refine_pivot: str = field(
        default="object",
        metadata={
            "help": "centre of the rotations: object (ours) or camera (paper)",
            "choices": ("object", "camera"),
        },
    )
    refine_light: str = field(
        default="affine",
        metadata={
            "help": "light fitted before comparing: gain and offset per channel, or none (paper)",
            "choices": ("affine", "none"),
        },
    )
    refine_coarse_steps: int = field(
        default=40, metadata={"help": "first steps, taken at half resolution"}
    )
    refine_stop_change: float = field(
        default=1e-4, metadata={"help": "stop when the best loss fell by less than this"}
    )
    refine_stop_window: int = field(default=20, metadata={"help": "... in so many steps"})


@dataclass
class RefinedPose:
    """Outcome of a refinement.

    world_to_camera: [4, 4], float64, the best pose seen at full resolution; loss: its loss;
    steps: taken in all; stop_reason: "steps" or "converged"; seconds: wall time;
    trace: poses along the way [[4, 4], ...], for the animation.
    """

    world_to_camera: Tensor
    loss: float
    steps: int
    stop_reason: str
    seconds: float
    trace: list[Tensor]


@dataclass
class Target:
    """A query at one resolution: image [6, H, W] (colour, reflectance) and its backdrop [6]."""

    image: Tensor
    backdrop: Tensor | None
    intrinsics: Intrinsics

    def halved(self) -> Target:
        """The same query at half the resolution."""
        height, width = (max(1, n // 2) for n in self.image.shape[-2:])
        image = F.interpolate(self.image[None], (height, width), mode="area")[0]
        return Target(image, self.backdrop, self.intrinsics.resized(width, height))


def plain_backdrop(image: Tensor) -> Tensor | None:
    """Colour [C] of a plain backdrop seen along the border of an image [C, H, W], else None."""
    ring = torch.cat(
        [
            image[:, :BORDER_PX].flatten(1),
            image[:, -BORDER_PX:].flatten(1),
            image[:, :, :BORDER_PX].flatten(1),
            image[:, :, -BORDER_PX:].flatten(1),
        ],
        dim=1,
    )
    median = ring.median(dim=1).values
    near = ((ring - median[:, None]).abs() < PLAIN_TOLERANCE).all(0)
    return median if near.float().mean() >= PLAIN_FRACTION else None


def fit_light(rendering: PairRendering, target: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset per channel that bring a rendering to a query's light (ours).

    Least squares over the object, in which pixels far off the median-scaled fit (defects,
    highlights, misplaced edges) lose their weight.

    Args:
        rendering: both models over black.
        target: the query, [6, H, W].
    Returns:
        gain [6] and offset [6], without gradient.
    """
    image, alpha = rendering.image.detach(), rendering.channel_alpha.detach()
    inside = (alpha > 0.5).to(image.dtype)
    x = image / alpha.clamp_min(0.5)
    weight = inside
    for _ in range(3):
        total = weight.sum((1, 2)).clamp_min(1e-6)
        mean_x, mean_y = (weight * x).sum((1, 2)) / total, (weight * target).sum((1, 2)) / total
        dx, dy = x - mean_x[:, None, None], target - mean_y[:, None, None]
        variance = (weight * dx * dx).sum((1, 2)) / total
        covariance = (weight * dx * dy).sum((1, 2)) / total
        # A small prior towards gain 1 keeps textureless objects well posed.
        gain = ((covariance + 1e-4) / (variance + 1e-4)).clamp(*GAIN_RANGE)
        offset = mean_y - gain * mean_x
        residual = gain[:, None, None] * x + offset[:, None, None] - target
        weight = inside / (1 + (residual / ROBUST_SCALE) ** 2)
    return gain, offset


def composed(rendering: PairRendering, target: Target, model_background: Tensor, light: str):
    """The rendering as the query's camera would have seen it, [6, H, W].

    Args:
        model_background: [6], used when the query's backdrop is not plain.
        light: "affine" or "none" (the models' own light and background).
    """
    if light == "none":
        return rendering.over(model_background)
    gain, offset = fit_light(rendering, target.image)
    alpha = rendering.channel_alpha
    relit = gain[:, None, None] * rendering.image + offset[:, None, None] * alpha
    backdrop = target.backdrop
    if backdrop is None:
        backdrop = gain * model_background + offset
    return relit + (1 - alpha) * backdrop[:, None, None]


def photometric_loss(image: Tensor, target: Tensor, reflectance_weight: float) -> Tensor:
    """w L1(reflectance) + (1 - w) L1(colour) (PIAD, pose loss; w = 0.6)."""
    difference = (image - target).abs()
    colour, reflectance = difference[:3].mean(), difference[3:].mean()
    return reflectance_weight * reflectance + (1 - reflectance_weight) * colour


class _Steps:
    """The poses reached by left-multiplied twists about a pivot."""

    def __init__(self, start: Tensor, models: ModelPair, pivot: str) -> None:
        self.start = start
        self.unit = torch.ones(6, dtype=start.dtype, device=start.device)
        self.pivot = torch.zeros(3, dtype=start.dtype, device=start.device)
        if pivot == "object":
            # Rotations about the object and translations in units of its distance move the
            # image by like amounts, which a camera-centred twist does not.
            self.pivot = start[:3, :3] @ models.centre.to(start) + start[:3, 3]
            self.unit[:3] = self.pivot.norm()

    def pose(self, twist: Tensor) -> Tensor:
        """World_to_camera [4, 4] after `twist` [6]."""
        to_pivot = torch.eye(4, dtype=twist.dtype, device=twist.device)
        from_pivot = to_pivot.clone()
        to_pivot[:3, 3], from_pivot[:3, 3] = -self.pivot, self.pivot
        return from_pivot @ se3_exp(twist * self.unit) @ to_pivot @ self.start


def refine_pose(
    target: Target, world_to_camera: Tensor, models: ModelPair, cfg: RefineConfig
) -> RefinedPose:
    """Refine a start pose with Adam (PIAD, pose refinement) and return the best pose seen.

    Args:
        target: the query; its tensors' device is where the work is done.
        world_to_camera: start pose [4, 4], OpenCV axes.
        models: the object's colour and reflectance models.
        cfg: steps, learning rate, weights.
    """
    began = time.perf_counter()
    device = target.image.device
    steps = _Steps(world_to_camera.to(device=device, dtype=torch.float32), models, cfg.refine_pivot)
    twist = torch.zeros(6, device=device, requires_grad=True)
    optimiser = torch.optim.Adam([twist], lr=cfg.lrate)
    coarse = target.halved() if cfg.refine_coarse_steps else target
    best_loss, best_twist, history = float("inf"), twist.detach().clone(), []
    trace, stop_reason, step = [], "steps", 0
    for step in range(1, cfg.iter_num + 1):
        is_coarse = step <= cfg.refine_coarse_steps
        if step == cfg.refine_coarse_steps + 1:
            best_loss, history = float("inf"), []
        for group in optimiser.param_groups:
            group["lr"] = cfg.lrate * cfg.lrate_decay ** ((step - 1) / DECAY_STEPS)
        level = coarse if is_coarse else target
        viewmat = steps.pose(twist)
        rendering = models.render(viewmat, level.intrinsics)
        image = composed(rendering, level, models.background, cfg.refine_light)
        loss = photometric_loss(image, level.image, cfg.reflectance_weight)
        trace.append(viewmat.detach())
        value = loss.item()
        if value < best_loss:
            best_loss, best_twist = value, twist.detach().clone()
        history.append(best_loss)
        window = cfg.refine_stop_window
        if len(history) > window and history[-1 - window] - best_loss < cfg.refine_stop_change:
            if not is_coarse:
                stop_reason = "converged"
                break
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    precise = _Steps(world_to_camera.to(torch.float64).cpu(), models, "camera")
    precise.pivot, precise.unit = steps.pivot.double().cpu(), steps.unit.double().cpu()
    pose = precise.pose(best_twist.double().cpu())
    seconds = time.perf_counter() - began
    return RefinedPose(pose, best_loss, step, stop_reason, seconds, trace)
