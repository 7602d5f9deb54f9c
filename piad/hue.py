"""Where a photograph has another hue than it should, which no lamp explains: stains, corrosion.

Ours. A feature network hardly answers to hue, and under another lamp every hue changes. But a lamp
changes hues alike all over the object, so what a relit rendering leaves is compared with what it
leaves on most of the same object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from piad.relight import length
from piad.smoothing import gaussian_smooth

if TYPE_CHECKING:
    from piad.anomaly import Compared

FLOOR = 0.2  # added to channels, 0..1: the hue of what is dark is noise
SMOOTHED_PX = 1.0  # of the maps
INSIDE = 0.95  # coverage of a place and its neighbours: at the rim the backdrop shows through
BURNT = 0.97  # a channel from here on has lost what it showed
USUAL_SHARE, LEAST_CHANGE = 0.9, 0.01  # of the object changes by less: the unit, and its least
PALE = 0.7  # length of u up to which a colour is pale; what it has beyond, a veil may take
USUAL = 2.5  # units that count nothing
TINY = 1e-6


@torch.inference_mode()
def hue_change(compared: Compared) -> Tensor:
    """By how much more than usual the hue has changed, [B, 1, h, w], >= 0, unitless.

    With u = (log (R + FLOOR) / (G + FLOOR), log (B + FLOOR) / (G + FLOOR)) of the relit rendering
    at a quarter of the enlarged size, v the photograph's, smoothed before lengths are taken; q what
    |v - u| stays below at USUAL_SHARE of the object's places in this photograph; s the change along
    u, but at most max(0, |u| - PALE) long: a veil or a camera's tone makes what is vivid paler;

        max(0, |v - u - s| / (q + LEAST_CHANGE) - USUAL).

    0 where the object doesn't cover all around, or photograph or rendering are burnt out.
    """
    size = compared.coarse_size
    seen = compared.photo[:, :3], compared.lit[:, :3], compared.alpha
    photo, lit, alpha = (area_average(image, size) for image in seen)
    expected = _hue(lit)
    moved = (_hue(photo) - expected) * (alpha > INSIDE)  # the backdrop has hues of its own
    vivid = length(expected)
    towards = expected / vivid.clamp_min(TINY)
    room = (vivid - PALE).clamp_min_(0)
    paler = (moved * towards).sum(1, keepdim=True).clamp(-room, room) * towards
    usual, change = (_smoothed_length(part) for part in (moved, moved - paler))
    brightest = torch.maximum(photo, lit).amax(1, keepdim=True)
    shown = (-F.max_pool2d(-alpha, 3, 1, 1) > INSIDE) & (brightest <= BURNT)
    known = usual.masked_fill(~shown, torch.nan).flatten(1)
    unit = known.nanquantile(USUAL_SHARE, dim=1).nan_to_num_(nan=1.0) + LEAST_CHANGE
    return (change / unit[:, None, None, None] - USUAL).clamp_min_(0) * shown


def _smoothed_length(vectors: Tensor) -> Tensor:
    """Of [B, 2, h, w], [B, 1, h, w]."""
    smooth = gaussian_smooth(vectors.flatten(0, 1)[:, None], SMOOTHED_PX)
    return length(smooth[:, 0].unflatten(0, (-1, 2)))


def _hue(images: Tensor) -> Tensor:
    """Logarithms of red and of blue over green, [B, 2, h, w], of [B, 3, h, w]."""
    logarithms = (images + FLOOR).log()
    return logarithms[:, ::2] - logarithms[:, 1:2]
