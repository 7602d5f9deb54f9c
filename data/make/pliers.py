"""Combination pliers, half open: black forged jaws, a polished rivet, red and blue grips; defects.

They lie in the xz plane, jaws towards x. The half whose jaw is above lies in front (-y) at the
rivet; what is raised on the grips and etched into the jaws tells sides and halves apart.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .halves import Halves
from .lights import smoothstep
from .marks import (
    described,
    face_axes,
    ink_distance,
    marked_face,
    open_place,
    picked,
    scratched,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, cylinder, rod, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0015, "chip": 0.0006, "cut": 0.0004, "corrosion": 0.001}
SMALLEST_MASK |= {"scratch": 0.0005}
LOW, HIGH, STEP = np.array([-1.05, -0.125, -0.60]), np.array([1.02, 0.125, 0.60]), 0.0062
PIVOT = 0.42  # x of the rivet
HALVES = Halves(PIVOT, turn=0.17)
SIDES = (1, -1)  # the half whose jaw is above, in front; the other, at the back
JOINT, DEEP = 0.180, 0.094  # radius; half depth of the pliers there
TIP, JAW = 0.54, (0.200, 0.085)  # u of the jaws' ends; their height at the joint and there
CUTTER, PIPE, PIPE_HALF = 0.21, 0.295, (0.070, 0.046)  # from here to the joint; middle, half sizes
TOOTH, TOOTH_DEEP = 0.026, 0.010
ARM, ARM_END = 0.050, -1.33  # half width; u
RIVET, RIM = 0.088, (0.014, 0.012)  # radius; how proud, half width of the ring turned into it
GRIP, GRIP_START, GRIP_END = (0.096, 0.086), -0.30, -1.44  # half width, half depth; u
GUARD = (-0.355, 0.045, 0.042)  # u, half length, height
RIBS = (-1.16, -0.50, 0.060, 0.016)  # u from, to; pitch, depth
FACE, FACE_U, FACE_Q, PX = (0.22, 0.055), -0.72, 0.028, 500  # of the raised letters
RAISED = 0.012
ETCHED_AT, ETCHED = (0.37, 0.092), (0.13, 0.045)  # u, v; half sizes
TEXTS = {(1, -1): "ARX", (1, 1): "180 mm", (-1, -1): "PRO", (-1, 1): "1000 V"}  # half, face
BLACK, GROUND, POLISHED = (0.060, 0.060, 0.066), (0.50, 0.495, 0.48), (0.64, 0.63, 0.61)
RED, BLUE, WHITE = (0.52, 0.022, 0.018), (0.020, 0.060, 0.26), (0.74, 0.74, 0.72)
SILVER, BROKEN = (0.40, 0.40, 0.39), (0.36, 0.355, 0.34)
TORN, PALE, BRIGHT = (0.62, 0.22, 0.18), (0.62, 0.42, 0.42), (0.50, 0.49, 0.47)
RUST, DARK_RUST = (0.30, 0.105, 0.028), (0.13, 0.05, 0.02)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array([(*BLACK, 0.9, 0.36), (*POLISHED, 1, 0.12), (*RED, 0, 0.22), (*BLUE, 0, 0.5)])
STEEL, BOLT, HARD, SOFT = range(4)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, chip, cut, corrosion, scratch)."""
    side, face = int(rng.choice(SIDES)), int(rng.choice([-1, 1]))
    sizes = {"side": side}
    if kind == "missing":  # the rivet, the end of a grip
        sizes |= {"rivet": rng.random() < 0.4, "cut": rng.uniform(-1.34, -1.20)}
        sizes["slant"] = rng.uniform(-0.6, 0.6)
        centre, normal = _place(sizes["cut"] - 0.05, 0, 0, side), (-0.3, face, 0.3 * -side)
        if sizes["rivet"]:
            centre, normal = (PIVOT, 0, 0), (rng.uniform(-0.3, 0.3), face, 0.2)
    elif kind == "chip":  # of a jaw's tip or of its edge
        along = rng.uniform(0.24, TIP)
        across = rng.choice([0.01, float(_jaw_back(along)) - 0.015])
        centre = _place(along, across, face * float(_depth(along)), side)
        normal = (0.4, face, side * (1 if across > 0.02 else -1) * 0.4)
        sizes |= {"radius": rng.uniform(0.045, 0.080)}
    elif kind == "cut":  # a slit in a grip
        centre, normal = open_place(
            rng, (HARD, SOFT), parts, distance, (LOW, HIGH), rng.choice([1, 1, 2])
        )
        sizes = {"angle": rng.uniform(0, np.pi), "length": rng.uniform(0.09, 0.17)}
        sizes |= {"width": rng.uniform(0.012, 0.020), "depth": rng.uniform(0.035, 0.060)}
    elif kind == "corrosion":
        centre, normal = open_place(
            rng, (STEEL,), parts, distance, (LOW, HIGH), rng.choice([1, 1, 2])
        )
        sizes = {"radius": rng.uniform(0.09, 0.19), "cover": rng.uniform(0.6, 0.95)}
    elif kind == "scratch":
        centre, normal = open_place(rng, (STEEL, HARD), parts, distance, (LOW, HIGH), 1)
        sizes = {"length": rng.uniform(0.10, 0.25), "width": rng.uniform(0.008, 0.014)}
        sizes["angle"] = rng.uniform(0, np.pi)
    else:
        raise ValueError(f"the pair of pliers has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(u, q, y, side):
    """Point of a half at u along it, q off its arm's middle line or its jaw's teeth, [3]."""
    return HALVES.point(u, q + (float(_middle(u)) if u < 0 else 0), y, side)


def _middle(u):
    """v of the middle line of arm and grip."""
    return -0.055 - 0.13 * smoothstep((-0.08 - u) / 0.55) + 0.07 * np.clip(-0.95 - u, 0, 1)


def _depth(u):
    """Half depth of the steel."""
    return DEEP - 0.034 * smoothstep((u - 0.15) / 0.4) - 0.030 * smoothstep((-0.12 - u) / 0.15)


def _jaw_back(u):
    """v of a jaw's back."""
    high, low = JAW
    return high - (high - low) * np.clip((u - 0.05) / (TIP - 0.05), 0, 1) ** 1.3


def _teeth(u, y):
    """v of what the jaws grip and cut with."""
    groove = np.abs((u / TOOTH) % 1 - 0.5) * 2 * TOOTH_DEEP
    long, high = PIPE_HALF
    pipe = high * np.sqrt(np.clip(1 - ((u - PIPE) / long) ** 2, 0, 1))
    return np.where(u < CUTTER, 0.7 * np.abs(y) + 0.002, 0.004 + pipe + groove)


def _half(x, y, z, side, defect):
    """Distance-like value of the steel of a half."""
    u, v = HALVES.places(x, z, side)
    off, reach = -side * y, np.hypot(x - PIVOT, z)
    back = -smooth_min(_jaw_back(u) - v, 0.9 * (TIP - u), 0.05)
    jaw = both(back, 0.8 * (_teeth(u, y) - v), 0.06 - u)
    arm = both(np.abs(v - _middle(u)) - ARM - 0.04 * smoothstep((u + 0.35) / 0.25), u, ARM_END - u)
    solid = -smooth_min(-np.minimum(jaw, arm), _depth(u) - np.abs(y), 0.025)
    solid = np.maximum(solid, -both(reach - JOINT - 0.005, off - 0.003))
    disc = -smooth_min(JOINT - reach, DEEP - off, 0.02)
    solid = smooth_min(solid, both(disc, 0.003 - off), 0.012)
    solid = np.maximum(solid, -cylinder(x - PIVOT, z, 0.065))
    if defect and defect["kind"] == "chip" and defect["side"] == side:
        solid = np.maximum(solid, -_broken_off(x, y, z, defect))
    return solid


def _broken_off(x, y, z, defect):
    """Distance-like value of what a chip took off a jaw: a rough ball."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    phase = defect["seed"] % 7
    rough = 0.006 * np.sin(77 * x + phase) * np.sin(69 * z - phase) + 0.005 * np.sin(113 * y + x)
    return np.sqrt(sum(v * v for v in away)) - defect["radius"] + rough


def _grip(x, y, z, side, defect):
    """Distance-like values of a grip, and of the soft part of it."""
    u, v = HALVES.places(x, z, side)
    across = v - _middle(u)
    wide, deep = GRIP
    guard = np.exp(-(((u - GUARD[0]) / GUARD[1]) ** 2)) * GUARD[2]
    swell = 0.010 * np.cos(7.5 * (u + 0.85))
    flank = wide + guard + swell - np.abs(across)
    grip = -smooth_min(flank, deep + 0.5 * guard + 0.5 * swell - np.abs(y), 0.07)
    grip = -smooth_min(-grip, u - GRIP_END, 0.12)
    grip = -smooth_min(-grip, GRIP_START - u, 0.03)
    soft = across + 0.020 + 0.14 * ((u + 0.83) / 0.42) ** 4
    start, end, pitch, depth = RIBS
    ribbed = smoothstep((u - start) / 0.04) * smoothstep((end - u) / 0.04)
    rib = smoothstep(0.5 + np.cos(2 * np.pi * u / pitch))
    grip = grip + depth * rib * ribbed * smoothstep((-0.012 - soft) / 0.02)
    grip = grip + 0.006 * smoothstep(1 - np.abs(soft) / 0.010)
    near = np.abs(grip) < 0.04
    cut = np.zeros_like(x)
    cut[near] = smoothstep(0.5 - _letters(u[near], across[near], y[near], side) / 0.012)
    grip = grip - RAISED * cut
    if defect and defect["kind"] == "cut":
        grip = np.maximum(grip, -_slit(x, y, z, defect))
    if _end_lost(defect, side):
        grip = np.maximum(grip, _torn(u, across, y, defect))
    return grip, soft


def _end_lost(defect, side):
    missing = defect and defect["kind"] == "missing" and not defect["rivet"]
    return bool(missing) and defect["side"] == side


def _torn(u, across, y, defect):
    """Distance-like value that is positive where the end of a grip was torn off."""
    phase = defect["seed"] % 7
    rough = 0.008 * np.sin(57 * across + phase) + 0.006 * np.sin(71 * y - phase)
    return defect["cut"] - u + defect["slant"] * across + rough


def _slit(x, y, z, defect):
    """Distance-like value of a gash in a grip, which gets narrower inwards and to its ends."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    axes = *face_axes(defect_normal(defect), defect["angle"]), -defect_normal(defect)
    along, aside, deep = (sum(a * v for a, v in zip(axis, away, strict=True)) for axis in axes)
    taper = np.clip(1 - (along / defect["length"]) ** 2, 0, 1)
    aside = aside + 0.010 * np.sin(19 * along + defect["seed"] % 7)
    width = defect["width"] * taper**0.5 * (1 - 0.7 * deep / defect["depth"])
    return both(np.abs(aside) - width, deep - defect["depth"] * taper, -0.05 - deep)


def _letters(u, across, y, side):
    """Distance-like value of what is raised on a grip, endless along y."""
    value = np.empty_like(u)
    for face in (-1, 1):
        facing = face * y > 0
        right, down = -face * (u[facing] - FACE_U), -side * (across[facing] - FACE_Q)
        value[facing] = marked_face(_letter_image(side, face), right, down, FACE, PX)
    return value


@cache
def _letter_image(side: int, face: int) -> np.ndarray:
    """Distance to the letters in world units, negative within, [rows, columns]."""
    canvas = Canvas(FACE, PX)
    canvas.write(0, 0, 50, 255, TEXTS[side, face], stroke=2)
    return ink_distance(canvas.image, PX)


@cache
def _etching(side: int) -> np.ndarray:
    """What is etched into the outer face of a jaw, [rows, columns]."""
    canvas = Canvas(ETCHED, PX)
    canvas.write(0, 0, 40, 1, "CR-V" if side > 0 else "DIN 5", stroke=1)
    return canvas.inks()


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of the steel, the rivet, the grips' hard and soft part, each as x."""
    steel = np.minimum.reduce([_half(x, y, z, side, defect) for side in SIDES])
    proud, ring = RIM
    reach = cylinder(x - PIVOT, z, 0)
    rivet = rod(x - PIVOT, z, y, RIVET, -DEEP - proud, DEEP + proud, 0.02)
    turned = both(np.abs(reach - 0.6 * RIVET) - ring, DEEP + proud - 0.010 - np.abs(y))
    rivet = both(rivet, -turned, np.minimum(reach - 0.066, DEEP - 0.01 - np.abs(y)))
    if defect and defect["kind"] == "missing" and defect["rivet"]:
        rivet = np.full_like(x, 9)
    hard, soft = np.full_like(x, 9), np.full_like(x, 9)
    for side in SIDES:
        grip, parting = _grip(x, y, z, side, defect)
        hard, soft = np.minimum(hard, both(grip, -parting)), np.minimum(soft, both(grip, parting))
    return steel, rivet, hard, soft


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The pliers' surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    steel = part == STEEL
    solid.normals = unit(solid.normals)
    mottle, grain = fractal_noise_3d(points, 6, 2, 4), fractal_noise_3d(points, 38, 3, 3)
    look[:, :3] *= (1 + 0.05 * mottle + 0.05 * grain * steel)[:, None]
    look[:, 4] += 0.03 * mottle + 0.03 * grain * steel
    forged = np.stack([fractal_noise_3d(points, 26, seed, 2) for seed in (4, 5, 6)], 1)
    for side in SIDES:
        u, v = HALVES.places(x, z, side)
        ground = steel & (np.abs(v - _teeth(u, y)) < 0.007) & (np.hypot(u, v) > JOINT)
        look[ground] = (*GROUND, 1, 0.3)
        right = -np.sign(y) * (u - ETCHED_AT[0])
        place = (right + ETCHED[0]) * PX, (ETCHED[1] - side * (v - ETCHED_AT[1])) * PX
        inked = picked(_etching(side), *place) > 0
        inked &= (np.abs(right) < ETCHED[0]) & (np.abs(v - ETCHED_AT[1]) < ETCHED[1])
        look[steel & inked & (-side * solid.normals[:, 1] > 0.8)] = (*SILVER, 0.6, 0.5)
        lettered = (part == HARD) & (np.abs(solid.normals[:, 1]) > 0.5) & (v < 0) & (side < 0)
        lettered[lettered] = (
            _letters(u[lettered], (v - _middle(u))[lettered], y[lettered], side) < 0.004
        )
        look[lettered] = (*WHITE, 0, 0.4)
        steel &= ~ground
    solid.normals[steel] += 0.05 * forged[steel]
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z), steel, grips = defect["kind"], points.T, part == STEEL, part >= HARD
    if kind == "missing" and not defect["rivet"]:
        u, v = HALVES.places(x, z, defect["side"])
        torn = np.abs(_torn(u, v - _middle(u), y, defect)) < 0.008
        look[torn & grips, :3] = 0.6 * look[torn & grips, :3] + 0.4 * np.array(TORN)
        look[torn & grips, 4] = 0.7
    if kind == "chip":
        broken = steel & (np.abs(_broken_off(x, y, z, defect)) < 0.006)
        look[broken] = (*BROKEN, 0.8, 0.55)
        look[broken, :3] *= 1 + 0.12 * fractal_noise_3d(points[broken], 45, 8, 3)[:, None]
    if kind == "cut":
        look[grips & (_slit(x, y, z, defect) < 0.005)] = (*TORN, 0, 0.7)
    if kind == "corrosion":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1)
        edge = away / defect["radius"] + 0.4 * fractal_noise_3d(points, 12, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / 0.25) * (steel | (part == BOLT))
        share = smoothstep(0.5 + 0.8 * fractal_noise_3d(points, 25, defect["seed"] + 1, 3))
        rust = np.outer(share, RUST) + np.outer(1 - share, DARK_RUST)
        look += cover[:, None] * (np.column_stack([rust, 0 * x, 0 * x + 0.9]) - look)
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.03)
        look[scored & ~grips] = (*BRIGHT, 0.9, 0.4)
        look[scored & grips] = (*PALE, 0, 0.6)
