"""The lamp in the features: what another light does to a rendering's features everywhere at once.

Ours, not the paper's. An affine map of colours (piad/relight.py) makes no shadow softer and no
metal shine as the query's lamp does. Such things change the features of the whole object in the
same sense: one channel answers more to edges, another less. So the rendering's features are carried
to the query's by one linear map per image and layer, fitted over the object. A defect is a small
part of the object, no map that serves the rest explains it, and robust weights keep it out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gaussian_renderer.area import area_average
from piad.relight import MAD_TO_SIGMA, masked_median, places_held

ROUNDS = 2  # refits with robust weights
OUTLIER_SCALES = 3.0  # residuals of so many robust standard deviations count a quarter
LEAST_PLACES = 50  # feature cells on the object; fewer say too little about a lamp
TINY = 1e-6


def carry_features(photo: Tensor, flawless: Tensor, alpha: Tensor, ridge: float) -> Tensor:
    """Features of renderings as the light of their photographs would have them.

    With x and y the features of rendering and photograph less their weighted means over the object,
    lambda = `ridge` times the mean variance of x's channels, <> weighted means,

        M = (<y x'> + lambda 1) (<x x'> + lambda 1)^-1,

    the least-squares map from x to y pulled to the identity; weights are refitted robustly.

    Args:
        photo, flawless: features [P, C, h, w].
        alpha: coverage by the Gaussians, [P, 1, H, W], 0..1; the map is fitted where it is > 0.5.
        ridge: pull to the identity, > 0; 1 halves what a channel of average variance may turn.
    Returns:
        mean(photo) + M x, [P, C, h, w]; `flawless` where fewer than LEAST_PLACES cells show the
        object: so few would let a defect explain itself.
    """
    inside = area_average(alpha, photo.shape[-2:]) > 0.5
    enough = inside.sum((2, 3)).unsqueeze(2) >= LEAST_PLACES  # [P, 1, 1]
    x, y, mask = flawless.flatten(2), photo.flatten(2), inside.flatten(2).to(photo)  # [P, C, n]
    matrix, shift = _robust_map(*_on_object(x, y, mask), ridge)
    matrix = torch.where(enough, matrix, torch.eye(x.shape[1], device=x.device, dtype=x.dtype))
    shift = torch.where(enough, shift, 0)
    return torch.baddbmm(shift, matrix, x).unflatten(2, inside.shape[-2:])


def _on_object(x: Tensor, y: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, y [P, C, n], mask [P, 1, n], on a CPU without the backdrop's cells."""
    places = places_held(mask)
    if places is None or len(places) == 0:
        return x, y, mask
    return tuple(values.index_select(2, places) for values in (x, y, mask))


def _robust_map(x: Tensor, y: Tensor, mask: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """M [P, C, C] and t [P, C, 1] of y = M x + t where mask [P, 1, n] is 1, of x, y [P, C, n]."""
    scratch = torch.empty_like(x)  # on CPUs fresh memory costs more than the arithmetic
    matrix, shift = _least_squares(x, y, mask, ridge, scratch)
    for _ in range(ROUNDS):
        difference = torch.baddbmm(y, matrix, x, alpha=-1, out=scratch).sub_(shift)
        residual = difference.square_().sum(1, keepdim=True).sqrt_()
        typical = masked_median(residual[..., None], mask[..., None] > 0)[..., 0]
        scale = (MAD_TO_SIGMA * OUTLIER_SCALES * typical).clamp_min(TINY)
        weights = mask / (1 + (residual / scale).square()).square()
        matrix, shift = _least_squares(x, y, weights, ridge, scratch)
    return matrix, shift


def _least_squares(
    x: Tensor, y: Tensor, weights: Tensor, ridge: float, scratch: Tensor
) -> tuple[Tensor, Tensor]:
    """M [P, C, C] and t [P, C, 1] of y = M x + t; see `carry_features`.

    Args:
        x, y: [P, C, n]; weights: [P, 1, n], >= 0; scratch: like x, overwritten.
    """
    share = weights / weights.sum(-1, keepdim=True).clamp_min(TINY)
    mean_x, mean_y = x @ share.mT, y @ share.mT
    weighted = torch.sub(x, mean_x, out=scratch).mul_(share).mT  # sums to 0: no mean of y is needed
    own, across = x @ weighted, y @ weighted  # <x x'>, <y x'>
    pull = ridge * own.diagonal(dim1=1, dim2=2).mean(1)[:, None, None].clamp_min(TINY**2)
    pull = pull * torch.eye(x.shape[1], device=x.device, dtype=x.dtype)
    # Symmetric and positive: Cholesky, batched on the device without waiting for it.
    factor = torch.linalg.cholesky_ex(own + pull).L
    matrix = torch.cholesky_solve((across + pull).mT, factor).mT
    return matrix, mean_y - matrix @ mean_x
