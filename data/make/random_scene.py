"""Random solids with random materials: scenes that share nothing with the example objects."""

import numpy as np

from .mesh import Mesh, Surface, both, box, cylinder, mesh_from_distance, smooth_min, unit
from .noise import fractal_noise_2d, fractal_noise_3d

REACH = 1.15  # half size of the cube that holds a scene, world units
STEP = 0.016
KINDS = ("ball", "block", "rod", "ring", "pipe", "bottle")
PATTERNS = ("plain", "clouds", "checks", "stripes", "dots", "blotches")


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """A rotation drawn evenly from all, [3, 3]."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def _part(rng: np.random.Generator, spread: float):
    """A random primitive as a function of x, y, z, and the frame its pattern lies in."""
    kind = KINDS[rng.integers(len(KINDS))]
    frame, centre = random_rotation(rng), rng.uniform(-spread, spread, 3)
    a, b, c = rng.uniform(0.12, 0.5, 3)

    def distance(x, y, z):
        local = [
            sum(frame[k, m] * (v - centre[m]) for m, v in enumerate((x, y, z))).astype(np.float32)
            for k in range(3)
        ]
        if kind == "ball":
            scaled = sum((v / s) ** 2 for v, s in zip(local, (a, b, c), strict=True))
            return (np.sqrt(scaled) - 1) * min(a, b, c)
        if kind == "block":
            return box(*local, (a, b, c), rounding=0.04)
        if kind == "rod":
            return both(cylinder(local[0], local[1], a), np.abs(local[2]) - 1.4 * b)
        if kind == "ring":
            around = np.sqrt(local[0] ** 2 + local[1] ** 2) - (0.25 + a)
            return np.sqrt(around**2 + local[2] ** 2) - 0.35 * b
        if kind == "pipe":
            wall = np.abs(cylinder(local[0], local[1], 0.15 + a)) - 0.05
            return both(wall, np.abs(local[2]) - 1.4 * b)
        waist = 0.7 + 0.3 * np.sin(3.5 * local[2] / (0.4 + b) + c * 12)
        return both(cylinder(local[0], local[1], 1.1 * a * waist), np.abs(local[2]) - 1.5 * b) * 0.7

    return distance, frame


def random_palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Linear base colours from near black to near white, grey to vivid, [count, 3]."""
    value = rng.uniform(0.08, 0.98, count)
    saturation = rng.beta(0.9, 1.4, count)
    hue = rng.uniform(0, 1) + rng.normal(0, 0.25, count)
    wheel = np.abs(((hue[:, None] + np.array([0, 2 / 3, 1 / 3])) % 1) * 6 - 3) - 1
    rgb = value[:, None] * (1 - saturation[:, None] * (1 - wheel.clip(0, 1)))
    return rgb.clip(0.02, 0.95) ** 2.2


def random_pattern(points, rng: np.random.Generator) -> np.ndarray:
    """A random texture over points [N, 3] in a pattern's own frame; linear colour [N, 3]."""
    kind = PATTERNS[rng.integers(len(PATTERNS))]
    palette = random_palette(rng, 4)
    seed, period = int(rng.integers(1 << 30)), rng.uniform(0.07, 0.35)
    noise = fractal_noise_3d(points, rng.uniform(2, 10), seed, 4)[:, None]
    if kind == "plain":
        colour = np.tile(palette[0], (len(points), 1))
    elif kind == "clouds":
        share = np.clip(0.5 + 0.5 * noise, 0, 1)
        colour = palette[0] * share + palette[1] * (1 - share)
    elif kind == "blotches":
        edges = np.array([-0.6, 0.3, 1.1])
        colour = palette[np.digitize(noise[:, 0], edges)]
    elif kind == "stripes":
        phase = points[:, 0] / period + rng.uniform(0, 0.3) * noise[:, 0]
        colour = palette[np.digitize(phase % 1, [0.45, 0.6])]
    elif kind == "checks":
        cell = np.floor(points / period + 0.01).astype(int).sum(1)
        colour = palette[cell % 2]
    else:
        cell = np.floor(points / period).astype(int)
        offset = points / period - cell - 0.5
        inside = (offset**2).sum(1) < 0.15
        colour = palette[np.where(inside, 1 + cell.sum(1) % 3, 0)]
    dirt = fractal_noise_3d(points, 14, seed + 1, 3)[:, None]
    return (colour * (1 + rng.uniform(0, 0.15) * dirt)).clip(0.005, 0.95)


def random_solid(rng: np.random.Generator) -> Mesh:
    """Two to six primitives, joined or cut, each with its own pattern, metal and roughness."""
    parts = [_part(rng, 0.5) for _ in range(rng.integers(2, 7))]
    cuts = [_part(rng, 0.6) for _ in range(rng.integers(0, 3))]
    fillet = rng.uniform(0.01, 0.08)

    def distance(x, y, z):
        solid = parts[0][0](x, y, z)
        for other, _ in parts[1:]:
            solid = smooth_min(solid, other(x, y, z), fillet)
        for other, _ in cuts:
            solid = np.maximum(solid, -other(x, y, z))
        return both(solid, np.sqrt(x * x + y * y + z * z) - 0.97 * REACH)

    solid = mesh_from_distance(distance, (-REACH,) * 3, (REACH,) * 3, STEP)
    x, y, z = solid.vertices.T
    owner = np.argmin([part(x, y, z) for part, _ in parts], 0)
    count = len(solid.vertices)
    solid.colour = np.zeros((count, 3), np.float32)
    solid.metallic, solid.roughness = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for k, (_, frame) in enumerate(parts):
        mine = owner == k
        metal = rng.uniform(0.5, 0.9) if rng.random() < 0.3 else 0.0
        roughness = rng.uniform(0.15, 0.9)
        if not mine.any():
            continue
        solid.colour[mine] = random_pattern(solid.vertices[mine] @ frame.T, rng)
        solid.metallic[mine], solid.roughness[mine] = metal, roughness
    solid.normals = unit(solid.normals).astype(np.float32)
    return solid


def random_board(rng: np.random.Generator, size: int = 512) -> Surface:
    """Textures of a table top: two colours mixed by noise, dielectric."""
    palette = random_palette(rng, 2)
    cells = int(rng.integers(3, 40)), int(rng.integers(3, 40))
    noise = fractal_noise_2d((size, size), cells, 4, int(rng.integers(1 << 30)))
    share = np.clip(0.5 + 0.6 * noise, 0, 1)[..., None]
    colour = (palette[0] * share + palette[1] * (1 - share)).astype(np.float32)
    flat = np.ones((size, size), np.float32)
    return Surface(colour, 0 * flat, float(rng.uniform(0.25, 0.9)) * flat)
