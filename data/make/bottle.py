"""A squeeze bottle: satin plastic, wrapped label, a ribbed cap, a red-tipped nozzle; its defects.

It stands along z, the label's front faces along x, its gap and the grip the other way. The body is
a little oval; from most sides only the print tells how it is turned.
"""

from functools import cache

import numpy as np

from .canvas import Canvas
from .lathe import from_outline, smooth_outline
from .lights import smoothstep
from .marks import described, picked, rolled_ink, scratched, solid_with_parts, union
from .mesh import Mesh, both, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.45}
SMALLEST_MASK = {"missing": 0.0012, "dent": 0.002, "misprint": 0.0015, "scratch": 0.0012}
SMALLEST_MASK |= {"stain": 0.0015}
LOW, HIGH, STEP = np.array([-0.44, -0.47, -1.00]), np.array([0.44, 0.47, 1.03]), 0.007
OUTLINE = [  # z, radius of the body
    *((-0.96, 0.392), (-0.86, 0.412), (-0.78, 0.412), (-0.74, 0.40), (0.12, 0.40), (0.16, 0.412)),
    *((0.20, 0.40), (0.28, 0.335), (0.34, 0.25), (0.38, 0.20), (0.60, 0.20)),
]
OVAL = (0.05, 0.16, 0.34)  # share that x is narrowed by and y widened; z it fades from and to
FOOT, HOLLOW = (-0.95, 0.07), (0.30, 0.05)  # z, rounding; radius and height under the foot
SEAM = (0.014, 0.006)  # of the mould: half width, height
GRIP = (-0.31, 0.27, 0.40, 0.075, 0.024)  # z, half height, half angle, pitch, depth
LABEL = (-0.31, 0.39, 2.45, 0.006)  # z, half height, half angle, thickness
RADIUS = 0.40  # that the label is unrolled with
CAP, RING = (0.415, 0.61, 0.262), (0.368, 0.398, 0.25)  # from and to z, radius
NUM_RIBS, RIB, CORE = 24, 0.018, 0.222  # depth of the grooves, radius where ribs broke off
NOZZLE, TAPER, BORE = (0.60, 0.91, 0.135), 0.28, 0.027  # from and to z, radius; slope, wall
FLANGE = (0.635, 0.165)  # to z, radius
TIP, TIP_TAPER = (0.87, 1.0, 0.068), 0.14  # as NOZZLE
PX = 400  # of the prints, per world unit
HALF_PRINT = (1.27, 0.66)  # of the unrolled picture, world units
YELLOW, PAPER, GREEN = (0.72, 0.40, 0.025), (0.78, 0.77, 0.72), (0.015, 0.10, 0.055)
CREAM, RED = (0.74, 0.70, 0.58), (0.60, 0.025, 0.02)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*YELLOW, 0, 0.42), (*PAPER, 0, 0.34), (*GREEN, 0, 0.36), (*CREAM, 0, 0.40), (*RED, 0, 0.28)]
)
BODY, STICKER, SCREWED, SPOUT, END = range(5)
LOST_TIP, LOST_RIBS, LOST_NOZZLE = range(3)  # what may be missing
SOOT, SAUCE, SOY = (0.012, 0.012, 0.012), (0.20, 0.030, 0.010), (0.055, 0.025, 0.012)
BROKEN, RUBBED = (0.10, 0.21, 0.15), (0.36, 0.35, 0.33)
SCORED, PALE = (0.80, 0.68, 0.42), (0.20, 0.30, 0.25)
INKS = np.array([GREEN, (0.80, 0.30, 0.02), (0.55, 0.03, 0.02), (0.025, 0.025, 0.028)])
LEAF, SUN, CHERRY, BLACK = 1, 2, 3, 4  # the inks' numbers
# places to the right of the front and down from the label's middle, letters' height, ink, text
TEXTS = (
    (0.0, -0.205, 84, CHERRY, "SOLANA"),
    (0.0, 0.255, 46, LEAF, "MUSTARD"),
    (-0.70, -0.25, 38, LEAF, "CONTENTS"),
    (-0.70, 0.25, 34, BLACK, "SHAKE WELL"),
    (0.71, -0.245, 54, CHERRY, "250 ml"),
    (0.71, 0.245, 32, BLACK, "4 006381 27"),
    (1.257, 0.545, 34, BLACK, "L2206"),
)
TABLE = (("water", "41"), ("seed", "27"), ("salt", "4.2"), ("oil", "9.0"))
TABLE_AT = (-0.88, -0.52, -0.14, 0.085)  # from and to right, down, line height
BARS = (0.54, -0.12, 0.88, 0.17)  # of the bar code: left, upper, right, lower
BANDS = ((-0.36, -0.325, LEAF), (0.325, 0.36, LEAF), (0.305, 0.314, CHERRY))  # down, ink
DISC = (0.0, 0.045, 0.125)  # the picture's: right, down, radius
PODS = ((-0.10, 0.07, -0.7), (0.09, 0.06, 0.6))  # right, down, turn
LEAVES = tuple((right, -0.02 + 0.09 * k) for right in (-0.36, 0.36) for k in (-1, 0, 1))


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, dent, misprint, scratch, stain)."""
    azimuth = rng.uniform(-np.pi, np.pi)
    outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    if kind == "missing":  # the tip, some of the ribs, the end of the nozzle
        part = int(rng.choice(3, p=(0.4, 0.4, 0.2)))
        sizes = {"part": part}
        if part == LOST_RIBS:
            centre = CORE * outwards + [0, 0, (CAP[0] + CAP[1]) / 2]
            normal = outwards + [0, 0, rng.uniform(-0.2, 0.6)]
            sizes |= {"azimuth": azimuth, "half": rng.uniform(0.16, 0.40)}
        else:
            centre = np.array([0, 0, (TIP[0] + TIP[1]) / 2])
            normal = outwards + [0, 0, rng.uniform(-0.1, 1.0)]
        if part == LOST_NOZZLE:
            sizes |= {"cut": rng.uniform(0.75, 0.84), "azimuth": azimuth}
    elif kind == "dent":
        centre, normal = _place(rng.uniform(-0.72, 0.20), azimuth)
        sizes = {"radius": rng.uniform(0.13, 0.20), "depth": rng.uniform(0.035, 0.07)}
    elif kind == "misprint":  # a part of the label moved, smeared or left out
        places = [t[:2] for t in TEXTS[:-1]] + [DISC[:2], (BARS[0] + 0.1, BARS[1] + 0.15)]
        places += [(TABLE_AT[0] + 0.16, 0.05), (rng.uniform(-0.9, 0.9), BANDS[0][0])]
        right, down = places[rng.integers(len(places))]
        centre, normal = _place(LABEL[0] - down, right / RADIUS)
        sizes = {"right": right, "below": down, "radius": rng.uniform(0.09, 0.16)}
        sizes |= {"erased": rng.random() < 0.35, "smeared": rng.random() < 0.5}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.055)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.01, 0.035)
    elif kind == "scratch":
        centre, normal = _open_place(azimuth, rng)
        sizes = {"length": rng.uniform(0.15, 0.32), "width": rng.uniform(0.011, 0.017)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":  # of sauce, that ran down a little
        centre, normal = _open_place(azimuth, rng)
        sizes = {"radius": rng.uniform(0.07, 0.15), "cover": rng.uniform(0.35, 0.9)}
        sizes["dark"] = rng.random() < 0.4
    else:
        raise ValueError(f"the bottle has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(z, azimuth):
    """The outermost point at a height and an azimuth, and the body's normal there, each [3]."""
    way = np.linspace(0.5, 0, 2001)
    rays = way * np.cos(azimuth), way * np.sin(azimuth), 0 * way + z
    first = (distance(*rays) < 0).argmax()
    point, off = np.array([v[first] for v in rays]), 0.004 * np.eye(3)
    if z > RING[0]:
        return point, np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    return point, unit(_smooth_body(*(point + off).T) - _smooth_body(*(point - off).T))


