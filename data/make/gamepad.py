"""A game controller: a white shell over a dark one, sticks, a cross pad, lettered buttons; defects.

Its face looks along z, the shoulder buttons along y. Both grips look alike, from behind nearly
both halves: only the label tells them apart.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import described, first_met, inked_face, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, cylinder, smooth_min
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.45}
SMALLEST_MASK = {"missing": 0.0009, "skewed": 0.0012, "misprint": 0.0007, "scratch": 0.0010}
SMALLEST_MASK |= {"stain": 0.0015}
LOW, HIGH, STEP = np.array([-0.93, -0.67, -0.29]), np.array([0.93, 0.58, 0.41]), 0.0072
MIDDLE = (0.05, 0.52, 0.37, 0.14)  # between the grips: y, half sizes, corners
GRIP = ((0.56, 0.14, 0.30), (0.73, -0.45, 0.165))  # |x|, y and radius at its two ends
FACE, REAR, BULGE = 0.16, -0.15, 0.10  # z of the front and the back; how far a grip sticks out
SEAM = -0.03  # z
STICKS, WELL = ((-0.56, 0.17), (0.27, -0.08)), (0.165, 0.06, 0.016)  # x, y; radius, depth, ring
BALL, STEM, STICK = (0.145, FACE - 0.10), 0.05, (0.125, FACE + 0.12, FACE + 0.185)  # see `_stick`
CROSS, ARM, DISH = (-0.27, -0.08), (0.138, 0.05, 0.045), (0.158, 0.02)  # sizes; its recess
CLUSTER, APART, BUTTON, HOLE = (0.56, 0.17), 0.13, (0.07, 0.05), (0.078, 0.07)  # radius, height
AROUND = ((0, -1), (1, 0), (-1, 0), (0, 1))  # where the buttons sit
BUTTONS = [(CLUSTER[0] + APART * right, CLUSTER[1] + APART * up) for right, up in AROUND]
SIGNS = "ABXY"
MENU, LED = (0.105, 0.19, 0.036, 0.02), (0.075, 0.052, 0.017)  # |x|, y, half sizes; y, half sizes
BUMPER = ((0.50, 0.42, 0.06), (0.25, 0.12, 0.065))  # middle (|x|, y, z), half sizes
TRIGGER = ((0.50, 0.40, -0.13), (0.15, 0.135, 0.075))
GAP = 0.012
SCREWS = ((0.0, -0.19), (-0.61, 0.20), (0.61, 0.20), (-0.67, -0.28), (0.67, -0.28))
HEAD, DEEP = (0.048, 0.058), 0.03  # radius of a screw and of its recess; how deep it sits
SOCKET = (-0.005, 0.078, 0.032)  # z, half sizes
LABEL = (0.09, 0.30, 0.14)  # y, half sizes
FIRST_BUTTON, FIRST_SCREW, TILTED_CROSS = 2, 6, 6  # of what is missing or skewed; first the sticks
BLANK, SWAPPED, ASKEW, SMEARED = range(4)  # kinds of misprint
PX = 400  # of the prints, per world unit
HALF_PRINT = (0.85, 0.5)  # of the pictures that are printed, world units
FRONT, BACK = 1, -1
WHITE, DARK, BLACK = (0.52, 0.51, 0.485), (0.055, 0.057, 0.062), (0.02, 0.02, 0.021)
STEEL, PAPER, SOOT = (0.56, 0.56, 0.55), (0.66, 0.66, 0.64), (0.012, 0.012, 0.012)
SILICONE, PALE, SCORED = (0.50, 0.50, 0.46), (0.26, 0.26, 0.26), (0.30, 0.29, 0.275)
GREASE, GLUE = (0.10, 0.062, 0.022), (0.42, 0.33, 0.13)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*WHITE, 0, 0.42), (*DARK, 0, 0.52), (0.03, 0.03, 0.031, 0, 0.72), (*BLACK, 0, 0.2)]
    + [(0.032, 0.033, 0.036, 0, 0.34), (0.02, 0.33, 0.07, 0, 0.14), (0.60, 0.03, 0.025, 0, 0.14)]
    + [(0.02, 0.09, 0.50, 0, 0.14), (0.78, 0.45, 0.02, 0, 0.14), (0.10, 0.10, 0.11, 0, 0.34)]
    + [(0.05, 0.052, 0.056, 0, 0.27), (*STEEL, 1, 0.3), (*PAPER, 0, 0.5)]
    + [(0.10, 0.55, 0.62, 0, 0.12), (*STEEL, 1, 0.24)]
)
SHELL, UNDER, RUBBER, GLOSS, PAD, KEYS = range(6)
SMALL, SHOULDERS, BOLTS, STICKER, LIGHT, PLUGGED = range(KEYS + 4, KEYS + 10)
INKS = np.array([(0.09, 0.09, 0.10), (0.80, 0.80, 0.77), (0.025, 0.025, 0.028), (0.45, 0.02, 0.02)])
# side, places to the right and down as they are seen, letters' height in px, ink, text
TEXTS = (
    (FRONT, 0.0, -0.315, 50, 1, "ARX PAD"),
    (FRONT, -0.105, -0.13, 26, 1, "BACK"),
    (FRONT, 0.11, -0.13, 26, 1, "START"),
    (BACK, -0.07, -0.165, 32, 3, "ARX PAD 2"),
    (BACK, -0.12, -0.10, 28, 3, "5V 0.5A"),
    (BACK, 0.205, -0.135, 44, 4, "CE"),
    (BACK, 0.105, -0.02, 26, 3, "S/N 70318"),
)
BARS = (-0.26, -0.06, -0.06, 0.02)  # of the bar code: left, upper, right, lower


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, skewed, misprint, scratch, stain)."""
    towards = rng.uniform(-np.pi, np.pi)
    aside = np.array([np.cos(towards), np.sin(towards), 0])
    sizes = {}
    if kind == "missing":  # a stick's cap, a button, a screw
        group = rng.choice(3, p=(0.3, 0.4, 0.3))
        part = int((rng.integers(2), 2 + rng.integers(4), 6 + rng.integers(5))[group])
        normal = 0.4 * aside + [0, 0, BACK if group == 2 else FRONT]
        centre, sizes = _place_of(part), {"part": part}
    elif kind == "skewed":  # a stick, a button, the cross pad, stuck aside
        group = rng.choice(3, p=(0.35, 0.4, 0.25))
        part = int((rng.integers(2), 2 + rng.integers(4), TILTED_CROSS)[group])
        centre = (*CROSS, FACE) if group == 2 else _place_of(part)
        least, most = ((0.22, 0.38), (0.25, 0.40), (0.14, 0.20))[group]
        sizes = {"part": part, "towards": towards, "tilt": rng.uniform(least, most)}
        sizes["sunk"] = (0, 0.02, 0.015)[group] * rng.uniform(1, 2)
        normal = rng.uniform(0, 0.8) * aside + [0, 0, 1]
    elif kind == "misprint":
        way = int(rng.choice(4, p=(0.25, 0.25, 0.25, 0.25)))
        side, key = FRONT, int(rng.integers(4))
        centre = _place_of(FIRST_BUTTON + key)
        if way == ASKEW:
            side, centre = BACK, np.array([0, LABEL[0], REAR])
            sizes["turn"] = rng.choice([-1, 1]) * rng.uniform(0.06, 0.20)
        elif way == SMEARED:
            text = TEXTS[rng.choice([0, 3, 4, 5, 6])]
            side = text[0]
            centre = np.array([side * text[1], -text[2], FACE if side == FRONT else REAR])
        sizes |= {"way": way, "side": side, "key": key, "other": (key + rng.integers(1, 4)) % 4}
        sizes |= {"smeared": rng.random() < 0.6, "radius": rng.uniform(0.11, 0.17)}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        sizes["down"] = rng.uniform(-0.025, 0.025)
        normal = 0.3 * aside + [0, 0, side]
    elif kind == "scratch":
        centre, normal = _open_place(rng)
        sizes = {"length": rng.uniform(0.12, 0.26), "width": rng.uniform(0.011, 0.016)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":  # of grease or glue
        centre, normal = _open_place(rng)
        sizes = {"radius": rng.uniform(0.06, 0.13), "cover": rng.uniform(0.3, 0.8)}
        sizes["glue"] = rng.random() < 0.5
    else:
        raise ValueError(f"the controller has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place_of(part):
    """Middle of a stick's cap, a button or a screw, [3]."""
    if part < FIRST_BUTTON:
        return np.array([*STICKS[part], STICK[1]])
    if part < FIRST_SCREW:
        return np.array([*BUTTONS[part - FIRST_BUTTON], FACE + BUTTON[1] / 2])
    return np.array([*SCREWS[part - FIRST_SCREW], _rear_at(*SCREWS[part - FIRST_SCREW]) + DEEP])


def _open_place(rng):
    """A point of the shells, seldom of the label, and its normal, each [3]."""
    while True:
        way = np.tile(rng.uniform((-0.85, -0.6, 0), (0.85, 0.42, 0)), (901, 1))
        way[:, 2] = np.linspace(0.42, -0.3, 901) * rng.choice([-1, 1])
        met = first_met(way, parts, distance)
        if met is not None and met[0] in (SHELL, UNDER, STICKER) and abs(met[2][2]) > 0.75:
            return met[1:]


@cache
def _rear_at(x, y) -> float:
    """z of the back at x and y, before anything is let into it."""
    z = np.linspace(-0.3, 0, 1501)
    return float(z[(_solid(x + 0 * z, y + 0 * z, z) < 0).argmax()])


def _solid(x, y, z):
    """Distance-like value of the housing before anything is let into it."""
    (ax, ay, wide), (bx, by, narrow) = GRIP
    right, up = np.abs(x) - ax, y - ay
    along = (right * (bx - ax) + up * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
    along = along.clip(0, 1)
    grip = np.hypot(right - along * (bx - ax), up - along * (by - ay))
    grip = grip - wide + along * (wide - narrow)
    middle = box(x, y - MIDDLE[0], 0 * z, (*MIDDLE[1:3], 1), MIDDLE[3])
    outline = smooth_min(grip, middle, 0.10)
    front = FACE - 0.6 * np.maximum(-y - 0.2, 0) ** 2
    rear = REAR - BULGE * smoothstep(-(grip + 0.02) / 0.22)
    solid = -smooth_min(-outline, front - z, 0.10)
    return -smooth_min(-solid, z - rear, 0.14)


def _upright(x, y, z, pivot, part, defect):
    """x, y (from the pivot's) and z as if part number `part` were not skewed."""
    x, y = x - pivot[0], y - pivot[1]
    if not defect or defect["kind"] != "skewed" or defect["part"] != part:
        return x, y, z
    (cos, sin), z = (np.cos(defect["towards"]), np.sin(defect["towards"])), z + defect["sunk"]
    along, across, high = cos * x + sin * y, cos * y - sin * x, z - pivot[2]
    lean, stand = np.sin(defect["tilt"]), np.cos(defect["tilt"])
    along, high = stand * along - lean * high, lean * along + stand * high
    return cos * along - sin * across, sin * along + cos * across, high + pivot[2]


def _stick(x, y, z):
    """Distance-like values of a stick's cap and of its ball and stem about x = y = 0."""
    reach, (radius, low, top) = np.hypot(x, y), STICK
    ribbed = reach + 0.008 * smoothstep(0.5 + 0.9 * np.cos(26 * np.arctan2(y, x)))
    top = top - 0.026 * (1 - (reach / 0.095) ** 2).clip(0, 1)
    cap = -smooth_min(radius - ribbed, np.minimum(z - low, top - z), 0.03)
    ball = np.sqrt(reach * reach + (z - BALL[1]) ** 2) - BALL[0]
    return cap, np.minimum(ball, both(reach - STEM, BALL[1] - z, z - low - 0.01))


def _button(x, y, z, height):
    """Distance-like value of a button about x = y = 0, rounded at its top."""
    reach = np.hypot(x, y)
    top = FACE + height - 0.012 * (reach / BUTTON[0]) ** 2
    return both(-smooth_min(BUTTON[0] - reach, top - z, 0.025), FACE - HOLE[1] - z)


def _cross(x, y, z):
    """Distance-like value of the cross pad about x = y = 0, hollow towards its middle."""
    long, half, height = ARM
    plus = np.minimum(
        box(x, y, 0 * z, (long, half, 1), 0.02), box(x, y, 0 * z, (half, long, 1), 0.02)
    )
    top = FACE + height - 0.022 * (1 - (np.hypot(x, y) / 0.13) ** 2).clip(0, 1)
    return both(-smooth_min(-plus, top - z, 0.02), FACE - DISH[1] - 0.02 - z)


def _mirrored_box(x, y, z, place, rounding):
    (mx, my, mz), half = place
    return box(np.abs(x) - mx, y - my, z - mz, half, rounding)


def _on_label(x, y, defect):
    """x and y from the label's middle, as if it were not stuck askew."""
    y = y - LABEL[0]
    if not defect or defect["kind"] != "misprint" or defect["way"] != ASKEW:
        return x, y
    x, y = x - defect["across"], y - defect["down"]
    cos, sin = np.cos(defect["turn"]), np.sin(defect["turn"])
    return cos * x + sin * y, cos * y - sin * x


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of each part in the order of LOOKS, each as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    solid = _solid(x, y, z)
    bumper = _mirrored_box(x, y, z, BUMPER, 0.03)
    trigger = _mirrored_box(x, y, z, TRIGGER, 0.055)
    cut = np.minimum(bumper, trigger) - GAP
    shoulders = np.minimum(-smooth_min(0.022 - solid, -bumper, 0.02), trigger)
    cut = np.minimum(cut, both(np.abs(z - SEAM) - 0.006, -solid - 0.014))
    rubber, gloss = np.full_like(x, 9), np.full_like(x, 9)
    for k, place in enumerate(STICKS):
        cap, ball = _stick(*_upright(x, y, z, (*place, BALL[1]), k, defect))
        reach = cylinder(x - place[0], y - place[1], WELL[0])
        cut = np.minimum(cut, both(reach, FACE - WELL[1] - z))
        ring = np.hypot(reach - 0.004, z - FACE) - WELL[2]
        gloss = np.minimum.reduce([gloss, ball, ring])
        if lost != k:
            rubber = np.minimum(rubber, cap)
    cut = np.minimum(cut, both(cylinder(x - CROSS[0], y - CROSS[1], DISH[0]), FACE - DISH[1] - z))
    pad = _cross(*_upright(x, y, z, (*CROSS, FACE), TILTED_CROSS, defect))
    buttons = []
    for k, place in enumerate(BUTTONS, FIRST_BUTTON):
        at = _upright(x, y, z, (*place, FACE), k, defect)
        one = _button(*at, BUTTON[1])
        if lost == k:  # the switch's silicone dome shows
            one = both(cylinder(at[0], at[1], 0.035), z - FACE + 0.03, FACE - HOLE[1] - z)
        buttons.append(one)
        hole = both(cylinder(x - place[0], y - place[1], HOLE[0]), FACE - HOLE[1] - z)
        cut = np.minimum(cut, hole)
    right, up, wide, high = MENU
    small = box(np.abs(x) - right, y - up, z - FACE, (wide, high, 0.02), 0.016)
    up, wide, high = LED
    window = box(x, y - up, z - FACE, (wide, high, 0.02), 0.012)
    light = both(window + 0.003, z - FACE - 0.004)
    cut = np.minimum(cut, window)
    bolts = np.full_like(x, 9)
    for k, place in enumerate(SCREWS, FIRST_SCREW):
        sx, sy, deep = x - place[0], y - place[1], z - _rear_at(*place) - DEEP
        reach = np.hypot(sx, sy)
        cut = np.minimum(cut, both(reach - HEAD[1], deep - 0.022))
        if lost == k:
            cut = np.minimum(cut, both(reach - 0.024, deep - 0.08))
            continue
        head = both(-smooth_min(HEAD[0] - reach, deep, 0.015), deep - 0.03)
        slot = both(np.minimum(np.abs(sx), np.abs(sy)) - 0.009, reach - 0.034, deep - 0.018)
        bolts = np.minimum(bolts, np.maximum(head, -slot))
    mid, wide, high = SOCKET
    mouth = box(x, y - 0.42, z - mid, (wide, 0.10, high), high - 0.002)
    cut = np.minimum(cut, mouth)
    inner = box(x, y - 0.45, z - mid, (wide - 0.012, 0.11, high - 0.012), high - 0.014)
    tongue = box(x, y - 0.36, z - mid, (wide - 0.03, 0.045, 0.007))
    socket = np.minimum(both(mouth + 0.001, -inner, y - 0.414), tongue)
    lx, ly = _on_label(x, y, defect)
    label = box(lx, ly, z - REAR, (*LABEL[1:], 0.006), 0.004)
    body = np.maximum(solid, -cut)
    shells = np.maximum(body, SEAM - z), np.maximum(body, z - SEAM)
    return *shells, rubber, gloss, pad, *buttons, small, shoulders, bolts, label, light, socket


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The controller's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    mottle, grain = fractal_noise_3d(points, 3, 2, 2), fractal_noise_3d(points, 70, 3, 2)
    satin = (part <= RUBBER) | (part == PAD)
    look[:, :3] *= (1 + 0.025 * mottle)[:, None]
    look[:, 4] += 0.03 * mottle + 0.03 * grain * satin
    housing = part <= UNDER
    look[housing & (_solid(x, y, z) < -0.012)] = (*SOOT, 0, 0.8)  # in gaps and holes
    well = housing & (z < FACE - 0.006) & (z > FACE - DISH[1] - 0.01)
    look[well & (cylinder(x - CROSS[0], y - CROSS[1], DISH[0]) < 0.01)] = LOOKS[GLOSS]
    for place in SCREWS:  # soot in the slots
        near = np.hypot(x - place[0], y - place[1]) < HEAD[0] - 0.008
        look[near & (part == BOLTS) & (z > _rear_at(*place) + DEEP + 0.007)] = (*SOOT, 0, 0.8)
    look[(part == PLUGGED) & (y < 0.36)] = (*SOOT, 0, 0.8)
    ink = inked(points, part, defect)
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    if kind == "missing" and FIRST_BUTTON <= defect["part"] < FIRST_SCREW:
        dome = part == KEYS + int(defect["part"]) - FIRST_BUTTON
        look[dome] = (*SILICONE, 0, 0.6)
    if kind == "missing" and defect["part"] < FIRST_BUTTON:
        away = np.hypot(*(points[:, :2] - STICKS[int(defect["part"])]).T)
        look[(part == GLOSS) & (away < STEM + 0.01) & (z > FACE + 0.06)] = (*PALE, 0, 0.5)
    if kind == "scratch":
        scored = scratched(points, defect, across=(1.0, 0.1, 0.1), reach=0.05)
        for which, tone in ((SHELL, SCORED), (UNDER, PALE), (STICKER, SCORED)):
            look[scored & (part == which)] = (*tone, 0, 0.7)
    if kind == "stain":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = 0.25 * fractal_noise_3d(points, 9, defect["seed"], 4)
        cover = (defect["cover"] * smoothstep((1 - away - edge) / 0.25))[:, None]
        spilt = np.array([*(GLUE if defect["glue"] else GREASE), 0, 0.2])
        look = look * (1 - cover) + spilt * cover
    return solid.painted(look, least_roughness=0.1)


def inked(points, part, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] that belong to parts [N]: 0 or 1 + index in INKS, [N]."""
    kind, signs, misprint = defect["kind"] if defect else None, list(SIGNS), None
    if kind == "misprint":
        way, key, other = (int(defect[name]) for name in ("way", "key", "other"))
        misprint = defect if way == SMEARED else None
        if way == BLANK:
            signs[key] = " "
        elif way == SWAPPED:
            signs[key], signs[other] = signs[other], signs[key]
    ink, z = np.zeros(len(points), int), points[:, 2]
    lx, ly = _on_label(points[:, 0], points[:, 1], defect)
    sticker = np.stack([lx, ly + LABEL[0], z], 1)
    signed = points.astype(float)  # as if no button were skewed
    if kind == "skewed" and FIRST_BUTTON <= defect["part"] < TILTED_CROSS:
        number = int(defect["part"]) - FIRST_BUTTON
        tilted, place = part == KEYS + number, (*BUTTONS[number], FACE)
        at = _upright(*signed[tilted].T, place, number + FIRST_BUTTON, defect)
        signed[tilted] = np.stack(at, 1) + [*place[:2], 0]
    keyed = (part >= KEYS) & (part < SMALL) & (signed[:, 2] > FACE + 0.01)
    faces = [(FRONT, points, (part == SHELL) & (z > FACE - 0.01)), (FRONT, signed, keyed)]
    faces += [(BACK, sticker, (part == STICKER) & (z < REAR - 0.002))]
    for side, places, where in faces:
        spoilt = misprint if misprint and misprint["side"] == side else None
        image, axes = _print_image(side, "".join(signs)), ((side, 0, 0), (0, -1, 0))

        def printed(at, image=image):
            return picked(image, *((at + HALF_PRINT) * PX).T)

        ink[where] = inked_face(printed, places[where], axes, spoilt)
    if kind == "missing" and FIRST_BUTTON <= defect["part"] < FIRST_SCREW:
        ink[part == KEYS + int(defect["part"]) - FIRST_BUTTON] = 0
    return ink


@cache
def _print_image(side: int, signs: str) -> np.ndarray:
    """What is printed on the front or the back, [rows, columns]; `signs`: of the buttons."""
    canvas = Canvas(HALF_PRINT, PX)
    for face, *text in TEXTS:
        if face == side:
            canvas.write(*text)
    if side == FRONT:
        for (right, up), sign in zip(BUTTONS, signs, strict=True):
            canvas.write(right, -up, 48, 2, sign, 3)
        canvas.rectangle(-0.16, -0.253, 0.16, -0.244, 1)
        return canvas.inks()
    canvas.bar_code(*BARS, 3, seed=5)
    canvas.rectangle(-0.285, -0.215, 0.285, 0.035, None, 3, 3)
    return canvas.inks()
