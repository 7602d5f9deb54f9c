"""The compression spring: a drawn-steel wire swept along a helix, its textures and its defects.

World units: coil radius 0.6, wire radius 0.105; the axis is z. Positions on the wire are given as
(`turn`, `theta`): turns along the helix, and the angle around the wire in rad, 0 pointing away
from the axis and pi/2 up.
"""

import numpy as np

from .lights import smoothstep
from .mesh import Mesh, Surface, unit, vertex_normals
from .noise import fractal_noise_2d

COIL_RADIUS, WIRE_RADIUS = 0.60, 0.105
END_TURNS, ACTIVE_TURNS = 1.0, 5.2  # closed turns at each end; open turns between
END_PITCH, ACTIVE_PITCH = 2.02 * WIRE_RADIUS, 0.315
TURNS = 2 * END_TURNS + ACTIVE_TURNS
NUM_RINGS, RING_POINTS = 3600, 72
TEXTURE_SHAPE = 256, 8192  # around the wire, along it
ARC_PER_TURN = 2 * np.pi * COIL_RADIUS

SMALLEST_MASK = {"burr": 0.0025}  # least share of the image that a query's mask covers
STEEL = np.array([0.36, 0.355, 0.35], np.float32)
GROUND_STEEL = np.array([0.60, 0.59, 0.57], np.float32)
YELLOW = np.array([0.72, 0.38, 0.022], np.float32)
BLUE = np.array([0.02, 0.10, 0.38], np.float32)
RUST = np.array([0.19, 0.062, 0.018], np.float32)


def centreline(count: int = NUM_RINGS):
    """Turn, azimuth (rad) and height of the wire's centre at `count` even steps, each [count]."""
    turn = np.linspace(0, TURNS, count)
    opened = smoothstep((turn - END_TURNS + 0.12) / 0.35)
    opened = opened * smoothstep((TURNS - END_TURNS + 0.12 - turn) / 0.35)
    pitch = END_PITCH + (ACTIVE_PITCH - END_PITCH) * opened
    height = np.cumsum(0.5 * (pitch[1:] + pitch[:-1]) * np.diff(turn))
    return turn, turn * 2 * np.pi, np.concatenate([[0], height])


def defect_place(turn: float, theta: float):
    """Point on the flawless surface and outward normal there, each [3] in world units."""
    turns, azimuths, heights = centreline()
    azimuth = np.interp(turn, turns, azimuths)
    middle = 0.5 * (heights[0] + heights[-1])
    outwards = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    normal = np.cos(theta) * outwards + np.sin(theta) * np.array([0, 0, 1.0])
    centre = COIL_RADIUS * outwards + [0, 0, np.interp(turn, turns, heights) - middle]
    return centre + WIRE_RADIUS * normal, normal


def defect_normal(defect: dict) -> np.ndarray:
    """Where the defective place faces, [3]: cameras are put in front of it."""
    return defect_place(defect["turn"], defect["theta"])[1]


def random_defect(kind: str, rng: np.random.Generator) -> dict:
    """Parameters of a defect of `kind` (burr, missing, bent, stain) somewhere on an open turn."""
    turn, theta = float(rng.uniform(1.7, 5.5)), float(rng.uniform(-0.8, 0.8))
    place = {"kind": kind, "turn": turn, "theta": theta, "seed": int(rng.integers(1 << 30))}
    if kind == "burr":
        sizes = {"size": rng.uniform(0.055, 0.085), "height": rng.uniform(0.10, 0.15)}
    elif kind == "missing":
        sizes = {"size": rng.uniform(0.055, 0.10), "depth": rng.uniform(0.75, 1.0)}
    elif kind == "bent":
        push = rng.uniform(0.13, 0.18) * rng.choice([-1, 1])
        sizes = {"span": rng.uniform(0.08, 0.12), "push": push, "lift": rng.uniform(-0.06, 0.06)}
    elif kind == "stain":
        sizes = {"size": rng.uniform(0.8, 1.3)}
    else:
        raise ValueError(f"a spring has no defect {kind!r}")
    return place | {name: float(value) for name, value in sizes.items()}


