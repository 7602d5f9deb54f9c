"""A television's remote control: a bowed black slab, rows of rubber keys, a label; its defects.

It points along x, where its infrared window is; the keys look along z. From both ends it looks much
alike: a block of keys, then a row, the ring in the middle, another row and another block.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lights import smoothstep
from .marks import described, first_met, inked_face, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, cylinder, smooth_min
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.45}
SMALLEST_MASK = {"missing": 0.0008, "skewed": 0.0008, "scratch": 0.0007, "stain": 0.0010}
SMALLEST_MASK |= {"misprint": 0.0008}
LOW, HIGH, STEP = np.array([-1.03, -0.28, -0.17]), np.array([1.03, 0.28, 0.16]), 0.0046
LONG, WIDE, CORNER = 1.0, 0.255, 0.10  # half sizes, corners as seen from above
TOP, REAR = 0.075, -0.085  # z of the front and the back before the slab is bowed
BOW = 0.06  # z falls by this times x * x
SEAM = -0.005  # z
WINDOW = ((0.98, 0.0, 0.03), (0.075, 0.155, 0.06))  # middle, half sizes
HEIGHT, HOLE, GAP, DOME = 0.032, 0.055, 0.008, 0.006  # of the keys and of what they stand in
NUMBER, PILL, ROCKER, COLOUR = (0.056, 0.038), (0.056, 0.028), (0.05, 0.095), (0.044, 0.027)
ROUND = (0.05, 0.05)
GREY, SLATE, RING_TONE, RED, GREEN, YELLOW, BLUE = range(7)  # tones of the keys
COLUMNS, ROWS = (-0.15, 0.0, 0.15), (-0.735, -0.62, -0.505, -0.39)  # of the number block
# right and down as the front is seen, half sizes, tone, sign
KEYS = [(right, down, *NUMBER, GREY) for down in ROWS for right in COLUMNS]
KEYS += [(right, down, *PILL, SLATE) for down in (-0.255, 0.255) for right in COLUMNS]
KEYS += [(right, 0.4475, *ROCKER, GREY) for right in (-0.15, 0.15)]
KEYS += [(0.0, down, *NUMBER, SLATE) for down in (0.39, 0.505)]
KEYS += [(right, down, *NUMBER, GREY) for down in (0.62, 0.735) for right in COLUMNS]
KEYS += [(0.11 * k - 0.165, 0.845, *COLOUR, RED + k) for k in range(4)]
KEYS += [(-0.15, -0.87, *ROUND, RED), (0.15, -0.87, *ROUND, SLATE), (0, 0, 0.07, 0.07, GREY)]
KEYS += [(0, 0, 0.175, 0.175, RING_TONE)]
RING, RING_HOLE = len(KEYS) - 1, 0.083
CATCH, PIECE = len(KEYS), len(KEYS) + 1  # of what is missing, after the keys
COVER = (-0.52, (0.33, 0.20), 0.03)  # of the battery cover: x of the middle, half sizes, corners
TONGUE = (-0.815, (0.040, 0.07), 0.012)  # of its catch
RIB = (-0.68, 0.034, 0.02, 0.021)  # x and apart; half length of the first and growth of the ribs
RIBS, RAISED = 6, 0.012
CELL = (0.095, 0.06)  # of a battery: |y|, radius
LABEL = (0.33, 0.28, 0.155)  # x of the middle, half sizes
LEFT_OUT, MOVED, SMEARED, ASKEW = range(4)  # kinds of misprint
GLUE, PAINT, DUST = range(3)  # kinds of stain
FRONT, BACK, LEGEND, PX = 1, -1, 0, 500
HALF_PRINT = (0.26, 1.0)  # of the pictures that are printed, world units
BLACK, SOOT, PALE = (0.026, 0.026, 0.027), (0.011, 0.011, 0.011), (0.24, 0.24, 0.235)
DULL, SCORED, SCUFFED = (0.13, 0.13, 0.13), (0.24, 0.235, 0.22), (0.36, 0.36, 0.355)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*BLACK, 0, 0.46), (0.022, 0.007, 0.009, 0, 0.07), (0.64, 0.64, 0.61, 0, 0.5)]
    + [(0.50, 0.30, 0.05, 0, 0.25), (0.20, 0.20, 0.205, 0, 0.62), (0.105, 0.108, 0.115, 0, 0.62)]
    + [(0.055, 0.056, 0.06, 0, 0.3), (0.45, 0.025, 0.02, 0, 0.55), (0.02, 0.24, 0.06, 0, 0.55)]
    + [(0.60, 0.40, 0.03, 0, 0.55), (0.025, 0.09, 0.42, 0, 0.55)]
)
SHELL, GLASS, STICKER, BATTERY, RUBBER = range(5)  # then the keys by tone
INKS = np.array([(0.74, 0.74, 0.71), (0.03, 0.03, 0.033), (0.45, 0.02, 0.02)])
# base colour, roughness of the stains: glue; paint, of two colours; dust
SPILT = ((0.40, 0.31, 0.13, 0.16), (0.68, 0.68, 0.65, 0.35), (0.06, 0.22, 0.34, 0.35))
SPILT += ((0.27, 0.26, 0.24, 0.9),)
# side, places to the right and down as they are seen, letters' height in px, ink, text
TEXTS = (
    (FRONT, 0.0, 0.915, 42, 1, "ARXON"),
    (FRONT, -0.15, -0.795, 22, 1, "POWER"),
    (FRONT, 0.15, -0.795, 22, 1, "INPUT"),
    (FRONT, -0.15, -0.207, 24, 1, "MENU"),
    (FRONT, 0.0, -0.207, 24, 1, "INFO"),
    (FRONT, 0.15, -0.207, 24, 1, "EPG"),
    (FRONT, -0.15, 0.303, 24, 1, "BACK"),
    (FRONT, 0.0, 0.303, 24, 1, "LIST"),
    (FRONT, 0.15, 0.303, 24, 1, "EXIT"),
    (FRONT, 0.0, -0.875, 24, 1, "TV 40"),
    (FRONT, 0.0, 0.447, 22, 1, "MUTE"),
    (FRONT, -0.15, 0.562, 22, 1, "VOL"),
    (FRONT, 0.15, 0.562, 22, 1, "CH"),
    (BACK, -0.01, -0.53, 38, 3, "ARXON"),
    (BACK, 0.0, -0.46, 25, 2, "RC-2714 B"),
    (BACK, -0.035, -0.17, 22, 2, "3V 2xAAA"),
    (BACK, 0.10, -0.17, 30, 2, "CE"),
    (BACK, 0.0, -0.11, 22, 2, "S/N 40718"),
)
SIGNS = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "AV", "0", "TXT")
BARS = (-0.115, -0.40, 0.115, -0.23)  # of the bar code: left, upper, right, lower


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, skewed, scratch, stain, misprint)."""
    towards = rng.uniform(-np.pi, np.pi)
    aside = np.array([np.cos(towards), np.sin(towards), 0])
    if kind == "missing":  # a key; the battery cover's catch, a corner of the cover
        group = rng.choice(3, p=(0.65, 0.15, 0.2))
        part = int((rng.integers(RING), CATCH, PIECE)[group])
        side, end = rng.choice([-1, 1], 2)
        middle, (half_x, half_y), _ = COVER
        sizes = {"part": part, "radius": rng.uniform(0.09, 0.14)}
        if group == 0:
            centre = _place_of(part)
        elif group == 1:
            centre = _bowed(TONGUE[0], 0, REAR)
        else:
            centre = _bowed(middle + end * half_x, side * half_y, REAR)
        normal = 0.3 * aside + [0, 0, FRONT if group == 0 else BACK]
    elif kind == "skewed":  # a key or the ring, tilted, sunk and turned
        part = RING if rng.random() < 0.15 else int(rng.integers(RING))
        least, most = (0.10, 0.16) if part == RING else (0.26, 0.45)
        sizes = {"part": part, "towards": towards, "tilt": rng.uniform(least, most)}
        sizes |= {"sunk": rng.uniform(0.008, 0.03), "turn": rng.uniform(-0.6, 0.6)}
        centre, normal = _place_of(part), rng.uniform(0, 0.6) * aside + [0, 0, FRONT]
    elif kind == "scratch":
        centre, normal = _open_place(rng, (SHELL, STICKER))
        sizes = {"length": rng.uniform(0.13, 0.28), "width": rng.uniform(0.011, 0.016)}
        sizes |= {"angle": rng.uniform(0, np.pi), "dull": rng.random() < 0.4}
    elif kind == "stain":  # of glue, paint, dust
        centre, normal = _open_place(rng, (SHELL, SHELL, STICKER, GLASS, RUBBER, RUBBER + SLATE))
        what = int(rng.integers(3))
        sizes = {"what": what, "radius": rng.uniform(0.055, 0.115), "hue": rng.integers(2)}
        sizes["cover"] = rng.uniform(0.8, 1) if what == PAINT else rng.uniform(0.45, 0.8)
    elif kind == "misprint":
        way, side = int(rng.choice(4, p=(0.25, 0.2, 0.3, 0.25))), BACK
        centre = _bowed(LABEL[0], 0, REAR)
        sizes = {"way": way, "turn": rng.choice([-1, 1]) * rng.uniform(0.05, 0.14)}
        if way != ASKEW:
            side, right, down, *_ = TEXTS[rng.integers(len(TEXTS))]
            centre = _bowed(-down, -side * right, TOP if side == FRONT else REAR)
        sizes |= {"side": side, "smeared": way == SMEARED, "radius": rng.uniform(0.10, 0.20)}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.015, 0.05)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.005, 0.025)
        normal = 0.3 * aside + [0, 0, side]
    else:
        raise ValueError(f"the remote control has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place_of(key):
    """Middle of a key's top, [3]; the ring's is the middle of all."""
    right, down, *_ = KEYS[key]
    return _bowed(-down, -right, TOP + HEIGHT / 2)


def _bowed(x, y, z):
    """Where a place of the slab comes to lie when it is bowed, [3]."""
    return np.array([x, y, z - BOW * (x * x - 0.35)])


def _straight(x, z):
    """z as if the slab were not bowed."""
    return z + BOW * (x * x - 0.35)


def _open_place(rng, among):
    """A point of one of the parts `among` on the front or the back, and its normal, each [3]."""
    while True:
        way = np.tile(rng.uniform((-0.93, -0.22, 0), (0.98, 0.22, 0)), (901, 1))
        way[:, 2] = np.linspace(0.16, -0.17, 901) * rng.choice([-1, 1])
        met = first_met(way, parts, distance)
        if met is not None and met[0] in among and abs(met[2][2]) > 0.8:
            return met[1:]


def _solid(x, y, z):
    """Distance-like value of the slab before anything is let into it."""
    outline = box(x, y, 0 * z, (LONG, WIDE, 1), CORNER)
    solid = -smooth_min(-outline, TOP - z, 0.035)
    return -smooth_min(-solid, z - REAR, 0.09)


def _upright(x, y, z, key, defect):
    """x, y (from the key's middle) and z as if the key were not skewed."""
    right, down, *_ = KEYS[key]
    x, y = x + down, y + right
    if not defect or defect["kind"] != "skewed" or defect["part"] != key:
        return x, y, z
    (cos, sin), high = (np.cos(defect["towards"]), np.sin(defect["towards"])), z + defect["sunk"]
    along, across, high = cos * x + sin * y, cos * y - sin * x, high - TOP
    lean, stand = np.sin(defect["tilt"]), np.cos(defect["tilt"])
    along, high = stand * along - lean * high, lean * along + stand * high
    x, y = cos * along - sin * across, sin * along + cos * across
    cos, sin = np.cos(defect["turn"]), np.sin(defect["turn"])
    return cos * x + sin * y, cos * y - sin * x, high + TOP


def _key_outline(x, y, key):
    """Distance of a key as seen from above, x and y from its middle; the ring isn't hollow yet."""
    *_, half_y, half_x, _ = KEYS[key]
    return box(x, y, 0 * x, (half_x, half_y, 1), 0.99 * min(half_x, half_y))


def _key(x, y, z, key):
    """Distance-like value of a key, x and y from its middle."""
    outline, rounding = _key_outline(x, y, key), 0.018
    top = TOP + HEIGHT + DOME * (outline / 0.05).clip(-1, 0)
    if key == RING:
        outline = np.maximum(outline, RING_HOLE - np.hypot(x, y))
        top = TOP + 0.024
    return both(-smooth_min(-outline, top - z, rounding), TOP - HOLE - z)


def _on_label(x, y, defect):
    """x and y from the label's middle, as if it were not stuck askew."""
    x = x - LABEL[0]
    if not defect or defect["kind"] != "misprint" or defect["way"] != ASKEW:
        return x, y
    x, y = x - defect["across"], y - defect["down"]
    cos, sin = np.cos(defect["turn"]), np.sin(defect["turn"])
    return cos * x + sin * y, cos * y - sin * x


def _back(x, y, z, solid, lost, defect):
    """Distance-like values of what is cut into the back, and of what stands out of it."""
    middle, half, corner = COVER
    cover = box(x - middle, y, 0 * z, (*half, 1), corner)
    middle, half, corner = TONGUE
    tongue = box(x - middle, y, 0 * z, (*half, 1), corner)
    outside = both(-solid - 0.016, z)
    cut = both(np.minimum(np.abs(cover), np.abs(tongue)) - 0.005, outside)
    raised = both(tongue + 0.006, REAR - RAISED - z, z - REAR - 0.02)
    if lost == CATCH:
        cut, raised = np.minimum(cut, both(tongue, z - REAR - 0.05)), np.full_like(x, 9)
    for k in range(RIBS):
        rib = box(x - RIB[0] - k * RIB[1], y, 0 * z, (0.009, RIB[2] + k * RIB[3], 1), 0.008)
        raised = np.minimum(raised, both(rib, REAR - RAISED - z, z - REAR - 0.01))
    if lost == PIECE:
        gone = both(cover, _broken_off(x, y, defect))
        cut = np.minimum(cut, both(gone, z - REAR - 0.06))
    return cut, raised


def _broken_off(x, y, defect):
    """Distance-like value of the corner that broke off the battery cover, endless along z."""
    away, phase = [v - c for v, c in zip((x, y), defect["centre"][:2], strict=True)], defect["seed"]
    rough = 0.009 * np.sin(61 * x + phase % 7) + 0.007 * np.sin(83 * y - phase % 5)
    return np.hypot(*away) - defect["radius"] + rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of each part in the order of LOOKS, each as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    z = _straight(x, z)
    solid = _solid(x, y, z)
    (mx, my, mz), half = WINDOW
    pane = box(x - mx, y - my, z - mz, half, 0.015)
    cut, raised = _back(x, y, z, solid, lost, defect)
    cut = np.minimum.reduce([cut, both(np.abs(z - SEAM) - 0.005, -solid - 0.012), pane - 0.006])
    keys = [np.full_like(x, 9) for _ in LOOKS[RUBBER:]]
    for k, (right, down, half_y, half_x, tone) in enumerate(KEYS):
        near = (np.abs(x + down) < half_x + 0.05) & (np.abs(y + right) < half_y + 0.05)
        near &= z > TOP - HOLE - 0.03
        at = x[near], y[near], z[near]
        hole = both(_key_outline(at[0] + down, at[1] + right, k) - GAP, TOP - HOLE - at[2])
        cut[near] = np.minimum(cut[near], hole)
        if lost != k:
            key = _key(*_upright(*at, k, defect), k)
            keys[tone][near] = np.minimum(keys[tone][near], key)
    shell = np.minimum(np.maximum(solid, -cut), np.maximum(raised, z))
    lx, ly = _on_label(x, y, defect)
    label = box(lx, ly, z - REAR, (*LABEL[1:], 0.006), 0.004)
    cell = both(cylinder(np.abs(y) - CELL[0], z, CELL[1]), np.abs(x - COVER[0]) - 0.30, z)
    return shell, both(pane, solid + 0.003), label, cell, *keys


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The remote control's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points[:, 0], points[:, 1], _straight(points[:, 0], points[:, 2])
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    mottle, grain = fractal_noise_3d(points, 3, 2, 2), fractal_noise_3d(points, 75, 3, 2)
    look[:, :3] *= (1 + 0.03 * mottle)[:, None]
    look[:, 4] += 0.03 * mottle + 0.05 * grain * (part == SHELL)
    look[(part == SHELL) & (_solid(x, y, z) < -0.012)] = (*SOOT, 0, 0.8)  # in gaps and holes
    ink = inked(points, part, defect)
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    if kind == "scratch":
        scored = scratched(points, defect, across=(1.0, 0.1, 0.1), reach=0.05)
        look[scored] = (*(DULL if defect["dull"] else PALE), 0, 0.75)
        look[scored & (part == STICKER)] = (*SCORED, 0, 0.8)
        look[scored & (part >= RUBBER)] = (*SCUFFED, 0, 0.8)
    if kind == "stain":
        what = int(defect["what"])
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = 0.25 * fractal_noise_3d(points, 9, defect["seed"], 4)
        cover = smoothstep((1 - away - edge) / (0.08 if what == PAINT else 0.3))
        if what == DUST:
            cover *= smoothstep(0.8 + 0.5 * fractal_noise_3d(points, 45, defect["seed"], 2))
        spilt = SPILT[(0, 1 + int(defect["hue"]), 3)[what]]
        cover = (defect["cover"] * cover)[:, None]
        look = look * (1 - cover) + np.array([*spilt[:3], 0, spilt[3]]) * cover
    return solid.painted(look, least_roughness=0.07)


def inked(points, part, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] that belong to parts [N]: 0 or 1 + index in INKS, [N]."""
    ink, (x, y, z) = np.zeros(len(points), int), points.T.astype(float)
    misprint = defect if defect and defect["kind"] == "misprint" else None
    flat = np.stack([x, y, _straight(x, z)], 1)
    lx, ly = _on_label(x, y, defect)
    sticker, signed = np.stack([lx + LABEL[0], ly, flat[:, 2]], 1), flat.copy()
    if defect and defect["kind"] == "skewed":  # as if no key were
        right, down, half_y, half_x, tone = KEYS[int(defect["part"])]
        own = (part == RUBBER + tone) & (np.abs(y + right) < half_y + 0.02)
        own &= np.abs(x + down) < half_x + 0.02
        at = _upright(*flat[own].T, int(defect["part"]), defect)
        signed[own] = np.stack(at, 1) - [down, right, 0]
    faces = [(FRONT, flat, (part == SHELL) & (flat[:, 2] > TOP - 0.008))]
    faces += [(LEGEND, signed, (part >= RUBBER) & (signed[:, 2] > TOP + 0.012))]
    faces += [(BACK, sticker, (part == STICKER) & (flat[:, 2] < REAR - 0.002))]
    for side, places, where in faces:
        spoilt = misprint if misprint and misprint["side"] == side else None
        image, axes = _print_image(side), ((0, 1 if side == BACK else -1, 0), (-1, 0, 0))

        def printed(at, image=image):
            return picked(image, *((at + HALF_PRINT) * PX).T)

        moved = spoilt if spoilt and spoilt["way"] in (MOVED, SMEARED) else None
        ink[where] = inked_face(printed, places[where], axes, moved)
        if spoilt and spoilt["way"] == LEFT_OUT:
            away = np.hypot(*(places[:, :2] - spoilt["centre"][:2]).T)
            ink[where & (away < spoilt["radius"])] = 0
    return ink


@cache
def _print_image(side: int) -> np.ndarray:
    """What is printed on the front, the keys or the back, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    for face, *text in TEXTS:
        if face == side:
            canvas.write(*text)
    if side == FRONT:
        for down in (-0.32, 0.333, 0.795):  # lines that part the blocks
            canvas.rectangle(-0.2, down - 0.002, 0.2, down + 0.003, 1)
    elif side == LEGEND:
        for (right, down, *_), sign in zip(KEYS, SIGNS, strict=False):
            canvas.write(right, down, 34 if len(sign) == 1 else 24, 1, sign)
        for right in (-0.15, 0.15):
            canvas.write(right, 0.395, 34, 1, "+")
            canvas.write(right, 0.50, 34, 1, "-")
        canvas.write(0, 0, 30, 1, "OK")
        for turn in range(4):  # the ring's arrows
            cos, sin = np.cos(turn * np.pi / 2), np.sin(turn * np.pi / 2)
            tip = [(0.15, 0), (0.118, 0.026), (0.118, -0.026)]
            canvas.draw.polygon(
                [tuple(canvas.px(cos * a - sin * b, sin * a + cos * b)) for a, b in tip], 1
            )
        for right, down in ((-0.15, 0.62), (0, 0.62), (0.15, 0.62), (-0.15, 0.735), (0.15, 0.735)):
            tip = [(0.022, 0), (-0.014, 0.018), (-0.014, -0.018)]
            way = -1 if right < 0 else 1
            canvas.draw.polygon([tuple(canvas.px(right + way * a, down + b)) for a, b in tip], 1)
        canvas.rectangle(-0.016, 0.719, 0.016, 0.751, 1)
    else:
        canvas.bar_code(*BARS, 2, seed=5)
        canvas.rectangle(-0.142, -0.597, 0.142, -0.063, None, 2, 3)
    return canvas.inks()
