"""The shoe's parts: upper with suede, collar, tongue, laces, rings, sole, tab; broken or not.

The upper is a shell about a filled form (`shoe_form`).
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import face_axes, ink_distance, marked_face, union
from .mesh import both, box, smooth_min, unit
from .shoe_form import (
    WELT,
    above,
    curve,
    draped,
    form_distance,
    outline_distance,
    rib_wave,
    rise,
)

MIDDLE = 0.02  # y of the throat
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
RIBBED = (-0.292, -0.215)  # z of the ribs about the sole, from and to
ARCH = (-0.12, 0.20)  # x of the middle, half length of what carries letters below
PX = 400  # of the prints, per world unit
HALF_LETTERS = (0.18, 0.13)  # of the letters below the arch (x, y)
RING, STRETCH, TAB_LOST = range(3)  # what may be missing


@cache
def strands() -> list[np.ndarray]:
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
            paths.append(draped(x + (onwards - x) * along, y, lift))
    knot = np.array([KNOT_X, 0.0])
    for side in (1, -1):
        start = np.array([EYELETS[-1][0], side * ASIDE])
        x, y = (start + (knot - start) * along[:, None]).T
        lift = np.interp(along, (0, 0.15, 0.6, 1), (-0.02, 0.03, 0.03, 0.035))
        paths.append(draped(x, y + MIDDLE, lift))
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
            paths.append(draped(x, y + MIDDLE, lift))
    return paths


@cache
def lace_tree(lost=None):
    """Tree of the laces' middle lines without a stretch (strand, start, end).

    Also the length along its strand in world units and whether it is a tip, of each place.
    """
    from scipy.spatial import cKDTree

    points, lengths, tips = [], [], []
    for number, path in enumerate(strands()):
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


def lost_stretch(defect):
    if not defect or defect["kind"] != "missing" or defect["part"] != STRETCH:
        return None
    return int(defect["strand"]), defect["start"], defect["end"]


def _lace(x, y, z, form, defect):
    """Distance of the laces with their knot; 0.1 far away."""
    value = np.full_like(form, 0.1)
    near = (form > -0.09) & (form < 0.12) & (np.abs(x - 0.1) < 0.32)
    near &= z > WELT + 0.1
    points = np.stack([x[near], y[near], z[near]], -1)
    away, _ = lace_tree(lost_stretch(defect))[0].query(points, distance_upper_bound=0.1)
    away = away.clip(0, 0.1) - LACE
    knot = points - _knot()
    knot = np.sqrt((knot[..., 0] / 0.8) ** 2 + (knot[..., 1] / 1.2) ** 2 + knot[..., 2] ** 2)
    value[near] = smooth_min(away, knot - 0.034, 0.008)
    return value


@cache
def _knot():
    return above(KNOT_X, MIDDLE, 0.035)


def throat_distance(x, y):
    """Distance to the slot between the eyelets, seen from above."""
    start, end, half = SLOT
    return np.hypot(np.maximum(np.maximum(x - end, start - x), 0), y - MIDDLE) - half


def collar_distance(x, z):
    """Distance-like height above the collar's edge."""
    off = 0.01
    slope = (curve(COLLAR, x + off) - curve(COLLAR, x - off)) / (2 * off)
    return (z - curve(COLLAR, x)) / np.sqrt(1 + slope * slope)


def suede_distance(x, y, z):
    """Distance-like value of where the suede lies on the upper; z without the toe's rise."""
    start, over, high = TOE_CAP
    toe = z - WELT - 0.01 - high * smoothstep((x - start) / over)
    start, over, high = COUNTER
    heel = z - WELT - 0.01 - high * smoothstep((start - x) / over)
    eyes = np.maximum(throat_distance(x, y) - EYESTAY, WELT + 0.12 - z)
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


def slit_distance(x, y, z, defect):
    """Distance-like value of what a cut opened."""
    along, across, out = _along_slit(x, y, z, defect)
    open_by = defect["width"] * np.sqrt((1 - (along / defect["length"]) ** 2).clip(0, 1))
    return both(np.abs(across) - open_by, np.abs(along) - defect["length"], np.abs(out) - 0.075)


def _lifted(x, y, z, defect):
    """How far one lip of a cut stands off."""
    along, across, out = _along_slit(x, y, z, defect)
    fade = (1 - (along / defect["length"]) ** 2).clip(0, 1) * smoothstep(1 - across / 0.08)
    return defect["lift"] * fade * (across > 0) * (np.abs(out) < 0.12)


def rings_and_holes(x, y, z, form, defect):
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


def peeled(x, y, defect):
    """How far the sole stands off, 0..1."""
    if not defect or defect["kind"] != "peeled":
        return np.zeros_like(x)
    away = np.hypot(x - defect["centre"][0], y - defect["centre"][1]) / defect["length"]
    return smoothstep(1.4 * (1 - away))


def unbent(x, y, z, outside, defect):
    """Height and distance to the outline where the sole's lip was before it peeled off."""
    if not defect or defect["kind"] != "peeled":
        return z, outside
    bent = smoothstep((z + 0.30) / 0.11) * smoothstep((outside + 0.16) / 0.14)
    bent = bent * peeled(x, y, defect)
    return z + defect["drop"] * bent, outside - 0.8 * defect["gap"] * bent


def _sole(x, y, z, form, outside, defect):
    """Distance-like values of the rubber sole and of its gum tread; z without the toe's rise."""
    peel, ribs = peeled(x, y, defect), rib_wave(x, y)
    z, outside = unbent(x, y, z, outside, defect)
    first, last = RIBBED
    band = smoothstep((z - first) / 0.012) * smoothstep((last - z) / 0.012)
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
    """Distance-like values of each part in the order of `shoe.LOOKS`, each as x."""
    x, y, z = (np.asarray(v, np.float32) for v in (x, y, z))
    kind = defect["kind"] if defect else None
    form, outside = form_distance(x, y, z), outline_distance(x, y)
    flat = z - rise(x)
    throat, collar = throat_distance(x, y), collar_distance(x, flat)
    slot = np.maximum(throat, WELT + 0.12 - flat)
    opened = np.minimum(slot, -collar)
    cover = form
    if kind == "cut":
        cover = form - _lifted(x, y, z, defect) * smoothstep((flat - LIP) / 0.05)
    rings, holes = rings_and_holes(x, y, flat, form, defect)
    bottom = WELT - 0.03 - flat
    shell = -smooth_min(-both(cover, bottom), opened, 0.010)
    shell = both(shell, -form - SHELL, -holes)
    suede = -smooth_min(SUEDE_HIGH - cover, -suede_distance(x, y, flat), 0.008)
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
        slit = -slit_distance(x, y, z, defect)
        shell, suede, padding, loop = (np.maximum(v, slit) for v in (shell, suede, padding, loop))
    lace = _lace(x, y, z, form, defect)
    return shell, suede, padding, flap, sole, tread, lace, rings, loop, insole


distance = union(parts)
