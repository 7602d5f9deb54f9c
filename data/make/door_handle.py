"""A door handle: a curved lever of brushed nickel, a round rose, a white rest behind; its defects.

The lever points along x, the door would be behind, at y. Screws, engraved marks and a grub screw
below tell its sides apart; behind are a ribbed plastic rest with posts and a square spindle.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import (
    described,
    first_met,
    ink_distance,
    marked_face,
    scratched,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, box, cylinder, hexagon, rod, smooth_min
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0006, "bent": 0.0015, "dent": 0.0009, "scratch": 0.0006}
SMALLEST_MASK |= {"stain": 0.0010}
LOW, HIGH, STEP = np.array([-1.05, -0.37, -0.44]), np.array([1.0, 0.66, 0.44]), 0.007
HUB = -0.62  # x of the rose's middle
# x; y and z of the lever's middle; half height, half thickness
SHAPE = (
    (-0.62, -0.235, 0.000, 0.130, 0.095),
    (-0.40, -0.250, 0.010, 0.112, 0.082),
    (0.00, -0.262, 0.035, 0.090, 0.064),
    (0.40, -0.250, 0.032, 0.090, 0.058),
    (0.75, -0.205, -0.012, 0.112, 0.055),
    (0.96, -0.140, -0.060, 0.120, 0.050),
)
END, KINK = 0.945, 0.25  # x of the lever's end; x from where it gets bent
# about y: radius, from, to, rounding
ROSE, DISHED, GROOVE = (0.40, 0.11, 0.25, 0.045), (0.378, 0.165), (0.325, 0.012)
NECK, COLLAR, BEARING = (0.115, -0.24, 0.2, 0.01), (0.15, 0.02, 0.07, 0.018), (0.190, 0.06, 0.13)
REST, POCKET = (0.374, 0.15, 0.250, 0.012), (0.165, 0.325, 0.19)  # radii and floor of its pockets
SOCKET, POSTS = (0.135, 0.16, 0.295, 0.012), (0.055, 0.16, 0.41, 0.012)
POST_Z, BORED = 0.245, 0.027  # of the posts' middles; radius of their holes
SPINDLE, NOTCH = (0.062, -0.1, 0.62), 0.5  # half side, from and to y; y of its notch
SCREWS, HEAD = (0.62, 0.62 + np.pi), (0.052, 0.095, 0.15, 0.02)  # azimuths; a head about y
SCREW_AT = 0.255  # from the rose's middle
GRUB, GRUB_Y, ROLL_PIN = (0.048, 0.035), -0.06, 0.030  # radius, inner radius of its hexagon
FACE, PX = (1.05, 0.42), 300  # half sizes of what is engraved in front or behind, px a unit
ENGRAVED = 0.009
FRONT, BACK = -1, 1
NICKEL, POLISHED, STEEL = (0.60, 0.565, 0.51), (0.66, 0.63, 0.58), (0.50, 0.50, 0.50)
WHITE, BLACK, GRIME = (0.83, 0.825, 0.79), (0.03, 0.03, 0.032), (0.13, 0.12, 0.11)
SCORED, BRIGHT, PALE = (0.20, 0.185, 0.16), (0.86, 0.84, 0.80), (0.52, 0.51, 0.48)
UNDER, CLOUDY, PAINT = (0.66, 0.37, 0.15), (0.30, 0.27, 0.23), (0.72, 0.71, 0.67)
WORN, PAINTED, TARNISHED = range(3)  # sorts of stain
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*NICKEL, 1, 0.28), (*NICKEL, 1, 0.30), (*POLISHED, 1, 0.12), (*WHITE, 0, 0.35)]
    + [(*STEEL, 1, 0.35), (*POLISHED, 1, 0.18), (*POLISHED, 1, 0.18), (*BLACK, 0.6, 0.35)]
    + [(*WHITE, 0, 0.28)]
)
LEVER, PLATE, RIM, SUPPORT, SHAFT, SCREW_A, SCREW_B, SET_SCREW, WASHER = range(9)
LOST_POST, LOST_RIM = 9, 10  # of the rest; screws may be missing too
LOSABLE = (SCREW_A, SCREW_B, SET_SCREW, LOST_POST, LOST_RIM)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, bent, dent, scratch, stain)."""
    side = int(rng.choice([-1, 1]))
    if kind == "missing":  # a screw, the grub screw, a post of the rest, a piece of its rim
        part = int(rng.choice(LOSABLE))
        turn = rng.uniform(-np.pi, np.pi)
        sizes = {"part": part, "side": side, "cut": rng.uniform(0.28, 0.34)}
        if part in (SCREW_A, SCREW_B):
            centre, normal = _at_screw(SCREWS[part - SCREW_A]), (0.3 * np.cos(turn), -1, 0.3)
        elif part == SET_SCREW:
            centre, normal = (HUB, GRUB_Y, -NECK[0]), (0.3 * np.cos(turn), 0, -1)
        elif part == LOST_POST:
            centre, normal = (HUB, 0.37, side * POST_Z), (np.cos(turn), 1, np.sin(turn))
        else:
            reach = REST[0] - 0.02
            centre = HUB + reach * np.cos(turn), REST[2], reach * np.sin(turn)
            sizes["cut"], normal = rng.uniform(0.07, 0.12), (0.3 * np.cos(turn), 1, 0.2)
    elif kind == "bent":  # the lever's end: up, down, towards the door or away
        towards = rng.uniform(-np.pi, np.pi)
        far = rng.uniform(0.06, 0.14)
        sizes = {"down": far * np.cos(towards), "back": far * np.sin(towards)}
        centre = (0.62, -0.2, 0)
        normal = (0.3, -rng.uniform(0.2, 1), side) if rng.random() < 0.5 else (0.2, side, 0.4)
    elif kind == "dent":
        centre, normal = _place((LEVER, PLATE), rng)
        sizes = {"radius": rng.uniform(0.06, 0.12), "depth": rng.uniform(0.020, 0.045)}
    elif kind == "scratch":
        centre, normal = _place((LEVER, LEVER, PLATE, SUPPORT), rng)
        sizes = {"length": rng.uniform(0.12, 0.32), "width": rng.uniform(0.009, 0.016)}
        sizes |= {"angle": rng.uniform(0, np.pi), "bright": rng.random() < 0.4}
    elif kind == "stain":  # plating worn off, paint, tarnish
        centre, normal = _place((LEVER, PLATE), rng)
        sizes = {"radius": rng.uniform(0.07, 0.17), "cover": rng.uniform(0.6, 0.95)}
        sizes["sort"] = rng.integers(3)
    else:
        raise ValueError(f"the door handle has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _at_screw(azimuth):
    """The middle of a screw's head, [3]."""
    return np.array([HUB + SCREW_AT * np.cos(azimuth), HEAD[1], SCREW_AT * np.sin(azimuth)])


def _place(of, rng):
    """A point of a part, one of `of`, that shows from a side, and its normal, each [3]."""
    wanted = rng.choice(of)
    while True:
        axis = rng.choice(3, p=(0.05, 0.7, 0.25))
        high = 0.85 if wanted == LEVER else -0.25
        way = np.tile(rng.uniform((-1, -0.3, -0.4), (high, 0.3, 0.4)), (801, 1))
        way[:, axis] = np.linspace(1, -1, 801) * rng.choice([-1, 1])
        met = first_met(way, parts, distance)
        if met and met[0] == wanted:
            return met[1:]


@cache
def _table():
    """x [K], and the lever's y, z, half height and half thickness there, [4, K]."""
    from scipy.interpolate import CubicSpline

    x, *curves = np.array(SHAPE).T
    fine = np.linspace(x[0], x[-1] + 0.05, 1000)
    return fine, np.array([CubicSpline(x, curve)(fine) for curve in curves], np.float32)


def _lever(x, y, z, defect):
    """Distance-like value of the lever with its neck, bent or not, nothing engraved."""
    places, curves = _table()
    deep, level, half, thick = (np.interp(x, places, c).astype(np.float32) for c in curves)
    if defect and defect["kind"] == "bent":
        past = (np.maximum(x - KINK, 0) / (END - KINK)) ** 1.5
        y, z = y - defect["back"] * past, z + defect["down"] * past
    beside = np.where(x < HUB, np.hypot(x - HUB, z - level), np.abs(z - level))
    lever = -smooth_min(half - beside, thick - np.abs(y - deep), 0.055)
    end = x - END - 0.25 * (z - level) + 1.2 * (z - level) ** 2
    lever = -smooth_min(-lever, -end, 0.05)
    seam = np.abs(x - 0.80 - 0.25 * (z - level)) - 0.008  # the end is a cap
    lever = np.maximum(lever, -both(seam, -lever - 0.009))
    return smooth_min(lever, rod(x - HUB, z, y, *NECK), 0.06)


def _rest(x, y, z, defect):
    """Distance-like value of the plastic behind: ribs, a socket for the spindle, two posts."""
    a, reach = x - HUB, np.hypot(x - HUB, z)
    rest = rod(a, z, y, *REST)
    turn = (np.arctan2(z, a) / (np.pi / 8)) % 1  # sixteen pockets, none right and left
    wall = 0.016 - np.minimum(turn, 1 - turn) * reach * np.pi / 8
    inner, outer, floor = POCKET
    pocket = both(inner - reach, reach - outer, wall, floor - y, 0.9 * np.abs(a) - np.abs(z))
    rest = np.maximum(rest, -pocket)
    rest = np.minimum(rest, rod(a, z, y, *SOCKET))
    for side in (-1, 1):
        up = z - side * POST_Z
        post = both(rod(a, up, y, *POSTS), -both(cylinder(a, up, BORED), 0.25 - y))
        if defect and defect["kind"] == "missing" and defect["part"] == LOST_POST:
            rough = 0.007 * np.sin(90 * a + 60 * up + defect["seed"] % 7)
            if defect["side"] == side:
                post = np.maximum(post, y - defect["cut"] - 0.4 * a + rough)
        rest = np.minimum(rest, post)
    near = np.abs(rest) < 0.03
    raised = _marks(x[near], y[near], z[near])
    rest[near] -= 0.011 * smoothstep(0.5 - raised / 0.012) * (y[near] > REST[2] - 0.03)
    rest = np.maximum(rest, -box(a, z, y - 0.2, (SPINDLE[0] + 0.004, SPINDLE[0] + 0.004, 1)))
    if defect and defect["kind"] == "missing" and defect["part"] == LOST_RIM:
        rest = np.maximum(rest, -_broken_off(x, y, z, defect))
    return rest


def _broken_off(x, y, z, defect):
    """Distance-like value of what broke off the rest's rim."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    phase = defect["seed"] % 7
    rough = 0.008 * np.sin(67 * x + phase) * np.sin(59 * z - phase) + 0.006 * np.sin(
        93 * y + 40 * x
    )
    return np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2) - defect["cut"] + rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of lever, rose, collar, rest, spindle, 3 screws and bearing; as x."""
    a, reach = x - HUB, np.hypot(x - HUB, z)
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    lever = _lever(x, y, z, defect)
    rose = rod(a, z, y, *ROSE)
    rose = np.maximum(rose, -both(reach - DISHED[0], DISHED[1] - y))
    line = np.hypot(reach - GROOVE[0], y - ROSE[1]) - GROOVE[1]
    rose = both(rose, -line, BEARING[0] - 0.03 - reach)
    carved = []
    for solid in (lever, rose):
        near = np.abs(solid) < 0.03
        cut = smoothstep(0.5 - _marks(x[near], y[near], z[near]) / 0.012)
        solid[near] += ENGRAVED * cut
        carved.append(solid)
    lever, rose = carved
    screws = []
    for k, azimuth in enumerate(SCREWS):
        right, _, up = _at_screw(azimuth).tolist()
        right, up = x - right, z - up
        rose = np.maximum(rose, -both(cylinder(right, up, HEAD[0] + 0.006), y - 0.16))
        cos, sin = ((0.88, 0.47), (0.17, 0.98))[k]  # how the cross is turned
        u, v = cos * right + sin * up, cos * up - sin * right
        cross = both(np.minimum(np.abs(u), np.abs(v)) - 0.009, cylinder(u, v, 0.036), y - 0.118)
        screws.append(both(rod(right, up, y, *HEAD), -cross))
    hole = both(cylinder(a, y - GRUB_Y, GRUB[0] + 0.006), z + 0.03)
    lever = both(lever, -hole, -both(cylinder(a, y - GRUB_Y, ROLL_PIN), 0.1 - z))
    wrench = both(hexagon(a, y - GRUB_Y, GRUB[1] - 0.005), z + 0.06)
    grub = both(cylinder(a, y - GRUB_Y, GRUB[0]), -z - 0.102, z, -wrench)
    side, start, end = SPINDLE
    spindle = box(a, z, y - (start + end) / 2, (side, side, (end - start) / 2), 0.012)
    spindle = np.maximum(spindle, -both(np.abs(y - NOTCH) - 0.025, 0.045 - np.abs(z)))
    bearing = rod(a, z, y, *BEARING, 0.02)
    collar = rod(a, z, y, *COLLAR)
    solids = [lever, rose, collar, _rest(x, y, z, defect), spindle, *screws, grub, bearing]
    if lost is not None and lost < len(solids):
        solids[lost] = np.full_like(x, 9)
    return solids


distance = union(parts)


def _marks(x, y, z):
    """Distance-like value of what is engraved in front or behind, endless along y."""
    value = np.empty_like(x)
    places, curves = _table()
    front = y < np.where(x > HUB + 0.4, np.interp(x, places, curves[0]), 0.2)
    for side, facing in ((FRONT, front), (BACK, ~front)):
        right = -side * x[facing]
        value[facing] = marked_face(_image(side), right, -z[facing], FACE, PX)
    return value


@cache
def _image(side: int) -> np.ndarray:
    """Distance to what is engraved in front (-1) or behind (1), negative within."""
    canvas = Canvas(FACE, PX)
    if side == BACK:
        canvas.write(-0.35, -0.03, 36, 255, "INOX 304", stroke=1)
        canvas.write(-0.68, 0.0, 36, 255, "R", stroke=1)
        canvas.write(-HUB - 0.25, 0, 26, 255, "PA6")
        canvas.write(-HUB + 0.25, 0, 26, 255, "ARX")
        return ink_distance(canvas.image, PX)
    canvas.write(HUB, -0.235, 40, 255, "ARX", stroke=1)
    canvas.write(HUB, 0.25, 26, 255, "K 72")
    x = np.linspace(-0.15, 0.72, 200)
    places, curves = _table()
    level, half = (np.interp(x, places, curves[k]) for k in (1, 2))
    for edge in (-0.5, 0.5):
        canvas.draw.line(canvas.px(*np.stack([x, edge * half - level], 1).ravel()), 255, 4)
    canvas.disc(0.62, -0.005, 0.055, 255)
    canvas.disc(0.62, -0.005, 0.040, 0)
    canvas.write(0.62, -0.005, 20, 255, "A", stroke=1)
    return ink_distance(canvas.image, PX)


def mesh(defect: dict | None = None) -> Mesh:
    """The handle's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    reach = np.hypot(x - HUB, z)
    mottle, drawn = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points * [4, 70, 70], 1, 3)
    round_about = np.stack([reach * 80, y * 80, 4 * np.arctan2(z, x - HUB)], 1)
    streak = np.where(part == LEVER, drawn, fractal_noise_3d(round_about, 1, 4))
    metal = look[:, 3] > 0.5
    look[:, :3] *= (1 + 0.02 * mottle + 0.06 * streak * metal)[:, None]
    look[:, 4] += 0.02 * mottle + 0.035 * streak * metal
    plated = (part == LEVER) | (part == PLATE)
    cap = (part == LEVER) & (x > 0.81)
    look[cap] = (*POLISHED, 1, 0.13)
    deep = np.clip(0.8 * smoothstep((0.006 - _marks(x, y, z)) / 0.008) * plated, 0, 1)
    look += deep[:, None] * (np.array([*GRIME, 0.5, 0.5]) - look)
    hidden = (part == PLATE) & (y > 0.13) & (reach < 0.37)
    hidden |= (
        (part == LEVER) & (np.hypot(x - HUB, y - GRUB_Y) < GRUB[0] + 0.01) & (np.abs(z) < 0.105)
    )
    look[hidden] = (*GRIME, 0.3, 0.6)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, x = defect["kind"], points[:, 0]
    if kind == "scratch":
        scored, white = scratched(points, defect, reach=0.05), part == SUPPORT
        look[scored & ~white] = (*(BRIGHT if defect["bright"] else SCORED), 0.7, 0.5)
        look[scored & white] = (*PALE, 0, 0.6)
    if kind == "stain":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = away + 0.34 * fractal_noise_3d(points, 12, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / 0.2)
        share = smoothstep(0.5 + 0.7 * fractal_noise_3d(points, 22, defect["seed"] + 1, 3))
        if defect["sort"] == WORN:
            spilt, cover = np.array([*UNDER, 1, 0.45]), np.where(cover > 0.3, 0.92, 0)
        elif defect["sort"] == PAINTED:
            spilt, cover = np.array([*PAINT, 0, 0.4]), np.where(cover > 0.3, 0.95, 0)
        else:
            spilt = np.column_stack([np.outer(0.5 + share, CLOUDY), 0 * x + 0.7, 0 * x + 0.6])
        look += cover[:, None] * (spilt - look)
