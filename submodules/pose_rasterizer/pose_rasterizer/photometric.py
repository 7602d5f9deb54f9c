"""The photometric loss with its gradient in one compiled call, on the CPU and on a GPU.

csrc/cpu/photometric.cpp, csrc/fit/photometric.cuh.
"""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from pose_rasterizer import cuda, fit_native
from pose_rasterizer.native import pointer


class Photometric(NamedTuple):
    """The loss and what it is made of; nothing waits for the device.

    means: [4], float64, on the images' device: the loss (1 - w) l1 + w (1 - ssim); l1; ssim (0
        where w is 0); the mean squared difference. Means over all pixels and channels.
    v_image: `scale` times the loss's gradient, like the image.
    v_alpha: [1, H, W] where alpha_sign was given.
    """

    means: Tensor
    v_image: Tensor
    v_alpha: Tensor | None = None

    @property
    def loss(self) -> Tensor:
        """0-dim."""
        return self.means[0]

    @property
    def square(self) -> Tensor:
        """0-dim."""
        return self.means[3]


def _checked(image: Tensor, target: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    image, target = image.detach().contiguous(), target.detach().contiguous()
    if image.shape != target.shape or image.ndim != 3 or window.shape != (11,):
        shapes = ", ".join(str(list(t.shape)) for t in (image, target, window))
        raise ValueError(f"photometric takes [C, H, W], [C, H, W] and [11], not {shapes}")
    wanted = (torch.float32, torch.uint8)
    if image.dtype != torch.float32 or target.dtype not in wanted or image.device != target.device:
        raise TypeError(
            f"photometric takes a float32 image and a float32 or uint8 target on one device, not "
            f"{image.dtype} on {image.device} and {target.dtype} on {target.device}"
        )
    return image, target


def photometric(
    image: Tensor,
    target: Tensor,
    window: Tensor,
    ssim_weight: float,
    *,
    scale: float = 1.0,
    alpha_sign: Tensor | None = None,
    alpha_scale: float = 0.0,
    only_outside: bool = False,
) -> Photometric:
    """(1 - w) mean |image - target| + w (1 - mean SSIM), and its gradient by `image`.

    Args:
        image: [C, H, W], float32, on the CPU or a GPU.
        target: like the image, or bytes (of 255).
        window: the eleven weights of SSIM's window along one axis, float32, on the CPU.
        ssim_weight: w.
        scale: factor of the gradient.
        alpha_sign: int8 [1, H, W]; v_alpha = alpha_scale * alpha_sign is a linear hold on alpha.
        only_outside: negative signs count as 0.
    Raises BuildError where the library can't be built.
    """
    image, target = _checked(image, target, window)
    if cuda._takes(image):
        return _on_device(
            image, target, window, ssim_weight, scale, alpha_sign, alpha_scale, only_outside
        )
    library = fit_native.cpu_library()
    window = window.detach().contiguous()
    v_image = torch.empty_like(image)
    means = torch.empty(4, dtype=torch.float64)
    library.pose_cpu_photometric(
        pointer(image), pointer(target), pointer(window), *image.shape,
        int(target.dtype == torch.uint8), ssim_weight, scale, torch.get_num_threads(),
        pointer(v_image), pointer(means),
    )  # fmt: skip
    v_alpha = None
    if alpha_sign is not None:
        v_alpha = alpha_sign.float()
        if only_outside:
            v_alpha.clamp_min_(0)
        v_alpha.mul_(alpha_scale)
    return Photometric(means, v_image, v_alpha)


def _on_device(image, target, window, weight, scale, sign, alpha_scale, only_outside):
    library = fit_native.cuda_library()
    channels, height, width = image.shape
    side = fit_native.LOSS_TILE
    blocks = channels * (-(-height // side)) * (-(-width // side))
    v_image = torch.empty_like(image)
    v_alpha = None
    if sign is not None:
        sign = sign.contiguous()  # may be a part of a larger image
        v_alpha = torch.empty_like(sign, dtype=torch.float32)
    maps = torch.empty(3 * image.numel() if weight else 0, device=image.device)
    sums = torch.empty(4 + 3 * blocks, dtype=torch.float64, device=image.device)
    index = image.device.index or 0
    block = fit_native.Loss(
        image.data_ptr(), target.data_ptr(), pointer(sign), v_image.data_ptr(), pointer(v_alpha),
        maps.data_ptr(), sums.data_ptr() + 32, sums.data_ptr(), cuda._stream(index), channels,
        height, width, blocks, int(target.dtype == torch.uint8), int(only_outside), index, weight,
        scale, alpha_scale, (ctypes.c_float * 11)(*_taps(window)),
    )  # fmt: skip
    fit_native.check(library.pose_fit_loss(ctypes.addressof(block)))
    return Photometric(sums[:4], v_image, v_alpha)


def _taps(window: Tensor) -> list[float]:
    return window.tolist()
