"""A printed aluminium drinks can: lacquered inks over metal, domed foot, ring pull; its defects.

It stands along z, the artwork's front faces along x and differs all round; the lid's opening and
pull point askew of the front, letters are stamped into the lid and a date is on the dome.
"""

from functools import cache

import numpy as np

from .can_artwork import (
    BLACK,
    DATE,
    HALF_PRINT,
    INKS,
    PX,
    RADIUS,
    SLICES,
    TEXTS,
    date_image,
    print_image,
)
from .can_lid import (
    LOST,
    PANEL,
    RING,
    SHEET,
    SINK,
    TURNED,
    along_pull,
    on_lid,
    pull_distance,
    with_lid,
)
from .lathe import from_outline, on_outline, smooth_outline
from .lights import smoothstep
from .marks import (
    described,
    picked,
    rolled_ink,
    scratched,
    solid_with_parts,
    union,
)
from .mesh import Mesh, both, rod, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"dent": 0.0014, "pull": 0.0006, "scratch": 0.0008, "misprint": 0.001}
SMALLEST_MASK |= {"stain": 0.0012}
LOW, HIGH, STEP = np.array([-0.51, -0.51, -0.92]), np.array([0.51, 0.51, 0.985]), 0.0066
OUTLINE = [  # z, radius of the can's outside
    *((-0.92, 0.348), (-0.90, 0.352), (-0.84, 0.405), (-0.77, 0.474), (-0.72, 0.488)),
    *((-0.66, 0.49), (0.60, 0.49), (0.66, 0.486), (0.72, 0.462), (0.80, 0.402), (0.84, 0.386)),
    (0.92, 0.386),
]
FOOT, ROUND, TOP = -0.90, 0.03, 0.90  # z of the ends, rounding of the foot's ring
DOME = (0.325, 0.13)  # radius, height
SEAM, INNER = (0.408, 0.836, 0.90), 0.368  # of the rim: radius, from and to z; radius within
ALUMINIUM, GUM = (0.74, 0.745, 0.75), (0.42, 0.34, 0.20)
DUST, COLA = (0.36, 0.31, 0.24), (0.05, 0.02, 0.01)
SCORED, BARE = (0.30, 0.30, 0.31), (0.86, 0.86, 0.86)
# base colour, metallic, roughness
METAL = np.array((*ALUMINIUM, 1, 0.27))
CAN, TAB = range(2)


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (dent, pull, scratch, misprint, stain)."""
    azimuth = rng.uniform(-np.pi, np.pi)
    outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    if kind == "dent":  # of the wall or, smaller, of the rim
        centre, normal = _place(rng.uniform(-0.70, 0.55), azimuth)
        sizes = {"radius": rng.uniform(0.10, 0.20)}
        sizes["depth"] = sizes["radius"] * rng.uniform(0.28, 0.50)
        if rng.random() < 0.3:
            centre, normal = SEAM[0] * outwards + [0, 0, TOP - 0.03], outwards + [0, 0, 0.5]
            sizes = {"radius": rng.uniform(0.09, 0.14), "depth": rng.uniform(0.035, 0.065)}
            normal = unit(normal)
    elif kind == "pull":  # torn off, its ring snapped off, lifted, turned on the rivet
        form, nose = int(rng.choice(4, p=(0.25, 0.3, 0.25, 0.2))), along_pull(1, 0)
        centre = RING[0] * nose * (form != LOST) + [0, 0, SHEET[0]]
        normal = 0.5 * outwards + [0, 0, 1]
        sizes = {"form": form, "angle": rng.uniform(0.3, 1.1)}
        if form == TURNED:
            sizes["angle"] = rng.choice([-1, 1]) * rng.uniform(0.3, 0.9)
        sizes |= {"cut": rng.uniform(-0.20, -0.11), "slant": rng.uniform(-0.4, 0.4)}
    elif kind == "scratch":
        centre, normal = _place(rng.uniform(-0.80, 0.74), azimuth)
        sizes = {"length": rng.uniform(0.10, 0.30), "width": rng.uniform(0.008, 0.015)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "misprint":  # a part of the print moved, smeared or left out
        places = [t[:2] for t in TEXTS] + [s[:2] for s in SLICES] + [(0.86, -0.2), (0.86, 0.2)]
        right, down = places[rng.integers(len(places))]
        centre, normal = _place(-down, right / RADIUS)
        sizes = {"right": right, "below": down, "radius": rng.uniform(0.08, 0.20)}
        sizes |= {"erased": rng.random() < 0.35, "smeared": rng.random() < 0.5}
        sizes["across"] = rng.choice([-1, 1]) * rng.uniform(0.02, 0.06)
        sizes["down"] = rng.choice([-1, 1]) * rng.uniform(0.01, 0.04)
    elif kind == "stain":  # of gum, dust or cola, the latter ran down
        centre, normal = _place(rng.uniform(-0.80, 0.74), azimuth)
        sizes = {"radius": rng.uniform(0.07, 0.15), "cover": rng.uniform(0.45, 0.92)}
        sizes["of"] = rng.integers(3)
    else:
        raise ValueError(f"the can has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def _place(z, azimuth):
    """The wall's point at a height and an azimuth, and the normal there, each [3]."""
    return on_outline(_outline(), z, azimuth)


