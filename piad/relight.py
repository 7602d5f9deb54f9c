"""The rendering in the light of the query: what changed only because of the lamp is taken out.

Ours, not the paper's. The Gaussians know the object under the gallery's light. Before query and
rendering are compared, the rendering's colours are mapped by an affine function per channel whose
gain and offset vary smoothly over the image: the gain is the lamp's strength and colour, the
offset its veil, their variation its direction. The map matches mean and standard deviation of the
query in Gaussian windows, with robust weights so that a defect, which no smooth map explains, does
not pull it. Where the Gaussians leave the image empty the query's own backdrop is put in.

Everything runs on the images' device, a batch at once, without waiting for it.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
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
BACKDROP_RIDGE = 1e-3  # a strip of backdrop seen at one rim must not tilt the plane


@torch.inference_mode()
def relight(rendering: Tensor, query: Tensor, alpha: Tensor, window: float) -> Tensor:
    """Map renderings to their queries' light and backdrop.

    Args:
        rendering: over any plain background, [B, 3, H, W] or [3, H, W], 0..1.
        query: same shape, 0..1.
        alpha: coverage by the Gaussians, [B, 1, H, W] or [1, H, W], 0..1.
        window: standard deviation of the Gaussian windows as a share of the longer side.
    Returns:
        The shape of `rendering`, 0..1, float32, on its device.
    """
    if rendering.ndim == 3:
        return relight(rendering[None], query[None], alpha[None], window)[0]
    source, target, cover = rendering.float(), query.float(), alpha.float()
    empty = cover < EMPTY_BELOW
    seen = (empty.float().mean((1, 2, 3)) >= MIN_SHARE)[:, None, None, None]
    # Colours mix at the rim: take the rendering's own background out, put the query's in.
    step = _stride(cover)
    own = masked_median(source[..., ::step, ::step], empty[..., ::step, ::step])
    bare = 1 - cover
    source = torch.where(seen, source - bare * own, source)
    backdrop = torch.where(seen, bare * plain_backdrop(target, empty), 0)
    cover = torch.where(seen, cover, 1)
    gain, offset = smooth_light(source, target - backdrop, cover, window)
    return (gain * source + offset * cover + backdrop).clamp(0, 1)


def smooth_light(
    source: Tensor, target: Tensor, cover: Tensor, window: float
) -> tuple[Tensor, Tensor]:
    """Gain and offset per channel, smooth over the image, that map `source` to `target`.

    Both images are premultiplied: pixel = cover * colour. In each window q = g p + o c has
    the mean and deviation of `target`; one with little colour variation keeps the image's gain.

    Args:
        source, target: [B, 3, H, W]; cover: [B, 1, H, W], 0..1; window: see `relight`.
    Returns:
        gain and offset, [B, 3, H, W] each.
    """
    height, width = cover.shape[-2:]
    scale = min(1.0, FIT_SIZE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    stacked = shrink(torch.cat([source, target, cover], 1), size)
    p, q, c = stacked[:, :3], stacked[:, 3:6], stacked[:, 6:]
    inside = c > 0.5
    weights = torch.where(inside, c, 0)
    enough = (weights.mean((1, 2, 3)) >= MIN_SHARE)[:, None, None, None]
    sigma = window * max(size)
    gain, offset = _match_moments(p, q, c, weights, sigma)
    for _ in range(ROUNDS):
        residual = (q - gain * p - offset * c).norm(dim=1, keepdim=True)
        robust = torch.where(inside, c, 0) * robust_weights(residual, inside)
        gain, offset = _match_moments(p, q, c, robust, sigma)
    light = torch.cat([torch.where(enough, gain, 1), torch.where(enough, offset, 0)], 1)
    light = F.interpolate(light, (height, width), mode="bilinear", align_corners=False)
    return light[:, :3], light[:, 3:]


def _match_moments(
    p: Tensor, q: Tensor, c: Tensor, weights: Tensor, sigma: float
) -> tuple[Tensor, Tensor]:
    """g and o of q = g p + o c that match weighted moments around each pixel."""
    # Moments of the colours p / c and q / c, of mixed pixels at the rim as well.
    safe = c.clamp_min(0.5)
    x, y, w = p / safe, q / safe, weights * c.square()
    sums = torch.cat([w, w * x, w * y, w * x * x, w * y * y], 1)
    whole = sums.sum((2, 3), keepdim=True)
    gain_all = _gain(whole, 1.0)
    # A window with next to no weight falls back on the whole image's moments.
    local = _blur(sums, sigma) + 1e-4 * whole / whole[:, :1].clamp_min(1e-12)
    gain = _gain(local, gain_all)
    return gain, (local[:, 4:7] - gain * local[:, 1:4]) / local[:, :1]


def _gain(sums: Tensor, prior: Tensor | float) -> Tensor:
    """Ratio of standard deviations from weighted sums (1, x, y, xx, yy), pulled to `prior`.

    A regression's slope would shrink wherever highlights wander, and wash out the rendering.
    """
    total = sums[:, :1].clamp_min(1e-12)
    means = sums[:, 1:] / total
    variance_x = (means[:, 6:9] - means[:, :3].square()).clamp_min(0)
    variance_y = (means[:, 9:] - means[:, 3:6].square()).clamp_min(0)
    ratio = (variance_y + GAIN_RIDGE * prior**2) / (variance_x + GAIN_RIDGE)
    return ratio.sqrt().clamp(*GAIN_RANGE)


def plain_backdrop(image: Tensor, empty: Tensor) -> Tensor:
    """The backdrop as a plane per channel (c0 + c1 x + c2 y), fitted robustly where `empty`.

    Args:
        image: [B, 3, H, W]; empty: True where the backdrop is seen, [B, 1, H, W].
    Returns:
        [B, 3, H, W], for every pixel.
    """
    height, width = empty.shape[-2:]
    basis = _plane_basis(height, width, image.device)  # [H, W, 3]
    step = _stride(empty)
    rows = basis[::step, ::step].reshape(-1, 3)
    colours = image[..., ::step, ::step].flatten(2)  # [B, 3, P]
    thin = empty[..., ::step, ::step].flatten(2)  # [B, 1, P]
    coefficients = torch.zeros(len(image), 3, 3, device=image.device)  # [B, basis, channel]
    coefficients[:, 0] = masked_median(colours[..., None], thin[..., None])[..., 0, 0]
    ridge = torch.diag(torch.tensor([1e-9, BACKDROP_RIDGE, BACKDROP_RIDGE], device=image.device))
    for _ in range(ROUNDS):
        residual = (colours - (rows @ coefficients).mT).norm(dim=1, keepdim=True)
        weights = robust_weights(residual[..., None], thin[..., None])[..., 0] * thin
        total = weights.sum(-1, keepdim=True).clamp_min(1e-9)
        weighted = rows.T * weights / total  # [B, 3, P]
        coefficients = torch.linalg.solve_ex(weighted @ rows + ridge, weighted @ colours.mT).result
    return torch.einsum("hwk,bkc->bchw", basis, coefficients)


def _stride(images: Tensor) -> int:
    """Step of a grid of pixels about as fine as the fit."""
    return max(1, max(images.shape[-2:]) // FIT_SIZE)


def robust_weights(residual: Tensor, inside: Tensor) -> Tensor:
    """Geman-McClure weights, in 0..1, of residuals >= 0 by their median among `inside`.

    Both [B, 1, H, W]; each image has a median of its own.
    """
    scale = (MAD_TO_SIGMA * masked_median(residual, inside)).clamp_min(SMALLEST_SCALE)
    return 1 / (1 + (residual / (OUTLIER_SCALES * scale)).square()).square()


def masked_median(values: Tensor, inside: Tensor) -> Tensor:
    """Median per image and channel where `inside`, 0 where nothing is.

    values [B, C, H, W], inside [B, 1, H, W] -> [B, C, 1, 1]; of an even number the middle two's
    mean.
    """
    flat = values.masked_fill(~inside, torch.inf).flatten(2).sort(dim=-1).values
    count = inside.flatten(2).sum(-1, keepdim=True)
    middle = [((count - 1).clamp_min(0) // 2), (count // 2).clamp_max(flat.shape[-1] - 1)]
    found = sum(flat.gather(-1, k.expand(-1, flat.shape[1], -1)) for k in middle) / 2
    return torch.where(count > 0, found, 0)[..., None]


def shrink(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, C, H, W] at a smaller size: each new pixel is the mean of the area it covers."""
    rows, columns = (
        _area_matrix(old, new, images.device)
        for old, new in zip(images.shape[-2:], size, strict=True)
    )
    return rows @ images @ columns.T


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of [B, C, H, W], zero outside."""
    rows, columns = (_gaussian_matrix(n, sigma, images.device) for n in images.shape[-2:])
    return rows @ images @ columns.T


@functools.lru_cache(maxsize=64)
def _area_matrix(old: int, new: int, device: torch.device) -> Tensor:
    """[new, old]: how much of each old pixel a new one covers, rows sum to 1."""
    with torch.inference_mode(False):
        edges = torch.arange(new + 1, dtype=torch.float64) * (old / new)
        pixels = torch.arange(old, dtype=torch.float64)
        first = torch.maximum(edges[:-1, None], pixels)
        last = torch.minimum(edges[1:, None], pixels + 1)
        return ((last - first).clamp_min(0) * (new / old)).float().to(device)


@functools.lru_cache(maxsize=64)
def _gaussian_matrix(length: int, sigma: float, device: torch.device) -> Tensor:
    """[length, length]: a Gaussian of weight 1 around each position."""
    with torch.inference_mode(False):
        steps = torch.arange(length, dtype=torch.float64)
        reach = torch.arange(-10 * length, 10 * length + 1, dtype=torch.float64)
        total = torch.exp(-0.5 * (reach / sigma) ** 2).sum()
        kernel = torch.exp(-0.5 * ((steps[:, None] - steps) / sigma) ** 2) / total
        return kernel.float().to(device)


@functools.lru_cache(maxsize=16)
def _plane_basis(height: int, width: int, device: torch.device) -> Tensor:
    """1, x and y, the latter -1..1 over the image, [H, W, 3]."""
    with torch.inference_mode(False):
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        return torch.stack([torch.ones_like(x), x, y], -1).to(device)
