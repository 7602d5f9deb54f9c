"""A USB stick: a stamped metal connector, a plastic case with print and label; its defects.

Its connector points along x, the logo faces along z, the label the other way. Both broad sides of
the connector and both narrow sides of the case look alike; it is hollow, its contacts lie inside.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import described, inked_face, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, cylinder, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.45}
SMALLEST_MASK = {"dent": 0.002, "missing": 0.001, "bent": 0.004, "scratch": 0.0012}
SMALLEST_MASK |= {"misprint": 0.0015}
LOW, HIGH, STEP = np.array([-1.02, -0.40, -0.24]), np.array([1.01, 0.40, 0.24]), 0.0065
CASE, MIDDLE, CORNER = (0.56, 0.34, 0.17), -0.14, 0.13  # half sizes, x of the centre, corners
CAP = -0.50  # x that the dark rear part begins at
COLLAR = (0.44, 0.325, 0.145)  # x of its front; half sizes
HINGE = 0.42  # x that a bent connector is turned about
SHELL, WALL = (0.36, 0.96, 0.28, 0.112), 0.022  # from and to x, half sizes
WINDOW = (0.74, 0.125, 0.044)  # x, |y|, half size of the square holes
TONGUE = (0.93, 0.245, 0.025, 0.088)  # to x; half width; from and to z
CONTACTS, CONTACT = (-0.18, -0.06, 0.06, 0.18), (0.62, 0.036)  # y; from x, half width
LED = (-0.40, 0.23, 0.075, 0.034)  # x, y, half sizes
EYELET = (-0.80, 0.17, 0.062)  # x of its hole's middle; outer radius, half thickness
HOLE = 0.085
LABEL = (-0.04, 0.36, 0.235)  # x, half sizes
PX = 400  # of the prints, per world unit
HALF_PRINT = (0.6, 0.35)  # of the pictures that are printed, world units
FRONT, BACK = 1, -1
TEAL, CHARCOAL, STEEL = (0.012, 0.17, 0.19), (0.035, 0.036, 0.038), (0.60, 0.60, 0.585)
BLACK, GOLD, MILKY, PAPER = (0.02,) * 3, (0.80, 0.55, 0.20), (0.62, 0.72, 0.78), (0.76, 0.76, 0.73)
SOOT, LAMP = (0.012, 0.012, 0.012), (0.75, 0.62, 0.12)
PALE, BROKEN, SCORE = (0.42, 0.52, 0.52), (0.16, 0.16, 0.16), (0.22, 0.22, 0.21)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*TEAL, 0, 0.38), (*CHARCOAL, 0, 0.55), (*STEEL, 1, 0.2), (*BLACK, 0, 0.4)]
    + [(*GOLD, 1, 0.22), (*MILKY, 0, 0.12), (*PAPER, 0, 0.6)]
)
BODY, REAR, METAL, PLASTIC, GILT, LIGHT, STICKER = range(7)
INKS = np.array([(0.78, 0.78, 0.75), (0.80, 0.36, 0.02), (0.02, 0.02, 0.022)])
# side, places to the right and down as they are seen, letters' height in px, ink, text
TEXTS = (
    (FRONT, 0.09, -0.05, 116, 1, "ARX"),
    (FRONT, 0.10, 0.175, 58, 2, "64 GB"),
    (FRONT, -0.28, 0.175, 34, 1, "USB 3.2"),
    (BACK, 0.04, -0.14, 38, 3, "ARX STORAGE"),
    (BACK, 0.04, -0.055, 30, 3, "S/N 4C53-00127"),
    (BACK, 0.20, 0.14, 30, 3, "5V 0.2A"),
)
BARS = (-0.30, 0.05, 0.02, 0.19)  # of the bar code: left, upper, right, lower


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (dent, missing, bent, scratch, misprint)."""
    sizes = {}
    if kind == "dent":  # of the shell: a broad side, a narrow one, often at the rim
        centre, normal = _on_shell(rng)
        sizes = {"radius": rng.uniform(0.08, 0.13), "depth": rng.uniform(0.05, 0.085)}
    elif kind == "missing":  # contacts, the LED's window, a piece of the eyelet
        part = int(rng.choice(3, p=(0.3, 0.3, 0.4)))
        if part == 0:
            first, count = rng.integers(3), rng.integers(1, 3)
            y = np.mean(CONTACTS[first : first + count])
            centre, normal = (TONGUE[0] - 0.1, y, TONGUE[2]), (1, rng.uniform(-0.4, 0.4), -0.75)
            sizes = {"first": first, "count": count}
        elif part == 1:
            centre, normal = (LED[0], LED[1], CASE[2]), (0, 0, 1)
            sizes = {"deep": rng.uniform(0.04, 0.09)}
        else:
            turn = np.pi + rng.uniform(-1.5, 1.5)
            reach = (HOLE + EYELET[1]) / 2
            centre = EYELET[0] + reach * np.cos(turn), reach * np.sin(turn), 0
            normal = (-0.5, 0.5 * np.sin(turn), rng.choice([-1, 1]))
            sizes = {"radius": rng.uniform(0.075, 0.12)}
        sizes["part"] = part
    elif kind == "bent":  # sideways, some also towards a broad side
        centre, normal = ((HINGE + SHELL[1]) / 2, 0, 0), (0.4, 0, rng.choice([-1, 1]))
        sizes = {"aside": rng.choice([-1, 1]) * rng.uniform(0.10, 0.19)}
        sizes["up"] = rng.uniform(-0.12, 0.12) * (rng.random() < 0.5)
    elif kind == "scratch":
        centre, normal = _open_place(rng)
        sizes = {"length": rng.uniform(0.14, 0.30), "width": rng.uniform(0.011, 0.017)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "misprint":  # a print moved or smeared
        side = int(rng.choice([FRONT, BACK]))
        places = [t[1:3] for t in TEXTS if t[0] == side]
        places += [(-0.32, -0.04)] if side == FRONT else [(-0.14, 0.12)]
        right, down = places[rng.integers(len(places))]
        centre, normal = (side * right, -down, side * CASE[2]), (0, 0, side)
        sizes = {"side": side, "smeared": rng.random() < 0.5, "radius": rng.uniform(0.11, 0.18)}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.025, 0.06)
        sizes["down"] = rng.uniform(-0.03, 0.03)
    else:
        raise ValueError(f"the stick has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _on_shell(rng):
    """A point of the connector's outside and its normal, each [3]."""
    x, side = rng.uniform(0.58, SHELL[1] - 0.02), rng.choice([-1, 1])
    if rng.random() < 0.75:
        return (x, rng.uniform(-0.2, 0.2), side * SHELL[3]), (0, 0, side)
    return (x, side * SHELL[2], rng.uniform(-0.04, 0.04)), (0, side, 0)


def _open_place(rng):
    """A point of case, cap, label or shell, and its normal, each [3]."""
    while True:
        axis = rng.choice([1, 2], p=(0.2, 0.8))
        way = np.tile(rng.uniform((-0.62, -0.26, -0.09), (0.90, 0.26, 0.09)), (801, 1))
        way[:, axis] = np.linspace(0.5, -0.5, 801) * rng.choice([-1, 1])
        values = np.array(parts(*way.T))
        first = (values.min(0) < 0).argmax()
        point, off = way[first], 0.004 * np.eye(3)
        normal = unit(distance(*(point + off).T) - distance(*(point - off).T))
        flat = np.abs(normal[axis]) > 0.97 and abs(point[axis]) > 0.09
        if flat and values[:, first].argmin() in (BODY, REAR, METAL, STICKER):
            return point, normal


def _in_plug(x, y, z, defect):
    """x, y and z as if the connector had not been bent."""
    if not defect or defect["kind"] != "bent":
        return x, y, z
    (aside, up), x = (defect["aside"], defect["up"]), x - HINGE
    x, y = np.cos(aside) * x + np.sin(aside) * y, np.cos(aside) * y - np.sin(aside) * x
    x, z = np.cos(up) * x + np.sin(up) * z, np.cos(up) * z - np.sin(up) * x
    return x + HINGE, y, z


def _case(x, y, z):
    """Distance-like value of the case, grooves in it, without cap's eyelet and window."""
    outline = box(x - MIDDLE, y, 0 * z, (CASE[0], CASE[1], 1), CORNER)
    along = smoothstep((0.17 - np.abs(x - 0.10)) / 0.03)
    grip = 0.5 + 0.5 * np.cos(2 * np.pi * (x - 0.10) / 0.062)
    outline = outline + 0.016 * grip * along * smoothstep((np.abs(y) - 0.28) / 0.03)
    solid = -smooth_min(-outline, CASE[2] - np.abs(z), 0.07)
    joint = np.minimum(np.abs(z), 9 * (x < CAP) + np.abs(x - CAP))
    return np.maximum(solid, -both(joint - 0.006, -solid - 0.012))


def _seam(x, y):
    """Distance-like value of the joint of the stamped shell, a line with a dovetail."""
    step = smoothstep((x - 0.56) / 0.012) * smoothstep((0.66 - x) / 0.012)
    return np.abs(y - 0.075 * step + 0.02) / (1 + 3 * (4 * step * (1 - step)))


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of case, cap, shell, tongue, contacts, window and label, each as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    case = _case(x, y, z)
    body, cap = both(case, CAP - x), both(case, x - CAP)
    px, py, pz = _in_plug(x, y, z, defect)
    start, end, half_y, half_z = SHELL
    outer = both(box(px, py, pz, (end + 0.1, half_y, half_z), 0.035), px - end, start - px)
    inner = box(px, py, pz, (2, half_y - WALL, half_z - WALL), 0.02)
    wx, wy, half = WINDOW
    window = box(px - wx, np.abs(py) - wy, 0 * pz, (half, half, 1), 0.008)
    shell = both(outer, -inner, -window)
    groove = both(_seam(px, py) - 0.006, half_z - 0.008 - pz)
    shell = np.maximum(shell, -groove)
    reach, half_y, bottom, top = TONGUE
    middle, thick = (bottom + top) / 2, (top - bottom) / 2
    tongue = box(px - reach / 2, py, pz - middle, (reach / 2, half_y, thick), 0.012)
    tongue = np.minimum(tongue, both(inner - 0.004, px - 0.52, start - px))  # what closes it
    contacts = np.full_like(x, 9)
    for k, cy in enumerate(CONTACTS):
        first, half = CONTACT
        length = (reach - 0.02 - first) / 2
        one = box(px - first - length, py - cy, pz - bottom, (length, half, 0.012), 0.006)
        if lost == 0 and 0 <= k - defect["first"] < defect["count"]:
            slot = box(px - first - length, py - cy, pz - bottom, (length + 0.05, half, 0.03))
            tongue = np.maximum(tongue, -slot)
        else:
            contacts = np.minimum(contacts, one)
    lip = box(x - COLLAR[0] + 0.1, y, z, (0.1, *COLLAR[1:]), 0.04)
    mouth = box(px, py, pz, (2, SHELL[2] + 0.012, SHELL[3] + 0.012), 0.04)
    body = np.maximum(body, -both(mouth, 0.36 - x))
    collar = both(lip, -mouth)
    lx, ly, long, wide = LED
    recess = box(x - lx, y - ly, 0 * z, (long, wide, 1), 0.03)
    light = both(recess + 0.004, np.abs(z - CASE[2] + 0.02) - 0.028)
    deep = 0.02
    if lost == 1:
        deep = defect["deep"]
        light = box(x - lx, y - ly, z - CASE[2] + deep, (0.03, 0.02, 0.02), 0.005)  # the LED
    body = np.maximum(body, -both(recess, CASE[2] - deep - z))
    ex, radius, thick = EYELET
    loop = smooth_min(
        cylinder(x - ex, y, radius), box(x - ex - 0.15, y, 0 * z, (0.15, 0.19, 9)), 0.03
    )
    loop = -smooth_min(-loop, thick - np.abs(z), 0.03)
    loop = -smooth_min(-loop, cylinder(x - ex, y, HOLE), 0.02)
    if lost == 2:
        loop = np.maximum(loop, -_broken_off(x, y, z, defect))
    cap = np.maximum(cap, -cylinder(x - ex, y, HOLE))
    cap = np.minimum.reduce([cap, loop, collar])
    where, half_x, half_y = LABEL
    label = box(x - where, y, z + CASE[2], (half_x, half_y, 0.007), 0.004)
    return body, cap, shell, tongue, contacts, light, label


def _broken_off(x, y, z, defect):
    """Distance-like value of what is missing of the eyelet: a rough ball."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    rough = 0.010 * np.sin(61 * x + defect["seed"] % 7) * np.sin(57 * y) + 0.008 * np.sin(67 * z)
    return np.sqrt(sum(v * v for v in away)) - defect["radius"] + rough


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The stick's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    metal, plastic = part == METAL, (part == BODY) | (part == REAR)
    mottle, grain = fractal_noise_3d(points, 5, 2, 4), fractal_noise_3d(points, 70, 3, 2)
    drawn = fractal_noise_3d(points * [4, 90, 90], 1.0, 4, 3)
    look[:, :3] *= (1 + 0.03 * mottle + 0.03 * grain * plastic + 0.03 * drawn * metal)[:, None]
    look[:, 4] += 0.025 * mottle + 0.025 * drawn * metal
    px, py, pz = _in_plug(x, y, z, defect)
    seam = metal & (_seam(px, py) < 0.007) & (pz > 0) & (px > HINGE)
    look[seam & (np.abs(pz) < SHELL[3] - 0.003)] = (*SOOT, 0, 0.7)
    for side, where in ((FRONT, part == BODY), (BACK, part == STICKER)):
        ink = inked(points, side, defect)
        ink[~where | (side * z < CASE[2] - 0.01)] = 0
        look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    look[(part == BODY) & (_case(x, y, z) < -0.015)] = (*SOOT, 0, 0.8)  # in holes
    if kind == "missing" and defect["part"] == 1:
        look[part == LIGHT] = (*LAMP, 0, 0.4)
    if kind == "missing" and defect["part"] == 2:
        cut = np.abs(_broken_off(x, y, z, defect)) < 0.006
        look[cut & (part == REAR)] = (*BROKEN, 0, 0.8)
    if kind == "missing" and defect["part"] == 0:
        bottom = (part == PLASTIC) & (np.abs(y - defect["centre"][1]) < 0.11)
        look[bottom & (z > TONGUE[2] + 0.006) & (z < TONGUE[2] + 0.033)] = (*SOOT, 0, 0.8)
    if kind == "scratch":
        scored = scratched(points, defect, across=(1.0, 0.1, 0.1), reach=0.02)
        look[scored & plastic] = (*PALE, 0, 0.6)
        look[scored & metal] = (*SCORE, 0.6, 0.5)
        look[scored & (part == STICKER)] = (0.30, 0.30, 0.29, 0, 0.7)
    return solid.painted(look, least_roughness=0.1)


def inked(points, side: int, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of the front or the back: 0 or 1 + index in INKS, [N]."""
    axes = (side, 0, 0), (0, -1, 0)  # right and down, as it is seen
    spoilt = defect and defect["kind"] == "misprint" and defect["side"] == side
    return inked_face(lambda at: _printed(at, side), points, axes, defect if spoilt else None)


def _printed(places, side):
    """Ink at places [N, 2] (right, down) of a side: 0 or 1 + index in INKS."""
    return picked(_print_image(side), *((places + HALF_PRINT) * PX).T)


@cache
def _print_image(side: int) -> np.ndarray:
    """What is printed on the front or the back, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    for face, right, down, height, ink, text in TEXTS:
        if face == side:
            canvas.write(right, down, height, ink, text)
    if side == FRONT:  # a disc with a bolt in it, and a rule
        canvas.draw.ellipse(canvas.px(-0.42, -0.14, -0.22, 0.06), 2)
        bolt = (-0.305, -0.13, -0.38, -0.025, -0.325, -0.025, -0.345, 0.05, -0.26, -0.06)
        canvas.draw.polygon(canvas.px(*bolt, -0.315, -0.06), 1)
        canvas.rectangle(-0.40, 0.085, 0.24, 0.095, 1)
        return canvas.inks()
    canvas.bar_code(*BARS, 3, seed=5)
    canvas.rectangle(0.10, 0.03, 0.30, 0.09, None, 3, 4)
    return canvas.inks()
