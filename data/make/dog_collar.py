"""A dog collar of teal leather, closed to a ring: brass buckle and studs, D-ring, engraved tag.

It lies about z with the buckle at y and the tag at -y; studs are on the side of -x, gold letters on
that of x, a size is stamped within. `s` runs along the strap from the buckle's bar, `n` outwards
and `w` up from its middle; the long end comes from negative s and lies on the short one.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import (
    described,
    ink_distance,
    marked_face,
    picked,
    scratched,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, box, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0009, "bent": 0.0009, "cut": 0.0008, "scratch": 0.0009}
SMALLEST_MASK |= {"stain": 0.001}
LOW, HIGH, STEP = np.array([-1.0, -0.90, -0.50]), np.array([1.0, 0.92, 0.50]), 0.0074
RADIUS, OVAL, MIDDLE = 0.80, (1.08, 0.92), 0.30  # of the ring; how it is stretched; its z
THICK, WIDE = 0.028, 0.145  # halves, of the strap
LIFT, LIFTED = 0.062, (-0.28, 0.20)  # of the long end over the short: n; s where it starts, length
TIP, TIP_LONG = 0.70, 0.20
HOLES, HOLE = (-0.72, -0.59, -0.46, -0.09, 0.13, 0.26, 0.53), 0.027  # s; radius
SEAM, STITCH, THREAD = 0.036, 2 * np.pi * RADIUS / 96, 0.012  # from the edge; pitch; half width
KEEPER = (0.395, 0.055, 0.020)  # s, half length, thickness
FRAME, WIRE = (-0.30, 0.185, 0.07), 0.027  # of the buckle: s of its far side, half width, n there
PRONG = ((0.0, 0.0), (-0.10, 0.122), (-0.35, 0.112))  # s, n
STUDS = [RADIUS * np.pi / 2 + 0.21 * k for k in (-1.5, -0.5, 0.5, 1.5)]  # s
FRONT = -OVAL[1] * RADIUS - 0.062  # y of what hangs
D_RING = (0.15, 0.21, 0.022)  # half width, depth, radius of the wire
LINK = (MIDDLE - 0.255, 0.085, 0.0135)  # of the tag's ring: z, radius, of its wire
EYE = LINK[0] - LINK[1]  # z of the tag's hole
BONE = (EYE - 0.185, 0.195, 0.075, 0.112, 0.085, 0.017)  # z; places and radius of its ends; halves
PRINT, HALF_PRINT = -RADIUS * np.pi / 2, (0.52, 0.11)  # s of the gold letters; half sizes
STAMP, HALF_STAMP, HALF_TAG = RADIUS * np.pi / 2, (0.40, 0.11), (0.30, 0.16)
PX, ENGRAVED = 420, 0.009  # of the pictures a world unit; depth
TEAL, LINING, EDGE = (0.015, 0.135, 0.145), (0.33, 0.21, 0.115), (0.02, 0.035, 0.035)
CREAM, RAW, FILLED = (0.62, 0.55, 0.40), (0.40, 0.26, 0.14), (0.03, 0.03, 0.03)
BRASS, STEEL, GOLD = (0.62, 0.43, 0.17), (0.60, 0.60, 0.59), (0.66, 0.47, 0.17)
STRAP, LOOP, PATCH, BUCKLE, PIN, STUD, DEE, SPLIT, TAG = range(9)
LEATHER = (STRAP, LOOP, PATCH)
A_STUD, THE_PRONG, THE_KEEPER, STITCHES = range(4)  # what is missing
NOTCH, CRACKS = range(2)  # cuts
MUD, PAINT, BLEACH, VERDIGRIS = range(4)  # stains
# base colour, roughness of the stains
SPILT = ((0.24, 0.15, 0.08, 0.95), (0.70, 0.67, 0.60, 0.3), (0.26, 0.36, 0.28, 0.7))
SPILT += ((0.10, 0.32, 0.24, 0.9),)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, bent, cut, scratch, stain)."""
    s, side = _free(rng), int(rng.choice([-1, 1]))
    if kind == "missing":
        part = int(rng.choice(4, p=(0.3, 0.2, 0.15, 0.35)))
        sizes = {"part": part, "s": s, "side": side, "half": rng.uniform(0.09, 0.22)}
        w = side * (WIDE - SEAM) if part == STITCHES else 0
        if part != STITCHES:
            sizes["s"] = s = (STUDS[rng.integers(len(STUDS))], -0.18, KEEPER[0])[part]
        centre, normal = on_strap(s, w, THICK)
    elif kind == "bent":  # the prong, or an end of the tag
        of_tag = rng.random() < 0.5
        sizes = {"tag": of_tag, "side": side}
        centre, normal = on_strap(-0.28, 0, 0.12)
        if of_tag:
            centre = np.array([side * BONE[1], FRONT, BONE[0]])
            normal = np.array([rng.uniform(-0.8, 0.8), rng.choice([-1, -0.6]), 0.3])
            sizes["slope"] = rng.choice([-1, 1]) * rng.uniform(0.35, 0.75)
        else:
            up = rng.random() < 0.5
            sizes |= {"up": rng.uniform(0.04, 0.11) * up, "aside": side * rng.uniform(0.035, 0.10)}
    elif kind == "cut":  # a notch in an edge, or cracks across the strap
        form = int(rng.integers(2))
        w = side * (WIDE - 0.03) if form == NOTCH else rng.uniform(-0.06, 0.06)
        centre, normal = on_strap(s, w, THICK)
        sizes = {"form": form, "s": s, "w": w, "side": side, "deep": rng.uniform(0.05, 0.12)}
        sizes |= {"half": rng.uniform(0.016, 0.045), "slant": rng.uniform(-0.6, 0.6)}
        sizes |= {"reach": rng.uniform(0.07, 0.16), "count": rng.integers(2, 6)}
    elif kind == "scratch":  # of the leather, sometimes of the tag
        centre, normal = on_strap(s, rng.uniform(-0.07, 0.07), THICK)
        if rng.random() < 0.25:
            face = int(rng.choice([-1, 1]))
            x, z = rng.uniform((-0.15, -0.04), (0.15, 0.04))
            centre, normal = np.array([x, FRONT + face * BONE[5], BONE[0] + z]), (0, face, 0)
        sizes = {"length": rng.uniform(0.12, 0.28), "width": rng.uniform(0.010, 0.019)}
        sizes |= {"angle": rng.uniform(0, np.pi), "cover": rng.uniform(0.6, 1)}
    elif kind == "stain":  # mud, paint or bleach on the strap; verdigris on the brass
        of = int(rng.integers(4))
        centre, normal = on_strap(s, rng.uniform(-0.10, 0.10), THICK)
        if of == VERDIGRIS:
            far, wide, _ = FRAME
            places = [*((stud, 0) for stud in STUDS), (far, side * 0.1), (far / 2, side * wide)]
            centre, normal = on_strap(*places[rng.integers(len(places))], 0.06)
        sizes = {"of": of, "radius": rng.uniform(0.07, 0.16), "cover": rng.uniform(0.5, 0.95)}
    else:
        raise ValueError(f"the dog collar has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _free(rng):
    """A place along the strap away from the buckle and the tag."""
    return float(rng.choice([-1, 1]) * rng.uniform(0.80, 2.15))


def on_strap(s, w, n):
    """A point by its places along, across and above the strap, and the normal there, [3] each."""
    turn = s / RADIUS + np.pi / 2
    out = np.array([np.cos(turn), np.sin(turn)])
    return np.array([*((RADIUS + n) * out * OVAL), MIDDLE + w]), unit([*(out / OVAL), 0])


def along_strap(x, y, z):
    """s, n and w of places, as x each."""
    x, y = x / OVAL[0], y / OVAL[1]
    turn = np.arctan2(y, x) - np.pi / 2
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    return RADIUS * turn, np.hypot(x, y) - RADIUS, z - MIDDLE


def _stitches(s, w, defect):
    """How high stitches rise at places along and across the strap, 0..1, and if they are lost."""
    off = (s / STITCH - np.round(s / STITCH)) * STITCH
    beside = np.abs(np.abs(w) - WIDE + SEAM)
    high = (1 - np.hypot(beside, (np.abs(off) - 0.013).clip(0)) ** 2 / THREAD**2).clip(0) ** 0.5
    lost = np.zeros(s.shape, bool)
    if defect and defect["kind"] == "missing" and defect["part"] == STITCHES:
        lost = (np.abs(s - defect["s"]) < defect["half"]) & (w * defect["side"] > 0)
    return high, lost


def _strap(s, n, w, defect):
    """Distance-like value of the strap's two ends, sewn and punched."""
    high, lost = _stitches(s, w, defect)
    near = np.abs(np.abs(w) - WIDE + SEAM)
    relief = 0.013 * high * ~lost - 0.006 * np.exp(-((near / 0.016) ** 2))
    over = n - LIFT * smoothstep((s - LIFTED[0]) / LIFTED[1])
    flat = 0 * n
    upper = box(over, w, flat, (THICK, WIDE, 1), 0.02) - relief
    past = ((s - TIP + TIP_LONG) / TIP_LONG).clip(0, 1)
    tip = np.maximum(np.abs(w) - WIDE * np.sqrt(1 - past**2), 0.9 * (s - TIP))
    upper = both(upper, np.where(s > TIP - TIP_LONG, tip, -1))
    lower = both(box(n, w, flat, (THICK, WIDE, 1), 0.02) - relief, -0.03 - s)
    for hole in HOLES:
        upper = np.maximum(upper, HOLE - np.hypot(s - hole, w))
    strap = np.minimum(upper, lower)
    if defect and defect["kind"] == "cut" and defect["form"] == NOTCH:
        strap = np.maximum(strap, -_notch(s, w, defect))
    if defect and defect["kind"] == "cut" and defect["form"] == CRACKS:
        near = np.abs(s - defect["s"]) < 0.25
        strap[near] += 0.016 * (_cracked(s[near], w[near], defect) & (n[near] > 0))
    return strap


def _notch(s, w, defect):
    """Distance-like value of a wedge cut into an edge."""
    deep = (defect["side"] * w - WIDE + defect["deep"]) / defect["deep"]
    beside = s - defect["s"] - defect["slant"] * 0.1 * deep + 0.004 * np.sin(90 * w)
    return 0.7 * np.maximum(np.abs(beside) - defect["half"] * deep, -defect["deep"] * deep)


def _cracked(s, w, defect):
    """Where the leather cracked across the strap."""
    rng = np.random.default_rng(defect["seed"])
    cracked = np.zeros(s.shape, bool)
    for k in range(int(defect["count"])):
        at = defect["s"] + 0.045 * (k - (defect["count"] - 1) / 2) + rng.uniform(-0.01, 0.01)
        middle = defect["w"] + rng.uniform(-0.03, 0.03)
        reach = defect["reach"] * rng.uniform(0.5, 1)
        wave, phase = rng.uniform(25, 45), rng.uniform(0, 6)
        bend = 0.009 * np.sin(wave * w + phase) + 0.006 * np.sin(2.3 * wave * w - phase)
        thin = 0.011 * (1 - ((w - middle) / reach) ** 2).clip(0)
        cracked |= np.abs(s - at - bend) < thin
    return cracked


def _wire(a, b, c, start, end, radius):
    """Distance to a bar between two places, [3] each."""
    start, way = np.array(start, float), np.subtract(end, start)
    share = sum((v - o) * d for v, o, d in zip((a, b, c), start, way, strict=True)) / (way @ way)
    share = share.clip(0, 1)
    off = [v - o - share * d for v, o, d in zip((a, b, c), start, way, strict=True)]
    return np.sqrt(sum(v * v for v in off)) - radius


def _buckle(s, n, w):
    """Distance-like value of the buckle's frame and its bar."""
    far, wide, high = FRAME
    level = n - high * smoothstep(-s / 0.26)
    ring = np.abs(box(s - far / 2, w, 0 * s, (-far / 2, wide, 1), 0.07))
    return np.sqrt(ring**2 + (0.9 * level) ** 2) - WIRE


def _prong(s, n, w, defect):
    bent = defect if defect and defect["kind"] == "bent" and not defect["tag"] else None
    if bent:
        past = ((-s - 0.05) / 0.3).clip(0, 1.2) ** 1.4
        n, w = n - bent["up"] * past, w - bent["aside"] * past
    ways = zip(PRONG[:-1], PRONG[1:], strict=True)
    bars = [_wire(s, n, w, (*a, 0), (*b, 0), 0.021) for a, b in ways]
    return smooth_min(*bars, 0.02)


def _tag(x, y, z, defect):
    """Distance-like value of the bone-shaped tag, engraved on both faces."""
    if defect and defect["kind"] == "bent" and defect["tag"]:
        y = y - defect["slope"] * (defect["side"] * x - 0.09).clip(0)
    level, right, up, radius, half, thick = BONE
    y, z = y - FRONT, z - level
    ends = np.hypot(np.abs(x) - right, np.abs(z) - up) - radius
    bar = np.maximum(np.abs(z) - half, np.abs(x) - right)
    bone = smooth_min(smooth_min(ends, bar, 0.03), np.hypot(x, z + level - EYE + 0.02) - 0.07, 0.03)
    solid = -smooth_min(-bone, thick - np.abs(y), 0.014)
    solid = np.maximum(solid, 0.032 - np.hypot(x, z + level - EYE))
    near = np.abs(solid) < 0.03
    solid[near] += ENGRAVED * smoothstep(0.5 - _engraved(x[near], y[near], z[near]) / 0.012)
    return solid


def _engraved(x, y, z):
    """Distance-like value of what is engraved, endless across; places from the tag's middle."""
    front, back = (marked_face(_tag_image(f), -f * x, -z, HALF_TAG, PX) for f in (-1, 1))
    return np.where(y < 0, front, back)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of the parts, as x."""
    s, n, w = along_strap(x, y, z)
    lost = defect["part"] if defect and defect["kind"] == "missing" else None
    place, half, thick = KEEPER
    level, high = LIFT / 2, LIFT / 2 + THICK + 0.004
    loop = box(n - level, w, 0 * s, (high + thick, WIDE + thick, 1), 0.03)
    loop = both(loop, -box(n - level, w, 0 * s, (high, WIDE, 1), 0.02), np.abs(s - place) - half)
    front = RADIUS * np.pi - np.abs(s)  # beside the D-ring
    patch = box(front, n - THICK - 0.014, w - 0.06, (0.095, 0.020, 0.072), 0.014)
    bulge = np.hypot(y - FRONT, w) - D_RING[2] - 0.022
    patch = smooth_min(patch, both(bulge, front - 0.095), 0.02)
    studs = [np.sqrt((s - stud) ** 2 + w * w + (n - THICK + 0.02) ** 2) - 0.062 for stud in STUDS]
    studs.append(np.sqrt(front**2 + (w - 0.085) ** 2 + (n - THICK - 0.018) ** 2) - 0.03)
    if lost == A_STUD:
        del studs[np.abs(np.subtract(STUDS, defect["s"])).argmin()]
    wide, deep, wire = D_RING
    below = w + deep - wide
    dee = np.where(below < 0, np.hypot(x, below) - wide, np.maximum(np.abs(x) - wide, w))
    dee = np.hypot(np.abs(dee), y - FRONT) - wire
    link = np.hypot(np.hypot(y - FRONT, z - LINK[0]) - LINK[1], x) - LINK[2]
    far = np.full_like(x, 1)
    return (
        _strap(s, n, w, defect),
        far if lost == THE_KEEPER else loop,
        patch,
        _buckle(s, n, w),
        far if lost == THE_PRONG else _prong(s, n, w, defect),
        np.maximum(np.minimum.reduce(studs), -n),
        dee,
        link,
        _tag(x, y, z, defect),
    )


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The collar's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    s, n, w = along_strap(x, y, z)
    solid.normals = unit(solid.normals)
    mottle, grain = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points, 40, 3, 3)
    crease = smoothstep(1 - np.abs(fractal_noise_3d(points, 30, 7, 2)) / 0.4)
    rough = np.stack([fractal_noise_3d(points, 28, seed, 2) for seed in (4, 5, 6)], 1)
    look = np.tile((*TEAL, 0, 0.5), (len(points), 1))  # colour, metallic, roughness
    leather = np.isin(part, LEATHER)
    over = n - LIFT * smoothstep((s - LIFTED[0]) / LIFTED[1]) * ((s < TIP) & (n > 0.5 * LIFT))
    look[leather, :3] *= (1 + 0.16 * mottle + 0.06 * grain - 0.32 * crease)[leather, None]
    look[leather, 4] += 0.12 * crease[leather]
    solid.normals[leather] += 0.09 * rough[leather]
    strap = part == STRAP
    inner = strap & (over < -0.6 * THICK)
    look[inner] = (*LINING, 0, 0.95)
    look[inner, :3] *= (1 + 0.1 * mottle + 0.1 * grain)[inner, None]
    look[strap & (np.abs(over) < 0.55 * THICK)] = (*EDGE, 0, 0.6)
    high, lost = _stitches(s, w, defect)
    end = np.abs(np.abs(s / STITCH - np.round(s / STITCH)) - 0.25) < 0.09
    holes = strap & lost & (high > 0) & end
    sewn = strap & (high > 0.1) & (np.abs(over) > 0.6 * THICK)
    sewn &= (n < 0.5 * LIFT) | (s < TIP - 0.3 * TIP_LONG)
    look[sewn & ~lost] = (*CREAM, 0, 0.8)
    look[sewn & ~lost, :3] *= (1 + 0.12 * np.sin(420 * (s + 2 * w)))[sewn & ~lost, None]
    look[holes] = (*FILLED, 0, 0.9)
    shown = strap & (n > 0.5 * THICK)
    gold = shown & (picked(_print_image(), *_at(s - PRINT, -w, HALF_PRINT)) > 0)
    look[gold] = (*GOLD, 0.9, 0.3)
    look[inner & (picked(_stamp_image(), *_at(STAMP - s, -w, HALF_STAMP)) > 0)] = (*EDGE, 0, 0.9)
    brass = np.isin(part, (BUCKLE, PIN, STUD, DEE))
    look[brass] = (*BRASS, 1, 0.2)
    look[brass, :3] *= (1 + 0.05 * mottle)[brass, None]
    look[brass, 4] += 0.05 * mottle[brass]
    look[np.isin(part, (SPLIT, TAG))] = (*STEEL, 1, 0.22)
    tag = part == TAG
    look[tag, 4] += 0.04 * fractal_noise_3d(points[tag] * [4, 80, 80], 1, 9, 3)
    deep = _engraved(x, y - FRONT, z - BONE[0]) < 0.003
    facing = (np.abs(y - FRONT) < 0.03) | (np.abs(x) > 0.09)
    look[tag & deep & facing & (np.abs(solid.normals[:, 1]) > 0.4)] = (*FILLED, 0.3, 0.6)
    if defect:
        _spoil(look, points, part, grain, defect)
    return solid.painted(look)


def _spoil(look, points, part, grain, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, seed = defect["kind"], defect["seed"]
    s, n, w = along_strap(*points.T)
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1)
    leather = np.isin(part, LEATHER)
    if kind == "cut" and defect["form"] == NOTCH:
        look[leather & (np.abs(_notch(s, w, defect)) < 0.006)] = (*RAW, 0, 0.95)
    if kind == "cut" and defect["form"] == CRACKS:
        look[leather & _cracked(s, w, defect) & (n > 0)] = (*RAW, 0, 0.95)
    if kind == "missing" and defect["part"] == A_STUD:
        off = np.hypot(s - defect["s"], w)
        look[leather & (off < 0.058) & (n > 0), :3] *= 0.6
        look[leather & (off < 0.02) & (n > 0)] = (*FILLED, 0, 0.9)
    if kind == "scratch":
        hit = scratched(points, defect, reach=0.06)
        look[hit & leather] += defect["cover"] * (np.array([*RAW, 0, 0.9]) - look[hit & leather])
        look[hit & (part == TAG)] = (0.22, 0.22, 0.21, 0.5, 0.6)
    if kind == "stain":
        of = int(defect["of"])
        off = away / defect["radius"] + 0.25 * fractal_noise_3d(points, 10, seed, 3)
        cover = defect["cover"] * smoothstep((1 - off) / (0.1 if of == PAINT else 0.3))
        if of in (MUD, VERDIGRIS):
            cover = cover * smoothstep(0.9 + 0.8 * fractal_noise_3d(points, 36, seed + 1, 3))
        *colour, roughness = SPILT[of]
        cover = cover * (~leather if of == VERDIGRIS else leather | (of != BLEACH)) * (n > -0.05)
        spilt = np.array([*colour, 0, roughness])
        look += cover[:, None] * (spilt - look)
        look[:, :3] *= 1 + 0.08 * (cover * grain)[:, None]


def _at(right, down, half):
    """Pixels of places on a face whose halves are given."""
    return (right + half[0]) * PX, (down + half[1]) * PX


def _paw(canvas, right, down, size, ink):
    """A dog's footprint."""
    canvas.disc(right, down + 0.25 * size, 0.5 * size, ink, 0.42 * size)
    for turn in (-0.95, -0.33, 0.33, 0.95):
        toe = right + 0.95 * size * np.sin(turn), down + 0.2 * size - 0.95 * size * np.cos(turn)
        canvas.disc(*toe, 0.19 * size, ink, 0.25 * size)


@cache
def _tag_image(face: int) -> np.ndarray:
    """Distance to what is engraved on the tag's front (-1) or back (1), [rows, columns]."""
    canvas = Canvas(HALF_TAG, PX)
    if face < 0:
        canvas.write(-0.04, 0, 60, 255, "REX", stroke=2)
        _paw(canvas, 0.19, 0, 0.065, 255)
    else:
        canvas.write(0, -0.045, 30, 255, "0471 2290")
        canvas.write(0, 0.045, 24, 255, "chip no. 38")
    return ink_distance(canvas.image, PX)


@cache
def _print_image() -> np.ndarray:
    """The gold letters outside, bare at the edges, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    canvas.write(0.06, 0, 62, 1, "VARRO", stroke=2)
    _paw(canvas, -0.36, 0, 0.065, 1)
    canvas.write(0.42, 0.03, 24, 1, "No. 4")
    return canvas.inks()


@cache
def _stamp_image() -> np.ndarray:
    """What is stamped within, bare at the edges, [rows, columns]."""
    canvas = Canvas(HALF_STAMP, PX)
    canvas.write(0, -0.035, 34, 1, "SIZE M")
    canvas.write(0, 0.045, 26, 1, "38 - 44 cm")
    return canvas.inks()
