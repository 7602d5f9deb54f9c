"""Where the gallery's photographs show highlights: what a made-up lamp may make shine (ours).

A glaze and matt plastic depend about as much on the view for spherical harmonics, which know no
narrow lobe. The photographs do: what a place has shown beyond its own mean colour, in all channels
at once, is a highlight. A white sheet shows none, and has none to fear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gaussian_renderer.area import area_average
from piad.normality import LEAST_WEIGHT, TINY, half, put_on_gaussians
from piad.view_dependence import evened

if TYPE_CHECKING:
    from piad.models import ModelPair
    from piad.views import View

MATT, GLOSSY = 0.03, 0.06  # root mean square of highlights, 0..1: none to half a lamp's, all of it
COVERED = 0.97  # coverage from which on a pixel shows the object alone
RIM_PX = 2  # at half size: pixels so near the outline are not looked at


def shine(models: ModelPair, views: Sequence[View]) -> Tensor:
    """How much of a lamp's highlight each Gaussian may show, 0..1, [N, 1].

    From the root mean square, over all pixels of all views that it shows in, of

        max(0, min_c I_c - min_c Î_c),

    I the photograph and Î the rendering in colours that do not depend on the view: 0 up to MATT, 1
    from GLOSSY on. A Gaussian that no view shows is taken for the mean.

    Args:
        views: the gallery's.
    """
    plain = evened(models, [view.camera for view in views], 0.0)
    device = models.background.device
    total = torch.zeros(len(models.colour.means), 2, device=device)
    for view in views:
        with torch.no_grad():
            seen = plain.render(view.camera.viewmat(device), view.camera.intrinsics)
        images = view.image().to(device), seen.over(plain.background)[:3], seen.alpha[:1]
        small = half(view.camera)
        size = small.intrinsics.height, small.intrinsics.width
        photo, drawn, alpha = (area_average(image[None], size)[0] for image in images)
        inside = -F.max_pool2d(-alpha[None], 2 * RIM_PX + 1, 1, RIM_PX)[0] > COVERED
        brighter = (photo.amin(0, keepdim=True) - drawn.amin(0, keepdim=True)).clamp_min(0)
        maps = torch.cat([brighter.square(), torch.ones_like(brighter)]) * inside
        total += put_on_gaussians(plain, small, maps)[0]
    square, weight = total.split(1, 1)
    mean = square.sum() / weight.sum().clamp_min(TINY)
    square = torch.where(weight >= LEAST_WEIGHT, square / weight.clamp_min(TINY), mean)
    return ((square.sqrt() - MATT) / (GLOSSY - MATT)).clamp(0, 1)
