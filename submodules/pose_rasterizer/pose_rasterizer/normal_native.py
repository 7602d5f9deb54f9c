"""The compiled normal equations on the CPU (csrc/cpu/normal.cpp)."""

import ctypes

import torch
from torch import Tensor

from pose_rasterizer import cpu
from pose_rasterizer.native import Scene, pointer


def _pointers(*names):
    return [(name, ctypes.c_void_p) for name in names]


class Residuals(ctypes.Structure):
    """`PoseResiduals` of csrc/common/normal_schema.h."""

    _fields_ = [
        *_pointers("target", "weight", "gain", "offset", "backdrop", "robust_scale"),
        *_pointers("silhouette_target", "silhouette_weight"),
        ("direction_term", ctypes.c_int32),
        ("window_light", ctypes.c_int32),
        ("contrast_floor", ctypes.c_float),
        ("silhouette_scale", ctypes.c_float),
    ]


class System(ctypes.Structure):
    """`PoseNormalEquations` of csrc/common/normal_schema.h."""

    _fields_ = _pointers("cost", "hessian", "gradient", "image", "alpha", "radii")


def library() -> ctypes.CDLL:
    """The CPU back end, built on first use. Raises BuildError."""
    lib = cpu.library()
    lib.pose_cpu_normal_equations.restype = ctypes.c_int32
    lib.pose_cpu_normal_equations.argtypes = [
        ctypes.POINTER(Scene),
        ctypes.POINTER(Residuals),
        ctypes.POINTER(System),
    ]
    return lib


def normal_equations(gaussians, viewmats, intrinsics, residuals, settings, choices):
    """cost [B], H [B, P, P], g [B, P] (float64), image [B, C, H, W], alpha [B, 1, H, W].

    Args:
        gaussians: means, quats, scales, opacities, features; float32, contiguous.
        viewmats: [B, 4, 4]. intrinsics: [B, 3, 3].
        residuals: target, weight [B, C, H, W], gain, offset, backdrop [B, C], robust_scale [C],
            silhouette_target, silhouette_weight [B, 1, H, W] or None; contiguous.
        settings: `cpu.Settings`. choices: `normal_equations.Choices`.
    """
    lib = library()
    batch, channels = residuals[2].shape
    height, width = settings.size
    num_params = 6 + (0 if choices.by_tile else 2 * channels)
    cost = torch.empty(batch, dtype=torch.float64)
    hessian = torch.empty(batch, num_params, num_params, dtype=torch.float64)
    gradient = torch.empty(batch, num_params, dtype=torch.float64)
    image = torch.empty(batch, channels, height, width)
    alpha = torch.empty(batch, 1, height, width)
    radii = torch.empty(gaussians[0].shape[0], dtype=torch.int32)

    def at(tensor: Tensor | None, b: int) -> int | None:
        return None if tensor is None else pointer(tensor[b])

    target, weight, gain, offset, backdrop, robust_scale, shape, shape_weight = residuals
    for b in range(batch):
        scene = Scene(
            *(pointer(t) for t in gaussians),
            viewmat=at(viewmats, b),
            intrinsics=at(intrinsics, b),
            background=at(backdrop, b),
            num_gaussians=gaussians[0].shape[0],
            num_channels=channels,
            num_coeffs=settings.num_coeffs,
            sh_degree=settings.sh_degree,
            width=width,
            height=height,
            near=settings.near,
            num_threads=torch.get_num_threads(),
        )
        block = Residuals(
            *(at(t, b) for t in (target, weight, gain, offset, backdrop)),
            pointer(robust_scale),
            at(shape, b),
            at(shape_weight, b),
            direction_term=int(choices.direction_term),
            window_light=int(choices.by_tile),
            contrast_floor=choices.contrast_floor,
            silhouette_scale=choices.silhouette_scale,
        )
        outputs = (cost, hessian, gradient, image, alpha)
        system = System(*(at(t, b) for t in outputs), radii=pointer(radii))
        refs = (ctypes.byref(scene), ctypes.byref(block), ctypes.byref(system))
        if lib.pose_cpu_normal_equations(*refs) != 0:
            raise MemoryError(
                f"the normal equations at {width}x{height} px need too much memory; use a lower"
                " resolution"
            )
    return cost, hessian, gradient, image, alpha
