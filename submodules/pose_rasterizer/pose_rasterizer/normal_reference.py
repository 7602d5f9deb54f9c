"""The normal equations in plain torch: forward-mode derivatives of the reference rasterizer.

The definition that compiled back ends are tested against; any dtype. Unlike them it holds the whole
Jacobian of a camera.
"""

import torch
from torch import Tensor

from pose_rasterizer import reference


def twist_generators(like: Tensor) -> Tensor:
    """The six generators [6, 4, 4] of a twist (rho, phi), by which it multiplies from the left."""
    generators = like.new_zeros(6, 4, 4)
    for axis in range(3):
        generators[axis, axis, 3] = 1
        after, last = (axis + 1) % 3, (axis + 2) % 3
        generators[3 + axis, after, last] = -1
        generators[3 + axis, last, after] = 1
    return generators


def image_and_columns(
    gaussians, viewmat: Tensor, intrinsics: Tensor, settings, direction_term: bool
):
    """Premultiplied colours and alpha [C + 1, H, W] and their derivatives [6, C + 1, H, W].

    Args:
        gaussians: means, quats, scales, opacities, features.
        direction_term: whether SH colours depend on the camera's position.
    """
    *geometry, features = gaussians
    sh, colours = (features, None) if settings.num_coeffs else (None, features)
    if sh is not None and not direction_term:
        colours = reference.colours_from_sh(geometry[0], sh, viewmat, settings.sh_degree)
        sh = None
    black = features.new_zeros(features.shape[-1])

    def render(pose: Tensor) -> Tensor:
        image, alpha, _, _ = reference.rasterize_camera(
            *geometry, sh, colours, pose, intrinsics, settings.size, black, None,
            settings.sh_degree, settings.near,
        )  # fmt: skip
        return torch.cat([image, alpha])

    columns = []
    for generator in twist_generators(viewmat):
        value, column = torch.func.jvp(render, (viewmat,), (generator @ viewmat,))
        columns.append(column)
    return value, torch.stack(columns)


def _robust(residual: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Cost and weight of Geman and McClure: r^2 / 2 / (1 + r^2 / s^2); s = 0 is least squares."""
    inverse = torch.where(scale > 0, 1 / scale.clamp_min(1e-30) ** 2, torch.zeros_like(scale))
    damp = 1 / (1 + residual**2 * inverse)
    return (0.5 * weight * residual**2 * damp).sum(), weight * damp**2


def normal_equations(gaussians, viewmats, intrinsics, residuals, settings, direction_term):
    """As `normal_native.normal_equations`; outputs have the inputs' dtype and device."""
    target, weight, gain, offset, backdrop, robust_scale, shape, shape_weight = residuals
    systems = []
    for b in range(viewmats.shape[0]):
        value, columns = image_and_columns(
            gaussians, viewmats[b], intrinsics[b], settings, direction_term
        )
        image, alpha = value[:-1], value[-1:]
        channels = image.shape[0]
        g, o, back = (t[b][:, None, None] for t in (gain, offset, backdrop))
        residual = g * image + o * alpha + back * (1 - alpha) - target[b]  # [C, H, W]
        d_alpha = columns[:, -1:]
        jacobian = residual.new_zeros(6 + 2 * channels, channels, *residual.shape[1:])
        jacobian[:6] = g * columns[:, :-1] + (o - back) * d_alpha
        for c in range(channels):
            jacobian[6 + c, c] = image[c]
            jacobian[6 + channels + c, c] = alpha[0]
        cost, w = _robust(residual, weight[b], robust_scale[:, None, None])
        if shape is not None:
            residual = torch.cat([residual, alpha - shape[b]])
            extra = torch.cat([d_alpha, d_alpha.new_zeros(2 * channels, *d_alpha.shape[1:])])
            jacobian = torch.cat([jacobian, extra], 1)
            cost = cost + 0.5 * (shape_weight[b] * residual[-1:] ** 2).sum()
            w = torch.cat([w, shape_weight[b]])
        weighted = (jacobian * w).flatten(1)
        flat = jacobian.flatten(1)
        systems.append((cost, weighted @ flat.T, weighted @ residual.flatten(), image, alpha))
    return tuple(torch.stack(parts) for parts in zip(*systems, strict=True))