@cache
def _outline() -> np.ndarray:
    """z, radius and slope of the outside, smoothly interpolated, [3, K]."""
    return smooth_outline(OUTLINE, 800)


def _can(x, y, z):
    """Distance-like value of wall, foot with its dome, rim and lid with all that is stamped."""
    reach = np.sqrt(x * x + y * y)
    body = -smooth_min(-from_outline(_outline(), reach, z), z - FOOT, ROUND)
    base, high = DOME
    ball = (base**2 + high**2) / (2 * high)
    dome = np.sqrt(reach**2 + (z - FOOT - high + ball) ** 2) - ball
    body = -smooth_min(-body, dome, ROUND)
    wide, low, top = SEAM
    rim = rod(x, y, z, wide, low, top, 0.03)
    body = smooth_min(np.maximum(body, z - low - 0.02), rim, 0.012)
    well = both(reach - INNER + 0.2 * (TOP - z), PANEL[1] - z)
    groove = both(reach - SINK[0], PANEL[0] - reach, SINK[1] - z)
    body = -smooth_min(-body, np.minimum(well, groove), 0.012)
    lid = z > SINK[1] - 0.05
    body[lid] = with_lid(body[lid], x[lid], y[lid], z[lid])
    return body


def parts(x, y, z, defect: dict | None = None):
    """Distance-like values of can and pull, each as x."""
    return _can(x, y, z), pull_distance(x, y, z, defect)


distance = union(parts)


def mesh(defect: dict | None = None) -> Mesh:
    """The can's surface with colour, metallic and roughness per vertex."""
    solid, points, part = solid_with_parts(distance, parts, (LOW, HIGH, STEP), defect)
    x, y, z = points.T
    reach = np.hypot(x, y)
    look = np.tile(METAL, (len(points), 1))  # colour, metallic, roughness, [N, 5]
    brushed = fractal_noise_3d(points * (4, 4, 40), 1.5, 2, 3)
    along, aside = on_lid(x, y)
    rolled = fractal_noise_3d(np.stack([along * 3, aside * 60, z * 3], 1), 1.5, 3, 2)
    lid = z > SINK[1] - 0.02
    streaks = np.where(lid & (reach < INNER), rolled, brushed)
    look[:, :3] *= (1 + 0.03 * streaks)[:, None]
    look[:, 4] += 0.03 * streaks
    wall = (part == CAN) & (z < SEAM[1] - 0.025) & (z > -0.80) & (reach > 0.35)
    ink = inked(points, defect) * wall
    look[ink > 0] = INKS[ink[ink > 0] - 1]
    dome = (z < FOOT + 0.16) & (reach < DOME[0] - 0.02)
    dated = picked(date_image(), (y + DATE[0]) * PX, (DATE[1] - x) * PX) > 127
    dated &= (np.abs(y) < DATE[0]) & (np.abs(x) < DATE[1])
    look[dome & dated] = INKS[BLACK - 1]
    if defect:
        _spoil(look, points, part, ink > 0, defect)
    return solid.painted(look)


def _spoil(look, points, part, printed, defect) -> None:
    """Put a defect's colours into `look` [N, 5]; `printed` tells which points carry ink."""
    if defect["kind"] == "scratch":
        scored = scratched(points, defect, reach=0.13)
        look[scored & printed] = (*BARE, 1, 0.38)
        look[scored & ~printed] = (*SCORED, 0.8, 0.5)
    if defect["kind"] == "stain":
        of = int(defect["of"])
        away = (points - np.array(defect["centre"])) / defect["radius"]
        away[:, 2] *= np.where((away[:, 2] < 0) & (of == 2), 0.5, 1)
        edge = 0.25 * fractal_noise_3d(points, 10, defect["seed"], 4)
        soft = (0.15, 0.7, 0.18)[of]
        cover = defect["cover"] * smoothstep((1 - np.linalg.norm(away, axis=1) - edge) / soft)
        spilt = np.array([*(GUM, DUST, COLA)[of], 0, (0.6, 0.9, 0.2)[of]])
        look += cover[:, None] * (spilt - look)


def inked(points, defect: dict | None = None) -> np.ndarray:
    """Ink at points [N, 3] of the wall: 0 or 1 + index in INKS, [N]."""
    return rolled_ink(_printed, points, RADIUS, 0.0, defect)


def _printed(places):
    """Ink at places [N, 2] (right, down) of the unrolled wall: 0 or 1 + index in INKS."""
    return picked(print_image(), *((places + HALF_PRINT) * PX).T)
