"""The fit's photometric loss, (1 - w) L1 + w (1 - SSIM), with its gradient in closed form.

Autograd through the usual convolutions costs the CPU more than the rendering; here the gradient
takes three window means more than the value; where there is a compiler, one call does all of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from pose_rasterizer import BuildError
from pose_rasterizer.photometric import photometric
from torch import Tensor

from gaussian_renderer.image_metrics import SSIM_C1, SSIM_C2, ssim_window, window_mean


class Comparison(NamedTuple):
    """loss and square (mean squared difference): 0-dim, on the images' device.

    v_image: gradient of the loss by the image, times `scale`, [C, H, W].
    v_alpha: of the hold on alpha, [1, H, W]; None without one.
    """

    loss: Tensor
    square: Tensor
    v_image: Tensor
    v_alpha: Tensor | None = None


class AlphaHold(NamedTuple):
    """A linear hold on alpha: its gradient is weight times sign, int8 [1, H, W].

    only_outside: negative signs, which hold alpha to 1, count as 0.
    """

    sign: Tensor
    weight: float
    only_outside: bool


_WINDOW = torch.tensor(ssim_window())


def compare(
    image: Tensor,
    target: Tensor,
    ssim_weight: float,
    *,
    scale: float = 1.0,
    hold: AlphaHold | None = None,
) -> Comparison:
    """(1 - w) mean |image - target| + w (1 - SSIM), 3DGS eq. 7, with its gradient; no graph.

    Args:
        image: rendering, [C, H, W].
        target: photograph, same shape, 0..1, or bytes.
        ssim_weight: w, 0.2 in the paper.
        scale: factor of the gradient.
        hold: what else alpha is held to.
    """
    image = image.detach()
    if image.dtype == torch.float32:
        try:
            found = photometric(
                image,
                target,
                _WINDOW,
                ssim_weight,
                scale=scale,
                alpha_sign=None if hold is None else hold.sign,
                alpha_scale=0.0 if hold is None else hold.weight,
                only_outside=hold is not None and hold.only_outside,
            )
        except BuildError:  # no compiler: the rasterizer has warned of it already
            pass
        else:
            return Comparison(found.loss, found.square, found.v_image, found.v_alpha)
    return _compare_in_torch(image, target, ssim_weight, scale, hold)


def _compare_in_torch(image, target, ssim_weight, scale, hold) -> Comparison:
    if target.dtype == torch.uint8:
        target = target.to(image.dtype).div_(255)
    difference = image - target
    square = difference.square().mean()
    loss = (1 - ssim_weight) * difference.abs().mean()
    v_image = difference.sign_().mul_((1 - ssim_weight) / image.numel())
    if ssim_weight:
        value, v_ssim = ssim_and_gradient(image, target)
        loss = loss + ssim_weight * (1 - value)
        v_image.sub_(v_ssim, alpha=ssim_weight)
    v_alpha = None
    if hold is not None:
        sign = hold.sign.float()
        v_alpha = (sign.clamp_min_(0) if hold.only_outside else sign).mul_(hold.weight)
    return Comparison(loss, square, v_image.mul_(scale), v_alpha)


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image: Tensor, target: Tensor, ssim_weight: float) -> Tensor:
        found = compare(image, target, ssim_weight)
        ctx.save_for_backward(found.v_image)
        return found.loss.to(image.dtype)

    @staticmethod
    def backward(ctx, v_loss: Tensor):
        return ctx.saved_tensors[0] * v_loss, None, None


def ssim_and_gradient(image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean SSIM of [C, H, W] over all pixels (zeros beyond the border) and its gradient.

    With means m, second moments s of the window: S = A B / (D E), where A = 2 m_x m_y + C1,
    B = 2 (s_xy - m_x m_y) + C2, D = m_x^2 + m_y^2 + C1, E = s_xx - m_x^2 + s_yy - m_y^2 + C2.
    dS/dx = F(dS/dm_x) + 2 x F(dS/ds_xx) + y F(dS/ds_xy), F the (self-adjoint) window mean.
    """
    stacked = torch.cat([image, target, image * image, target * target, image * target])
    mx, my, sxx, syy, sxy = window_mean(stacked).chunk(5)
    a = 2 * mx * my + SSIM_C1
    b = 2 * (sxy - mx * my) + SSIM_C2
    d = mx * mx + my * my + SSIM_C1
    e = sxx - mx * mx + syy - my * my + SSIM_C2
    s = a * b / (d * e)
    v_sxx = -s / e
    v_sxy = 2 * a / (d * e)
    v_mx = 2 * my * (b - a) / (d * e) - 2 * mx * s * (1 / d - 1 / e)
    f_mx, f_sxx, f_sxy = window_mean(torch.cat([v_mx, v_sxx, v_sxy])).chunk(3)
    gradient = f_mx.add_(f_sxx.mul_(image), alpha=2).add_(f_sxy.mul_(target))
    return s.mean(), gradient.div_(image.numel())


def photometric_loss(image: Tensor, target: Tensor, ssim_weight: float) -> Tensor:
    """The loss of `compare` in a graph; gradient for `image` only."""
    return _Photometric.apply(image, target, ssim_weight)
