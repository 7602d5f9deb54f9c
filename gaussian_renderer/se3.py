"""Rigid motions: exponential and logarithm of SE(3), and the distance of two poses.

A twist is (rho, phi): translation part first, then the rotation vector in radians, as in
Sola, Deray, Atchuthan, "A micro Lie theory", appendix D.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

SERIES_BELOW = 1e-4  # rad^2; under it the Taylor series is exact to float64 rounding


def hat(phi: Tensor) -> Tensor:
    """Cross-product matrix [..., 3, 3] of vectors [..., 3]."""
    x, y, z = phi.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, -1).reshape(*phi.shape[:-1], 3, 3)


def _coefficients(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sin(t)/t, (1-cos t)/t^2, (t-sin t)/t^3 of t^2, differentiable at 0."""
    small = square < SERIES_BELOW
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6 * (1 - square / 20), angle.sin() / angle)
    # 1 - cos t = 2 sin^2(t/2) keeps its digits for small angles
    half = (0.5 * angle).sin()
    b = torch.where(small, 0.5 - square / 24 * (1 - square / 30), 2 * half * half / safe)
    c = torch.where(
        small, 1 / 6 - square / 120 * (1 - square / 42), (angle - angle.sin()) / (safe * angle)
    )
    return a, b, c


def se3_exp(twist: Tensor) -> Tensor:
    """Rigid motion [..., 4, 4] of a twist [..., 6] (rho, phi)."""
    rho, phi = twist[..., :3], twist[..., 3:]
    a, b, c = (k[..., None, None] for k in _coefficients((phi * phi).sum(-1)))
    skew = hat(phi)
    square = skew @ skew
    eye = torch.eye(3, dtype=twist.dtype, device=twist.device).expand(skew.shape)
    rotation = eye + a * skew + b * square
    translation = (eye + b * skew + c * square) @ rho[..., None]
    top = torch.cat([rotation, translation], -1)
    bottom = torch.eye(4, dtype=twist.dtype, device=twist.device)[3:]  # made there: no copy
    return torch.cat([top, bottom.expand(*top.shape[:-2], 1, 4)], -2)


def so3_log(rotation: Tensor) -> Tensor:
    """Rotation vector [..., 3] in radians of rotations [..., 3, 3]; angles up to pi."""
    # Through the quaternion, whose largest component is never small: stable at 0 and at pi.
    trace = rotation.diagonal(dim1=-2, dim2=-1).sum(-1)
    d0, d1, d2 = rotation.diagonal(dim1=-2, dim2=-1).unbind(-1)
    r = rotation
    squares = torch.stack([1 + trace, 1 + 2 * d0 - trace, 1 + 2 * d1 - trace, 1 + 2 * d2 - trace])
    candidates = torch.stack(
        [
            torch.stack(
                [
                    squares[0],
                    r[..., 2, 1] - r[..., 1, 2],
                    r[..., 0, 2] - r[..., 2, 0],
                    r[..., 1, 0] - r[..., 0, 1],
                ],
                -1,
            ),
            torch.stack(
                [
                    r[..., 2, 1] - r[..., 1, 2],
                    squares[1],
                    r[..., 0, 1] + r[..., 1, 0],
                    r[..., 0, 2] + r[..., 2, 0],
                ],
                -1,
            ),
            torch.stack(
                [
                    r[..., 0, 2] - r[..., 2, 0],
                    r[..., 0, 1] + r[..., 1, 0],
                    squares[2],
                    r[..., 1, 2] + r[..., 2, 1],
                ],
                -1,
            ),
            torch.stack(
                [
                    r[..., 1, 0] - r[..., 0, 1],
                    r[..., 0, 2] + r[..., 2, 0],
                    r[..., 1, 2] + r[..., 2, 1],
                    squares[3],
                ],
                -1,
            ),
        ]
    )  # [4, ..., 4]
    best = squares.argmax(0)[None, ..., None].expand(1, *rotation.shape[:-2], 4)
    quaternion = torch.nn.functional.normalize(candidates.gather(0, best)[0], dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    w, vector = quaternion[..., :1], quaternion[..., 1:]
    length = vector.norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(length, w)
    factor = torch.where(
        length < 1e-12, 2 * torch.ones_like(length), angle / length.clamp_min(1e-12)
    )
    return vector * factor


def se3_log(motion: Tensor) -> Tensor:
    """Twist [..., 6] (rho, phi) of rigid motions [..., 4, 4]."""
    phi = so3_log(motion[..., :3, :3])
    a, b, c = (k[..., None, None] for k in _coefficients((phi * phi).sum(-1)))
    skew = hat(phi)
    eye = torch.eye(3, dtype=motion.dtype, device=motion.device)
    jacobian = eye + b * skew + c * (skew @ skew)
    rho = torch.linalg.solve(jacobian, motion[..., :3, 3:])[..., 0]
    return torch.cat([rho, phi], -1)


def pivoted_basis(pivot: Tensor, unit: Tensor | float) -> Tensor:
    """[..., 6, 6] from steps about `pivot` [..., 3] to twists of the camera.

    T exp(z) T^-1 = exp(Ad_T z): rho = unit rho' + pivot x phi', phi = phi'.

    Args:
        unit: of the steps' translation, [...] or one number.
    """
    basis = torch.eye(6, dtype=pivot.dtype, device=pivot.device).repeat(*pivot.shape[:-1], 1, 1)
    basis[..., :3, :3] *= torch.as_tensor(unit).to(pivot)[..., None, None]
    basis[..., :3, 3:] = hat(pivot)
    return basis


def pose_error(world_to_camera_a: Tensor, world_to_camera_b: Tensor) -> tuple[float, float]:
    """Angle between two poses in degrees, and distance of their camera centres in world units.

    Of rotations that differ by the angle t, ||A - B|| = 2 sqrt(2) sin(t / 2) (Frobenius).
    """
    a, b = (
        torch.as_tensor(pose, dtype=torch.float64).detach().cpu().numpy()
        for pose in (world_to_camera_a, world_to_camera_b)
    )
    half = np.linalg.norm(a[:3, :3] - b[:3, :3]) / math.sqrt(8)
    apart = np.linalg.norm(a[:3, :3].T @ a[:3, 3] - b[:3, :3].T @ b[:3, 3])
    return math.degrees(2 * math.asin(min(1.0, half))), float(apart)
