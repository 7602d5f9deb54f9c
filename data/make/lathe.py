"""Outlines about z and surfaces of revolution with relief and colour per vertex."""

from collections.abc import Callable

import numpy as np

from .mesh import Mesh, unit, vertex_normals


def smooth_outline(corners, count: int) -> np.ndarray:
    """z, radius and its slope, smooth between corners (z, radius) without overshoot, [3, count]."""
    from scipy.interpolate import PchipInterpolator

    curve = PchipInterpolator(*np.array(corners).T)
    z = np.linspace(corners[0][0], corners[-1][0], count)
    return np.stack([z, curve(z), curve(z, 1)])


def from_outline(outline: np.ndarray, reach, z):
    """Distance-like value of a `smooth_outline` turned about z; `reach` is from the axis."""
    heights, radius, slope = outline
    return (reach - np.interp(z, heights, radius)) / np.hypot(1, np.interp(z, heights, slope))


def on_outline(outline: np.ndarray, z: float, azimuth: float) -> tuple[np.ndarray, np.ndarray]:
    """The point of a turned `smooth_outline` at a height and an azimuth, its normal; each [3]."""
    heights, radius, slope = outline
    out = np.array([np.cos(azimuth), np.sin(azimuth), 0])
    point = np.interp(z, heights, radius) * out + [0, 0, z]
    return point, unit(out - [0, 0, np.interp(z, heights, slope)])


def turned_mesh(profile, num_along: int, num_around: int, relief: Callable | None = None):
    """Turn an outline about z into a closed mesh.

    Args:
        profile: corners of the outline from the axis below to the axis above, [K, 2] (radius, z)
            in world units; it is resampled evenly by its length.
        num_along, num_around: vertices along the outline and around the axis.
        relief: takes points [A, B, 3], unit normals [A, B, 3], length along the outline [A, B]
            and azimuth [A, B] in rad, and returns points displaced.
    Returns:
        The Mesh (no material), length along the outline [N] and azimuth [N] of its vertices.
    """
    profile = np.asarray(profile, float)
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    along = np.linspace(0, lengths[-1], num_along)
    radius, z = (np.interp(along, lengths, profile[:, k]) for k in range(2))
    tangent = np.stack([np.gradient(radius), np.gradient(z)], 1)
    outward = unit(np.stack([tangent[:, 1], -tangent[:, 0]], 1))
    azimuth = np.linspace(0, 2 * np.pi, num_around + 1)  # the seam's column stands twice
    cos, sin = np.cos(azimuth), np.sin(azimuth)

    def turned(values):
        flat = np.broadcast_to(values[:, 1:], (num_along, num_around + 1))
        return np.stack([values[:, :1] * cos, values[:, :1] * sin, flat], -1)

    points, normals = turned(np.stack([radius, z], 1)), turned(outward)
    along, azimuth = np.meshgrid(along, azimuth, indexing="ij")
    if relief is not None:
        points = relief(points, normals, along, azimuth)
    i, j = np.meshgrid(np.arange(num_along - 1), np.arange(num_around), indexing="ij")
    a = i * (num_around + 1) + j
    b = a + num_around + 1
    quads = [np.stack([a, a + 1, b + 1], -1), np.stack([a, b + 1, b], -1)]
    faces = np.concatenate([q.reshape(-1, 3) for q in quads])
    vertices = points.reshape(-1, 3)
    sums = vertex_normals(vertices, faces).reshape(num_along, num_around + 1, 3)
    sums[:, 0] = sums[:, -1] = sums[:, 0] + sums[:, -1]
    sums[0], sums[-1] = sums[0].sum(0), sums[-1].sum(0)  # the poles
    mesh = Mesh(
        vertices.astype(np.float32),
        faces.astype(np.uint32),
        unit(sums).reshape(-1, 3).astype(np.float32),
    )
    return mesh, along.ravel(), azimuth.ravel()
