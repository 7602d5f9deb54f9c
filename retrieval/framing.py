"""Where an object lies in a photograph, how large, and a photograph framed like the gallery (ours).

The gallery tells at what distance the object is seen: the shortlist compares whole images, and the
small models are fitted for its pixels. A query from elsewhere is told by its silhouette, which is
smaller, larger, or further off the middle than the gallery's ever is, and is framed anew: turned
towards the object and enlarged, as a longer lens at the same place would show it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gaussian_renderer.camera import Intrinsics
from retrieval.warp import warp

OBJECT = 0.5  # a silhouette's value from which a pixel belongs to the object
USUAL = 1.15  # times the gallery's largest, or a part of its smallest: within reach of the search
USUAL_OFFSET = 0.15  # of the gallery's half field of view: the same for the object's place
LEAST_SHARE = 1e-3  # of the image: a smaller silhouette says nothing
MOST_SHARE = 0.9  # ... and a gallery whose views are full of "object" has a backdrop in its model
MOST_ZOOM, LEAST_ZOOM = 4.0, 0.5
ZOOM_STEP = 1.1  # zooms are powers of it: queries of one zoom are searched together


def framing(silhouettes: Tensor, intrinsics: Intrinsics) -> Tensor:
    """Size and place of the object in images, by silhouettes [B, 1, H, W].

    Returns:
        [B, 3], on the CPU: root of the solid angle, rad, and the middle's direction x / z, y / z;
        NaN where there is next to no object.
    """
    inside = (silhouettes[:, 0] > OBJECT).to(silhouettes.dtype)
    rows, columns = inside.sum(2), inside.sum(1)
    count = rows.sum(1)
    y = torch.arange(rows.shape[1], device=rows.device) + 0.5
    x = torch.arange(columns.shape[1], device=rows.device) + 0.5
    k = intrinsics
    size = (count / (k.fx * k.fy)).sqrt()
    across = ((columns @ x.to(rows)) / count - k.cx) / k.fx
    down = ((rows @ y.to(rows)) / count - k.cy) / k.fy
    found = torch.stack([size, across, down], 1)
    found[count < LEAST_SHARE * inside[0].numel()] = math.nan
    return found.double().cpu()


@dataclass(frozen=True)
class Photograph:
    """A query as it is searched.

    tensors: image and reflectance [3, H, W] and silhouette [1, H, W] or None; intrinsics: theirs;
    zoom: how much larger than it the object would look from the gallery's distance through the
    same lens (the gallery's size over the query's, before `tensors` were enlarged);
    turn: [4, 4], from the camera's coordinates to those of `tensors`.
    """

    image: Tensor
    reflectance: Tensor
    silhouette: Tensor | None
    intrinsics: Intrinsics
    zoom: float
    turn: Tensor

    @classmethod
    def plain(cls, image, reflectance, silhouette, intrinsics: Intrinsics) -> Photograph:
        """As it was taken."""
        turn = torch.eye(4, dtype=torch.float64)
        return cls(image, reflectance, silhouette, intrinsics, 1.0, turn)

    def framed(self, zoom: float, across: float = 0.0, down: float = 0.0) -> Photograph:
        """Turned towards a direction (x / z, y / z) and enlarged; one that has to shrink is left
        as it is, since what lies beyond its borders isn't known."""
        zoom = ZOOM_STEP ** round(math.log(zoom) / math.log(ZOOM_STEP))
        if zoom < 1:
            return replace(self, zoom=zoom)
        turn = torch.eye(4, dtype=torch.float64)
        turn[:3, :3] = towards(across, down)
        k, size = self.intrinsics, (self.intrinsics.height, self.intrinsics.width)
        lens = Intrinsics(k.fx * zoom, k.fy * zoom, k.width / 2, k.height / 2, k.width, k.height)
        matrix = lens.matrix(dtype=torch.float64) @ turn[:3, :3]
        matrix = matrix @ torch.linalg.inv(k.matrix(dtype=torch.float64))
        image, reflectance, silhouette = (
            None if x is None else warp(x, matrix, *size)
            for x in (self.image, self.reflectance, self.silhouette)
        )
        return Photograph(image, reflectance, silhouette, lens, zoom, turn)

    @property
    def at_gallerys_distance(self) -> Intrinsics:
        """The pinhole that would show the object as large at the gallery's distance."""
        return longer(self.intrinsics, 1 / self.zoom)


def longer(intrinsics: Intrinsics, factor: float) -> Intrinsics:
    """The pinhole with focal lengths multiplied."""
    return replace(intrinsics, fx=intrinsics.fx * factor, fy=intrinsics.fy * factor)


def towards(across: float, down: float) -> Tensor:
    """The least rotation [3, 3] that brings a direction (x / z, y / z) onto the viewing axis."""
    direction = torch.tensor([across, down, 1.0], dtype=torch.float64)
    x, y, z = (direction / direction.norm()).tolist()
    return torch.tensor(
        [[1 - x * x / (1 + z), -x * y / (1 + z), -x], [-x * y / (1 + z), 1 - y * y / (1 + z), -y],
         [x, y, z]], dtype=torch.float64,
    )  # fmt: skip


class GalleryFraming:
    """How the object is framed in the gallery."""

    def __init__(self, alphas: Tensor, intrinsics: Intrinsics) -> None:
        """`alphas`: coverage [V, 1, H, W] of renderings at the gallery's poses."""
        found = framing(alphas, intrinsics)
        found = found[found.isfinite().all(1)]
        share = (alphas > OBJECT).float().mean((1, 2, 3)).median().item()
        self.told = len(found) > 0 and share < MOST_SHARE
        if not self.told:
            return
        self.size = found[:, 0].median().item()
        self.sizes = found[:, 0].min().item() / USUAL, found[:, 0].max().item() * USUAL
        half_view = max(intrinsics.width / 2 / intrinsics.fx, intrinsics.height / 2 / intrinsics.fy)
        self.offset = found[:, 1:].norm(dim=1).max().item() + USUAL_OFFSET * half_view

    def fitted(self, query: Photograph) -> Photograph:
        """The query, framed anew if its silhouette isn't framed as the gallery's views are."""
        if not self.told or query.silhouette is None:
            return query
        size, across, down = framing(query.silhouette[None], query.intrinsics)[0].tolist()
        usual = self.sizes[0] <= size <= self.sizes[1] and math.hypot(across, down) <= self.offset
        if usual or not math.isfinite(size):
            return query
        zoom = 1.0 if self.sizes[0] <= size <= self.sizes[1] else self.size / size
        return query.framed(min(max(zoom, LEAST_ZOOM), MOST_ZOOM), across, down)
