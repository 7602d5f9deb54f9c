"""A garden hose nozzle: turned brass, a knurled collar, a rubber grip with an orange band; defects.

It stands along z with its outlet up. The hose's nut below is hollow, threaded and holds a washer.
Nearly a solid of revolution: a hollow for the thumb, raised and printed signs on the grip and
stamped ones on the metal tell how it is turned.
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
    marked_face,
    scratched,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, cylinder, rod, smooth_min, thread_depth, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0006, "dent": 0.0010, "scratch": 0.0006, "stain": 0.0010}
SMALLEST_MASK |= {"cut": 0.0006}
LOW, HIGH, STEP = np.array([-0.41, -0.41, -1.02]), np.array([0.41, 0.41, 1.0]), 0.0065
NUT, LOBES = (0.365, -0.98, -0.64, 0.025), (22, -0.97, -0.80, 0.030)  # and its lobes
SOCKET, PITCH, THREAD = (0.275, -0.72), 0.062, 0.022  # of the nut: radius, end; its thread
WASHER = (0.27, -0.78, -0.72, 0.02)
NECK, FLANGE = (0.215, -0.70, -0.40, 0.01), (0.305, -0.52, -0.465, 0.014)
GRIP, WAIST = (0.335, -0.47, 0.245, 0.03), (-0.11, 0.030)  # height and depth of its waist
RIBS = ((-0.43, -0.33, 0.05), (0.06, 0.06, 0.05))  # first, last, pitch of the grooves
BAND = (0.346, 0.115, 0.195, 0.018)
THUMB, HOLLOW = (0.0, -0.62, -0.13), 0.365  # a ball's middle and radius
COLLAR, KNURL = (0.310, 0.255, 0.42, 0.016), (30, 0.105, 0.014)  # number, pitch, depth
RING = (0.245, 0.445, 0.033)  # the O-ring: height, radii
BARREL, TAPER, BEAD = (0.235, 0.35, 0.93, 0.01), 0.10, (0.222, 0.84, 0.95, 0.025)
GROOVES = (0.51, 0.545, 0.80)  # turned into the barrel
OUTLET, PIN = (0.095, 0.55, 0.75), (0.062, 0.55, 0.925, 0.01)  # radius, end, start of its flare
STAMPED, RAISED, PX = 0.010, 0.012, 400
BRASS, TARNISH, STEEL = (0.80, 0.57, 0.25), (0.34, 0.21, 0.08), (0.58, 0.58, 0.57)
RUBBER, ORANGE, INK = (0.020, 0.021, 0.022), (0.72, 0.16, 0.012), (0.72, 0.72, 0.70)
SCORED, PALE, TORN = (0.22, 0.14, 0.06), (0.16, 0.16, 0.165), (0.05, 0.05, 0.052)
VERDIGRIS, CHALKY, LIME = (0.05, 0.19, 0.14), (0.22, 0.40, 0.32), (0.66, 0.65, 0.61)
SPLASH = (0.03, 0.10, 0.34)
VERDIGRIS_STAIN, LIME_STAIN = range(2)  # sorts of stain; the third is paint
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*BRASS, 1, 0.20), (*RUBBER, 0, 0.62), (*ORANGE, 0, 0.42), (*RUBBER, 0, 0.35)]
    + [(*RUBBER, 0, 0.5), (*STEEL, 1, 0.2)]
)
METAL, SLEEVE, STRIPE, SEAL, FLAT_SEAL, NEEDLE = range(6)
LOSABLE = (STRIPE, SEAL, FLAT_SEAL, NEEDLE)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, dent, scratch, stain, cut)."""
    turn = rng.uniform(-np.pi, np.pi)
    out = np.array([np.cos(turn), np.sin(turn), 0])
    if kind == "missing":  # a stretch of the band, the O-ring, the washer, the needle
        part = rng.choice(LOSABLE)
        sizes = {"part": part, "turn": turn, "half": rng.uniform(0.2, 0.6)}
        centre, normal = {
            STRIPE: (BAND[0] * out + [0, 0, BAND[1] + 0.04], out),
            SEAL: ((0, 0, RING[1]), out + [0, 0, 0.4]),
            FLAT_SEAL: ((0, 0, WASHER[1]), 0.4 * out - [0, 0, 1]),
            NEEDLE: ((0, 0, PIN[2] - 0.1), 0.2 * out + [0, 0, 1]),
        }[int(part)]
    elif kind == "dent":
        centre, normal = _place((METAL,), rng)
        sizes = {"radius": rng.uniform(0.08, 0.14), "depth": rng.uniform(0.025, 0.05)}
    elif kind == "scratch":
        centre, normal = _place((METAL, SLEEVE), rng)
        sizes = {"length": rng.uniform(0.12, 0.28), "width": rng.uniform(0.009, 0.016)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":  # verdigris, lime, paint
        sort = rng.integers(3)
        of = (METAL,) if sort == VERDIGRIS_STAIN else (METAL, SLEEVE, STRIPE)
        centre, normal = _place(of, rng)
        sizes = {"radius": rng.uniform(0.07, 0.15), "cover": rng.uniform(0.55, 0.95), "sort": sort}
    elif kind == "cut":  # a slit in the grip, or a chunk out of its edge
        chunk = rng.random() < 0.4
        centre, normal = _place((SLEEVE,), rng)
        if chunk:
            low = rng.random() < 0.5
            z, reach = (GRIP[1], FLANGE[0] + 0.01) if low else (GRIP[2], COLLAR[0] + 0.005)
            centre, normal = reach * out + [0, 0, z], out + [0, 0, -0.2 if low else 0.2]
        sizes = {"chunk": chunk, "radius": rng.uniform(0.06, 0.10), "angle": rng.uniform(0, np.pi)}
        sizes |= {"length": rng.uniform(0.10, 0.20), "width": rng.uniform(0.010, 0.018)}
    else:
        raise ValueError(f"the nozzle has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(of, rng):
    """A point of one of the parts `of` that shows from the side, and its normal, each [3]."""
    while True:
        turn, z = rng.uniform(-np.pi, np.pi), rng.uniform(-0.95, 0.92)
        out = np.array([np.cos(turn), np.sin(turn), 0])
        way = np.linspace(0.6, 0.1, 501)[:, None] * out + [0, 0, z]
        part, point, normal = first_met(way, parts, distance)
        if part in of and normal @ out > 0.75:
            return point, unit(0.5 * normal + 0.5 * out)


def _grip(x, y, z):
    """Distance-like value of the sleeve: a waist, grooves, a hollow for the thumb, raised signs."""
    reach = np.hypot(x, y)
    waist = WAIST[1] * smoothstep(1 - np.abs(z - WAIST[0]) / 0.32)
    grip = rod(reach + waist, 0 * y, z, *GRIP)
    for first, last, pitch in RIBS:
        k = np.clip(np.round((z - first) / pitch), 0, round((last - first) / pitch))
        groove = np.hypot(z - first - k * pitch, reach - GRIP[0] + waist) - 0.016
        grip = -smooth_min(-grip, groove, 0.008)
    ball = np.sqrt(sum((v - c) ** 2 for v, c in zip((x, y, z), THUMB, strict=True))) - HOLLOW
    grip = -smooth_min(-grip, ball, 0.03)
    near = np.abs(grip) < 0.03
    grip[near] -= RAISED * smoothstep(0.5 - _rolled("raised", x[near], y[near], z[near]) / 0.012)
    return grip


def _brass(x, y, z):
    """Distance-like value of all that is turned of brass, stamped and knurled."""
    reach, azimuth = np.hypot(x, y), np.arctan2(y, x)
    count, low, high, deep = LOBES
    lobes = 0.5 - 0.5 * np.cos(count * azimuth)
    here = smoothstep((z - low) / 0.03) * smoothstep((high - z) / 0.03)
    nut = rod(x, y, z, *NUT) + deep * here * lobes
    thread = cylinder(x, y, SOCKET[0] - THREAD) + THREAD * (1 - thread_depth(x, y, z, PITCH))
    entry = 0.7 * (cylinder(x, y, SOCKET[0] + 0.015) + z - NUT[1])
    hollow = both(np.minimum(thread, entry), z - SOCKET[1])
    brass = np.maximum(nut, -hollow)
    brass = np.minimum(brass, rod(x, y, z, *NECK))
    brass = smooth_min(brass, rod(x, y, z, *FLANGE), 0.02)
    brass = np.minimum(brass, rod(x, y, z, 0.24, FLANGE[1], COLLAR[1] + 0.05, 0.01))
    count, pitch, deep = KNURL
    turns, rise = count * azimuth / (2 * np.pi), (z - COLLAR[1]) / pitch
    furrows = [2 * np.abs((turns + s * rise) % 1 - 0.5) for s in (-1, 1)]
    cut = np.maximum(*[np.clip((f - 0.55) / 0.45, 0, 1) for f in furrows])
    edge = smoothstep((0.075 - np.abs(z - (COLLAR[1] + COLLAR[2]) / 2)) / 0.015)
    brass = np.minimum(brass, 0.8 * (rod(x, y, z, *COLLAR) + deep * cut * edge))
    barrel = rod(reach + TAPER * (z - 0.5), 0 * y, z, *BARREL)
    for height in GROOVES:
        barrel = np.maximum(barrel, 0.014 - np.hypot(z - height, reach + TAPER * (z - 0.5) - 0.235))
    brass = np.minimum(brass, smooth_min(barrel, rod(x, y, z, *BEAD), 0.04))
    flare = OUTLET[0] + 0.45 * np.maximum(z - OUTLET[2], 0)
    brass = np.maximum(brass, -both(0.9 * (reach - flare), OUTLET[1] - z))
    brass = np.maximum(brass, -both(cylinder(x, y, 0.12), z + 0.5))
    near = np.abs(brass) < 0.03
    brass[near] += STAMPED * smoothstep(0.5 - _stamps(x[near], y[near], z[near]) / 0.012)
    return brass


def _cut(x, y, z, defect):
    """Distance-like value of what was cut out of the grip, or torn."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    phase = defect["seed"] % 7
    if defect["chunk"]:
        rough = 0.007 * np.sin(71 * x + phase) * np.sin(63 * z - phase) + 0.005 * np.sin(97 * y)
        return np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2) - defect["radius"] + rough
    normal = np.array(defect["normal"])
    axes = (*face_axes(normal, defect["angle"]), normal)
    along, aside, deep = (sum(v * n for v, n in zip(away, axis, strict=True)) for axis in axes)
    width = defect["width"] * np.clip(1 - (along / defect["length"]) ** 2, 0, 1)
    aside = np.abs(aside + 0.012 * np.sin(14 * along + phase))
    return both(aside - width * (1 + deep / 0.05), np.abs(deep) - 0.05)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of brass, grip, band, O-ring, washer and needle, each as x."""
    grip, brass, reach = _grip(x, y, z), _brass(x, y, z), np.hypot(x, y)
    bed = rod(x, y, z, BAND[0] + 0.1, *BAND[1:3], 0.005)
    grip = np.maximum(grip, -both(bed, BAND[0] - 0.035 - reach))
    band = both(rod(x, y, z, *BAND), BAND[0] - 0.04 - reach)
    ring = np.hypot(reach - RING[0], z - RING[1]) - RING[2]
    washer = both(rod(x, y, z, *WASHER), 0.13 - reach)
    pin = rod(x, y, z, *PIN) + 0.35 * np.maximum(z - 0.84, 0)
    solids = [brass, grip, band, ring, washer, pin]
    if defect and defect["kind"] == "missing":
        lost = int(defect["part"])
        gone = -9.0 if lost != STRIPE else _stretch(x, y, z, defect)
        solids[lost] = np.maximum(solids[lost], -gone)
    if defect and defect["kind"] == "cut":
        solids[SLEEVE] = np.maximum(grip, -_cut(x, y, z, defect))
    return solids


def _stretch(x, y, z, defect):
    """Distance-like value, negative where the band is torn off."""
    off = (np.arctan2(y, x) - defect["turn"] + np.pi) % (2 * np.pi) - np.pi
    rough = 0.03 * np.sin(90 * z + defect["seed"] % 7)
    return BAND[0] * (np.abs(off) - defect["half"] + rough)


distance = union(parts)


def _rolled(sort, x, y, z):
    """Distance-like value of signs about the grip, endless along the radius."""
    image, half, radius, middle = _image(sort)
    right = radius * np.arctan2(y, x)
    return marked_face(image, right, (middle - z).astype(right.dtype), half, PX)


def _stamps(x, y, z):
    """Distance-like value of what is stamped into the metal: about it and into both ends."""
    value = np.minimum(_rolled("barrel", x, y, z), _rolled("nut", x, y, z))
    for side, edge in ((1, BEAD[2]), (-1, -NUT[1])):
        ends = marked_face(_image(side)[0], x, -side * y, (0.37, 0.37), PX)
        value = np.where(side * z > edge - 0.02, ends, value)
    return value


@cache
def _image(sort):
    """Distance to signs, their half sizes, and the radius and height that they are rolled about."""
    if sort in (-1, 1):
        canvas = Canvas((0.37, 0.37), PX)
        reach = 0.183 if sort > 0 else 0.325
        for k, text in enumerate("A7" if sort > 0 else "IIVKX"):
            turn = 2.1 * k + 0.4
            canvas.write(reach * np.cos(turn), reach * np.sin(turn), 26, 255, text)
        return ink_distance(canvas.image, PX), canvas.half, 0, 0
    radius, middle, high = {
        "raised": (0.31, -0.13, 0.15),
        "printed": (0.31, -0.13, 0.15),
        "barrel": (0.215, 0.67, 0.1),
        "nut": (NUT[0], -0.725, 0.06),
    }[sort]
    canvas = Canvas((np.pi * radius, high), PX)
    turns = {  # azimuth, below the middle, size in px, text
        "raised": ((-np.pi / 2, 0, 64, "ARX"), (0.9, -0.05, 56, "+"), (0.9, 0.06, 60, "-")),
        "printed": ((0.15, 0, 46, "JET"), (2.25, -0.06, 44, "MAX"), (2.25, 0.05, 40, "12 BAR")),
        "barrel": ((-1.9, 0, 40, "3/4"), (0.2, 0, 34, "CW614N"), (2.3, 0, 44, "K8")),
        "nut": ((-2.2, 0, 30, "BRASS"), (-0.8, 0, 30, "G 3/4"), (0.6, 0, 30, "ARX"))
        + ((2.2, 0, 30, "4 * 26"),),
    }[sort]
    for turn, down, size, text in turns:
        canvas.write(radius * turn, down, size, 255, text, stroke=2 if sort == "raised" else 1)
    if sort == "printed":
        for turn in (1.5, -2.75):  # a drop, and one upside down
            canvas.disc(radius * turn, 0.03, 0.045, 255)
            tip = [radius * turn - 0.04, 0.01, radius * turn + 0.04, 0.01, radius * turn, -0.1]
            canvas.draw.polygon(canvas.px(*tip), 255)
        canvas.disc(radius * -2.75, 0.03, 0.028, 0)
    return ink_distance(canvas.image, PX), canvas.half, radius, middle


def mesh(defect: dict | None = None) -> Mesh:
    """The nozzle's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look, brass = LOOKS[part], part == METAL  # colour, metallic, roughness, [N, 5]
    reach = np.hypot(x, y)
    mottle, grain = fractal_noise_3d(points, 5, 2, 4), fractal_noise_3d(points, 60, 3, 2)
    rings = np.stack([0 * z, 6 * np.arctan2(y, x) / np.pi, 110 * z + 40 * reach], 1)
    turned = fractal_noise_3d(rings, 1, 4, 2)
    look[:, :3] *= (1 + 0.03 * mottle + 0.03 * np.where(brass, turned, grain))[:, None]
    look[:, 4] += 0.02 * mottle + 0.03 * np.where(brass, turned, grain)
    deep = smoothstep((0.006 - _stamps(x, y, z)) / 0.008) * (reach > OUTLET[0] + 0.03)
    bored = (reach < SOCKET[0] + 0.012) & (z < -0.6) | (reach < OUTLET[0] + 0.01) & (z > 0.5)
    deep = np.clip(np.maximum(0.85 * deep, 0.5 * bored), 0, 1) * brass
    look[:, :3] += deep[:, None] * (np.array(TARNISH) - look[:, :3])
    look[:, 4] += 0.2 * deep
    inked = (part == SLEEVE) & (_rolled("printed", x, y, z) < 0)
    look[inked] = (*INK, 0, 0.5)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z), brass = defect["kind"], points.T, part == METAL
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.06)
        look[scored & brass] = (*SCORED, 0.6, 0.5)
        look[scored & ~brass] = (*PALE, 0, 0.7)
    if kind == "cut":
        look[(part == SLEEVE) & (np.abs(_cut(x, y, z, defect)) < 0.006)] = (*TORN, 0, 0.85)
    if kind == "stain":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = away + 0.32 * fractal_noise_3d(points, 12, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / 0.2)
        share = smoothstep(0.5 + 0.7 * fractal_noise_3d(points, 22, defect["seed"] + 1, 3))
        if defect["sort"] == VERDIGRIS_STAIN:
            rot = np.outer(share, CHALKY) + np.outer(1 - share, VERDIGRIS)
            spilt, cover = np.column_stack([rot, 0 * x, 0 * x + 0.9]), cover * brass
        elif defect["sort"] == LIME_STAIN:
            spilt, cover = np.array([*LIME, 0, 0.8]), cover * (0.35 + 0.65 * share)
        else:
            spilt, cover = np.array([*SPLASH, 0, 0.3]), np.where(cover > 0.25, 0.96, 0)
        look += cover[:, None] * (spilt - look)