def _open_place(azimuth, rng):
    """A point of the label, the body or, seldom, the cap, and its normal, each [3]."""
    if rng.random() < 0.15:
        return _place(rng.uniform(CAP[0] + 0.05, CAP[1] - 0.05), azimuth)
    return _place(rng.uniform(-0.85, 0.28), azimuth)


@cache
def _outline() -> np.ndarray:
    """z, radius and slope of the body, smoothly interpolated, [3, K]."""
    return smooth_outline(OUTLINE, 800)


def _smooth_body(x, y, z):
    """Distance-like value of the body without hollow, grip and seam."""
    share, start, end = OVAL
    oval = share * smoothstep((end - z) / (end - start))
    reach = np.sqrt((x * (1 + oval)) ** 2 + (y * (1 - oval)) ** 2)
    return -smooth_min(-from_outline(_outline(), reach, z), z - FOOT[0], FOOT[1])


def _ring(reach, z, sizes, rounding):
    """Distance-like value of a ring's outside: from and to z, radius."""
    low, high, radius = sizes
    return -smooth_min(radius - reach, np.minimum(z - low, high - z), rounding)


def _grooves(azimuth):
    """How deep the cap's grooves are at an azimuth, 0..1."""
    return smoothstep(0.5 + 0.9 * np.cos(NUM_RIBS * azimuth))


