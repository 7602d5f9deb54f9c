"""A stoneware jug, hollow, with handle and spout: dark glaze over bare clay; its defects.

The glaze mirrors the lamps and hides little colour beneath; a slip-painted sprig on one side and
a word on the other tell the sides of the spout apart.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .mesh import Mesh, mesh_from_distance, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.6}
SMALLEST_MASK = {"chip": 0.003, "crack": 0.0012, "crawl": 0.003, "run": 0.002}
LOW, HIGH, STEP = np.array([-1.0, -0.75, -0.84]), np.array([1.0, 0.75, 0.86]), 0.0095
BODY_X = 0.14  # of the body's axis
OUTLINE = ((-0.80, 0.44), (-0.74, 0.47), (-0.45, 0.60), (-0.2, 0.63), (0.1, 0.53), (0.36, 0.39))
OUTLINE += ((0.50, 0.385), (0.76, 0.46))  # z, radius
TOP, FLOOR, BOTTOM, WALL = 0.72, -0.58, -0.78, 0.06
DIPPED = -0.40  # the glaze ends about here
GLAZE, LIGHT_GLAZE = np.array([0.012, 0.075, 0.095]), np.array([0.05, 0.20, 0.20])
LINER, SLIP = np.array([0.62, 0.57, 0.44]), np.array([0.70, 0.66, 0.55])
CLAY, BROKEN = np.array([0.30, 0.17, 0.09]), np.array([0.60, 0.50, 0.38])
RUST, SOOT = np.array([0.22, 0.09, 0.03]), np.array([0.012, 0.010, 0.010])
PRINT_PX = 1600, 600  # around, and from DIPPED up to TOP


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (chip, crack, crawl, run)."""
    azimuth = rng.uniform(-np.pi, np.pi)
    beside_handle = rng.uniform(-0.78, 0.78) * np.pi
    if kind == "chip":  # of the rim or of the foot
        height = TOP if rng.random() < 0.65 else BOTTOM
        sizes = {"radius": rng.uniform(0.09, 0.15)}
    elif kind == "crack":  # down from the rim
        height, sizes = TOP, {"length": rng.uniform(0.40, 0.70), "width": rng.uniform(0.011, 0.015)}
    elif kind == "crawl":  # the glaze has drawn back from the clay
        azimuth, height = beside_handle, rng.uniform(-0.2, 0.3)
        sizes = {"radius": rng.uniform(0.14, 0.22)}
    elif kind == "run":  # glaze has run down the bare clay
        azimuth, height = beside_handle, DIPPED
        sizes = {"length": rng.uniform(0.16, 0.30), "width": rng.uniform(0.055, 0.08)}
    else:
        raise ValueError(f"the jug has no defect {kind!r}")
    outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    height += 0.05 * np.exp(-((azimuth / 0.4) ** 2)) if height == TOP else 0
    radius = _radius(np.array([height]), np.array([azimuth]))[0]
    lean = 0.5 if kind in ("chip", "crack") else 0.0
    return {
        "kind": kind,
        "azimuth": float(azimuth),
        "centre": (radius * outwards + [BODY_X, 0, height]).tolist(),
        "normal": (outwards + [0, 0, lean * np.sign(height)]).tolist(),
        "seed": int(rng.integers(1 << 30)),
        **{name: float(value) for name, value in sizes.items()},
    }


@cache
def _outline():
    from scipy.interpolate import PchipInterpolator

    z = np.linspace(BOTTOM - 0.1, 0.9, 500)
    heights, radii = np.array(OUTLINE).T
    return z, PchipInterpolator(heights, radii)(z)


def _radius(z, azimuth):
    """Outer radius at a height and an azimuth: the outline, drawn out to a spout at azimuth 0."""
    drawn = smoothstep((z - 0.22) / 0.5)
    spout = 0.21 * np.exp(-((azimuth / 0.40) ** 2))
    pinch = 0.04 * np.exp(-(((np.abs(azimuth) - 0.85) / 0.35) ** 2))
    return np.interp(z, *_outline()) + drawn * (spout - pinch)


