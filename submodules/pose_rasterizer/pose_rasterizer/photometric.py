"""The photometric loss with its gradient in one compiled call (csrc/cpu/photometric.cpp)."""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from pose_rasterizer.native import pointer


def _library() -> ctypes.CDLL:
    from pose_rasterizer.build import load_library

    library = load_library("cpu")
    library.pose_cpu_photometric.restype = None
    library.pose_cpu_photometric.argtypes = (
        [ctypes.c_void_p] * 3 + [ctypes.c_int32] * 3 + [ctypes.c_float, ctypes.c_int32]
    ) + [ctypes.c_void_p] * 2
    return library


class Photometric(NamedTuple):
    """loss: (1 - w) l1 + w (1 - ssim); means over all pixels and channels; ssim: 0 where w is 0.

    v_image: gradient of the loss, like the image.
    """

    loss: float
    l1: float
    ssim: float
    square: float
    v_image: Tensor


def photometric(image: Tensor, target: Tensor, window: Tensor, ssim_weight: float) -> Photometric:
    """(1 - w) mean |image - target| + w (1 - mean SSIM), and its gradient by `image`.

    Args:
        image, target: [C, H, W], float32 on the CPU.
        window: the eleven weights of SSIM's window along one axis, float32.
        ssim_weight: w.
    Raises BuildError where the library can't be built.
    """
    library = _library()
    image, target, window = (t.detach().contiguous() for t in (image, target, window))
    if image.shape != target.shape or image.ndim != 3 or window.shape != (11,):
        shapes = ", ".join(str(list(t.shape)) for t in (image, target, window))
        raise ValueError(f"photometric takes [C, H, W], [C, H, W] and [11], not {shapes}")
    if any(t.dtype != torch.float32 or t.device.type != "cpu" for t in (image, target, window)):
        raise TypeError("photometric takes float32 tensors on the CPU")
    v_image = torch.empty_like(image)
    means = torch.empty(4, dtype=torch.float64)
    library.pose_cpu_photometric(
        pointer(image),
        pointer(target),
        pointer(window),
        *image.shape,
        ssim_weight,
        torch.get_num_threads(),
        pointer(v_image),
        pointer(means),
    )
    return Photometric(*means.tolist(), v_image)
