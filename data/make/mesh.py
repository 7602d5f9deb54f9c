"""Triangle meshes with what a renderer needs of their surface, and solids given by distance."""

from dataclasses import dataclass

import numpy as np


@dataclass
class Mesh:
    """A closed or open surface in world units.

    Either `uv` (with a Surface of textures) or `colour`, `metallic` and `roughness` per vertex.
    """

    vertices: np.ndarray  # [N, 3] float32
    faces: np.ndarray  # [M, 3] uint32, counter-clockwise seen from outside
    normals: np.ndarray  # [N, 3] float32, unit, outwards
    uv: np.ndarray | None = None  # [N, 2] float32
    colour: np.ndarray | None = None  # [N, 3] float32, linear base colour in 0..1
    metallic: np.ndarray | None = None  # [N] float32 in 0..1
    roughness: np.ndarray | None = None  # [N] float32 in 0..1

    def painted(self, look: np.ndarray, least_roughness: float = 0.15) -> "Mesh":
        """Itself, with colour, metallic and roughness per vertex [N, 5], and unit normals."""
        self.colour = look[:, :3].clip(0.01, 0.95).astype(np.float32)
        self.metallic = look[:, 3].astype(np.float32)
        self.roughness = look[:, 4].clip(least_roughness, 1).astype(np.float32)
        self.normals = unit(self.normals).astype(np.float32)
        return self


@dataclass
class Surface:
    """Textures of a Mesh with uv: base colour [H, W, 3] linear, metallic and roughness [H, W]."""

    colour: np.ndarray
    metallic: np.ndarray
    roughness: np.ndarray


def face_normals(vertices, faces) -> np.ndarray:
    """Normals of the faces, as long as twice their area, [M, 3]."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices, faces) -> np.ndarray:
    """Area-weighted sums of the adjacent faces' normals, not normalised, [N, 3]."""
    per_face = face_normals(vertices, faces)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], per_face)
    return normals


def unit(vectors) -> np.ndarray:
    return vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-12)


def mesh_from_distance(distance, low, high, step: float) -> Mesh:
    """Zero level of `distance(x, y, z)` (negative inside) by marching cubes on a regular grid.

    Args:
        distance: takes three float32 arrays of one shape and returns one like them.
        low, high: opposite corners of the grid, world units.
        step: grid spacing, world units.
    """
    from skimage.measure import marching_cubes

    axes = [np.arange(a, b, step) for a, b in zip(low, high, strict=True)]
    grid = np.meshgrid(*[a.astype(np.float32) for a in axes], indexing="ij")
    values = distance(*grid).astype(np.float32)
    vertices, faces, normals, _ = marching_cubes(
        values, 0.0, spacing=(step,) * 3, gradient_direction="ascent"
    )
    vertices = vertices + np.array([a[0] for a in axes])
    geometric = face_normals(vertices, faces)
    if np.einsum("ij,ij->", vertices[faces[:, 0]], geometric) < 0:
        faces, geometric = faces[:, ::-1], -geometric
    if (geometric * normals[faces[:, 0]]).sum() < 0:
        normals = -normals
    return Mesh(
        vertices.astype(np.float32),
        np.ascontiguousarray(faces).astype(np.uint32),
        normals.astype(np.float32),
    )


def disc(radius: float, z: float, segments: int = 128) -> Mesh:
    """A horizontal disc facing up, uv running over its bounding square with a small margin."""
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    rim = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(segments, z)], 1)
    vertices = np.vstack([[0, 0, z], rim]).astype(np.float32)
    k = np.arange(segments)
    faces = np.stack([np.zeros(segments), 1 + k, 1 + (k + 1) % segments], 1).astype(np.uint32)
    normals = np.tile([0, 0, 1], (segments + 1, 1)).astype(np.float32)
    uv = (vertices[:, :2] / (2.08 * radius) + 0.5).astype(np.float32)
    return Mesh(vertices, faces, normals, uv=uv)


def smooth_min(a, b, width: float):
    """Minimum with a fillet of about `width` (quadratic polynomial blend)."""
    h = np.clip(0.5 + 0.5 * (b - a) / width, 0, 1)
    return b * (1 - h) + a * h - width * h * (1 - h)


def cylinder(x, y, radius: float):
    """Distance to an endless cylinder about the axis that x and y leave out."""
    return np.sqrt(x * x + y * y) - radius


def rod(x, y, z, radius: float, bottom: float, top: float, rounding: float):
    """Distance-like value of a disc or bar about z with rounded edges."""
    ends = np.abs(z - (bottom + top) / 2) - (top - bottom) / 2
    return -smooth_min(-cylinder(x, y, radius), -ends, rounding)


def thread_depth(x, y, z, pitch: float):
    """How deep a right-handed thread about z is cut: 0 on its crest, 1 at its bottom."""
    turns = z / pitch - np.arctan2(y, x) / (2 * np.pi)
    off_crest = 2 * np.abs(turns - np.round(turns))
    return np.clip((off_crest - 0.25) / 0.5, 0, 1)


def hexagon(x, y, radius: float):
    """Distance-like value of an endless hexagonal prism with inner radius `radius`."""
    return np.maximum.reduce(
        [np.abs(x * np.cos(t) + y * np.sin(t)) - radius for t in (0, np.pi / 3, 2 * np.pi / 3)]
    )


def box(x, y, z, half, rounding: float = 0.0):
    """Distance to a box of half sizes `half` [3] with edges rounded by `rounding`."""
    q = [np.abs(v) - (h - rounding) for v, h in zip((x, y, z), half, strict=True)]
    outside = np.sqrt(sum(np.maximum(v, 0) ** 2 for v in q))
    return outside + np.minimum(np.maximum.reduce(q), 0) - rounding


def both(*distances):
    """Intersection of solids."""
    return np.maximum.reduce(distances)
