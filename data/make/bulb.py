"""An LED bulb: a matt white globe, a ribbed skirt with its ratings, a screw base; its defects.

It stands along z with the globe above, the printed panel faces -y. But for prints, panels, the
globe's mark and the base's solder it is a solid of revolution.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lathe import smooth_outline
from .lights import smoothstep
from .marks import described, picked, rolled_ink, solid_with_parts, union
from .mesh import Mesh, both, cylinder, rod, smooth_min, thread_depth, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.45}
SMALLEST_MASK = {"dent": 0.0012, "crack": 0.0008, "scorch": 0.0015, "misprint": 0.001}
SMALLEST_MASK |= {"missing": 0.0009}
LOW, HIGH, STEP = np.array([-0.57, -0.57, -1.01]), np.array([0.57, 0.57, 1.01]), 0.0073
MIDDLE, GLOBE, SHELL = 0.43, 0.545, 0.030  # z, radius and thickness of the globe
SPLIT, SEAM = 0.20, 0.012  # z where the globe sits on the skirt; width of the groove
SKIRT = [(-0.48, 0.275), (-0.40, 0.292), (-0.15, 0.345), (0.05, 0.425), (0.16, 0.485)]
SKIRT += [(0.24, 0.507)]  # z, radius
FOOT = -0.47  # of the skirt
NUM_RIBS, RIB = 26, 0.026  # cooling ribs, depth of what lies between
RIBBED = (-0.40, 0.10)  # from and to z
PANELS = (0.80, 0.36)  # half angles of the smooth panels at the front and at the back
COLLAR, BASE, PITCH, THREAD = (0.262, -0.52, -0.46), (0.245, -0.875, -0.45), 0.068, 0.022
NARROW = 0.02  # the base's end is narrower by
PUNCHES = (8, -0.49, 0.018)  # of the collar's crimps: how many, z, radius
GLASS = ((-0.87, 0.218), (-0.945, 0.115))  # z, radius of the insulator's cone
CONTACT = (0.105, -0.985, -0.93)  # radius, from and to z
DROP = (0.7, 0.245, -0.515, 0.056)  # solder at the base's edge: azimuth, reach, z, radius
BOARD, CHIPS = 0.155, (7, 0.24, 0.035)  # z of the board within; LEDs: how many, reach, half size
RADIUS, CENTRE = 0.36, -0.16  # that the skirt is unrolled with; z of the print's middle
PX, HALF_PRINT, HALF_CROWN = 420, (1.14, 0.36), (0.30, 0.30)
WHITE, DIFFUSOR, NICKEL = (0.76, 0.765, 0.76), (0.80, 0.79, 0.765), (0.62, 0.60, 0.55)
VITRITE, SOLDER, PCB, LED = (
    (0.018, 0.016, 0.02),
    (0.55, 0.54, 0.52),
    (0.70, 0.70, 0.68),
    (0.72, 0.50, 0.05),
)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*DIFFUSOR, 0, 0.62), (*WHITE, 0, 0.40), (*NICKEL, 1, 0.24), (*VITRITE, 0, 0.12)]
    + [(*SOLDER, 1, 0.36), (*PCB, 0, 0.45)]
)
DOME, HOUSING, SCREW, INSULATOR, TIN, INSIDE = range(6)
INKS = np.array([(0.05, 0.055, 0.065), (0.03, 0.20, 0.12)])
INK, GREEN = 1, 2  # the inks' numbers
TEXTS = (
    (0.0, -0.165, 62, GREEN, "ARXON"),
    (0.0, -0.065, 37, INK, "LED 9W E27"),
    (0.0, 0.02, 33, INK, "806 lm 2700K"),
    (-0.01, 0.095, 31, INK, "220-240V~"),
    (1.13, -0.06, 36, INK, "L26/04"),
    (-1.13, -0.06, 36, INK, "L26/04"),
    (1.13, 0.03, 40, GREEN, "CE"),
    (-1.13, 0.03, 40, GREEN, "CE"),
)
SOOT, CHAR, SINGED, BROKEN = (
    (0.012,) * 3,
    (0.03, 0.02, 0.014),
    (0.34, 0.19, 0.07),
    (0.62, 0.61, 0.58),
)
NO_CONTACT, NO_RIBS, NO_GLASS, NO_DROP = range(4)  # what is missing


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (dent, crack, scorch, misprint, missing)."""
    azimuth = rng.uniform(-np.pi, np.pi)
    if kind == "dent":  # of the base, seldom of the globe
        on_base = rng.random() < 0.65
        centre, normal = _place(rng.uniform(-0.82, -0.55) if on_base else _globe_z(rng), azimuth)
        sizes = {"radius": rng.uniform(0.10, 0.16) if on_base else rng.uniform(0.13, 0.24)}
        sizes["depth"] = sizes["radius"] * rng.uniform(0.40, 0.52)
    elif kind == "crack":  # of the globe or down the skirt
        in_globe = rng.random() < 0.65
        centre, normal = _place(_globe_z(rng) if in_globe else rng.uniform(-0.05, 0.12), azimuth)
        sizes = {"length": rng.uniform(0.16, 0.40), "width": rng.uniform(0.009, 0.014)}
        sizes |= {"angle": rng.uniform(-1.4, 1.4) if in_globe else rng.uniform(-0.3, 0.3)}
        sizes["cover"] = rng.uniform(0.45, 1)
    elif kind == "scorch":  # at the globe's rim, on the skirt or around the contact
        height = (rng.uniform(0.16, 0.45), rng.uniform(-0.4, 0.1), -0.45)[rng.integers(3)]
        centre, normal = _place(height, azimuth)
        sizes = {"radius": rng.uniform(0.12, 0.26), "cover": rng.uniform(0.35, 0.95)}
    elif kind == "misprint":  # a part of the print moved, smeared or left out
        right, down, *_ = TEXTS[rng.choice(6, p=(0.3, 0.2, 0.2, 0.15, 0.075, 0.075))]
        right += rng.uniform(-0.08, 0.08)
        centre, normal = _place(CENTRE - down, right / RADIUS - np.pi / 2)
        sizes = {"right": right, "below": down, "radius": rng.uniform(0.07, 0.14)}
        sizes |= {"erased": rng.random() < 0.4, "smeared": rng.random() < 0.5}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.05)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.008, 0.03)
    elif kind == "missing":  # the contact, ends of some ribs, a piece of the globe, the solder
        part = int(rng.choice(4, p=(0.25, 0.3, 0.3, 0.15)))
        sizes = {"part": part, "radius": rng.uniform(0.10, 0.20)}
        if part == NO_CONTACT:
            centre = np.array([0, 0, CONTACT[1] + 0.02])
            normal = np.array([0.5 * np.cos(azimuth), 0.5 * np.sin(azimuth), -1])
        elif part == NO_DROP:
            azimuth, reach, z, _ = DROP
            centre = np.array([reach * np.cos(azimuth), reach * np.sin(azimuth), z])
            normal = np.array([np.cos(azimuth), np.sin(azimuth), -0.3])
        else:
            azimuth = azimuth if part == NO_GLASS else rng.choice([-1, 1]) * 0.22 * np.pi
            azimuth += rng.uniform(-0.3, 0.3) * (part == NO_RIBS)
            centre, normal = _place(
                _globe_z(rng) if part == NO_GLASS else rng.uniform(-0.3, 0), azimuth
            )
    else:
        raise ValueError(f"the bulb has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _globe_z(rng):
    return MIDDLE + rng.uniform(-0.15, 0.48)


def _place(z, azimuth):
    """The outermost point at a height and an azimuth and the normal there, each [3]."""
    way, out = np.linspace(0.6, 0, 1201), np.array([np.cos(azimuth), np.sin(azimuth), 0])
    first = (_outside(way, 0 * way + z) < 0).argmax()
    reach, off = way[first], 0.004
    slope = _outside(reach, z + off) - _outside(reach, z - off)
    rise = _outside(reach + off, z) - _outside(reach - off, z)
    return reach * out + [0, 0, z], unit(rise * out + [0, 0, slope])


def _outside(reach, z):
    """Distance-like value of globe, skirt and base without relief."""
    globe = np.hypot(reach, z - MIDDLE) - GLOBE
    globe = np.maximum(globe, SPLIT - z)
    skirt = np.maximum(_side(reach, z), np.maximum(FOOT - z, z - SPLIT))
    base = np.maximum(reach - BASE[0], np.maximum(BASE[1] - z, z - FOOT))
    return np.minimum(np.minimum(globe, skirt), base)


@cache
def _outline() -> np.ndarray:
    """z and radius of the skirt, smoothly interpolated, [2, K]."""
    return smooth_outline(SKIRT, 400)[:2]


def _side(reach, z):
    return 0.92 * (reach - np.interp(z, *_outline()))


def _broken_off(x, y, z, defect):
    """Distance-like value of a rough ball that is missing."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    phase = defect["seed"] % 7
    rough = np.sin(47 * x + phase) * np.sin(41 * y - phase) + 0.7 * np.sin(59 * z + 17 * x)
    return np.sqrt(sum(v * v for v in away)) - defect["radius"] + 0.010 * rough


def _skirt(reach, azimuth, z, piece):
    """Distance-like value of the ribbed skirt; without the ribs where `piece` is negative."""
    front, back = np.abs(azimuth + np.pi / 2), np.abs(azimuth - np.pi / 2)
    front = np.minimum(front, 2 * np.pi - front)
    smooth = np.minimum(front - PANELS[0], back - PANELS[1])
    wave = smoothstep(0.5 - 1.3 * np.cos(NUM_RIBS * azimuth))
    low, high = RIBBED
    if piece is not None:
        wave = np.where(piece < 0, np.maximum(wave, 0.9), wave)
    wave *= smoothstep((z - low) / 0.02) * smoothstep((high - z) / 0.06) * smoothstep(smooth / 0.03)
    side = _side(reach, z) + RIB * wave
    return -smooth_min(-side, np.minimum(z - FOOT, SPLIT - z), 0.02)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of each part in the order of LOOKS, each as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    piece = _broken_off(x, y, z, defect) if lost in (NO_RIBS, NO_GLASS) else None
    reach, azimuth = np.sqrt(x * x + y * y), np.arctan2(y, x)
    ball = np.sqrt(reach**2 + (z - MIDDLE) ** 2) - GLOBE
    dome = both(ball, -ball - SHELL, SPLIT - z)
    groove = both(np.abs(z - SPLIT) - SEAM / 2, 0.49 - reach)
    skirt = _skirt(reach, azimuth, z, piece if lost == NO_RIBS else None)
    hollow = both(reach - 0.44, BOARD - z)
    skirt = both(skirt, -groove, -hollow)
    dome = both(dome, -groove)
    if lost == NO_GLASS:
        dome = np.maximum(dome, -piece)
    radius, low, high = BASE
    wall = (
        reach - radius + 0.8 * THREAD * _round_thread(x, y, z) * smoothstep((z - low - 0.03) / 0.03)
    )
    wall = wall * 0.8 + NARROW * smoothstep((low + 0.09 - z) / 0.09)
    base = -smooth_min(-wall, np.minimum(z - low, high - z), 0.02)
    count, level, size = PUNCHES
    turn = azimuth - np.round(azimuth * count / (2 * np.pi)) * 2 * np.pi / count
    punch = np.hypot(COLLAR[0] * turn, z - level) - size
    collar = rod(x, y, z, *COLLAR, 0.008) + 0.014 * smoothstep(-punch / 0.01)
    base = np.minimum(base, collar)
    (top, wide), (end, thin) = GLASS
    cone = reach - thin - (wide - thin) * (z - end) / (top - end)
    glass = -smooth_min(-0.7 * cone, np.minimum(z - end, low + 0.02 - z), 0.02)
    wide, end, top = CONTACT
    contact = rod(x, y, z, wide, end, top, 0.03)
    if lost == NO_CONTACT:
        contact = np.full_like(x, 9)
        glass = np.maximum(glass, -both(cylinder(x, y, 0.045), z - end - 0.12))
    turn, out, level, size = DROP
    drop = np.sqrt((x - out * np.cos(turn)) ** 2 + (y - out * np.sin(turn)) ** 2 + (z - level) ** 2)
    if lost != NO_DROP:
        contact = np.minimum(contact, drop - size)
    count, out, half = CHIPS
    turn = azimuth - np.round(azimuth * count / (2 * np.pi)) * 2 * np.pi / count
    chip = np.maximum(np.abs(reach * np.cos(turn) - out), np.abs(reach * np.sin(turn))) - half
    board = np.minimum(
        both(reach - 0.45, np.abs(z - BOARD) - 0.02), both(chip, np.abs(z - BOARD) - 0.04)
    )
    return dome, skirt, base, glass, contact, board


def _round_thread(x, y, z):
    """How deep the rolled thread is, 0..1."""
    return smoothstep(thread_depth(x, y, z, PITCH))


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The bulb's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    points = points.astype(float)
    x, y, z = points.T
    reach = np.hypot(x, y)
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    mottle, grain = fractal_noise_3d(points, 4, 2, 3), fractal_noise_3d(points, 70, 3, 2)
    look[:, :3] *= (1 + 0.008 * mottle + 0.008 * grain)[:, None]
    look[:, 4] += 0.03 * mottle + 0.02 * grain
    look[(part == INSIDE) & (z > BOARD + 0.028), :3] = LED
    outer = (part == HOUSING) & (_side(reach, z) > -0.012)
    ink = inked(points, defect) * outer
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    crown = picked(_crown_image(), (x + 0.3) * PX, (0.3 - y) * PX) * (part == DOME) * (z > 0.85)
    look[crown > 0, :3] = INKS[0] + 0.25
    if defect:
        look = _spoilt(look, points, part, defect)
    return solid.painted(look, least_roughness=0.1)


def _spoilt(look, points, part, defect):
    """`look` [N, 5] with a defect's colours; `part` tells which part the points are of."""
    kind, (x, y, z) = defect["kind"], points.T
    plastic = (part == DOME) | (part == HOUSING)
    if kind == "missing" and defect["part"] in (NO_RIBS, NO_GLASS):
        cut = np.abs(_broken_off(x, y, z, defect)) < 0.006
        look[cut & plastic] = (*BROKEN, 0, 0.75)
    if kind == "missing" and defect["part"] == NO_CONTACT:
        look[(part == INSULATOR) & (np.hypot(x, y) < 0.05)] = (*SOOT, 0, 0.8)
    if kind == "crack":
        cover = (defect["cover"] * (_cracked(points, defect) & plastic))[:, None]
        look = look + cover * (np.array([*SOOT, 0, 0.7]) - look)
    if kind == "scorch":
        away = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        edge = away + 0.22 * fractal_noise_3d(points, 8, defect["seed"], 4)
        for within, burnt, share in ((1.0, SINGED, 0.9), (0.55, CHAR, defect["cover"])):
            cover = (defect["cover"] * share * smoothstep((within - edge) / 0.4))[:, None]
            look = look + cover * (np.array([*burnt, 0, 0.85]) - look) * (part != SCREW)[:, None]
    return look


def _cracked(points, defect):
    """Which of the points [N, 3] lie in the crack, [N] bool."""
    normal = np.array(defect["normal"])
    side = unit(np.cross([0.1, 0.0, 1.0], normal))
    away = points - np.array(defect["centre"])
    right, up = away @ side, away @ np.cross(normal, side)
    cos, sin = np.cos(defect["angle"]), np.sin(defect["angle"])
    along, across = cos * up + sin * right, cos * right - sin * up
    across = across + 0.018 * fractal_noise_3d(np.outer(along, [0, 0, 1.0]), 10, defect["seed"], 3)
    thin = defect["width"] * np.sqrt(np.clip(1 - (along / defect["length"]) ** 2, 0, 1))
    return (np.abs(away @ normal) < 0.16) & (np.abs(across) < thin)


def inked(points, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of the skirt: 0 or 1 + index in INKS, [N]."""
    x, y, z = np.asarray(points).T
    return rolled_ink(_printed, np.stack([-y, x, z], 1), RADIUS, CENTRE, defect)


def _printed(places):
    """Ink at places [N, 2] (right, down) of the unrolled skirt: 0 or 1 + index in INKS."""
    return picked(_print_image(), *((places + HALF_PRINT) * PX).T)


@cache
def _print_image() -> np.ndarray:
    """What is printed on the two panels of the skirt, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    for text in TEXTS:
        canvas.write(*text)
    canvas.rectangle(-0.17, -0.12, 0.17, -0.112, GREEN)
    return canvas.inks()


@cache
def _crown_image() -> np.ndarray:
    """The mark on top of the globe, as seen from above, [rows, columns]."""
    canvas = Canvas(HALF_CROWN, PX)
    canvas.write(0, 0.02, 64, 1, "ARX")
    canvas.write(0, 0.10, 34, 1, "9W 827")
    return canvas.inks()
