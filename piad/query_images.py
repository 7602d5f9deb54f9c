"""What a refined query leaves behind for the eye: four PNGs and an animation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gaussian_renderer.files import atomic_path, write_image
from piad.models import ModelPair
from piad.refine_config import RefinedPose
from piad.target import Target

NUM_FRAMES = 12
FRAME_SIDE_PX = 200
FRAME_MS = 120
LAST_FRAME_MS = 1200


@torch.no_grad()
def write_query_images(
    folder: Path, target: Target, refined: RefinedPose, models: ModelPair
) -> None:
    """Write the query, the flawless renderings at the refined pose, and the way there.

    ``rgb8.png`` and ``Rrgb8.png`` are the query and its reflectance at work resolution,
    ``ref.png`` and ``Rref.png`` the renderings (the references it is compared with), and
    ``overlay.gif`` blends query and rendering along the refinement.
    """
    viewmat = refined.world_to_camera.to(device=target.image.device, dtype=torch.float32)
    rendering = models.render(viewmat, target.intrinsics).over(models.background)
    write_image(folder / "rgb8.png", target.image[:3])
    write_image(folder / "ref.png", rendering[:3])
    write_image(folder / "Rrgb8.png", target.image[3:])
    write_image(folder / "Rref.png", rendering[3:])
    write_overlay(folder / "overlay.gif", target, [*refined.trace, viewmat], models)


def write_overlay(path: Path, target: Target, trace: list[Tensor], models: ModelPair) -> None:
    """Write a GIF of half query, half rendering at poses spread over `trace`."""
    side = max(target.intrinsics.width, target.intrinsics.height)
    scale = min(1.0, FRAME_SIDE_PX / side)
    width = max(1, round(target.intrinsics.width * scale))
    height = max(1, round(target.intrinsics.height * scale))
    intrinsics = target.intrinsics.resized(width, height)
    query = torch.nn.functional.interpolate(target.image[None, :3], (height, width), mode="area")[0]
    # Most of the movement is at the start, so frames are spread over the square root of the steps.
    chosen = np.unique((np.linspace(0, 1, NUM_FRAMES) ** 2 * (len(trace) - 1)).round().astype(int))
    frames = []
    for index in chosen:
        rendering = models.render(trace[index].to(query), intrinsics).over(models.background)[:3]
        blend = (0.5 * query + 0.5 * rendering).clamp(0, 1).mul(255).round().to(torch.uint8)
        frames.append(Image.fromarray(blend.permute(1, 2, 0).cpu().numpy()))
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=durations, loop=0
        )
