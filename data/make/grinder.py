"""A coffee grinder: a jointed wooden box with a drawer, a copper dome, a crank; its defects.

Its front is -y: drawer and enamel plate. The crank and the dome's door tell the other sides apart,
a stamp is printed below.
"""

from functools import cache

import numpy as np

from .cameras import fibonacci_directions
from .canvas import Canvas
from .grinder_parts import (
    COPPER,
    DOME,
    DOME_Z,
    DOOR_Z,
    DRAWER,
    DRAWER_AJAR,
    DRAWER_FACE,
    DRAWER_Z,
    ENAMEL,
    FLANGE,
    FOOT,
    FOOT_AT,
    GRIP,
    HIGH,
    HOLE,
    HUB,
    IRON,
    KNOB,
    LOST_BOLT,
    LOST_FOOT,
    LOST_KNOB,
    LOST_SCREW,
    LOW,
    MOULDED,
    MOULDINGS,
    NUT,
    PANELS,
    PEAR,
    PLATE,
    PLATE_ASKEW,
    PLATE_Z,
    PROUD,
    SCREW_AT,
    SIDE,
    STEP,
    THICK,
    bare_box,
    bolt_place,
    corner_place,
    crack_distance,
    distance,
    door_distance,
    grip_place,
    in_drawer,
    lost_part,
    on_grip,
    on_plate,
    parts,
)
from .grinder_wood import CHERRY, OAK, WALNUT, paint_wood
from .lights import smoothstep
from .marks import before_dent, described, first_met, picked
from .mesh import Mesh, mesh_from_distance, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0004, "skewed": 0.0012, "crack": 0.0005, "stain": 0.0012}
SMALLEST_MASK |= {"dent": 0.0012}
# base colour, metallic, roughness of the parts in their order
LOOKS = np.array(
    [(*OAK[0], 0, 0.46), (*WALNUT[0], 0, 0.36), (*OAK[0], 0, 0.46), (*CHERRY[0], 0, 0.16)]
    + [(0.74, 0.37, 0.22, 1, 0.24), (0.018, 0.055, 0.20, 0, 0.12), (0.76, 0.56, 0.26, 1, 0.22)]
    + [(0.20, 0.195, 0.19, 0.9, 0.42), (0.025, 0.025, 0.026, 0, 0.8)]
)
CREAM, STAMPED, PX = (0.78, 0.74, 0.64), (0.52, 0.44, 0.33), 500  # inks; px per world unit
HALF_STAMP = (0.26, 0.26)
FACETS, FLATNESS = 420, 0.75  # of the hammered dome: on a whole sphere; share of their normals
PATINA, POLISHED, GROUNDS = (0.34, 0.14, 0.075), (0.47, 0.46, 0.44), (0.055, 0.030, 0.018)
SCUFFED, BARE = (0.84, 0.56, 0.42), (0.60, 0.42, 0.25)
CREVICE, SOOT = (0.028, 0.015, 0.009), (0.018, 0.013, 0.010)
OIL, VERDIGRIS, RUST = range(3)  # stains
OILED = 0.36  # share of the wood's brightness that is left
GREEN, CHALKY, BROWN = (0.055, 0.20, 0.165), (0.20, 0.42, 0.35), (0.085, 0.042, 0.024)
RUSTS = ((0.11, 0.036, 0.015), (0.33, 0.115, 0.030))


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, skewed, crack, stain, dent)."""
    if kind == "missing":
        return _random_loss(rng)
    if kind == "skewed":
        return _random_skew(rng)
    if kind == "crack":  # along the fibres of a board of the box, a moulding or the drawer
        part = int(rng.choice([PANELS, MOULDED, DRAWER], p=(0.6, 0.25, 0.15)))
        centre, normal, fibre, across = _board_place(part, rng)
        sizes = {"part": part, "fibre": fibre, "across": across}
        sizes |= {"length": rng.uniform(0.11, 0.26), "width": rng.uniform(0.006, 0.0115)}
        sizes |= {"slope": rng.uniform(-0.12, 0.12), "fresh": rng.uniform(0, 0.35)}
    elif kind == "stain":  # oil on oak, verdigris on copper, rust on iron
        of = int(rng.choice(3, p=(0.45, 0.3, 0.25)))
        centre, normal = _place(((PANELS, DRAWER), (COPPER,), (IRON,))[of], rng)
        sizes = {"of": of, "radius": rng.uniform(0.065, 0.13), "cover": rng.uniform(0.6, 0.97)}
    elif kind == "dent":  # of the dome
        centre, normal = _place((COPPER,), rng)
        while not DOME_Z + 0.06 < centre[2] < HUB[1] - 0.17:  # the flange, below the collar
            centre, normal = _place((COPPER,), rng)
        sizes = {"radius": rng.uniform(0.085, 0.15), "scuff": rng.uniform(0.35, 0.95)}
        sizes["depth"] = sizes["radius"] * rng.uniform(0.45, 0.65)
    else:
        raise ValueError(f"the grinder has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _random_loss(rng):
    """A missing screw of the plate, foot, knob of the drawer, bolt of the flange, crank's nut."""
    part = int(rng.choice(5, p=(0.25, 0.15, 0.2, 0.25, 0.15)))
    which = int(rng.integers(4))
    aside = rng.uniform(-0.5, 0.5, 2)
    if part == LOST_SCREW:
        which %= 2
        at = (2 * which - 1) * SCREW_AT
        centre, normal = (at, -SIDE - THICK, PLATE_Z), (aside[0], -1, aside[1])
    elif part == LOST_FOOT:
        x, y = corner_place(which, FOOT_AT)
        centre, normal = (x, y, MOULDINGS[0][1]), (aside[0] + x, aside[1] + y, -1)
    elif part == LOST_KNOB:
        centre, normal = (0, DRAWER_FACE - KNOB[2][2], DRAWER_Z), (aside[0], -1, aside[1])
    elif part == LOST_BOLT:
        x, y = bolt_place(which)
        centre, normal = (x, y, FLANGE[2]), (aside[0] + 2 * x, aside[1] + 2 * y, 1)
    else:
        centre, normal = (0, 0, NUT[2]), (*aside, 0.7)
    sizes = {"part": part, "which": which}
    return described("missing", centre, normal, int(rng.integers(1 << 30)), sizes)


