"""A door key: a thin nickel-silver blade with cuts and grooves, a plastic bow; its defects.

The blade points along x, its cut edge up, its flanks face along y. The raised logo is on the front
(-y), the number at the back; the grooves differ too. Seen along the flanks it is a thin line.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import described, ink_distance, marked_face, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, cylinder, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"missing": 0.0006, "burr": 0.0003, "scratch": 0.0005, "chip": 0.0004}
LOW, HIGH, STEP = np.array([-1.02, -0.12, -0.48]), np.array([0.98, 0.12, 0.48]), 0.0048
HALF, EDGE = 0.025, 0.165  # of the blade: half thickness, half height
START, TIP = -0.45, 0.93  # x of the blade's ends, one of them in the bow
SHOULDER = (-0.15, 0.21)  # x of the stop at the bow's neck, half height
CUTS = (0.02, 0.16, 0.30, 0.44, 0.58)  # x of the cuts' middles
HEIGHTS = (0.035, 0.095, -0.010, 0.070, 0.020)  # z of their lands
LAND, SLOPE = 0.028, 1.1  # half width of a land; how steep the flanks of a cut are
# side, z of the middle, half width and depth of the grooves
GROOVES = ((-1, -0.035, 0.030, 0.022), (1, -0.100, 0.026, 0.022), (1, 0.045, 0.020, 0.014))
GROOVES += ((-1, 0.095, 0.012, 0.010),)
BOW, BOW_CORNER, THICK = (-0.585, 0.355, 0.405), 0.33, 0.075  # x, half sizes; half thickness
NECK = (-0.20, 0.235)  # x of its end, half height
HOLE = (-0.795, 0.085)  # x of its middle, radius
PANEL = (0.065, 0.018)  # of the sunk panels: width of the rim about them, depth
RAISED = 0.013  # height of the logo; depth of the number
FACE_X, FACE = -0.475, (0.21, 0.29)  # of what is lettered: x of its middle, half sizes
FRONT, BACK, PX = -1, 1, 400
BLACK, SILVER, CUT_METAL = (0.014, 0.014, 0.015), (0.66, 0.63, 0.56), (0.72, 0.68, 0.60)
INK, GRIME = (0.62, 0.62, 0.58), (0.36, 0.335, 0.29)
SCORED, PALE = (0.10, 0.095, 0.085), (0.50, 0.50, 0.49)
TORN, BROKEN = (0.45, 0.42, 0.37), (0.11, 0.11, 0.115)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array([(*SILVER, 1, 0.27), (*BLACK, 0, 0.12)])
BLADE, PLASTIC = range(2)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, burr, scratch, chip)."""
    side = int(rng.choice([FRONT, BACK]))
    if kind == "missing":  # a land cut deeper, the blade's tip
        sizes, normal = {"tip": rng.random() < 0.35}, (0, side, 0.3)
        if sizes["tip"]:
            sizes |= {"cut": rng.uniform(0.80, 0.87), "slant": rng.uniform(-0.5, 0.5)}
            centre, normal = (0.87, 0, -0.05), (0.3, side, 0)
        else:
            sizes |= {"which": rng.integers(len(CUTS)), "deeper": rng.uniform(0.045, 0.095)}
            k = int(sizes["which"])
            centre = CUTS[k], 0, HEIGHTS[k] - sizes["deeper"] / 2
    elif kind == "burr":  # metal drawn over a flank at the cut edge
        x = rng.uniform(CUTS[0] - 0.06, CUTS[-1] + 0.10)
        centre, normal = (x, side * HALF, float(_edge(x))), (0, side, 0.4)
        sizes = {"side": side, "length": rng.uniform(0.05, 0.10)}
        sizes["radius"] = rng.uniform(0.020, 0.032)
    elif kind == "scratch":
        centre, normal = _open_place(rng, side), (0, side, 0)
        sizes = {"length": rng.uniform(0.10, 0.24), "width": rng.uniform(0.010, 0.016)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "chip":  # away from the neck
        turn = rng.uniform(0.25 * np.pi, 1.75 * np.pi)
        ray = np.linspace(0.2, 0.6, 801)
        across, up = BOW[0] + ray * np.cos(turn), ray * np.sin(turn)
        k = (_bow_outline(across, up) > 0).argmax()
        centre, normal = (across[k], side * THICK, up[k]), (0.5 * np.cos(turn), side, np.sin(turn))
        sizes = {"radius": rng.uniform(0.055, 0.095)}
    else:
        raise ValueError(f"the key has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _open_place(rng, side):
    """A point of a flank or of a panel of the bow, [3]."""
    if rng.random() < 0.5:
        return rng.uniform(-0.05, 0.72), side * HALF, rng.uniform(-0.14, 0.0)
    while True:
        x, z = rng.uniform(-0.9, -0.25), rng.uniform(-0.35, 0.35)
        if max(_bow_outline(x, z) + 0.12, HOLE[1] + 0.06 - np.hypot(x - HOLE[0], z)) < 0:
            return x, side * (THICK - PANEL[1]), z


def _edge(x, heights=HEIGHTS):
    """Height of the blade's cut edge at x, the cuts' lands at `heights`."""
    edge = EDGE
    for middle, height in zip(CUTS, heights, strict=True):
        edge = np.minimum(edge, height + SLOPE * np.maximum(np.abs(x - middle) - LAND, 0))
    return edge


def _blade(x, y, z, defect):
    """Distance-like value of the blade; a missing bit is cut off it, a burr added."""
    kind, heights = defect["kind"] if defect else None, np.array(HEIGHTS)
    if kind == "missing" and not defect["tip"]:
        heights[int(defect["which"])] -= defect["deeper"]
    flank, edge = np.abs(y) - HALF, _edge(x, heights)
    outline = both((z - edge) / 1.4, -z - EDGE, x - TIP)
    point = both(0.65 * (x - TIP) + 0.76 * (z + 0.02), 0.7 * (x - TIP) - 0.7 * (z + 0.09))
    outline = np.maximum(outline, point)
    blade = both(outline, flank, 0.8 * (flank - 0.018) - 0.6 * (z + EDGE - 0.018))
    for side, middle, half, depth in GROOVES:
        sunk = depth * smoothstep((x + 0.13) / 0.10)
        wall = np.abs(z - middle) - half - 0.4 * (side * y - HALF)
        blade = np.maximum(blade, -both(wall, HALF - sunk - side * y))
    blade = np.maximum(blade, START - x)
    stop = box(x - SHOULDER[0] + 0.2, y, z, (0.2, HALF + 0.012, SHOULDER[1]), 0.008)
    blade = np.minimum(blade, stop)
    if kind == "missing" and defect["tip"]:
        blade = np.maximum(blade, _torn(x, y, z, defect))
    if kind == "burr":
        blade = smooth_min(blade, _burr(x, y, z, edge, defect), 0.006)
    return blade


def _torn(x, y, z, defect):
    """Distance-like value that is positive where the tip broke off."""
    phase = defect["seed"] % 7
    rough = 0.006 * np.sin(91 * z + phase) + 0.004 * np.sin(167 * z + 60 * y - phase)
    return x - defect["cut"] - defect["slant"] * (z + 0.05) + rough


def _burr(x, y, z, edge, defect):
    """Distance-like value of a ragged lip that hangs over a flank along the cut edge."""
    along, phase = (x - defect["centre"][0]) / defect["length"], defect["seed"] % 7
    ragged = 1 + 0.25 * np.sin(88 * x + phase) + 0.2 * np.sin(149 * x - phase)
    radius = defect["radius"] * np.clip(1 - along**2, 0, 1) ** 0.5 * ragged
    out, up = defect["side"] * y - HALF - 0.006, z - edge + 0.003
    return both(np.hypot(out, 0.7 * up) - radius, defect["length"] * (np.abs(along) - 1))


def _bow_outline(x, z):
    """Distance-like value of the bow as seen from the side, its hole not cut."""
    middle, long, high = BOW
    bow = box(x - middle, 0 * x, z, (long, 1, high), BOW_CORNER)
    neck = box(x - NECK[0] + 0.15, 0 * x, z, (0.15, 1, NECK[1]), 0.04)
    return smooth_min(bow, neck, 0.08)


def _bow(x, y, z, defect):
    """Distance-like value of the bow: a rim about sunk panels, logo and number, a hole."""
    outline, off = _bow_outline(x, z), np.abs(y)
    solid = -smooth_min(-outline, THICK - off, 0.045)
    rim, depth = PANEL
    hole = cylinder(x - HOLE[0], z, HOLE[1])
    panel = both(outline + rim, 0.045 - hole, THICK - depth - off)
    solid = -smooth_min(-solid, panel, 0.012)
    floor, letters = THICK - depth, _letters(x, y, z)
    solid = np.minimum(solid, both(letters, -FRONT * y, FRONT * y - floor - RAISED, 0.01 - off))
    solid = np.maximum(solid, -both(letters, floor - RAISED - BACK * y))
    solid = -smooth_min(-solid, hole, 0.025)
    if defect and defect["kind"] == "chip":
        solid = np.maximum(solid, -_broken_off(x, y, z, defect))
    return solid


def _letters(x, y, z):
    """Distance-like value of the logo in front and of the number at the back, endless along y."""
    value = np.full_like(x, 1)
    for side in (FRONT, BACK):
        facing = side * y > 0
        right, down = -side * z[facing], x[facing] - FACE_X  # read with the blade pointing down
        value[facing] = marked_face(_letter_image(side), right, down, FACE[::-1], PX)
    return value


@cache
def _letter_image(side: int) -> np.ndarray:
    """Distance to the ink of a side in world units, negative within, [rows, columns]."""
    half_x, half_z = FACE
    image = Image.new("L", (round(2 * half_z * PX), round(2 * half_x * PX)), 0)
    draw, middle = ImageDraw.Draw(image), (half_z * PX, half_x * PX)
    if side == BACK:
        for down, text, size in ((-34, "C 4827", 54), (30, "ARX", 40)):
            at, font = (middle[0], middle[1] + down), ImageFont.load_default(size=size)
            draw.text(at, text, 255, font, anchor="mm", stroke_width=1)
        return ink_distance(image, PX)
    x, y = middle  # a shield with a tower in it
    shield = [(-62, -68), (62, -68), (62, 10), (0, 72), (-62, 10)]
    for scale, ink in ((1.0, 255), (0.80, 0)):
        draw.polygon([(x + scale * a, y + scale * b) for a, b in shield], ink)
    tower = [(-24, -36), (-9, -36), (-9, -26), (9, -26), (9, -36), (24, -36), (24, -14)]
    tower += [(14, -14), (14, 34), (-14, 34), (-14, -14), (-24, -14)]
    draw.polygon([(x + a, y + b) for a, b in tower], 255)
    return ink_distance(image, PX)


def _broken_off(x, y, z, defect):
    """Distance-like value of what a chip took off the bow: a rough, flat ball."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    phase = defect["seed"] % 7
    rough = 0.006 * np.sin(67 * x + phase) * np.sin(59 * z - phase) + 0.004 * np.sin(113 * z + x)
    return np.sqrt(away[0] ** 2 + (1.3 * away[1]) ** 2 + away[2] ** 2) - defect["radius"] + rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of blade and bow, each as x."""
    return _blade(x, y, z, defect), _bow(x, y, z, defect)


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The key's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    metal, plastic = part == BLADE, part == PLASTIC
    solid.normals = unit(solid.normals)
    mottle, drawn = fractal_noise_3d(points, 6, 2, 4), fractal_noise_3d(points * [4, 80, 80], 1, 3)
    milled = fractal_noise_3d(points * [90, 3, 3], 1, 4, 2)
    flank = np.abs(solid.normals[:, 1]) > 0.7
    look[metal & ~flank & (z > -0.1) & (x > SHOULDER[0])] = (*CUT_METAL, 1, 0.24)
    streak = np.where(flank, drawn, milled) * metal
    look[:, :3] *= (1 + 0.04 * mottle + 0.04 * streak)[:, None]
    look[:, 4] += 0.025 * mottle + 0.03 * streak
    sunk = metal & (np.abs(y) < HALF - 0.005) & flank
    look[sunk, :3] += 0.45 * (np.array(GRIME) - look[sunk, :3])
    floor = THICK - PANEL[1]
    inked = plastic & (BACK * y > floor - RAISED - 0.004) & (BACK * y < floor - 0.004)
    look[inked & (_letters(x, y, z) < 0.003)] = (*INK, 0, 0.5)
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z), metal = defect["kind"], points.T, part == BLADE
    if kind == "missing" and defect["tip"]:
        look[metal & (np.abs(_torn(x, y, z, defect)) < 0.006)] = (*TORN, 0.8, 0.6)
    if kind == "burr":
        look[metal & (_burr(x, y, z, _edge(x), defect) < 0.003)] = (*CUT_METAL, 1, 0.4)
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.016)
        look[scored & metal] = (*SCORED, 0.3, 0.6)
        look[scored & ~metal] = (*PALE, 0, 0.6)
    if kind == "chip":
        look[~metal & (np.abs(_broken_off(x, y, z, defect)) < 0.005)] = (*BROKEN, 0, 0.65)
