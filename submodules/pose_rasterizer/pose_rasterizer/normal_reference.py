"""The normal equations in plain torch: forward-mode derivatives of the reference rasterizer.

The definition that compiled back ends are tested against; any dtype. Unlike them it holds the whole
Jacobian of a camera.
"""

import torch
from torch import Tensor

from pose_rasterizer import reference

TILE = 8  # px; a window of light="tile"


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


def normal_equations(gaussians, viewmats, intrinsics, residuals, settings, choices):
    """As `normal_native.normal_equations`; outputs have the inputs' dtype and device."""
    systems = []
    for b in range(viewmats.shape[0]):
        value, columns = image_and_columns(
            gaussians, viewmats[b], intrinsics[b], settings, choices.direction_term
        )
        *images, robust_scale, shape, shape_weight = residuals
        own = [t[b] for t in images]  # target, weight [C, H, W], gain, offset, backdrop [C]
        outline = None if shape is None else (shape[b], shape_weight[b])
        if choices.by_tile:
            system = _window_system(value, columns, own, robust_scale, outline, choices)
        else:
            system = _light_system(value, columns, own, robust_scale, outline)
        systems.append((*system, value[:-1], value[-1:]))
    return tuple(torch.stack(parts) for parts in zip(*systems, strict=True))


def _light_system(value: Tensor, columns: Tensor, own: list[Tensor], robust_scale, outline):
    """Cost, H, g of one camera over pose, gains and offsets.

    Args:
        value, columns: as from `image_and_columns`.
        own: target, weight, gain, offset, backdrop.
        outline: the silhouette's target and weight [1, H, W], or None.
    """
    image, alpha = value[:-1], value[-1:]
    channels = image.shape[0]
    target, weight = own[:2]
    g, o, back = (t[:, None, None] for t in own[2:])
    residual = g * image + o * alpha + back * (1 - alpha) - target  # [C, H, W]
    d_alpha = columns[:, -1:]
    jacobian = residual.new_zeros(6 + 2 * channels, channels, *residual.shape[1:])
    jacobian[:6] = g * columns[:, :-1] + (o - back) * d_alpha
    for c in range(channels):
        jacobian[6 + c, c] = image[c]
        jacobian[6 + channels + c, c] = alpha[0]
    cost, w = _robust(residual, weight, robust_scale[:, None, None])
    if outline is not None:
        shape, shape_weight = outline
        residual = torch.cat([residual, alpha - shape])
        extra = torch.cat([d_alpha, d_alpha.new_zeros(2 * channels, *d_alpha.shape[1:])])
        jacobian = torch.cat([jacobian, extra], 1)
        cost = cost + 0.5 * (shape_weight * residual[-1:] ** 2).sum()
        w = torch.cat([w, shape_weight])
    weighted = (jacobian * w).flatten(1)
    return cost, weighted @ jacobian.flatten(1).T, weighted @ residual.flatten()


def _window_system(value: Tensor, columns: Tensor, own, robust_scale, outline, choices):
    """Cost, H, g of one camera over the pose, each tile's light divided out; as `_light_system`."""
    image, alpha = value[:-1], value[-1:]
    target, weight, _, _, backdrop = own
    back = backdrop[:, None, None]
    shown = image + back * (1 - alpha)
    jacobian = columns[:, :-1] - back * columns[:, -1:]
    scale = robust_scale
    if outline is not None:
        shown, target = torch.cat([shown, alpha]), torch.cat([target, outline[0]])
        jacobian = torch.cat([jacobian, columns[:, -1:]], 1)
        weight = torch.cat([weight, outline[1]])
        scale = torch.cat([scale, scale.new_tensor([choices.silhouette_scale])])
    height, width = shown.shape[1:]
    cost, hessian, gradient = value.new_zeros(()), value.new_zeros(6, 6), value.new_zeros(6)
    for y in range(0, height, TILE):
        for x in range(0, width, TILE):
            window = (..., slice(y, y + TILE), slice(x, x + TILE))
            for c in range(len(shown)):
                part = _window(
                    *(t[c][window].flatten() for t in (shown, target, weight)),
                    jacobian[:, c][window].flatten(1), float(scale[c]), choices.contrast_floor,
                )  # fmt: skip
                cost, hessian, gradient = cost + part[0], hessian + part[1], gradient + part[2]
    return cost, hessian, gradient


def _window(m: Tensor, q: Tensor, w: Tensor, jacobian: Tensor, scale: float, floor: float):
    """Cost, H [6, 6], g [6] of one channel in one window of n pixels.

    Args:
        m, q, w: rendering, target, weights, [n]; jacobian: of m, [6, n].
    """
    total = w.sum()
    if not total > 0:
        return 0.0, 0.0, 0.0

    def normalised(values: Tensor) -> Tensor:
        centred = values - (w * values).sum() / total
        return centred / ((w * centred**2).sum() / total + floor**2).sqrt()

    shown, columns = torch.func.vmap(
        lambda column: torch.func.jvp(normalised, (m,), (column,)), out_dims=(None, 0)
    )(jacobian)
    residual = shown - normalised(q)
    energy = (w * residual**2).sum() / total
    damp = 1 / (1 + energy / scale**2) if scale > 0 else torch.ones_like(energy)
    factor = w * damp**2
    return (
        0.5 * total * energy * damp,
        (columns * factor) @ columns.T,
        columns @ (factor * residual),
    )
