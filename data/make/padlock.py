"""A padlock: brushed brass, a glossy plastic band, a chromed shackle, rivets; its defects.

Metals of several colours and polishes next to plastic. A printed shield and a number on the front
and rivets on the back tell its faces apart; the shackle and the outline are symmetric.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lights import smoothstep
from .marks import described, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, cylinder, smooth_min
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"scratch": 0.0012, "missing": 0.0012, "cut": 0.0015}
LOW, HIGH, STEP = np.array([-0.70, -0.35, -0.92]), np.array([0.70, 0.35, 0.98]), 0.008
HALF, MIDDLE = (0.62, 0.26, 0.50), -0.34  # of the body, and the height of its centre
TOP, BOTTOM = MIDDLE + HALF[2], MIDDLE - HALF[2]
BAND, THICK = (-0.76, -0.50), 0.035  # from and to height; how far it stands out
BEND, BAR, ARCH = 0.40, 0.085, 0.44  # shackle: radius of the bend and of the bar, bend's height
GAPS = ((-BEND, 0.105), (BEND, 0.125))  # x and radius of the holes that the shackle runs in
RIVETS, DOME = ((-0.40, -0.07), (0.40, -0.07), (0.12, -0.38)), 0.08  # x, z; radius
LOCK = 0.18  # radius of the keyhole disc
PX = 400  # of the print, per world unit
PRINT = (-0.5, 0.5), (-0.5, 0.06)  # x, z
BRASS, CHROME, GUNMETAL = (0.74, 0.53, 0.22), (0.58, 0.58, 0.57), (0.13, 0.125, 0.12)
PLASTIC, SCUFF = (0.015, 0.09, 0.42), (0.42, 0.50, 0.66)
FILED, BRIGHT, SOOT = (0.36, 0.34, 0.32), (0.95, 0.86, 0.62), (0.03, 0.027, 0.025)
VERDIGRIS, BROWN = np.array([0.07, 0.17, 0.12]), np.array([0.075, 0.042, 0.02])
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*BRASS, 0.95, 0.30), (*PLASTIC, 0, 0.15), (*CHROME, 1, 0.12)]
    + [(*CHROME, 1, 0.25), (*GUNMETAL, 0.9, 0.40)]
)
INKS = np.array([(0.02, 0.025, 0.07), (0.72, 0.70, 0.65), (0.42, 0.02, 0.02), (0.16, 0.11, 0.05)])


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (scratch, corrosion, dent, missing, cut)."""
    side = rng.choice([-1, 1])
    x, z = rng.uniform(-0.42, 0.42), rng.uniform(-0.44, -0.04)
    centre, normal = (x, side * HALF[1], z), (0, side, 0)
    if rng.random() < 0.25:  # on a narrow face
        centre, normal = (side * HALF[0], rng.uniform(-0.1, 0.1), z), (side, 0, 0)
    if kind == "scratch":
        if rng.random() < 0.3:  # of the band
            centre = (*centre[:2], rng.uniform(BAND[0] + 0.08, BAND[1] - 0.08))
        sizes = {"length": rng.uniform(0.16, 0.30), "width": rng.uniform(0.012, 0.017)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "corrosion":
        sizes = {"radius": rng.uniform(0.13, 0.23)}
    elif kind == "dent":
        sizes = {"radius": rng.uniform(0.17, 0.26), "depth": rng.uniform(0.05, 0.08)}
    elif kind == "missing":  # a rivet or the keyhole disc
        part = int(rng.integers(len(RIVETS) + 1))
        centre, normal, sizes = (0, 0, BOTTOM), (0, 0, -1), {"part": part}
        if part < len(RIVETS):
            (x, z), normal = RIVETS[part], (0, 1, 0)
            centre = x, HALF[1], z
    elif kind == "cut":  # filed into the shackle from outside, the front or the back
        along, turn = rng.uniform(-0.5, np.pi + 0.5), rng.uniform(-1.9, 1.9)
        angle = np.clip(along, 0, np.pi)  # what is beyond runs down a leg
        outwards = np.array([np.cos(angle), 0, np.sin(angle)])
        centre = BEND * outwards + [0, 0, ARCH - BEND * abs(along - angle)]
        normal = np.cos(turn) * outwards + [0, np.sin(turn), 0]
        sizes = {"depth": rng.uniform(0.07, 0.11), "width": rng.uniform(0.07, 0.11)}
    else:
        raise ValueError(f"the padlock has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of body, band, shackle, rivets and keyhole disc, each as x."""
    kind = defect["kind"] if defect else None
    lost = int(defect["part"]) if kind == "missing" else None
    block = body = _block(x, y, z)
    for place, radius in GAPS:
        body = np.maximum(body, -both(cylinder(x - place, y, radius), TOP - 0.06 - z))
    slab = np.abs(z - sum(BAND) / 2) - (BAND[1] - BAND[0]) / 2
    ribs = 0.007 * np.cos(2 * np.pi * (z - BAND[0]) / 0.065) * smoothstep((np.abs(x) - 0.45) / 0.1)
    band = both(-smooth_min(THICK + ribs - block, -slab, 0.03), -block - 0.03)
    reach = np.sqrt(x * x + np.maximum(z - ARCH, 0) ** 2) - BEND
    shackle = both(np.sqrt(reach * reach + y * y) - BAR, -z)
    if kind == "cut":
        shackle = np.maximum(shackle, -_notch(x, y, z, defect))
    rivets = np.full_like(x, 9)
    for k, (rx, rz) in enumerate(RIVETS):
        if k != lost:  # the cap of a ball
            away = (x - rx) ** 2 + (z - rz) ** 2 + (y - HALF[1] + 0.06) ** 2
            rivets = np.minimum(rivets, both(np.sqrt(away) - 0.1, HALF[1] - 0.05 - y))
        else:
            hole = both(cylinder(x - rx, z - rz, 0.7 * DOME), HALF[1] - 0.07 - y)
            body = np.maximum(body, -hole)
    seat = both(cylinder(x, y, LOCK), z - BOTTOM - 0.09)
    body = np.maximum(body, -seat)
    disc = -smooth_min(-seat, z - BOTTOM + 0.02, 0.02)
    keyhole = np.minimum(cylinder(x - 0.05, y, 0.05), box(x + 0.03, y, 0 * z, (0.09, 0.022, 1.0)))
    disc = np.maximum(disc, -np.maximum(keyhole, z - BOTTOM - 0.07))
    if lost == len(RIVETS):
        disc = np.full_like(x, 9)
    return body, band, shackle, rivets, disc


def _block(x, y, z):
    """Distance to the body without any hole."""
    return box(x, y, z - MIDDLE, HALF, rounding=0.13)


def _notch(x, y, z, defect):
    """Distance-like value of what a file took off the shackle: a wedge."""
    away = [v - c for v, c in zip((x, y, z), defect["centre"], strict=True)]
    cos, sin = defect["centre"][0] / BEND, max(defect["centre"][2] - ARCH, 0) / BEND
    along = sin * away[0] - cos * away[2]
    above = sum(v * n for v, n in zip(away, defect["normal"], strict=True)) - BAR + defect["depth"]
    return both(
        np.abs(along) - defect["width"] / 2 - 0.35 * above,
        -above,
        np.sqrt(sum(v * v for v in away)) - 2 * BAR,
    )


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The padlock's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    brass, band = part == 0, part == 1
    brushed, mottle = fractal_noise_3d(points * [3, 40, 40], 1.2, 1, 3), _mottle(points, 5, 2)
    look[brass, :3] *= (1 + 0.05 * brushed + 0.05 * mottle)[brass, None]
    look[brass, 4] += (0.03 * brushed + 0.02 * mottle)[brass]
    for side in (-1, 1):
        ink = _print_at(x * -side, z, side)
        ink[~brass | (side * y < HALF[1] - 0.03)] = 0
        look[ink > 0, :3], look[ink > 0, 3:] = INKS[ink[ink > 0] - 1], (0, 0.4)
    hidden = brass & (_block(x, y, z) < -0.012)  # beside the shackle, beneath what is missing
    hidden |= (part == 4) & (z > BOTTOM + 0.05)  # end of the keyhole
    look[hidden] = (*SOOT, 0, 0.8)
    if kind == "scratch":
        groove = scratched(points, defect)
        look[groove & brass], look[groove & band] = (*BRIGHT, 0.6, 0.5), (*SCUFF, 0, 0.6)
    if kind == "corrosion":
        reach = np.linalg.norm(points - np.array(defect["centre"]), axis=1) / defect["radius"]
        cover = smoothstep((1 - reach - 0.4 * _mottle(points, 9, defect["seed"])) / 0.12)
        share = smoothstep(0.5 + 0.8 * _mottle(points, 13, defect["seed"] + 1))[:, None]
        rot = np.hstack([VERDIGRIS * share + BROWN * (1 - share), 0 * share, 0 * share + 0.85])
        cover = (0.95 * cover * brass)[:, None]
        look = look * (1 - cover) + rot * cover
    if kind == "cut":
        filed = (part == 2) & (np.abs(parts(x, y, z)[2]) > 0.006)
        look[filed] = (*FILED, 0.8, 0.5)
    return solid.painted(look, least_roughness=0.1)


def _mottle(points, frequency, seed):
    return fractal_noise_3d(points, frequency, seed, 4)


def _print_at(across, z, side):
    """Ink at points of a face, `across` to the right as it is seen: 0 or 1 + index in INKS."""
    image = _print_image(side)
    column = ((across - PRINT[0][0]) * PX).astype(int)
    row = ((PRINT[1][1] - z) * PX).astype(int)
    inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
    return inside * picked(image, column, row)


@cache
def _print_image(side: int) -> np.ndarray:
    """What is printed and engraved on the front (-1) or the back (1), [rows, columns]."""
    size = tuple(round((high - low) * PX) for low, high in PRINT)
    image = Image.new("L", size, 0)
    draw = ImageDraw.Draw(image)
    if side > 0:
        draw.text((112, 62), "4017", 4, ImageFont.load_default(size=72))
        return np.asarray(image, int)
    shield = np.array([(-80, -90), (80, -90), (80, 10), (52, 62), (0, 98), (-52, 62), (-80, 10)])
    draw.polygon([tuple(p) for p in shield + (135, 112)], 1)
    draw.polygon([tuple(p) for p in 0.86 * shield + (135, 111)], 2)
    stripes = Image.new("L", size, 2)
    for k in range(-4, 8, 2):
        ImageDraw.Draw(stripes).line((30 * k, 230, 30 * k + 230, 0), 3, 20)
    field = np.asarray(image) == 2
    field[:75] = False
    image = Image.fromarray(np.where(field, stripes, image).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.text((92, 30), "ARX", 1, ImageFont.load_default(size=40))
    draw.text((240, 30), "40", 4, ImageFont.load_default(size=120))
    draw.line((244, 165, 375, 165), 4, 8)
    return np.asarray(image, int)