def _strand(azimuth, z, defect):
    """Distance to a run's middle line in units of its width, along the surface."""
    turn = (azimuth - defect["azimuth"] + np.pi) % (2 * np.pi) - np.pi
    fallen = DIPPED - z
    beyond = np.maximum(fallen - defect["length"], 0) + np.maximum(-0.1 - fallen, 0)
    swelling = 0.65 + 0.35 * smoothstep(fallen / defect["length"])
    return np.hypot(0.55 * turn + 0.01 * np.sin(14 * z), beyond) / (swelling * defect["width"])


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the solid, negative inside; arrays of one shape, world units."""
    kind = defect["kind"] if defect else None
    x = x - BODY_X
    reach, azimuth = np.sqrt(x * x + y * y), np.arctan2(y, x)
    radius = _radius(z, azimuth)
    outer = (reach - radius) * 0.85
    if kind == "run":
        outer = outer - 0.035 * np.sqrt(np.clip(1 - _strand(azimuth, z, defect) ** 2, 0, 1))
    rim = z - TOP - 0.05 * np.exp(-((azimuth / 0.4) ** 2))
    ring = np.sqrt((x + 0.53) ** 2 + (0.82 * (z - 0.08)) ** 2) - 0.38
    handle = np.sqrt(ring**2 + (0.62 * y) ** 2) - 0.068
    body = smooth_min(outer, handle, 0.05)
    body = -smooth_min(-np.maximum(body, BOTTOM - z), -rim, 0.03)
    hollow = np.maximum((reach - radius + WALL) * 0.85, FLOOR - z)
    under = np.maximum(reach - 0.36, z - BOTTOM - 0.035)
    solid = -smooth_min(-body, smooth_min(hollow, under, 0.01), 0.03)
    if kind == "chip":
        cx, cy, cz = defect["centre"]
        ball = np.sqrt((x + BODY_X - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) - defect["radius"]
        ball = ball + 0.012 * np.sin(37 * x + 1) * np.sin(31 * y) + 0.008 * np.sin(43 * z)
        solid = np.maximum(solid, -ball)
    return solid


def mesh(defect: dict | None = None) -> Mesh:
    """The jug's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    points = solid.vertices
    x, y, z = points.T
    reach, azimuth = np.hypot(x - BODY_X, y), np.arctan2(y, x - BODY_X)
    mottle, grain = fractal_noise_3d(points, 5, 2, 4), fractal_noise_3d(points, 28, 5, 3)
    share = smoothstep(0.35 + 0.3 * mottle)[:, None]
    colour = GLAZE * (1 - share) + LIGHT_GLAZE * share
    on_body = reach < _radius(z, azimuth) + 0.04  # not on the handle
    painted = 0.92 * (on_body * _printed(azimuth, z))[:, None]
    colour = colour * (1 - painted) + SLIP * painted
    rim = smoothstep((z - 0.655 + 0.012 * mottle) / 0.03)[:, None]  # it breaks brown on edges
    colour = colour * (1 - rim) + RUST * rim
    inside = (reach < _radius(z, azimuth) - 0.7 * WALL) & (z > FLOOR - 0.02)
    colour[inside & (z < 0.66)] = LINER
    roughness = np.full(len(points), 0.10)
    bare = z < DIPPED + 0.02 * np.sin(3 * azimuth + 1) + 0.012 * np.sin(8 * azimuth)
    bare &= ~inside
    if kind == "run":
        bare &= (_strand(azimuth, z, defect) > 0.95) | (reach < 0.4)
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) if defect else None
    if kind == "crawl":
        beads = fractal_noise_3d(points, 16, defect["seed"], 2)
        bare |= (away / defect["radius"]) ** 2 + 0.5 * beads < 0.55
    colour[bare], roughness[bare] = _bare_clay(points[bare], grain[bare]), 0.85
    if kind == "chip":
        cut = away < defect["radius"] + 0.03
        cut &= np.abs(distance(x, y, z)) > 0.006
        colour[cut], roughness[cut] = BROKEN * (1 + 0.15 * grain[cut, None]), 0.9
    if kind == "crack":
        depth = (defect["centre"][2] - z) / defect["length"]
        turn = (azimuth - defect["azimuth"] + np.pi) % (2 * np.pi) - np.pi
        wander = 0.035 * fractal_noise_3d(np.outer(z, [0, 0, 1.0]), 7, defect["seed"], 3)
        split = np.abs(turn * reach + wander) < defect["width"] * np.sqrt(np.clip(1 - depth, 0, 1))
        split &= np.abs(reach - _radius(z, azimuth) + WALL / 2) < WALL
        colour[split], roughness[split] = SOOT, 0.7
    solid.colour = colour.clip(0.01, 0.95).astype(np.float32)
    solid.roughness = roughness.astype(np.float32)
    solid.metallic = np.zeros(len(points), np.float32)
    solid.normals = unit(solid.normals).astype(np.float32)
    return solid