def _turned_from(azimuth, defect):
    """Azimuth from the defect's, -pi..pi."""
    return (azimuth - defect["azimuth"] + np.pi) % (2 * np.pi) - np.pi


def _broken_ribs(reach, azimuth, z, defect):
    """Distance-like value of what is missing of the ribs."""
    rough = 0.005 * np.sin(90 * z + defect["seed"] % 7) * np.sin(23 * azimuth)
    ragged = 0.03 * np.sin(70 * z + defect["seed"] % 5)
    aside = np.abs(_turned_from(azimuth, defect) + ragged) - defect["half"]
    return both(CORE + rough - reach, CAP[2] * aside, RING[1] + 0.005 - z)


def _broken_nozzle(x, y, z, defect):
    """Distance-like value of what is missing of the nozzle: above a rough slanting plane."""
    aslant = 0.5 * (np.cos(defect["azimuth"]) * x + np.sin(defect["azimuth"]) * y)
    rough = 0.006 * np.sin(71 * x + defect["seed"] % 7) + 0.006 * np.sin(63 * y)
    return defect["cut"] - z - aslant + rough


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of body, label, cap, nozzle and tip, each as x."""
    lost = int(defect["part"]) if defect and defect["kind"] == "missing" else None
    reach, azimuth = np.sqrt(x * x + y * y), np.arctan2(y, x)
    smooth = _smooth_body(x, y, z)
    middle, high, wide, pitch, deep = GRIP
    behind = np.pi - np.abs(azimuth)
    held = smoothstep((high - np.abs(z - middle)) / 0.03) * smoothstep((wide - behind) / 0.12)
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (z - middle) / pitch)
    body = smooth + deep * wave * held
    body = body - SEAM[1] * smoothstep(1 - np.abs(x) / SEAM[0])
    hollow = HOLLOW[1] * np.clip(1 - (reach / HOLLOW[0]) ** 2, 0, 1)
    body = np.maximum(body, FOOT[0] + hollow - z)
    body = np.maximum(body, z - CAP[1] + 0.05)
    middle, high, wide, thick = LABEL
    aside = RADIUS * (np.abs(azimuth) - wide)
    label = both(np.abs(smooth) - thick, np.abs(z - middle) - high, aside)
    ring = both(_ring(reach, z, RING, 0.012), 0.19 - reach)
    fade = smoothstep((CAP[1] - 0.02 - z) / 0.03)
    cap = _ring(reach + RIB * _grooves(azimuth) * fade, z, CAP, 0.03)
    if lost == LOST_RIBS:
        cap = np.maximum(cap, -_broken_ribs(reach, azimuth, z, defect))
    cap = np.minimum(cap, ring)
    low, top, radius = NOZZLE
    wall = reach - radius + TAPER * (z - low)
    spout = -smooth_min(-both(wall, low - z), top - z, 0.015)
    spout = smooth_min(spout, _ring(reach, z, (low, *FLANGE), 0.015), 0.03)
    spout = np.maximum(spout, -both(wall + BORE, low + 0.05 - z))
    low, top, radius = TIP
    tip = both(reach - radius + TIP_TAPER * (z - low), low - z)
    tip = -smooth_min(-tip, top - z, 0.03)
    if lost in (LOST_TIP, LOST_NOZZLE):
        tip = np.full_like(x, 9)
    if lost == LOST_NOZZLE:
        spout = np.maximum(spout, -_broken_nozzle(x, y, z, defect))
    return body, label, cap, spout, tip


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The bottle's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    reach, azimuth = np.hypot(x, y), np.arctan2(y, x)
    labelled = (np.abs(z - LABEL[0]) < LABEL[1]) & (np.abs(azimuth) < LABEL[2])
    labelled &= (part <= STICKER) & (np.abs(_smooth_body(x, y, z)) < 0.02)
    part = np.where(labelled, STICKER, np.where(part == STICKER, BODY, part))
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    mottle, grain = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points, 60, 3, 2)
    look[:, :3] *= (1 + 0.03 * mottle + 0.03 * grain * (part != STICKER))[:, None]
    look[:, 4] += 0.03 * mottle
    ink = inked(points, defect)
    ink[(part > STICKER) | (reach < 0.3)] = 0
    look[ink > 0, :3] = INKS[ink[ink > 0] - 1]
    bore = (reach < NOZZLE[2] - TAPER * (z - NOZZLE[0]) - 0.8 * BORE) & (z > NOZZLE[0] + 0.04)
    look[bore & (part == SPOUT)] = (*SOOT, 0, 0.7)
    if kind == "missing" and defect["part"] == LOST_RIBS:
        cut = np.abs(_broken_ribs(reach, azimuth, z, defect)) < 0.005
        look[cut & (part == SCREWED)] = (*BROKEN, 0, 0.75)
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.12)
        for which, pale in ((BODY, SCORED), (STICKER, RUBBED), (SCREWED, PALE)):
            look[scored & (part == which)] = (*pale, 0, 0.65)
    if kind == "stain":
        away = (points - np.array(defect["centre"])) / defect["radius"]
        away[:, 2] *= np.where(away[:, 2] < 0, 0.65, 1)
        edge = 0.22 * fractal_noise_3d(points, 9, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - np.linalg.norm(away, axis=1) - edge) / 0.22)
        spilt = np.array([*(SOY if defect["dark"] else SAUCE), 0, 0.25])
        look = look * (1 - cover[:, None]) + spilt * cover[:, None]
    return solid.painted(look)


def inked(points, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of label and body: 0 or 1 + index in INKS, [N]."""
    return rolled_ink(_printed, points, RADIUS, LABEL[0], defect)


