"""A toy car: glossy paint with a stripe and numbers, dark glass, rubber wheels; its defects.

Drives along x. Both sides and both ends look much alike: a word, a filler cap, a thin second
stripe and the lamps' colour tell them apart. Dull black rubber stands next to mirroring paint.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import described, inked_face, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"scratch": 0.0012, "chip": 0.0015, "missing": 0.0015, "misprint": 0.002}
LOW, HIGH, STEP = np.array([-1.08, -0.56, -0.60]), np.array([1.08, 0.56, 0.53]), 0.008
WHEEL, TYRE, HUB = (0.56, 0.41, -0.30), (0.235, 0.095), 0.13  # |x|, |y|, z; radius and half width
LAMP, LENS = (0.915, 0.245, -0.045), 0.095  # |x|, |y|, z; radius
WINDOW = (0.155, 0.335)  # from and to height
PX = 400  # of the prints, per world unit
# printed faces: axes to the right and down as they are seen, half sizes of the picture
FACES = (
    ((-1, 0, 0), (0, 0, -1), (1.0, 0.5)),  # left
    ((1, 0, 0), (0, 0, -1), (1.0, 0.5)),  # right
    ((0, 1, 0), (1, 0, 0), (0.5, 1.0)),  # top, from the front
    ((0, 1, 0), (-1, 0, 0), (0.5, 1.0)),  # underside
)
LEFT, RIGHT, TOP, UNDERSIDE = range(4)
DOOR, BONNET, ROUNDEL = (-0.02, -0.08), 0.56, 0.145  # x, z; x; radius
RED, PRIMER, SCUFF = (0.46, 0.012, 0.016), (0.40, 0.40, 0.38), (0.66, 0.36, 0.33)
GREY, RUBBER, NICKEL = (0.16, 0.165, 0.17), (0.028, 0.027, 0.026), (0.66, 0.65, 0.62)
GLASS, CLEAR, AMBER = (0.012, 0.014, 0.018), (0.74, 0.72, 0.62), (0.62, 0.20, 0.012)
SOOT = (0.03, 0.03, 0.03)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*RED, 0, 0.13), (*GREY, 0, 0.45), (*RUBBER, 0, 0.8), (*NICKEL, 1, 0.25), (*CLEAR, 0, 0.12)]
)
INKS = np.array([(0.76, 0.75, 0.71), (0.02, 0.02, 0.022), (0.70, 0.42, 0.02)])


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (scratch, chip, missing, dent, misprint)."""
    centre, normal = _painted_place(rng)
    if kind == "scratch":
        sizes = {"length": rng.uniform(0.16, 0.30), "width": rng.uniform(0.012, 0.017)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "chip":
        sizes = {"radius": rng.uniform(0.08, 0.14)}
    elif kind == "missing":  # a wheel, a hub or a lamp
        part, front, side = rng.integers(3), *rng.choice([-1, 1], 2)
        centre = np.array(LAMP if part == 2 else WHEEL) * [front, side, 1]
        normal = np.array([front, 0, 0] if part == 2 else [0, side, 0])
        sizes = {"part": part}
    elif kind == "dent":
        sizes = {"radius": rng.uniform(0.16, 0.24), "depth": rng.uniform(0.05, 0.08)}
    elif kind == "misprint":  # a print or some of the stripe, moved or smeared
        face = rng.choice([LEFT, RIGHT, TOP])
        centre, normal = (rng.choice([BONNET, -0.15, -0.8]), 0, 0.15), (0, 0, 1)
        if face != TOP:
            side = 1 if face == LEFT else -1
            centre, normal = (DOOR[0], 0.44 * side, DOOR[1]), (0, side, 0)
        sizes = {"face": face, "smeared": rng.random() < 0.5, "radius": rng.uniform(0.21, 0.26)}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.05, 0.09)
        sizes["down"] = rng.uniform(-0.04, 0.04)
    else:
        raise ValueError(f"the toy car has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _painted_place(rng):
    """A point of the paint, seen from an end, a side or above, and its normal, each [3]."""
    while True:
        axis = rng.choice(3, p=(0.15, 0.45, 0.40))
        way = np.tile(rng.uniform((-0.88, -0.40, -0.22), (0.88, 0.40, 0.45)), (1101, 1))
        way[:, axis] = np.linspace(1.1, -1.1, 1101) * (1 if axis == 2 else rng.choice([-1, 1]))
        values = np.array(parts(*way.T))
        first = (values.min(0) < 0).argmax()  # 0 when nothing is hit
        point, off = way[first], 0.004 * np.eye(3)
        open_paint = abs(_shell(*point)) < 0.012 and not _on_glass(*point)
        if values[:, first].argmin() == 0 and open_paint:
            return point, unit(_shell(*(point + off).T) - _shell(*(point - off).T))


def _in_cabin(x, y, z):
    """x and y from the cabin's middle line, as if its walls stood upright."""
    return (x + 0.17) * (1 + 0.75 * (z - 0.1)), y * (1 + 0.45 * (z - 0.1))


def _shell(x, y, z):
    """Distance-like value of body and cabin without any hole."""
    fall = 0.08 * smoothstep((x - 0.2) / 0.8) * smoothstep((z + 0.3) / 0.3)  # of the bonnet
    body = box(x, y * (1 + 0.10 * x * x), z + 0.09 + fall, (0.95, 0.46, 0.21), rounding=0.14)
    cabin = box(*_in_cabin(x, y, z), z - 0.20, (0.50, 0.385, 0.26), rounding=0.12)
    return smooth_min(body, cabin, 0.05)


def _on_glass(x, y, z):
    """Whether points of the shell belong to a window."""
    along, across = _in_cabin(x, y, z)
    aside = (np.abs(along) < 0.40) & (np.abs(along) > 0.025) & (np.abs(across) > 0.33)
    level = (z > WINDOW[0]) & (z < WINDOW[1])
    return level & (aside | ((np.abs(across) < 0.29) & (np.abs(along) > 0.45)))


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of paint, grey plastic, tyres, metal and lamps, each as x."""
    along, across = np.abs(x), np.abs(y)
    reach = np.sqrt((along - WHEEL[0]) ** 2 + (z - WHEEL[2]) ** 2)
    turn = np.arctan2(z - WHEEL[2], along - WHEEL[0])
    arch = both(reach - TYRE[0] - 0.045, 0.27 - across)
    off = np.sqrt((across - LAMP[1]) ** 2 + (z - LAMP[2]) ** 2)
    socket = both(off - LENS, LAMP[0] - 0.07 - along)
    paint = both(_shell(x, y, z), -arch, -socket)
    plate = box(x, y, z + 0.30, (0.86, 0.38, 0.05), rounding=0.03)
    bumper = box(along - 0.94, y, z + 0.215, (0.075, 0.40, 0.06), rounding=0.05)
    grey = np.maximum(np.minimum(plate, bumper), -arch)
    tread = 0.006 * np.cos(28 * turn) * smoothstep((reach - TYRE[0] + 0.03) / 0.02)
    tyre = box(reach + tread, across - WHEEL[1], 0 * z, (*TYRE, 1.0), rounding=0.045)
    tyre = np.maximum(tyre, -both(reach - HUB, WHEEL[1] - across))
    spokes = smoothstep((np.cos(5 * turn) + 0.3) / 0.4)
    spokes = spokes * smoothstep((reach - 0.03) / 0.02) * smoothstep((0.112 - reach) / 0.015)
    hub = both(reach - HUB, across - WHEEL[1] - 0.085 + 0.035 * spokes, WHEEL[1] - 0.02 - across)
    axle = both(reach - 0.03, across - WHEEL[1] - 0.04)
    lamp = 0.7 * (np.sqrt(((along - LAMP[0]) / 0.55) ** 2 + off * off) - LENS)
    if defect and defect["kind"] == "missing":
        gone = (x * defect["centre"][0] > 0) & (y * defect["centre"][1] > 0)
        if defect["part"] == 2:
            lamp = np.where(gone, 9, lamp)
        else:  # a wheel is lost with its hub
            hub = np.where(gone, 9, hub)
            tyre = np.where(gone & (defect["part"] == 0), 9, tyre)
    return paint, grey, tyre, np.minimum(hub, axle), lamp


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The car's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    paint, grey, lamp = part == 0, part == 1, part == 4
    dull = (grey | (part == 2)).astype(float)
    look[:, :3] *= (1 + 0.06 * dull * fractal_noise_3d(points, 9, 1, 4))[:, None]
    look[lamp & (x < 0), :3] = AMBER
    rim = lamp & (np.hypot(np.abs(y) - LAMP[1], z - LAMP[2]) > 0.8 * LENS)
    look[rim] = (*NICKEL, 1, 0.2)
    prints = (paint & (y > 0.33), paint & (y < -0.33), paint & (np.abs(y) <= 0.33))
    for face, where in enumerate((*prints, grey & (z < -0.34))):
        inks = ink(points[where], face, defect)
        look[where.nonzero()[0][inks > 0], :3] = INKS[inks[inks > 0] - 1]
    seam = np.abs(np.abs(x - DOOR[0]) - 0.235) < 0.006  # of the doors
    look[seam & paint & (np.abs(y) > 0.33) & (np.abs(z + 0.04) < 0.17), :3] = SOOT
    shell = _shell(x, y, z)
    look[paint & (shell < -0.012)] = (*SOOT, 0, 0.8)  # over wheels, behind lamps
    paint &= shell > -0.012
    if kind == "scratch":
        look[paint & scratched(points, defect)] = (*SCUFF, 0, 0.6)
    if kind == "chip":
        reach = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        bare = paint & (reach + 0.25 * fractal_noise_3d(points, 11, defect["seed"], 4) < 0.85)
        look[bare] = (*PRIMER, 0, 0.6)
    look[paint & _on_glass(x, y, z)] = (*GLASS, 0, 0.1)
    return solid.painted(look, least_roughness=0.1)


def ink(points, face: int, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of a face, a misprint in it: 0 or 1 + index in INKS, [N]."""
    spoilt = defect and defect["kind"] == "misprint" and defect["face"] == face
    own = defect if spoilt else None
    return inked_face(lambda at: _printed(at, face), points, FACES[face][:2], own)


def _printed(places, face):
    """Ink at places [N, 2] (right, down) of a face: 0 or 1 + index in INKS."""
    return picked(_print_image(face), *((places + FACES[face][2]) * PX).T)


@cache
def _print_image(face: int) -> np.ndarray:
    """What is printed on a face, [rows, columns]."""
    across, down = (round(2 * half * PX) for half in FACES[face][2])
    image = Image.new("L", (across, down), 0)
    draw = ImageDraw.Draw(image)
    small, large = (ImageFont.load_default(size=size) for size in (40, 84))
    if face == UNDERSIDE:
        draw.text((200, 330), "ARX", 2, large, anchor="mm")
        draw.text((200, 440), "No. 27  1:43", 2, small, anchor="mm")
        return np.asarray(image, int)
    if face == TOP:
        draw.rectangle((156, 0, 244, down), 1)
        draw.rectangle((258, 0, 268, down), 3)
        x, y = 200, 400 + BONNET * PX
    else:
        x, y = 400 + (-DOOR[0] if face == LEFT else DOOR[0]) * PX, 200 - DOOR[1] * PX
        draw.line((x - 130, 288, x + 130, 288), 1 if face == LEFT else 3, 8)
    radius = ROUNDEL * PX
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), 1)
    draw.text((x, y), "27", 2, large, anchor="mm", stroke_width=3)
    if face == LEFT:
        draw.text((640, 172), "GT", 1, small, anchor="mm")
    if face == RIGHT:
        draw.ellipse((170, 155, 206, 191), 2)
    return np.asarray(image, int)
