"""A wooden chess knight: a turned base, a carved horse's head, a felt pad, a brass ring; defects.

It stands along z and looks along x. The wood's fibres run along z, a little askew, and its year
rings lie about a pith beside the piece, so that the grain shows differently from all sides. But
for the grain and a mark burnt into the foot, the left half is the right one mirrored.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .knight_head import (
    AHEAD,
    EAR,
    EYE,
    JOWL,
    MANE,
    UP,
    carved_hollows,
    eyes_distance,
    horse_distance,
)
from .lights import smoothstep
from .marks import (
    described,
    first_met,
    ink_distance,
    marked_face,
    scratched,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, cylinder, rod, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"chip": 0.0009, "crack": 0.0006, "stain": 0.0012, "scratch": 0.0008}
SMALLEST_MASK |= {"missing": 0.0006}
LOW, HIGH, STEP = np.array([-0.53, -0.53, -0.92]), np.array([0.66, 0.53, 0.94]), 0.0065
PAD = (0.468, -0.90, -0.868)  # radius, from and to z
# rings of the base: radius, from and to z, rounding of the edges
DISCS = ((0.50, -0.87, -0.655, 0.022), (0.455, -0.67, -0.60, 0.02), (0.335, -0.375, -0.30, 0.025))
BEADS = ((0.360, -0.555, 0.054), (0.295, -0.395, 0.032))  # middle radius, z, thickness
COVE = (0.265, 0.13, -0.41, 0.20)  # least radius, growth, z of the least, height
BAND = (0.485, 0.018, -0.705, 0.017)  # of the brass: middle radius, half depth, z, half height
PITH, LEAN, RINGS = (-0.62, 0.47), (0.10, -0.07), 19.0  # x, y; slope; rings per world unit
MARK, PX = (2.35, -0.785, 0.20, 0.065), 500  # azimuth, z, half sizes; px per world unit
EARLY, LATE, BARE = (0.37, 0.155, 0.054), (0.185, 0.064, 0.021), (0.62, 0.42, 0.23)
BRASS, FELT, JET = (0.78, 0.55, 0.23), (0.022, 0.105, 0.050), (0.012, 0.011, 0.011)
BURNT, CREVICE, GLUE = (0.045, 0.022, 0.012), (0.030, 0.015, 0.009), (0.30, 0.20, 0.09)
INK, AMBER, BLOOM = (0.012, 0.016, 0.055), (0.16, 0.050, 0.010), (0.66, 0.60, 0.52)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*EARLY, 0, 0.27), (*FELT, 0, 0.95), (*BRASS, 1, 0.22), (*JET, 0, 0.08)], np.float64
)
WOOD, CLOTH, RING, EYES = range(4)
EAR_TIP, LOCKS, BASE = range(3)  # where a chip may be
SPILT_INK, RUN, WATERMARK = range(3)  # stains
LOST_EYE, LOST_RING, LOST_FELT = range(3)  # what may be missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (chip, crack, stain, scratch, missing)."""
    side = rng.choice([-1, 1])
    if kind == "chip":
        return _random_chip(side, rng)
    if kind == "missing":
        return _random_loss(side, rng)
    if kind == "crack":  # along the fibres; most in neck and chest, else in the foot
        heights = (-0.26, 0.35) if rng.random() < 0.7 else (-0.84, -0.64)
        centre, normal = _place(heights, rng)
        sizes = {"length": rng.uniform(0.12, 0.24), "width": rng.uniform(0.0075, 0.0115)}
    elif kind == "stain":
        form = int(rng.integers(3))
        centre, normal = _place((-0.82, 0.65) if form == SPILT_INK else (-0.25, 0.6), rng)
        sizes = {"form": form, "radius": rng.uniform(0.06, 0.105)}
        sizes |= {"length": rng.uniform(0.14, 0.30), "width": rng.uniform(0.030, 0.045)}
        sizes["cover"] = (rng.uniform(0.8, 0.97), rng.uniform(0.6, 0.8), rng.uniform(0.4, 0.65))[
            form
        ]
    elif kind == "scratch":
        centre, normal = _place((-0.84, 0.68), rng)
        sizes = {"length": rng.uniform(0.12, 0.25), "width": rng.uniform(0.009, 0.014)}
        sizes["angle"] = rng.uniform(0, np.pi)
    else:
        raise ValueError(f"the knight has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _random_chip(side, rng):
    """A piece broken off an ear, the mane, or an edge of the base."""
    form, azimuth = int(rng.choice(3, p=(0.35, 0.3, 0.35))), rng.uniform(-np.pi, np.pi)
    outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    if form == EAR_TIP:
        radius = rng.uniform(0.07, 0.115)
        centre = np.array(EAR[1][:3]) * (1, side, 1) + rng.uniform(-0.02, 0.02, 3)
        normal = [0.4, side, 0.3] + 0.5 * outwards
    elif form == LOCKS:
        radius, at = rng.uniform(0.06, 0.095), rng.uniform(0.8, len(MANE) - 1.6)
        x, z = (np.interp(at, range(len(MANE)), line) for line in np.transpose(MANE))
        out = unit(np.array([x + 0.02, 0, z - 0.15]))
        centre = np.array([x, 0, z]) + 0.115 * out + [0, side * rng.uniform(0, 0.07), 0]
        normal = out + [0, side * rng.uniform(0.1, 0.7), 0]
    else:
        edges = ((0.50, -0.66), (0.50, -0.86), (0.455, -0.61), (0.41, -0.555), (0.335, -0.31))
        reach, z = edges[rng.integers(len(edges))]
        centre, radius = reach * outwards + [0, 0, z], rng.uniform(0.06, 0.10)
        normal = outwards + [0, 0, 0.4 if z > -0.8 else -0.4]
    return described("chip", centre, normal, int(rng.integers(1 << 30)), {"radius": radius})


def _random_loss(side, rng):
    """A missing eye, a stretch of the brass ring, or a piece of the felt pad."""
    form, azimuth = int(rng.choice(3, p=(0.4, 0.4, 0.2))), rng.uniform(-np.pi, np.pi)
    outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    sizes = {"form": form, "side": side, "azimuth": azimuth}
    if form == LOST_EYE:
        x, z = (JOWL[k] + EYE[0] * AHEAD[k] + EYE[1] * UP[k] for k in range(2))
        centre, normal = (x, side * EYE[2], z), np.array([0.3, side, 0.3])
    elif form == LOST_RING:
        sizes["half_angle"] = rng.uniform(0.16, 0.42)
        centre = BAND[0] * outwards + [0, 0, BAND[2]]
        normal = outwards + [0, 0, 0.1]
    else:
        sizes["radius"] = rng.uniform(0.13, 0.21)
        centre, normal = 0.45 * outwards + [0, 0, PAD[1]], 0.3 * outwards - [0, 0, 1]
    return described("missing", centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(heights, rng):
    """A point of the wood between two heights that faces sideways, and its normal, each [3]."""
    while True:
        azimuth, aside = rng.uniform(-np.pi, np.pi), rng.uniform(-0.2, 0.2)
        out = np.array([np.cos(azimuth), np.sin(azimuth), 0])
        way = np.linspace(0.8, -0.4, 601)[:, None] * out + aside * np.array([-out[1], out[0], 0])
        way[:, 2] = rng.uniform(*heights)
        met = first_met(way, parts, distance)
        if met is not None and met[0] == WOOD and met[2] @ out > 0.75:
            return met[1:]


def _base(x, y, z):
    """Distance-like value of what was turned: foot, step, beads, cove, collar."""
    reach = np.sqrt(x * x + y * y)
    least, growth, at, high = COVE
    stem = both(reach - least - growth * ((z - at) / high) ** 2, -0.63 - z, z + 0.34) * 0.8
    base = np.minimum.reduce([rod(x, y, z, *disc) for disc in DISCS])
    beads = [np.hypot(reach - radius, z - level) - thick for radius, level, thick in BEADS]
    base = np.minimum(smooth_min(stem, beads[0], 0.004), np.minimum(base, beads[1]))
    filled = both(reach - BEADS[0][0], np.abs(z - BEADS[0][1]) - BEADS[0][2])
    return np.minimum(base, filled)


def _marked(x, y, z):
    """Distance-like value of the burnt-in mark, endless along the radius."""
    azimuth, level, *half = MARK
    turn = (np.arctan2(y, x) - azimuth + np.pi) % (2 * np.pi) - np.pi
    return marked_face(_mark_image(), DISCS[0][0] * turn, level - z, half, PX)


@cache
def _mark_image() -> np.ndarray:
    """Distance to the mark's lines in world units, negative within, [rows, columns]."""
    canvas = Canvas(MARK[2:], PX)
    canvas.write(0.045, 0, 50, 255, "HOLM", 1)
    crown = (-0.185, 0.04, -0.195, -0.04, -0.165, -0.005, -0.145, -0.05, -0.125, -0.005)
    pixels = canvas.px(*crown, -0.095, -0.04, -0.105, 0.04)
    canvas.draw.polygon(pixels, 255)
    canvas.rectangle(-0.18, 0.012, -0.11, 0.022, 0)
    return ink_distance(canvas.image, PX)


def _flawless_wood(x, y, z):
    """Distance-like value of the wood before places for inlays are cut, and before any defect."""
    wood = _base(x, y, z)
    high = z > -0.42
    wood[high] = smooth_min(wood[high], horse_distance(x[high], y[high], z[high]), 0.012)
    low = z < -0.70
    burnt = both(_marked(x[low], y[low], z[low]), DISCS[0][0] - 0.010 - cylinder(x, y, 0)[low])
    wood[low] = np.maximum(wood[low], -burnt)
    return wood


def _broken_off(x, y, z, defect):
    """Distance-like value of a splintered lump that is missing, longer along the fibres."""
    phase, (cx, cy, cz) = defect["seed"] % 7, defect["centre"]
    rough = np.sin(71 * x + phase) + np.sin(83 * y - phase) + np.sin(19 * z + 37 * (x + y))
    away = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + ((z - cz) / 1.3) ** 2)
    return away - defect["radius"] + 0.006 * rough


def _crack(x, y, z, defect):
    """Distance-like value of a crack's gap as wide as the wood, along z and the defect's normal."""
    (cx, cy, cz), normal, phase = defect["centre"], defect["normal"], defect["seed"] % 7
    out = unit(np.array([*normal[:2], 0.0]))
    fallen = z - cz
    across = (y - cy) * out[0] - (x - cx) * out[1] + LEAN[1] * fallen
    across = across + 0.009 * np.sin(17 * fallen + phase) + 0.004 * np.sin(53 * fallen - phase)
    deep = (x - cx) * out[0] + (y - cy) * out[1]
    share = (1 - (fallen / defect["length"]) ** 2).clip(0, 1)
    gap = np.abs(across) - defect["width"] * np.sqrt(share)
    return both(gap, np.abs(fallen) - defect["length"], -0.14 - deep)


def _run(x, y, z, defect):
    """How much of a varnish run covers the places, 0..1, and how thick it is there (0..1)."""
    (cx, cy, cz), normal, phase = defect["centre"], defect["normal"], defect["seed"] % 7
    out = unit(np.array([*normal[:2], 0.0]))
    across = (y - cy) * out[0] - (x - cx) * out[1] + 0.012 * np.sin(9 * z + phase)
    deep = (x - cx) * out[0] + (y - cy) * out[1]
    fallen = cz + defect["length"] / 2 - z
    beyond = (fallen - defect["length"]).clip(0) + (-fallen).clip(0)
    share = (fallen / defect["length"]).clip(0, 1)
    wide = defect["width"] * (0.55 + 0.5 * smoothstep((share - 0.7) / 0.25))
    away = np.hypot(across, beyond) / wide
    cover = smoothstep((1 - away) / 0.2) * (deep > -0.16)
    thick = np.sqrt((1 - away**2).clip(0)) * (0.45 + 0.55 * share) * (deep > -0.16)
    return cover, thick


def _felt(x, y, z, defect):
    """Distance-like value of the pad."""
    pad = rod(x, y, z, *PAD, 0.008)
    if defect and defect["kind"] == "missing" and defect["form"] == LOST_FELT:
        (cx, cy, _), phase = defect["centre"], defect["seed"] % 7
        ragged = 0.012 * np.sin(31 * x + phase) + 0.01 * np.sin(43 * y - phase)
        pad = np.maximum(pad, defect["radius"] - np.hypot(x - cx, y - cy) + ragged)
    return pad


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of wood, felt, brass and eyes, each as x."""
    kind = defect["kind"] if defect else None
    lost = int(defect["form"]) if kind == "missing" else None
    wood = _flawless_wood(x, y, z)
    reach = np.sqrt(x * x + y * y)
    radius, deep, level, half = BAND
    band = both(np.abs(reach - radius) - deep, np.abs(z - level) - half)
    eyes = eyes_distance(x, y, z)
    if kind == "crack":
        wood = np.maximum(wood, -both(_crack(x, y, z, defect), -0.045 - wood))
    if kind == "stain" and defect["form"] == RUN:
        wood = wood - 0.016 * _run(x, y, z, defect)[1] * (wood < 0.03)
    wood = np.maximum(wood, -np.minimum(band, eyes))
    if lost == LOST_RING:
        off = (np.arctan2(y, x) - defect["azimuth"] + np.pi) % (2 * np.pi) - np.pi
        band = np.maximum(band, radius * (defect["half_angle"] - np.abs(off)))
    if lost == LOST_EYE:
        eyes = np.where(y * defect["side"] > 0, 9, eyes)
    felt = _felt(x, y, z, defect)
    if kind == "chip":
        gone = -_broken_off(x, y, z, defect)
        wood, band = np.maximum(wood, gone), np.maximum(band, gone)
    return wood, felt, band, eyes


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The knight's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    wooden, cloth = part == WOOD, part == CLOTH
    late, pores, mottle = grain(points)
    look[wooden] = _wooden(EARLY, LATE, late, pores, mottle, 0.27)[wooden]
    deep = _hollows(points)
    look[wooden, :3] *= (1 - 0.55 * deep)[wooden, None]  # stain stays in what was carved
    inner = wooden & (_flawless_wood(x, y, z) < -0.005)  # beds of the inlays
    look[inner] = (*GLUE, 0, 0.7)
    foot = np.abs(np.hypot(x, y) - DISCS[0][0]) < 0.03
    mark = _marked(x, y, z)
    scorched = smoothstep((0.022 - mark) / 0.022) * foot * wooden
    look[:, :3] *= (1 - 0.45 * scorched)[:, None]
    look[wooden & foot & (mark < 0.003)] = (*BURNT, 0, 0.6)
    solid.normals = unit(solid.normals)
    fine = np.stack([fractal_noise_3d(points, 70, seed, 2) for seed in (14, 15, 16)], 1)
    broad = np.stack([fractal_noise_3d(points, 16, seed, 2) for seed in (17, 18, 19)], 1)
    solid.normals[wooden] += 0.022 * broad[wooden] + 0.008 * fine[wooden]
    solid.normals[cloth] += 0.22 * fine[cloth]
    look[cloth, :3] *= (1 + 0.16 * fine[:, 0] + 0.08 * mottle)[cloth, None]
    brass = part == RING
    look[brass, :3] *= (1 + 0.05 * mottle)[brass, None]
    look[brass, 4] += 0.05 * fine[brass, 1]
    if defect:
        look = _spoilt(look, points, part, defect)
    return solid.painted(look, least_roughness=0.08)


def grain(points):
    """Of wood at points [N, 3]: how late in its year it grew (0..1), pores (0..1), mottle; [N]."""
    x, y, z = points.T
    slow = fractal_noise_3d(points * (1, 1, 0.35), 1.6, 21, 3)
    waves = fractal_noise_3d(points * (1, 1, 0.25), 7, 22, 2)
    reach = np.hypot(x - PITH[0] - LEAN[0] * z, y - PITH[1] - LEAN[1] * z)
    year = RINGS * (reach + 0.035 * slow + 0.004 * waves)
    share = year - np.floor(year)
    late = smoothstep((share - 0.25) / 0.6) * smoothstep((1 - share) / 0.12)
    strength = np.random.default_rng(23).uniform(0.55, 1, 64)[np.floor(year).astype(int) % 64]
    fibres = fractal_noise_3d(points * (1, 1, 0.05), 55, 24, 2)
    pores = smoothstep((fibres - 0.7) / 0.8)
    return late * strength, pores, slow


def _wooden(early, late_colour, late, pores, mottle, roughness):
    """Colour, metallic and roughness [N, 5] of wood with a grain."""
    early, late_colour = np.array(early), np.array(late_colour)
    colour = early + late[:, None] * (late_colour - early)
    colour = colour * (1 - 0.38 * pores + 0.06 * mottle)[:, None]
    rough = roughness + 0.04 * pores + 0.02 * mottle
    return np.column_stack([colour, 0 * rough, rough])


def _hollows(points):
    """Where stain stays in carved and turned hollows, 0..1, [N]."""
    x, y, z = points.T
    reach, deep = np.hypot(x, y), carved_hollows(points)
    for level, radius in ((-0.655, 0.455), (-0.602, 0.41), (-0.50, 0.34), (-0.425, 0.30)):
        near = np.hypot(z - level, 0.6 * (reach - radius).clip(0)) / 0.014
        deep = np.maximum(deep, 0.6 * np.exp(-(near**2)) * (reach < radius + 0.03))
    return deep.clip(0, 1)


def _spoilt(look, points, part, defect):
    """`look` [N, 5] with a defect's colours; `part` tells which part the points are of."""
    kind, wooden, (x, y, z) = defect["kind"], part == WOOD, points.T
    bare = _wooden(BARE, np.array(BARE) * 0.72, *grain(points), 0.75)
    if kind == "chip":
        torn = wooden & (np.abs(_broken_off(x, y, z, defect)) < 0.005)
        look[torn] = bare[torn]
    if kind == "crack":
        inside = (_flawless_wood(x, y, z) < -0.004) & (_crack(x, y, z, defect) < 0.006)
        look[wooden & inside] = (*CREVICE, 0, 0.8)
    if kind == "scratch":
        scored = wooden & scratched(points, defect, reach=0.06)
        look[scored] = bare[scored]
    if kind == "missing" and defect["form"] == LOST_FELT:
        under = wooden & (z < PAD[2] + 0.004) & (np.hypot(x, y) < PAD[0])
        rest = smoothstep(0.5 + 0.7 * fractal_noise_3d(points, 14, defect["seed"], 3))[:, None]
        look[under] = (bare + 0.6 * rest * (np.array([*GLUE, 0, 0.5]) - bare))[under]
    if kind == "stain":
        cover, spilt = _stained(points, defect)
        cover = (defect["cover"] * cover * (part != EYES))[:, None]
        look = look + cover * (np.array(spilt) - look)
    return look


def _stained(points, defect):
    """How much of a stain covers points [N, 3] (0..1, [N]), and its look [5]."""
    x, y, z = points.T
    form, rng = int(defect["form"]), np.random.default_rng(defect["seed"])
    if form == RUN:
        return _run(x, y, z, defect)[0], (*AMBER, 0, 0.12)
    centre, radius = np.array(defect["centre"]), defect["radius"]
    edge = 0.16 * fractal_noise_3d(points, 9, defect["seed"], 4)
    near = np.linalg.norm(points - centre, axis=1) / radius + edge
    if form == WATERMARK:  # a milky spot, most so at its edge
        cover = smoothstep((1.15 - near) / 0.15) * (0.45 + 0.55 * smoothstep((near - 0.6) / 0.3))
        return cover, (*BLOOM, 0, 0.45)
    for _ in range(5):  # drops about the blot
        away = unit(rng.standard_normal(3)) * radius * rng.uniform(1.1, 1.9)
        drop = np.linalg.norm(points - centre - away, axis=1) / (radius * rng.uniform(0.12, 0.35))
        near = np.minimum(near, drop)
    return smoothstep((1 - near) / 0.12), (*INK, 0, 0.24)
