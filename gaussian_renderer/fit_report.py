"""How well a model explains photographs: PSNR, SSIM, error statistics, and clutter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from gaussian_renderer.backdrop import Backdrop, dilated, silhouette
from gaussian_renderer.camera import Camera
from gaussian_renderer.gaussians import GaussianModel
from gaussian_renderer.image_metrics import psnr, ssim
from gaussian_renderer.render import render

ON_OBJECT = 0.5  # alpha of the rendering above which a pixel counts as the object's
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
FLOATING = 0.1  # alpha above which a pixel counts as covered
MOST_PIXELS = 2_000_000  # kept for the quantiles, of all photos together


@torch.no_grad()
def evaluate(model: GaussianModel, cameras: Sequence[Camera], images: Sequence[Tensor]) -> dict:
    """PSNR (dB) and SSIM, mean and per photo, and error statistics against photos [C, H, W].

    `errors` are of the pixels where the rendering's alpha exceeds ON_OBJECT: mean |difference| and
    root mean square per channel, and quantiles of the channels' mean |difference|; None where
    nothing is rendered.
    """
    by_view, absolute, square, count, kept = [], 0.0, 0.0, 0, []
    for camera, image in zip(cameras, images, strict=True):
        target = image.to(model.device)
        drawn = render(model, camera)
        by_view.append((min(psnr(drawn.image, target), 100.0), ssim(drawn.image, target)))
        difference = (drawn.image.clamp(0, 1) - target)[:, drawn.alpha[0] > ON_OBJECT]  # [C, M]
        absolute = absolute + difference.abs().double().sum(1)
        square = square + difference.double().square().sum(1)
        count += difference.shape[1]
        stride = -(-difference.shape[1] * len(cameras) // MOST_PIXELS) or 1
        kept.append(difference.abs().mean(0)[::stride].cpu().numpy())
    errors = None
    if count:
        levels = np.quantile(np.concatenate(kept), QUANTILES)
        errors = {
            "mean_absolute": [round(v, 6) for v in (absolute / count).tolist()],
            "root_mean_square": [round(v, 6) for v in (square / count).sqrt().tolist()],
            "quantiles": {
                str(q): round(float(v), 6) for q, v in zip(QUANTILES, levels, strict=True)
            },
            "num_pixels": count,
        }
    return {
        "psnr": sum(p for p, _ in by_view) / len(by_view),
        "ssim": sum(s for _, s in by_view) / len(by_view),
        "psnr_by_view": [round(p, 3) for p, _ in by_view],
        "ssim_by_view": [round(s, 5) for _, s in by_view],
        "errors": errors,
    }


@torch.no_grad()
def clutter(
    model: GaussianModel, cameras: Sequence[Camera], images: Sequence[Tensor], backdrop: Backdrop
) -> dict:
    """What `model` shows where photos [C, H, W] show a plain backdrop.

    alpha_outside: mean alpha of the pixels more than one away from the silhouette.
    largest_floater_px: pixels of the largest connected region of alpha above FLOATING that doesn't
        touch the silhouette.
    """
    total, count, largest = 0.0, 0, 0
    for camera, image in zip(cameras, images, strict=True):
        shape = silhouette(image[:3], backdrop.colour[:3], backdrop.tolerance)
        alpha = render(model, camera).alpha[0].cpu()
        outside = dilated(shape.float(), 1) < 0.5
        total += alpha[outside].double().sum().item()
        count += int(outside.sum())
        regions, _ = label(alpha.numpy() > FLOATING)
        sizes = np.bincount(regions.ravel())
        sizes[np.unique(regions[shape.numpy()])] = 0
        sizes[0] = 0  # what isn't covered
        largest = max(largest, int(sizes.max()))
    return {"alpha_outside": round(total / max(count, 1), 6), "largest_floater_px": largest}
