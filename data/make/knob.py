"""A glazed ceramic knob with a printed flower, dots and bands; its defects.

A surface of revolution about z, head up. The print breaks the symmetry: two petals differ in
colour and two of the dots are green.
"""

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .lathe import turned_mesh
from .lights import smoothstep
from .marks import face_axes
from .mesh import Mesh, unit
from .noise import fractal_noise_3d

MATERIAL = {"specular": 0.6}
SMALLEST_MASK = {"scratch": 0.0012, "misprint": 0.0025}
OUTLINE = (
    [(0, -0.8), (0.40, -0.8), (0.46, -0.76), (0.42, -0.64), (0.25, -0.5), (0.21, -0.3)]
    + [(0.28, -0.1), (0.6, 0.05), (0.84, 0.2), (0.89, 0.36), (0.80, 0.5), (0.55, 0.6)]
    + [(0.25, 0.64), (0, 0.65)]
)  # radius, z
NUM_ALONG, NUM_AROUND = 480, 640
GLAZE = np.array([0.76, 0.72, 0.63])
CLAY = np.array([0.42, 0.20, 0.11])
COBALT, RED = np.array([0.02, 0.05, 0.30]), np.array([0.45, 0.03, 0.02])
OCHRE, GREEN = np.array([0.55, 0.26, 0.02]), np.array([0.03, 0.22, 0.07])
TEA = np.array([0.22, 0.10, 0.03])
PETALS = (COBALT, COBALT, RED, COBALT, COBALT, OCHRE, COBALT)
NUM_DOTS, GREEN_DOTS = 14, (3, 5)


@cache
def outline(count: int = 400) -> np.ndarray:
    """The outline, smoothly interpolated, [count, 2] radius and z."""
    from scipy.interpolate import PchipInterpolator

    corners = np.array(OUTLINE, float)
    chord = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    return PchipInterpolator(chord, corners)(np.linspace(0, chord[-1], count))


def place(height: float, azimuth: float):
    """Point of the head at the last crossing of `height`, and the normal there, each [3]."""
    curve = outline()
    above = np.flatnonzero(curve[:, 1] <= height)[-1]
    return _on_curve(min(max(above, 1), len(curve) - 2), azimuth)


def _on_curve(index: int, azimuth: float):
    curve = outline()
    tangent = curve[index + 1] - curve[index - 1]
    outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    normal = unit(tangent[1] * outwards - tangent[0] * np.array([0, 0, 1.0]))
    return curve[index, 0] * outwards + [0, 0, curve[index, 1]], normal


def defect_normal(defect: dict) -> np.ndarray:
    return np.array(defect["normal"])


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (chip, scratch, stain, misprint) on the head."""
    azimuth = rng.uniform(0, 2 * np.pi)
    if kind == "chip":
        height = rng.uniform(0.15, 0.5)
        sizes = {"radius": rng.uniform(0.10, 0.17), "depth": rng.uniform(0.05, 0.09)}
    elif kind == "scratch":
        height = rng.uniform(0.2, 0.62)
        sizes = {"length": rng.uniform(0.16, 0.32), "width": rng.uniform(0.010, 0.016)}
        sizes["angle"] = rng.uniform(0, np.pi)
    elif kind == "stain":
        height = rng.uniform(0.15, 0.63)
        sizes = {"radius": rng.uniform(0.13, 0.25)}
    elif kind == "misprint":  # on a petal
        azimuth = 2 * np.pi * (rng.integers(len(PETALS)) + rng.uniform(-0.1, 0.1)) / len(PETALS)
        height = rng.uniform(0.60, 0.625)
        sizes = {"radius": rng.uniform(0.14, 0.22)}
    else:
        raise ValueError(f"the knob has no defect {kind!r}")
    centre, normal = place(height, azimuth)
    return {
        "kind": kind,
        "centre": centre.tolist(),
        "normal": normal.tolist(),
        "seed": int(rng.integers(1 << 30)),
        **{name: float(value) for name, value in sizes.items()},
    }


def mesh(defect: dict | None = None) -> Mesh:
    """The knob's surface with colour, metallic and roughness per vertex."""
    kind = defect["kind"] if defect else None
    relief = None
    if kind in ("chip", "scratch"):

        def relief(points, normals, along, azimuth):
            shape = points.shape
            cut = _cut_depth(points.reshape(-1, 3), defect).reshape(shape[:2])
            return points - cut[..., None] * normals

    whole, _, _ = turned_mesh(outline(), NUM_ALONG, NUM_AROUND)
    made = whole
    if relief is not None:
        made, _, _ = turned_mesh(outline(), NUM_ALONG, NUM_AROUND, relief)
    # the print lies where the flawless surface has it
    points = whole.vertices
    speckle = fractal_noise_3d(points, 30, 1, 2)
    glaze = GLAZE * (1 + 0.03 * fractal_noise_3d(points, 4, 2, 3) - 0.10 * (speckle > 2.1))[:, None]
    erased = None
    if kind == "misprint":
        reach = _distance_to(points, defect["centre"]) / defect["radius"]
        edge = fractal_noise_3d(points, 12, defect["seed"], 3)
        erased = smoothstep((1 - reach - 0.15 * edge) / 0.1)
    colour = _printed(points, glaze, erased)
    roughness = np.full(len(points), 0.16)
    bare = points[:, 2] < -0.79
    colour[bare], roughness[bare] = _stamped_foot(points[bare]), 0.8
    if kind in ("chip", "scratch"):
        cut = _cut_depth(points, defect) > 0.002
        grain = fractal_noise_3d(points[cut], 25, 5, 3)[:, None]
        inner = CLAY if kind == "chip" else np.array([0.10, 0.08, 0.07])
        colour[cut], roughness[cut] = inner * (1 + 0.2 * grain), 0.85
    if kind == "stain":
        edge = fractal_noise_3d(points, 8, defect["seed"], 4)
        reach = _distance_to(points, defect["centre"]) / defect["radius"] + 0.25 * edge
        cover = 0.8 * smoothstep((1 - reach) / 0.2)[:, None]
        colour = colour * (1 - cover) + TEA * cover
    made.colour = colour.clip(0.01, 0.95).astype(np.float32)
    made.roughness = roughness.astype(np.float32)
    made.metallic = np.zeros(len(points), np.float32)
    return made