def surface(defect: dict | None = None, seed: int = 0) -> Surface:
    """Textures of the wire, rows around it and columns along it; with rust if it is stained."""
    shape = TEXTURE_SHAPE
    theta = (np.arange(shape[0]) + 0.5) / shape[0] * 2 * np.pi
    azimuth = (np.arange(shape[1]) + 0.5) / shape[1] * TURNS * 2 * np.pi
    streak = fractal_noise_2d(shape, (64, 90), 3, seed + 1)  # drawing leaves lines
    mottle = fractal_noise_2d(shape, (4, 160), 5, seed + 2)
    grain = fractal_noise_2d(shape, (128, 4096), 1, seed + 3)
    colour = STEEL * (1 + 0.10 * streak + 0.13 * mottle + 0.05 * grain)[..., None].clip(0.45, 1.5)
    temper = fractal_noise_2d(shape, (2, 40), 3, seed + 4)[..., None]
    colour = colour * (1 + temper * np.array([0.05, 0.0, -0.06], np.float32))
    metallic = np.full(shape, 0.75, np.float32)
    roughness = (0.40 + 0.05 * mottle + 0.03 * streak).clip(0.22, 0.7)
    paints = _paint_marks(shape, theta, azimuth, streak, seed)
    for cover, paint in zip(paints, (YELLOW, BLUE), strict=True):
        coat = paint * (1 + 0.05 * mottle)[..., None]
        colour = colour * (1 - cover[..., None]) + coat * cover[..., None]
        metallic = metallic * (1 - cover)
        roughness = roughness * (1 - cover) + 0.46 * cover
    ground = _ground_ends(shape, theta)
    scratch = fractal_noise_2d(shape, (128, 8192), 1, seed + 7) * 0.5
    scratch = scratch + fractal_noise_2d(shape, (8, 4096), 2, seed + 8) * 0.6
    bright = GROUND_STEEL * (1 + 0.10 * scratch)[..., None]
    colour = colour * (1 - ground[..., None]) + bright * ground[..., None]
    roughness = roughness * (1 - ground) + 0.33 * ground
    metallic = metallic * (1 - ground) + 0.9 * ground
    if defect and defect["kind"] == "stain":
        cover, rust = _rust(shape, theta, azimuth, defect, seed)
        colour = colour * (1 - cover[..., None]) + rust * cover[..., None]
        metallic = metallic * (1 - cover)
        roughness = roughness * (1 - cover) + 0.85 * cover
    return Surface(colour.clip(0, 1), metallic.clip(0, 1), roughness.clip(0.05, 1))


def _paint_marks(shape, theta, azimuth, streak, seed):
    """Cover of the worn yellow stripe (one azimuth) and of the blue mark (one turn), [H, W]."""
    ragged = 0.05 * fractal_noise_2d(shape, (8, 700), 3, seed + 5) + 0.012 * streak
    wear = fractal_noise_2d(shape, (16, 1400), 4, seed + 6)
    outer = np.cos(theta)[:, None]
    within = (azimuth + np.pi) % (2 * np.pi) - np.pi
    stripe = smoothstep((0.24 - np.abs(within[None] - 0.15) + ragged) / 0.03)
    stripe = stripe * smoothstep((outer + 0.35 + 2.0 * ragged) / 0.15)
    stripe = stripe * smoothstep((1.9 - wear) / 0.25)
    along = np.abs(azimuth - 3.62 * 2 * np.pi)
    mark = smoothstep((0.33 - along[None] + 0.8 * ragged) / 0.03)
    mark = mark * smoothstep((outer + 0.55 + 2 * ragged) / 0.15)
    mark = mark * smoothstep((2.1 - wear) / 0.25)
    return stripe, mark


