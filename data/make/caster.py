"""A swivel caster: zinc-plated plate and fork, a rubber tyre on a webbed core, a brake; defects.

The plate lies level, the fork is swivelled below it and the wheel trails behind. Along the fork
go u (ahead), v (across it, the axle) and z; the nut and the lettered leg are on the side of +v.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import before_dent, described, first_met, ink_distance, interpolated, picked, scratched
from .mesh import (
    Mesh,
    both,
    box,
    cylinder,
    hexagon,
    mesh_from_distance,
    rod,
    smooth_min,
    thread_depth,
    unit,
)
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0011, "dent": 0.0015, "cut": 0.0009, "scratch": 0.0009}
SMALLEST_MASK |= {"stain": 0.0013}
LOW, HIGH, STEP = np.array([-0.90, -0.70, -0.90]), np.array([0.76, 0.52, 0.82]), 0.0075
TURN, PIVOT = 0.38, 0.14  # of the fork about the king pin in rad; the pin's x
SHEET = 0.0215  # half its thickness
PLATE, TOP, CORNER = (0.57, 0.44), 0.79, 0.07  # half sizes; z; rounding
SLOT = (0.415, 0.300, 0.088, 0.040)  # |x|, |y|, half sizes
SUNK, SUNK_DEEP = 0.27, 0.085  # radius of the plate's middle, which is pressed down
CAP, KING_NUT = (0.185, 0.69, 0.772), (0.085, 0.69, 0.755)  # radius, from and to z
CUPS = ((0.34, 0.59, 0.75, 0.04), (0.295, 0.42, 0.535, 0.03))  # of the race; with rounding
BALLS = (17, 0.285, 0.563, 0.05)  # how many, their circle's radius, z, their own radius
CROWN, LEG = 0.44, 0.245  # z and half width of the fork, outer
NECK, EYE = (0.0, 0.38, 0.285), (-0.20, -0.34, 0.115)  # the leg's ends: u, z, radius
BEAD = ((-0.075, -0.02), (-0.14, -0.18), 0.055, 0.02)  # pressed out of a leg: u, z; radius, height
TYRE, SEAT, CROWNED = (0.52, 0.135), 0.365, 0.8  # radius, half width; inner radius; curvature
TREAD, LUGS = 0.014, 34  # depth, how many
HUB, DISC, RIM = (0.10, 0.19), 0.028, (0.305, 0.118)  # radius, half width; half width; inner radius
WEBS, WEB, WEB_TURN = 5, (0.018, 0.098), 0.35  # how many; half thickness, half width
HIDDEN_WEB = 1  # behind the legs
BOLT = (0.052, 0.37)  # radius, end
HEAD, WASHER, NUT = (0.088, 0.245, 0.315), (0.098, 0.24, 0.263), (0.076, 0.263, 0.335)
HINGE, DROP = (-0.17, 0.30), 0.20  # of the lever: u, z; slope in rad
LEVER, FLARE, LEVER_END = (0.115, 0.030), 0.055, 0.70  # half width and thickness; wider by; length
GRIPS = (0.50, 0.66, 0.045)  # ribs on the lever's end: from, to, pitch
PX = 400  # of the letters, per world unit
STAMP, STAMPED = (0.15, 0.12), (0.055, 0.25)  # of the lettering on a leg: half sizes; middle's u, z
BELT, CUT = (0.20, 0.075), 1.0  # of the core's letters: middle radius, half height; its seam
RAISED = 0.012  # height of the letters
STAMPS = ((0, -0.05, 58, "ARX"), (0, 0.055, 42, "60 kg"))
# web before the letters, text; on the side of +v and of -v
BELTS = {1: ((2, "PP"), (3, "75"), (4, "ARX")), -1: ((2, "TPR"), (3, "60"), (4, "A3"))}
ZINC, STEEL, CUP = (0.57, 0.58, 0.60), (0.60, 0.59, 0.57), (0.50, 0.48, 0.43)
RED, BLACK, WHITE = (0.50, 0.024, 0.02), (0.03, 0.03, 0.032), (0.76, 0.75, 0.72)
GREY, RUBBER, WORN = (0.27, 0.28, 0.29), (0.026, 0.026, 0.027), (0.062, 0.060, 0.057)
SCORED, SOOT, PALE = (0.05, 0.045, 0.04), (0.05, 0.05, 0.05), (0.52, 0.52, 0.51)
TORN, FRESH = (0.66, 0.14, 0.11), (0.085, 0.080, 0.076)
RUSTS, SPILT = ((0.16, 0.05, 0.018), (0.34, 0.12, 0.03)), ((0.045, 0.03, 0.012), (0.06, 0.17, 0.36))
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*ZINC, 1, 0.30), (*ZINC, 1, 0.27), (*CUP, 1, 0.32), (*STEEL, 1, 0.12), (*BLACK, 0, 0.25)]
    + [(*GREY, 0, 0.42), (*RUBBER, 0, 0.85), (*STEEL, 1, 0.22), (*STEEL, 1, 0.26), (*RED, 0, 0.3)]
)
FLANGE, FORK, RACE, BEARINGS, COVER, CORE, RING, AXLE, HEXAGON, PEDAL = range(10)
LOST_NUT, LOST_END, LOST_WEB, LOST_CAP = range(4)  # what may be missing
RUST, OIL, PAINT = range(3)  # stains


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, dent, cut, scratch, stain)."""
    side = rng.choice([-1, 1])
    if kind == "missing":
        return _random_loss(side, rng)
    if kind == "dent":
        sizes = {"radius": rng.uniform(0.10, 0.15), "depth": rng.uniform(0.045, 0.065)}
        centre, normal = _place((FLANGE, FORK), rng)
        while abs(normal[2]) > 0.5 and np.hypot(centre[0] - PIVOT, centre[1]) < 0.44:  # the race
            centre, normal = _place((FLANGE, FORK), rng)
    elif kind == "cut":  # a slit in the tyre or a chunk out of its shoulder
        slit, turn = rng.random() < 0.5, rng.uniform(-np.pi - 0.2, 0.2)
        lean = rng.uniform(-0.5, 0.5) if slit else side * rng.uniform(0.6, 1.0)
        out = np.array([np.cos(turn), 0, np.sin(turn)])
        v = np.clip(0.2 * lean, -0.1, 0.1)
        centre = _in_world(*((TYRE[0] - CROWNED * v * v) * out + [EYE[0], v, EYE[1]]))
        normal = _turned(*(np.cos(lean) * out + [0, np.sin(lean), 0]))
        sizes = {"slit": slit, "radius": rng.uniform(0.065, 0.10), "angle": rng.uniform(0, np.pi)}
        sizes |= {"length": rng.uniform(0.11, 0.16), "width": rng.uniform(0.016, 0.024)}
    elif kind == "scratch":
        centre, normal = _place((FLANGE, FORK), rng)
        sizes = {"length": rng.uniform(0.13, 0.26), "width": rng.uniform(0.010, 0.015)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":
        of = int(rng.integers(3))
        centre, normal = _place((FLANGE, FORK, *(CORE, PEDAL, RING)[: (0, 2, 3)[of]]), rng)
        sizes = {"of": of, "radius": rng.uniform(0.06, 0.12), "cover": rng.uniform(0.75, 0.98)}
    else:
        raise ValueError(f"the caster has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _random_loss(side, rng):
    """A missing nut, end of the lever, web of the core, or dust cap."""
    part, lean = int(rng.integers(4)), rng.uniform(-0.5, 0.5)
    sizes = {"part": part}
    if part == LOST_NUT:
        centre, normal = _in_world(EYE[0], NUT[2], EYE[1]), _turned(lean, 1, 0.2)
    elif part == LOST_END:
        sizes |= {"cut": rng.uniform(0.50, 0.60), "slant": rng.uniform(-0.5, 0.5)}
        centre, normal = _at_lever(0.63), _turned(-0.5, lean, rng.choice([-0.5, 1]))
    elif part == LOST_WEB:
        web = rng.choice([k for k in range(WEBS) if k != HIDDEN_WEB])
        sizes |= {"web": web, "side": side}
        turn = WEB_TURN + web * 2 * np.pi / WEBS
        ahead, up = 0.2 * np.cos(turn), 0.2 * np.sin(turn)
        centre = _in_world(EYE[0] + ahead, side * WEB[1], EYE[1] + up)
        normal = _turned(lean, side, rng.uniform(-0.6, 0.2))
    else:
        centre, normal = (PIVOT, 0, TOP), np.array([lean, rng.uniform(-0.5, 0.5), 1])
    return described("missing", centre, normal, int(rng.integers(1 << 30)), sizes)


def _turned(u, v, z):
    """World direction of one along the fork, [3]."""
    return np.array([np.cos(TURN) * u - np.sin(TURN) * v, np.sin(TURN) * u + np.cos(TURN) * v, z])


def _in_world(u, v, z):
    return _turned(u, v, z) + [PIVOT, 0, 0]


def _at_lever(along):
    """World place on the middle of the lever, [3]."""
    return _in_world(HINGE[0] - np.cos(DROP) * along, 0, HINGE[1] - np.sin(DROP) * along)


def _place(of, rng):
    """A point of a flat face of the parts `of`, seen across the fork or along z; its normal."""
    while True:
        ahead = np.array([(0, 0, 1), _turned(0, 1, 0)][rng.integers(2)], float)
        side = rng.choice([-1, 1])
        start = rng.uniform((-0.8, -0.6, -0.8), (0.7, 0.45, 0.38))
        start -= (start @ ahead) * ahead
        way = start + side * np.linspace(0.95, -0.95, 761)[:, None] * ahead
        met = first_met(way, parts, distance)
        if met is not None and met[0] in of and side * (met[2] @ ahead) > 0.9:
            return met[1:]


def _capsule(u, z, start, end, reach):
    """Distance-like value of a bar between two places that narrows from radius to radius."""
    du, dz = end[0] - start[0], end[1] - start[1]
    along = (((u - start[0]) * du + (z - start[1]) * dz) / (du * du + dz * dz)).clip(0, 1)
    away = np.hypot(u - start[0] - along * du, z - start[1] - along * dz)
    return away - reach[0] + along * (reach[0] - reach[1])


def _nut(x, y, z, sizes):
    """Distance-like value of a hexagon about z with chamfered corners."""
    radius, bottom, top = sizes
    ends = np.abs(z - (bottom + top) / 2) - (top - bottom) / 2
    corners = 0.8 * (cylinder(x, y, 1.10 * radius) + 0.6 * (ends + 0.25 * radius).clip(0))
    return -smooth_min(-np.maximum(hexagon(x, y, radius), corners), -ends, 0.012)


def _flange(x, y, z):
    """Distance-like value of the plate with its slots."""
    x = x - PIVOT
    middle = TOP - SHEET - SUNK_DEEP * smoothstep((SUNK + 0.03 - np.hypot(x, y)) / 0.07)
    right, back, long, half = SLOT
    outline = box(x, y, 0 * x, (*PLATE, 1), CORNER)
    slots = box(np.abs(x) - right, np.abs(y) - back, 0 * x, (long, half, 1), half - 0.001)
    edge = np.maximum(outline, -slots)
    return -smooth_min(-edge, SHEET - 0.8 * np.abs(z - middle), 0.012)


def _fork(u, v, z):
    """Distance-like value of the bent sheet with its beads and the stamped letters."""
    start, end, reach, high = BEAD
    lifted = high * smoothstep((0.02 - _capsule(u, z, start, end, (reach, reach))) / 0.03)
    across = np.abs(v) - lifted
    down = 2.0  # how far the legs go on below the outline
    outer = box(0 * u, across, z - CROWN + down, (1, LEG, down), 0.09)
    inner = box(0 * u, across, z - CROWN + down + 2 * SHEET, (1, LEG - 2 * SHEET, down), 0.05)
    outline = _capsule(u, z, NECK[:2], EYE[:2], (NECK[2], EYE[2]))
    sheet = -smooth_min(-outline, -both(outer, -inner), 0.012)
    letters = both(_stamped(u, z), LEG - RAISED - v)
    return np.maximum(sheet, -letters)


def _stamped(u, z):
    """Distance-like value of the letters in a leg, as deep as space."""
    right, down = STAMPED[0] - u, STAMPED[1] - z
    near = (np.abs(right) < STAMP[0]) & (np.abs(down) < STAMP[1])
    value = np.full_like(u, 1)
    column, row = (right[near] + STAMP[0]) * PX, (down[near] + STAMP[1]) * PX
    value[near] = interpolated(_stamp_image(), column, row)
    return value


@cache
def _stamp_image() -> np.ndarray:
    image = Image.new("L", (round(2 * STAMP[0] * PX), round(2 * STAMP[1] * PX)), 0)
    draw = ImageDraw.Draw(image)
    for right, down, height, text in STAMPS:
        place, font = (
            ((right + STAMP[0]) * PX, (down + STAMP[1]) * PX),
            ImageFont.load_default(height),
        )
        draw.text(place, text, 255, font, anchor="mm", stroke_width=1)
    return ink_distance(image, PX)


def _belt(turn, reach, v):
    """Distance-like value of the letters on the core's disc, as deep as space."""
    value = np.full_like(v, 1)
    for side in BELTS:
        near = (side * v > 0) & (side * v < 0.1) & (np.abs(reach - BELT[0]) < BELT[1])
        along = (CUT - side * turn[near]) % (2 * np.pi) * BELT[0]
        row = (reach[near] - BELT[0] + BELT[1]) * PX
        value[near] = interpolated(_belt_image(side), along * PX, row)
    return value


@cache
def _belt_image(side: int) -> np.ndarray:
    """Distance to the letters, unrolled to the right as they are seen from their side."""
    image = Image.new("L", (round(2 * np.pi * BELT[0] * PX), round(2 * BELT[1] * PX)), 0)
    for web, text in BELTS[side]:
        turn = (CUT - side * (WEB_TURN + (web + 0.5) * 2 * np.pi / WEBS)) % (2 * np.pi)
        font, place = ImageFont.load_default(40), (turn * BELT[0] * PX, BELT[1] * PX)
        ImageDraw.Draw(image).text(place, text, 255, font, anchor="mm", stroke_width=1)
    return ink_distance(image, PX)


def _core(u, v, z, defect):
    """Distance-like value of the wheel's core about the axle."""
    reach, turn, across = np.hypot(u, z), np.arctan2(z, u), np.abs(v)
    hub = both(reach - HUB[0], across - HUB[1])
    rim = both(reach - SEAT - 0.01, RIM[0] - reach, across - RIM[1])
    disc = both(reach - SEAT, across - DISC)
    disc = np.minimum(disc, both(_belt(turn, reach, v), across - DISC - RAISED))
    sector = 2 * np.pi / WEBS
    number = np.round((turn - WEB_TURN) / sector)
    aside = reach * np.sin(turn - WEB_TURN - number * sector)
    high = WEB[1] - 0.02 * smoothstep((reach - 0.11) / 0.08)
    if defect and defect["kind"] == "missing" and defect["part"] == LOST_WEB:
        gone = (number % WEBS == defect["web"]) & (v * defect["side"] > 0)
        stub = DISC + 0.008 + 0.008 * np.sin(55 * reach + defect["seed"] % 7)
        high = np.where(gone & (reach > HUB[0] + 0.02) & (reach < RIM[0] - 0.015), stub, high)
    webs = both(reach - SEAT, np.abs(aside) - WEB[0], across - high)
    return smooth_min(np.minimum(hub, rim), smooth_min(disc, webs, 0.008), 0.012)


def _tyre(u, v, z):
    """Distance-like value of the flawless tyre about the axle."""
    reach, turn, across = np.hypot(u, z), np.arctan2(z, u), np.abs(v)
    zigzag = smoothstep((np.cos(LUGS * turn + 26 * across) - 0.45) / 0.35)
    groove = np.maximum(zigzag * (across > 0.03), smoothstep((0.016 - across) / 0.006))
    groove = groove * smoothstep((reach - TYRE[0] + 0.06) / 0.02)
    tread = TREAD * groove + CROWNED * v * v
    solid = box(reach + tread, v, 0 * v, (*TYRE, 1), rounding=0.05)
    return np.maximum(solid, SEAT - reach)


def _hole(x, y, z, defect):
    """Distance-like value of what is cut out of the tyre."""
    away = [w - c for w, c in zip((x, y, z), defect["centre"], strict=True)]
    normal, phase = np.array(defect["normal"]), defect["seed"] % 7
    tangent = unit(np.cross(normal, _turned(0, 1, 0)))
    side = np.cross(normal, tangent)
    deep, a, b = (
        sum(w * c for w, c in zip(away, axis, strict=True)) for axis in (normal, tangent, side)
    )
    cos, sin = np.cos(defect["angle"]), np.sin(defect["angle"])
    along, across = cos * a + sin * b, cos * b - sin * a
    if defect["slit"]:
        open_ = defect["width"] * (1 - (along / defect["length"]) ** 2).clip(0, 1)
        wavy = across + 0.008 * np.sin(23 * along + phase)
        return both(np.abs(wavy) - open_ * (1 + deep / 0.09).clip(0.15), -0.065 - deep) - 0.001
    rough = np.sin(47 * a + phase) + np.sin(61 * b - phase) + np.sin(53 * deep + 2 * phase)
    ellipsoid = np.sqrt((along / 1.35) ** 2 + across**2 + (1.5 * deep) ** 2)
    return 0.6 * (ellipsoid - defect["radius"] + 0.006 * rough)


def _on_lever(u, z):
    """Places along the lever and up from its middle."""
    u, z, cos, sin = u - HINGE[0], z - HINGE[1], np.cos(DROP), np.sin(DROP)
    return -cos * u - sin * z, cos * z - sin * u


def _lever(along, across, up, defect):
    """Distance-like value of the brake's lever with its hub."""
    half, thick = LEVER
    wide = half + FLARE * smoothstep((along - 0.30) / 0.2)
    rise = 0.9 * (along - 0.45).clip(0) ** 2
    first, last, pitch = GRIPS
    on_end = smoothstep((along - first) / 0.01) * smoothstep((last - along) / 0.01)
    rib = on_end * smoothstep(np.cos(2 * np.pi * (along - first) / pitch)) * (up > rise)
    middle, long = LEVER_END / 2, LEVER_END / 2
    plan = box(along - middle, across * half / wide, 0 * up, (long, half, 1), 0.06)
    lever = -smooth_min(-plan, thick + 0.012 * rib - np.abs(up - rise), 0.02) * 0.8
    if defect and defect["kind"] == "missing" and defect["part"] == LOST_END:
        lever = np.maximum(lever, _torn(along, across, up, defect))
    return smooth_min(lever, rod(along, up, across, 0.062, -0.185, 0.185, 0.01), 0.03)


def _torn(along, across, up, defect):
    """Distance-like value that is positive where the lever's end broke off."""
    phase = defect["seed"] % 7
    rough = 0.008 * np.sin(57 * across + phase) + 0.005 * np.sin(90 * up + 31 * across)
    return along - defect["cut"] - defect["slant"] * across + rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of each part in the order of LOOKS, each as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    cos, sin = np.cos(TURN), np.sin(TURN)
    bx, by, bz = before_dent(x, y, z, defect)  # only sheet gets dented
    flange = _flange(bx, by, bz)
    fork = _fork(cos * (bx - PIVOT) + sin * by, cos * by - sin * (bx - PIVOT), bz)
    x = x - PIVOT
    u, v = cos * x + sin * y, cos * y - sin * x
    upper, lower = (rod(x, y, z, *cup) for cup in CUPS)
    cups = np.minimum(both(upper, -both(cylinder(x, y, SUNK), CAP[1] - z)), lower)
    count, circle, level, radius = BALLS
    pitch, turn = 2 * np.pi / count, np.arctan2(y, x)
    turn = turn - np.round(turn / pitch) * pitch
    reach = np.hypot(x, y)
    balls = np.hypot(reach * np.cos(turn) - circle, reach * np.sin(turn))
    balls = np.hypot(balls, z - level) - radius
    cap = rod(x, y, z, *CAP, 0.04) - 0.012 * smoothstep((0.09 - reach) / 0.02)
    if lost == LOST_CAP:
        cap = np.full_like(x, 9)
    wu, wz = u - EYE[0], z - EYE[1]
    core, tyre = _core(wu, v, wz, defect), _tyre(wu, v, wz)
    if defect and defect["kind"] == "cut":
        tyre = np.maximum(tyre, -_hole(x + PIVOT, y, z, defect))
    threaded = 0.009 * thread_depth(wu, wz, v, 0.04) * (v > WASHER[2])
    bolt = np.minimum(
        rod(wu, wz, v, BOLT[0], -0.3, BOLT[1], 0.012) + threaded,
        both(rod(wu, wz, -v, *HEAD, 0.03), -both(hexagon(wu, wz, 0.042), 0.28 + v)),
    )
    bolt = np.minimum(bolt, rod(wu, wz, np.abs(v), *WASHER, 0.008))
    pin = rod(u - HINGE[0], z - HINGE[1], np.abs(v), 0.042, -0.1, LEG + 0.025, 0.02)
    king = np.minimum(_nut(x, y, z, KING_NUT), rod(x, y, z, 0.045, 0.69, 0.78, 0.015))
    bolt = np.minimum.reduce([bolt, pin, king])
    nut = np.full_like(x, 9) if lost == LOST_NUT else _nut(wu, wz, v, NUT)
    along, up = _on_lever(u, z)
    lever = _lever(along, v, up, defect)
    return flange, fork, cups, balls, cap, core, tyre, bolt, nut, lever


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the whole caster, as x."""
    return np.minimum.reduce(parts(x, y, z, defect))


def mesh(defect: dict | None = None) -> Mesh:
    """The caster's surface with colour, metallic and roughness per vertex."""
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    part = np.abs(parts(*solid.vertices.T, defect)).argmin(0)
    flat = np.stack(before_dent(*solid.vertices.T, defect), 1)
    points = np.where((part <= FORK)[:, None], flat, solid.vertices)
    x, y, z = points[:, 0] - PIVOT, points[:, 1], points[:, 2]
    u, v = np.cos(TURN) * x + np.sin(TURN) * y, np.cos(TURN) * y - np.sin(TURN) * x
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    mottle, grain = fractal_noise_3d(points, 5, 2, 4), fractal_noise_3d(points, 50, 3, 2)
    sheet = part <= RACE
    look[sheet, :3] *= (1 + 0.045 * mottle + 0.03 * grain)[sheet, None]
    look[sheet, 2] *= 1 - 0.05 * smoothstep(0.5 + mottle[sheet])  # a yellowish cast
    look[sheet, 4] += (0.04 * mottle + 0.02 * grain)[sheet]
    solid.normals = unit(solid.normals)
    rough = np.stack([fractal_noise_3d(points, 45, seed, 2) for seed in (4, 5, 6)], 1)
    solid.normals[sheet] += 0.03 * rough[sheet]
    tyre = part == RING
    solid.normals[tyre] += 0.06 * rough[tyre]
    wu, wz = u - EYE[0], z - EYE[1]
    reach = np.hypot(wu, wz)
    worn = smoothstep((reach - TYRE[0] + 0.022) / 0.008) * tyre * smoothstep(0.7 + 0.4 * mottle)
    look[:, :3] += worn[:, None] * (np.array(WORN) - look[:, :3])
    letters = _belt(np.arctan2(wz, wu), reach, v)
    look[(part == CORE) & (letters < 0.003) & (np.abs(v) > DISC + 0.006), :3] = PALE
    stamped = (part == FORK) & (_stamped(u, z) < 0.002) & (v > LEG - 2 * SHEET + 0.01)
    look[stamped] = (*SOOT, 0.2, 0.6)
    along, up = _on_lever(u, z)
    look[(part == PEDAL) & (up > 0.015) & _printed(along, v)] = (*WHITE, 0, 0.4)
    if defect:
        _spoil(look, points, part, (along, v, up), defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, on_lever, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, sheet = defect["kind"], part <= RACE
    if kind == "scratch":
        look[sheet & scratched(points, defect, reach=0.03)] = (*SCORED, 0.2, 0.6)
    if kind == "cut":
        inner = np.abs(_hole(*points.T, defect)) < 0.004
        look[inner & (part == RING)] = (*FRESH, 0, 0.9)
    if kind == "missing" and defect["part"] == LOST_END:
        look[(np.abs(_torn(*on_lever, defect)) < 0.006) & (part == PEDAL)] = (*TORN, 0, 0.75)
    if kind == "stain":
        away = points - np.array(defect["centre"])
        near = np.linalg.norm(away, axis=1) / defect["radius"]
        near = near + 0.25 * fractal_noise_3d(points, 10, defect["seed"], 4)
        face = np.abs(away @ np.array(defect["normal"])) < 0.035
        cover = defect["cover"] * face * smoothstep((1 - near) / 0.14)
        spilt = np.tile([*SPILT[int(defect["of"]) - 1], 0, 0.18], (len(points), 1))
        if defect["of"] == RUST:
            share = smoothstep(0.5 + 0.6 * fractal_noise_3d(points, 22, defect["seed"] + 1, 4))
            cover, spilt[:, 4] = cover * sheet, 0.9
            spilt[:, :3] = np.array(RUSTS[0]) + share[:, None] * np.subtract(*RUSTS[::-1])
        look += cover[:, None] * (spilt - look)


def _printed(along, across) -> np.ndarray:
    """Which places of the lever's upper face carry print, bool."""
    return picked(_print_image(), (along - 0.22) * PX, (0.17 - across) * PX) > 127


@cache
def _print_image() -> np.ndarray:
    """What is printed on the lever, its end to the right, [rows, columns]."""
    image = Image.new("L", (round(0.28 * PX), round(0.34 * PX)), 0)
    draw, middle = ImageDraw.Draw(image), 0.17 * PX
    draw.text((48, middle), "OFF", 255, ImageFont.load_default(46), anchor="mm", stroke_width=1)
    draw.polygon([(94, middle - 20), (94, middle + 20), (110, middle)], 255)
    return np.asarray(image)