def _printed(places):
    """Ink at places [N, 2] (right, down) of the unrolled label: 0 or 1 + index in INKS."""
    return picked(_print_image(), *((places + HALF_PRINT) * PX).T)


@cache
def _print_image() -> np.ndarray:
    """What is printed on the label and, at the foot, on the body, [rows, columns]."""
    canvas = Canvas(HALF_PRINT, PX)
    wide = RADIUS * LABEL[2]
    for top, bottom, ink in BANDS:
        canvas.rectangle(-wide, top, wide, bottom, ink)
    for right, down in LEAVES:
        points = [(right, down - 0.04), (right + 0.028, down), (right, down + 0.04)]
        canvas.draw.polygon(canvas.px(*np.ravel([*points, (right - 0.028, down)])), LEAF)
    right, down, radius = DISC
    canvas.disc(right, down, radius, SUN)
    along = np.linspace(0, 1, 24)
    for right, down, turn in PODS:  # bent, pointed below, a green stalk above
        half = 0.036 * np.sin(np.pi * along**0.6) ** 0.7
        bend = 0.05 * np.sin(np.pi * along)
        rim = np.concatenate(
            [np.stack([bend - half, along], 1), np.stack([bend + half, along], 1)[::-1]]
        )
        rim[:, 1] = 0.2 * rim[:, 1] - 0.1
        cos, sin = np.cos(turn), np.sin(turn)
        rim = rim @ np.array([[cos, sin], [-sin, cos]]) + (right, down)
        canvas.draw.polygon(canvas.px(*rim.ravel()), CHERRY)
        stalk = rim[0]
        canvas.draw.line(canvas.px(*stalk, stalk[0] - 0.04 * sin, stalk[1] - 0.05), LEAF, 8)
    for text in TEXTS:
        canvas.write(*text)
        if text[0] > np.pi * RADIUS - 0.01:  # goes on at the other edge
            canvas.write(text[0] - 2 * np.pi * RADIUS, *text[1:])
    start, end, down, step = TABLE_AT
    for k, (name, amount) in enumerate(TABLE):
        canvas.write(start, down + k * step, 30, BLACK, name, anchor="lm")
        canvas.write(end, down + k * step, 30, BLACK, amount, anchor="rm")
        canvas.draw.line(
            canvas.px(start, down + (k + 0.5) * step, end, down + (k + 0.5) * step), LEAF, 3
        )
    canvas.bar_code(*BARS, BLACK, seed=8)
    return canvas.inks()