def _ground_ends(shape, theta):
    """1 where the end faces were ground flat, [H, W] float32."""
    _, _, centre = centreline(shape[1])
    height = centre[None] + WIRE_RADIUS * np.sin(theta)[:, None]
    low, high = centre[0] + 0.5 * WIRE_RADIUS, centre[-1] - 0.5 * WIRE_RADIUS
    return ((height < low) | (height > high)).astype(np.float32)


def _rust(shape, theta, azimuth, defect, seed):
    """Cover [H, W] and colour [H, W, 3] of a rust patch."""
    # other defects shift the noise along the wire, so that no two patches look alike
    shift = defect.get("seed", 0) % shape[1]
    along = (azimuth - defect["turn"] * 2 * np.pi)[None] * COIL_RADIUS / WIRE_RADIUS * 0.5
    around = (theta[:, None] - defect["theta"] + np.pi) % (2 * np.pi) - np.pi
    reach = np.sqrt((along / defect["size"]) ** 2 + (around / defect["size"]) ** 2)
    edge = np.roll(fractal_noise_2d(shape, (8, 330), 5, seed + 20), shift, 1)
    cover = smoothstep((1.0 - reach - 0.22 * edge) / 0.25).astype(np.float32)
    depth = np.roll(fractal_noise_2d(shape, (16, 660), 5, seed + 21), shift, 1)
    return cover, RUST * np.exp(0.35 * depth)[..., None]


def mesh(defect: dict | None = None) -> Mesh:
    """The spring with its ends ground flat, centred on the origin; with a defect of the shape."""
    kind = defect["kind"] if defect else None
    turn, azimuth, height = centreline()
    theta = np.arange(RING_POINTS) / RING_POINTS * 2 * np.pi
    coil = np.full(NUM_RINGS, COIL_RADIUS)
    low, high = height[0] + 0.5 * WIRE_RADIUS, height[-1] - 0.5 * WIRE_RADIUS
    if kind == "bent":  # one arc pushed out of its turn; the rest stays in place
        bump = np.exp(-0.5 * ((turn - defect["turn"]) / defect["span"]) ** 2)
        coil = coil + defect["push"] * bump
        height = height + defect["lift"] * bump
    outwards = np.stack([np.cos(azimuth), np.sin(azimuth), 0 * azimuth], 1)  # [U, 3]
    upwards = np.array([0, 0, 1.0])
    from_tip = np.minimum(turn, TURNS - turn) * ARC_PER_TURN / (0.9 * WIRE_RADIUS)
    rounding = np.sqrt(np.clip(1 - (1 - from_tip.clip(0, 1)) ** 2, 0, 1))
    radius = np.full((NUM_RINGS, RING_POINTS), WIRE_RADIUS)
    radius = radius * (0.72 + 0.28 * rounding)[:, None]
    if kind == "burr":
        radius = radius + _burr_height(turn, theta, defect)
    across = (coil[:, None] + radius * np.cos(theta))[..., None]
    points = outwards[:, None] * across
    points = points + upwards * (height[:, None] + radius * np.sin(theta))[..., None]  # [U, K, 3]
    if kind == "missing":
        direction = outwards * np.cos(defect["theta"]) + upwards * np.sin(defect["theta"])
        points = points - _notch_depth(turn, theta, radius, defect)[..., None] * direction[:, None]
    points[..., 2] = points[..., 2].clip(low, high) - 0.5 * (low + high)
    return _tube_mesh(points)


def _offsets(turn, theta, defect):
    """Way from the defect along the wire and around it, world units, each [U, K]."""
    along = (turn - defect["turn"]) * ARC_PER_TURN
    around = ((theta - defect["theta"] + np.pi) % (2 * np.pi) - np.pi) * WIRE_RADIUS
    return np.meshgrid(along, around, indexing="ij")


