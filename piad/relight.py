"""The rendering in the light of the query: what changed only because of the lamp is taken out.

Ours, not the paper's. The Gaussians know the object under the gallery's light. Before query and
rendering are compared, the rendering's colours are mapped by an affine function per channel whose
gain and offset vary smoothly over the image: the gain is the lamp's strength and colour, the
offset its veil, their variation its direction. The map matches mean and standard deviation of the
query in Gaussian windows, with robust weights so that a defect, which no smooth map explains, does
not pull it. Where the Gaussians leave the image empty the query's own backdrop is put in.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

FIT_SIZE = 128  # longer side at which the map is fitted, px; the map is far smoother than that
EMPTY_BELOW = 0.02  # alpha under which a pixel shows the backdrop alone
MIN_SHARE = 0.002  # of the image: fewer pixels than that fit nothing
ROUNDS = 3  # refits with robust weights
GAIN_RIDGE = 1e-3  # variance of colour, (0..1)^2, under which a window keeps the image's gain
GAIN_RANGE = (0.1, 6.0)  # lamps dim and brighten; a negative gain would be another object
OUTLIER_SCALES = 3.0  # residuals of so many robust standard deviations count a quarter
SMALLEST_SCALE = 0.01  # robust standard deviation never taken smaller, colour in 0..1
MAD_TO_SIGMA = 1.4826  # median absolute deviation of a normal distribution


def relight(rendering: Tensor, query: Tensor, alpha: Tensor, window: float) -> Tensor:
    """Map the rendering to the query's light and backdrop.

    Args:
        rendering: over any plain background, [3, H, W], 0..1.
        query: [3, H, W], 0..1.
        alpha: coverage by the Gaussians, [1, H, W] or [H, W], 0..1.
        window: standard deviation of the Gaussian windows as a share of the longer side.
    Returns:
        [3, H, W], 0..1, on the device of `rendering`.
    """
    source, target = _pixels(rendering), _pixels(query)
    cover = _pixels(alpha.reshape(1, *alpha.shape[-2:]))[..., 0]
    empty = cover < EMPTY_BELOW
    backdrop = np.zeros_like(target)
    if empty.mean() >= MIN_SHARE:
        # Colours mix at the rim: take the rendering's own background out, put the query's in.
        source = source - (1 - cover)[..., None] * np.median(source[empty], axis=0)
        backdrop = (1 - cover)[..., None] * plain_backdrop(target, empty)
    else:
        cover = np.ones_like(cover)
    gain, offset = smooth_light(source, target - backdrop, cover, window)
    result = gain * source + offset * cover[..., None] + backdrop
    result = np.ascontiguousarray(result.clip(0, 1).transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(result).to(rendering.device)


def smooth_light(
    source: np.ndarray, target: np.ndarray, cover: np.ndarray, window: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset per channel, smooth over the image, that map `source` to `target`.

    Both images are premultiplied: pixel = cover * colour. In each window q = g p + o c has
    the mean and deviation of `target`; one with little colour variation keeps the image's gain.

    Args:
        source, target: [H, W, 3]; cover: [H, W], 0..1; window: see `relight`.
    Returns:
        gain and offset, [H, W, 3] each.
    """
    height, width = cover.shape
    scale = min(1.0, FIT_SIZE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    p, q, c = (cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (source, target, cover))
    sigma = window * max(size)
    weights = np.where(c > 0.5, c, 0).astype(np.float32)
    identity = np.ones_like(p), np.zeros_like(p)
    if weights.mean() < MIN_SHARE:
        return np.ones_like(source), np.zeros_like(source)
    gain, offset = identity
    for round_number in range(ROUNDS + 1):
        if round_number > 0:
            residual = np.linalg.norm(q - gain * p - offset * c[..., None], axis=2)
            weights = np.where(c > 0.5, c, 0) * robust_weights(residual, c > 0.5)
        gain, offset = _match_moments(p, q, c, weights.astype(np.float32), sigma)
    enlarge = {"dsize": (width, height), "interpolation": cv2.INTER_LINEAR}
    return cv2.resize(gain, **enlarge), cv2.resize(offset, **enlarge)


def _match_moments(
    p: np.ndarray, q: np.ndarray, c: np.ndarray, weights: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """g and o of q = g p + o c that match weighted moments around each pixel."""
    # Moments of the colours p / c and q / c, of mixed pixels at the rim as well.
    safe = np.maximum(c, 0.5)[..., None]
    x, y, w = p / safe, q / safe, (weights * c**2)[..., None]
    sums = [np.broadcast_to(w, x.shape), w * x, w * y, w * x * x, w * y * y]
    whole = [s.sum((0, 1)) for s in sums]
    gain_all = _gain(whole, np.float32(1), np.float32(GAIN_RIDGE))
    # A window with next to no weight falls back on the whole image's moments.
    share = 1e-4 / whole[0]
    local = [
        _blur(np.ascontiguousarray(s, dtype=np.float32), sigma) + share * t
        for s, t in zip(sums, whole, strict=True)
    ]
    gain = _gain(local, gain_all, np.float32(GAIN_RIDGE))
    offset = (local[2] - gain * local[1]) / local[0]
    return gain.astype(np.float32), offset.astype(np.float32)


def _gain(sums: list[np.ndarray], prior: np.ndarray, ridge: float) -> np.ndarray:
    """Ratio of standard deviations from weighted sums (1, x, y, xx, yy), pulled to `prior`.

    A regression's slope would shrink wherever highlights wander, and wash out the rendering.
    """
    total, sx, sy, sxx, syy = sums
    variance_x = np.maximum(sxx / total - (sx / total) ** 2, 0)
    variance_y = np.maximum(syy / total - (sy / total) ** 2, 0)
    ratio = (variance_y + ridge * prior**2) / (variance_x + ridge)
    return np.sqrt(ratio).clip(*GAIN_RANGE)


def plain_backdrop(image: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """The backdrop as a plane per channel (c0 + c1 x + c2 y), fitted robustly where `empty`.

    Args:
        image: [H, W, 3]; empty: True where the backdrop is seen, [H, W].
    Returns:
        [H, W, 3], for every pixel.
    """
    height, width = empty.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    basis = np.stack([np.ones_like(x), x, y], axis=-1)
    step = max(1, max(height, width) // FIT_SIZE)
    seen = np.zeros_like(empty)
    seen[::step, ::step] = empty[::step, ::step]
    if seen.sum() < basis.shape[-1]:
        seen = empty
    rows, colours = basis[seen], image[seen]
    weights = np.ones(len(rows), dtype=np.float32)
    coefficients = np.zeros((3, image.shape[2]), dtype=np.float32)
    coefficients[0] = np.median(colours, axis=0)
    for _ in range(ROUNDS):
        residual = np.linalg.norm(colours - rows @ coefficients, axis=1)
        weights = robust_weights(residual, np.ones(len(rows), dtype=bool))
        weighted = rows * weights[:, None]
        # Ridge: a strip of backdrop seen at one rim must not tilt the plane.
        normal = weighted.T @ rows / weights.sum() + np.diag([0, 1e-3, 1e-3])
        coefficients = np.linalg.solve(normal, weighted.T @ colours / weights.sum())
    return (basis @ coefficients).astype(np.float32)


def robust_weights(residual: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Geman-McClure weights, in 0..1, of residuals >= 0 by their median among `inside`."""
    scale = max(MAD_TO_SIGMA * float(np.median(residual[inside])), SMALLEST_SCALE)
    return 1 / (1 + (residual / (OUTLIER_SCALES * scale)) ** 2) ** 2


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)


def _pixels(image: Tensor) -> np.ndarray:
    """[C, H, W] tensor to a float32 array [H, W, C]."""
    return image.detach().float().cpu().permute(1, 2, 0).contiguous().numpy()