def _distance_to(points, centre):
    return np.linalg.norm(points - np.array(centre), axis=-1)


def _cut_depth(points, defect):
    """How far a chip or a scratch goes in, world units, [N]."""
    away = points - np.array(defect["centre"])
    if defect["kind"] == "chip":
        rough = fractal_noise_3d(points, 14, defect["seed"], 3)
        reach = np.linalg.norm(away, axis=-1) / defect["radius"] + 0.12 * rough
        return defect["depth"] * np.sqrt(np.clip(1 - reach**2, 0, 1)) * (1 + 0.15 * rough)
    normal = np.array(defect["normal"])
    axes = face_axes(normal, defect["angle"], (0.3, 0.2, 1.0))
    along, across = (away @ axis for axis in axes)
    across = across + 0.02 * np.sin(along * 9)
    width = defect["width"] * np.clip(1 - (along / defect["length"]) ** 2, 0, 1)
    inside = (np.abs(across) < width) & (np.abs(away @ normal) < 0.3)
    return np.where(inside, 0.006, 0.0)


def _printed(points, glaze, erased):
    """The glaze's colour with the print on it, where it is not erased, [N, 3]."""
    x, y, z = points.T
    radius, azimuth = np.hypot(x, y), np.arctan2(y, x)
    prints = []  # cover in 0..1 and colour
    top = z > 0.4
    lines = (np.abs(radius - 0.74) < 0.022) | (np.abs(radius - 0.685) < 0.007)
    prints.append((top & lines, COBALT))
    prints.append((top & (radius < 0.09), OCHRE))
    prints.append((np.abs(z + 0.45) < 0.02, TEA))
    prints.append((np.abs(z + 0.02) < 0.014, COBALT))
    for k, ink in enumerate(PETALS):
        turn = (azimuth - 2 * np.pi * k / len(PETALS) + np.pi) % (2 * np.pi) - np.pi
        width = 0.115 * np.sin(np.pi * np.clip((radius - 0.15) / 0.47, 0, 1)).clip(0) ** 0.8
        vein = np.abs(turn) * radius < 0.012
        prints.append((top & (np.abs(turn) * radius < width) & ~vein, ink))
    for k in range(NUM_DOTS):
        turn = (azimuth - 2 * np.pi * (k + 0.5) / NUM_DOTS + np.pi) % (2 * np.pi) - np.pi
        dot = np.hypot(turn * radius, 1.2 * (z - 0.2)) < 0.07
        prints.append((dot & (radius > 0.6), GREEN if k in GREEN_DOTS else COBALT))
    colour = glaze.copy()
    for cover, ink in prints:
        cover = cover.astype(float) if erased is None else cover * (1 - erased)
        cover = 0.94 * cover[:, None]
        colour = colour * (1 - cover) + ink * cover
    return colour


def _stamped_foot(points):
    """Bare clay with the maker's stamp, [N, 3]."""
    image = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(image).text((22, 30), "K7", fill=255, font=ImageFont.load_default(size=64))
    ink = np.asarray(image, float) / 255
    column = ((0.3 - points[:, 0]) / 0.6 * 127).astype(int).clip(0, 127)
    row = ((0.3 - points[:, 1]) / 0.6 * 127).astype(int).clip(0, 127)
    grain = fractal_noise_3d(points, 25, 5, 3)
    return CLAY * (1 + 0.15 * grain - 0.7 * ink[row, column])[:, None]
