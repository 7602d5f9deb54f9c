"""Rigid motions of a few dozen poses on the host, in numpy (as `gaussian_renderer.se3`).

Steps of the refinement work on arrays of 6 numbers; there a call of torch costs ten times a call of
numpy, and a GPU waits for it.
"""

from __future__ import annotations

import numpy as np

from gaussian_renderer.se3 import SERIES_BELOW


def hat(phi: np.ndarray) -> np.ndarray:
    """Cross-product matrix [N, 3, 3] of vectors [N, 3]."""
    skew = np.zeros((len(phi), 3, 3))
    x, y, z = phi.T
    skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2] = -z, y, -x
    skew[:, 1, 0], skew[:, 2, 0], skew[:, 2, 1] = z, -y, x
    return skew


def se3_exp(twist: np.ndarray) -> np.ndarray:
    """Rigid motion [N, 4, 4] of a twist [N, 6] (rho, phi)."""
    phi = twist[:, 3:]
    square = (phi * phi).sum(1)
    angle = np.sqrt(square)
    a = np.sinc(angle / np.pi)  # sin t / t
    b = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2  # (1 - cos t) / t^2
    small = square < SERIES_BELOW
    safe = np.where(small, 1.0, square)
    series = 1 / 6 - square / 120 * (1 - square / 42)
    c = np.where(small, series, (1 - a) / safe)  # (t - sin t) / t^3
    skew = hat(phi)
    twice = skew @ skew
    motion = np.zeros((len(twist), 4, 4))
    motion[:, 3, 3] = 1
    eye = np.eye(3)
    motion[:, :3, :3] = eye + a[:, None, None] * skew + b[:, None, None] * twice
    turned = eye + b[:, None, None] * skew + c[:, None, None] * twice
    motion[:, :3, 3] = (turned @ twist[:, :3, None])[:, :, 0]
    return motion


def pivoted_basis(pivot: np.ndarray, size: int) -> np.ndarray:
    """[N, size, size] from steps about `pivot` [N, 3], in units of its distance, to camera twists.

    Numbers beyond the first six are left as they are.
    """
    basis = np.zeros((len(pivot), size, size))
    basis[:, range(size), range(size)] = 1
    basis[:, range(3), range(3)] = np.sqrt((pivot * pivot).sum(1))[:, None]
    basis[:, :3, 3:6] = hat(pivot)
    return basis
