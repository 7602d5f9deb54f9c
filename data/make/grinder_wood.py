"""The coffee grinder's wood: boards of oak with finger joints, walnut mouldings, a cherry grip."""

import numpy as np

from .grinder_parts import (
    CEILING,
    DRAWER,
    DRAWER_FACE,
    DRAWER_Z,
    FINGERS,
    FLOOR,
    GRIP,
    MOULDED,
    SIDE,
    WALL,
)
from .lights import smoothstep
from .noise import fractal_noise_3d

FRONT, BACK, RIGHT, LEFT, BASE, TOP, INSET, TURNED = range(8)  # pieces of wood
# axes along the fibres, across and into the depth; x, y, z of the middle; pith: across, deep
PIECES = (
    ((0, 2, 1), (0.3, -SIDE, -0.41), (0.10, 0.55)),
    ((0, 2, 1), (-0.6, SIDE, -0.41), (-0.45, 0.50)),
    ((1, 2, 0), (SIDE, 0.5, -0.41), (-0.12, -0.48)),
    ((1, 2, 0), (-SIDE, -0.2, -0.41), (0.30, 0.70)),
    ((0, 1, 2), (1.1, 0, -0.8), (-0.20, -0.60)),
    ((0, 1, 2), (-1.4, 0, 0), (0.15, -0.50)),
    ((0, 2, 1), (0.9, DRAWER_FACE, DRAWER_Z), (-0.05, 0.42)),
    ((2, 0, 1), (0, 0, 0.8), (0.35, 0.30)),
)
RINGS, TAPER = 17.0, 0.13  # year rings per world unit; slope of the pith along the fibres
END_GRAIN = 0.68  # it is darker
OAK = ((0.50, 0.29, 0.13), (0.32, 0.155, 0.058))  # of early and late wood
WALNUT = ((0.175, 0.085, 0.04), (0.09, 0.04, 0.019))
CHERRY = ((0.27, 0.085, 0.036), (0.15, 0.040, 0.017))
TONES = (OAK, WALNUT, OAK, CHERRY)  # of panels, mouldings, drawer, grip


def _piece(points, part):
    """Which piece of wood points [N, 3] of the wooden parts belong to, [N]."""
    x, y, z = points.T
    finger = np.floor((z - FLOOR) / (CEILING - FLOOR) * FINGERS).astype(int) % 2 == 1
    joint = np.minimum(np.abs(x), np.abs(y)) > SIDE - WALL
    broad = np.where(joint, finger, np.abs(y) > np.abs(x))
    piece = np.where(broad, np.where(y < 0, FRONT, BACK), np.where(x > 0, RIGHT, LEFT))
    piece = np.where(part == MOULDED, np.where(z < -0.4, BASE, TOP), piece)
    return np.where(part == DRAWER, INSET, np.where(part == GRIP, TURNED, piece))


def _grain(points, piece):
    """Of wood at points [N, 3]: places in its board [N, 3], late wood, pores and mottle, [N]."""
    board, pith = np.empty_like(points), np.empty((len(points), 2))
    for k, (order, middle, at) in enumerate(PIECES):
        own = piece == k
        board[own], pith[own] = (points[own] - middle)[:, order], at
    slow = fractal_noise_3d(board * (0.4, 1, 1), 2.2, 31, 3)
    waves = fractal_noise_3d(board * (0.25, 1, 1), 9, 32, 2)
    away = board[:, 1:] - pith
    away[:, 0] += TAPER * board[:, 0]
    year = RINGS * (np.hypot(*away.T) + 0.035 * slow + 0.004 * waves)
    share = year - np.floor(year)
    late = smoothstep((share - 0.15) / 0.7) * smoothstep((1 - share) / 0.1)
    strength = np.random.default_rng(33).uniform(0.4, 1, 64)[np.floor(year).astype(int) % 64]
    fibres = fractal_noise_3d(board * (0.055, 1, 1), 58, 34, 2)
    return late * strength, smoothstep((fibres - 0.55) / 0.9), slow


def paint_wood(look, points, normals, part) -> None:
    """Put the grain's colours into `look` [N, 5] of the wooden parts."""
    piece = _piece(points, part)
    late, pores, mottle = _grain(points, piece)
    early, dark = np.array(TONES)[part].transpose(1, 0, 2)
    look[:, :3] = early + late[:, None] * (dark - early)
    look[:, :3] *= (1 - np.where(part == GRIP, 0.15, 0.42) * pores + 0.07 * mottle)[:, None]
    fibre = np.array([order[0] for order, *_ in PIECES])[piece]
    end = smoothstep((np.abs(np.take_along_axis(normals, fibre[:, None], 1))[:, 0] - 0.6) / 0.3)
    look[:, :3] *= (1 - (1 - END_GRAIN) * end * (part != GRIP))[:, None]
    look[:, 4] += 0.05 * pores + 0.03 * mottle
