"""The C++ back end on the CPU: float32, contiguous tensors in, tensors out."""

import ctypes
from dataclasses import dataclass

import torch

from pose_rasterizer.native import Gradients, Images, Scene, pointer

ABI = 1  # of csrc/cpu/api.cpp


def library(channels: int | None = None) -> ctypes.CDLL:
    """The compiled back end, built on first use; one for any `channels`. Raises BuildError."""
    from pose_rasterizer.build import (
        load_library,
    )  # here, so that -m pose_rasterizer.build is clean

    lib = load_library("cpu")
    if getattr(lib, "_declared", False):
        return lib
    lib.pose_cpu_forward.restype = ctypes.c_void_p
    lib.pose_cpu_forward.argtypes = [ctypes.POINTER(Scene), ctypes.POINTER(Images)]
    lib.pose_cpu_backward.restype = ctypes.c_int32
    lib.pose_cpu_backward.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(Scene),
        ctypes.POINTER(Images),
        ctypes.POINTER(Gradients),
    ]
    lib.pose_cpu_release.restype = None
    lib.pose_cpu_release.argtypes = [ctypes.c_void_p]
    assert lib.pose_cpu_abi() == ABI
    lib._declared = True
    return lib


class Frame:
    """What one camera's forward pass leaves for its backward pass; freed with the object."""

    def __init__(self, lib, handle):
        self._lib, self.handle = lib, handle

    def __del__(self):
        if self.handle is not None:
            self._lib.pose_cpu_release(self.handle)
            self.handle = None


@dataclass(frozen=True)
class Settings:
    """What isn't a tensor. `num_coeffs` 0: features are colours."""

    size: tuple[int, int]
    num_coeffs: int
    sh_degree: int
    near: float


def _scene(inputs, settings: Settings, camera: int) -> Scene:
    means, quats, scales, opacities, features, viewmats, intrinsics, backgrounds, offsets = inputs
    height, width = settings.size
    return Scene(
        means=pointer(means),
        quats=pointer(quats),
        scales=pointer(scales),
        opacities=pointer(opacities),
        features=pointer(features),
        viewmat=pointer(viewmats[camera]),
        intrinsics=pointer(intrinsics[camera]),
        background=pointer(backgrounds[camera]),
        offset=None if offsets is None else pointer(offsets[camera]),
        num_gaussians=means.shape[0],
        num_channels=backgrounds.shape[1],
        num_coeffs=settings.num_coeffs,
        sh_degree=settings.sh_degree,
        width=width,
        height=height,
        near=settings.near,
        num_threads=torch.get_num_threads(),
    )


def _images(outputs, camera: int) -> Images:
    image, alpha, depth, radii = outputs
    return Images(*(pointer(t[camera]) for t in (image, alpha, depth, radii)))


def forward(inputs, settings: Settings, keep: bool):
    """Renders each camera.

    Args:
        inputs: means [N,3], quats [N,4], scales [N,3], opacities [N], features [N,K,C] or [N,C],
            viewmats [B,4,4], intrinsics [B,3,3], backgrounds [B,C], offsets [B,N,2] or None.
        keep: whether backward will be called.
    Returns:
        (image [B,C,H,W], alpha [B,1,H,W], depth [B,1,H,W], radii [B,N]) and a list of frames.
    """
    lib = library()
    num_gaussians, (cameras, channels) = inputs[0].shape[0], inputs[7].shape
    height, width = settings.size
    image = torch.empty(cameras, channels, height, width)
    alpha, depth = torch.empty(2, cameras, 1, height, width).unbind(0)
    radii = torch.empty(cameras, num_gaussians, dtype=torch.int32)
    outputs = (image, alpha, depth, radii)
    frames = []
    for b in range(cameras):
        scene, images = _scene(inputs, settings, b), _images(outputs, b)
        handle = lib.pose_cpu_forward(ctypes.byref(scene), ctypes.byref(images))
        if not handle:
            raise MemoryError(
                f"rendering {num_gaussians} Gaussians at {width}x{height} px needs too much memory;"
                " render at a lower resolution or prune very large Gaussians"
            )
        frame = Frame(lib, handle)
        if keep:
            frames.append(frame)
    return outputs, frames


def backward(inputs, outputs, frames, settings: Settings, grads, wanted):
    """Gradients of the inputs.

    Args:
        grads: dL/d(image, alpha, depth), each like the output or None.
        wanted: for each of the inputs whether its gradient is needed (intrinsics: never).
    Returns:
        A list like `inputs`, None where not wanted.
    """
    lib = library()
    like = [
        torch.empty_like(t) if t is not None and w else None
        for t, w in zip(inputs, wanted, strict=True)
    ]
    v_means, v_quats, v_scales, v_opacities, v_features, v_viewmats, _, v_backgrounds, v_offsets = (
        like
    )
    grads = [None if g is None else g.to(torch.float32).contiguous() for g in grads]

    def at(tensor, camera):
        return None if tensor is None else pointer(tensor[camera])

    for b, frame in enumerate(frames):
        scene, images = _scene(inputs, settings, b), _images(outputs, b)
        block = Gradients(
            *(at(g, b) for g in grads),
            *(pointer(v) for v in (v_means, v_quats, v_scales, v_opacities, v_features)),
            *(at(v, b) for v in (v_viewmats, v_backgrounds, v_offsets)),
            accumulate=0 if b == 0 else 1,
        )
        args = (ctypes.byref(scene), ctypes.byref(images), ctypes.byref(block))
        if lib.pose_cpu_backward(frame.handle, *args) != 0:
            raise MemoryError("the backward pass ran out of memory; render at a lower resolution")
    return like