def _burr_height(turn, theta, defect):
    """A jagged flake: a low root with a ridge and two or three teeth on it, [U, K]."""
    rng = np.random.default_rng(defect["seed"])
    along, around = _offsets(turn, theta, defect)
    size = defect["size"]
    angle = rng.uniform(0, np.pi)
    u = (along * np.cos(angle) + around * np.sin(angle)) / size
    v = (around * np.cos(angle) - along * np.sin(angle)) / size
    root = 0.45 * np.exp(-((u**2 + (v / 0.75) ** 2) ** 1.4))
    teeth = 0.0
    for place in np.linspace(-0.55, 0.55, rng.integers(2, 4)) + rng.uniform(-0.12, 0.12):
        height = rng.uniform(0.45, 0.9)
        reach = np.sqrt(((u - place) / 0.42) ** 2 + ((v - rng.uniform(-0.2, 0.2)) / 0.36) ** 2)
        teeth = np.maximum(teeth, height * np.clip(1 - reach, 0, 1) ** 0.8)
    return defect["height"] * (root + teeth)


def _notch_depth(turn, theta, radius, defect):
    """How far the surface is cut back against the defect's direction, [U, K]."""
    rng = np.random.default_rng(defect["seed"])
    along, around = _offsets(turn, theta, defect)
    size = defect["size"]
    rough = 0.0
    for across, round_ in ((1, 1), (2, 3), (4, 2), (7, 5)):
        phase = along / size * across * 3 + around / WIRE_RADIUS * round_
        rough = rough + rng.uniform(-1, 1) * np.sin(phase + rng.uniform(0, 2 * np.pi))
    floor = WIRE_RADIUS * (1 - defect["depth"]) + 0.06 * WIRE_RADIUS * rough
    floor = floor + np.maximum(np.abs(along) - size, 0) * 2.2  # walls of the notch
    height = radius * np.cos(theta - defect["theta"])
    return np.clip(height - floor, 0, None)


def _tube_mesh(points) -> Mesh:
    """Closed tube over rings of points [U, K, 3]: a seam doubled for uv, and two flat caps."""
    rings, around = points.shape[:2]
    closed = np.concatenate([points, points[:, :1]], 1)  # [U, K + 1, 3]
    u, v = np.meshgrid(np.linspace(0, 1, rings), np.arange(around + 1) / around, indexing="ij")
    uv = np.stack([u, v], -1).reshape(-1, 2)
    i, j = np.meshgrid(np.arange(rings - 1), np.arange(around), indexing="ij")
    a = i * (around + 1) + j
    b = a + around + 1
    quads = [np.stack([a, b, b + 1], -1), np.stack([a, b + 1, a + 1], -1)]
    faces = np.concatenate([q.reshape(-1, 3) for q in quads])
    vertices, num_tube = closed.reshape(-1, 3), rings * (around + 1)
    k = np.arange(around)
    for ring, neighbour in ((0, 1), (rings - 1, rings - 2)):
        centre = len(vertices)
        rim = centre + 1 + k
        vertices = np.vstack([vertices, points[ring].mean(0), closed[ring]])
        end_uv = np.stack([np.full(around + 1, float(ring > 0)), np.arange(around + 1) / around], 1)
        uv = np.vstack([uv, [float(ring > 0), 0.5], end_uv])
        cap = np.stack([np.full(around, centre), rim, rim + 1], 1)
        outwards = points[ring].mean(0) - points[neighbour].mean(0)
        if unit(_summed_normal(vertices, cap)) @ outwards < 0:
            cap = cap[:, [0, 2, 1]]
        faces = np.vstack([faces, cap])
    normals = vertex_normals(vertices, faces)
    tube = normals[:num_tube].reshape(rings, around + 1, 3)
    tube[:, 0] = tube[:, around] = tube[:, 0] + tube[:, around]  # no crease along the seam
    return Mesh(
        vertices.astype(np.float32),
        faces.astype(np.uint32),
        unit(normals).astype(np.float32),
        uv=uv.astype(np.float32),
    )


def _summed_normal(vertices, faces):
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a).sum(0)
