"""A white porcelain mug, hollow, with an ear-like handle, a print, a stamp below; its defects.

It stands along z, the handle lies towards -x and the print faces -y. The glaze mirrors the lamps on
white; without handle and print the mug is a solid of revolution.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lathe import from_outline, on_outline, smooth_outline
from .lights import smoothstep
from .marks import described, picked, rolled_ink
from .mesh import Mesh, both, box, mesh_from_distance, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.6}
SMALLEST_MASK = {"chip": 0.0012, "crack": 0.0008, "stain": 0.0008, "misprint": 0.001}
SMALLEST_MASK |= {"glaze": 0.0012}
LOW, HIGH, STEP = np.array([-0.88, -0.58, -0.81]), np.array([0.78, 0.58, 0.81]), 0.0073
BODY_X = 0.19  # of the body's axis
OUTLINE = ((-0.85, 0.415), (-0.78, 0.42), (-0.72, 0.44), (-0.62, 0.515), (-0.48, 0.548))
OUTLINE += ((-0.2, 0.556), (0.3, 0.552), (0.66, 0.556), (0.84, 0.568))  # z, radius
TOP, FLOOR, BOTTOM, WALL = 0.79, -0.66, -0.79, 0.048
INNER_EDGE = 0.16  # rounding where the wall meets the floor within
FOOT, UNDER = 0.365, 0.045  # the foot ring's inner radius, height of what lies within
EAR = (-0.59, 0.06, 0.34, 0.42, 0.30)  # of the handle's middle line: x, z, half sizes, rounding
LEAN, GIRTH, FLAT = 0.16, 0.052, 0.60  # of the ear outwards; half thickness, as a share of width
RADIUS, PX = 0.556, 400  # that the print is unrolled with; pixels per world unit
HALF_PRINT, HALF_STAMP = (1.76, 0.80), (0.36, 0.36)  # of the pictures, world units
GLAZE, BISCUIT, BROKEN = (0.80, 0.805, 0.80), (0.57, 0.50, 0.41), (0.70, 0.66, 0.59)
BLUE, CORAL = 1, 2  # the inks' numbers
INKS = np.array([(0.02, 0.07, 0.24), (0.66, 0.13, 0.07)])
IRON, TEA, COBALT, SOOT = (0.10, 0.045, 0.02), (0.36, 0.20, 0.08), (0.10, 0.17, 0.42), (0.06,) * 3
MOTIF, SEA = (0.0, -0.10, 0.175), (0.015, 0.085, 0.155)  # right, down, radius; down of the waves
TEXTS = (
    (0.0, 0.27, 62, BLUE, "NORDHAVN"),
    (0.0, 0.375, 44, CORAL, "tea & letters"),
    (2.35 * RADIUS, -0.60, 44, BLUE, "0,3 l"),
    (1.35 * RADIUS, 0.50, 42, CORAL, "No. 7"),
)
STAMP = ((-0.13, 54, "ARX"), (-0.04, 34, "porcelain"), (0.04, 30, "30 cl"), (0.13, 40, "4 / 26"))
FROM_RIM, FROM_FOOT, OF_EAR = range(3)  # chips
SPECKS, RUN, SMEAR = range(3)  # stains


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (chip, crack, stain, misprint, glaze)."""
    azimuth = rng.uniform(-0.80, 0.80) * np.pi  # not behind the handle
    if kind == "chip":  # off the rim or the foot; a piece of the handle
        form = int(rng.choice(3, p=(0.45, 0.3, 0.25)))
        if form == OF_EAR:
            centre, normal = _ear_place(rng.uniform(-1.9, 1.9))
            sizes = {"form": form, "radius": rng.uniform(0.09, 0.24)}
        else:
            height = (TOP, BOTTOM)[form]
            centre, normal = _place(height, rng.uniform(-np.pi, np.pi))
            normal = normal + [0, 0, 0.6 * np.sign(height)]
            sizes = {"form": form, "radius": rng.uniform(0.065, 0.15)}
    elif kind == "crack":  # down from the rim, or anywhere in the wall
        at_rim = rng.random() < 0.6
        centre, normal = _place(TOP if at_rim else rng.uniform(-0.4, 0.4), azimuth)
        sizes = {"azimuth": azimuth, "width": rng.uniform(0.009, 0.015)}
        sizes |= {"length": rng.uniform(0.35, 0.75) if at_rim else rng.uniform(0.2, 0.4)}
        sizes |= {"angle": rng.uniform(-0.5, 0.5), "cover": rng.uniform(0.45, 1.0)}
    elif kind == "stain":  # specks of iron, tea that ran down, smeared cobalt
        form = int(rng.integers(3))
        centre, normal = _place(rng.uniform(-0.5, 0.7), azimuth)
        sizes = {"form": form, "radius": rng.uniform(0.07, 0.14)}
        sizes["cover"] = rng.uniform(0.75, 1.0) if form == SPECKS else rng.uniform(0.25, 0.85)
    elif kind == "misprint":  # a part of the print moved, smeared or left out
        places = [(right, down) for right, down, *_ in TEXTS[:2]] + [MOTIF[:2], (0.0, SEA[1])]
        right, down = places[rng.integers(len(places))]
        right += rng.uniform(-0.12, 0.12)
        centre, normal = _place(-down, right / RADIUS - np.pi / 2)
        sizes = {"right": right, "below": down, "radius": rng.uniform(0.09, 0.18)}
        sizes |= {"erased": rng.random() < 0.4, "smeared": rng.random() < 0.5}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.055)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.01, 0.035)
    elif kind == "glaze":  # drawn back from a bare patch, or blistered
        centre, normal = _place(rng.uniform(-0.6, 0.6), azimuth)
        sizes = {"blistered": rng.random() < 0.5, "radius": rng.uniform(0.09, 0.18)}
        sizes["high"] = rng.uniform(0.6, 1.0)
    else:
        raise ValueError(f"the mug has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


@cache
def _outline() -> np.ndarray:
    """z, outer radius and its slope, smoothly interpolated, [3, K]."""
    return smooth_outline(OUTLINE, 600)


def _place(z, azimuth):
    """The wall's outer point at a height and an azimuth, and the normal there, each [3]."""
    point, normal = on_outline(_outline(), z, azimuth)
    return point + [BODY_X, 0, 0], normal


def _ear_place(turn):
    """The handle's outermost point at an angle from -x upwards, and a normal, each [3]."""
    way, (ear_x, ear_z, *_) = np.linspace(0.7, 0, 701), EAR
    x, z = ear_x + BODY_X - way * np.cos(turn), ear_z + way * np.sin(turn)
    first = (_ear(x - BODY_X, 0 * x, z) < 0).argmax()
    return np.array([x[first], 0, z[first]]), np.array([-np.cos(turn), -0.4, np.sin(turn)])


def _ear(x, y, z):
    """Distance-like value of the handle, x from the body's axis."""
    ear_x, ear_z, half_x, half_z, rounding = EAR
    along = x - ear_x + LEAN * (z - ear_z)
    ring = np.abs(box(along, z - ear_z, 0 * z, (half_x, half_z, 1), rounding))
    return np.sqrt(ring**2 + (FLAT * y) ** 2) - GIRTH


def _blobs(points, defect):
    """How high the glaze stands in blisters, or how deep it lacks, at points [N, 3], -1..1."""
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
    if not defect["blistered"]:
        edge = away + 0.22 * fractal_noise_3d(points, 11, defect["seed"], 3)
        bead = smoothstep((edge - 0.85) / 0.1) * smoothstep((1.25 - edge) / 0.2)
        return 0.6 * bead - smoothstep((0.92 - edge) / 0.08)
    high = np.zeros(len(points))
    for off, popped in _spots(points, defect, (0.022, 0.055)):
        bump = np.sqrt(np.clip(1 - off**2, 0, 1)) - 2 * popped * smoothstep((0.5 - off) / 0.25)
        high = np.where(off < 1, bump, high)
    return high


def _spots(points, defect, radii):
    """Distances [N] of points [N, 3] from spots on the wall in their radii, and whether popped."""
    rng = np.random.default_rng(defect["seed"])
    for _ in range(int(rng.integers(3, 10))):
        x, y, z = defect["centre"] + defect["radius"] * rng.uniform(-0.8, 0.8, 3)
        middle, _ = _place(z, np.arctan2(y, x - BODY_X))
        off = np.linalg.norm(points - middle, axis=1) / rng.uniform(*radii)
        yield off, rng.random() < 0.4


def _broken_off(x, y, z, defect):
    """Distance-like value of what chipped off: a rough flat ball about a point outside."""
    out = 0.35 * defect["radius"] * unit(np.array(defect["normal"])) * (defect["form"] != OF_EAR)
    away = [v - c - o for v, c, o in zip((x, y, z), defect["centre"], out, strict=True)]
    phase = defect["seed"] % 7
    rough = np.sin(37 * x + phase) * np.sin(41 * y - phase) + 0.6 * np.sin(53 * z + 2 * phase)
    return np.sqrt(sum(v * v for v in away)) - defect["radius"] + 0.009 * rough


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the solid, negative inside; arrays of one shape, world units."""
    kind = defect["kind"] if defect else None
    bx = x - BODY_X
    reach = np.sqrt(bx * bx + y * y)
    outer = from_outline(_outline(), reach, z)
    if kind == "glaze":
        near = sum((v - c) ** 2 for v, c in zip((x, y, z), defect["centre"], strict=True))
        near = near < (defect["radius"] + 0.15) ** 2
        points = np.stack([x[near], y[near], z[near]], 1)
        thick = 0.032 if defect["blistered"] else 0.014
        outer[near] -= thick * defect["high"] * _blobs(points, defect)
    body = smooth_min(outer, _ear(bx, y, z), 0.05)
    body = -smooth_min(-body, np.minimum(TOP - z, z - BOTTOM), 0.04)
    hollow = -smooth_min(np.interp(z, *_outline()[:2]) - WALL - reach, z - FLOOR, INNER_EDGE)
    under = both(reach - FOOT, z - BOTTOM - UNDER)
    solid = -smooth_min(-body, smooth_min(hollow, under, 0.01), 0.03)
    return np.maximum(solid, -_broken_off(x, y, z, defect)) if kind == "chip" else solid


def mesh(defect: dict | None = None) -> Mesh:
    """The mug's surface with colour, metallic and roughness per vertex."""
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    points = solid.vertices.astype(float)
    x, y, z = points.T
    reach = np.hypot(x - BODY_X, y)
    mottle, grain = fractal_noise_3d(points, 3, 2, 3), fractal_noise_3d(points, 40, 3, 2)
    look = np.tile([*GLAZE, 0, 0.09], (len(points), 1))  # colour, metallic, roughness
    look[:, :3] *= (1 + 0.008 * mottle)[:, None]
    outside = reach > np.interp(z, *_outline()[:2]) - 0.02
    ink = inked(points, defect) * outside * (_ear(x - BODY_X, y, z) > 0.02)
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    under = (reach < FOOT - 0.02) & (z < BOTTOM + UNDER + 0.01)
    stamp = under & (picked(_stamp_image(), (0.36 - x + BODY_X) * PX, (0.36 - y) * PX) > 0)
    look[stamp, :3] = INKS[0] + 0.12
    bare = (z < BOTTOM + 0.022) & (reach > FOOT - 0.01)
    look[bare] = (*BISCUIT, 0, 0.85)
    look[bare, :3] *= 1 + 0.05 * grain[bare, None]
    if defect:
        look = _spoilt(look, points, outside, grain, defect)
    wavy = np.stack([fractal_noise_3d(points, 9, seed, 2) for seed in (4, 5, 6)], 1)
    solid.normals = unit(solid.normals) + 0.008 * wavy
    return solid.painted(look, least_roughness=0.07)


def _spoilt(look, points, outside, grain, defect):
    """`look` [N, 5] with a defect's colours; `outside` tells which points the wall's face has."""
    kind, (x, y, z) = defect["kind"], points.T
    reach, seed = np.hypot(x - BODY_X, y), defect["seed"]
    if kind == "chip":
        cut = (np.abs(_broken_off(x, y, z, defect)) < 0.006) & (distance(x, y, z) < -0.004)
        look[cut] = (*BROKEN, 0, 0.85)
        look[cut, :3] *= 1 + 0.06 * grain[cut, None]
    if kind == "glaze":
        high = _blobs(points, defect) * outside
        look[high < -0.4] = (*(IRON if defect["blistered"] else BISCUIT), 0, 0.85)
    if kind == "crack":
        wall = reach > np.interp(z, *_outline()[:2]) - 1.3 * WALL
        cover = (defect["cover"] * (_cracked(points, reach, defect) & wall))[:, None]
        look = look + cover * (np.array([*SOOT, 0, 0.6]) - look)
    if kind == "stain":
        away, form = points - np.array(defect["centre"]), int(defect["form"])
        if form == SPECKS:
            ragged = 0.15 * fractal_noise_3d(points, 40, seed, 2)
            spots = [off for off, _ in _spots(points, defect, (0.014, 0.034))]
            cover = smoothstep((1 - np.minimum.reduce(spots) - ragged) / 0.4)
        elif form == RUN:
            side = unit(np.cross([0, 0, 1.0], defect["normal"]))
            aside = away @ side + 0.015 * np.sin(9 * z + seed % 7)
            fallen = np.maximum(np.abs(away[:, 2]) - 1.6 * defect["radius"], 0)
            off = np.hypot(aside, fallen) / (0.32 * defect["radius"])
            cover = smoothstep((1 - off) / 0.2) * (0.7 + 0.3 * smoothstep((off - 0.5) / 0.3))
        else:
            far = np.linalg.norm(away, axis=1) / defect["radius"]
            cover = smoothstep((1 - far - 0.3 * fractal_noise_3d(points, 7, seed, 4)) / 0.5)
        cover = (defect["cover"] * cover * outside)[:, None]
        look = look + cover * (np.array([*(IRON, TEA, COBALT)[form], 0, 0.2]) - look)
    return look


def _cracked(points, reach, defect):
    """Which of the points [N, 3] lie in the crack, [N] bool."""
    x, y, z = points.T
    turn = (np.arctan2(y, x - BODY_X) - defect["azimuth"] + np.pi) % (2 * np.pi) - np.pi
    right, down = RADIUS * turn, defect["centre"][2] - z
    cos, sin = np.cos(defect["angle"]), np.sin(defect["angle"])
    along, across = cos * down + sin * right, cos * right - sin * down
    across = across + 0.018 * fractal_noise_3d(np.outer(along, [0, 0, 1.0]), 9, defect["seed"], 3)
    thin = defect["width"] * np.sqrt(np.clip(1 - (along / defect["length"]) ** 2, 0, 1))
    return (np.abs(across) < thin) & (np.abs(turn) < 1.2)


def inked(points, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of the wall: 0 or 1 + index in INKS, [N]."""
    x, y, z = np.asarray(points).T
    return rolled_ink(_printed, np.stack([-y, x - BODY_X, z], 1), RADIUS, 0.0, defect)


def _printed(places):
    """Ink at places [N, 2] (right, down) of the unrolled wall: 0 or 1 + index in INKS."""
    return picked(_print_image(), *((places + HALF_PRINT) * PX).T)


@cache
def _print_image() -> np.ndarray:
    """A sun behind waves, the texts and the measure's line, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    right, down, radius = MOTIF
    canvas.disc(right, down, radius, CORAL)
    canvas.rectangle(right - radius, SEA[0] - 0.04, right + radius, 0.2, 0)
    along = np.linspace(-0.27, 0.27, 60)
    for k, level in enumerate(SEA):
        part = along[6 * k : 60 - 6 * k]
        wave = np.stack([part, level + 0.022 * np.sin(21 * part + 1.5 * k)], 1)
        canvas.draw.line(canvas.px(*wave.ravel()), BLUE, 13)
    for turn in np.radians([-150, -120, -90, -60, -30]):
        ray = np.outer([radius + 0.03, radius + 0.085], [np.cos(turn), np.sin(turn)])
        canvas.draw.line(canvas.px(*(ray + (right, down)).ravel()), CORAL, 9)
    for text in TEXTS:
        canvas.write(*text)
    edge = TEXTS[2][0]
    canvas.rectangle(edge - 0.10, -0.665, edge + 0.10, -0.652, BLUE)
    return canvas.inks()


@cache
def _stamp_image() -> np.ndarray:
    """The stamp within the foot, as seen from below, [rows, columns]."""
    canvas = Canvas(HALF_STAMP, PX)
    canvas.disc(0, 0, 0.26, 1)
    canvas.disc(0, 0, 0.245, 0)
    for down, height, text in STAMP:
        canvas.write(0, down, height, 1, text)
    return canvas.inks()