def _bare_clay(points, grain):
    """Clay of the foot with the potter's stamp beneath, [N, 3]."""
    image = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(image).text((16, 26), "J3", fill=255, font=ImageFont.load_default(size=72))
    ink = np.asarray(image, float) / 255
    column = ((points[:, 0] - BODY_X + 0.25) / 0.5 * 127).astype(int).clip(0, 127)
    row = ((points[:, 1] + 0.25) / 0.5 * 127).astype(int).clip(0, 127)
    stamp = ink[row, column] * (points[:, 2] < BOTTOM + 0.1)
    return CLAY * (1 + 0.15 * grain - 0.75 * stamp)[:, None]


@cache
def _print_image() -> np.ndarray:
    """Slip painting, 0..1, azimuth -pi to pi across and TOP to DIPPED down."""
    image = Image.new("L", PRINT_PX, 0)
    draw = ImageDraw.Draw(image)
    for row, thick in ((150, 12), (176, 5), (545, 10)):
        draw.line((0, row, PRINT_PX[0], row), 255, thick)
    for k in range(23):
        column = (k + 0.5) / 23 * PRINT_PX[0]
        draw.ellipse((column - 11, 112, column + 11, 134), fill=255)
    stem = [(1200 + 150 * np.sin(t * 2.4), 530 - 330 * t) for t in np.linspace(-0.02, 1, 40)]
    draw.line(stem, 255, 9)
    for k, (column, row) in enumerate(stem[4::5]):  # a leaf to each side by turns
        tilt = (-0.6, np.pi + 0.6)[k % 2]
        along = np.array([np.cos(tilt), np.sin(tilt)])
        across = np.array([-along[1], along[0]])
        s = np.linspace(0, np.pi, 20)
        edge = np.concatenate([s, s[::-1]]) / np.pi
        side = np.concatenate([np.sin(s), -np.sin(s)]) * (26 - k)
        leaf = (column, row) + edge[:, None] * (115 - 6 * k) * along + side[:, None] * across
        draw.polygon([tuple(p) for p in leaf], fill=255)
    draw.text((250, 300), "CIDER", fill=255, font=ImageFont.load_default(size=120))
    draw.rectangle((230, 290, 640, 440), outline=255, width=8)
    return np.asarray(image, float) / 255


def _printed(azimuth, z):
    """Cover of the slip at the vertices, 0..1, [N]."""
    ink = _print_image()
    column = ((azimuth + np.pi) / (2 * np.pi) * (PRINT_PX[0] - 1)).astype(int)
    row = ((TOP - z) / (TOP - DIPPED) * (PRINT_PX[1] - 1)).astype(int)
    within = (row >= 0) & (row < PRINT_PX[1])
    return within * ink[row.clip(0, PRINT_PX[1] - 1), column]
