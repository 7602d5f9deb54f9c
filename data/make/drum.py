"""A toy drum: a lithographed tin shell, lacquered hoops, cords in a zigzag, two heads; its defects.

It stands along z, its seam faces along -x and the maker's name along x. The upper head is of
parchment and its hoop red, the lower one of white plastic and its hoop green; it is hollow.
"""

import numpy as np

from .drum_artwork import HALF_PRINT, HEAD_HALF, INKS, PX, head_image, print_image
from .drum_cords import (
    CORD,
    HOOP,
    LOST_CORD,
    LOST_GROMMET,
    SHELL,
    VENT,
    on_wall,
    random_loss,
    strung,
    turned_from,
)
from .lights import smoothstep
from .marks import described, picked, scratched, solid_with_parts, union
from .mesh import Mesh, both, box, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"dent": 0.0016, "missing": 0.0007, "scratch": 0.001, "stain": 0.0014}
SMALLEST_MASK |= {"tear": 0.0008}
LOW, HIGH, STEP = np.array([-0.80, -0.80, -0.57]), np.array([0.80, 0.80, 0.57]), 0.0078
WALL = 0.030  # thickness of the tin
BEADS = (0.30, 0.022, 0.012)  # rolled into the shell: z, half height, height
SKIN = (0.425, 0.026, 0.66)  # z of a head's outer face, thickness, radius
SEAM = (np.pi, 0.10, 0.009)  # azimuth, width of the overlap, height
TIN, RED, GREEN = (0.63, 0.62, 0.58), (0.42, 0.018, 0.016), (0.02, 0.13, 0.06)
PARCHMENT, PLASTIC, ROPE = (0.66, 0.52, 0.33), (0.76, 0.76, 0.74), (0.72, 0.66, 0.52)
BRASS, LEATHER, DARK = (0.70, 0.50, 0.20), (0.16, 0.065, 0.028), (0.10, 0.095, 0.09)
BARE, FRAYED, WORN = (0.70, 0.70, 0.68), (0.80, 0.75, 0.62), (0.10, 0.045, 0.03)
TEA, PAINT, RUST = (0.16, 0.075, 0.03), (0.03, 0.10, 0.42), (0.27, 0.085, 0.02)
# base colour, metallic, roughness of the parts in the order of `parts`
LOOKS = np.array(
    [(*TIN, 1, 0.30), (*RED, 0, 0.20), (*PARCHMENT, 0, 0.62), (*ROPE, 0, 0.85)]
    + [(*BRASS, 1, 0.26), (*LEATHER, 0, 0.55)]
)
CASE, RIMS, HEADS, CORDS, METAL, TABS = range(6)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (dent, missing, scratch, stain, tear)."""
    azimuth, side = rng.uniform(-np.pi, np.pi), int(rng.choice([-1, 1]))
    wall, out = on_wall(azimuth, SHELL, rng.uniform(-0.25, 0.25)), on_wall(azimuth, 1, 0)
    centre, normal, sizes = wall, out, {}
    if kind == "dent":  # of the shell or of a hoop
        sizes = {"radius": rng.uniform(0.12, 0.22)}
        sizes["depth"] = sizes["radius"] * rng.uniform(0.25, 0.42)
        if rng.random() < 0.45:
            sizes = {"radius": rng.uniform(0.12, 0.19), "depth": rng.uniform(0.04, 0.075)}
            centre = on_wall(azimuth, HOOP[0] + HOOP[1], side * HOOP[2])
            normal = unit(out + [0, 0, side * rng.uniform(0, 0.6)])
    elif kind == "missing":
        centre, normal, sizes = random_loss(rng)
    elif kind == "scratch":  # of the shell or of a hoop
        if rng.random() < 0.25:
            centre = on_wall(azimuth, HOOP[0] + HOOP[1], side * HOOP[2])
        sizes = {"length": rng.uniform(0.12, 0.32), "width": rng.uniform(0.010, 0.017)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":  # of tea or paint, most on a head; rust on the tin
        of = int(rng.choice(3, p=(0.4, 0.3, 0.3)))
        if of < 2 and rng.random() < 0.65:
            centre, normal = _on_head(rng, side), np.array([0, 0, side])
        sizes = {"of": of, "radius": rng.uniform(0.08, 0.17), "cover": rng.uniform(0.4, 0.9)}
    elif kind == "tear":
        centre, normal = _on_head(rng, side), np.array([0, 0, side])
        sizes = {"angle": rng.uniform(0, np.pi), "length": rng.uniform(0.10, 0.26)}
        sizes |= {"width": rng.uniform(0.012, 0.030), "lift": rng.uniform(0.0, 0.035)}
    else:
        raise ValueError(f"the drum has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _on_head(rng, side):
    """A point of the upper head (1) or the lower one (-1), [3]."""
    return on_wall(rng.uniform(-np.pi, np.pi), 0.52 * rng.random() ** 0.5, side * SKIN[0])


def _shell(reach, azimuth, z):
    """Distance-like value of the tin: a wall with rolled beads, a seam and a vent hole."""
    middle, half, high = BEADS
    bead = high * (1 - ((np.abs(z) - middle) / half) ** 2).clip(0)
    start, wide, lap = SEAM
    turn = SHELL * turned_from(azimuth, start)
    outside = reach - SHELL - bead - lap * (turn > 0) * smoothstep(1 - turn / wide)
    wall = both(outside, SHELL - WALL - reach, np.abs(z) - HOOP[2])
    return np.maximum(wall, -both(_from_vent(azimuth, z) - VENT[2], 0.3 - reach))


def _from_vent(azimuth, z):
    return np.hypot(SHELL * turned_from(azimuth, VENT[0]), z - VENT[1])


def _along_tear(x, y, z, defect):
    """Places along and across a tear, and out of its head, from its middle."""
    cx, cy, cz = defect["centre"]
    cos, sin = np.cos(defect["angle"]), np.sin(defect["angle"])
    along, across = cos * (x - cx) + sin * (y - cy), cos * (y - cy) - sin * (x - cx)
    phase = defect["seed"] % 7
    wander = 0.010 * np.sin(24 * along + phase) + 0.004 * np.sin(71 * along - phase)
    return along, across + wander, (z - cz) * np.sign(cz)


def _torn(x, y, z, defect):
    """Distance-like value of what a tear opens."""
    along, across, out = _along_tear(x, y, z, defect)
    share = (1 - (along / defect["length"]) ** 2).clip(0)
    gap = np.abs(across) - defect["width"] * np.sqrt(share)
    return both(gap, np.abs(along) - defect["length"], np.abs(out) - 0.1)


def _heads(x, y, z, reach, defect):
    """Distance-like value of both heads; one of them torn, the tear's edge lifted."""
    level, thick, radius = SKIN
    height = np.abs(z)
    torn = defect and defect["kind"] == "tear"
    if torn:
        along, across, out = _along_tear(x, y, z, defect)
        fade = (1 - (along / defect["length"]) ** 2).clip(0) * smoothstep(1 - across / 0.11)
        height = height - defect["lift"] * fade * (across > 0) * (np.abs(out) < 0.2)
    collar = 0.012 * smoothstep((reach - 0.585) / 0.03)
    heads = both(height - level - collar, level - thick - height, reach - radius)
    return np.maximum(heads, -_torn(x, y, z, defect)) if torn else heads


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of shell, hoops, heads, cords, metal and sliders, each as x."""
    lost = int(defect["form"]) if defect and defect["kind"] == "missing" else None
    reach, azimuth = np.sqrt(x * x + y * y), np.arctan2(y, x)
    shell = _shell(reach, azimuth, z)
    radius, thick, level, half = HOOP
    hoops = box(reach - radius, np.abs(z) - level, 0 * z, (thick, half, 1), 0.03)
    away = _from_vent(azimuth, z)
    ring = np.hypot(away - (VENT[2] + VENT[3]) / 2, reach - SHELL) - (VENT[3] - VENT[2]) / 2
    if lost == LOST_GROMMET:
        ring = np.full_like(x, 9)
    cords, hooks, sliders = strung(reach, azimuth, z, defect)
    heads = _heads(x, y, z, reach, defect)
    return shell, hoops, heads, cords, np.minimum(hooks, ring), sliders


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The drum's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    reach, azimuth = np.hypot(x, y), np.arctan2(y, x)
    look = LOOKS[part]  # colour, metallic, roughness, [N, 5]
    mottle, fine = fractal_noise_3d(points, 4, 2, 4), fractal_noise_3d(points, 45, 3, 3)
    look[:, :3] *= (1 + 0.025 * mottle)[:, None]
    look[:, 4] += 0.02 * mottle
    solid.normals = unit(solid.normals)
    _dress_hoops(look, part == RIMS, azimuth, z)
    skin, white = (part == HEADS) & (z > 0), (part == HEADS) & (z < 0)
    bumps = np.stack([fractal_noise_3d(points, 38, seed, 3) for seed in (4, 5, 6)], 1)
    solid.normals[skin] += 0.10 * bumps[skin]
    clouds = fractal_noise_3d(points, 6, 7, 4)
    beaten = smoothstep(1 - np.hypot(x - 0.08, y + 0.05) / 0.33)
    look[skin, :3] *= (1 + 0.10 * clouds + 0.05 * fine - 0.16 * beaten)[skin, None]
    look[white] = (*PLASTIC, 0, 0.30)
    for side, where in ((1, skin), (-1, white)):
        places = np.stack([side * x, -y], 1) + HEAD_HALF
        ink = picked(head_image(side), *(places * PX).T) * where * (reach < HEAD_HALF)
        look[ink > 0, :3] = INKS[ink[ink > 0] - 1, :3]
    inside = (reach < SHELL - 0.6 * WALL) & (np.abs(z) < SKIN[0] - 0.6 * SKIN[1])
    look[inside & (part != METAL)] = (*DARK, 0, 0.8)
    ink = _printed(points) * (part == CASE) * (reach > SHELL - 0.4 * WALL)
    look[ink > 0] = INKS[ink[ink > 0] - 1]
    joint = np.abs(SHELL * turned_from(azimuth, SEAM[0])) < 0.007
    look[joint & (part == CASE)] = (*TIN, 1, 0.4)
    cords, tabs = part == CORDS, part == TABS
    twist = np.sin(170 * z + 60 * (reach - CORD[0]) + 40 * azimuth)
    look[cords, :3] *= (0.88 + 0.14 * twist + 0.04 * fine)[cords, None]
    look[tabs, :3] *= (1 + 0.2 * fine + 0.2 * mottle)[tabs, None]
    if defect:
        _spoil(look, points, part, defect)
    return solid.painted(look)


def _dress_hoops(look, hoops, azimuth, z) -> None:
    """Colours of the two hoops into `look` [N, 5]: stripes above, dots below, a soldered joint."""
    look[hoops & (z < 0)] = (*GREEN, 0, 0.20)
    stripes = np.sin(40 * azimuth + 26 * z) > 0.55
    look[hoops & (z > 0) & stripes, :3] = INKS[1, :3]
    turn = (azimuth * 24 / (2 * np.pi)) % 1 - 0.5
    dots = np.hypot(turn * 2 * np.pi / 24 * HOOP[0], z + HOOP[2]) < 0.026
    look[hoops & dots, :3] = INKS[0, :3]
    for side, at in ((1, 2.8), (-1, -2.4)):
        joint = np.abs(turned_from(azimuth, at)) < 0.035
        look[hoops & (side * z > 0) & joint] = (*TIN, 1, 0.4)


def _printed(points):
    """Ink at points [N, 3] of the shell: 0 or 1 + index in INKS, [N]."""
    x, y, z = points.T
    places = np.stack([SHELL * np.arctan2(y, x), -z], 1)
    return picked(print_image(), *((places + HALF_PRINT) * PX).T)


def _spoil(look, points, part, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `part` tells which part the points are of."""
    kind, (x, y, z) = defect["kind"], points.T
    away = np.linalg.norm(points - np.array(defect["centre"]), axis=1)
    if kind == "scratch":
        scored = scratched(points, defect, reach=0.06)
        look[scored & ((part == CASE) | (part == RIMS))] = (*BARE, 1, 0.35)
        look[scored & (part == TABS), :3] = WORN
    if kind == "missing" and defect["form"] == LOST_CORD:
        ends = np.minimum(np.abs(z - defect["low"]), np.abs(z - defect["high"])) < 0.02
        look[(part == CORDS) & ends & (away < 0.4), :3] = FRAYED
    if kind == "tear":
        edge = (part == HEADS) & (np.abs(_torn(x, y, z, defect)) < 0.006) & (away < 0.4)
        look[edge, :3] *= 0.55
        look[edge, 3:] = (0, 0.85)
    if kind == "stain":
        of = int(defect["of"])
        edge = away / defect["radius"] + 0.24 * fractal_noise_3d(points, 9, defect["seed"], 4)
        cover = defect["cover"] * smoothstep((1 - edge) / (0.25, 0.08, 0.4)[of])
        if of == 0:  # tea dries darkest at its edge
            cover = cover * (0.55 + 0.45 * smoothstep((edge - 0.6) / 0.3))
        if of == 2:
            cover = cover * ((part == CASE) | (part == RIMS) | (part == METAL))
        look += cover[:, None] * (
            np.array([*(TEA, PAINT, RUST)[of], 0, (0.5, 0.25, 0.9)[of]]) - look
        )
