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
import math

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
NEGLIGIBLE = 1e-7  # share of a filter's strongest wave, float32's rounding
LANES = 16  # matrices of so many columns are multiplied nearly three times as fast as of one less
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
    bare = torch.where(seen, 1 - cover, 0)
    cover = 1 - bare
    source = torch.addcmul(source, bare, own, value=-1)
    backdrop = bare * plain_backdrop(target, empty)
    gain, offset = smooth_light(source, target - backdrop, cover, window)
    return torch.addcmul(backdrop, gain, source).addcmul_(offset, cover).clamp_(0, 1)


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
    p, q, c = (shrink(image, size) for image in (source, target, cover))
    inside = c > 0.5
    weights = torch.where(inside, c, 0)
    enough = (weights.mean((1, 2, 3)) >= MIN_SHARE)[:, None, None, None]
    sigma = window * max(size)
    # Moments of the colours p / c and q / c, of mixed pixels at the rim as well.
    safe = c.clamp_min(0.5)
    x, y = p / safe, q / safe
    moments = c.square() * torch.cat([torch.ones_like(c), x, y, x * x, y * y], 1)
    gain, offset = _match_moments(moments, weights, sigma)
    for _ in range(ROUNDS):
        residual = length(torch.addcmul(q, gain, p, value=-1).addcmul_(offset, c, value=-1))
        robust = weights * robust_weights(residual, inside)
        gain, offset = _match_moments(moments, robust, sigma)
    light = torch.cat([torch.where(enough, gain, 1), torch.where(enough, offset, 0)], 1)
    light = resized(light, (height, width))
    return light[:, :3], light[:, 3:]


def _match_moments(moments: Tensor, weights: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """g and o of q = g p + o c that match weighted moments (1, x, y, xx, yy) around each pixel."""
    sums = weights * moments
    whole = _over_weight(sums.sum((2, 3), keepdim=True))
    # A window with next to no weight falls back on the whole image's moments.
    local = _over_weight(_blur(sums, sigma).add_(1e-4 * whole))
    gain = _gain(local, _gain(whole, 1.0))
    return gain, torch.addcmul(local[:, 4:7], gain, local[:, 1:4], value=-1)


def _over_weight(sums: Tensor) -> Tensor:
    """Weighted sums (1, x, y, xx, yy) as means."""
    return sums / sums[:, :1].clamp_min(1e-12)


def _gain(means: Tensor, prior: Tensor | float) -> Tensor:
    """Ratio of standard deviations from weighted means (1, x, y, xx, yy), pulled to `prior`.

    A regression's slope would shrink wherever highlights wander, and wash out the rendering.
    """
    first, second = means[:, 1:7], means[:, 7:]
    variance = torch.addcmul(second, first, first, value=-1).clamp_min_(0)
    ratio = (variance[:, 3:] + GAIN_RIDGE * prior**2) / (variance[:, :3] + GAIN_RIDGE)
    return ratio.sqrt_().clamp_(*GAIN_RANGE)


def plain_backdrop(image: Tensor, empty: Tensor) -> Tensor:
    """The backdrop as a plane per channel (c0 + c1 x + c2 y), fitted robustly where `empty`.

    Args:
        image: [B, 3, H, W]; empty: True where the backdrop is seen, [B, 1, H, W].
    Returns:
        [B, 3, H, W], for every pixel.
    """
    step = _stride(empty)
    basis = _plane_basis(*empty.shape[-2:], image.device)  # [3, H, W]
    places = basis[:, ::step, ::step].flatten(1)  # [3, P]
    thin = empty[..., ::step, ::step].flatten(2)  # [B, 1, P]
    colours = image[..., ::step, ::step].flatten(2)  # [B, 3, P]
    typical = masked_median(colours[..., None], thin[..., None])[..., 0]
    # About the median: seen in a strip at one rim alone, slopes would drown in rounding.
    colours = colours - typical
    ridge = torch.diag(torch.tensor([1e-9, BACKDROP_RIDGE, BACKDROP_RIDGE], device=image.device))
    coefficients = colours.new_zeros(len(colours), 3, 3)  # [B, basis, channel]
    for _ in range(ROUNDS):
        residual = length(colours - coefficients.mT @ places)
        weights = robust_weights(residual[..., None], thin[..., None])[..., 0] * thin
        total = weights.sum(-1, keepdim=True).clamp_min(1e-9)
        weighted = places * (weights / total)  # [B, 3, P]
        system = weighted @ places.T + ridge
        coefficients = torch.linalg.solve_ex(system, weighted @ colours.mT).result
    plane = coefficients.mT @ basis.flatten(1)
    return (plane + typical).unflatten(-1, empty.shape[-2:])


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
    flat = values.masked_fill(~inside, torch.nan).flatten(2)
    return flat.nanquantile(0.5, dim=-1).nan_to_num(0.0)[..., None, None]


def places_held(masks: Tensor) -> Tensor | None:
    """Indices among n of the pixels that any mask [P, 1, n] holds; None on GPUs.

    Half of a close-up is backdrop. To count its pixels a GPU's host would have to wait.
    """
    return None if masks.is_cuda else masks.amax((0, 1)).nonzero()[:, 0]


def length(vectors: Tensor) -> Tensor:
    """Euclidean length over the channels, [B, C, ...] -> [B, 1, ...].

    On CPUs `norm` over any but the last dimension takes a hundred times as long.
    """
    return vectors.square().sum(1, keepdim=True).sqrt()


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resampling of [B, C, h, w] to (height, width)."""
    return F.interpolate(image, size, mode="bilinear", align_corners=False)


def shrink(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, C, H, W] at a smaller size: each new pixel is the mean of the area it covers."""
    for dim, new in zip((-2, -1), size, strict=True):
        # 400 pixels become 128 as 25 become 8, sixteen times: one small matrix serves them all.
        old = images.shape[dim]
        parts = math.gcd(old, new)
        matrix = _area_matrix(old // parts, new // parts, images.device)
        split = images.unflatten(dim, (parts, old // parts))
        images = (matrix @ split if dim == -2 else split @ matrix.T).flatten(dim - 1, dim)
    return images


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of [B, C, H, W], zero outside."""
    (up, down), (right, left) = (
        _gaussian_factors(n, sigma, images.device) for n in images.shape[-2:]
    )
    return up @ (down @ (images @ left.T)) @ right.T


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
def _gaussian_factors(length: int, sigma: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """U [length, R] and V [R, length]: U V puts a Gaussian of weight 1 around each position.

    Wide Gaussians leave next to nothing of all but a few waves: R is far smaller than `length`.
    """
    with torch.inference_mode(False):
        steps = torch.arange(length, dtype=torch.float64)
        reach = torch.arange(-10 * length, 10 * length + 1, dtype=torch.float64)
        total = torch.exp(-0.5 * (reach / sigma) ** 2).sum()
        kernel = torch.exp(-0.5 * ((steps[:, None] - steps) / sigma) ** 2) / total
        values, waves = torch.linalg.eigh(kernel)
        strong = int((values > NEGLIGIBLE * values[-1]).sum())
        waves = waves[:, -(-(-strong // LANES) * LANES) :]
        return waves.float().to(device), (waves.T @ kernel).float().to(device)


@functools.lru_cache(maxsize=16)
def _plane_basis(height: int, width: int, device: torch.device) -> Tensor:
    """1, x and y, the latter -1..1 over the image, [3, H, W]."""
    with torch.inference_mode(False):
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        return torch.stack([torch.ones_like(x), x, y]).to(device)
