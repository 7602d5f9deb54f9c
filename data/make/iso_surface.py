"""Meshes of solids given by a distance in torch: cells are made and measured near the surface only.

Finer than `mesh.mesh_from_distance` can be, and on a GPU: 0.2 s for 800 000 triangles.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

COARSEST = 16  # cells a side to begin with
MARGIN = 2.0  # distances may be so many times too large (blends, warps)
CHUNK = 1 << 20  # points measured at once
CORNERS = [[k >> 2 & 1, k >> 1 & 1, k & 1] for k in range(8)]
EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b) in (1, 2, 4)]


def measured(distance: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    """Distances [N] of points [N, 3], some at a time."""
    return torch.cat([distance(part) for part in points.split(CHUNK)])


def surface_nets(
    distance: Callable[[Tensor], Tensor], half: float, step: float
) -> tuple[Tensor, Tensor]:
    """Zero level of `distance` (negative inside) in a cube about the origin.

    A vertex in each cell the surface passes, at the mean of where it crosses the cell's edges
    (Gibson, Constrained elastic surface nets, 1998).

    Args:
        distance: of points [N, 3], float32, as [N].
        half: least half side of the cube, world units.
        step: side of a cell, world units.
    Returns:
        Vertices [V, 3] and triangles [T, 3] int64, counter-clockwise seen from outside.
    """
    levels = max(0, math.ceil(math.log2(2 * half / (COARSEST * step))))
    half = 0.5 * step * COARSEST * 2**levels
    side, size = COARSEST, step * 2**levels
    axis = torch.arange(side)
    cells = torch.cartesian_prod(axis, axis, axis)
    corners = torch.tensor(CORNERS)
    for level in range(levels + 1):
        if level > 0:
            side, size = 2 * side, size / 2
            cells = (2 * cells[:, None] + corners).reshape(-1, 3)
        gap = measured(distance, (cells + 0.5) * size - half).abs()
        cells = cells[gap < MARGIN * 3**0.5 / 2 * size]

    def key(places: Tensor) -> Tensor:
        return (places[..., 0] * (side + 1) + places[..., 1]) * (side + 1) + places[..., 2]

    around = cells[:, None] + corners  # [M, 8, 3]
    keys, which = key(around).unique(return_inverse=True)
    places = torch.stack(
        [keys // (side + 1) ** 2, keys // (side + 1) % (side + 1), keys % (side + 1)], 1
    )
    values = measured(distance, places * size - half)
    inside = (values < 0)[which]
    passed = inside.any(1) & ~inside.all(1)
    cells, which = cells[passed], which[passed]
    own = values[which]  # [M, 8]
    total, count = torch.zeros(len(cells), 3), torch.zeros(len(cells), 1)
    for a, b in EDGES:
        crossed = ((own[:, a] < 0) != (own[:, b] < 0))[:, None]
        share = (own[:, a] / (own[:, a] - own[:, b]))[:, None]
        place = corners[a] + share.nan_to_num() * (corners[b] - corners[a])
        total, count = total + crossed * place, count + crossed
    vertices = (cells + total / count) * size - half
    return vertices, _triangles(cells, own, key)


def _triangles(cells: Tensor, values: Tensor, key: Callable[[Tensor], Tensor]) -> Tensor:
    """Two for each edge of the grid that the surface crosses, between the four cells about it."""
    known, order = key(cells).sort()
    found = []
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        ahead = 1 << (2 - axis)
        # The edge from a cell's first corner along the axis: the cell is the last of the four.
        starts, ends = values[:, 0] < 0, values[:, ahead] < 0
        crossed = (starts != ends).nonzero()[:, 0]
        quads = []
        for shift in ((0, 0), (1, 0), (1, 1), (0, 1)):
            place = cells[crossed].clone()
            for other, by in zip(others, shift, strict=True):
                place[:, other] -= by
            wanted = key(place)
            slot = torch.searchsorted(known, wanted).clamp_max(len(known) - 1)
            quads.append(torch.where(known[slot] == wanted, order[slot], -1))
        quad = torch.stack(quads, 1)
        # Turned the other way where the surface is left, and for the axis that swaps the two.
        outwards = starts[crossed] ^ (axis == 1)
        quad = torch.where(outwards[:, None], quad, quad.flip(1))
        found.append(quad[(quad >= 0).all(1)])
    quads = torch.cat(found)
    return torch.cat([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
