"""Value noise with fixed seeds: on a periodic rectangle (textures) and in space (solids)."""

import numpy as np


def fractal_noise_2d(shape, cells, octaves: int, seed: int, persistence: float = 0.55):
    """Sum of octaves of smooth value noise, about zero mean and unit variance.

    Args:
        shape: rows and columns of the result; both directions are periodic.
        cells: lattice cells down and across in the first octave; doubled in each further one.
        octaves: how many are added.
        seed: of the lattice's values.
        persistence: amplitude ratio of neighbouring octaves.
    Returns:
        [rows, columns] float32.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(shape, np.float32)
    amplitude, power = 1.0, 0.0
    down, across = cells
    for _ in range(octaves):
        lattice_shape = min(down, shape[0]), min(across, shape[1])
        lattice = rng.standard_normal(lattice_shape).astype(np.float32)
        y = np.arange(shape[0]) / shape[0] * lattice_shape[0]
        x = np.arange(shape[1]) / shape[1] * lattice_shape[1]
        y0, x0 = y.astype(int), x.astype(int)
        fy, fx = _fade(y - y0)[:, None], _fade(x - x0)
        y1, x1 = (y0 + 1) % lattice_shape[0], (x0 + 1) % lattice_shape[1]
        above = lattice[y0][:, x0] * (1 - fx) + lattice[y0][:, x1] * fx
        below = lattice[y1][:, x0] * (1 - fx) + lattice[y1][:, x1] * fx
        total += amplitude * (above * (1 - fy) + below * fy)
        power += amplitude * amplitude
        amplitude *= persistence
        down, across = down * 2, across * 2
    return total / np.sqrt(power)


def fractal_noise_3d(points, frequency: float, seed: int, octaves: int = 4):
    """The same in space, at points [N, 3]; `frequency` in cells per world unit; [N] float32."""
    rng = np.random.default_rng(seed)
    total = np.zeros(len(points), np.float32)
    amplitude, power, size, persistence = 1.0, 0.0, 48, 0.55
    for _ in range(octaves):
        lattice = rng.standard_normal((size,) * 3).astype(np.float32)
        where = points * frequency + rng.uniform(0, size, 3)
        corner = np.floor(where).astype(int)
        f = _fade((where - corner).astype(np.float32))
        value = 0.0
        for dx, dy, dz in np.ndindex(2, 2, 2):
            weight = (
                (f[:, 0] if dx else 1 - f[:, 0])
                * (f[:, 1] if dy else 1 - f[:, 1])
                * (f[:, 2] if dz else 1 - f[:, 2])
            )
            i, j, k = ((corner + (dx, dy, dz)) % size).T
            value = value + weight * lattice[i, j, k]
        total += amplitude * value
        power += amplitude * amplitude
        amplitude *= persistence
        frequency *= 2.03  # not 2: lattices of different octaves must not line up
    return total / np.sqrt(power)


def _fade(x):
    return x * x * (3 - 2 * x)
