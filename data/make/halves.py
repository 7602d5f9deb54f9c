"""Tools of two like halves that cross at a pivot along y, each turned from x and mirrored in z."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .marks import first_met

FACING = 0.8  # least share of a normal along the way that met it


@dataclass(frozen=True)
class Halves:
    """Where places on the halves lie; `side` is 1 or -1, the half's.

    pivot: its x; turn: of each half, rad.
    """

    pivot: float
    turn: float

    def places(self, x, z, side):
        """u along a half from the pivot and v outwards, as x."""
        cos, sin, x, z = np.cos(self.turn), np.sin(self.turn), x - self.pivot, side * z
        return cos * x + sin * z, cos * z - sin * x

    def point(self, u: float, v: float, y: float, side: int) -> np.ndarray:
        """The point [3] at u, v of a half and at y."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return np.array([self.pivot + cos * u - sin * v, y, side * (sin * u + cos * v)])


def open_place(rng, of, parts: Callable, distance: Callable, bounds, axis: int = 1):
    """A point of one of the parts `of` that shows along an axis and its normal, [3] each.

    Args:
        parts, distance: of the object, as functions of x, y, z; bounds: its lowest and highest
            corner, [3] each.
    """
    wanted, (low, high) = rng.choice(of), bounds
    while True:
        way = np.tile(rng.uniform(low, high), (301, 1))
        way[:, axis] = np.linspace(low[axis], high[axis], 301)[:: rng.choice([-1, 1])]
        met = first_met(way, parts, distance)
        if met is not None and met[0] == wanted and abs(met[2][axis]) > FACING:
            return met[1:]
