"""A low sneaker for the left foot: woven upper with suede, crossed laces, rubber sole; its defects.

The toe points along x, the outer side is that of +y with the logo; two vents are on the inner one.
The upper is a shell about a filled form whose distance is kept on the mesh's own grid.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import (
    described,
    face_axes,
    first_met,
    ink_distance,
    inked_face,
    marked_face,
    picked,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, box, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.4}
SMALLEST_MASK = {"cut": 0.0009, "stain": 0.0012, "missing": 0.0005, "peeled": 0.001}
SMALLEST_MASK |= {"misprint": 0.0009}
LOW, HIGH, STEP = np.array([-1.03, -0.42, -0.46]), np.array([1.03, 0.42, 0.56]), 0.0064
# corners of the sole's outline, from the heel along the outer side to the toe and back: x, y
OUTLINE = ((-0.95, 0.0), (-0.90, 0.125), (-0.78, 0.21), (-0.6, 0.245), (-0.3, 0.255), (0, 0.285))
OUTLINE += ((0.3, 0.33), (0.5, 0.332), (0.68, 0.29), (0.84, 0.19), (0.93, 0.06), (0.95, -0.05))
OUTLINE += ((0.91, -0.16), (0.80, -0.26), (0.62, -0.325), (0.42, -0.33), (0.25, -0.295))
OUTLINE += ((0, -0.22), (-0.3, -0.205), (-0.6, -0.23), (-0.78, -0.20), (-0.90, -0.12))
PLAN = 200  # samples of the outline's distance per world unit
RISE = (0.38, 0.08)  # x from where the toe is turned up, by how much at its tip
MIDDLE = 0.02  # y of the throat
WELT, INSET = -0.21, 0.03  # z where the upper's form starts; how far within the outline
# how high the form is above that: x, height; over this distance it bends over to its ridge
CREST = ((-1.1, 0.95), (-0.5, 0.84), (-0.3, 0.695), (-0.15, 0.585), (0, 0.485), (0.15, 0.40))
CREST += ((0.3, 0.335), (0.45, 0.29), (0.6, 0.262), (0.8, 0.235), (1.1, 0.20))
BEND, POWER = 0.27, 2.6
COLLAR = ((-1.1, 0.31), (-0.88, 0.30), (-0.7, 0.225), (-0.5, 0.175), (-0.35, 0.185))
COLLAR += ((-0.25, 0.24), (-0.15, 0.36), (-0.05, 0.55), (0.1, 0.9), (1.1, 0.9))  # x, z of its edge
SHELL, PAD = 0.042, (0.020, 0.034)  # thickness of the upper; how deep and thick the collar's roll
SLOT = (-0.5, 0.335, 0.068)  # of the throat: x from and to, half width
SUEDE_HIGH, EYESTAY = 0.015, 0.098  # how far it stands out; how wide it is about the throat
TOE_CAP, COUNTER = (0.34, 0.34, 0.125), (-0.45, 0.25, 0.27)  # x, over which it rises, height
TONGUE = (-0.29, 0.42, 0.125, 0.040)  # x from and to, half width, how deep its middle lies
EYELETS = [(0.325 - 0.082 * k, side) for k in range(6) for side in (1, -1)]  # x, side
ASIDE, EYELET = 0.122, (0.031, 0.011, 0.021)  # of the eyelets; ring's radii, hole's
VENTS = ((0.02, -0.085), (0.11, -0.095))  # x, z on the inner side
LACE = 0.0165  # radius
ROWS = 5  # of crossed strands
STRANDS = 2 * ROWS  # the first ones cross; then two to the knot, two loops, two ends
KNOT_X = -0.135
TAB = (0.062, (0.07, 0.375), 0.028)  # half width, z from and to, how far it stands out
LIP, GROUND, GUM = -0.165, -0.37, -0.328  # z of the sole's upper edge, underside, gum's top
RIBS, RIBBED = 84, (-0.292, -0.215)  # how many about the sole; z from and to
ARCH = (-0.12, 0.20)  # x of the middle, half length of what carries letters below
PX = 400  # of the prints, per world unit
LOGO, HALF_LOGO = (-0.245, 0.005), (0.25, 0.145)  # x, z; half sizes
BADGE, HALF_BADGE = (-0.235, MIDDLE), (0.085, 0.05)  # x, y on the tongue; half sizes (y, x)
HALF_LETTERS = (0.18, 0.13)  # of the letters below the arch (x, y)
LEFT_OUT, MOVED, SMEARED = range(3)  # kinds of misprint
RING, STRETCH, TAB_LOST = range(3)  # what may be missing
MUD, GLUE, OIL, INK = range(4)  # stains
NAVY, TAN, GREY = (0.035, 0.085, 0.125), (0.21, 0.165, 0.12), (0.20, 0.205, 0.21)
WHITE, GUMMY, CORD = (0.72, 0.715, 0.69), (0.33, 0.16, 0.06), (0.66, 0.64, 0.58)
THREAD, FOAM, CEMENT = (0.62, 0.58, 0.48), (0.50, 0.44, 0.30), (0.52, 0.44, 0.24)
DIRT, TIP, TORN = (0.075, 0.058, 0.040), (0.03, 0.03, 0.03), (0.36, 0.33, 0.27)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*NAVY, 0, 0.92), (*TAN, 0, 0.95), (*GREY, 0, 0.9), (0.04, 0.09, 0.13, 0, 0.9)]
    + [(*WHITE, 0, 0.55), (*GUMMY, 0, 0.6), (*CORD, 0, 0.85), (0.50, 0.42, 0.27, 1, 0.25)]
    + [(0.47, 0.14, 0.035, 0, 0.7), (0.26, 0.25, 0.23, 0, 0.9)]
)
FABRIC, SUEDE, PADDING, FLAP, SOLE, TREAD, LACES, METAL, LOOP, INSOLE = range(10)
INKS = np.array([(0.74, 0.73, 0.69), (0.60, 0.16, 0.03)])
# base colour, roughness of the stains
SPILT = ((0.24, 0.15, 0.075, 0.95), (0.50, 0.41, 0.20, 0.30), (0.045, 0.035, 0.028, 0.4))
SPILT += ((0.03, 0.05, 0.30, 0.7),)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (cut, stain, missing, peeled, misprint)."""
    if kind == "cut":  # a slit through the upper, the collar or the tab
        centre, normal = _place((FABRIC, FABRIC, SUEDE, PADDING, LOOP), rng)
        sizes = {"length": rng.uniform(0.075, 0.13), "width": rng.uniform(0.012, 0.022)}
        sizes |= {"angle": rng.uniform(0, np.pi), "lift": rng.uniform(0.008, 0.024)}
    elif kind == "stain":  # of mud, glue, oil, ink
        of = int(rng.integers(4))
        on = ((FABRIC, SUEDE, SOLE), (FABRIC, SUEDE), (SUEDE, SOLE), (SUEDE, SOLE, LACES))[of]
        centre, normal = _place(on, rng)
        sizes = {"of": of, "radius": rng.uniform(0.055, 0.12), "cover": rng.uniform(0.6, 0.95)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "missing":
        return _random_loss(rng)
    elif kind == "peeled":  # the sole stands off along a stretch of its edge
        turn = int(rng.integers(len(_outline()[0])))
        place, out = (values[turn] for values in _outline())
        centre = (*place, LIP + _rise(place[0]))
        normal = np.array([*out, rng.uniform(0.6, 1.2)])  # the gap opens upwards
        sizes = {"length": rng.uniform(0.16, 0.30), "gap": rng.uniform(0.028, 0.050)}
        sizes["drop"] = sizes["gap"] * rng.uniform(0.5, 1.1)
    elif kind == "misprint":  # a part of the logo left out, moved or smeared
        way = int(rng.choice(3, p=(0.4, 0.3, 0.3)))
        right, down = rng.uniform((-0.20, -0.07), (0.20, 0.09))
        centre = _on_side(LOGO[0] - right, LOGO[1] - down, 1)
        normal = np.array([rng.uniform(-0.3, 0.3), 1, rng.uniform(-0.1, 0.4)])
        sizes = {"way": way, "smeared": way == SMEARED, "radius": rng.uniform(0.085, 0.17)}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.012, 0.032)
    else:
        raise ValueError(f"the shoe has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _random_loss(rng):
    """An eyelet or a vent torn out, a stretch of lace gone, or the heel's tab gone."""
    part = int(rng.choice([TAB_LOST, RING, STRETCH], p=(0.15, 0.2, 0.65)))
    sizes = {"part": part}
    if part == RING:
        which = int(rng.integers(len(EYELETS) + len(VENTS)))
        sizes |= {"which": which, "radius": rng.uniform(0.034, 0.042)}
        if which < len(EYELETS):
            x, side = EYELETS[which]
            centre = _above(x, MIDDLE + side * ASIDE)
            normal = np.array([0.5, 0.4 * side, 1])
        else:
            centre = _on_side(*VENTS[which - len(EYELETS)], -1)
            normal = np.array([0.1, -1, 0.3])
    elif part == STRETCH:
        strand = int(rng.integers(STRANDS))
        share = rng.uniform(0.5, 1)
        start = rng.uniform(0, 1 - share)
        path = _strands()[strand]
        sizes |= {"strand": strand, "start": start, "end": start + share}
        centre = path[int((start + share / 2) * (len(path) - 1))]
        normal = np.array([0.5, rng.uniform(-0.5, 0.5), 1])
    else:
        centre = np.array([-0.90, 0, sum(TAB[1]) / 2])
        normal = np.array([-1, rng.uniform(-0.5, 0.5), 0.3])
    return described("missing", centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(of, rng):
    """A point of one of the parts `of`, seen across or along the shoe or from above; its normal."""
    while True:
        axis = int(rng.choice(3, p=(0.2, 0.5, 0.3)))
        ahead = np.eye(3)[axis] * (1 if axis == 2 else rng.choice([-1, 1]))
        start = rng.uniform((-0.9, -0.3, -0.3), (0.9, 0.3, 0.25))
        start[axis] = 0
        met = first_met(start + np.linspace(1, -1, 801)[:, None] * ahead, parts, distance)
        if met is not None and met[0] in of and met[2] @ ahead > 0.55:
            return met[1:]


@cache
def _outline():
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
    places, out = _outline()
    away, nearest = cKDTree(places).query(grid)
    side = np.sign(((grid - places[nearest]) * out[nearest]).sum(-1))
    wave = np.cos(2 * np.pi * RIBS * nearest / len(places))
    return (side * away).astype(np.float32), wave.astype(np.float32)


def _planned(plan, x, y):
    """Values of a plan at places of any shape."""
    from scipy.ndimage import map_coordinates

    at = [(x - LOW[0]) * PLAN, (y - LOW[1]) * PLAN]
    return map_coordinates(plan, at, np.float32, order=1, mode="nearest")


def _curve(corners, x):
    """Smooth curve without overshoot through corners (x, value)."""
    from scipy.interpolate import PchipInterpolator

    return PchipInterpolator(*np.transpose(corners))(np.clip(x, -1.1, 1.1)).astype(np.float32)


def _rise(x):
    """How far the toe is turned up."""
    start, high = RISE
    return high * ((x - start).clip(0) / (0.95 - start)) ** 2


def _bend(x, y):
    """How far towards the outline a place lies: 0 on the ridge, 1 where the form's wall stands."""
    return (1 + (_planned(_plans()[0], x, y) + INSET) / BEND).clip(0)


@cache
def _field() -> np.ndarray:
    """Distance-like value of the form at the nodes of the mesh's grid."""
    axes = [np.arange(a, b, STEP).astype(np.float32) for a, b in zip(LOW, HIGH, strict=True)]
    x, y = np.meshgrid(*axes[:2], indexing="ij")
    up = (axes[2] - WELT - _rise(x)[..., None]).clip(0) / _curve(CREST, x)[..., None]
    value = (_bend(x, y)[..., None] ** POWER + up**POWER) ** (1 / POWER) - 1
    steep = np.sqrt(sum(slope * slope for slope in np.gradient(value, STEP)))
    return (value / steep.clip(0.4)).astype(np.float32)


def _form(x, y, z):
    """Distance-like value of the foot's form, endless downwards, as x."""
    from scipy.ndimage import map_coordinates

    at = [(v - low) / STEP for v, low in zip((x, y, z), LOW, strict=True)]
    return map_coordinates(_field(), at, np.float32, order=1, mode="nearest")


def _settled(points, lift):
    """Points [N, 3] moved to where the form's value is `lift` [N]."""
    for _ in range(8):
        value, slope = _form(*points.T), []
        for axis in 0.008 * np.eye(3):
            slope.append((_form(*(points + axis).T) - _form(*(points - axis).T)) / 0.016)
        slope = np.stack(slope, 1)
        points = points - ((value - lift) / (slope**2).sum(1).clip(0.3))[:, None] * slope
    return points


def _above(x, y, lift=0.0):
    """The form's place above x, y, [3]."""
    return _draped([x], [y], np.array([lift]))[0]


def _draped(x, y, lift):
    """The form's places above x and y [N], lifted off it by `lift` [N]; [N, 3]."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    up = (1 - _bend(x, y).clip(0, 0.99) ** POWER) ** (1 / POWER)
    return _settled(np.stack([x, y, WELT + _rise(x) + _curve(CREST, x) * up], 1), lift)


def _on_side(x, z, side):
    """The form's place at x and z on the outer (1) or inner (-1) side, [3]."""
    y = side * np.linspace(0.42, 0, 421)
    inside = _form(0 * y + x, y, 0 * y + z) < 0
    return np.array([x, y[inside.argmax()], z])


@cache
def _strands() -> list[np.ndarray]:
    """Middle lines of the laces: crossed strands, two to the knot, loops, ends, each [N, 3]."""
    from scipy.interpolate import CubicSpline

    paths, along = [], np.linspace(0, 1, 70)
    for row in range(ROWS):
        x, onwards = EYELETS[2 * row][0], EYELETS[2 * row + 2][0]
        for side in (1, -1):
            over = (row % 2 == 0) == (side == 1)
            lifts = (-0.02, 0.030, 0.032, 0.050 if over else 0.010, 0.014, -0.040)
            lift = np.interp(along, (0, 0.12, 0.40, 0.60, 0.78, 1), lifts)
            y = MIDDLE + side * (ASIDE - (ASIDE + 0.09) * along)
            paths.append(_draped(x + (onwards - x) * along, y, lift))
    knot = np.array([KNOT_X, 0.0])
    for side in (1, -1):
        start = np.array([EYELETS[-1][0], side * ASIDE])
        x, y = (start + (knot - start) * along[:, None]).T
        lift = np.interp(along, (0, 0.15, 0.6, 1), (-0.02, 0.03, 0.03, 0.035))
        paths.append(_draped(x, y + MIDDLE, lift))
    loop = np.array([(0, 0), (0.05, 0.09), (0.12, 0.165), (0.175, 0.205), (0.13, 0.235)])
    loop = np.array([*loop, (0.055, 0.195), (0.015, 0.11), (0, 0)])
    loose = np.array([(0, 0), (0.035, 0.03), (0.10, 0.055), (0.17, 0.105), (0.215, 0.155)])
    for corners, raised in ((loop, 0.036), (loose, 0.058)):
        for side in (1, -1):
            scale = (0.8, 0.95) if side == 1 else (0.85, -0.80)
            spline = CubicSpline(np.linspace(0, 1, len(corners)), knot + corners * scale)
            x, y = spline(np.linspace(0, 1, 160)).T
            far = np.linspace(0, 1, 160)
            lift = np.interp(far, (0, 0.15, 0.85, 1), (0.04, raised, raised, 0.04))
            paths.append(_draped(x, y + MIDDLE, lift))
    return paths


@cache
def _lace_tree(lost=None):
    """Tree of the laces' middle lines without a stretch (strand, start, end).

    Also the length along its strand in world units and whether it is a tip, of each place.
    """
    from scipy.spatial import cKDTree

    points, lengths, tips = [], [], []
    for number, path in enumerate(_strands()):
        share = np.linspace(0, 1, len(path))
        keep = np.ones(len(path), bool)
        if lost and lost[0] == number:
            keep = (share < lost[1]) | (share > lost[2])
        length = np.cumsum([0, *np.linalg.norm(np.diff(path, axis=0), axis=1)])
        fine = np.arange(0, length[-1], 0.003)
        kept = np.interp(fine, length, keep) > 0.5
        places = np.stack([np.interp(fine, length, path[:, k]) for k in range(3)], 1)
        points.append(places[kept])
        lengths.append(fine[kept])
        tips.append((fine > length[-1] - 0.065)[kept] & (number >= STRANDS + 4))
    return cKDTree(np.concatenate(points)), np.concatenate(lengths), np.concatenate(tips)


def _lost_stretch(defect):
    if not defect or defect["kind"] != "missing" or defect["part"] != STRETCH:
        return None
    return int(defect["strand"]), defect["start"], defect["end"]


def _lace(x, y, z, form, defect):
    """Distance of the laces with their knot; 0.1 far away."""
    value = np.full_like(form, 0.1)
    near = (form > -0.09) & (form < 0.12) & (np.abs(x - 0.1) < 0.32)
    near &= z > WELT + 0.1
    points = np.stack([x[near], y[near], z[near]], -1)
    away, _ = _lace_tree(_lost_stretch(defect))[0].query(points, distance_upper_bound=0.1)
    away = away.clip(0, 0.1) - LACE
    knot = points - _knot()
    knot = np.sqrt((knot[..., 0] / 0.8) ** 2 + (knot[..., 1] / 1.2) ** 2 + knot[..., 2] ** 2)
    value[near] = smooth_min(away, knot - 0.034, 0.008)
    return value


@cache
def _knot():
    return _above(KNOT_X, MIDDLE, 0.035)


def _throat(x, y):
    """Distance to the slot between the eyelets, seen from above."""
    start, end, half = SLOT
    return np.hypot(np.maximum(np.maximum(x - end, start - x), 0), y - MIDDLE) - half


def _collar(x, z):
    """Distance-like height above the collar's edge."""
    off = 0.01
    slope = (_curve(COLLAR, x + off) - _curve(COLLAR, x - off)) / (2 * off)
    return (z - _curve(COLLAR, x)) / np.sqrt(1 + slope * slope)


def _suede(x, y, z):
    """Distance-like value of where the suede lies on the upper; z without the toe's rise."""
    start, over, high = TOE_CAP
    toe = z - WELT - 0.01 - high * smoothstep((x - start) / over)
    start, over, high = COUNTER
    heel = z - WELT - 0.01 - high * smoothstep((start - x) / over)
    eyes = np.maximum(_throat(x, y) - EYESTAY, WELT + 0.12 - z)
    return np.minimum.reduce([toe, heel, eyes])


def _along_slit(x, y, z, defect):
    """Places along and across a cut and out of the surface, from its middle."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    normal = unit(np.array(defect["normal"]))
    along, across, out = (
        sum(v * n for v, n in zip(away, axis, strict=True))
        for axis in (*face_axes(normal, defect["angle"]), normal)
    )
    phase = defect["seed"] % 7
    wander = 0.010 * np.sin(19 * along + phase) + 0.003 * np.sin(120 * along - phase)
    return along, across + wander, out


def _slit(x, y, z, defect):
    """Distance-like value of what a cut opened."""
    along, across, out = _along_slit(x, y, z, defect)
    open_by = defect["width"] * np.sqrt((1 - (along / defect["length"]) ** 2).clip(0, 1))
    return both(np.abs(across) - open_by, np.abs(along) - defect["length"], np.abs(out) - 0.075)


def _lifted(x, y, z, defect):
    """How far one lip of a cut stands off."""
    along, across, out = _along_slit(x, y, z, defect)
    fade = (1 - (along / defect["length"]) ** 2).clip(0, 1) * smoothstep(1 - across / 0.08)
    return defect["lift"] * fade * (across > 0) * (np.abs(out) < 0.12)


def _rings(x, y, z, form, defect):
    """Distance-like values of the metal rings and of what is cut through for them."""
    rings, holes = np.full_like(form, 1), np.full_like(form, 1)
    lost = defect and defect["kind"] == "missing" and defect["part"] == RING
    radius, thick, open_ = EYELET
    for number, (a, b) in enumerate([*EYELETS, *VENTS]):
        if number < len(EYELETS):
            near = (np.abs(x - a) < 0.07) & (np.abs(y - MIDDLE - b * ASIDE) < 0.07) & (z > WELT)
            p, q = x[near] - a, y[near] - MIDDLE - b * ASIDE
        else:
            near = (np.abs(x - a) < 0.07) & (np.abs(z - b) < 0.07) & (y < 0)
            p, q = x[near] - a, z[near] - b
        reach, wide = np.hypot(p, q), open_
        if lost and defect["which"] == number:
            turn, phase = np.arctan2(q, p), defect["seed"] % 7
            wide = defect["radius"] * (
                1 + 0.12 * np.sin(3 * turn + phase) + 0.10 * np.sin(7 * turn)
            )
        else:
            lift = SUEDE_HIGH if number < len(EYELETS) else 0
            ring = np.hypot(reach - radius, form[near] - lift) - thick
            rings[near] = np.minimum(rings[near], ring)
        holes[near] = np.minimum(holes[near], reach - wide)
    return rings, np.maximum(holes, -0.06 - form)


def _peel(x, y, defect):
    """How far the sole stands off, 0..1."""
    if not defect or defect["kind"] != "peeled":
        return np.zeros_like(x)
    away = np.hypot(x - defect["centre"][0], y - defect["centre"][1]) / defect["length"]
    return smoothstep(1.4 * (1 - away))


def _unbent(x, y, z, outside, defect):
    """Height and distance to the outline where the sole's lip was before it peeled off."""
    if not defect or defect["kind"] != "peeled":
        return z, outside
    bent = smoothstep((z + 0.30) / 0.11) * smoothstep((outside + 0.16) / 0.14)
    bent = bent * _peel(x, y, defect)
    return z + defect["drop"] * bent, outside - 0.8 * defect["gap"] * bent


def _sole(x, y, z, form, outside, defect):
    """Distance-like values of the rubber sole and of its gum tread; z without the toe's rise."""
    peel, wave = _peel(x, y, defect), _plans()[1]
    z, outside = _unbent(x, y, z, outside, defect)
    first, last = RIBBED
    band = smoothstep((z - first) / 0.012) * smoothstep((last - z) / 0.012)
    ribs = _planned(wave, x, y)
    toe = smoothstep((x - 0.62) / 0.03)
    ribs = ribs * (1 - toe + 1.6 * toe * np.sin(2 * np.pi * (z - first) / 0.050))
    lines = sum(smoothstep(1 - np.abs(z - level) / 0.008) for level in (first - 0.012, -0.200))
    side = outside + 0.006 * band * (1 - ribs.clip(-0.7, 0.7) / 0.7) + 0.006 * lines
    side = side + 0.6 * ((z - LIP + 0.06).clip(0)) ** 2
    sole = -smooth_min(-side, LIP - z, 0.022)
    sole = np.maximum(sole, GUM - z)
    if defect and defect["kind"] == "peeled":
        deep = smoothstep((outside + 0.15) / 0.03)
        apart = np.where(peel * deep > 0.02, defect["gap"] * peel * deep, -1)
        sole = np.maximum(sole, np.minimum(apart - form, z - WELT + 0.01))
    heel = 0.035 * ((-0.70 - x).clip(0) / 0.25) ** 2
    low = z - GROUND - heel
    fold = np.abs((y / 0.17) % 1 - 0.5) * 0.17
    grooves = smoothstep((np.cos(2 * np.pi * (x + 1.1 * fold) / 0.088) - 0.15) / 0.3)
    middle, half = ARCH
    in_arch = smoothstep((half - np.abs(x - middle)) / 0.02)
    grooves = grooves * (1 - in_arch) + in_arch * (1 - smoothstep(0.5 - _lettered(x, y) / 0.006))
    border = smoothstep((-0.035 - outside) / 0.008)
    tread = -smooth_min(-outside - 0.004, low - 0.022 * grooves * border, 0.012)
    return sole, both(tread, z - GUM)


def _lettered(x, y):
    """Distance-like value of the letters below the arch, as deep as space."""
    return marked_face(_letter_image(), x - ARCH[0], y - MIDDLE, HALF_LETTERS, PX)


@cache
def _letter_image() -> np.ndarray:
    canvas = Canvas(HALF_LETTERS, PX)
    canvas.write(0, -0.05, 54, 255, "VARRO", 2)
    canvas.write(0, 0.06, 46, 255, "EU 42", 2)
    return ink_distance(canvas.image, PX)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of each part in the order of LOOKS, each as x."""
    x, y, z = (np.asarray(v, np.float32) for v in (x, y, z))
    kind = defect["kind"] if defect else None
    form, outside = _form(x, y, z), _planned(_plans()[0], x, y)
    flat = z - _rise(x)
    throat, collar = _throat(x, y), _collar(x, flat)
    slot = np.maximum(throat, WELT + 0.12 - flat)
    opened = np.minimum(slot, -collar)
    cover = form
    if kind == "cut":
        cover = form - _lifted(x, y, z, defect) * smoothstep((flat - LIP) / 0.05)
    rings, holes = _rings(x, y, flat, form, defect)
    bottom = WELT - 0.03 - flat
    shell = -smooth_min(-both(cover, bottom), opened, 0.010)
    shell = both(shell, -form - SHELL, -holes)
    suede = -smooth_min(SUEDE_HIGH - cover, -_suede(x, y, flat), 0.008)
    suede = both(-smooth_min(-suede, opened, 0.008), -form - 0.02, bottom, -holes)
    deep, thick = PAD
    padding = both(np.hypot(form + deep, collar) - thick, 0.01 - throat, x + 0.05, -0.02 - flat)
    start, end, half = TONGUE[:3]
    wide = half + 0.035 * smoothstep((-0.08 - x) / 0.12)
    plan = box(
        x - (start + end) / 2, (y - MIDDLE) * half / wide, 0 * x, ((end - start) / 2, half, 1), 0.05
    )
    soft = 0.018 + 0.012 * smoothstep((-0.12 - x) / 0.08)
    flap = -smooth_min(-plan, soft - np.abs(form + TONGUE[3]), 0.02)
    flap = np.maximum(flap, WELT + 0.12 - flat)
    sole, tread = _sole(x, y, flat, form, outside, defect)
    half, (low, high), out = TAB
    loop = box(0 * x, y, z - (low + high) / 2, (1, half, (high - low) / 2), 0.025)
    loop = both(
        -smooth_min(-loop, 0.5 * (out + 0.05) - np.abs(cover - (out - 0.05) / 2), 0.012), x + 0.6
    )
    if kind == "missing" and defect["part"] == TAB_LOST:
        loop = np.full_like(x, 9)
    insole = both(form + 0.02, flat - WELT - 0.05, bottom)
    if kind == "cut":
        slit = -_slit(x, y, z, defect)
        shell, suede, padding, loop = (np.maximum(v, slit) for v in (shell, suede, padding, loop))
    lace = _lace(x, y, z, form, defect)
    return shell, suede, padding, flap, sole, tread, lace, rings, loop, insole


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The shoe's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    flat, form = z - _rise(x), _form(x, y, z)
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    solid.normals = unit(solid.normals)
    mottle, grain = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points, 45, 3, 3)
    rough = np.stack([fractal_noise_3d(points, 60, seed, 2) for seed in (4, 5, 6)], 1)
    outer = form > -0.02
    _weave(solid, look, points, part, outer)
    nap = part == SUEDE
    look[nap, :3] *= (1 + 0.10 * mottle + 0.09 * grain)[nap, None]
    solid.normals[nap] += 0.12 * rough[nap]
    soft = np.isin(part, (PADDING, INSOLE))
    look[soft, :3] *= (1 + 0.05 * mottle + 0.10 * grain)[soft, None]
    solid.normals[soft] += 0.05 * rough[soft]
    rubber = np.isin(part, (SOLE, TREAD))
    look[rubber, :3] *= (1 + 0.03 * mottle + 0.015 * grain)[rubber, None]
    level, outside = _unbent(x, y, flat, _planned(_plans()[0], x, y), defect)
    look[(part == SOLE) & (np.abs(level + 0.200) < 0.006) & (outside > -0.015), :3] = INKS[1]
    lining = (part == FABRIC) & (form < -0.75 * SHELL) & (flat > WELT)
    look[lining] = LOOKS[PADDING]
    edge = _suede(x, y, flat)
    dash = np.sin(2 * np.pi * (x + 0.6 * flat * np.sign(y)) / 0.034) > -0.35
    sewn = (nap & (np.abs(edge + 0.020) < 0.0055)) | (nap & (np.abs(edge + 0.042) < 0.0055))
    sewn &= outer & (_throat(x, y) > 0.008) & (_collar(x, flat) < -0.02)
    look[sewn & dash, :3] = THREAD
    half, (low, high), _ = TAB
    frame = box(y, z - (low + high) / 2, 0 * y, (half - 0.013, (high - low) / 2 - 0.013, 1), 0.015)
    sewn = (part == LOOP) & (np.abs(frame) < 0.005) & (np.sin(2 * np.pi * (y + z) / 0.03) > -0.3)
    look[sewn, :3] = THREAD
    tree, lengths, tips = _lace_tree(_lost_stretch(defect))
    cord = part == LACES
    nearest = tree.query(points[cord])[1]
    braid = np.sin(2 * np.pi * lengths[nearest] / 0.020) * np.sin(40 * np.pi * (y - z)[cord])
    look[cord, :3] *= (1 + 0.14 * braid + 0.05 * grain[cord])[:, None]
    look[np.flatnonzero(cord)[tips[nearest]]] = (*TIP, 0, 0.3)
    ink = inked(points, part, defect)
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1] * (1 + 0.05 * grain[ink > 0, None])
    look[ink > 0, 4] = 0.6
    if defect:
        _spoil(look, points, part, form, defect)
    return solid.painted(look)


def _weave(solid, look, points, part, outer) -> None:
    """Threads of upper and tongue: their colour in `look` [N, 5] and their bumps in the normals."""
    woven = (part == FABRIC) & outer | (part == FLAP)
    x, y, z = points[woven].T
    y, z = y - MIDDLE, z - WELT + 0.05
    reach = np.hypot(y, z)
    pitch = 0.034
    a, b = 2 * np.pi * x / pitch, 2 * np.pi * 0.30 * np.arctan2(y, z) / pitch
    bump = np.cos(a) * np.cos(b)
    noise = fractal_noise_3d(points[woven], 25, 8, 3)
    fade = 1 + 0.24 * bump + 0.07 * noise
    look[woven, :3] *= fade[:, None]
    look[woven, :3] += (0.035 * (bump > 0.35))[:, None]  # the lighter of two yarns
    round_ = np.stack([0 * x, z / reach, -y / reach], 1)
    slope = np.sin(a) * np.cos(b), np.cos(a) * np.sin(b)
    solid.normals[woven] += 0.30 * (slope[0][:, None] * [1, 0, 0] + slope[1][:, None] * round_)


def _spoil(look, points, part, form, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z) = defect["kind"], points.T
    upper = np.isin(part, (FABRIC, SUEDE, PADDING, LOOP))
    if kind == "cut":
        near = _slit(x, y, z, defect) < 0.004
        inner = form < np.where(part == SUEDE, 0.006, -0.008)
        look[near & upper & inner] = (*FOAM, 0, 0.95)
        frayed = near & upper & ~inner
        look[frayed, :3] += 0.5 * (np.array(TORN) - look[frayed, :3])
    if kind == "missing" and defect["part"] == RING:
        _, holes = _rings(x, y, z - _rise(x), form, defect)
        look[(holes < 0.007) & upper & (form > -0.03)] = (*TORN, 0, 0.95)
    if kind == "missing" and defect["part"] == STRETCH:
        ends = np.array([defect["start"], defect["end"]])
        path = _strands()[int(defect["strand"])]
        for end in path[(ends * (len(path) - 1)).round().astype(int)]:
            frayed = (part == LACES) & (np.linalg.norm(points - end, axis=1) < 1.4 * LACE)
            look[frayed, :3] = TORN
    if kind == "missing" and defect["part"] == TAB_LOST:
        half, (low, high), _ = TAB
        where = (np.abs(y) < half - 0.01) & (z > low + 0.01) & (x < -0.6) & (form > -0.06)
        shown = where & np.isin(part, (FABRIC, SUEDE)) & (form > -0.01)
        look[shown, :3] += 0.35 * (np.array(CEMENT) - look[shown, :3])
    if kind == "peeled":
        bare = (_peel(x, y, defect) > 0.05) & (z - _rise(x) < LIP - 0.004)
        glued = smoothstep(0.6 + 0.6 * fractal_noise_3d(points, 18, defect["seed"], 3))
        under = bare & np.isin(part, (FABRIC, SUEDE))
        inside = (part == SOLE) & (_peel(x, y, defect) > 0.05) & (form < 2.2 * defect["gap"])
        inside &= _planned(_plans()[0], x, y) < -0.012
        look[inside, :3] = DIRT
        look[under, :3] += 0.8 * glued[under, None] * (np.array(CEMENT) - look[under, :3])
    if kind == "stain":
        _spill(look, points, defect)


def _spill(look, points, defect) -> None:
    """Mud in splashes; glue, oil and ink in spots, glue and oil a little run."""
    of, away = int(defect["of"]), points - np.array(defect["centre"])
    normal = unit(np.array(defect["normal"]))
    along, across, deep = (away @ v for v in (*face_axes(normal, defect["angle"]), normal))
    near = np.sqrt((along / 1.25) ** 2 + (across / 0.8) ** 2 + (0.6 * deep) ** 2)
    near = near / defect["radius"] + 0.17 * fractal_noise_3d(points, 11, defect["seed"], 2)
    near = near + 0.13 * fractal_noise_3d(points, 31, defect["seed"] + 2, 3)
    cover = smoothstep((1 - near) / (0.12 if of in (GLUE, INK) else 0.25))
    if of == MUD:
        speckled = smoothstep(0.9 + 0.8 * fractal_noise_3d(points, 38, defect["seed"] + 1, 3))
        cover = cover * speckled
    cover = (defect["cover"] * cover * (np.abs(deep) < 0.12))[:, None]
    *colour, roughness = SPILT[of]
    look += cover * (np.array([*colour, 0, roughness]) - look)


def inked(points, part, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] that belong to parts [N]: 0 or 1 + index in INKS, [N]."""
    ink, (x, y, z) = np.zeros(len(points), int), points.T
    form = _form(x, y, z)
    where = (part == FABRIC) & (y > 0.05) & (form > -0.01)
    misprint = defect if defect and defect["kind"] == "misprint" else None

    def logo(places):
        at = (places - [-LOGO[0], -LOGO[1]] + HALF_LOGO) * PX
        return picked(_logo_image(), *at.T)

    axes = ((-1, 0, 0), (0, 0, -1))
    moved = misprint if misprint and misprint["way"] != LEFT_OUT else None
    ink[where] = inked_face(logo, points[where], axes, moved)
    if misprint and moved is None:
        away = np.hypot(x - misprint["centre"][0], z - misprint["centre"][2]) / misprint["radius"]
        ragged = 0.15 * fractal_noise_3d(points, 16, misprint["seed"], 3)
        ink[where & (away + ragged < 0.9)] = 0
    where = (part == FLAP) & (form > -TONGUE[3])
    at = np.stack([y - BADGE[1] + HALF_BADGE[0], x - BADGE[0] + HALF_BADGE[1]], 1)[where] * PX
    ink[where] = picked(_badge_image(), *at.T)
    return ink


@cache
def _logo_image() -> np.ndarray:
    """What is printed on the outer side, bare at the edges, [rows, columns]."""
    canvas = Canvas(HALF_LOGO, PX)

    def slanted(left, right, top, bottom, ink):
        lean = 0.55
        corners = ((left, bottom), (right, bottom), (right, top), (left, top))
        places = [tuple(canvas.px(a - lean * (b - 0.02), b)) for a, b in corners]
        canvas.draw.polygon(places, ink)

    for k in range(4):  # bars of growing height, the last one of the other ink
        slanted(-0.19 + 0.08 * k, -0.14 + 0.08 * k, 0.0 - 0.033 * k, 0.02, 2 if k == 3 else 1)
    canvas.disc(0.165, -0.075, 0.034, 1)
    canvas.disc(0.165, -0.075, 0.018, 0)
    canvas.write(-0.01, 0.078, 44, 1, "VARRO")
    return canvas.inks()


@cache
def _badge_image() -> np.ndarray:
    """The label on the tongue, as it is read from the toe, [rows, columns]."""
    canvas = Canvas(HALF_BADGE, PX)
    half_y, half_x = HALF_BADGE
    canvas.rectangle(0.006 - half_y, 0.006 - half_x, half_y - 0.006, half_x - 0.006, 1)
    canvas.write(0, 0, 21, 2, "VARRO")
    return np.pad(canvas.inks(), 2)
