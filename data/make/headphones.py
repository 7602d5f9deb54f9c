"""On-ear headphones: a thin bent band, steel arms, glossy cups with grilles; their defects.

Who wears them looks along -y: the left cup is at x. It has the socket and a lamp, the right one
three keys; the letters on the cloth within the cushions and the print on the band differ too.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import described, face_axes, open_place, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, rod, smooth_min
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0005, "crack": 0.0005, "tear": 0.0008, "scratch": 0.0005}
SMALLEST_MASK |= {"stain": 0.0007}
SIZE = 1.3  # all lengths below are in this many world units
LOW, HIGH = SIZE * np.array([-0.75, -0.33, -0.80]), SIZE * np.array([0.75, 0.33, 0.76])
STEP = 0.0079  # world units, as LOW and HIGH
RADIUS, MIDDLE = 0.615, 0.10  # of the band's arc; z of its middle
BAND, NARROWED = (0.019, 0.082), 0.026  # half thickness, half width; how much less at its ends
PAD, PAD_HALF = (0.80, 0.556), (0.042, 0.062)  # rad from the top, radius; half sizes
RIBS = 46  # of the pad, per rad
SLEEVE = (0.02, (0.031, 0.066, 0.105))  # z of its middle; half sizes
ARM, NOTCH = (0.0125, 0.030), 0.050  # half sizes across; pitch of its notches
HINGE, BARREL, CAP = -0.165, (0.034, 0.062), (0.025, 0.078)  # z; radii and half lengths
TILT, DROP = 0.13, 0.315  # of the cups, rad; from the hinge to a cup's middle
CUP, SHELL = 0.285, (-0.065, 0.095)  # radius; from and to, outwards
DOME, ROUNDING = 0.55, 0.05
RECESS, FLOOR, RING = 0.185, 0.046, (0.179, 0.211, 0.018)  # radius, depth; radii, height
HOLE, PITCH = 0.0135, 0.047  # of the grille
BADGE = (0.058, 0.026)  # radius, height over the grille
CUSHION = (0.186, -0.132, 0.088, 0.074)  # radius and place of its tube; half sizes
CLOTH = -0.10
KEYS, KEY = (-0.34, 0.0, 0.34), (0.026, 0.042)  # rad from y; half sizes
SOCKET, LAMP = (0.042, 0.022), 0.020  # radii
TEXT, PX = 0.97, 420  # half length of what is printed on the band; px per world unit
LETTER = (0.11, 0.11)
WHITE, MINT, GREY = (0.74, 0.735, 0.715), (0.40, 0.66, 0.58), (0.47, 0.455, 0.44)
STEEL, GOLD, WOVEN = (0.60, 0.60, 0.59), (0.75, 0.56, 0.26), (0.20, 0.205, 0.21)
INK, PALE_INK, SOOT, GLASS = (0.30, 0.32, 0.33), (0.62, 0.70, 0.67), (0.03,) * 3, (0.5, 0.12, 0.05)
FOAM, LINING = (0.66, 0.52, 0.25), (0.22, 0.19, 0.17)
SCORED, RESIDUE = (0.44, 0.43, 0.42), (0.50, 0.45, 0.33)
STAINS = ((0.52, 0.35, 0.24), (0.10, 0.14, 0.34), (0.60, 0.54, 0.34), (0.25, 0.23, 0.21))
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*WHITE, 0, 0.13), (*MINT, 0, 0.2), (*STEEL, 1, 0.24), (*GREY, 0, 0.42), (*WOVEN, 0, 0.9)]
    + [(*MINT, 0.25, 0.32), (*WHITE, 0, 0.2), (*GOLD, 1, 0.2), (*GLASS, 0, 0.12)]
)
HARD, COLOURED, METAL, SOFT, FABRIC, GRILLE, SMALL, GILT, LIT = range(9)
LOST_BADGE, LOST_KEY, LOST_RING, LOST_CAP = range(4)  # what may be missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, crack, tear, scratch, stain)."""
    side, turn = int(rng.choice([-1, 1])), rng.uniform(-np.pi, np.pi)
    sizes = {"side": side, "turn": turn}
    if kind == "missing":
        part = int(rng.integers(4))
        key, end = rng.choice(KEYS), int(rng.choice([-1, 1]))
        sizes |= {"part": part, "key": key, "end": end, "half": rng.uniform(0.3, 0.8)}
        sizes["side"] = -1 if part == LOST_KEY else side
        middle = (RING[0] + RING[1]) / 2
        centre, normal = [
            (_on_cup(SHELL[1], 0, 0, side), (side, rng.uniform(-0.5, 0.5), 0.2)),
            (_on_cup(0, CUP * np.cos(key), CUP * np.sin(key), -1), (-0.5, 1, np.sin(key))),
            (
                _on_cup(SHELL[1] - 0.02, middle * np.cos(turn), middle * np.sin(turn), side),
                (side, 0.3 * np.cos(turn), 0.2),
            ),
            ((side * RADIUS, end * CAP[1], HINGE), (0.5 * side, end, 0.2)),
        ][part]
    elif kind == "crack":  # through the band, often by its ends
        turn = rng.choice([-1, 1]) * (1.38 - 0.7 * rng.random() ** 2)
        centre = RADIUS * np.sin(turn), 0, MIDDLE + RADIUS * np.cos(turn)
        normal = (np.sin(turn), rng.uniform(-0.9, 0.9), 0.4 + np.cos(turn))
        sizes |= {"turn": turn, "gap": rng.uniform(0.006, 0.012), "slant": rng.uniform(-0.5, 0.5)}
    elif kind == "tear":  # a slit in a cushion, or its leatherette flaked off
        out = rng.uniform(-0.8, 1.4)  # over its round, from the head's side outwards
        radius, place, wide, deep = CUSHION
        reach = radius + wide * np.sin(out)
        centre = _on_cup(
            place - deep * np.cos(out), reach * np.cos(turn), reach * np.sin(turn), side
        )
        normal = _on_cup(-np.cos(out), np.sin(out) * np.cos(turn), np.sin(out) * np.sin(turn), side)
        normal = normal - _on_cup(0, 0, 0, side)
        sizes |= {"flaked": rng.random() < 0.5, "radius": rng.uniform(0.06, 0.12)}
        sizes |= {"length": rng.uniform(0.07, 0.15), "width": rng.uniform(0.012, 0.024)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "scratch":
        centre, normal = _open_place(rng, (HARD, COLOURED))
        sizes = {"length": rng.uniform(0.08, 0.20), "width": rng.uniform(0.007, 0.013)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":  # make-up, ink, glue, dirt
        centre, normal = _open_place(rng, (HARD, COLOURED, SOFT, SOFT, GRILLE))
        sizes = {"radius": rng.uniform(0.05, 0.13), "cover": rng.uniform(0.35, 0.9)}
        sizes["sort"] = rng.integers(len(STAINS))
    else:
        raise ValueError(f"the pair of headphones has no defect {kind!r}")
    return described(kind, SIZE * np.array(centre), normal, int(rng.integers(1 << 30)), sizes)


def _open_place(rng, of):
    """A point of one of the parts `of` that shows from a side, and its normal, each [3]."""
    at, normal = open_place(rng, of, parts, distance, (LOW, HIGH), steps=501, facing=0.6)
    return at / SIZE, normal


def _centre(defect):
    return np.array(defect["centre"]) / SIZE


def _on_cup(u, y, v, side):
    """The point [3] of a cup at u outwards, and at y and v (up) from its middle."""
    w = v - DROP
    out = RADIUS + np.cos(TILT) * u + np.sin(TILT) * w
    return np.array([side * out, y, HINGE - np.sin(TILT) * u + np.cos(TILT) * w])


def _in_cup(x, z):
    """u and v of either cup, as x."""
    out, up = np.abs(x) - RADIUS, z - HINGE
    return np.cos(TILT) * out - np.sin(TILT) * up, np.sin(TILT) * out + np.cos(TILT) * up + DROP


def _on_band(x, z):
    """Off the band's middle, along it from the top; as x."""
    up = z - MIDDLE
    off = np.where(up > 0, np.hypot(x, up), np.abs(x)) - RADIUS
    along = np.arctan2(np.abs(x), np.maximum(up, 0)) * RADIUS - np.minimum(up, 0)
    return off, np.sign(x) * along


def _lost(defect, part):
    return bool(defect and defect["kind"] == "missing" and defect["part"] == part)


def _cracked(y, along, off, defect):
    """Distance-like value of the rough sheet along which the band is cracked."""
    phase = defect["seed"] % 7
    rough = 0.007 * np.sin(67 * y + phase) + 0.004 * np.sin(151 * y + 60 * off - phase)
    return np.abs(along - defect["turn"] * RADIUS - defect["slant"] * y - rough) / 1.15


def _holes(y, v):
    """Distance to the rims of the grille's holes, negative within them."""
    rows = np.round(v / (0.866 * PITCH))
    shift = 0.5 * (rows % 2)
    across = y / PITCH - shift
    near = np.hypot((across - np.round(across)) * PITCH, v - rows * 0.866 * PITCH)
    reach = np.hypot(y, v)
    return np.where((reach < RECESS - 0.022) & (reach > BADGE[0] + 0.016), near, 1) - HOLE


def _slit(x, y, z, defect):
    """Distance-like value of a lens-shaped slit's outline about a tear's centre."""
    normal = np.array(defect["normal"])
    along, across = face_axes(normal, defect["angle"], (0.31, 0.87, 0.38))
    away = [a - c for a, c in zip((x, y, z), _centre(defect), strict=True)]
    long, wide, deep = (
        sum(a * n for a, n in zip(away, axis, strict=True)) for axis in (along, across, normal)
    )
    half = defect["width"] * (1 - (long / defect["length"]) ** 2)
    return np.maximum(np.abs(wide + 0.012 * np.sin(23 * long)) - half, np.abs(deep) - 0.045)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of the parts, in the order of their looks, each as x."""
    x, y, z = (np.asarray(v) / SIZE for v in (x, y, z))
    above, below = z > -0.2, (z < -0.1) & (np.abs(x) > 0.27)
    values = np.ones((len(LOOKS), *np.shape(x)), np.float32)
    values[:4, above] = _bent(x[above], y[above], z[above], defect)
    values[:, below] = np.minimum(values[:, below], _cups(x[below], y[below], z[below], defect))
    return tuple(values)


def _bent(x, y, z, defect):
    """Distance-like values of the band, the sleeves, the arms and the pad, [4, N]."""
    (off, along), up = _on_band(x, z), z - MIDDLE
    wide = BAND[1] - NARROWED * np.abs(along) / (0.5 * np.pi * RADIUS)
    band = box(off, y * BAND[1] / wide, np.minimum(up + 0.02, 0), (*BAND, 0.02), 0.014)
    if defect and defect["kind"] == "crack":
        band = np.maximum(band, defect["gap"] - _cracked(y, along, off, defect))
    angle = along / RADIUS
    past = np.maximum(np.abs(angle) - PAD[0] + 0.08, 0) * RADIUS
    puffed = PAD_HALF[0] + 0.006 * np.abs(np.sin(RIBS / 2 * angle)) ** 0.6
    pad = box(off + RADIUS - PAD[1], y, past, (puffed, PAD_HALF[1], 0.05), 0.036)
    pad = np.where(up > 0, pad, 1)
    height, half = SLEEVE
    sleeve = box(off, y, z - height, half, 0.022)
    notch = np.hypot(np.abs(y) - ARM[1] - 0.004, (z / NOTCH - np.round(z / NOTCH)) * NOTCH) - 0.012
    arm = box(off, y, z + 0.05, (*ARM, 0.125), 0.005)
    return np.array([band, sleeve, np.maximum(arm, -np.where(z > HINGE + 0.05, notch, 1)), pad])


def _cups(x, y, z, defect):
    """Distance-like values of all parts of the cups, [9, N]."""
    (u, v), off = _in_cup(x, z), np.abs(x) - RADIUS
    reach, turn = np.hypot(y, v), np.arctan2(v, y)
    radius, long = BARREL
    hinge = np.hypot(off, z - HINGE)
    barrel = both(hinge - radius, np.abs(y) - long)
    caps = both(hinge - CAP[0], np.abs(y) - CAP[1])
    if _lost(defect, LOST_CAP):
        here = (defect["side"] * x > 0) & (defect["end"] * y > 0)
        caps = np.where(here, 1, caps)
        barrel = np.where(here, np.maximum(barrel, -both(hinge - 0.023, 0.03 - np.abs(y))), barrel)
    top = SHELL[1] - DOME * reach * reach
    rim = -smooth_min(CUP - reach, np.minimum(top - u, u - SHELL[0]), ROUNDING)
    shell = smooth_min(rim, barrel, 0.03)
    level = SHELL[1] - FLOOR
    holes = both(_holes(y, v), level - 0.022 - u)
    recess = np.minimum(both(reach - RECESS, level - u), holes)
    groove = np.hypot(reach - CUP, u + 0.012) - 0.010
    left = x > 0
    socket = np.where(left, np.hypot(y, u - 0.01), 1)
    bore = both(socket - SOCKET[1], v + CUP - 0.10)
    gilt = both(socket - SOCKET[0], SOCKET[1] - socket, v + 0.20, -v - CUP - 0.012)
    lamp = np.where(left, np.hypot(v, u - 0.02), 1)
    shell = np.maximum.reduce([shell, -recess, -groove, -bore])
    lit = both(lamp - LAMP, np.abs(reach - CUP + 0.02) - 0.027) + 1.0 * (y < 0)
    keys, wells = np.ones_like(x), np.ones_like(x)
    for place in KEYS:
        on = (turn - place) * CUP
        well = box(on, u - 0.015, 0 * x, (KEY[1] + 0.008, KEY[0] + 0.008, 1), 0.016)
        well = np.where(left | (y < 0), 1, well)
        wells = np.minimum(wells, both(well, CUP - 0.035 - reach))
        if not (_lost(defect, LOST_KEY) and abs(place - defect["key"]) < 0.1):
            keys = np.minimum(keys, -smooth_min(-well - 0.009, CUP + 0.014 - reach, 0.014))
    shell = np.maximum(shell, -wells)
    keys = np.maximum(keys, CUP - 0.06 - reach)
    inner, outer, high = RING
    ring = both(np.abs(reach - (inner + outer) / 2) - (outer - inner) / 2, u - top - high)
    ring = -smooth_min(-ring, u - 0.03, 0.008)
    if _lost(defect, LOST_RING):
        gone = np.abs(np.angle(np.exp(1j * (turn - defect["turn"])))) - defect["half"]
        gone = gone + 0.02 * np.sin(140 * reach + defect["seed"] % 7)
        here = defect["side"] * x > 0
        ring = np.where(here, np.maximum(ring, -0.19 * gone), ring)
        slot = both(np.abs(reach - (inner + outer) / 2) - 0.014, 0.19 * gone, 0.052 - u)
        shell = np.where(here, np.maximum(shell, -slot), shell)
    plate = both(reach - RECESS - 0.004, u - level - 0.010, level - 0.03 - u)
    grille = np.maximum(plate, -holes)
    badge = rod(y, v, u, BADGE[0], level, level + BADGE[1], 0.010)
    if _lost(defect, LOST_BADGE):
        badge = np.where(defect["side"] * x > 0, 1, badge)
    small = np.minimum(badge, keys)

    radius, place, half, deep = CUSHION
    wrinkled = 0.0022 * np.sin(34 * turn + 3 * np.sin(5 * turn)) * smoothstep((0.20 - reach) / 0.05)
    tube = ((np.abs(reach - radius) / half) ** 2.5 + (np.abs(u - place) / deep) ** 2.5) ** 0.4
    cushion = (tube - 1) * 0.9 * deep + wrinkled
    seam = np.hypot(reach - radius - half, u - place - 0.02) - 0.009
    soft = np.maximum(cushion, -seam)
    if defect and defect["kind"] == "tear":
        if defect["flaked"]:
            soft = soft + 0.006 * smoothstep((0.02 - _flaked(x, y, z, defect)) / 0.04)
        else:
            soft = np.maximum(soft, -_slit(x, y, z, defect))
    weave = 0.0015 * np.sin(160 * y) * np.sin(160 * v)
    cloth = both(reach - radius, np.abs(u - CLOTH) - 0.02 + weave)
    return np.array([shell, ring, caps, soft, cloth, grille, small, gilt, lit])


distance = union(parts)


def _flaked(x, y, z, defect):
    """Negative where the leatherette came off, about from -1."""
    away = np.stack([x, y, z], -1) - _centre(defect)
    points = away.reshape(-1, 3)
    value = np.ones(len(points), np.float32)
    reach = np.linalg.norm(points, axis=1) / defect["radius"]
    near = reach < 1.6
    value[near] = reach[near] - 0.9
    value[near] += 0.35 * fractal_noise_3d(points[near], 19, defect["seed"], 3)
    return value.reshape(np.shape(x))


def mesh(defect: dict | None = None) -> Mesh:
    """The headphones' surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    points = points / SIZE
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    off, along = _on_band(x, z)
    u, v = _in_cup(x, z)
    side = np.sign(x)
    grain = fractal_noise_3d(points, 55, 3, 3)
    pliant = (part == SOFT) | (part == FABRIC)
    look[:, :3] *= (1 + np.where(pliant, 0.06, 0.008) * grain)[:, None]
    look[:, 4] += np.where(pliant, 0.05, 0.012) * grain
    behind = (u > 0) & (u < SHELL[1] - FLOOR + 0.004) & (part != SMALL)
    look[behind & (_holes(y, v) < 0.003)] = (*SOOT, 0, 0.8)
    for outer in (True, False):
        right, down = along if outer else -along, -y
        ink = picked(_band_print(outer), (right + TEXT) * PX, (down + BAND[1]) * PX) > 127
        face = (off > BAND[0] - 0.004) if outer else (off < 0.004 - BAND[0])
        look[(part == HARD) & face & (np.abs(along) < TEXT) & (z > MIDDLE) & ink] = (*INK, 0, 0.4)
    for ear in (-1, 1):
        here = (side == ear) & (np.hypot(y, v) < 0.10)
        right, down = (LETTER[0] - ear * y) * PX, (LETTER[1] - v) * PX
        letter = picked(_letter("L" if ear > 0 else "R", 78), right, down) > 127
        look[here & (part == FABRIC) & letter] = (*PALE_INK, 0, 0.8)
        right = (LETTER[0] + ear * y) * PX
        sign = picked(_letter("A", 34), right, down) > 127
        look[here & (part == SMALL) & sign & (u > 0.05)] = (*INK, 0, 0.4)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z) = defect["kind"], points.T
    away = np.linalg.norm(points - _centre(defect), axis=1)
    if _lost(defect, LOST_BADGE):
        u, v = _in_cup(x, z)
        blot = 0.02 * fractal_noise_3d(points, 30, defect["seed"], 3)
        glued = (np.hypot(y, v) < 0.042 + blot) & (defect["side"] * x > 0) & (part == GRILLE)
        look[glued & (u > 0)] = (*RESIDUE, 0, 0.6)
    if _lost(defect, LOST_KEY):
        u, v = _in_cup(x, z)
        look[(part == HARD) & (np.hypot(y, v) < CUP - 0.02) & (away < 0.06)] = (*SOOT, 0, 0.7)
    if _lost(defect, LOST_CAP):
        hole = np.hypot(np.abs(x) - RADIUS, z - HINGE) < BARREL[0] - 0.008
        look[hole & (away < 0.08)] = (*SOOT, 0, 0.7)
    if kind == "crack":
        off, along = _on_band(x, z)
        near = _cracked(y, along, off, defect) - defect["gap"]
        stress = smoothstep((0.020 + 0.008 * fractal_noise_3d(points, 40, 5, 2) - near) / 0.016)
        cover = (0.6 * stress * (part == HARD) * (away < 0.13))[:, None]
        look += cover * (np.array([*SCORED, 0, 0.6]) - look)
    if kind == "tear":
        if defect["flaked"]:
            bare = smoothstep((0.03 - _flaked(x, y, z, defect)) / 0.05) * (part == SOFT)
            look += bare[:, None] * (np.array([*LINING, 0, 0.95]) - look)
        else:
            inside = (np.abs(_slit(x, y, z, defect)) < 0.007) & (part == SOFT)
            look[inside] = (*FOAM, 0, 0.95)
            look[inside, :3] *= (1 + 0.15 * fractal_noise_3d(points[inside], 60, 2, 2))[:, None]
    if kind == "scratch":
        look[scratched(points, {**defect, "centre": _centre(defect)}, reach=0.03)] = (
            *SCORED,
            0,
            0.6,
        )
    if kind == "stain":
        edge = away / defect["radius"] + 0.35 * fractal_noise_3d(points, 13, defect["seed"], 4)
        cover = (defect["cover"] * smoothstep((1 - edge) / 0.25))[:, None]
        look += cover * (np.array([*STAINS[int(defect["sort"])], 0, 0.4]) - look)


@cache
def _band_print(outer: bool) -> np.ndarray:
    """What is printed along the band outside or inside, [rows, columns]."""
    canvas = Canvas((TEXT, BAND[1]), PX)
    if outer:
        canvas.write(-0.34, 0, 40, 255, "ARX AIR", stroke=1)
        canvas.write(0.42, 0, 22, 255, "on-ear 40", stroke=1)
        canvas.disc(0.0, 0, 0.02, 255)
    else:
        canvas.write(-0.70, -0.02, 20, 255, "32 ohm")
        canvas.write(-0.70, 0.03, 20, 255, "No 4071")
        canvas.write(0.70, 0, 26, 255, "ARX")
    return np.asarray(canvas.image)


@cache
def _letter(text: str, height: int) -> np.ndarray:
    """A letter in the middle of its square, [rows, columns]."""
    canvas = Canvas(LETTER, PX)
    canvas.write(0, 0, height, 255, text, stroke=2)
    return np.asarray(canvas.image)
