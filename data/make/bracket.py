"""A machined bracket: a plate with ribs and holes, a wall with holes; its defects.

Nearly symmetric about x = 0 and full of repeated features. Only an engraved number, a red mark,
a blue corner and one slot tell its sides apart.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .marks import described, scratched
from .mesh import Mesh, both, box, cylinder, mesh_from_distance, smooth_min, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.5}
SMALLEST_MASK = {"scratch": 0.0012, "dent": 0.003}
LOW, HIGH, STEP = np.array([-1.1, -0.75, -0.6]), np.array([1.1, 0.75, 0.75]), 0.0105
PLATE_HOLES = tuple((x, -0.36) for x in (-0.72, -0.24, 0.24, 0.72))  # x, y
WALL_HOLES = tuple((x, 0.28) for x in (-0.62, 0.0, 0.62))  # x, z
RIBS = (-0.48, 0.0, 0.48)
PLATE_TOP, WALL_FRONT, WALL_BACK = -0.28, 0.42, 0.58
ALUMINIUM = np.array([0.50, 0.51, 0.52])
RED, BLUE = np.array([0.45, 0.02, 0.02]), np.array([0.03, 0.10, 0.40])


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (dent, missing, scratch, plugged)."""
    sizes = {}
    on_plate = bool(rng.random() < 0.5)
    if on_plate:
        centre, normal = (rng.uniform(-0.85, 0.85), rng.uniform(-0.5, 0.1), PLATE_TOP), (0, -0.3, 1)
    else:
        back = rng.random() < 0.5
        y = WALL_BACK if back else WALL_FRONT
        centre = rng.uniform(-0.8, 0.8), y, rng.uniform(-0.1, 0.5)
        normal = (0, 1 if back else -1, 0.3)
    if kind == "dent":
        sizes = {"radius": rng.uniform(0.22, 0.3), "depth": rng.uniform(0.05, 0.07)}
    elif kind == "missing":  # a corner of the plate or of the wall
        side = rng.choice([-1, 1])
        if on_plate:
            centre, normal = (0.95 * side, -0.6, -0.36), (0.5 * side, -0.7, 0.6)
        else:
            centre, normal = (0.95 * side, 0.5, 0.62), (0.6 * side, rng.choice([-0.7, 0.7]), 0.5)
        sizes = {"radius": rng.uniform(0.17, 0.28)}
    elif kind == "scratch":
        sizes = {"length": rng.uniform(0.18, 0.35), "width": rng.uniform(0.012, 0.018)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "plugged":
        if on_plate:
            x, y = PLATE_HOLES[rng.integers(len(PLATE_HOLES))]
            centre, normal = (x, y, PLATE_TOP), (0, -0.2, rng.choice([-1, 1]))
        else:
            x, z = WALL_HOLES[rng.integers(len(WALL_HOLES))]
            centre, normal = (x, 0.5, z), (0, rng.choice([-1, 1]), 0.1)
    else:
        raise ValueError(f"the bracket has no defect {kind!r}")
    return described(kind, centre, normal, int(rng.integers(1 << 30)), sizes)


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the solid, negative inside; arrays of one shape, world units."""
    kind = defect["kind"] if defect else None
    plate = box(x, y, z + 0.36, (0.95, 0.6, 0.08), rounding=0.02)
    wall = box(x, y - 0.5, z - 0.10, (0.95, 0.08, 0.52), rounding=0.02)
    solid = smooth_min(plate, wall, 0.06)
    for place in RIBS:  # triangular gussets between plate and wall
        slope = (z - 0.25 + (0.42 - y) * 1.1) * 0.67
        web = both(np.abs(x - place) - 0.045, slope, y - 0.5, -z - 0.4)
        solid = smooth_min(solid, web, 0.025)
    boss = np.maximum(cylinder(x, z - 0.28, 0.2), np.abs(y - 0.42) - 0.06)
    solid = smooth_min(solid, boss, 0.015)
    for hx, hy in PLATE_HOLES:
        if not (kind == "plugged" and np.allclose(defect["centre"][:2], (hx, hy))):
            hole = cylinder(x - hx, y - hy, 0.11)
            sink = cylinder(x - hx, y - hy, 0.15) + np.maximum(PLATE_TOP - 0.03 - z, 0)
            solid = np.maximum(solid, -np.minimum(hole, sink))
    for hx, hz in WALL_HOLES:
        if not (kind == "plugged" and np.allclose(defect["centre"][::2], (hx, hz))):
            through = np.maximum(cylinder(x - hx, z - hz, 0.12), 0.2 - y)
            solid = np.maximum(solid, -through)
    slot = np.maximum(box(x - 0.48, y + 0.12, 0 * z, (0.14, 0.035, 1.0)), z - 0.2)
    solid = np.maximum(solid, -slot)
    if kind in ("dent", "missing"):
        cx, cy, cz = defect["centre"]
        if kind == "dent":  # a ball pressed in along the normal
            outwards = unit(np.round(np.array(defect["normal"])))
            out = defect["radius"] - defect["depth"]
            cx, cy, cz = np.array([cx, cy, cz]) + out * outwards
        ball = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) - defect["radius"]
        if kind == "missing":
            ball = ball + 0.02 * np.sin(33 * x + 1) * np.sin(29 * y) + 0.015 * np.sin(41 * z)
        solid = np.maximum(solid, -ball)
    return solid


def mesh(defect: dict | None = None) -> Mesh:
    """The bracket's surface with colour, metallic and roughness per vertex."""
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    points = solid.vertices
    x, y, z = points.T
    brushed = fractal_noise_3d(points * [3, 40, 40], 1.2, 1, 3)
    mottle = fractal_noise_3d(points, 5, 2, 4)
    colour = ALUMINIUM * (1 + 0.05 * brushed + 0.06 * mottle)[:, None]
    metallic, roughness = np.full(len(points), 0.7), 0.36 + 0.05 * brushed
    red = np.hypot(x + 0.78, z - 0.05) + 0.012 * mottle < 0.085
    red &= y < 0.45
    blue = (x + y * 0.0 > 0.78) & (z > 0.42)
    for cover, paint in ((red & (y > 0.2), RED), (blue, BLUE)):
        colour[cover], metallic[cover], roughness[cover] = paint, 0.0, 0.4
    engraved = _number(points)
    colour[engraved] *= 0.2
    if defect and defect["kind"] == "scratch":
        face = unit(np.round(np.array(defect["normal"])))
        groove = scratched(points, defect, face, across=[1.0, 0.1, 0.1], reach=0.03)
        colour[groove], roughness[groove] = np.array([0.09, 0.09, 0.10]), 0.6
        metallic[groove] = 0.2
    return solid.painted(np.column_stack([colour, metallic, roughness]))


def _number(points):
    """Where the number is engraved on the wall's back, [N] bool."""
    image = Image.new("L", (256, 96), 0)
    ImageDraw.Draw(image).text((10, 10), "B-204", fill=255, font=ImageFont.load_default(size=72))
    ink = np.asarray(image) > 128
    column = ((0.15 - points[:, 0]) / 0.55 * 255).astype(int)
    row = ((0.05 - points[:, 2]) / 0.21 * 95).astype(int)
    inside = (column >= 0) & (column < 256) & (row >= 0) & (row < 96) & (points[:, 1] > 0.56)
    return inside & ink[row.clip(0, 95), column.clip(0, 255)]
