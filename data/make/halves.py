"""Tools of two like halves that cross at a pivot along y, each turned from x and mirrored in z."""

from dataclasses import dataclass

import numpy as np


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
