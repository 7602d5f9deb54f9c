"""A white take-away cup: matt paper with a seam and a small print, a plastic lid; its defects.

It stands along z, the print faces along x. But for print, seam, drink hole with its raised edge,
vent and letters of the lid it is a solid of revolution, white on backdrops that are light too.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .canvas import Canvas
from .lights import smoothstep
from .marks import (
    described,
    ink_distance,
    marked_face,
    picked,
    rolled_ink,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, cylinder, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.4}
SMALLEST_MASK = {"dent": 0.0014, "tear": 0.0008, "stain": 0.001, "misprint": 0.001}
SMALLEST_MASK |= {"missing": 0.0008}
LOW, HIGH, STEP = np.array([-0.61, -0.61, -0.89]), np.array([0.61, 0.61, 0.91]), 0.0075
FOOT, MOUTH = (-0.86, 0.355), (0.60, 0.515)  # z and radius of the cone's ends
SLOPE = (MOUTH[1] - FOOT[1]) / (MOUTH[0] - FOOT[0])
WALL, FLOOR = 0.025, (-0.79, -0.75)  # thickness of the paper; z of the bottom's faces
ROLL = (0.575, 0.515, 0.030)  # of the rolled rim: z, radius, thickness
SEAM = (2.6, 0.35, 0.010)  # azimuth of the step, angle it fades over, height
LID_LOW, PLASTIC = 0.585, 0.030  # z of the lid's lower edge, thickness
SKIRT, RIDGE, PLATEAU = (0.665, 0.58), (0.80, 0.505), (0.72, 0.33)  # z of the top, radius
LEAN = 0.10  # slope of the lid's walls
SIP = (1.5, 0.42, 0.075)  # of the raised edge: azimuth, half angle, height
HOLE = (0.415, 0.078, 0.030)  # reach, half length, end radius of the drink hole
SUNK = 0.012  # depth of a hole that was not punched through
VENT = (-0.27, 0.02)  # place towards the drink hole, radius
LETTERS, RAISED = (0.16, 0.11), 0.012  # half sizes, height
RADIUS = 0.44  # that the print is unrolled with
PX = 400  # of the prints, per world unit
HALF_PRINT = (0.48, 0.50)  # of the unrolled picture, world units
PAPER, LID = (0.79, 0.785, 0.765), (0.82, 0.82, 0.81)
LINER, SHADE, TORN = (0.16, 0.10, 0.055), (0.62, 0.61, 0.58), (0.66, 0.60, 0.50)
BROKEN, COFFEE = (0.60, 0.60, 0.59), (0.17, 0.075, 0.028)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array([(*PAPER, 0, 0.80), (*LID, 0, 0.36)])
CUP, COVER = range(2)
INKS = np.array([(0.035, 0.085, 0.075), (0.55, 0.16, 0.04)])
TEAL, ORANGE = 1, 2  # the inks' numbers
BAND = (0.33, 0.36, 0.385)  # half length, from and to down
TEXTS = ((0.0, 0.125, 60, TEAL, "MORELLO"), (0.0, 0.225, 32, ORANGE, "coffee & cake"))
BADGE = (0.0, -0.085, 0.135)  # the picture's: right, down, radius
SLIT, RIM_SLIT, BITE = range(3)  # forms of a tear
PLUGGED, SKIRT_PIECE, SIP_PIECE = range(3)  # what may be missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (dent, tear, stain, misprint, missing)."""
    azimuth = rng.uniform(-np.pi, np.pi)
    if kind == "dent":
        centre, normal = _place(rng.uniform(-0.65, 0.30), azimuth)
        sizes = {"radius": rng.uniform(0.10, 0.19)}
        sizes["depth"] = sizes["radius"] * rng.uniform(0.30, 0.42)
    elif kind == "tear":  # a slit in the wall or down from the rim, a bite out of the foot
        form = int(rng.choice(3, p=(0.45, 0.25, 0.30)))
        height = (rng.uniform(-0.6, 0.2), rng.uniform(0.44, 0.50), FOOT[0])[form]
        centre, normal = _place(height, azimuth)
        sizes = {"form": form, "radius": rng.uniform(0.06, 0.11)}
        sizes |= {"length": rng.uniform(0.10, 0.19), "width": rng.uniform(0.016, 0.030)}
        sizes["angle"] = rng.uniform(-1.2, 1.2) if form == SLIT else rng.uniform(-0.3, 0.3)
        sizes["lift"] = rng.uniform(0.012, 0.035) if form == SLIT else 0
    elif kind == "stain":  # coffee ran down from the drink hole, the rim or a splash
        height = (RIDGE[0] + 0.04, LID_LOW - 0.03, rng.uniform(-0.4, 0.4))[rng.integers(3)]
        if height > RIDGE[0]:
            azimuth = SIP[0] + rng.uniform(-0.25, 0.25)
        sizes = {"azimuth": azimuth, "top": height, "length": rng.uniform(0.10, 0.40)}
        sizes |= {"width": rng.uniform(0.028, 0.055), "cover": rng.uniform(0.16, 0.85)}
        centre, normal = _place(height - sizes["length"] / 2, azimuth)
    elif kind == "misprint":  # a part of the print moved, smeared or left out
        places = [t[:2] for t in TEXTS] + [BADGE[:2], (rng.uniform(-0.25, 0.25), BAND[1])]
        right, down = places[rng.choice(len(places), p=(0.3, 0.2, 0.35, 0.15))]
        centre, normal = _place(-down, right / RADIUS)
        sizes = {"right": right, "below": down, "radius": rng.uniform(0.10, 0.20)}
        sizes |= {"erased": rng.random() < 0.35, "smeared": rng.random() < 0.5}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.055)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.01, 0.035)
    elif kind == "missing":  # the drink hole closed, a piece of the lid's rim or of the sip edge
        form = int(rng.choice(3, p=(0.4, 0.35, 0.25)))
        if form != SKIRT_PIECE:
            azimuth = SIP[0] + (form == SIP_PIECE) * rng.uniform(-0.35, 0.35)
        reach, height = ((HOLE[0], 0.86), (SKIRT[1], 0.615), (RIDGE[1] - 0.02, 0.86))[form]
        outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0])
        centre, normal = reach * outwards + [0, 0, height], outwards + [0, 0, 0.3]
        if form == PLUGGED:
            normal = [0, 0, 1] + 0.2 * outwards
        sizes = {"form": form, "radius": rng.uniform(0.065, 0.12)}
        sizes["share"] = min(rng.uniform(0.65, 1.2), 1)
    else:
        raise ValueError(f"the cup has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _cone(z):
    """Radius of the paper wall at a height."""
    return FOOT[1] + SLOPE * (z - FOOT[0])


def _place(z, azimuth):
    """The wall's point at a height and an azimuth, and the normal there, each [3]."""
    cos, sin = np.cos(azimuth), np.sin(azimuth)
    return np.array([_cone(z) * cos, _cone(z) * sin, z]), unit(np.array([cos, sin, -SLOPE]))


def _turned_from(azimuth, start):
    """Azimuth from another, -pi..pi."""
    return (azimuth - start + np.pi) % (2 * np.pi) - np.pi


def _along_slit(x, y, z, defect):
    """Places along and across a slit and out of the wall, from its middle."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    normal = np.array(defect["normal"])
    aside = unit(np.cross([0, 0, 1.0], normal))
    upwards = np.cross(normal, aside)
    cos, sin = np.cos(defect["angle"]), np.sin(defect["angle"])
    along, across, out = (
        sum(v * n for v, n in zip(away, axis, strict=True))
        for axis in (cos * upwards + sin * aside, cos * aside - sin * upwards, normal)
    )
    phase = defect["seed"] % 7
    wander = 0.008 * np.sin(31 * along + phase) + 0.003 * np.sin(90 * along - phase)
    return along, across + wander, out


def _torn(x, y, z, defect):
    """Distance-like value of what a tear took out of the paper."""
    if defect["form"] == BITE:
        return _broken_off(x, y, z, defect)
    along, across, out = _along_slit(x, y, z, defect)
    open_by = defect["width"] * np.sqrt(np.clip(1 - (along / defect["length"]) ** 2, 0, 1))
    return both(np.abs(across) - open_by, np.abs(along) - defect["length"], np.abs(out) - 0.1)


def _lifted(x, y, z, defect):
    """How far the paper stands off along one side of a slit."""
    along, across, out = _along_slit(x, y, z, defect)
    fade = np.clip(1 - (along / defect["length"]) ** 2, 0, 1) * smoothstep(1 - across / 0.10)
    return defect["lift"] * fade * (across > 0) * (np.abs(out) < 0.15)


def _broken_off(x, y, z, defect):
    """Distance-like value of a rough ball that is missing."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    phase = defect["seed"] % 7
    rough = 0.008 * np.sin(57 * x + phase) * np.sin(61 * y - phase) + 0.005 * np.sin(83 * z + x)
    return np.sqrt(sum(v * v for v in away)) - defect["radius"] + rough


def _cup(x, y, z, defect):
    """Distance-like value of the paper: wall with a seam, bottom, rolled rim."""
    torn = defect and defect["kind"] == "tear"
    reach, azimuth = np.sqrt(x * x + y * y), np.arctan2(y, x)
    start, fade, high = SEAM
    turn = _turned_from(azimuth, start)
    overlap = high * (turn > 0) * smoothstep(1 - turn / fade)
    side = (reach - _cone(z)) / np.hypot(1, SLOPE) - overlap
    if torn and defect["form"] == SLIT:
        side = side - _lifted(x, y, z, defect)
    ends = np.maximum(FOOT[0] - z, z - MOUTH[0])
    floor = both(side, FLOOR[0] - z, z - FLOOR[1])
    wall = -smooth_min(WALL / 2 - np.abs(side + WALL / 2), -ends, 0.01)
    height, radius, thick = ROLL
    roll = np.hypot(reach - radius, z - height) - thick
    cup = smooth_min(np.minimum(wall, floor), roll, 0.01)
    return np.maximum(cup, -_torn(x, y, z, defect)) if torn else cup


def _lid(x, y, z, defect):
    """Distance-like value of the lid: skirt, ridge with the sip edge, sunk plateau, holes."""
    form = int(defect["form"]) if defect and defect["kind"] == "missing" else None
    reach = np.sqrt(x * x + y * y)
    middle, half, high = SIP
    turn = _turned_from(np.arctan2(y, x), middle)
    skirt = -smooth_min(SKIRT[1] - reach, SKIRT[0] - z, 0.03)
    top = RIDGE[0] + high * np.exp(-((turn / half) ** 4))
    ridge = -smooth_min(RIDGE[1] - LEAN * (z - SKIRT[0]) - reach, top - z, 0.035)
    sunk = both(reach - PLATEAU[1] - LEAN * (z - PLATEAU[0]), PLATEAU[0] - z)
    outside = -smooth_min(-smooth_min(skirt, ridge, 0.02), sunk, 0.02)
    lid = both(outside, -outside - PLASTIC, LID_LOW - z)
    lid = np.minimum(lid, both(_letters(x, y), z - PLATEAU[0] - RAISED, PLATEAU[0] - 0.02 - z))
    centre, half, radius = HOLE
    aside = centre * turn
    hole = np.hypot(np.maximum(np.abs(aside) - half, 0), reach - centre) - radius
    hole = both(hole, RIDGE[0] - 0.06 - z)
    if form == PLUGGED:
        closed = aside - (2 * defect["share"] - 1) * (half + radius)
        hole = both(hole, np.minimum(-outside - SUNK, -closed))
    cos, sin = np.cos(middle), np.sin(middle)
    vent = cylinder(x - VENT[0] * cos, y - VENT[0] * sin, VENT[1])
    lid = both(-smooth_min(-lid, hole, 0.012), -both(vent, 0.6 - z))
    if form in (SKIRT_PIECE, SIP_PIECE):
        lid = np.maximum(lid, -_broken_off(x, y, z, defect))
    return lid


def _letters(x, y):
    """Distance-like value of the lid's letters, endless along z; read from the sip edge."""
    cos, sin = np.cos(SIP[0]), np.sin(SIP[0])
    right, down = y * cos - x * sin, x * cos + y * sin
    return marked_face(_letter_image(), right, down, LETTERS, PX).astype(x.dtype, copy=False)


@cache
def _letter_image() -> np.ndarray:
    """Distance to the lid's letters in world units, negative within, [rows, columns]."""
    half_x, half_y = (half * PX for half in LETTERS)
    image = Image.new("L", (round(2 * half_x), round(2 * half_y)), 0)
    draw = ImageDraw.Draw(image)
    for down, text, size in ((-18, "HOT", 50), (24, "6 PS", 40)):
        at, font = (half_x, half_y + down), ImageFont.load_default(size=size)
        draw.text(at, text, 255, font, anchor="mm", stroke_width=1)
    return ink_distance(image, PX)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of cup and lid, each as x."""
    return _cup(x, y, z, defect), _lid(x, y, z, defect)


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The cup's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    reach, azimuth = np.hypot(x, y), np.arctan2(y, x)
    look, paper = LOOKS[part], part == CUP  # colour, metallic, roughness, [N, 5]
    mottle, fibre = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points, 50, 3, 2)
    look[:, :3] *= (1 + 0.008 * mottle + 0.012 * fibre * paper)[:, None]
    look[:, 4] += 0.03 * mottle
    look[paper & (reach < _cone(z) - 0.7 * WALL) & (z > FLOOR[1] - 0.01), :3] = LINER
    outer = paper & (reach > _cone(z) - 0.4 * WALL)
    look[outer & (np.abs(_turned_from(azimuth, SEAM[0])) * reach < 0.006), :3] = SHADE
    ink = inked(points, defect) * outer
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    if defect:
        look = _spoilt(look, points, part, defect)
    return solid.painted(look)


def _spoilt(look, points, part, defect):
    """`look` [N, 5] with a defect's colours; `part` tells which part the points are of."""
    kind, (x, y, z) = defect["kind"], points.T
    if kind == "tear":
        look[(part == CUP) & (np.abs(_torn(x, y, z, defect)) < 0.004), :3] = TORN
    if kind == "missing" and defect["form"] != PLUGGED:
        cut = np.abs(_broken_off(x, y, z, defect)) < 0.004
        look[cut & (part == COVER)] = (*BROKEN, 0, 0.6)
    if kind == "stain":
        reach, turn = np.hypot(x, y), _turned_from(np.arctan2(y, x), defect["azimuth"])
        fallen, phase = defect["top"] - z, defect["seed"] % 7
        beyond = np.maximum(fallen - defect["length"], 0) + np.maximum(-fallen, 0)
        thin = 0.55 + 0.45 * smoothstep(fallen / defect["length"])
        wander = 0.012 * np.sin(11 * z + phase) + 0.006 * fractal_noise_3d(points, 12, 5, 3)
        away = np.hypot(reach * turn + wander, beyond) / (thin * defect["width"])
        cover = smoothstep((1 - away) / 0.15) * (0.75 + 0.25 * smoothstep((away - 0.6) / 0.25))
        cover *= defect["cover"] * (reach > np.where(part == CUP, _cone(z) - 0.01, 0.45))
        look = look + cover[:, None] * (np.array([*COFFEE, 0, 0.45]) - look)
    return look


def inked(points, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of the wall: 0 or 1 + index in INKS, [N]."""
    return rolled_ink(_printed, points, RADIUS, 0.0, defect)


def _printed(places):
    """Ink at places [N, 2] (right, down) of the unrolled wall: 0 or 1 + index in INKS."""
    return picked(_print_image(), *((places + HALF_PRINT) * PX).T)


@cache
def _print_image() -> np.ndarray:
    """What is printed on the wall, bare at the edges, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    half, top, bottom = BAND
    canvas.rectangle(-half, top, half, bottom, ORANGE)
    for right, down, height, ink, text in TEXTS:
        canvas.write(right, down, height, ink, text)
    right, down, radius = BADGE
    canvas.disc(right, down, radius, TEAL)
    bean = (0.050, 0.078)  # a coffee bean, its groove
    canvas.disc(right, down, bean[0], ORANGE, bean[1])
    along = np.linspace(-1, 1, 24)
    groove = np.stack([right + 0.016 * np.sin(np.pi * along), down + bean[1] * along], 1)
    canvas.draw.line(canvas.px(*groove.ravel()), TEAL, 7)
    return canvas.inks()
