"""What a reflectance net is worth: what it keeps against what it removes.

Every measure is a ratio that ignores a gain and an offset of the whole image, so that an image of
less contrast is not better for it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from piad.reflectance_data import Group, paint

EROSION_PX = 2  # silhouettes mix object and background
SHIFT_PX = 2
MIN_PATCH_PX = 20  # painted patches below this many object pixels measure nothing


def eroded(mask: Tensor, radius: int = EROSION_PX) -> Tensor:
    """The mask [H, W] (bool) without its outer `radius` px; the image's border stays."""
    outside = (~mask).float()[None, None]
    return F.max_pool2d(outside, 2 * radius + 1, 1, radius)[0, 0] < 0.5


def rms(values: Tensor) -> float:
    """Root of the mean square."""
    return values.double().square().mean().sqrt().item()


def contrast(images: Tensor, mask: Tensor) -> float:
    """Standard deviation over the object of images [K, 3, H, W], per channel, then averaged."""
    return images[..., mask].double().std(dim=-1).mean().item()


def light_difference(images: Tensor, mask: Tensor) -> float:
    """How much images [K, 3, H, W] of one view differ by light: rms difference / contrast.

    The mean over all pairs of lights; 0 when light leaves no trace, sqrt(2) when images are
    independent.
    """
    count = len(images)
    differences = [
        rms((images[i] - images[j])[:, mask]) for i in range(count) for j in range(i + 1, count)
    ]
    return sum(differences) / len(differences) / contrast(images, mask)


def fit_gain(images: Tensor, mask: Tensor) -> Tensor:
    """Images [K, 3, H, W] with the mean and the spread over the object of each channel equalled.

    The baseline any renderer can have: a gain and an offset per channel, fitted with the truth at
    hand.
    """
    values = images[..., mask]
    mean, std = values.mean(-1)[..., None, None], values.std(-1)[..., None, None]
    return (images - mean) / std.clamp(min=1e-6) * std.mean(0) + mean.mean(0)


def measure(
    net: Callable[[Tensor], Tensor], group: Group, seed: int = 0, num_patches: int = 4
) -> dict[str, float]:
    """Measures of one view group under `net` (images [B, 3, H, W] -> same).

    light: light_difference.
    defect: rms change within a painted patch / rms difference by light.
    shift: rms change when the image moves 2 px / rms difference by light.
    spill: rms change outside a painted patch (8 px and more away) / rms change within.
    """
    images = group.images.float() / 255
    inside = eroded(group.mask)
    made = net(images)
    pairs = [(i, j) for i in range(len(images)) for j in range(i + 1, len(images))]
    by_light = torch.stack([made[i] - made[j] for i, j in pairs])
    moved = made.roll((SHIFT_PX, SHIFT_PX), (-2, -1)) - made
    light = rms(by_light[..., inside])
    result = {
        "light": light_difference(made, inside),
        "shift": rms(moved[..., inside]) / light,
    }
    generator = Generator().manual_seed(seed)
    defect, spill = [], []
    while len(defect) < num_patches:
        painted, change = paint(images[0], generator)
        patch = change.abs().amax(0) > 0.02
        if (patch & inside).sum() < MIN_PATCH_PX:
            continue
        difference = net(painted[None])[0] - made[0]
        strength = rms(difference[:, patch & inside])
        defect.append(strength / light)
        far = ~patch & eroded(~patch, 8)
        spill.append(rms(difference[:, far]) / strength)
    if num_patches:
        result["defect"] = sum(defect) / num_patches
        result["spill"] = sum(spill) / num_patches
    return result


def mean_measures(
    net: Callable[[Tensor], Tensor], groups: list[Group], seed: int = 0
) -> dict[str, float]:
    """Geometric means of the measures over view groups."""
    return geometric_mean([measure(net, group, seed + index) for index, group in enumerate(groups)])


def geometric_mean(rows: list[dict[str, float]]) -> dict[str, float]:
    """Geometric mean of each key over rows."""
    return {
        key: torch.tensor([row[key] for row in rows]).clamp(min=1e-9).log().mean().exp().item()
        for key in rows[0]
    }
