"""Spectacles without lenses: a tortoiseshell front, metal temples, nose pads; their defects.

The front looks along -y, the temples point along y: the one at -x is open, the other half folded.
Left and right differ in that, in their emblems, and in the print inside the open temple.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import described, first_met, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, rod, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0005, "bent": 0.0012, "crack": 0.0004, "scratch": 0.0004}
SMALLEST_MASK |= {"stain": 0.0006}
LOW, HIGH, STEP = np.array([-0.83, -0.68, -0.31]), np.array([0.83, 0.77, 0.31]), 0.0066
LENS, CORNER, FLARE = (0.400, 0.285, 0.215), 0.17, 0.09  # |x|, half sizes; how it widens upwards
RIM, BROW, THICK = 0.042, 0.020, 0.026  # width, more at the top; half thickness
MIDDLE, BOW = -0.62, 0.16  # y of the front at x = 0; how it is curved
BRIDGE = (0.105, 0.13, 0.040)  # z, half sizes
SHOULDER = (0.72, 0.13, 0.05, 0.05)  # |x|, z, half sizes; joins the rim and the leg
LEG = ((0.745, -0.46, 0.13), (0.028, 0.09, 0.05))  # middle, half sizes
EMBLEM = (0.758, -0.465, 0.13, 0.062, 0.036)  # |x| of its floor, y, z, half sizes
PROUD = 0.032  # how far an emblem rises above its floor
HINGE = (0.705, -0.345, 0.13)  # |x|, y, z
KNUCKLE, SHANK, HEIGHT = 0.034, 0.022, 0.056  # radii, half height of the hinge
KNUCKLE_GAPS = 0.019  # |z| from its middle
HEAD = (0.040, 0.054, 0.080)  # of a screw: radius, from and to z above the hinge's middle
FOLD = {-1: 0.0, 1: 0.62}  # of the temples, rad
BAR = (0.036, 0.020)  # of a temple: offset outwards from the hinge, half thickness
EAR, EAR_RADIUS = 0.64, 0.45  # along a temple, where it turns down; radius of the turn
TIP = (0.60, 1.14, 0.028)  # along a temple, from and to; half thickness
BEND = 0.40  # along a temple, where it gets bent
ANCHOR, ELBOW = np.array([0.083, -0.605, 0.05]), np.array([0.145, -0.54, 0.045])  # of a wire
PAD, WIRE = np.array([0.095, -0.488, -0.035]), 0.0165  # middle of a nose pad; radius
PAD_HALF = (0.018, 0.052, 0.080)
FACING = unit(np.array([-0.80, 0.55, 0.15]))  # a pad, towards the nose
PAD_LENGTH = unit(np.cross(np.cross(FACING, [0.25, 0.1, -1.0]), FACING))
PRINT, PX = (0.105, 0.585, 0.05), 500  # along a temple, from and to; half height; px per world unit
DARK, AMBER, HONEY = (0.016, 0.007, 0.004), (0.17, 0.055, 0.011), (0.42, 0.19, 0.045)
GOLD, STEEL, SILICONE = (0.70, 0.54, 0.33), (0.60, 0.60, 0.59), (0.58, 0.57, 0.52)
INK, SOOT, RESIDUE = (0.05, 0.04, 0.035), (0.012, 0.012, 0.012), (0.30, 0.22, 0.10)
WHITENED, TORN = (0.46, 0.36, 0.25), (0.33, 0.19, 0.09)
PALE, SCORED = (0.50, 0.42, 0.33), (0.13, 0.13, 0.13)
GLUE, VERDIGRIS, BROWN = (0.62, 0.58, 0.45), (0.10, 0.30, 0.23), (0.12, 0.065, 0.03)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*DARK, 0, 0.12), (*DARK, 0, 0.14), (*GOLD, 1, 0.24), (*STEEL, 1, 0.2)]
    + [(*SILICONE, 0, 0.3), (*STEEL, 1, 0.13)]
)
FRONT, TIPS, METAL, SCREWS, PADS, EMBLEMS = range(6)
LOST_SCREW, LOST_PAD, LOST_EMBLEM, LOST_TIP = range(4)  # what may be missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, bent, crack, scratch, stain)."""
    side = int(rng.choice([-1, 1]))
    sizes, mirror = {"side": side}, np.array([side, 1, 1])
    if kind == "missing":
        part = int(rng.integers(4))
        sizes |= {"part": part, "cut": rng.uniform(0.93, 1.05), "slant": rng.uniform(-0.5, 0.5)}
        centre, normal = [
            (mirror * HINGE + [0, 0, HEAD[2]], (0.3 * side, rng.uniform(-0.5, 0.5), 1)),
            (mirror * PAD, (rng.uniform(-0.4, 0.4), rng.choice([-0.6, 1, 1]), 0.2)),
            (mirror * EMBLEM[:3], (side, -0.2, 0.1)),
            (_on_temple(1.06, side), (rng.choice([-1, 1]), 0.3, rng.uniform(-0.3, 0.6))),
        ][part]
    elif kind == "bent":  # a temple, in or out, up or down; a nose pad's wire
        sizes |= {"temple": rng.random() < 0.5, "towards": rng.uniform(-np.pi, np.pi)}
        if sizes["temple"]:
            across = np.array([side * np.cos(FOLD[side]), np.sin(FOLD[side]), 0])
            normal = np.cos(sizes["towards"]) * np.array([0, 0, 1.0])
            normal = normal - np.sin(sizes["towards"]) * across
            centre, sizes["angle"] = _on_temple(0.78, side), rng.uniform(0.10, 0.22)
        else:
            centre, sizes["angle"] = mirror * PAD, rng.uniform(0.45, 0.8)
            normal = (rng.uniform(-0.4, 0.4), rng.choice([-0.5, 1]), 0.3)
    elif kind == "crack":  # through the rim, where neither bridge nor hinge hold it
        turn = rng.uniform(-0.85 * np.pi, -0.15 * np.pi) + (rng.random() < 0.2) * np.pi
        ray = np.linspace(0.1, 0.5, 400)
        u, v = ray * np.cos(turn), ray * np.sin(turn)
        k = np.abs(_opening(u, v) - RIM / 2).argmin()
        centre = side * (LENS[0] + u[k]), _front_y(LENS[0] + u[k]), v[k]
        normal = (0.2 * side * np.cos(turn), rng.choice([-1, -1, 1]), 0.2 * np.sin(turn))
        sizes |= {"turn": turn, "gap": rng.uniform(0.007, 0.015), "slant": rng.uniform(-1, 1)}
    elif kind == "scratch":
        centre, normal = _open_place(rng, (FRONT, TIPS, METAL))
        sizes = {"length": rng.uniform(0.11, 0.25), "width": rng.uniform(0.007, 0.012)}
        sizes["angle"] = rng.uniform(-0.35, 0.35)
        if centre[1] < LEG[0][1]:  # about along the rim
            sizes["angle"] += _rim_direction(abs(centre[0]), centre[2]) * np.sign(centre[0])
    elif kind == "stain":  # glue, or corrosion of a hinge
        sizes["glue"] = rng.random() < 0.5
        sizes |= {"radius": rng.uniform(0.06, 0.11), "cover": rng.uniform(0.55, 0.95)}
        centre, normal = mirror * HINGE, (rng.choice([-1, 1]), rng.uniform(-0.2, 0.8), 0.5)
        if sizes["glue"]:
            centre, normal = _open_place(rng, (FRONT, TIPS))
    else:
        raise ValueError(f"the pair of spectacles has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _lost(defect, side):
    """What is missing on a side, None where nothing is."""
    missing = defect and defect["kind"] == "missing" and defect["side"] == side
    return int(defect["part"]) if missing else None


def _on_temple(along, side):
    """Point of a temple's middle line, [3]."""
    turn = max(along - EAR, 0) / EAR_RADIUS
    reach, drop = min(along, EAR) + EAR_RADIUS * np.sin(turn), EAR_RADIUS * (1 - np.cos(turn))
    cos, sin = np.cos(FOLD[side]), np.sin(FOLD[side])
    out, back = cos * BAR[0] - sin * reach, cos * reach + sin * BAR[0]
    return np.array([side * (HINGE[0] + out), HINGE[1] + back, HINGE[2] - drop])


def _open_place(rng, of):
    """A point of one of the parts `of` that shows from a side, and its normal, each [3]."""
    while True:
        axis = rng.choice([0, 1])
        way = np.tile(rng.uniform((-0.77, -0.55, -0.25), (0.77, 0.70, 0.25)), (901, 1))
        way[:, axis] = np.linspace(0.85, -0.85, 901) * rng.choice([-1, 1])
        met = first_met(way, parts, distance)
        if met is not None and met[0] in of and abs(met[2][axis]) > 0.75:
            return met[1:]


def _rim_direction(across, z):
    """Angle of the rim's direction to the horizontal at |x| and z, rad."""
    u, off = across - LENS[0], 0.01
    rise = _opening(np.array([u - off, u + off, u, u]), np.array([z, z, z - off, z + off]))
    return np.arctan2(rise[1] - rise[0], rise[2] - rise[3])


def _opening(u, v):
    """Distance-like value of a lens's opening, u and v from its middle."""
    _, wide, high = LENS
    return box(u * wide / (wide + FLARE * v), v, 0 * v, (wide, high, 1), CORNER)


def _front_y(x):
    return MIDDLE + BOW * x * x


def _front(x, y, z):
    """Distance-like value of the front with its legs, emblems' recesses not cut."""
    across = np.abs(x)
    opening = _opening(across - LENS[0], z)
    plan = opening - RIM - BROW * smoothstep(0.5 + z / 0.3)
    plan = smooth_min(plan, box(x, z - BRIDGE[0], 0 * z, (*BRIDGE[1:], 1), 0.03), 0.06)
    sx, sz, wide, high = SHOULDER
    plan = smooth_min(plan, box(across - sx, z - sz, 0 * z, (wide, high, 1), 0.02), 0.05)
    sheet = THICK - np.abs(y - _front_y(x))
    front = -smooth_min(-np.maximum(plan, -opening), sheet, 0.025)
    (lx, ly, lz), half = LEG
    return smooth_min(front, box(across - lx, y - ly, z - lz, half, 0.018), 0.03)


def _cracked(x, z, defect):
    """Distance-like value of the sheet, slanted and rough, along which the rim is cracked."""
    turn, phase = defect["turn"], defect["seed"] % 7
    u = defect["side"] * (x - defect["centre"][0])
    v = z - defect["centre"][2]
    out, on = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
    rough = 0.006 * np.sin(95 * out + phase) + 0.004 * np.sin(171 * out - phase)
    return (np.abs(on - defect["slant"] * out - rough) + 9 * (np.abs(out) > 0.08)) / 1.2


def _emblem(x, y, z):
    """Distance-like value of the emblems' outline: a lozenge at -x, an oval ring at x."""
    across, up = (y - EMBLEM[1]) / EMBLEM[3], (z - EMBLEM[2]) / EMBLEM[4]
    lozenge = np.abs(across) + np.abs(up) - 1.05
    reach = np.hypot(across, up)
    ring = np.maximum(reach - 1, 0.45 - reach)
    return 0.032 * np.where(x < 0, lozenge, ring)


def _along_temple(x, y, z, side, defect=None):
    """Places along a temple, outwards and up from its middle, as if straight and not bent."""
    out, back, up = side * x - HINGE[0], y - HINGE[1], z - HINGE[2]
    cos, sin = np.cos(FOLD[side]), np.sin(FOLD[side])
    along, out = cos * back - sin * out, cos * out + sin * back
    if defect and defect["kind"] == "bent" and defect["temple"] and defect["side"] == side:
        past = np.tan(defect["angle"]) * -smooth_min(BEND - along, 0 * along, 0.08)
        out, up = out - np.sin(defect["towards"]) * past, up - np.cos(defect["towards"]) * past
    turned = np.maximum(along - EAR, 0)
    on_arc = EAR + EAR_RADIUS * np.arctan2(turned, up + EAR_RADIUS)
    up = np.where(turned > 0, np.hypot(turned, up + EAR_RADIUS) - EAR_RADIUS, up)
    along = np.where(turned > 0, on_arc, along)
    return along, out - BAR[0] + 0.12 * np.maximum(along - 0.5, 0) ** 2, up


def _temple(x, y, z, side, defect):
    """Distance-like values of a temple's metal and of its tip."""
    along, out, up = _along_temple(x, y, z, side, defect)
    half = 0.026 + 0.016 * smoothstep((0.5 - along) / 0.4)
    long = TIP[0] + 0.1
    bar = box(along - long / 2, out, up * 0.04 / half, (long / 2, BAR[1], 0.04), 0.008)
    leaf = box(along - 0.055, out + 0.024, up, (0.035, 0.014, 0.04), 0.006)
    tongue = box(along - 0.03, out + 0.026, up, (0.04, 0.014, 0.014), 0.004)
    start, end, thick = TIP
    high = 0.034 + 0.012 * smoothstep((along - start) / (end - start))
    tip = box(
        along - (start + end) / 2, out, up * 0.04 / high, ((end - start) / 2, thick, 0.04), 0.026
    )
    metal = np.minimum.reduce([bar, leaf, tongue])
    if _lost(defect, side) == LOST_TIP:
        tip = np.maximum(tip, _torn(along, out, up, defect))
        core = both(np.hypot(out, up) - 0.017, start - along, along - defect["cut"] - 0.03)
        metal = np.minimum(metal, core)
    return metal, tip


def _torn(along, out, up, defect):
    """Distance-like value that is positive where a tip's end broke off."""
    phase = defect["seed"] % 7
    rough = 0.006 * np.sin(83 * up + phase) + 0.005 * np.sin(97 * out + 41 * up + phase)
    return along - defect["cut"] - defect["slant"] * up + rough


def _capsule(at, start, end, radius):
    """Distance to a rod with round ends; `at`: x, y, z."""
    axis = end - start
    away = [v - s for v, s in zip(at, start, strict=True)]
    share = (sum(v * a for v, a in zip(away, axis, strict=True)) / (axis @ axis)).clip(0, 1)
    return np.sqrt(sum((v - share * a) ** 2 for v, a in zip(away, axis, strict=True))) - radius


def _nose_pad(x, y, z, side, defect):
    """Distance-like values of a nose pad and of its wire and mount."""
    at = side * x, y, z
    if defect and defect["kind"] == "bent" and not defect["temple"] and defect["side"] == side:
        turn, axis = defect["angle"], [np.cos(defect["towards"]), 0, np.sin(defect["towards"])]
        skew = np.cross(np.eye(3), axis)  # turns about an axis in the front's plane
        turned = np.eye(3) + np.sin(turn) * skew + (1 - np.cos(turn)) * skew @ skew
        away = [v - a for v, a in zip(at, ANCHOR, strict=True)]
        at = [
            a + sum(r * v for r, v in zip(row, away, strict=True))
            for a, row in zip(ANCHOR, turned, strict=True)
        ]
    away = [v - p for v, p in zip(at, PAD, strict=True)]
    axes = FACING, np.cross(PAD_LENGTH, FACING), PAD_LENGTH
    deep, wide, long = (sum(v * a for v, a in zip(away, axis, strict=True)) for axis in axes)
    thick, half, length = PAD_HALF
    outline = (np.hypot(wide / half, long / length) - 1) * half
    pad = -smooth_min(-outline, thick - np.abs(deep), 0.02)
    mount = rod(wide, long, deep, 0.030, -0.045, -0.008, 0.008)
    bent = _capsule(at, ELBOW, PAD - 0.04 * FACING, WIRE)
    wire = smooth_min(_capsule(at, ANCHOR, ELBOW, WIRE), bent, 0.02)
    if _lost(defect, side) == LOST_PAD:
        pad = np.full_like(pad, 9)
    return pad, np.minimum(wire, mount)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of front, tips, metal, screws, pads, emblems, each as x."""
    front = _front(x, y, z)
    if defect and defect["kind"] == "crack":
        front = np.maximum(front, defect["gap"] - _cracked(x, z, defect))
    outline, floor = _emblem(x, y, z), EMBLEM[0] - np.abs(x)
    recess = both(outline - 0.004, floor)
    emblems = both(outline, floor - 0.01, -floor - PROUD)
    front = np.maximum(front, -recess)
    across, back, up = np.abs(x) - HINGE[0], y - HINGE[1], z - HINGE[2]
    reach = np.hypot(across, back)
    knuckles = both(reach - KNUCKLE, np.abs(up) - HEIGHT)
    ring = np.abs(np.abs(up) - KNUCKLE_GAPS)
    knuckles = np.maximum(knuckles, -both(ring - 0.006, SHANK - reach))
    leaf = box(across - 0.004, back + 0.055, up, (0.015, 0.055, 0.045), 0.006)
    leaf = np.maximum(leaf, -both(reach - KNUCKLE - 0.008, np.abs(up) - KNUCKLE_GAPS))
    radius, bottom, top = HEAD
    head = rod(across, back, up, radius, bottom, top, 0.014)
    head = np.maximum(head, -both(np.abs(across - 0.5 * back) - 0.010, top - 0.014 - up))
    foot = rod(across, back, up, SHANK, -HEIGHT - 0.02, -HEIGHT, 0.008)
    screws = np.minimum(head, foot)
    metal = np.minimum(knuckles, leaf)
    tips, pads = np.full_like(x, 9), np.full_like(x, 9)
    for side in FOLD:
        here, lost = side * x > 0, _lost(defect, side)
        if lost == LOST_SCREW:
            screws = np.where(here, 9, screws)
            metal = np.where(here, np.maximum(metal, SHANK - reach), metal)
        if lost == LOST_EMBLEM:
            emblems = np.where(here, 9, emblems)
        bar, tip = _temple(x, y, z, side, defect)
        pad, wire = _nose_pad(x, y, z, side, defect)
        metal = np.minimum.reduce([metal, bar, wire])
        tips, pads = np.minimum(tips, tip), np.minimum(pads, pad)
    return front, tips, metal, screws, pads, emblems


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The spectacles' surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    acetate, metal = part <= TIPS, part == METAL
    clouds = fractal_noise_3d(points * [1, 1, 1.3], 5.5, 2, 3)
    specks = fractal_noise_3d(points, 17, 3, 2)
    for where, colour in ((clouds + 0.25 * specks, AMBER), (clouds + 0.4 * specks - 0.75, HONEY)):
        share = (smoothstep(0.5 + 0.9 * where) * acetate)[:, None]
        look[:, :3] += share * (np.array(colour) - look[:, :3])
    grain = fractal_noise_3d(points * [70, 6, 70], 1.0, 4, 2)
    look[:, :3] *= (1 + 0.04 * grain * metal)[:, None]
    look[:, 4] += 0.03 * grain * metal
    across, back, up = np.abs(x) - HINGE[0], y - HINGE[1], z - HINGE[2]
    reach = np.hypot(across, back)
    slot = (part == SCREWS) & (up > HEAD[1] + 0.005) & (up < HEAD[2] - 0.008)
    look[slot & (reach < HEAD[0] - 0.008)] = (*SOOT, 0, 0.8)
    look[metal & (reach < KNUCKLE - 0.004) & (np.abs(up) < HEIGHT - 0.008)] = (*SOOT, 0, 0.8)
    along, out, up = _along_temple(x, y, z, -1, defect)
    inside = metal & (x < 0) & (out < 0.004 - BAR[1])
    look[inside & _printed(along, up)] = (*INK, 0, 0.75)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z), acetate = defect["kind"], points.T, part <= TIPS
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1)
    if kind == "missing" and defect["part"] == LOST_TIP:
        place = _along_temple(x, y, z, int(defect["side"]))
        torn = (np.abs(_torn(*place, defect)) < 0.007) & (part == TIPS) & (away < 0.25)
        look[torn] = (*TORN, 0, 0.7)
    if kind == "missing" and defect["part"] == LOST_EMBLEM:
        floor = np.abs(np.abs(x) - EMBLEM[0] + 0.0035) < 0.0065
        glued = floor & (defect["side"] * x > 0) & (part == FRONT) & (_emblem(x, y, z) < 0)
        blot = smoothstep(0.5 + fractal_noise_3d(points[glued], 30, defect["seed"], 2))
        look[glued] = (*RESIDUE, 0, 0.7)
        look[glued, :3] *= (0.4 + 0.9 * blot)[:, None]
    if kind == "crack":  # acetate whitens along it
        near = _cracked(x, z, defect) - defect["gap"]
        stress = smoothstep((0.022 + 0.008 * fractal_noise_3d(points, 40, 5, 2) - near) / 0.016)
        cover = (0.8 * stress * (part == FRONT) * (away < 0.12))[:, None]
        look += cover * (np.array([*WHITENED, 0, 0.5]) - look)
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.024)
        look[scored & acetate] = (*PALE, 0, 0.6)
        look[scored & ~acetate] = (*SCORED, 0.5, 0.55)
    if kind == "stain":
        edge = away / defect["radius"] + 0.3 * fractal_noise_3d(points, 12, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / 0.25)
        spilt = np.tile([*GLUE, 0, 0.45], (len(points), 1))
        if not defect["glue"]:
            share = smoothstep(0.5 + 0.8 * fractal_noise_3d(points, 25, defect["seed"] + 1, 3))
            colour = np.outer(share, VERDIGRIS) + np.outer(1 - share, BROWN)
            spilt = np.hstack([colour, 0 * colour[:, :1], 0 * colour[:, :1] + 0.85])
            cover = cover * ((part == METAL) | (part == SCREWS))
        look += cover[:, None] * (spilt - look)


def _printed(along, up) -> np.ndarray:
    """Which places inside the open temple carry print, bool."""
    start, _, half = PRINT
    return picked(_print_image(), (along - start) * PX, (half - up) * PX) > 127


@cache
def _print_image() -> np.ndarray:
    """What is printed inside the open temple, its tip to the right, [rows, columns]."""
    start, end, half = PRINT
    image = Image.new("L", (round((end - start) * PX), round(2 * half * PX)), 0)
    draw = ImageDraw.Draw(image)
    for right, text in ((0.12, "ARX 20"), (0.36, "52-18")):
        font = ImageFont.load_default(31)
        draw.text((right * PX, half * PX), text, 255, font, anchor="mm", stroke_width=1)
    return np.asarray(image)
