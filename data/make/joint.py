"""The cast pipe tee with collars, a hexagon end, raised letters and paint marks; its defects.

World units: the run lies along x with ends at -1.13 and 1.13, the branch points up; raised
letters on the front (-y).
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .marks import described
from .mesh import Mesh, both, cylinder, hexagon, mesh_from_distance, smooth_min
from .noise import fractal_noise_3d

LOW, HIGH = np.array([-1.22, -0.74, -0.70]), np.array([1.22, 0.74, 1.14])
LOWEST = -0.55  # the collars, on which it lies
STEP = 0.0085  # grid spacing; a pixel of the photographs sees about 0.005
CAST_IRON = np.array([0.30, 0.315, 0.32])
MACHINED = np.array([0.52, 0.52, 0.51])
RUST = np.array([0.20, 0.075, 0.025])
OIL = np.array([0.035, 0.028, 0.022])
# centre, radius and colour of the inspection marks
PAINT_MARKS = (
    ((0.72, -0.30, 0.22), 0.11, (0.45, 0.03, 0.02)),
    ((-0.25, 0.40, 0.05), 0.13, (0.03, 0.25, 0.06)),
)


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (missing, stain, crack).

    `normal` is roughly where the place faces, so that a camera can be put in front of it.
    """
    seed = int(rng.integers(1 << 30))
    if kind == "missing":  # out of a collar, or out of the branch's rim
        if rng.random() < 0.7:
            side, angle = rng.choice([-1, 1]), rng.uniform(-0.5, np.pi + 0.5)
            normal = np.array([0.6 * side, np.cos(angle), np.sin(angle)])
            centre = np.array([1.07 * side, 0.52 * np.cos(angle), 0.52 * np.sin(angle)])
        else:
            angle = rng.uniform(0, 2 * np.pi)
            normal = np.array([np.cos(angle), np.sin(angle), 0.6])
            centre = np.array([0.41 * np.cos(angle), 0.41 * np.sin(angle), 1.05])
        sizes = {"radius": rng.uniform(0.17, 0.25)}
    elif kind == "stain":  # on the run's front, back or shoulder
        angle = rng.choice([rng.uniform(-0.3, 0.8), np.pi - rng.uniform(-0.3, 0.8)])
        normal = np.array([0.0, np.cos(angle), np.sin(angle)])
        x = rng.choice([-1, 1]) * rng.uniform(0.1, 0.7)
        centre = np.array([x, 0.42 * np.cos(angle), 0.42 * np.sin(angle)])
        sizes = {"radius": rng.uniform(0.15, 0.24)}
    elif kind == "crack":  # along the run, on the front or on the back
        side = rng.choice([-1, 1])
        normal = np.array([0.0, side, 0.3])
        centre = np.array([rng.uniform(-0.4, 0.4), 0.15 * side, rng.uniform(0.0, 0.22)])
        slope, width = rng.uniform(-0.35, 0.35), rng.uniform(0.016, 0.024)
        sizes = {"length": rng.uniform(0.28, 0.42), "slope": slope, "width": width}
    else:
        raise ValueError(f"the joint has no defect {kind!r}")
    return described(kind, centre, normal, seed, sizes)


def distance(x, y, z, defect: dict | None = None):
    """Distance-like value of the solid, negative inside; arrays of one shape, world units."""
    run = both(cylinder(y, z, 0.42), np.abs(x) - 1.0)
    branch = both(cylinder(x, y, 0.40), z - 0.95, -z)
    solid = smooth_min(run, branch, 0.12)
    for side in (-1, 1):
        collar = both(cylinder(y, z, 0.53), np.abs(x - side * 0.98) - 0.13) - 0.02
        solid = smooth_min(solid, collar, 0.035)
    nut = both(hexagon(x, y, 0.48), np.abs(z - 0.80) - 0.14) - 0.015
    solid = smooth_min(solid, nut, 0.03)
    rim = both(cylinder(x, y, 0.43), np.abs(z - 1.0) - 0.07) - 0.01
    solid = smooth_min(solid, rim, 0.02)
    seam = both(np.abs(y) - 0.012, cylinder(y, z, 0.445), np.abs(x) - 0.86)
    solid = smooth_min(solid, seam, 0.02)
    for place in (-0.5, 0.5):
        boss = np.sqrt((x - place) ** 2 + (z + 0.25) ** 2 + (y + 0.36) ** 2) - 0.085
        solid = smooth_min(solid, boss, 0.03)
    solid = solid - 0.016 * _lettering(x, y, z)
    bore = np.minimum(cylinder(y, z, 0.33), both(cylinder(x, y, 0.31), -z))
    thread = 0.012 * np.sin(2 * np.pi * x / 0.05 + np.arctan2(z, y)) * (np.abs(x) > 0.72)
    solid = np.maximum(solid, -(bore + thread))
    if defect and defect["kind"] == "missing":
        solid = np.maximum(solid, -_broken_piece(x, y, z, defect))
    if defect and defect["kind"] == "crack":
        solid = np.maximum(solid, -_crack(x, y, z, defect))
    return solid


def _lettering(x, y, z):
    """1 where a letter stands on the front, else 0; float32."""
    image = Image.new("L", (512, 160), 0)
    font = ImageFont.load_default(size=90)
    ImageDraw.Draw(image).text((20, 20), "DN40 PN16", fill=255, font=font)
    ink = np.asarray(image, np.float32) / 255
    rows, columns = ink.shape
    column = ((x + 0.42) / 0.84 * columns).astype(int)
    row = ((0.13 - z) / 0.26 * rows).astype(int)
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows) & (y < -0.2)
    return np.where(inside, ink[row.clip(0, rows - 1), column.clip(0, columns - 1)], 0)


