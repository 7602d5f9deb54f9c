"""Camera poses of the generator: OpenGL camera_to_world (x right, y up, looks along -z)."""

import numpy as np

FOV_X = 0.6911112070083618  # rad; Blender's default camera, as in the NeRF and MAD data sets


def look_at(eye, target=(0.0, 0.0, 0.0), roll: float = 0.0) -> np.ndarray:
    """Pose of a camera at `eye` that looks at `target` with world z up.

    Args:
        eye, target: points in world units, [3].
        roll: turn about the viewing direction in rad.
    Returns:
        camera_to_world, [4, 4] float64, OpenGL axes.
    """
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    backward = eye - target
    backward /= np.linalg.norm(backward)
    up = np.array([0, 0, 1.0]) if abs(backward[2]) < 0.999 else np.array([0, 1.0, 0])
    right = np.cross(up, backward)
    right /= np.linalg.norm(right)
    up = np.cross(backward, right)
    cos, sin = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, 0] = cos * right + sin * up
    pose[:3, 1] = -sin * right + cos * up
    pose[:3, 2] = backward
    pose[:3, 3] = eye
    return pose


def fibonacci_directions(count: int) -> np.ndarray:
    """`count` directions spread evenly over the unit sphere, [count, 3]."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    azimuth = index * np.pi * (3 - 5**0.5)
    radius = np.sqrt(1 - z * z)
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], 1)


def random_direction(rng: np.random.Generator) -> np.ndarray:
    """A direction drawn evenly from the unit sphere, [3]."""
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def direction_near(axis, max_angle: float, rng: np.random.Generator) -> np.ndarray:
    """A direction drawn evenly from the cap of `max_angle` rad about `axis`, [3]."""
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    side = np.cross(axis, [0, 0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0, 0])
    side /= np.linalg.norm(side)
    cos = rng.uniform(np.cos(max_angle), 1)
    turn = rng.uniform(0, 2 * np.pi)
    across = np.cos(turn) * side + np.sin(turn) * np.cross(axis, side)
    return cos * axis + np.sqrt(1 - cos * cos) * across


def spherical(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector at azimuth (from x towards y) and elevation (from the xy plane), rad."""
    return np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
