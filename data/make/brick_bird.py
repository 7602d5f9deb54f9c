"""A toy bird built of plastic bricks with studs, glossy and strongly coloured; its defects.

It looks along x. Left and right look alike but for a few plates of other colours, where bricks
join in the tail and the breast, and one foot that has a stud less.
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from .cameras import random_direction
from .lights import smoothstep
from .marks import described, face_axes, scratched
from .mesh import Mesh, both, box, cylinder, mesh_from_distance, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"burr": 0.001, "missing": 0.0012, "stain": 0.002, "scratch": 0.0011}
PITCH, PLATE = 0.19, 0.076  # from stud to stud; height of a plate, a third of a brick's
LOW, HIGH, STEP = np.array([-1.03, -0.55, -0.93]), np.array([1.03, 0.55, 0.97]), 0.008
STUD, STUD_HEIGHT = 0.3 * PITCH, 0.21 * PITCH
WALL, CAVITY = 0.036, 0.05  # of the hollow underside: thickness, depth
TUBE = 0.3 * PITCH, 0.41 * PITCH  # inner and outer radius
ROUNDING, LIP = 0.012, 0.025
SEAM = 0.006  # points that near to two bricks lie in the gap between them
MARGIN = 0.05  # a brick matters up to this far from its bounds
ORIGIN = np.array([4.1, 0.0, 11.3])  # studs, studs, plates
STEPS = np.array([PITCH, PITCH, PLATE])
BLUE, YELLOW, ORANGE, WHITE, BLACK = range(5)
COLOURS = np.array(
    [(0.010, 0.10, 0.42), (0.88, 0.52, 0.01), (0.84, 0.19, 0.012), (0.78, 0.77, 0.73)]
    + [(0.016, 0.016, 0.018)]
)
STAINS = np.array(
    [(0.03, 0.02, 0.012), (0.42, 0.02, 0.02), (0.03, 0.26, 0.06), (0.80, 0.78, 0.72)]
    + [(0.35, 0.24, 0.12), (0.30, 0.05, 0.33)]
)
# which of the stains show on a colour
SHOWN = ((0, 1, 3, 4), (0, 1, 2, 5), (0, 2, 3, 5), (0, 1, 2, 4), (1, 3, 4))
DARK = (0.008, 0.008, 0.008)


class Brick(NamedTuple):
    """Corners in studs, studs and plates from the tail's end, the middle and the ground.

    Forms: brick (studs on top), tile (none), round (a cylinder), disc (lies in the side), peg (a
    stud in the side), slope and under (cut obliquely above and below, towards `towards` along x).
    """

    form: str
    colour: int
    low: tuple
    high: tuple
    loose: bool = False  # small and outside: may be missing
    towards: int = 0


def _pair(form, colour, low, high, loose=False, towards=0):
    """A brick on the left (y > 0) and its like on the right."""
    mirrored = (low[0], -high[1], low[2]), (high[0], -low[1], high[2])
    return [Brick(form, colour, *c, loose, towards) for c in ((low, high), mirrored)]


BRICKS = [
    Brick("brick", ORANGE, (3, 0.5, 0), (6, 1.5, 1)),  # feet, legs
    Brick("brick", ORANGE, (3, -1.5, 0), (5, -0.5, 1)),
    Brick("tile", ORANGE, (5, -1.5, 0), (6, -0.5, 1), True),
    *_pair("round", ORANGE, (4, 0.5, 1), (5, 1.5, 3)),
    Brick("brick", YELLOW, (3, -1.5, 3), (7, 1.5, 4)),  # belly
    Brick("under", BLUE, (2, -1.5, 4), (4, 1.5, 7), towards=-1),
    Brick("brick", YELLOW, (4, -1.5, 4), (6, 1.5, 7)),
    Brick("under", YELLOW, (6, -1.5, 4), (8, 0.5, 7), towards=1),
    Brick("under", YELLOW, (6, 0.5, 4), (8, 1.5, 7), towards=1),
    Brick("brick", BLUE, (2, -1.5, 7), (4, 1.5, 10)),  # body
    Brick("brick", YELLOW, (4, -1.5, 7), (6, 1.5, 10)),
    Brick("brick", YELLOW, (6, -1.5, 7), (8, -0.5, 10)),
    Brick("brick", YELLOW, (6, -0.5, 7), (8, 1.5, 10)),
    Brick("slope", BLUE, (1, -1.5, 10), (4, 1.5, 13), towards=-1),
    Brick("brick", BLUE, (4, -1.5, 10), (6, 1.5, 13)),
    Brick("brick", YELLOW, (6, -0.5, 10), (7, 0.5, 13)),
    *_pair("slope", YELLOW, (6, 0.5, 10), (8, 1.5, 13), towards=1),
    Brick("slope", YELLOW, (7, -0.5, 10), (8, 0.5, 12), True, 1),
    Brick("brick", BLUE, (0, -1.5, 9), (2, 0.5, 10)),  # tail
    Brick("brick", BLUE, (0, 0.5, 9), (2, 1.5, 10)),
    Brick("brick", WHITE, (-1, -1.5, 8), (2, 1.5, 9)),
    Brick("tile", BLACK, (-1, 0.5, 9), (0, 1.5, 10), True),
    Brick("brick", BLACK, (-1, -0.5, 9), (0, 0.5, 10), True),
    Brick("tile", BLACK, (-1, -1.5, 9), (0, -0.5, 10), True),
    Brick("brick", ORANGE, (0, -0.5, 10), (1, 0.5, 11), True),
    *_pair("slope", BLUE, (2, 1.5, 10), (4, 2.5, 13), towards=-1),  # wings
    *_pair("brick", BLUE, (4, 1.5, 10), (6, 2.5, 13)),
    *_pair("brick", WHITE, (2, 1.5, 9), (7, 2.5, 10)),
    *_pair("brick", BLUE, (2, 1.5, 6), (5, 2.5, 9)),
    *_pair("under", BLUE, (5, 1.5, 6), (7, 2.5, 9), towards=1),
    *_pair("tile", BLACK, (1, 1.5, 5), (4, 2.5, 6)),
    *_pair("brick", WHITE, (1, 1.5, 6), (2, 2.5, 7), True),
    Brick("brick", YELLOW, (5, 1.5, 13), (6, 2.5, 14), True),
    Brick("brick", WHITE, (5, -2.5, 13), (6, -1.5, 14), True),
    Brick("brick", WHITE, (4, -1.5, 13), (7, 1.5, 14)),  # neck
    Brick("brick", BLUE, (4, -1.5, 14), (6, 1.5, 17)),  # head
    *_pair("brick", WHITE, (6, 0.5, 14), (7, 1.5, 17), True),
    Brick("brick", ORANGE, (6, -0.5, 14), (8, 0.5, 15)),
    Brick("slope", ORANGE, (6, -0.5, 15), (9, 0.5, 17), towards=1),
    Brick("brick", BLUE, (4, -1.5, 17), (6, 1.5, 20)),
    Brick("slope", BLUE, (6, -1.5, 17), (7, 1.5, 20), towards=1),
    Brick("tile", BLUE, (4, -1.5, 20), (5, -0.5, 21), True),
    Brick("brick", ORANGE, (4, -0.5, 20), (6, 0.5, 21)),
    Brick("slope", ORANGE, (4, -0.5, 21), (5, 0.5, 23), True, -1),
    *_pair("peg", BLUE, (5, 1.4, 17.25), (6, 1.7, 19.75)),
    *_pair("disc", WHITE, (5, 1.5, 17.25), (6, 1.9, 19.75), True),
    *_pair("disc", BLACK, (5.2, 1.9, 17.75), (5.8, 2.05, 19.25)),
]
PUPILS = 2  # the last bricks; each is lost with its white, that many before it


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (burr, missing, stain, scratch)."""
    centre, normal, brick = _open_place(rng)
    if kind == "burr":  # flash at an edge, or bumps of a face
        flash = rng.random() < 0.6
        sizes = {"flash": flash, "lean": rng.uniform(-0.5, 0.5), "length": rng.uniform(0.09, 0.20)}
        sizes |= {"height": rng.uniform(0.05, 0.10), "radius": rng.uniform(0.045, 0.075)}
        sizes |= {"count": rng.integers(1, 4), "axis": 0}
        if flash:
            while (edge := _edge(centre, normal, brick)) is None:
                centre, normal, brick = _open_place(rng)
            centre, normal, sizes["axis"] = edge
        sizes["brick"] = brick
    elif kind == "missing":  # a stud or a small brick
        sizes = {"brick": -1, "deep": rng.uniform(0.006, 0.05)}
        if rng.random() < 0.45:
            studs = _free_studs()
            centre, normal = studs[rng.integers(len(studs))], (0, 0, 1)
        else:
            brick = int(rng.choice([k for k, b in enumerate(BRICKS) if b.loose]))
            low, high = _bounds(BRICKS[brick])
            centre, normal, sizes["brick"] = (low + high) / 2, _way_out(brick), brick
    elif kind == "stain":
        shown = SHOWN[BRICKS[brick].colour]
        sizes = {"radius": rng.uniform(0.06, 0.12), "stretch": rng.uniform(1.0, 2.6)}
        sizes |= {"angle": rng.uniform(0, np.pi), "strength": rng.uniform(0.7, 0.97)}
        sizes |= {"colour": rng.choice(shown), "roughness": rng.uniform(0.15, 0.6)}
    elif kind == "scratch":
        sizes = {"length": rng.uniform(0.12, 0.26), "width": rng.uniform(0.011, 0.016)}
        sizes |= {"angle": rng.uniform(0, np.pi), "count": rng.integers(1, 4)}
    else:
        raise ValueError(f"the bird has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _bounds(brick):
    """Lower and upper corner in world units, each [3]."""
    return [(np.array(corner) - ORIGIN) * STEPS for corner in (brick.low, brick.high)]


def _shape(x, y, z, brick):
    """Distance-like value of a brick; arrays of one shape, world units."""
    low, high = _bounds(brick)
    half, (cx, cy, cz) = (high - low) / 2, (low + high) / 2
    if brick.form in ("disc", "peg"):
        reach = cylinder(x - cx, z - cz, 0)
        return box(reach, y - cy, 0 * x, (half[0], half[1], 1), ROUNDING)
    if brick.form == "round":
        solid = box(cylinder(x - cx, y - cy, 0), z - cz, 0 * x, (half[0], half[2], 1), ROUNDING)
    else:
        solid = box(x - cx, y - cy, z - cz, half, ROUNDING) - 0.001
    studs_low, studs_high = low.copy(), high.copy()
    if brick.form in ("slope", "under"):
        length, drop = 2 * half[0], 2 * half[2] - LIP
        run = length - PITCH if length > 1.5 * PITCH else length - 0.02
        inwards = half[0] - brick.towards * (x - cx)  # from the low end
        above = z - low[2] if brick.form == "slope" else high[2] - z
        cut = (above - LIP - inwards * drop / run) * run / np.hypot(run, drop)
        solid = -smooth_min(-solid, -cut, 0.006)
        if brick.form == "slope" and brick.towards > 0:
            studs_high[0] -= run
        elif brick.form == "slope":
            studs_low[0] += run
    counts = np.round((studs_high - studs_low)[:2] / PITCH)
    if brick.form != "tile" and counts.all():
        off = [_fold(v - a, n) for v, a, n in zip((x, y), studs_low[:2], counts, strict=True)]
        reach = cylinder(*off, 0)
        stud = box(reach, z - high[2], 0 * x, (STUD, STUD_HEIGHT, 1), 0.008)
        solid = np.minimum(solid, stud)
    if brick.form in ("brick", "tile"):
        return np.maximum(solid, -_cavity(x, y, z, low, high))
    if brick.form == "slope":
        return np.maximum(solid, -both(_cavity(x, y, z, low, high), cut + 0.03))
    return solid


def _fold(along, count):
    """From the middle of the nearest of `count` pitches that start at 0."""
    return along - PITCH * (np.floor(along / PITCH).clip(0, count - 1) + 0.5)


def _cavity(x, y, z, low, high):
    """Distance-like value of the hollow below a brick, tubes or pins left standing."""
    half, (cx, cy, _) = (high - low) / 2, (low + high) / 2
    inside = box(x - cx, y - cy, z - low[2], (half[0] - WALL, half[1] - WALL, CAVITY), 0.006)
    counts = np.round((high - low)[:2] / PITCH)
    if counts.max() < 2:
        return inside
    off = [
        _fold(v - a - PITCH / 2, n - 1) if n > 1 else v - a - PITCH / 2
        for v, a, n in zip((x, y), low[:2], counts, strict=True)
    ]
    reach = cylinder(*off, 0)
    if counts.min() > 1:
        return both(inside, -both(reach - TUBE[1], TUBE[0] - reach))
    return both(inside, 0.09 * PITCH - reach)


def _each(x, y, z, defect):
    """The bricks that are there: index, where each matters and its values there."""
    gone = set()
    if defect and defect["kind"] == "missing" and defect["brick"] >= 0:
        gone = {int(defect["brick"])}
        if BRICKS[min(gone)].form == "disc":
            gone.add(min(gone) + PUPILS)
    for k, brick in enumerate(BRICKS):
        if k not in gone:
            near = _within(x, y, z, *_bounds(brick), MARGIN)
            yield k, near, _shape(x[near], y[near], z[near], brick)


def _within(x, y, z, low, high, margin):
    """Where points lie in a box or up to `margin` from it: bool as x, or slices of a grid."""
    if np.ndim(x) == 3:
        axes = x[:, 0, 0], y[0, :, 0], z[0, 0, :]
        ends = zip(axes, low - margin, high + margin, strict=True)
        return tuple(slice(*np.searchsorted(axis, (a, b))) for axis, a, b in ends)
    inside = np.ones(np.shape(x), bool)
    for v, a, b in zip((x, y, z), low, high, strict=True):
        inside &= np.abs(v - (a + b) / 2) < (b - a) / 2 + margin
    return inside


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the solid, negative inside; arrays of one shape, world units."""
    solid = np.full_like(x, MARGIN)
    for _, near, values in _each(x, y, z, defect):
        solid[near] = np.minimum(solid[near], values)
    if not defect or defect["kind"] not in ("burr", "missing"):
        return solid
    centre = np.array(defect["centre"])
    near = _within(x, y, z, centre, centre, 0.25)
    away = [v[near] - c for v, c in zip((x, y, z), centre, strict=True)]
    if defect["kind"] == "burr":
        solid[near] = smooth_min(solid[near], _stuck_on(away, defect), 0.008)
    elif defect["brick"] < 0:
        solid[near] = np.maximum(solid[near], -_sunk(away, defect))
    return solid


def _sunk(away, defect):
    """Distance-like value of where a stud was and of the hollow it left."""
    x, y, z = away
    return both(cylinder(x, y, STUD + 0.006), np.abs(z - 0.05) - 0.05 - defect["deep"])


def _stuck_on(away, defect):
    """Distance-like value of flash, a thin fin along an edge, or of bumps, flattened balls."""
    normal, rng = np.array(defect["normal"]), np.random.default_rng(defect["seed"])
    up = sum(a * n for a, n in zip(away, normal, strict=True))
    if defect["flash"]:
        line, half = np.eye(3)[int(defect["axis"])], defect["length"] / 2
        along = away[int(defect["axis"])]
        across = sum(a * c for a, c in zip(away, np.cross(normal, line), strict=True))
        start, waves = rng.uniform(0, 6, 2), rng.uniform(25, 60, 2)
        ragged = 0.8 + 0.1 * sum(np.sin(w * along + s) for w, s in zip(waves, start, strict=True))
        top = defect["height"] * ragged * np.sqrt(np.clip(1 - (along / half) ** 2, 0, 1))
        thin = np.abs(across - defect["lean"] * up) - 0.012
        return both(thin, up - top, -0.02 - up, np.abs(along) - half)
    bumps = []
    for k in range(int(defect["count"])):
        radius = defect["radius"] * (1 if k == 0 else rng.uniform(0.5, 0.9))
        shift = rng.uniform(-1.5, 1.5, 3) * defect["radius"] * (k > 0)
        shift -= normal * (shift @ normal)
        height = up * (1 / rng.uniform(0.6, 1.1) - 1)
        reach = [a - s + height * n for a, s, n in zip(away, shift, normal, strict=True)]
        bumps.append(np.sqrt(sum(r * r for r in reach)) - radius)
    return np.minimum.reduce(bumps)


def _nearest(points, defect: dict | None = None):
    """Of points [N, 3]: the nearest brick's index, distances to it and to the next, each [N]."""
    first, second = np.full((2, len(points)), MARGIN)
    which = np.zeros(len(points), int)
    for k, near, values in _each(*points.T, defect):
        near, values = near.nonzero()[0], np.abs(values)
        second[near] = np.minimum(second[near], np.maximum(values, first[near]))
        closer = values < first[near]
        which[near[closer]], first[near[closer]] = k, values[closer]
    return which, first, second


def _open_place(rng):
    """A point of a flat face, its normal, each [3], and the brick's index."""
    while True:
        out = random_direction(rng)
        aim = rng.uniform((-0.95, -0.45, -0.84), (0.92, 0.45, 0.88))
        way = aim + np.linspace(1.5, -1.5, 1501)[:, None] * out
        first = (distance(*way.T) < 0.001).argmax()  # 0 when nothing is hit
        if first == 0 or out[2] < -0.5:
            continue
        point, off = way[first], np.eye(3)
        normal = unit(distance(*(point + 0.004 * off).T) - distance(*(point - 0.004 * off).T))
        sides = np.cross(normal, off[np.abs(normal).argmin()]), np.zeros(3)
        sides = unit(np.array([sides[0], np.cross(normal, sides[0])]))
        around = point + 0.025 * np.concatenate([sides, -sides])
        level = np.abs(distance(*around.T)).max() < 0.006
        if level and normal @ out > 0.3 and distance(*(point + 0.1 * normal)[:, None]) > 0.045:
            return point, normal, int(_nearest(point[None])[0][0])


def _edge(point, normal, brick: int):
    """The free edge of a brick's face that is nearest to a point: centre, outwards, its axis."""
    face, (low, high) = int(np.abs(normal).argmax()), _bounds(BRICKS[brick])
    level = high[face] if normal[face] > 0 else low[face]
    if BRICKS[brick].form in ("disc", "round", "peg") or abs(point[face] - level) > 0.01:
        return None
    found = []
    for axis in {0, 1, 2} - {face}:
        for side in (-1, 1):
            edge = np.clip(point, low + 0.03, high - 0.03)
            edge[face], edge[axis] = level, high[axis] if side > 0 else low[axis]
            out = np.sign(normal) * (np.arange(3) == face) + side * np.eye(3)[axis]
            probes = edge + np.outer([0.03, -0.015], out)
            outside, inside = distance(*probes.T)
            if outside > 0.03 and inside < -0.005:
                found.append((abs(point[axis] - edge[axis]), edge, unit(out), 3 - face - axis))
    return min(found, key=lambda one: one[0])[1:] if found else None


@cache
def _free_studs():
    """Middles of the studs' feet with nothing on them, [N, 3]."""
    feet = []
    for brick in BRICKS:
        if brick.form in ("brick", "slope", "under", "round"):
            low, high = _bounds(brick)
            for i, j in np.ndindex(*np.round((high - low)[:2] / PITCH).astype(int)):
                feet.append((*low[:2] + PITCH * (np.array([i, j]) + 0.5), high[2]))
    feet = np.array(feet)
    on, above = (distance(*(feet + [0, 0, up]).T) for up in (STUD_HEIGHT / 2, 0.07))
    return feet[(on < -0.01) & (above > 0.02)]


def _way_out(brick: int):
    """Where to a brick is free, unit [3]."""
    low, high = _bounds(BRICKS[brick])
    faces = np.concatenate([np.eye(3), -np.eye(3)])
    probes = (low + high) / 2 + faces * ((high - low) / 2 + 0.07)
    return unit((faces * (distance(*probes.T) > 0.02)[:, None]).sum(0) + [0, 0, 1e-3])


def mesh(defect: dict | None = None) -> Mesh:
    """The bird's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    points = solid.vertices
    which, _, second = _nearest(points, defect)
    if kind == "burr":
        burr = distance(*points.T) > 0.004
        which[burr] = int(defect["brick"])
    colour = np.array([b.colour for b in BRICKS])[which]
    shade = 1 + 0.03 * np.random.default_rng(1).uniform(-1, 1, len(BRICKS))[which]
    mottle = fractal_noise_3d(points, 6, 2, 3)
    look = np.zeros((len(points), 5))  # colour, metallic, roughness
    look[:, :3] = COLOURS[colour] * (shade + 0.02 * mottle)[:, None]
    look[:, 4] = 0.16 + 0.02 * mottle
    gap = smoothstep((SEAM - second) / SEAM + 0.5)[:, None]
    look = look * (1 - gap) + np.array([*DARK, 0, 0.7]) * gap
    if kind == "burr":
        look[burr, :3] = 0.85 * COLOURS[colour[burr]] + 0.10
        look[burr, 4] = 0.3
    if kind == "missing" and defect["brick"] < 0:
        scar = np.abs(_sunk((points - np.array(defect["centre"])).T, defect)) < 0.005
        look[scar, :3] = 0.7 * look[scar, :3] + 0.12
        look[scar, 4] = 0.6
    if kind == "scratch":
        scored = _scored(points, defect)
        pale = np.isin(colour, (YELLOW, WHITE))[:, None]
        look[scored, :3] = np.where(pale, 0.3 * look[:, :3], 0.6 * look[:, :3] + 0.26)[scored]
        look[scored, 4] = 0.6
    if kind == "stain":
        cover = _cover(points, defect)[:, None]
        spot = np.array([*STAINS[int(defect["colour"])], 0, defect["roughness"]])
        look = look * (1 - cover) + spot * cover
    return solid.painted(look, least_roughness=0.1)


def _scored(points, defect) -> np.ndarray:
    """Which of the points [N, 3] lie in one of a few scratches side by side, [N] bool."""
    rng, scored = np.random.default_rng(defect["seed"]), np.zeros(len(points), bool)
    normal = np.array(defect["normal"])
    for k in range(int(defect["count"])):
        shift = rng.uniform(-0.04, 0.04, 3) * (k > 0)
        shift -= normal * (shift @ normal)
        one = {**defect, "centre": np.array(defect["centre"]) + shift}
        one |= {"length": defect["length"] * (1 if k == 0 else rng.uniform(0.4, 0.9))}
        one["angle"] += rng.uniform(-0.12, 0.12) * (k > 0)
        scored |= scratched(points, one, reach=0.02)
    return scored


def _cover(points, defect) -> np.ndarray:
    """How much a smear hides of what lies below, [N] from 0 to 1."""
    away, normal = points - np.array(defect["centre"]), np.array(defect["normal"])
    line, _ = face_axes(normal, defect["angle"], np.eye(3)[np.abs(normal).argmin()])
    along = away @ line
    rest = (away**2).sum(1) - along**2
    reach = np.sqrt((along / defect["stretch"]) ** 2 + rest) / defect["radius"]
    drawn_out = away - (1 - 1 / defect["stretch"]) * np.outer(along, line)
    edge = 0.3 * fractal_noise_3d(drawn_out, 12, defect["seed"], 4)
    return defect["strength"] * smoothstep((1 - reach - edge) / 0.15)