def _broken_piece(x, y, z, defect):
    cx, cy, cz = defect["centre"]
    ball = np.sqrt((x - cx) ** 2 + (y - cy) ** 2 + (z - cz) ** 2) - defect["radius"]
    rough = 0.02 * np.sin(31 * x + 3) * np.sin(27 * y + 1) + 0.018 * np.sin(43 * z) * np.sin(39 * x)
    return ball + rough


def _crack(x, y, z, defect):
    """A gap that winds along x, widest in the middle, from its centre's y outwards."""
    cx, cy, cz = defect["centre"]
    side = np.sign(cy)
    along = x - cx
    path = 0.05 * np.sin(9 * along) + 0.03 * np.sin(23 * along + 1) + defect["slope"] * along
    width = defect["width"] * np.clip(1 - (along / defect["length"]) ** 2, 0, 1)
    # where the width is 0 the gap must close, or a hairline would stay over the whole run
    gap = np.where(width > 0, np.abs(z - cz - path) - width, 1.0)
    return np.maximum(gap, -(side * (y - cy)))


def mesh(defect: dict | None = None, seed: int = 0) -> Mesh:
    """The tee's surface with colour, metallic and roughness per vertex."""
    solid = mesh_from_distance(lambda x, y, z: distance(x, y, z, defect), LOW, HIGH, STEP)
    points = solid.vertices
    mottle = fractal_noise_3d(points, 9, seed + 1, 5)
    cloud = fractal_noise_3d(points, 3, seed + 2, 4)
    grain = fractal_noise_3d(points, 38, seed + 3, 2)
    spangle = fractal_noise_3d(points, 16, seed + 4, 1)
    spots = np.sign(spangle) * (np.abs(spangle) > 0.7)
    shade = (1 + 0.16 * mottle + 0.12 * grain + 0.14 * spots)[:, None].clip(0.3, 1.8)
    colour = CAST_IRON * shade
    freckles = np.clip((cloud + 0.5 * mottle - 1.05) / 0.25, 0, 1)  # flawless parts rust a little
    rust = RUST * np.exp(0.3 * grain)[:, None]
    colour = colour * (1 - 0.85 * freckles[:, None]) + rust * 0.85 * freckles[:, None]
    metallic = 0.55 * (1 - freckles)
    roughness = 0.42 + 0.08 * mottle.clip(-2, 2) + 0.35 * freckles
    x, y, z = solid.vertices.T
    colour[((y**2 + z**2 < 0.36**2) & (np.abs(x) < 1.15)) | (x**2 + y**2 < 0.325**2)] *= 0.72
    faced = (np.abs(np.abs(x) - 1.13) < 0.01199) | (np.abs(z - 1.08) < 0.01201)
    bright = MACHINED * 0.65 * (1 + 0.06 * grain[faced])[:, None]
    colour[faced] = colour[faced] * 0.35 + bright
    metallic[faced] = 0.8
    coats = [
        (_distance_to(points, centre) + 0.02 * mottle, radius, 0.012, np.array(paint), 0.5)
        for centre, radius, paint in PAINT_MARKS
    ]
    if defect and defect["kind"] == "stain":
        edge = fractal_noise_3d(points, 9, defect["seed"], 5)
        reach = _distance_to(points, defect["centre"]) / defect["radius"] + 0.25 * edge
        coats.append((reach, 1.0, 0.15, OIL * np.exp(0.2 * grain)[:, None], 0.25))
    for reach, limit, softness, paint, paint_roughness in coats:
        cover = np.clip((limit - reach) / softness, 0, 1)
        colour = colour * (1 - cover[:, None]) + paint * cover[:, None]
        metallic = metallic * (1 - cover)
        roughness = roughness * (1 - cover) + paint_roughness * cover
    solid.colour = colour.clip(0.01, 0.95).astype(np.float32)
    solid.metallic = metallic.clip(0, 1).astype(np.float32)
    solid.roughness = roughness.clip(0.15, 1).astype(np.float32)
    return solid


def _distance_to(points, centre):
    return np.sqrt(((points - np.array(centre)) ** 2).sum(1))


def terrazzo(size: int = 2048, seed: int = 3) -> np.ndarray:
    """Linear colour of the turntable: cement with stone chips, [size, size, 3] float32."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), (150, 146, 138))
    draw = ImageDraw.Draw(image)
    stones = (
        [(196, 190, 178), (120, 112, 104), (92, 88, 86), (168, 140, 116)]
        + [(208, 204, 198), (136, 120, 100), (110, 118, 116), (64, 62, 62)]
    )  # fmt: skip
    for _ in range(9000):
        centre = rng.uniform(0, size, 2)
        radius = rng.gamma(2.0, 3.2) + 1.5
        corners = rng.integers(4, 8)
        angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
        radii = radius * rng.uniform(0.6, 1.3, corners)
        outline = [
            tuple(centre + q * np.array([np.cos(t), np.sin(t)]))
            for q, t in zip(radii, angles, strict=True)
        ]
        stone = stones[rng.integers(len(stones))]
        draw.polygon(outline, fill=tuple(int(c + rng.integers(-10, 11)) for c in stone))
    grain = rng.standard_normal((size, size, 1)).astype(np.float32) * 0.02
    return ((np.asarray(image, np.float32) / 255 + grain).clip(0.02, 1) ** 2.2).astype(np.float32)
