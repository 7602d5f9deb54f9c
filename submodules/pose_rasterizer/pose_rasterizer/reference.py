"""The rasterizer in plain torch: any dtype, any device, differentiable by autograd throughout.

This is the definition that the other back ends are tested against. It works on square blocks of
pixels; a block sees only the Gaussians whose visible ellipse's box touches it, which changes
nothing (elsewhere alpha is below 1/255 and skipped).
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

ALPHA_MIN = 1 / 255  # 3DGS: contributions below are skipped
ALPHA_MAX = 0.99  # 3DGS: alpha is clamped here
TRANSMITTANCE_MIN = 1e-4  # 3DGS: a pixel stops before falling below
BLUR_PX2 = 0.3  # 3DGS: low-pass filter on the image covariance's diagonal
FRUSTUM_MARGIN = 0.3  # 3DGS: the Jacobian is evaluated at most 1.3 half fields of view out
BLOCK_PX = 16  # side of a block of pixels
CHECKPOINT_PAIRS = 1 << 24  # (pixel, Gaussian) pairs kept for backward; beyond, recompute by block

SH_C0 = 0.28209479177387814
SH_C1 = 0.4886025119029199
SH_C2 = (1.0925484305920792, 0.31539156525252005, 0.5462742152960396)
SH_C3 = (
    0.5900435899266435,
    2.890611442640554,
    0.4570457994644658,
    0.3731763325901154,
    1.445305721320277,
)


def quat_to_rotation(quats: Tensor) -> Tensor:
    """Rotation matrices of quaternions w,x,y,z of any length: [N, 4] -> [N, 3, 3]."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1, eps=1e-12).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def sh_basis(degree: int, directions: Tensor) -> Tensor:
    """Real spherical harmonics in 3DGS order at unit directions: [N, 3] -> [N, (degree+1)^2]."""
    x, y, z = directions.unbind(-1)
    b = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        b += [-SH_C1 * y, SH_C1 * z, -SH_C1 * x]
    if degree >= 2:
        xx, yy, zz = x * x, y * y, z * z
        b += [SH_C2[0] * x * y, -SH_C2[0] * y * z, SH_C2[1] * (2 * zz - xx - yy)]
        b += [-SH_C2[0] * x * z, SH_C2[2] * (xx - yy)]
    if degree >= 3:
        b += [-SH_C3[0] * y * (3 * xx - yy), SH_C3[1] * x * y * z]
        b += [-SH_C3[2] * y * (4 * zz - xx - yy), SH_C3[3] * z * (2 * zz - 3 * xx - 3 * yy)]
        b += [-SH_C3[2] * x * (4 * zz - xx - yy), SH_C3[4] * z * (xx - yy)]
        b += [-SH_C3[0] * x * (xx - 3 * yy)]
    return torch.stack(b, -1)


def colours_from_sh(means: Tensor, sh: Tensor, viewmat: Tensor, degree: int) -> Tensor:
    """max(0, 0.5 + SH(direction from the camera)): [N, 3], [N, K, C] -> [N, C]."""
    centre = -viewmat[:3, :3].T @ viewmat[:3, 3]
    directions = means - centre
    directions = directions / directions.norm(dim=-1, keepdim=True)
    basis = sh_basis(degree, directions)  # [N, (degree+1)^2]
    return torch.clamp_min(0.5 + torch.einsum("nk,nkc->nc", basis, sh[:, : basis.shape[1]]), 0)


def project(means, quats, scales, viewmat, intrinsics, size):
    """EWA projection (Zwicker et al. 2001; 3DGS eq. 5).

    Returns:
        means2d [N, 2] px, covariance [N, 2, 2] px^2, z [N].
    """
    height, width = size
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    t = means @ viewmat[:3, :3].T + viewmat[:3, 3]  # [N, 3]
    x, y, z = t.unbind(-1)
    means2d = torch.stack([fx * x / z + cx, fy * y / z + cy], -1)
    margin_x, margin_y = FRUSTUM_MARGIN * width / (2 * fx), FRUSTUM_MARGIN * height / (2 * fy)
    ux = (x / z).clamp(min=-cx / fx - margin_x, max=(width - cx) / fx + margin_x)
    uy = (y / z).clamp(min=-cy / fy - margin_y, max=(height - cy) / fy + margin_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [
            torch.stack([fx / z, zero, -fx * ux / z], -1),
            torch.stack([zero, fy / z, -fy * uy / z], -1),
        ],
        -2,
    )  # [N, 2, 3]
    factor = jacobian @ viewmat[:3, :3] @ (quat_to_rotation(quats) * scales[:, None, :])
    blur = BLUR_PX2 * torch.eye(2, dtype=z.dtype, device=z.device)
    return means2d, factor @ factor.transpose(1, 2) + blur, z


def blend(pixels, means2d, conic, opacities, features) -> Tensor:
    """Blends Gaussians, given front to back, at pixel centres.

    Args:
        pixels: [P, 2] px. means2d: [N, 2]. conic: [N, 3] (xx, xy, yy). features: [N, F].
    Returns:
        [P, F + 1]: sums of weight times feature, then the sum of the weights.
    """
    dx = pixels[:, 0:1] - means2d[:, 0]  # [P, N]
    dy = pixels[:, 1:2] - means2d[:, 1]
    power = -0.5 * (conic[:, 0] * dx * dx + conic[:, 2] * dy * dy) - conic[:, 1] * dx * dy
    alpha = (opacities * power.exp()).clamp(max=ALPHA_MAX)
    alpha = torch.where(alpha >= ALPHA_MIN, alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=1)
    # `after` never rises, so the pixels' stop is a mask on its own
    kept = (after >= TRANSMITTANCE_MIN).to(alpha.dtype)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=1)
    weights = alpha * before * kept
    return torch.cat([weights @ features, weights.sum(1, keepdim=True)], dim=1)


