"""Household scissors, half open: brushed blades, a screw, two-colour plastic loops; their defects.

They lie in the xz plane, blades towards x, the screw's head in front (-y). The half whose blade is
above has the small loop, the other the large one; what is etched into the blades differs too.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .halves import Halves
from .lights import smoothstep
from .marks import (
    described,
    ink_distance,
    marked_face,
    open_place,
    picked,
    scratched,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, box, cylinder, rod, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0006, "nick": 0.0003, "scratch": 0.0005, "crack": 0.0004}
SMALLEST_MASK |= {"stain": 0.0007}
LOW, HIGH, STEP = np.array([-1.03, -0.10, -0.57]), np.array([1.02, 0.10, 0.57]), 0.0055
PIVOT = 0.09  # x of the screw
HALVES = Halves(PIVOT, turn=0.23)
SIDES = (1, -1)  # the half whose blade is above, in front; the other, at the back
LENGTH, EDGE, BACK, THICK = 0.90, -0.035, 0.105, 0.038  # of a blade from the screw; v of its sides
BEVEL = 0.75  # how steeply the edge is ground
SHOULDER = 0.135  # radius of the blades about the screw
HEAD, SLOT, RIVET = (0.072, 0.030), 0.015, (0.052, 0.020)  # radius and height; half width
LOOPS = {1: (-0.62, 0.145, 0.125), -1: (-0.71, 0.245, 0.125)}  # u of the middle, half sizes inside
LOOP_V, CORNER = -0.135, 0.12
INSERT, SHELL, DEEP = 0.036, 0.092, 0.066  # from a loop's inside: ends of its colours; half depth
NECK, NECK_START = 0.064, -0.13  # half width; u
EMBLEM = (-0.405, -0.065, 0.050)  # u, v, radius of what is raised on the necks
FACE, FACE_U, PX = (0.28, 0.055), 0.33, 700  # of what is etched: half sizes, middle, px a unit
STEEL, GROUND, BOLT = (0.60, 0.595, 0.58), (0.70, 0.695, 0.68), (0.56, 0.55, 0.53)
RED, GREY = (0.50, 0.018, 0.022), (0.055, 0.058, 0.062)
ETCHED, SCORED, PALE, TORN = (0.11,) * 3, (0.17, 0.165, 0.16), (0.66, 0.40, 0.39), (0.42,) * 3
GLUE, PAINT, WHITENED = (0.60, 0.55, 0.40), (0.10, 0.22, 0.42), (0.70, 0.34, 0.33)
WHITE = (0.72, 0.72, 0.71)
RUST, DARK_RUST = (0.30, 0.11, 0.03), (0.10, 0.04, 0.018)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array([(*STEEL, 1, 0.27), (*STEEL, 1, 0.27), (*BOLT, 1, 0.2), (*RED, 0, 0.1)])
LOOKS = np.vstack([LOOKS, [(*GREY, 0, 0.55)]])
BLADE_UP, BLADE_DOWN, SCREW, PLASTIC, SOFT = range(5)
LOST_SCREW, LOST_TIP, LOST_INSERT = range(3)  # what may be missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, nick, scratch, crack, stain)."""
    side = int(rng.choice(SIDES))
    sizes, outer = {"side": side}, np.array([0, -side, 0])
    if kind == "missing":
        part, cut = int(rng.choice(3, p=(0.35, 0.4, 0.25))), rng.uniform(0.66, 0.80)
        sizes |= {"part": part, "cut": cut, "slant": rng.uniform(-0.6, 0.6)}
        sizes["radius"] = rng.uniform(0.11, 0.20)
        turn = rng.uniform(-np.pi, np.pi)
        at = (0, 0), ((cut + LENGTH) / 2, EDGE + 0.02), _on_loop(turn, INSERT / 2, side)
        centre, normal = _place(*at[part], side), (rng.uniform(-0.4, 0.4), rng.choice([-1, 1]), 0.3)
    elif kind == "nick":  # broken out of the cutting edge, or the edge rolled over
        along = rng.uniform(0.24, 0.74)
        sizes |= {"at": along, "length": rng.uniform(0.024, 0.065), "rolled": rng.random() < 0.4}
        sizes["depth"] = rng.uniform(0.022, 0.048)
        if sizes["rolled"]:
            sizes["length"], sizes["depth"] = rng.uniform(0.05, 0.10), rng.uniform(0.015, 0.024)
        centre, normal = _place(along, EDGE, side), outer + [0.2, 0, -0.5 * side]
    elif kind == "scratch":
        centre, normal = open_place(
            rng, 2 * (BLADE_UP, BLADE_DOWN) + (PLASTIC,), parts, distance, (LOW, HIGH), 1
        )
        sizes = {"length": rng.uniform(0.11, 0.28), "width": rng.uniform(0.009, 0.015)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "crack":  # through a loop, away from its neck
        turn = rng.uniform(0.28, 1.72) * np.pi
        centre = _place(*_on_loop(turn, SHELL / 2, side), side)
        normal = (0.3 * (centre[0] + 0.6), rng.choice([-1, 1]), rng.uniform(-0.4, 0.4))
        sizes |= {"turn": turn, "gap": rng.uniform(0.006, 0.013), "slant": rng.uniform(-0.8, 0.8)}
    elif kind == "stain":  # rust on a blade, glue or paint on a loop
        of = (BLADE_UP, BLADE_DOWN) if rng.random() < 0.6 else (PLASTIC, SOFT)
        centre, normal = open_place(rng, of, parts, distance, (LOW, HIGH), 1)
        sizes = {"radius": rng.uniform(0.07, 0.16), "cover": rng.uniform(0.55, 0.95)}
        sizes |= {"rust": of[0] == BLADE_UP, "paint": rng.random() < 0.5}
    else:
        raise ValueError(f"the pair of scissors has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _on_loop(turn, off, side):
    """u and v of a loop at an angle about its middle, `off` from its inside."""
    ray = np.linspace(0.05, 0.5, 500)
    along, across = LOOPS[side][0] + ray * np.cos(turn), LOOP_V + ray * np.sin(turn)
    k = np.abs(_loop(along, across, side) - off).argmin()
    return along[k], across[k]


def _place(u, v, side):
    """Point of a half at u along its blade and v outwards, in the middle of its sheet, [3]."""
    return HALVES.point(u, v, -side * THICK / 2 if u > NECK_START else 0, side)


def _lost(defect, part, side):
    """Whether this part of a half is missing."""
    missing = defect and defect["kind"] == "missing" and defect["part"] == part
    return bool(missing) and defect["side"] == side


def _blade(x, y, z, side, defect):
    """Distance-like value of a blade with its tang: its edge is ground on the outer face."""
    u, v = HALVES.places(x, z, side)
    off = -side * y  # from where the blades meet
    run = np.clip(u / LENGTH, 0, 1)
    edge = EDGE + 0.022 * run**3
    back = BACK - (BACK - EDGE - 0.045) * run**2.2
    notch, here = 0, defect and defect["kind"] == "nick" and defect["side"] == side
    if here and not defect["rolled"]:
        notch = defect["depth"] * np.clip(1 - np.abs(_along_nick(u, defect)), 0, 1) ** 0.6
    outline = both(v - back, edge + notch - v, -u, 0.8 * (u - LENGTH) + 0.5 * (v - edge))
    outline = smooth_min(outline, np.hypot(u, v) - SHOULDER, 0.05)
    outline = np.minimum(outline, box(u + 0.12, 0 * u, v + 0.01, (0.16, 1, 0.04)))
    ground = np.where(u > 0.13, 0.8 * (off - 0.004 - BEVEL * (v - edge)), -1)
    blade = both(-smooth_min(-outline, THICK - off, 0.008), 0.0005 - off, ground)
    blade = np.maximum(blade, -cylinder(x - PIVOT, z, 0.036))
    if here and defect["rolled"]:
        ragged = defect["depth"] * np.clip(1 - _along_nick(u, defect) ** 2, 0, 1) ** 0.5
        lip = both(np.hypot(off - 0.010, 0.8 * (v - edge + 0.004)) - ragged, -off)
        blade = smooth_min(blade, lip, 0.006)
    if _lost(defect, LOST_TIP, side):
        blade = np.maximum(blade, _torn(u, v, defect))
    return blade


def _along_nick(u, defect):
    """-1 to 1 within a nick, with a ragged outline."""
    phase = defect["seed"] % 7
    return (u - defect["at"]) / defect["length"] * (1 + 0.25 * np.sin(171 * u + phase))


def _torn(u, v, defect):
    """Distance-like value that is positive where the tip broke off."""
    phase = defect["seed"] % 7
    rough = 0.005 * np.sin(117 * v + phase) + 0.004 * np.sin(231 * v - phase)
    return u - defect["cut"] - defect["slant"] * (v - EDGE) + rough


def _loop(u, v, side):
    """Distance from the inside of a loop."""
    middle, long, high = LOOPS[side]
    return box(u - middle, 0 * u, v - LOOP_V, (long, 1, high), CORNER)


def _cracked(x, z, defect):
    """Distance-like value of the rough sheet along which a loop is cracked."""
    u, v = HALVES.places(x, z, defect["side"])
    at_u, at_v = HALVES.places(defect["centre"][0], defect["centre"][2], defect["side"])
    cos, sin, phase = np.cos(defect["turn"]), np.sin(defect["turn"]), defect["seed"] % 7
    out, on = cos * (u - at_u) + sin * (v - at_v), cos * (v - at_v) - sin * (u - at_u)
    rough = 0.008 * np.sin(85 * out + phase) + 0.004 * np.sin(171 * out - phase)
    return np.abs(on - defect["slant"] * out - rough) / 1.2 + 9 * (np.abs(out) > 0.09)


def _handle(x, y, z, side, defect):
    """Distance-like values of a half's glossy shell and of the soft insert in its loop."""
    u, v = HALVES.places(x, z, side)
    loop = _loop(u, v, side)
    middle = (INSERT + SHELL) / 2
    ring = -smooth_min(middle - INSERT - np.abs(loop - middle), DEEP - np.abs(y), 0.045)
    start, end = np.array([NECK_START, 0.0]), np.array([LOOPS[side][0] + LOOPS[side][1], -0.115])
    way = unit(end - start)
    along, across = (u - start[0]) * way[0] + v * way[1], v * way[0] - (u - start[0]) * way[1]
    wide = NECK + 0.14 * np.maximum(along - 0.10, 0)
    neck = np.hypot(np.minimum(along, 0), across) - wide
    neck = both(neck, along - 0.36, INSERT - loop)
    reach = np.maximum(np.hypot(x - PIVOT, z) - 0.27, 0)
    neck = both(-smooth_min(-neck, DEEP - np.abs(y), 0.045), side * y + 0.003 - 0.8 * reach)
    shell = smooth_min(ring, neck, 0.04)
    eu, ev, radius = EMBLEM
    spot = both(np.hypot(u - eu, v - ev) - radius, np.abs(y) - DEEP - 0.012)
    sign = marked_face(_sign(side), (u - eu) * -np.sign(y), side * (ev - v), (radius, radius), PX)
    shell = np.minimum(shell, both(spot, sign, DEEP - 0.02 - np.abs(y)))
    shell = np.maximum(shell, -both(loop - INSERT - 0.004, np.abs(y) - 0.05))
    insert = -smooth_min(INSERT / 2 - np.abs(loop - INSERT / 2), 0.056 - np.abs(y), 0.02)
    insert = np.minimum(insert, both(np.abs(loop - 0.03) - 0.012, np.abs(y) - 0.040))
    if _lost(defect, LOST_INSERT, side):
        away = [a - c for a, c in zip((x, y, z), defect["centre"], strict=True)]
        ragged = 0.010 * np.sin(61 * x + defect["seed"] % 7) * np.sin(53 * z)
        gone = np.sqrt(sum(a * a for a in away)) - defect["radius"] + ragged
        insert = np.maximum(insert, -gone)
    if defect and defect["kind"] == "crack" and defect["side"] == side:
        gap = defect["gap"] - _cracked(x, z, defect)
        shell, insert = np.maximum(shell, gap), np.maximum(insert, gap)
    return shell, insert


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of both blades, the screw, the shells and the inserts, each as x."""
    blades = [_blade(x, y, z, side, defect) for side in SIDES]
    shells, inserts = zip(*(_handle(x, y, z, side, defect) for side in SIDES), strict=True)
    radius, high = HEAD
    head = rod(x - PIVOT, z, -y, radius, THICK - 0.01, THICK + high, 0.022)
    slot = both(np.abs(0.8 * (x - PIVOT) + 0.6 * z) - SLOT, THICK + high - 0.018 + y)
    radius, high = RIVET
    rivet = rod(x - PIVOT, z, y, radius, THICK - 0.01, THICK + high, 0.018)
    shank = both(cylinder(x - PIVOT, z, 0.037), np.abs(y) - THICK)
    screw = np.minimum.reduce([np.maximum(head, -slot), rivet, shank])
    if defect and defect["kind"] == "missing" and defect["part"] == LOST_SCREW:
        screw = np.full_like(x, 9)
    return *blades, screw, np.minimum(*shells), np.minimum(*inserts)


distance = union(parts)


@cache
def _sign(side: int) -> np.ndarray:
    """Distance to the sign on a half's neck, negative within, [rows, columns]."""
    canvas = Canvas((EMBLEM[2], EMBLEM[2]), PX)
    canvas.disc(0, 0, EMBLEM[2] - 0.002, 255)
    canvas.disc(0, 0, EMBLEM[2] - 0.012, 0)
    canvas.write(0, 0, 46, 255, "K" if side > 0 else "8", stroke=2)
    return ink_distance(canvas.image, PX)


@cache
def _etching(side: int) -> np.ndarray:
    """What is etched into a blade's outer face, [rows, columns]."""
    canvas = Canvas(FACE, PX)
    if side > 0:
        canvas.write(-0.13, 0, 62, 1, "ARX", stroke=2)
        canvas.write(0.10, 0, 34, 1, "SOLINGEN")
    else:
        canvas.write(0, 0, 40, 1, "STAINLESS  21 cm")
    return canvas.inks()


def mesh(defect: dict | None = None) -> Mesh:
    """The scissors' surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    solid.normals = unit(solid.normals)
    for side, blade in zip(SIDES, (part == BLADE_UP, part == BLADE_DOWN), strict=True):
        u, v = HALVES.places(x, z, side)
        brushed = fractal_noise_3d(np.stack([u * 80, v * 3, y * 3], 1), 1.0, 3, 3)
        outer, flat = -side * solid.normals[:, 1], np.abs(solid.normals[:, 1])
        look[blade, :3] *= 1 + 0.05 * brushed[blade, None]
        look[blade, 4] += 0.05 * brushed[blade]
        look[blade & (outer > 0.5) & (flat < 0.93) & (u > 0.13)] = (*GROUND, 1, 0.16)
        raised = np.hypot(u - EMBLEM[0], v - EMBLEM[1]) < EMBLEM[2] + 0.003
        look[(part == PLASTIC) & raised & (np.abs(y) > DEEP + 0.004)] = (*WHITE, 0, 0.35)
        right = (u - FACE_U + FACE[0]) * PX
        right = right if side > 0 else 2 * FACE[0] * PX - right  # read with the tip to the left
        inked = picked(_etching(side), right, (FACE[1] - side * (v - 0.035)) * PX) > 0
        inked &= (np.abs(u - FACE_U) < FACE[0]) & (np.abs(v - 0.035) < FACE[1]) & (outer > 0.9)
        look[blade & inked] = (*ETCHED, 0.4, 0.55)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, _, z), steel = defect["kind"], points.T, part <= SCREW
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1)
    if kind == "missing" and defect["part"] == LOST_TIP:
        torn = np.abs(_torn(*HALVES.places(x, z, defect["side"]), defect)) < 0.006
        look[torn & (part == (BLADE_UP if defect["side"] > 0 else BLADE_DOWN))] = (*TORN, 0.8, 0.6)
    if kind == "nick":
        u, v = HALVES.places(x, z, defect["side"])
        close = (np.abs(_along_nick(u, defect)) < 1) & (v < EDGE + 0.9 * defect["depth"] + 0.012)
        look[close & (away < 0.12) & steel] = (*TORN, 0.8, 0.5)
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.025)
        look[scored & steel] = (*SCORED, 0.5, 0.5)
        look[scored & ~steel] = (*PALE, 0, 0.6)
    if kind == "crack":
        near = _cracked(x, z, defect) - defect["gap"]
        stress = smoothstep((0.022 + 0.008 * fractal_noise_3d(points, 40, 5, 2) - near) / 0.016)
        cover = (0.8 * stress * (part == PLASTIC) * (away < 0.12))[:, None]
        look += cover * (np.array([*WHITENED, 0, 0.5]) - look)
    if kind == "stain":
        edge = away / defect["radius"] + 0.35 * fractal_noise_3d(points, 13, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / 0.25)
        spilt = np.tile([*(PAINT if defect["paint"] else GLUE), 0, 0.35], (len(points), 1))
        if defect["rust"]:
            share = smoothstep(0.5 + 0.8 * fractal_noise_3d(points, 25, defect["seed"] + 1, 3))
            rust = np.outer(share, RUST) + np.outer(1 - share, DARK_RUST)
            spilt = np.column_stack([rust, 0 * x, 0 * x + 0.85])
            cover = cover * steel
        look += cover[:, None] * (spilt - look)