def _random_skew(rng):
    """The plate turned, the drawer ajar, or the grip leaning."""
    part, side = int(rng.choice(3, p=(0.4, 0.2, 0.4))), rng.choice([-1, 1])
    aside = rng.uniform(-0.6, 0.6, 2)
    sizes = {"part": part}
    if part == PLATE_ASKEW:  # about its middle or one of its screws
        sizes |= {"turn": side * rng.uniform(0.06, 0.17), "pivot": SCREW_AT * rng.integers(-1, 2)}
        if sizes["pivot"]:
            sizes["turn"] *= 0.7
        centre, normal = (0, -SIDE - THICK, PLATE_Z), (aside[0], -1, aside[1])
    elif part == DRAWER_AJAR:
        sizes |= {"turn": side * rng.uniform(0, 0.05), "out": rng.uniform(0.04, 0.13)}
        centre = (0, DRAWER_FACE - sizes["out"] / 2, DRAWER_Z)
        normal = (2 * aside[0], -1, rng.uniform(0, 0.8))
    else:
        sizes |= {"turn": rng.uniform(0.24, 0.45), "towards": rng.uniform(-np.pi, np.pi)}
        centre = grip_place() + [0, 0, PEAR[2]]
        normal = np.array([-np.sin(sizes["towards"]), np.cos(sizes["towards"]), aside[0]])
        normal[:2] *= side
    return described("skewed", centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(of, rng):
    """A point of one of the parts `of` seen from a side or above, and its normal, each [3]."""
    while True:
        axis = rng.choice(3, p=(0.35, 0.35, 0.3))
        way = np.tile(rng.uniform((-0.48, -0.48, -0.85), (0.55, 0.48, 0.72)), (701, 1))
        start = 1 if axis == 2 else rng.choice([-1, 1])
        way[:, axis] = np.linspace(start, -0.4 * start, 701)
        met = first_met(way, parts, distance)
        if met is not None and met[0] in of:
            return met[1:]


def _board_place(part, rng):
    """A point of a board's broad face, its normal, [3] each; axes along and across the fibres."""
    while True:
        centre, normal = _place((part,), rng)
        faces = int(np.abs(normal).argmax())
        fibre = 1 if faces == 0 and part == PANELS else 0
        if faces != fibre and abs(normal[faces]) > 0.9:
            return centre, normal, fibre, 3 - faces - fibre


def mesh(defect: dict | None = None) -> Mesh:
    """The grinder's surface with colour, metallic and roughness per vertex."""
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    part = np.abs(parts(*solid.vertices.T, defect)).argmin(0)
    flat = np.stack(before_dent(*solid.vertices.T, defect), 1)
    points = np.where((part == COPPER)[:, None], flat, solid.vertices)
    solid.normals = unit(solid.normals)
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    own = np.stack(in_drawer(*points.T, defect), 1) + [0, 0, DRAWER_Z]
    held = np.stack(on_grip(*points.T, defect), 1) + grip_place()
    own = np.where((part == DRAWER)[:, None], own, points)
    own = np.where((part == GRIP)[:, None], held, own)  # as if nothing were skewed
    wood = part <= GRIP
    grained = look[wood]
    paint_wood(grained, own[wood], solid.normals[wood], part[wood])
    look[wood] = grained
    mottle, fine = fractal_noise_3d(own, 5, 2, 4), fractal_noise_3d(own, 60, 3, 2)
    rough = np.stack([fractal_noise_3d(own, 40, seed, 2) for seed in (4, 5, 6)], 1)
    _weather(look, own, part, mottle, fine)
    _print(look, points, part, defect)
    satin = part <= DRAWER
    solid.normals[satin] += 0.015 * rough[satin]
    iron = part == IRON
    solid.normals[iron] += 0.07 * rough[iron]
    copper = part == COPPER
    solid.normals[copper] += _hammered(points[copper])
    if defect:
        _spoil(look, points, own, part, defect)
    return solid.painted(look, least_roughness=0.08)


def _weather(look, points, part, mottle, fine) -> None:
    """Put patina, wear and what coffee left into `look` [N, 5]."""
    x, y, z = points.T
    metal = (part >= COPPER) & (part != ENAMEL)
    look[metal, :3] *= (1 + 0.05 * mottle + 0.03 * fine)[metal, None]
    look[metal, 4] += (0.03 * mottle + 0.02 * fine)[metal]
    rim = np.hypot(np.hypot(x, y) - DOME[0], z - DOME_Z) / 0.05
    door = np.abs(door_distance(x, y, z)) / 0.012
    hollow = np.exp(-(np.minimum(rim, door + 9 * (np.abs(z - DOOR_Z[0]) > 0.12)) ** 2))
    tarnish = (0.35 * smoothstep(0.3 + 0.5 * mottle) + 0.6 * hollow).clip(0, 0.8)
    tarnish = (tarnish * (part == COPPER))[:, None]
    look[:, :3] += tarnish * (np.array(PATINA) - look[:, :3])
    worn = smoothstep((0.6 * fine + 0.5 * mottle - 0.2) / 0.8) * (part == IRON)
    look[:, :3] += 0.45 * worn[:, None] * (np.array(POLISHED) - look[:, :3])
    inner = (part == PANELS) & (bare_box(x, y, z) < -0.02)
    inner |= (part == DRAWER) & (y > DRAWER_FACE + 0.07)
    dusty = smoothstep(0.6 + 0.5 * mottle)[:, None]
    look[inner, :3] += (0.85 * dusty * (np.array(GROUNDS) - look[:, :3]))[inner]


def _hammered(points):
    """What planishing adds to the normals of the dome at points [N, 3], [N, 3]."""
    from scipy.spatial import cKDTree

    rng, axes = np.random.default_rng(7), np.array([DOME[0], DOME[0], DOME[1]])
    blows = unit(fibonacci_directions(FACETS) + rng.normal(0, 0.035, (FACETS, 3)))
    away = unit((points - [0, 0, DOME_Z]) / axes)
    hit = blows[cKDTree(blows).query(away)[1]]
    domed = smoothstep((points[:, 2:] - DOME_Z - 0.03) / 0.02)
    return FLATNESS * domed * (unit(hit / axes) - unit(away / axes))


def _print(look, points, part, defect) -> None:
    """Put what is printed on the plate and stamped below into `look` [N, 5]."""
    x, y, z = points.T
    right, down = on_plate(x, z, defect)
    written = picked(_plate_image(), (right + PLATE[0]) * PX, (down + PLATE[1]) * PX) > 0
    look[written & (part == ENAMEL) & (y < -SIDE - 0.006), :3] = CREAM
    half = HALF_STAMP[0]
    below = (part == MOULDED) & (z < MOULDINGS[0][1] + 0.004) & (np.maximum(abs(x), abs(y)) < half)
    stamp = below & (picked(_stamp_image(), (half - x) * PX, (half - y) * PX) > 0)
    worn = 0.75 * smoothstep(1.1 + 0.5 * fractal_noise_3d(points[stamp], 30, 8, 3))[:, None]
    look[stamp, :3] += worn * (np.array(STAMPED) - look[stamp, :3])


@cache
def _plate_image() -> np.ndarray:
    """What is printed on the plate, [rows, columns]."""
    canvas = Canvas(PLATE, PX)
    wide, high = PLATE[0] - 0.016, PLATE[1] - 0.016
    canvas.draw.rounded_rectangle(canvas.px(-wide, -high, wide, high), 19, None, 1, 4)
    canvas.write(0, -0.028, 44, 1, "TARNAU")
    canvas.write(0, 0.044, 25, 1, "MOKKA No. 3")
    return canvas.inks()


@cache
def _stamp_image() -> np.ndarray:
    """What is stamped below, as it is seen from there, [rows, columns]."""
    canvas = Canvas(HALF_STAMP, PX)
    canvas.disc(0, 0, 0.24, 1, 0.17)
    canvas.disc(0, 0, 0.222, 0, 0.152)
    canvas.write(0, -0.05, 48, 1, "TARNAU")
    canvas.write(0, 0.02, 34, 1, "MILLWORKS")
    canvas.write(0, 0.085, 34, 1, "0417")
    return canvas.inks()


def _spoil(look, points, own, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z), wood = defect["kind"], points.T, part <= DRAWER
    if kind == "crack":
        split = crack_distance(x, y, z, defect) < 0.004
        split &= part == defect["part"]
        fresh = defect["fresh"] * look[split, :3]
        look[split] = np.column_stack([CREVICE + fresh, 0 * fresh[:, 0], 0 * fresh[:, 0] + 0.8])
    if kind == "dent":  # what struck it left bare metal
        away = np.linalg.norm(own - defect["centre"], axis=1) / (0.75 * defect["radius"])
        struck = smoothstep((1 - away - 0.35 * fractal_noise_3d(own, 26, defect["seed"], 3)) / 0.3)
        cover = (defect["scuff"] * struck * (part == COPPER))[:, None]
        look += cover * (np.array([*SCUFFED, 1, 0.6]) - look)
    if kind == "missing":
        _uncover(look, points, part, defect)
    if kind == "stain":
        away = np.linalg.norm(points - defect["centre"], axis=1) / defect["radius"]
        near = away + 0.26 * fractal_noise_3d(points, 9, defect["seed"], 4)
        share = smoothstep(0.5 + 0.6 * fractal_noise_3d(points, 22, defect["seed"] + 1, 4))[:, None]
        if defect["of"] == OIL:
            cover = (defect["cover"] * smoothstep((1 - near) / 0.22) * wood)[:, None]
            look[:, :3] *= 1 - cover * (1 - OILED)
            look[:, 4:] += cover * (0.2 - look[:, 4:])
            return
        coats = ((1.15, BROWN, BROWN), (1.0, GREEN, CHALKY))
        if defect["of"] == RUST:
            coats = ((1.0, *RUSTS),)
        for within, first, last in coats:
            cover = defect["cover"] * smoothstep((within - near) / 0.18)
            cover = (cover * (part == (IRON if defect["of"] == RUST else COPPER)))[:, None]
            colour = np.array(first) + share * np.subtract(last, first)
            look += cover * (np.hstack([colour, 0 * share, 0 * share + 0.9]) - look)


def _uncover(look, points, part, defect) -> None:
    """Put into `look` [N, 5] what shows where something is missing."""
    x, y, z = points.T
    lost, which, wood = lost_part(defect), int(defect["which"]), part <= DRAWER
    if lost in (LOST_SCREW, LOST_KNOB):
        at, level = ((2 * which - 1) * SCREW_AT, PLATE_Z) if lost == LOST_SCREW else (0, DRAWER_Z)
        reach, deep = np.hypot(x - at, z - level), y + SIDE + PROUD * (lost == LOST_KNOB)
        trace = (part == DRAWER) & (reach < KNOB[0][0]) & (y < -SIDE)
    elif lost == LOST_FOOT:
        cx, cy = corner_place(which, FOOT_AT)
        reach, deep = np.hypot(x - cx, y - cy), MOULDINGS[0][1] - z
        trace, deep = wood & (reach < FOOT[0]) & (deep > -0.008), -deep
    elif lost == LOST_BOLT:
        cx, cy = bolt_place(which)
        reach, deep = np.hypot(x - cx, y - cy), FLANGE[2] - z
        trace = np.zeros(len(x), bool)
    else:
        return
    look[trace] = (*BARE, 0, 0.7)  # what was covered is paler
    hole = (reach < HOLE + 0.005) & (deep > 0.012) & (deep < 0.1) & (part <= COPPER)
    look[hole] = (*SOOT, 0, 0.8)