def _blocks(height: int, width: int):
    for y in range(0, height, BLOCK_PX):
        for x in range(0, width, BLOCK_PX):
            yield y, min(y + BLOCK_PX, height), x, min(x + BLOCK_PX, width)


def _pixel_centres(block, like: Tensor) -> Tensor:
    y0, y1, x0, x1 = block
    ys = torch.arange(y0, y1, dtype=like.dtype, device=like.device) + 0.5
    xs = torch.arange(x0, x1, dtype=like.dtype, device=like.device) + 0.5
    return torch.stack(torch.meshgrid(xs, ys, indexing="xy"), -1).reshape(-1, 2)


def _visible(means2d, cov, z, opacities, near, size):
    """Half sizes [N, 2] of the visible ellipses' boxes, radii [N] (0: culled)."""
    height, width = size
    finite = torch.isfinite(means2d).all(-1) & torch.isfinite(cov).flatten(1).all(-1)
    extent2 = 2 * torch.log((opacities / ALPHA_MIN).clamp(min=1))
    half = (extent2[:, None] * torch.diagonal(cov, dim1=1, dim2=2)).sqrt()
    on_screen = (means2d + half > 0) & (
        means2d - half < torch.tensor([width, height], device=half.device)
    )
    shown = finite & (z > near) & (opacities > ALPHA_MIN) & on_screen.all(-1)
    mid, diff = 0.5 * (cov[:, 0, 0] + cov[:, 1, 1]), 0.5 * (cov[:, 0, 0] - cov[:, 1, 1])
    longest = (extent2 * (mid + (diff * diff + cov[:, 0, 1] ** 2).sqrt())).sqrt().ceil()
    radii = torch.where(shown, longest.clamp(max=1e9), torch.zeros_like(longest))
    return half, radii.to(torch.int32)


def rasterize_camera(
    means, quats, scales, opacities, sh, colours, viewmat, intrinsics, size, background, offset,
    sh_degree, near,
):  # fmt: skip
    """One camera. Shapes as in `pose_rasterizer.rasterize`, background [C], offset [N, 2] or None.

    Returns:
        image [C, H, W], alpha [1, H, W], depth [1, H, W], radii [N].
    """
    height, width = size
    # Gaussians at or behind the near plane would divide by zero: leave them out at once.
    with torch.no_grad():
        ahead = (means @ viewmat[2, :3] + viewmat[2, 3] > near).nonzero().squeeze(1)
    all_radii = torch.zeros(means.shape[0], dtype=torch.int32, device=means.device)
    offset = None if offset is None else offset[ahead]
    means, quats, scales, opacities = (v[ahead] for v in (means, quats, scales, opacities))
    means2d, cov, z = project(means, quats, scales, viewmat, intrinsics, size)
    means2d = means2d if offset is None else means2d + offset
    with torch.no_grad():
        half, radii = _visible(means2d, cov, z, opacities, near, size)
        all_radii[ahead] = radii
        shown = radii.nonzero().squeeze(1)
        order = shown[torch.argsort(z[shown], stable=True)]
        low, high = means2d[order] - half[order], means2d[order] + half[order]
    if sh is None:
        features = colours[ahead[order]]
    else:
        features = colours_from_sh(means[order], sh[ahead[order]], viewmat, sh_degree)
    features = torch.cat([features, z[order, None]], 1)
    cov = cov[order]
    det = cov[:, 0, 0] * cov[:, 1, 1] - cov[:, 0, 1] ** 2
    conic = torch.stack([cov[:, 1, 1], -cov[:, 0, 1], cov[:, 0, 0]], -1) / det[:, None]
    splats = (means2d[order], conic, opacities[order], features)

    chosen, pairs = [], 0
    for block in _blocks(height, width):
        y0, y1, x0, x1 = block
        touch = (low[:, 0] < x1) & (high[:, 0] > x0) & (low[:, 1] < y1) & (high[:, 1] > y0)
        chosen.append((block, touch.nonzero().squeeze(1)))
        pairs += (y1 - y0) * (x1 - x0) * chosen[-1][1].numel()
    wants_grad = torch.is_grad_enabled() and any(t.requires_grad for t in splats)
    bounded = wants_grad and pairs > CHECKPOINT_PAIRS

    rows = []
    for y0 in range(0, height, BLOCK_PX):
        row = []
        for block, index in (c for c in chosen if c[0][0] == y0):
            args = (_pixel_centres(block, z), *(v[index] for v in splats))
            out = checkpoint(blend, *args, use_reentrant=False) if bounded else blend(*args)
            row.append(out.T.reshape(out.shape[1], block[1] - block[0], block[3] - block[2]))
        rows.append(torch.cat(row, 2))
    sums = torch.cat(rows, 1)  # [C + 2, H, W]
    alpha = sums[-1:]
    image = sums[:-2] + (1 - alpha) * background[:, None, None]
    hit = alpha > 0
    depth = torch.where(hit, sums[-2:-1] / torch.where(hit, alpha, torch.ones_like(alpha)), 0.0)
    return image, alpha, depth, all_radii
