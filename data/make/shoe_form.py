"""The filled form of the shoe's foot: distances from it, and places on it.

Its value is kept on the mesh's own grid.
"""

from functools import cache

import numpy as np

from .mesh import unit

LOW, HIGH, STEP = np.array([-1.03, -0.42, -0.46]), np.array([1.03, 0.42, 0.56]), 0.0064
# corners of the sole's outline, from the heel along the outer side to the toe and back: x, y
OUTLINE = ((-0.95, 0.0), (-0.90, 0.125), (-0.78, 0.21), (-0.6, 0.245), (-0.3, 0.255), (0, 0.285))
OUTLINE += ((0.3, 0.33), (0.5, 0.332), (0.68, 0.29), (0.84, 0.19), (0.93, 0.06), (0.95, -0.05))
OUTLINE += ((0.91, -0.16), (0.80, -0.26), (0.62, -0.325), (0.42, -0.33), (0.25, -0.295))
OUTLINE += ((0, -0.22), (-0.3, -0.205), (-0.6, -0.23), (-0.78, -0.20), (-0.90, -0.12))
PLAN = 200  # samples of the outline's distance per world unit
RISE = (0.38, 0.08)  # x from where the toe is turned up, by how much at its tip
WELT, INSET = -0.21, 0.03  # z where the upper's form starts; how far within the outline
# how high the form is above that: x, height; over this distance it bends over to its ridge
CREST = ((-1.1, 0.95), (-0.5, 0.84), (-0.3, 0.695), (-0.15, 0.585), (0, 0.485), (0.15, 0.40))
CREST += ((0.3, 0.335), (0.45, 0.29), (0.6, 0.262), (0.8, 0.235), (1.1, 0.20))
BEND, POWER = 0.27, 2.6
RIBS = 84  # about the sole


@cache
def outline():
    """Evenly spaced places on the sole's outline and the normals there, outwards, [K, 2] each."""
    from scipy.interpolate import CubicSpline

    corners = np.array([*OUTLINE, OUTLINE[0]])
    far = np.cumsum([0, *np.linalg.norm(np.diff(corners, axis=0), axis=1)])
    spline = CubicSpline(far, corners, bc_type="periodic")
    places = spline(np.linspace(0, far[-1], 20000))
    far = np.cumsum([0, *np.linalg.norm(np.diff(places, axis=0), axis=1)])
    even = np.linspace(0, far[-1], 4000, endpoint=False)
    places = np.stack([np.interp(even, far, places[:, k]) for k in range(2)], 1)
    along = np.roll(places, -1, 0) - np.roll(places, 1, 0)
    return places, unit(np.stack([-along[:, 1], along[:, 0]], 1))


@cache
def _plans():
    """Distance to the outline and the ribs' wave about it, above the xy plane, [columns, rows]."""
    from scipy.spatial import cKDTree

    axes = [np.arange(a, b + 0.02, 1 / PLAN) for a, b in zip(LOW[:2], HIGH[:2], strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    places, out = outline()
    away, nearest = cKDTree(places).query(grid)
    side = np.sign(((grid - places[nearest]) * out[nearest]).sum(-1))
    wave = np.cos(2 * np.pi * RIBS * nearest / len(places))
    return (side * away).astype(np.float32), wave.astype(np.float32)


def _planned(plan, x, y):
    """Values of a plan at places of any shape."""
    from scipy.ndimage import map_coordinates

    at = [(x - LOW[0]) * PLAN, (y - LOW[1]) * PLAN]
    return map_coordinates(plan, at, np.float32, order=1, mode="nearest")


def outline_distance(x, y):
    """Distance to the outline, seen from above, negative within."""
    return _planned(_plans()[0], x, y)


def rib_wave(x, y):
    """The wave of the ribs about the sole, -1..1."""
    return _planned(_plans()[1], x, y)


def curve(corners, x):
    """Smooth curve without overshoot through corners (x, value)."""
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(*np.transpose(corners))(np.clip(x, -1.1, 1.1)).astype(np.float32)


def rise(x):
    """How far the toe is turned up."""
    start, high = RISE
    return high * ((x - start).clip(0) / (0.95 - start)) ** 2


def _bend(x, y):
    """How far towards the outline a place lies: 0 on the ridge, 1 where the form's wall stands."""
    return (1 + (outline_distance(x, y) + INSET) / BEND).clip(0)


@cache
def _field() -> np.ndarray:
    """Distance-like value of the form at the nodes of the mesh's grid."""
    axes = [np.arange(a, b, STEP).astype(np.float32) for a, b in zip(LOW, HIGH, strict=True)]
    x, y = np.meshgrid(*axes[:2], indexing="ij")
    up = (axes[2] - WELT - rise(x)[..., None]).clip(0) / curve(CREST, x)[..., None]
    value = (_bend(x, y)[..., None] ** POWER + up**POWER) ** (1 / POWER) - 1
    steep = np.sqrt(sum(slope * slope for slope in np.gradient(value, STEP)))
    return (value / steep.clip(0.4)).astype(np.float32)


def form_distance(x, y, z):
    """Distance-like value of the foot's form, endless downwards, as x."""
    from scipy.ndimage import map_coordinates

    at = [(v - low) / STEP for v, low in zip((x, y, z), LOW, strict=True)]
    return map_coordinates(_field(), at, np.float32, order=1, mode="nearest")


def _settled(points, lift):
    """Points [N, 3] moved to where the form's value is `lift` [N]."""
    for _ in range(8):
        value, slope = form_distance(*points.T), []
        for axis in 0.008 * np.eye(3):
            ahead, behind = (form_distance(*(points + way).T) for way in (axis, -axis))
            slope.append((ahead - behind) / 0.016)
        slope = np.stack(slope, 1)
        points = points - ((value - lift) / (slope**2).sum(1).clip(0.3))[:, None] * slope
    return points


def above(x, y, lift=0.0):
    """The form's place above x, y, [3]."""
    return draped([x], [y], np.array([lift]))[0]


def draped(x, y, lift):
    """The form's places above x and y [N], lifted off it by `lift` [N]; [N, 3]."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    up = (1 - _bend(x, y).clip(0, 0.99) ** POWER) ** (1 / POWER)
    return _settled(np.stack([x, y, WELT + rise(x) + curve(CREST, x) * up], 1), lift)


def on_side(x, z, side):
    """The form's place at x and z on the outer (1) or inner (-1) side, [3]."""
    y = side * np.linspace(0.42, 0, 421)
    inside = form_distance(0 * y + x, y, 0 * y + z) < 0
    return np.array([x, y[inside.argmax()], z])
